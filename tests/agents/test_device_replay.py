"""The memories in torch against those in NumPy, on the same random histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.agents.device_prioritized import BlockSums, DevicePrioritizedReplay
from eightbit.agents.device_replay import DeviceReplay, FinalFrames
from eightbit.agents.device_rollout import DeviceRollout
from eightbit.agents.device_rollout import lambda_returns as device_returns
from eightbit.agents.options import DQNOptions
from eightbit.agents.prioritized import PrioritizedReplay
from eightbit.agents.replay import FrameReplay
from eightbit.agents.rollout import Rollout, lambda_returns
from eightbit.errors import TrainingError

GAMMA = 0.9


class Games:
    """Games of random length whose frames are numbered, stacked with zeros before the start."""

    def __init__(self, seed: int, num_envs: int, stack: int):
        self.rng, self.stack, self.number = np.random.default_rng(seed), stack, 0
        self.n = num_envs
        self.observations = self.begin()

    def frames(self) -> np.ndarray:
        self.number += self.n
        return (self.number + np.arange(self.n, dtype=np.int32)).reshape(-1, 1, 1)

    def begin(self) -> np.ndarray:
        stacks = np.zeros((self.n, self.stack, 1, 1), np.int32)
        stacks[:, -1] = self.frames()
        return stacks

    def step(self) -> tuple[Any, ...]:
        """Arguments of `add`: of the host, and of the device."""
        n, rng = self.n, self.rng
        over = rng.random(n) < 0.25
        truncated = over & (rng.random(n) < 0.5)
        terminated = (over & ~truncated) | (rng.random(n) < 0.1)  # a lost life among them
        following = np.concatenate([self.observations[:, 1:], self.frames()[:, None]], axis=1)
        self.observations = np.where(over[:, None, None, None], self.begin(), following)
        finals = {int(row): following[row].copy() for row in np.flatnonzero(over)}
        actions, rewards = rng.integers(0, 5, n), rng.integers(-3, 4, n).astype(np.float32)
        shared = (actions, rewards, terminated, truncated, over, self.observations)
        tensors = tuple(torch.from_numpy(np.array(array)) for array in (*shared, following))
        return (*shared, finals), tensors


def fill(host: Any, device: Any, steps: int, seed: int, resets: tuple[int, ...] = ()) -> None:
    games = Games(seed, host.num_envs, 2)
    for step in range(steps):
        if step == 0 or step in resets:
            games.observations = games.begin()
            host.reset(games.observations)
            device.reset(torch.from_numpy(games.observations))
        arrays, tensors = games.step()
        host.add(*arrays)
        device.add(*tensors)


def ring(capacity: int, num_envs: int, **options: Any) -> tuple[FrameReplay, DeviceReplay]:
    shape = (2, 1, 1)
    host = FrameReplay(capacity, num_envs, shape, np.int32, frame_stack=2)
    device = DeviceReplay(
        capacity, num_envs, shape, np.int32, device="cpu", frame_stack=2, **options
    )
    return host, device


def assert_equal_batches(one: Any, other: Any) -> None:
    for name in ("observations", "actions", "discounts"):
        assert getattr(one, name).dtype == getattr(other, name).dtype, name
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    torch.testing.assert_close(one.returns, other.returns)
    counts = one.discounts > 0  # nothing is learnt from what follows an end
    assert torch.equal(one.next_observations[counts], other.next_observations[counts])


def everything(memory: FrameReplay, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and environments of all transitions that can be sampled."""
    times = np.arange(memory._oldest(), memory.time - n + 1)
    grid = np.meshgrid(times, np.arange(memory.num_envs), indexing="ij")
    return grid[0].reshape(-1), grid[1].reshape(-1)


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(8, 60),
    num_envs=st.integers(1, 4),
    n=st.integers(1, 5),
    steps=st.integers(6, 90),
    seed=st.integers(0, 10_000),
    reset=st.integers(1, 100),
    pinned=st.booleans(),
)
def test_every_transition_equals_the_host_s(capacity, num_envs, n, steps, seed, reset, pinned):
    host, device = ring(capacity, num_envs, pinned=pinned)
    fill(host, device, steps, seed, (reset,))
    assert len(host) == len(device)
    times, envs = everything(host, n)
    if not len(times):
        return
    expected = host.gather(times, envs, n_step=n, gamma=GAMMA)
    indices = (torch.from_numpy(times), torch.from_numpy(envs))
    assert_equal_batches(expected, device.gather(*indices, n_step=n, gamma=GAMMA))


