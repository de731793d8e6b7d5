"""Updates per second: ours against CleanRL's, and our agents against our own DQN.

CleanRL's scripts are read from a folder that `--peer` names, a checkout or its `cleanrl`. Both
sides get the same random transitions from memory, the same network, loss, optimizer and batch;
nothing is sampled from a replay memory, stepped or logged meanwhile. Without it only ours are
measured: what each reaches in operations per second, which should not be less than our DQN's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanrl import Given, Theirs
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from measure import Report, Row, arguments, compare, in_turn, rate, settings_of
from torch.utils.flop_counter import FlopCounterMode

from eightbit.agents.dqn import DQN
from eightbit.agents.options import DQNOptions
from eightbit.agents.presets import PAPER_PRESETS
from eightbit.agents.replay import Batch
from eightbit.agents.rollout import Rollout
from eightbit.agents.sequences import SequenceBatch

BAR_FP32 = 1.2
BAR_BEST = 1.5
BAR_FLOPS = 1.0
SHAPE = (4, 84, 84)
ACTIONS = 6
BATCHES = 4  # different ones that an update cycles through

# What CleanRL's scripts set, in our words.
_ATARI = DQNOptions(n_step=1, batch_size=32, max_grad_norm=0.0)
SETTINGS: dict[str, tuple[str, DQNOptions]] = {
    "dqn": ("dqn_atari", replace(_ATARI, learning_rate=1e-4, optimizer_eps=1e-8, loss="mse")),
    "c51": (
        "c51_atari",
        replace(_ATARI, method="c51", learning_rate=2.5e-4, optimizer_eps=0.01 / 32),
    ),
    "rainbow": ("rainbow_atari", replace(PAPER_PRESETS["rainbow"], max_grad_norm=0.0)),
    "pqn": (
        "pqn_atari_envpool",
        replace(PAPER_PRESETS["pqn"], num_envs=8, rollout_steps=128, batch_size=256),
    ),
}
# Batches of these two as in their papers take minutes on a CPU; R2D2's hold 120 steps each.
SMALLER = {"r2d2": 2, "btr": 32}


class Nowhere(VectorEnv):
    """An environment of Atari's shapes that is never stepped."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int):
        self.num_envs = num_envs
        self.single_observation_space = Box(0, 255, SHAPE, np.uint8)
        self.single_action_space = Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)


def pictures(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """Random observations, (*shape, 4, 84, 84) uint8."""
    return torch.from_numpy(rng.integers(0, 256, (*shape, *SHAPE), dtype=np.uint8))


def transitions(rows: int, seed: int) -> Batch:
    """Random n-step transitions with importance weights."""
    rng = np.random.default_rng(seed)
    return Batch(
        observations=pictures(rng, rows),
        actions=torch.from_numpy(rng.integers(0, ACTIONS, rows)),
        returns=torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], rows).astype(np.float32)),
        next_observations=pictures(rng, rows),
        discounts=torch.full((rows,), 0.99),
        weights=torch.from_numpy(rng.uniform(0.5, 1.0, rows).astype(np.float32)),
        indices=np.arange(rows),
    )


def sequences(options: DQNOptions, hidden: int, seed: int) -> SequenceBatch:
    """Random sequences without an end inside."""
    rng = np.random.default_rng(seed)
    rows, length = options.batch_size, options.sequence_length
    has_target = torch.arange(length).expand(rows, length) < length - options.n_step
    return SequenceBatch(
        observations=pictures(rng, rows, length),
        actions=torch.from_numpy(rng.integers(0, ACTIONS, (rows, length))),
        returns=torch.zeros(rows, length),
        discounts=torch.full((rows, length), 0.99),
        has_target=has_target,
        starts=torch.zeros(rows, length, dtype=torch.bool),
        state=(torch.zeros(1, rows, hidden), torch.zeros(1, rows, hidden)),
        weights=torch.ones(rows),
        indices=np.arange(rows),
    )


class Ours:
    """The updates of an agent of ours: `DQN.update` as training calls it."""

    def __init__(self, options: DQNOptions, precision: str, batches: list[Batch]):
        options = replace(
            options,
            num_envs=min(options.num_envs, 8),
            buffer_size=1_000 if not options.sequence_length else 2_000,
            learning_starts=100,
            precision=precision,  # type: ignore[arg-type]  # one of its words
        )
        self.agent = DQN(Nowhere(options.num_envs), options, seed=0, device="cpu")
        if isinstance(self.agent.replay, Rollout):
            _fill(self.agent.replay)
        else:
            given: list[Any] = list(batches)
            if options.sequence_length:
                hidden = int(options.memory_kwargs()["hidden"])
                given = [sequences(options, hidden, 0)]
            elif not options.prioritized:
                given = [replace(batch, weights=None, indices=None) for batch in batches]
            self.agent.replay = Given(given)  # type: ignore[assignment]  # only `sample` is asked

    def __call__(self) -> int:
        """Makes an update; 1."""
        self.agent.update()
        return 1

    def flops(self) -> int:
        """Operations of one update."""
        with FlopCounterMode(display=False) as counter:
            self.agent.update()
        return counter.get_total_flops()


