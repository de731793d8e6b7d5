"""Learning where environments give tensors: equal to the host's way, and asking the device nothing.

The console's kernels run on the CPU here, over torch's CPU tensors; on a GPU the same code runs.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from torch.utils._python_dispatch import TorchDispatchMode

from eightbit.agents.device_agent import device_of_games, same_device
from eightbit.agents.dqn import DQN
from eightbit.agents.options import METHODS, DQNOptions
from eightbit.agents.replay import Batch
from eightbit.envs import console, env_options, make_vec
from eightbit.envs.console.gpu import ConsoleGpuVectorEnv
from eightbit.envs.console.vector import ConsoleVectorEnv
from eightbit.envs.device_steps import DeviceStepper
from eightbit.errors import TrainingError, UsageError
from eightbit.train.checkpoints import load_state, save_state

SAME = AutoresetMode.SAME_STEP
needs_console = pytest.mark.skipif(not console.is_built(), reason="the console was not compiled")


def load(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "envs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_for_device_agent", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


loops = load("test_console_gpu").loops  # the kernels' bodies, run by the CPU over torch's tensors
no_looks = load("test_device_steps").no_looks

REPLAY = DQNOptions(
    backbone="nips2013",
    num_envs=4,
    buffer_size=400,
    learning_starts=40,
    batch_size=8,
    replay_ratio=2.0,
    target_update=80,
    epsilon_steps=0,
    epsilon_final=0.25,
    precision="fp32",
)
ROLLOUT = dataclasses.replace(
    REPLAY,
    backbone_options='{"layer_norm": true}',
    n_step=1,
    rollout_steps=8,
    rollout_epochs=1,
    batch_size=32,
    optimizer="radam",
    loss="mse",
)
PRIORITIZED = dataclasses.replace(REPLAY, prioritized=True, importance_steps=1_000)
NOISY = dataclasses.replace(REPLAY, noisy=True, dueling=True, double=True, epsilon_final=0.0)
KINDS = {"replay": REPLAY, "rollout": ROLLOUT, "prioritized": PRIORITIZED, "noisy": NOISY}


def agent(loops: Any, options: DQNOptions = REPLAY, seed: int = 0, **changes: Any) -> DQN:
    """Learns Pong on the kernels; games are cut after 15 steps."""
    env = ConsoleGpuVectorEnv("pong", 4, pong(**changes), SAME, kernels=loops)
    return DQN(DeviceStepper(env, fetch_every=8), options, seed=seed, device="cpu")


def pong(**changes: Any) -> Any:
    made = {"noop_max": 0, "max_frames": 60, "num_threads": 1, **changes}
    return env_options("mnih2015", training=True, **made)


def weights(learner: DQN) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.network.parameters()])


@needs_console
@pytest.mark.parametrize("kind", KINDS)
def test_agents_learn_from_tensors_with_finite_losses(loops, kind):
    learner = agent(loops, KINDS[kind])
    before = weights(learner)
    losses, games = [], 0
    for step in learner.steps(4 * 64):
        games += len(step.record.episodes)
        if step.losses is not None:
            losses.append(step.losses)
            assert learner.num_timesteps % 32 == 0  # where finished games are fetched
    assert games == learner.episodes_seen == 4 * (64 // 15)
    assert len(losses) >= 5 and np.isfinite([list(each.values()) for each in losses]).all()
    assert set(losses[0]) == {"loss", "q_mean", "td_error", "grad_norm"}
    assert learner.num_updates > 5
    assert not torch.equal(weights(learner), before)
    assert learner.memory_bytes > 0


@needs_console
@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_asks_the_device_nothing_between_fetches(loops, kind, monkeypatch):
    # An optimizer on the CPU counts its steps on the host; on a GPU it does so there.
    learner = agent(loops, dataclasses.replace(KINDS[kind], optimizer="adam"))
    steps = learner.steps(4 * 200)
    for _ in range(16):  # the memory holds enough to learn from
        next(steps)
    made = learner.num_updates
    for _ in range(7):
        with no_looks(monkeypatch):
            next(steps)
    assert learner.num_updates > made
    refused = pytest.raises(AssertionError, match="read from a tensor|went to the host")
    with refused, no_looks(monkeypatch):
        next(steps)


def both(loops: Any, options: DQNOptions) -> tuple[DQN, DQN]:
    """The same agent on the engine and in tensors."""
    engine = ConsoleVectorEnv("pong", 4, pong(), AutoresetMode.NEXT_STEP)
    return DQN(engine, options, device="cpu"), agent(loops, options)


def draw_alike(host: DQN, device: DQN, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's replay memory draws what the host's generator says."""
    rng = np.random.default_rng(0)
    memory: Any = device.replay

    def sample(batch_size: int, _: Any, *, n_step: int, gamma: float) -> Batch:
        times = rng.integers(memory._oldest(), memory.time - n_step + 1, size=batch_size)
        envs = rng.integers(memory.num_envs, size=batch_size)
        indices = torch.from_numpy(times), torch.from_numpy(envs)
        return memory.gather(*indices, n_step=n_step, gamma=gamma)

    monkeypatch.setattr(memory, "sample", sample)
    host._rng = DrawsForTheMemoryOnly()  # nothing is drawn to explore


