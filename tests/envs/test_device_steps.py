"""Records in tensors equal those of the host, and making them asks the device nothing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch.utils._python_dispatch import TorchDispatchMode

from eightbit.envs import console, env_options
from eightbit.envs.catch import CatchVectorEnv
from eightbit.envs.console.gpu import ConsoleGpuVectorEnv
from eightbit.envs.console.vector import ConsoleVectorEnv
from eightbit.envs.device_steps import DeviceStepper, as_stepper
from eightbit.envs.transitions import EnvStepper
from eightbit.errors import EightBitError, UsageError

NEXT, SAME, OFF = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
pytestmark = pytest.mark.skipif(not console.is_built(), reason="the console was not compiled")


def load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{name}_for_device_steps", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loops = load("test_console_gpu").loops  # the kernels' bodies, run by the CPU over torch's tensors


class NoLooks(TorchDispatchMode):
    """Refuses what makes the host wait for a device: numbers read from a tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(func), "a number was read from a tensor"
        assert "nonzero" not in str(func), "the length of a result depends on numbers"
        return func(*args, **(kwargs or {}))


@contextmanager
def no_looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a tensor went to the host")

    with monkeypatch.context() as patch, NoLooks():
        for name in ("cpu", "numpy", "tolist", "item", "__array__", "__bool__", "__int__"):
            patch.setattr(torch.Tensor, name, refuse)
        yield


def games(loops: Any, mode: AutoresetMode, rows: int = 4, game: Any = "pong", **changes: Any):
    """An EnvStepper of the engine, and a DeviceStepper of the kernels, of the same games."""
    made = {"noop_max": 2, "max_frames": 60, "num_threads": 1, **changes}
    options = env_options("mnih2015", training=True, **made)
    cpu = EnvStepper(ConsoleVectorEnv(game, rows, options, NEXT))
    gpu = ConsoleGpuVectorEnv(game, rows, options, mode, kernels=loops)
    return cpu, DeviceStepper(gpu, fetch_every=8)


def assert_equal_records(one: Any, other: Any) -> None:
    """A StepRecord and a DeviceRecord say the same, but for when they tell of episodes."""
    for name in ("actions", "rewards", "terminated", "truncated", "episode_over", "observations"):
        array, tensor = getattr(one, name), getattr(other, name)
        assert isinstance(tensor, torch.Tensor)
        assert array.dtype == tensor.numpy().dtype, name
        np.testing.assert_array_equal(array, tensor.numpy(), err_msg=name)
    for row, final in one.final_observations.items():
        np.testing.assert_array_equal(final, other.final_observations[row].numpy())


@pytest.mark.parametrize("mode", [SAME, NEXT, OFF])
def test_records_equal_those_of_the_host_in_every_mode(loops, mode, rng):
    cpu, gpu = games(loops, mode)
    np.testing.assert_array_equal(cpu.reset(3), gpu.reset(3).numpy())
    told: list[Any] = []
    expected: list[Any] = []
    for step in range(1, 33):
        actions = rng.integers(0, 6, 4)
        one, other = cpu.step(actions), gpu.step(torch.from_numpy(actions))
        assert_equal_records(one, other)
        expected += one.episodes
        told += other.episodes
        if step % 8:
            assert not other.episodes
        else:
            assert told == expected
    assert len(told) == 8 and all(episode.truncated for episode in told)


def test_lost_lives_end_transitions_but_not_games(loops, rng):
    cpu, gpu = games(loops, SAME, game="breakout", max_frames=100_000, rows=3)
    cpu.reset(1), gpu.reset(1)
    lives = 0
    for _ in range(120):
        actions = rng.integers(0, 4, 3)
        one, other = cpu.step(actions), gpu.step(torch.from_numpy(actions))
        assert_equal_records(one, other)
        lives += int((other.terminated & ~other.episode_over).sum())
    assert lives > 3


def test_between_fetches_nothing_goes_to_the_host(loops, monkeypatch):
    _, gpu = games(loops, SAME)
    gpu.reset(0)
    actions = torch.zeros(4, dtype=torch.int64)
    for step in range(1, 25):
        assert gpu.fetch_due is (step % 8 == 0)
        if gpu.fetch_due:
            with pytest.raises(AssertionError, match="went to the host"), no_looks(monkeypatch):
                gpu.step(actions)
            gpu._logged = 0  # as if it had been fetched
        else:
            with no_looks(monkeypatch):
                gpu.step(actions)