@pytest.mark.parametrize("stack", [1, 4])
def test_pictures_and_vectors_are_kept_as_the_host_keeps_them(stack, rng):
    shape = (4, 3, 3) if stack == 4 else (5,)
    dtype = np.uint8 if stack == 4 else np.float32
    host = FrameReplay(40, 2, shape, dtype, frame_stack=stack)
    device = DeviceReplay(40, 2, shape, dtype, device="cpu", frame_stack=stack)
    observations = rng.integers(0, 255, (2, *shape)).astype(dtype)
    host.reset(observations)
    device.reset(torch.from_numpy(observations))
    for step in range(70):
        observations = rng.integers(0, 255, (2, *shape)).astype(dtype)
        finals = rng.integers(0, 255, (2, *shape)).astype(dtype)
        cut = np.array([step % 7 == 0, step % 9 == 0])
        arrays = (np.array([step, 1]), np.ones(2, np.float32), cut & False, cut, cut, observations)
        host.add(*arrays, {row: finals[row] for row in range(2)})
        device.add(*(torch.from_numpy(np.array(array)) for array in (*arrays, finals)))
    times, envs = everything(host, 3)
    indices = (torch.from_numpy(times), torch.from_numpy(envs))
    expected = host.gather(times, envs, n_step=3, gamma=GAMMA)
    assert_equal_batches(expected, device.gather(*indices, n_step=3, gamma=GAMMA))


@pytest.mark.parametrize("steps", [9, 77])
def test_a_memory_moves_from_the_host_to_the_device_and_back(steps):
    host, device = ring(40, 3)
    fill(host, device, steps, 5, (4,))
    expected = host.get_state()
    for name, value in device.get_state().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    others = ring(40, 3)
    others[0].set_state(device.get_state())
    others[1].set_state(host.get_state())
    # They go on alike: frames of cut games are overwritten in the same turn.
    games = Games(9, 3, 2)
    for memory in (host, device, *others):
        start = games.observations
        memory.reset(start if isinstance(memory, FrameReplay) else torch.from_numpy(start))
    for _ in range(60):
        arrays, tensors = games.step()
        for memory in (host, device, *others):
            memory.add(*(arrays if isinstance(memory, FrameReplay) else tensors))
        times, envs = everything(host, 2)
        first = host.gather(times, envs, n_step=2, gamma=GAMMA)
        for memory in (device, *others):
            wanted = times, envs
            if isinstance(memory, DeviceReplay):
                wanted = torch.from_numpy(times), torch.from_numpy(envs)
            assert_equal_batches(first, memory.gather(*wanted, n_step=2, gamma=GAMMA))
    with pytest.raises(ValueError, match="has shape"):
        ring(80, 3)[1].set_state(device.get_state())


def test_sampling_is_uniform_over_what_is_complete():
    host, device = ring(64, 4)
    fill(host, device, 20, 3)
    drawn = device.sample(40_000, torch.Generator().manual_seed(0), n_step=2)
    _, counts = np.unique(drawn.observations[:, -1].numpy(), return_counts=True)
    assert len(counts) == len(everything(host, 2)[0])
    expected = 40_000 / len(counts)
    # 0.9999 quantile of chi-square with 67 degrees of freedom is about 117.
    assert ((counts - expected) ** 2 / expected).sum() < 117
    with pytest.raises(ValueError, match="fewer than 21 steps"):
        device.sample(4, torch.Generator(), n_step=21)


def test_games_that_are_cut_sooner_than_told_are_noticed():
    host, device = ring(120, 3, longest_game=100)
    fill(host, device, 40, 0)
    with pytest.raises(TrainingError, match="cut and 6 last frames fit"):
        device.check()
    roomy = ring(40, 3)[1]
    fill(host, roomy, 20, 0)
    roomy.check()


def test_last_frames_take_rows_in_turn():
    table = FinalFrames(3, (), torch.int64, torch.device("cpu"))
    yes = torch.tensor([True, False, True])
    assert table.add(yes, torch.tensor([10, 11, 12])).tolist() == [0, 3, 1]
    assert table.add(yes, torch.tensor([20, 21, 22])).tolist() == [2, 3, 0]
    assert table.frames[:3].tolist() == [22, 12, 20]