class DrawsForTheMemoryOnly:
    """Exploration is greedy; the memory draws the same as the device's."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def random(self, n: int) -> np.ndarray:
        return np.ones(n)

    def integers(self, low: int, high: int | None = None, size: int = 0) -> np.ndarray:
        acting = high is None and size == 4  # REPLAY's batches are 8, ROLLOUT's draw none
        return np.zeros(size, np.int64) if acting else self._rng.integers(low, high, size=size)

    def permutation(self, n: int) -> np.ndarray:
        return np.arange(n)


@needs_console
@pytest.mark.parametrize("kind", ["replay", "rollout"])
def test_greedy_learning_equals_the_host_s(loops, kind, monkeypatch):
    options = dataclasses.replace(KINDS[kind], epsilon_initial=0.0, epsilon_final=0.0)
    host, device = both(loops, options)
    if kind == "replay":
        draw_alike(host, device, monkeypatch)
    else:  # a rollout in one batch: the order of its rows changes rounding only
        host._rng = DrawsForTheMemoryOnly()
    for one, other in zip(host.steps(4 * 60), device.steps(4 * 60), strict=True):
        actions = other.record.actions.numpy()
        np.testing.assert_array_equal(one.record.actions, actions, err_msg=str(one.num_timesteps))
        np.testing.assert_array_equal(one.record.observations, other.record.observations.numpy())
        assert one.num_updates == other.num_updates
    assert host.num_updates > 6 and host.episodes_seen == 16
    torch.testing.assert_close(weights(host), weights(device), rtol=0, atol=2e-5)
    assert host._updates_due == device._updates_due


@needs_console
@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(loops, kind, tmp_path):
    options = KINDS[kind]
    whole, first = agent(loops, options), agent(loops, options)
    whole.learn(4 * 44)
    first.learn(4 * 27)
    second = agent(loops, options, seed=99)
    save_state(tmp_path / "state.safetensors", first.get_state())
    second.set_state(load_state(tmp_path / "state.safetensors"))
    second.learn(4 * 44)
    assert second.num_updates == whole.num_updates > 3
    assert torch.equal(weights(second), weights(whole))
    kept, other = whole.replay.get_state(), second.replay.get_state()
    flat = [kept, other] if kind != "prioritized" else [kept["replay"], other["replay"]]
    for name, value in flat[0].items():
        np.testing.assert_array_equal(value, flat[1][name], err_msg=name)


@needs_console
@pytest.mark.parametrize("kind", ["replay", "rollout", "prioritized"])
@pytest.mark.parametrize("way", ["to the host", "to the device"])
def test_a_run_moves_between_host_and_device(loops, kind, way):
    host, device = both(loops, KINDS[kind])
    before, after = (device, host) if way == "to the host" else (host, device)
    before.learn(4 * 27)
    after.set_state(before.get_state())
    assert torch.equal(weights(before), weights(after))
    assert len(after.replay) == len(before.replay)
    made = after.num_updates
    after.learn(4 * 60)
    assert after.num_updates > made


@needs_console
def test_a_loss_that_is_not_finite_is_told_at_the_next_fetch_and_not_saved(loops):
    learner = agent(loops)
    learner.learn(4 * 27)
    with torch.no_grad():
        next(iter(learner.network.parameters())).fill_(float("nan"))
    steps = learner.steps(4 * 100)
    next(steps)  # an update on the weights above
    with pytest.raises(TrainingError, match=r"not a finite number at agent step 112, .*lower"):
        learner.get_state()
    with pytest.raises(TrainingError, match="not a finite number at agent step"):
        for _ in range(8):
            next(steps)


@needs_console
def test_saved_agents_play_arrays(loops, tmp_path):
    learner = agent(loops)
    learner.learn(4 * 20)
    learner.save(tmp_path / "model.safetensors")
    loaded = DQN.load(tmp_path / "model.safetensors", device="cpu")
    observations = learner.begin().numpy()
    np.testing.assert_array_equal(loaded.q_values(observations), learner.q_values(observations))
    assert learner.predict(observations, deterministic=True)[0].shape == (4,)
    assert learner.predict(observations)[0].shape == (4,)


@needs_console
def test_what_does_not_go_together_is_refused(loops):
    recurrent = dataclasses.replace(
        REPLAY, memory="lstm", sequence_length=20, burn_in=4, batch_size=4
    )
    with pytest.raises(UsageError, match="sequences .* device='cpu'"):
        agent(loops, recurrent)
    games, other = agent(loops).stepper, torch.device("cuda", 1)
    with pytest.raises(UsageError, match="games are on cpu and the network on cuda:1"):
        device_of_games(games, other, "cuda:1")
    assert device_of_games(games, other, "auto") == torch.device("cpu")
    assert not DQN.learns_on_device(recurrent) and DQN.learns_on_device(REPLAY)
    assert same_device(torch.device("cuda"), torch.device("cuda:0"))
    assert not same_device(torch.device("cuda:1"), torch.device("cuda:0"))


# ---- the benchmark


def benchmark(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["gpu_training.py"])
    return importlib.import_module("gpu_training")


def test_the_benchmark_says_that_there_is_no_gpu(repository, monkeypatch, capsys):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        benchmark(repository, monkeypatch).main()
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("nothing measured: device 'cuda' cannot play games: PyTorch finds no")
    assert shown.count("\n") == 1


@needs_console
@pytest.mark.parametrize("kind", ["replay", "rollout"])
def test_the_benchmark_measures_every_part(loops, repository, monkeypatch, capsys, kind):
    module = benchmark(repository, monkeypatch)
    learner = agent(loops, KINDS[kind])
    rows = module.measure_agent(kind, learner, seconds=0.01, repeats=1, calls=2)
    assert [row.name for row in rows] == [f"{kind}: {part}" for part in module.PARTS]
    assert all(row.value > 0 for row in rows)
    minutes = rows[-1].extra["minutes for 200 M frames"]
    assert minutes == pytest.approx(200e6 / rows[-1].value / 60)
    made = module.options_of("pqn" if kind == "rollout" else "dqn", 64, 256)
    assert made.num_envs == 64


# ---- devices that are not here


class NoFloat64(TorchDispatchMode):
    """Refuses what Apple's MPS has no numbers for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                assert value.dtype not in (torch.float64, torch.complex128), func
        return result


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_an_update_makes_no_float64(method, prioritized):
    options = dataclasses.replace(
        REPLAY, method=method, prioritized=prioritized, noisy=True, dueling=True
    )
    learner = DQN(make_vec("catch", 4), options, device="cpu")
    learner.learn(100)
    with NoFloat64():
        learner.update()
        learner._acting.values(learner.begin(), noisy=True)


