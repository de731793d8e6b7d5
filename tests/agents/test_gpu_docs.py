"""docs/gpu.md: its figures are those of the memories, and what it names is there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from eightbit.agents import device_agent
from eightbit.agents.device_prioritized import DevicePrioritizedReplay
from eightbit.agents.device_replay import DeviceReplay
from eightbit.agents.device_rollout import DeviceRollout
from eightbit.agents.presets import PQN_PRESETS
from eightbit.envs import env_options
from eightbit.envs.device_steps import FETCH_EVERY

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gpu.md").read_text()
PICTURE = (4, 84, 84)
RULES = env_options("mnih2015", training=True)
LONGEST = RULES.max_frames // RULES.frame_skip


def on_meta(num_envs: int) -> DeviceReplay:
    return DeviceReplay(1_000_000, num_envs, PICTURE, np.uint8, device="meta", longest_game=LONGEST)


def rollout(num_envs: int) -> DeviceRollout:
    options = dataclasses.replace(PQN_PRESETS["pqn"], num_envs=num_envs, batch_size=num_envs)

    def values(observations: torch.Tensor) -> torch.Tensor:
        return observations

    return DeviceRollout(
        *(options, num_envs, PICTURE, np.uint8),
        device="meta",
        values=values,
        longest_game=LONGEST,
    )


def test_the_table_of_memories_is_what_they_take():
    shown = [float(figure) for figure in re.findall(r"\| (\d+\.\d+) \|", PAGE)]
    replay = on_meta(64)
    made = [replay, DevicePrioritizedReplay(replay, 0.5)]
    made += [rollout(n) for n in (128, 1_024, 4_096)]
    assert shown == [pytest.approx(memory.nbytes / 1e9, abs=0.005) for memory in made]
    assert rollout(128).steps == 32
    slots = replay.length * 64
    assert replay.nbytes - replay.finals.nbytes == slots * (7_056 + 19)
    assert made[1].nbytes - replay.nbytes == pytest.approx(slots * 8, rel=0.01)


def test_its_numbers_and_files_are_those_of_the_code():
    assert f"once in {FETCH_EVERY} steps" in PAGE
    assert f"{device_agent.DEVICE_SHARE:.0%}".replace("%", " %") in PAGE
    for name in re.findall(r"`((?:agents|envs|tests|benchmarks)/[\w/]+\.py)`", PAGE):
        assert (ROOT / name).exists(), name
