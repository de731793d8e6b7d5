"""Prioritized replay at a million transitions: its time beside that of the update it serves.

What is timed as prioritization is all that a batch costs: adding as many steps as the replay ratio
calls for, moving the window, drawing, rebuilding the transitions, importance weights, and new
priorities. Frames are 4x4 so that a million fit anywhere; rebuilding stacks of whole frames costs
a uniform memory the same, and `benchmarks/replay.py` measures it. The same with uniform draws
stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from measure import Report, Row, arguments, compare, in_turn, rate, settings_of

from eightbit.agents.networks import Twin
from eightbit.agents.options import DQNOptions
from eightbit.agents.parts import build_loss, build_network
from eightbit.agents.prioritized import PrioritizedReplay
from eightbit.agents.replay import Batch, FrameReplay
from eightbit.agents.update import build_optimizer, gradient_step

BAR = 10.0  # the update takes at least so many times as long
FRAMES = (4, 4, 4)
PICTURES = (4, 84, 84)
N_STEP = 3


class Steps:
    """Made-up steps of `num_envs` games in which one step in 500 ends an episode."""

    def __init__(self, num_envs: int):
        rng = np.random.default_rng(0)
        self.observations = rng.integers(0, 256, (num_envs, *FRAMES), dtype=np.uint8)
        self.actions = rng.integers(6, size=num_envs)
        self.rewards = np.zeros(num_envs, dtype=np.float32)
        self.ends = rng.random((512, num_envs)) < 1 / 500
        self.never = np.zeros(num_envs, dtype=np.bool_)
        self.count = 0

    def add_to(self, memory: FrameReplay | PrioritizedReplay) -> None:
        """Adds one step of all games."""
        ends = self.ends[self.count % 512]
        self.count += 1
        memory.add(self.actions, self.rewards, ends, self.never, ends, self.observations, {})


def full_memory(capacity: int, num_envs: int, steps: Steps) -> FrameReplay:
    """A ring of small frames that has gone round."""
    memory = FrameReplay(capacity, num_envs, FRAMES, np.uint8, frame_stack=FRAMES[0])
    memory.reset(steps.observations)
    return memory


def batches(
    memory: FrameReplay | PrioritizedReplay, steps: Steps, adds: int, batch_size: int
) -> Callable[[], int]:
    """The memory's work for one batch; its first call fills the memory."""
    rng = np.random.default_rng(1)
    errors = rng.exponential(size=(64, batch_size)).astype(np.float32)

    def fill() -> None:
        ring = memory.replay if isinstance(memory, PrioritizedReplay) else memory
        while ring.time < ring.length + 2:
            steps.add_to(memory)
        if isinstance(memory, PrioritizedReplay):
            # Priorities as different as those of a run, not all at the highest one.
            memory.sample(1, rng, n_step=N_STEP)
            ids = np.arange(2 * ring.num_envs, ring.time * ring.num_envs)
            memory.set_priorities(ids, rng.exponential(size=len(ids)))

    def work() -> int:
        for _ in range(adds):
            steps.add_to(memory)
        batch = memory.sample(batch_size, rng, n_step=N_STEP)
        if isinstance(memory, PrioritizedReplay):
            batch = memory.weigh(batch, 0.4)
            assert batch.indices is not None
            memory.set_priorities(batch.indices, errors[int(rng.integers(64))])
        return 1

    fill()
    return work


def updates(precision: str, batch_size: int) -> Callable[[], int]:
    """Gradient steps of the nature network on one made-up batch."""
    options = DQNOptions(backbone="nature", batch_size=batch_size, double=True)
    network = build_network(PICTURES, 6, options)
    online, target = Twin(network, precision), Twin(build_network(PICTURES, 6, options), precision)
    optimizer = build_optimizer(online.master, options)
    loss = build_loss(options, torch.Generator())
    seen = torch.randint(0, 256, (2, batch_size, *PICTURES), dtype=torch.uint8)
    batch = Batch(
        observations=seen[0],
        actions=torch.randint(0, 6, (batch_size,)),
        returns=torch.randn(batch_size),
        next_observations=seen[1],
        discounts=torch.full((batch_size,), 0.97),
        weights=torch.rand(batch_size),
    )

    def work() -> int:
        gradient_step(online, target, optimizer, loss, batch, options.max_grad_norm)
        return 1

    return work


def main() -> None:
    chosen = arguments(
        "Prioritized replay beside the update that it serves.",
        capacity=1_000_000,
        num_envs=8,
        batch_size=256,
        replay_ratio=8.0,
        seconds=2.0,
        repeats=5,
        threads=torch.get_num_threads(),
    )
    torch.set_num_threads(chosen.threads)
    report = Report("priorities", settings_of(chosen), with_matmul=False)
    batch_size, num_envs = chosen.batch_size, chosen.num_envs
    adds = max(round(batch_size / chosen.replay_ratio / num_envs), 1)
    works: dict[str, Callable[[], int]] = {}
    for name in ("uniform", "prioritized"):
        steps = Steps(num_envs)
        ring = full_memory(chosen.capacity, num_envs, steps)
        memory = PrioritizedReplay(ring, 0.5) if name == "prioritized" else ring
        works[name] = batches(memory, steps, adds, batch_size)
    for precision in ("fp32", "bf16"):
        works[f"update, {precision}"] = updates(precision, batch_size)
    for work in works.values():
        work()
    taken = in_turn(
        {name: lambda work=work: rate(work, chosen.seconds) for name, work in works.items()},
        chosen.repeats,
    )
    rows = {
        name: Row(
            name,
            "eightbit",
            "batches/s",
            repeats,
            threads=torch.get_num_threads(),
            precision=name.removeprefix("update, ") if name.startswith("update") else "",
            num_envs=None if name.startswith("update") else num_envs,
            batch_size=batch_size,
            replay_ratio=None if name.startswith("update") else chosen.replay_ratio,
            extra={"ms": 1e3 / float(np.median(repeats))},
        )
        for name, repeats in taken.items()
    }
    report.rows.extend(rows.values())
    fastest = max(("update, fp32", "update, bf16"), key=lambda name: rows[name].value)
    report.ratios.append(
        compare(
            f"how many times as long the faster update ({fastest.removeprefix('update, ')}) takes",
            rows["prioritized"],
            rows[fastest],
            BAR,
        )
    )
    report.ratios.append(
        compare("prioritized batches for a uniform one", rows["prioritized"], rows["uniform"])
    )
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