def test_a_state_goes_on_with_finished_games_that_were_not_told(loops, rng):
    _, whole = games(loops, SAME)
    _, again = games(loops, SAME)
    host, _ = games(loops, SAME)
    whole.reset(5)
    actions = [torch.from_numpy(rng.integers(0, 6, 4)) for _ in range(40)]
    for action in actions[:20]:  # cut at step 15; the last fetch was at step 16
        record = whole.step(action)
    state = whole.get_state()
    again.reset(99)
    assert torch.equal(again.set_state(state), record.observations)
    np.testing.assert_array_equal(host.set_state(state), record.observations.numpy())
    for action in actions[20:]:
        one, other, third = whole.step(action), again.step(action), host.step(action.numpy())
        assert one.episodes == other.episodes
        assert_equal_records(third, other)


def test_scores_above_what_float32_counts_stay_exact():
    stepper = DeviceStepper(Toy(rows=1, rewards=2.0**24), fetch_every=2)
    stepper.reset()
    action = torch.zeros(1, dtype=torch.int64)
    stepper.step(action)
    stepper.env.rewards = 1.0
    stepper.env.ends = True
    (episode,) = stepper.step(action).episodes
    assert episode.episode_return == 2.0**24 + 1
    assert episode.length == 2 and not episode.truncated


class Toy(CatchVectorEnv):
    """Rows that give what they are told to, in tensors."""

    def __init__(self, rows: int, rewards: float):
        from eightbit.envs import EnvOptions

        super().__init__(rows, EnvOptions(), SAME)
        self.device, self.rewards, self.ends = torch.device("cpu"), rewards, False

    def reset(self, **_: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        return torch.zeros((self.num_envs, 4, 84, 84), dtype=torch.uint8), {}

    def step(self, actions: Any) -> Any:
        n = self.num_envs
        observations, _ = self.reset()
        flags = torch.full((n,), self.ends)
        infos = {"final_obs": observations}
        return observations, torch.full((n,), self.rewards), flags, flags & False, infos


def test_steppers_are_chosen_by_what_the_environment_gives(loops):
    cpu, gpu = games(loops, SAME)
    assert as_stepper(cpu) is cpu and as_stepper(gpu) is gpu
    assert isinstance(as_stepper(cpu.env), EnvStepper)
    made = as_stepper(gpu.env)
    assert isinstance(made, DeviceStepper)
    assert made.longest_game == 15
    assert (made.frames_per_step, made.frame_stack, made.num_actions) == (4, 4, 6)


def test_misuse_is_told_in_a_sentence(loops):
    _, gpu = games(loops, SAME)
    gpu.reset(0)
    actions = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(UsageError, match=r"recv\(\) without send\(\)"):
        gpu.recv()
    with pytest.raises(UsageError, match=r"shape \(3,\); give \(4,\)"):
        gpu.send(actions[:3])
    gpu.send(actions)
    with pytest.raises(UsageError, match="twice"):
        gpu.send(actions)
    with pytest.raises(EightBitError, match="under way"):
        gpu.get_state()
    with pytest.raises(UsageError, match="fetch_every is 0"):
        DeviceStepper(gpu.env, fetch_every=0)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", [SAME, NEXT])
def test_records_of_a_gpu_equal_those_of_the_host(mode, rng):
    options = env_options("mnih2015", training=True, max_frames=200)
    cpu = EnvStepper(ConsoleVectorEnv("breakout", 16, options, NEXT))
    gpu = DeviceStepper(ConsoleGpuVectorEnv("breakout", 16, options, mode), fetch_every=8)
    cpu.reset(3), gpu.reset(3)
    for _ in range(128):
        actions = rng.integers(0, 4, 16)
        expected = cpu.step(actions)
        record = gpu.step(torch.from_numpy(actions).to(gpu.device))
        for name in ("actions", "rewards", "terminated", "episode_over", "observations"):
            got = getattr(record, name)
            assert got.is_cuda
            np.testing.assert_array_equal(getattr(expected, name), got.cpu().numpy(), err_msg=name)