# ---- prioritized


def test_blocks_draw_leaves_by_their_priorities(rng):
    size = 3_000
    priorities = rng.random(size) ** 3
    priorities[rng.random(size) < 0.4] = 0.0
    priorities[7] = 50.0
    sums = BlockSums(size, torch.device("cpu"))
    sums.set_range(0, torch.from_numpy(priorities[:1_000].astype(np.float32)))
    leaves = torch.from_numpy(rng.permutation(np.arange(1_000, size)))
    sums.set(leaves, torch.from_numpy(priorities.astype(np.float32))[leaves])
    assert float(sums.total) == pytest.approx(priorities.sum(), rel=1e-5)
    draws = 400_000
    drawn = sums.sample(draws, torch.Generator().manual_seed(0), 7).numpy()
    counts = np.bincount(drawn, minlength=size)
    expected = draws * priorities / priorities.sum()
    assert not counts[priorities == 0].any()
    # Strata: a leaf's count differs from its share by less than two.
    assert np.abs(counts - expected).max() < 2.01


def test_a_leaf_of_priority_0_is_never_drawn():
    sums = BlockSums(40, torch.device("cpu"))
    sums.set_range(13, torch.tensor([1e-30]))
    assert set(sums.sample(500, torch.Generator(), 13).tolist()) == {13}


def prioritized(capacity: int = 40, num_envs: int = 3) -> tuple[Any, Any]:
    host, device = ring(capacity, num_envs)
    return PrioritizedReplay(host, 0.6), DevicePrioritizedReplay(device, 0.6)


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(10, 60), n=st.integers(1, 4), seed=st.integers(0, 999))
def test_priorities_and_weights_equal_the_host_s(steps, n, seed):
    host, device = prioritized()
    games, rng = Games(seed, 3, 2), np.random.default_rng(seed)
    host.reset(games.observations)
    device.reset(torch.from_numpy(games.observations))
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        arrays, tensors = games.step()
        host.add(*arrays)
        device.add(*tensors)
        if step < 6 or step % 3:
            continue
        host.sample(8, rng, n_step=n, gamma=GAMMA)  # takes notice of what may be drawn
        batch = device.sample(8, generator, n_step=n, gamma=GAMMA)
        ids = batch.indices.numpy()
        times, envs = np.divmod(ids, 3)
        oldest = host.replay._oldest()
        assert ((times >= oldest) & (times <= host.replay.time - n)).all()
        expected = host.replay.gather(times, envs, n_step=n, gamma=GAMMA)
        assert_equal_batches(expected, batch)
        weights = device.weigh(batch, 0.5).weights.numpy()
        np.testing.assert_allclose(weights, host._priorities.weights(ids, 0.5), rtol=1e-4)
        errors = (ids % 17 / 4).astype(np.float32)  # of one transition always the same
        host.set_priorities(ids, errors)
        device.set_priorities(batch.indices, torch.from_numpy(errors))
    one, other = host.get_state()["priorities"], device.get_state()["priorities"]
    assert one["window"] == other["window"] and one["written"] == other["written"]
    np.testing.assert_allclose(other["priorities"], one["priorities"], rtol=1e-5)
    assert other["highest"] == pytest.approx(one["highest"], rel=1e-5)


def test_priorities_that_are_overwritten_are_left_alone():
    host, device = prioritized()
    fill(host, device, 60, 1)
    device.sample(4, torch.Generator(), n_step=1)
    before = device.get_state()["priorities"]["priorities"].copy()
    device.set_priorities(torch.tensor([0, 5]), torch.tensor([9.0, 9.0]))
    np.testing.assert_array_equal(device.get_state()["priorities"]["priorities"], before)


def test_a_prioritized_memory_moves_between_host_and_device():
    host, device = prioritized()
    fill(host, device, 55, 2)
    for _ in range(3):
        batch = device.sample(16, torch.Generator().manual_seed(1), n_step=3)
        device.set_priorities(batch.indices, torch.linspace(0, 2, 16))
    again = prioritized()[1]
    back = prioritized()[0]
    again.set_state(device.get_state())
    back.set_state(device.get_state())
    one, other = (m.sample(32, torch.Generator().manual_seed(4)) for m in (device, again))
    assert torch.equal(one.indices, other.indices)
    back.sample(1, np.random.default_rng(0))
    ids = one.indices.numpy()
    expected = device.weigh(one, 1.0).weights.numpy()
    np.testing.assert_allclose(back._priorities.weights(ids, 1.0), expected, rtol=1e-4)