def _fill(rollout: Rollout) -> None:
    """A full rollout of random steps."""
    rng = np.random.default_rng(0)
    n = rollout.num_envs
    flags = np.zeros(n, np.bool_)
    for step in range(rollout.steps):
        seen = pictures(rng, n).numpy()
        if step == 0:
            rollout.reset(seen)
        rollout.note_values(rng.normal(size=(n, ACTIONS)).astype(np.float32))
        rewards = rng.choice([-1.0, 0.0, 1.0], n).astype(np.float32)
        rollout.add(rng.integers(0, ACTIONS, n), rewards, flags, flags, flags, seen, {})
    rollout.note_values(rng.normal(size=(n, ACTIONS)).astype(np.float32))


@dataclass(frozen=True)
class Measured:
    """What is measured of one agent."""

    work: Callable[[], int]
    library: str
    precision: str
    batch_size: int
    flops: int | None = None


def against_peer(report: Report, chosen: Any, folder: Path) -> None:
    """Measures each agent in turn with CleanRL's; adds rows and ratios."""
    for name in chosen.agents.split(","):
        script, options = SETTINGS[name]
        rows = options.num_envs * options.rollout_steps or options.batch_size
        batches = [transitions(rows, seed) for seed in range(1 if rows > 500 else BATCHES)]
        theirs = Theirs(folder / f"{script}.py", batches, SHAPE, ACTIONS)
        if theirs.batch_size != options.batch_size:
            raise SystemExit(f"{script} learns from {theirs.batch_size}, not {options.batch_size}")
        cases = {f"{name}, CleanRL": Measured(theirs, "cleanrl", "fp32", theirs.batch_size)}
        for precision in ("fp32", "bf16"):
            ours = Ours(options, precision, batches)
            case = Measured(ours, "eightbit", precision, options.batch_size, ours.flops())
            cases[f"{name}, ours, {precision}"] = case
        peer, fp32, bf16 = measured(report, cases, chosen)
        best = max(fp32, bf16, key=lambda row: row.value)
        report.ratios.append(compare(f"{name} in fp32, to CleanRL", fp32, peer, BAR_FP32))
        report.ratios.append(compare(f"{name} at its best, to CleanRL", best, peer, BAR_BEST))


def against_dqn(report: Report, chosen: Any) -> None:
    """Measures the family with its papers' networks in turn; rows are in operations per second.

    Each is compared with the DQN that has its optimizer.
    """
    presets = {
        "dqn with rmsprop": replace(PAPER_PRESETS["double"], double=False),
        "dqn with adam": SETTINGS["dqn"][1],
        **{name: PAPER_PRESETS[name] for name in chosen.family.split(",")},
    }
    cases = {}
    for name, preset in presets.items():
        options = replace(preset, batch_size=SMALLER.get(name, preset.batch_size))
        batches = [transitions(options.batch_size, seed) for seed in range(BATCHES)]
        ours = Ours(options, "fp32", batches)
        cases[f"{name}, operations"] = Measured(
            ours, "eightbit", "fp32", options.batch_size, ours.flops()
        )
    rows = dict(zip(presets, measured(report, cases, chosen, operations=True), strict=True))
    for name in chosen.family.split(","):
        rmsprop = presets[name].optimizer == "rmsprop"
        dqn = rows["dqn with rmsprop" if rmsprop else "dqn with adam"]
        title = f"operations of {name}, to DQN's"
        report.ratios.append(compare(title, rows[name], dqn, BAR_FLOPS))


def measured(
    report: Report, cases: dict[str, Measured], chosen: Any, *, operations: bool = False
) -> list[Row]:
    """Rows of these cases, timed in turn after a warm-up; `operations` counts those instead."""
    for case in cases.values():
        case.work()
    taken = in_turn(
        {name: lambda case=case: rate(case.work, chosen.seconds) for name, case in cases.items()},
        chosen.repeats,
    )
    rows = []
    for name, case in cases.items():
        updates, extra = taken[name], {}
        giga = None if case.flops is None else case.flops / 1e9
        if operations and giga is not None:
            extra = {"updates/s": sorted(updates)[len(updates) // 2], "GFLOP an update": giga}
            updates = [each * giga for each in updates]
        rows.append(
            Row(
                name,
                case.library,
                "GFLOP/s" if operations else "updates/s",
                updates,
                torch.get_num_threads(),
                precision=case.precision,
                batch_size=case.batch_size,
                extra=extra,
            )
        )
    report.rows.extend(rows)
    return rows


def main() -> None:
    chosen = arguments(
        "Updates per second against CleanRL's, and of the family.",
        peer="",
        agents="dqn,c51,rainbow,pqn",
        family=",".join(PAPER_PRESETS),
        seconds=1.0,
        repeats=5,
        threads=torch.get_num_threads(),
    )
    torch.set_num_threads(chosen.threads)
    settings = {**settings_of(chosen), "peer": bool(chosen.peer)}  # the folder is the user's
    report = Report("updates", settings, with_matmul=False)
    if chosen.peer:
        folder = Path(chosen.peer)
        inner = folder / "cleanrl"
        against_peer(report, chosen, inner if inner.is_dir() else folder)
    if chosen.family:
        against_dqn(report, chosen)
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
