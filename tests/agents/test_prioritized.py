"""Prioritized replay: the sum tree, who may be drawn and how often, weights, and resuming."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.agents import DQN, DQNOptions
from eightbit.agents.exploration import importance_at
from eightbit.agents.prioritized import PRIORITY_FLOOR, PrioritizedReplay, SumTree
from eightbit.agents.replay import FrameReplay
from eightbit.envs.vector import make_vec

STACK = 2
GAMMA = 0.9


# ------------------------------------------------------------------------------- the tree


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 40), rounds=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_the_tree_equals_a_plain_array(size, rounds, seed):
    rng = np.random.default_rng(seed)
    tree, plain = SumTree(size), np.zeros(size)
    for _ in range(rounds):
        leaves = rng.integers(size, size=rng.integers(1, 12))  # some of them twice
        priorities = rng.integers(0, 5, len(leaves)).astype(np.float64)
        tree.set(leaves, priorities)
        for leaf, priority in zip(leaves, priorities, strict=True):
            plain[leaf] = priority
        np.testing.assert_array_equal(tree.priorities(np.arange(size)), plain)
        assert tree.total == plain.sum()
        if not plain.any():
            continue
        batch = int(rng.integers(1, 20))
        drawn = tree.sample(batch, np.random.default_rng(seed))
        points = np.random.default_rng(seed).random(batch)
        bounds = np.cumsum(plain)
        mass = (np.arange(batch) + points) / batch * plain.sum()
        expected = [next(i for i in range(size) if bounds[i] > each) for each in mass]
        np.testing.assert_array_equal(drawn, expected)


class Latest:
    """A generator that always draws the largest number below 1."""

    def random(self, size: int) -> np.ndarray:
        return np.full(size, np.nextafter(1.0, 0.0))


@settings(max_examples=150, deadline=None)
@given(
    priorities=st.lists(
        st.sampled_from([0.0, 1e-300, 1e-9, 0.1, 1 / 3, 1.0, 1e12]), min_size=1, max_size=33
    ),
    batch=st.integers(1, 50),
)
def test_a_leaf_without_priority_is_never_drawn_however_sums_are_rounded(priorities, batch):
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.array(priorities))
    if not any(priorities):
        with pytest.raises(ValueError, match="all priorities are 0"):
            tree.sample(batch, np.random.default_rng(0))
        return
    for rng in (Latest(), np.random.default_rng(0)):
        drawn = tree.sample(batch, rng)
        assert all(priorities[leaf] > 0 for leaf in drawn)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_a_priority_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="finite number of at least 0"):
        SumTree(4).set(np.array([1]), np.array([wrong]))


# ----------------------------------------------------------------------------- the memory


def add_step(memory, rng: np.random.Generator, number: int) -> None:
    """One step of every environment, whose frames show the step that they came from."""
    n = memory.num_envs
    over = rng.random(n) < 0.2
    truncated = over & (rng.random(n) < 0.5)
    observations = np.full((n, STACK, 1, 1), number, np.int32)
    memory.add(
        np.full(n, number), np.ones(n), over & ~truncated, truncated, over, observations,
        {int(i): observations[i] for i in np.flatnonzero(over)},
    )  # fmt: skip


def filled(capacity: int, num_envs: int, steps: int, *, exponent: float = 1.0, seed: int = 0):
    frames = FrameReplay(capacity, num_envs, (STACK, 1, 1), np.int32, frame_stack=STACK)
    memory, rng = PrioritizedReplay(frames, exponent), np.random.default_rng(seed)
    memory.reset(np.zeros((num_envs, STACK, 1, 1), np.int32))
    for number in range(steps):
        add_step(memory, rng, number)
    return memory


def drawable(memory: PrioritizedReplay, n_step: int) -> dict[tuple[int, int], float]:
    """Step and environment -> probability of all that the memory would draw now."""
    memory.sample(1, np.random.default_rng(0), n_step=n_step)
    ring, n = memory._priorities, memory.num_envs
    priorities = ring._tree.priorities(np.arange(ring.rows * n))
    rows = {row % ring.rows: row for row in range(ring.first, ring.end)}
    return {
        (rows[leaf // n], leaf % n): float(priorities[leaf]) for leaf in np.flatnonzero(priorities)
    }


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(6, 40),
    num_envs=st.integers(1, 3),
    steps=st.lists(st.integers(1, 25), min_size=1, max_size=5),
    seed=st.integers(0, 10_000),
)
def test_priorities_equal_those_of_a_plain_dictionary(capacity, num_envs, steps, seed):
    memory = filled(capacity, num_envs, 0)
    rng, plain, highest, time = np.random.default_rng(seed), {}, 1.0, 0
    for count in steps:
        for _ in range(count):
            plain.update({(time, env): highest for env in range(num_envs)})
            add_step(memory, rng, time)
            time += 1
        n_step = int(rng.integers(1, 5))
        length = memory.replay.length
        oldest = 0 if time < length else time - length + STACK
        may = {key: p for key, p in plain.items() if oldest <= key[0] <= time - n_step}
        if not may:
            with pytest.raises(ValueError, match="fewer than"):
                memory.sample(4, rng, n_step=n_step)
            continue
        assert drawable(memory, n_step) == may
        # Updates of what is there, and of what was overwritten long ago.
        ids = rng.integers(time * num_envs, size=7)
        errors = rng.integers(0, 9, 7).astype(np.float32)
        memory.set_priorities(ids, errors)
        for each, error in zip(ids.tolist(), errors.tolist(), strict=True):
            if each // num_envs >= time - length:
                plain[divmod(each, num_envs)] = error + PRIORITY_FLOOR
                highest = max(highest, error + PRIORITY_FLOOR)


@pytest.mark.parametrize("batch", [1, 32])
def test_transitions_are_drawn_as_often_as_their_priorities_say(batch):
    memory = filled(60, 2, 50, exponent=0.6)
    keys = list(drawable(memory, 3))
    ids = np.array([time * 2 + env for time, env in keys])
    errors = np.random.default_rng(1).exponential(size=len(ids)) + 0.05
    memory.set_priorities(ids, errors)
    rng, counts = np.random.default_rng(2), dict.fromkeys(ids.tolist(), 0)
    for _ in range(6_000 // batch):
        for each in memory.sample(batch, rng, n_step=3).indices.tolist():
            counts[each] += 1
    expected = (errors + PRIORITY_FLOOR) ** 0.6
    expected *= 6_000 / expected.sum()
    chi_square = ((np.array(list(counts.values())) - expected) ** 2 / expected).sum()
    # 0.9999 quantile of chi-square with 55 degrees of freedom is about 101.
    assert len(ids) == 56 and chi_square < 101


def test_a_new_transition_has_the_highest_priority_so_far():
    memory = filled(40, 2, 10)
    assert set(drawable(memory, 1).values()) == {1.0}
    memory.set_priorities(np.array([4]), np.array([6.5]))
    memory.set_priorities(np.array([4]), np.array([0.25]))
    add_step(memory, np.random.default_rng(0), 10)
    now = drawable(memory, 1)
    assert now[10, 0] == now[10, 1] == 6.5 + PRIORITY_FLOOR
    assert now[2, 0] == 0.25 + PRIORITY_FLOOR and now[2, 1] == 1.0


def test_ids_name_the_transitions_that_they_were_drawn_with():
    memory = filled(30, 3, 70)
    batch = memory.sample(64, np.random.default_rng(0), n_step=2, gamma=GAMMA)
    times, envs = np.divmod(batch.indices, 3)
    np.testing.assert_array_equal(batch.actions.numpy(), times)
    again = memory.replay.gather(times, envs, n_step=2, gamma=GAMMA)
    for name in ("observations", "returns", "next_observations", "discounts"):
        assert torch.equal(getattr(batch, name), getattr(again, name)), name


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_importance_weights_equal_numpys(beta):
    memory = filled(30, 2, 25, exponent=0.7)
    rng = np.random.default_rng(3)
    memory.set_priorities(np.arange(44), rng.exponential(size=44))
    table = drawable(memory, 2)
    batch = memory.weigh(memory.sample(16, rng, n_step=2), beta)
    total = sum(table.values())
    drawn = [table[divmod(each, 2)] for each in batch.indices.tolist()]
    expected = np.array([(len(table) * p / total) ** -beta for p in drawn])
    assert batch.weights.dtype == torch.float32 and batch.weights.max() == 1
    np.testing.assert_allclose(batch.weights, expected / expected.max(), rtol=1e-5)


def test_weights_make_the_mean_of_prioritized_samples_that_of_uniform_ones():
    memory = filled(60, 2, 25)
    errors = np.linspace(0.1, 3, 50)
    memory.set_priorities(np.arange(50), errors)
    batch = memory.weigh(memory.sample(50_000, np.random.default_rng(0)), 1.0)
    weights = batch.weights.numpy()
    seen = errors[batch.indices]
    assert seen.mean() > 1.3 * errors.mean()
    weighted = (weights * seen).sum() / weights.sum()
    assert weighted == pytest.approx(errors.mean(), rel=0.02)


@pytest.mark.parametrize("steps", [9, 60])
def test_a_state_restores_the_same_draws(steps):
    memory = filled(30, 2, steps)
    memory.set_priorities(np.arange(2 * steps), np.random.default_rng(0).random(2 * steps))
    memory.sample(4, np.random.default_rng(5), n_step=3)
    twin = filled(30, 2, 3)
    twin.set_state(memory.get_state())
    for _ in range(3):
        one, other = (m.sample(50, np.random.default_rng(1), n_step=3) for m in (memory, twin))
        np.testing.assert_array_equal(one.indices, other.indices)
        for one_memory, batch in ((memory, one), (twin, other)):
            one_memory.set_priorities(batch.indices, np.arange(50.0))
            add_step(one_memory, np.random.default_rng(2), 1)
    with pytest.raises(ValueError, match="shape"):
        filled(30, 3, 5).set_state(memory.get_state())


# ------------------------------------------------------------------------------ the agent

SMALL = DQNOptions(
    backbone="nips2013",
    num_envs=8,
    buffer_size=600,  # the ring wraps
    learning_starts=300,
    batch_size=32,
    learning_rate=1e-3,
    target_update=400,
    epsilon_steps=3_000,
    n_step=3,
    precision="fp32",
    prioritized=True,
    importance_steps=2_000,
)


def test_going_on_with_priorities_equals_never_having_stopped():
    def catch(seed: int = 0) -> DQN:
        return DQN(make_vec("catch", SMALL.num_envs), SMALL, seed=seed, device="cpu")

    whole, first, second = catch(), catch(), catch(seed=99)
    whole.learn(900)
    first.learn(700)
    second.set_state(first.get_state())
    second.learn(900)
    assert second.num_updates == whole.num_updates > 20
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    one, other = whole.replay.get_state(), second.replay.get_state()
    for part in ("replay", "priorities"):
        for name, value in one[part].items():
            np.testing.assert_array_equal(value, other[part][name], err_msg=name)
    assert len(np.unique(one["priorities"]["priorities"])) > 100


def test_updates_are_weighted_by_an_exponent_that_grows_to_1():
    options = dataclasses.replace(SMALL, importance_exponent=0.4, importance_steps=1_000)
    agent = DQN(make_vec("catch", options.num_envs), options, device="cpu")
    assert importance_at(agent.options, agent.num_timesteps) == pytest.approx(0.4)
    agent.learn(200)
    assert importance_at(agent.options, agent.num_timesteps) == pytest.approx(0.4 + 0.6 * 0.2)
    agent.num_timesteps = 1_200
    assert importance_at(agent.options, agent.num_timesteps) == 1.0