class TensorGames(VectorEnv):
    """Frames and flags in tensors on any device, also one that only computes shapes."""

    metadata = {"autoreset_mode": SAME}  # as Gymnasium's

    def __init__(self, device: torch.device, rows: int = 4):
        self.device, self.num_envs = device, rows
        self.single_observation_space = Box(0, 255, (4, 84, 84), np.uint8)
        self.single_action_space = Discrete(3)

    def _frames(self) -> torch.Tensor:
        return torch.zeros((self.num_envs, 4, 84, 84), dtype=torch.uint8, device=self.device)

    def reset(self, **_: Any) -> Any:
        return self._frames(), {}

    def step(self, actions: torch.Tensor) -> Any:
        assert actions.device == self.device
        flags = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        rewards = torch.ones(self.num_envs, device=self.device)
        return self._frames(), rewards, flags, flags, {"final_obs": self._frames()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_on_a_device_without_numbers_mixes_no_devices(kind, monkeypatch):
    """torch's device "meta" computes shapes only: what needs a number or a copy back fails."""
    options = dataclasses.replace(KINDS[kind], optimizer="adam")
    device, adam = torch.device("meta"), torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *a, **k: adam(*a, **{**k, "fused": False}))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # knows no such device
    monkeypatch.setattr("eightbit.agents.dqn.choose_device", lambda _: device)
    learner = DQN(DeviceStepper(TensorGames(device), fetch_every=1_000), options)
    for step in learner.steps(4 * 24):
        assert step.record.observations.device == device
        assert step.losses is None
    assert learner.num_updates >= 2
    assert all(p.device == device for p in learner.network.parameters())
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        learner._side.check()


