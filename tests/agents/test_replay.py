"""The frame ring against a memory that keeps every stack whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.agents.replay import FrameReplay, replay_bytes

GAMMA = 0.9


class Games:
    """Episodes of random length whose frames are numbered, stacked with zeros before the start."""

    def __init__(self, rng: np.random.Generator, num_envs: int, stack: int):
        self.rng, self.stack, self.next_frame = rng, stack, 1
        self.stacks = np.stack([self.fresh() for _ in range(num_envs)])

    def frame(self) -> np.ndarray:
        self.next_frame += 1
        return np.array([[self.next_frame]], dtype=np.int32)

    def fresh(self) -> np.ndarray:
        stack = np.zeros((self.stack, 1, 1), dtype=np.int32)
        stack[-1] = self.frame()
        return stack

    def step(self):
        n = len(self.stacks)
        over = self.rng.random(n) < 0.25
        truncated = over & (self.rng.random(n) < 0.5)
        terminated = (over & ~truncated) | (self.rng.random(n) < 0.1)  # a lost life among them
        following = np.concatenate(
            [self.stacks[:, 1:], np.stack([self.frame() for _ in range(n)])[:, None]], axis=1
        )
        final = {i: following[i].copy() for i in np.flatnonzero(over)}
        observations = following.copy()
        for i in np.flatnonzero(over):
            observations[i] = self.fresh()
        self.stacks = observations
        rewards = self.rng.integers(-3, 4, n).astype(np.float32)
        actions = self.rng.integers(0, 5, n)
        return actions, rewards, terminated, truncated, over, observations, final, following


class NaiveMemory:
    """Keeps each transition's observations whole and walks the n-step window by hand."""

    def __init__(self):
        self.steps = []

    def add(self, before, actions, rewards, terminated, truncated, following):
        self.steps.append((before, actions, rewards, terminated, truncated, following))

    def transition(self, time, env, n):
        total, discount = 0.0, 1.0
        for i in range(n):
            _, _, rewards, terminated, truncated, following = self.steps[time + i]
            total += discount * rewards[env]
            discount *= GAMMA
            if terminated[env]:
                return total, None, 0.0
            if truncated[env]:
                return total, following[env], discount
        return total, following[env], discount


def fill(memory: FrameReplay, steps: int, seed: int) -> NaiveMemory:
    games = Games(np.random.default_rng(seed), memory.num_envs, memory.frame_stack)
    naive = NaiveMemory()
    memory.reset(games.stacks)
    for _ in range(steps):
        before = games.stacks
        actions, rewards, terminated, truncated, over, observations, final, following = games.step()
        memory.add(actions, rewards, terminated, truncated, over, observations, final)
        naive.add(before, actions, rewards, terminated, truncated & ~terminated, following)
    return naive


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(8, 60),
    num_envs=st.integers(1, 4),
    stack=st.sampled_from([2, 4]),
    n=st.integers(1, 5),
    steps=st.integers(6, 90),
    seed=st.integers(0, 10_000),
)
def test_every_transition_equals_the_naive_memorys(capacity, num_envs, stack, n, steps, seed):
    memory = FrameReplay(capacity, num_envs, (stack, 1, 1), np.int32, frame_stack=stack)
    naive = fill(memory, steps, seed)
    oldest, newest = memory._oldest(), memory.time - n
    times, envs = np.meshgrid(np.arange(oldest, newest + 1), np.arange(num_envs), indexing="ij")
    times, envs = times.reshape(-1), envs.reshape(-1)
    if not len(times):
        return
    batch = memory.gather(times, envs, n_step=n, gamma=GAMMA)
    for row, (time, env) in enumerate(zip(times, envs, strict=True)):
        total, following, discount = naive.transition(int(time), int(env), n)
        before, actions = naive.steps[time][:2]
        np.testing.assert_array_equal(batch.observations[row].numpy(), before[env])
        assert batch.actions[row] == actions[env]
        assert batch.returns[row].item() == pytest.approx(total, abs=1e-4)
        assert batch.discounts[row].item() == pytest.approx(discount, abs=1e-6)
        if following is not None:
            np.testing.assert_array_equal(batch.next_observations[row].numpy(), following)


