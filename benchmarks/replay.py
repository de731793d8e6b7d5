"""Replay memory: adding, sampling and size, against Stable-Baselines3's ReplayBuffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from measure import Report, Row, arguments, compare, in_turn, rate, settings_of
from stable_baselines3.common.buffers import ReplayBuffer

from eightbit.agents.replay import FrameReplay

SHAPE = (4, 84, 84)


class Steps:
    """Made-up steps of `num_envs` games in which one step in 500 ends an episode."""

    def __init__(self, num_envs: int):
        rng = np.random.default_rng(0)
        self.observations = rng.integers(0, 256, (16, num_envs, *SHAPE), dtype=np.uint8)
        self.actions = rng.integers(6, size=num_envs)
        self.rewards = np.zeros(num_envs, dtype=np.float32)
        self.ends = rng.random((512, num_envs)) < 1 / 500
        self.never = np.zeros(num_envs, dtype=np.bool_)
        self.infos: list[dict[str, Any]] = [{} for _ in range(num_envs)]
        self.count = 0

    def add_to_ours(self, memory: FrameReplay) -> int:
        """Adds one step of all games."""
        observations = self.observations[self.count % 16]
        ends = self.ends[self.count % 512]
        self.count += 1
        memory.add(self.actions, self.rewards, ends, self.never, ends, observations, {})
        return len(ends)

    def add_to_theirs(self, memory: ReplayBuffer) -> int:
        """Adds one step of all games."""
        now, following = (
            self.observations[self.count % 16],
            self.observations[(self.count + 1) % 16],
        )
        ends = self.ends[self.count % 512]
        self.count += 1
        memory.add(now, following, self.actions, self.rewards, ends, self.infos)
        return len(ends)


def ours(capacity: int, num_envs: int) -> tuple[FrameReplay, Callable[[], int]]:
    """A full memory of ours and the function that adds a step to it."""
    steps = Steps(num_envs)
    memory = FrameReplay(capacity, num_envs, SHAPE, np.uint8, frame_stack=SHAPE[0])
    memory.reset(steps.observations[0])
    for _ in range(capacity // num_envs + SHAPE[0]):
        steps.add_to_ours(memory)
    return memory, lambda: steps.add_to_ours(memory)


def theirs(capacity: int, num_envs: int, *, saver: bool) -> tuple[ReplayBuffer, Callable[[], int]]:
    """A full memory of SB3 and the function that adds a step to it.

    Its memory saver cannot be combined with the right treatment of truncation.
    """
    steps = Steps(num_envs)
    memory = ReplayBuffer(
        capacity,
        Box(0, 255, SHAPE, np.uint8),
        Discrete(6),
        device="cpu",
        n_envs=num_envs,
        optimize_memory_usage=saver,
        handle_timeout_termination=not saver,
    )
    for _ in range(capacity // num_envs):
        steps.add_to_theirs(memory)
    return memory, lambda: steps.add_to_theirs(memory)


def sb3_bytes(memory: ReplayBuffer) -> int:
    """Bytes of all its arrays."""
    arrays = (value for value in vars(memory).values() if isinstance(value, np.ndarray))
    return sum(array.nbytes for array in arrays)


def main() -> None:
    chosen = arguments(
        "Replay memory against Stable-Baselines3's.",
        capacity=20_000,
        large_capacity=200_000,
        num_envs=8,
        batch_size=32,
        seconds=2.0,
        repeats=5,
    )
    report = Report("replay", settings_of(chosen), with_matmul=False)
    rng = np.random.default_rng(0)
    capacity, num_envs, batch = chosen.capacity, chosen.num_envs, chosen.batch_size

    adds: dict[str, Callable[[], int]] = {}
    samples: dict[str, Callable[[], int]] = {}
    sizes: dict[str, float] = {}
    for name, size in (("ours", capacity), ("ours, large", chosen.large_capacity)):
        memory, adds[name] = ours(size, num_envs)
        samples[name] = lambda memory=memory: len(memory.sample(batch, rng).actions)
        sizes[name] = memory.nbytes / size
    for name, saver in (("SB3", False), ("SB3, memory saver", True)):
        buffer, adds[name] = theirs(capacity, num_envs, saver=saver)
        samples[name] = lambda buffer=buffer: len(buffer.sample(batch).actions)
        sizes[name] = sb3_bytes(buffer) / (buffer.buffer_size * num_envs)

    for what, works in (("add", adds), ("sample", samples)):
        taken = in_turn(
            {name: lambda work=work: rate(work, chosen.seconds) for name, work in works.items()},
            chosen.repeats,
        )
        rows = {
            name: Row(
                f"{what}: {name}",
                "stable-baselines3" if name.startswith("SB3") else "eightbit",
                "transitions/s",
                repeats,
                threads=torch.get_num_threads(),
                num_envs=num_envs,
                batch_size=batch if what == "sample" else None,
                extra={"bytes/transition": sizes[name], "GB for 1 M": sizes[name] / 1000},
            )
            for name, repeats in taken.items()
        }
        report.rows.extend(rows.values())
        report.ratios.append(compare(f"{what}, ours to SB3's", rows["ours"], rows["SB3"]))
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