@pytest.mark.gpu
@needs_console
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_agents_learn_on_a_gpu_with_a_graph_that_equals_the_step(kind, precision):
    options = dataclasses.replace(KINDS[kind], precision=precision)
    learners = []
    for captured in (True, False):
        env = make_vec("pong", 4, device="cuda", autoreset_mode=SAME, options=pong())
        learner = DQN(DeviceStepper(env, fetch_every=8), options, device="cuda")
        learner._side._captured._wanted = captured
        learner.learn(4 * 64)
        assert learner.num_updates > 5 and learner._side._captured.captured is captured
        learners.append(weights(learner))
    torch.testing.assert_close(*learners, rtol=0, atol=1e-3)


@pytest.mark.gpu
@needs_console
def test_frames_in_pinned_memory_are_those_of_the_gpu(monkeypatch):
    learners = []
    for fits in (True, False):
        monkeypatch.setattr("eightbit.agents.device_agent.fits", lambda *_, fits=fits: fits)
        env = make_vec("pong", 4, device="cuda", autoreset_mode=SAME, options=pong())
        learner = DQN(DeviceStepper(env, fetch_every=8), REPLAY, device="cuda")
        learner._side._captured._wanted = False
        learner.learn(4 * 44)
        assert learner.replay.frames.is_cuda is fits
        assert fits or learner.replay.frames.is_pinned()
        learners.append(weights(learner))
    torch.testing.assert_close(*learners, rtol=0, atol=1e-3)


@pytest.mark.gpu
@needs_console
def test_a_gpu_waits_for_nothing_between_fetches():
    env = make_vec("pong", 4, device="cuda", autoreset_mode=SAME, options=pong())
    learner = DQN(DeviceStepper(env, fetch_every=8), REPLAY, device="cuda")
    steps = learner.steps(4 * 100)
    for _ in range(24):
        next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(7):
            next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