# ---- rollout

PQN = DQNOptions(rollout_steps=6, num_envs=3, batch_size=9, gamma=0.95, td_lambda=0.6)


def value_of(observations: np.ndarray) -> np.ndarray:
    """(B, 2) values that differ for every observation."""
    numbers = observations.reshape(len(observations), -1).sum(axis=1).astype(np.float32)
    return np.stack([np.sin(numbers), np.cos(numbers)], axis=1)


def rollouts() -> tuple[Rollout, DeviceRollout]:
    device = DeviceRollout(
        PQN,
        3,
        (2, 1, 1),
        np.int32,
        device="cpu",
        values=lambda observations: torch.from_numpy(value_of(observations.numpy())),
    )
    return Rollout(PQN, 3, (2, 1, 1), np.int32), device


def act(host: Rollout, device: DeviceRollout, games: Games) -> None:
    """What an agent does in a step."""
    values = value_of(games.observations)
    host.note_values(values)
    device.note_values(torch.from_numpy(values))


def add(host: Rollout, device: DeviceRollout, games: Games) -> None:
    arrays, tensors = games.step()
    cut = np.flatnonzero(arrays[3])
    if len(cut):
        finals = np.stack([arrays[-1][int(row)] for row in cut])
        host.note_finals(dict(zip(cut.tolist(), value_of(finals), strict=True)))
    host.add(*arrays)
    device.add(*tensors)


def compare(host: Rollout, device: DeviceRollout) -> None:
    assert host.full and device.full
    np.testing.assert_allclose(device._returns.numpy(), host._returns.numpy(), rtol=1e-6)
    whole = {name: [] for name in ("observations", "actions", "returns")}
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        batch = device.sample(9, generator)
        for name, kept in whole.items():
            kept.append(getattr(batch, name))
    drawn = {name: torch.cat(kept) for name, kept in whole.items()}
    # One epoch holds each transition once.
    order = drawn["observations"].flatten(1)[:, -1].argsort()
    rows = torch.from_numpy(host.observations.reshape(18, 2))
    places = rows[:, -1].argsort()
    assert torch.equal(drawn["observations"].view(18, 2)[order], rows[places])
    assert torch.equal(drawn["actions"][order], torch.from_numpy(host.actions.ravel())[places])
    torch.testing.assert_close(drawn["returns"][order], host._returns[places])


@pytest.mark.parametrize("seed", range(5))
def test_rollouts_equal_the_host_s(seed):
    host, device = rollouts()
    games = Games(seed, 3, 2)
    host.reset(games.observations)
    device.reset(torch.from_numpy(games.observations))
    for step in range(25):
        act(host, device, games)
        if step and step % 6 == 0:
            compare(host, device)
        add(host, device, games)
    device.check()


@pytest.mark.parametrize("stop", [1, 4, 6, 8])
@pytest.mark.parametrize("target", ["device", "host"])
def test_a_rollout_that_was_saved_goes_on(stop, target):
    host, device = rollouts()
    games = Games(11, 3, 2)
    host.reset(games.observations)
    device.reset(torch.from_numpy(games.observations))
    for step in range(12):
        act(host, device, games)
        if step and step % 6 == 0:
            compare(host, device)
        add(host, device, games)
        if step + 1 == stop:
            state = (device if target == "host" else host).get_state()
            fresh_host, fresh_device = rollouts()
            if target == "host":
                host = fresh_host
                host.set_state(state)
            else:
                again = device.get_state()
                device = fresh_device
                device.set_state(state)
                kept = device.get_state()
                assert kept["finals"] == again["finals"]
    act(host, device, games)
    compare(host, device)


def test_lambda_returns_equal_the_host_s(rng):
    shape = (32, 5)
    rewards, values = rng.normal(size=(2, *shape)).astype(np.float32)
    discounts = np.where(rng.random(shape) < 0.1, 0, 0.99).astype(np.float32)
    ended = (discounts == 0) | (rng.random(shape) < 0.1)
    expected = lambda_returns(rewards, discounts, values, ended, 0.65)
    tensors = (torch.from_numpy(array) for array in (rewards, discounts, values, ended))
    got = device_returns(*tensors, 0.65)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-6)