def test_capacity_is_kept_after_the_ring_wraps():
    memory = FrameReplay(100, 4, (4, 1, 1), np.int32)
    fill(memory, 300, seed=1)
    assert len(memory) >= 100 - 4 * 4
    assert len(memory) <= 104


def test_a_million_transitions_fit_in_the_promised_memory():
    planned = replay_bytes(1_000_000, 32, (4, 84, 84), np.dtype(np.uint8), 4)
    assert planned <= 7.3e9
    small = FrameReplay(1_000, 8, (4, 84, 84))
    assert small.nbytes == replay_bytes(1_000, 8, (4, 84, 84), np.dtype(np.uint8), 4)


def test_sampling_is_uniform_over_times_and_environments():
    memory = FrameReplay(64, 4, (2, 1, 1), np.int32, frame_stack=2)
    fill(memory, 20, seed=3)
    drawn = memory.sample(40_000, np.random.default_rng(0)).observations[:, -1, 0, 0].numpy()
    _, counts = np.unique(drawn, return_counts=True)
    transitions = len(memory)
    expected = 40_000 / transitions
    assert len(counts) == transitions
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # 0.9999 quantile of chi-square with 79 degrees of freedom is about 132.
    assert chi_square < 132


def test_state_restores_the_same_samples():
    memory = FrameReplay(40, 2, (4, 1, 1), np.int32)
    fill(memory, 77, seed=5)
    twin = FrameReplay(40, 2, (4, 1, 1), np.int32)
    twin.set_state(memory.get_state())
    one, other = (m.sample(50, np.random.default_rng(1), n_step=3) for m in (memory, twin))
    for name in ("observations", "actions", "returns", "next_observations", "discounts"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_a_new_reset_closes_open_episodes_as_truncated():
    memory = FrameReplay(40, 1, (2, 1, 1), np.int32, frame_stack=2)
    first = np.array([[[[0]], [[1]]]], dtype=np.int32)
    second = np.array([[[[1]], [[2]]]], dtype=np.int32)
    other_game = np.array([[[[0]], [[9]]]], dtype=np.int32)
    no = np.zeros(1, dtype=bool)
    memory.reset(first)
    memory.add(np.array([0]), np.array([1.0]), no, no, no, second, {})
    memory.reset(other_game)
    memory.add(np.array([0]), np.array([1.0]), no, no, no, other_game, {})
    batch = memory.gather(np.array([0]), np.array([0]), n_step=2, gamma=GAMMA)
    assert batch.returns.item() == 1.0
    assert batch.discounts.item() == pytest.approx(GAMMA)
    np.testing.assert_array_equal(batch.next_observations[0].numpy(), second[0])


def test_sampling_an_empty_memory_is_refused():
    memory = FrameReplay(40, 1, (2, 1, 1), np.int32, frame_stack=2)
    memory.reset(np.zeros((1, 2, 1, 1), dtype=np.int32))
    with pytest.raises(ValueError, match="fewer than 1 steps"):
        memory.sample(4, np.random.default_rng(0))


def test_vector_observations_are_kept_whole():
    memory = FrameReplay(10, 2, (3,), np.float32, frame_stack=1)
    before = np.arange(6, dtype=np.float32).reshape(2, 3)
    after = before + 10
    no = np.zeros(2, dtype=bool)
    memory.reset(before)
    memory.add(np.array([0, 1]), np.array([1.0, 2.0]), no, no, no, after, {})
    batch = memory.gather(np.array([0, 0]), np.array([0, 1]), n_step=1, gamma=GAMMA)
    np.testing.assert_array_equal(batch.observations.numpy(), before)
    np.testing.assert_array_equal(batch.next_observations.numpy(), after)
