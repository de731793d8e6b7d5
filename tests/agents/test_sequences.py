"""R2D2: stored sequences and states, the loss against a plain loop, recall, recurrent players."""

from __future__ import annotations

import dataclasses
from collections import deque

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from eightbit.agents import DQN, DQNOptions
from eightbit.agents.networks import QNetwork
from eightbit.agents.parts import build_network
from eightbit.agents.replay import FrameReplay
from eightbit.agents.sequences import (
    SequenceReplay,
    make_sequence_loss,
    n_step_windows,
    sequence_errors,
)
from eightbit.envs.transitions import EnvStepper
from eightbit.envs.vector import make_vec
from eightbit.errors import UsageError
from eightbit.evaluate import evaluation
from eightbit.evaluate.evaluation import evaluate_policy, start_playing
from eightbit.evaluate.saliency import Saliency, saliency_map


class Recall(VectorEnv):
    """The first observation shows a cue, the last one asks for it: 1 for the right action or -1."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int, shortest: int = 4, longest: int = 4):
        self.num_envs, self.shortest, self.longest = num_envs, shortest, longest
        self.single_observation_space = Box(0.0, 1.0, (4,), np.float32)
        self.single_action_space = Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.rng = np.random.default_rng(0)
        self.cues, self.left = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        return self._begin(np.ones(self.num_envs, np.bool_), self._shown()), {}

    def step(self, actions):
        self.left -= 1
        over = self.left == 0
        rewards = np.where(over, np.where(actions == self.cues, 1.0, -1.0), 0.0)
        shown = self._shown()
        infos = {"final_obs": shown.copy()} if over.any() else {}
        return self._begin(over, shown), rewards, over, np.zeros_like(over), infos

    def _shown(self) -> np.ndarray:
        shown = np.zeros((self.num_envs, 4), np.float32)
        shown[:, 2], shown[:, 3] = self.left == 1, 1
        return shown

    def _begin(self, rows: np.ndarray, shown: np.ndarray) -> np.ndarray:
        for row in np.flatnonzero(rows):
            self.cues[row] = self.rng.integers(2)
            self.left[row] = self.rng.integers(self.shortest, self.longest + 1)
            shown[row] = [self.cues[row] == 0, self.cues[row] == 1, 0, 1]
        return shown

    def get_state(self):
        games = {"cues": self.cues.copy(), "left": self.left.copy()}
        return games | {"rng": self.rng.bit_generator.state}

    def set_state(self, state):
        self.rng.bit_generator.state = state["rng"]
        self.cues, self.left = np.array(state["cues"]), np.array(state["left"])
        return self._shown()


SMALL = DQNOptions(
    backbone="mlp",
    backbone_options='{"hidden": [32]}',
    memory="lstm",
    memory_options='{"hidden": 32}',
    double=True,
    n_step=2,
    gamma=0.95,
    num_envs=8,
    buffer_size=4_000,
    learning_starts=200,
    batch_size=16,
    replay_ratio=8.0,
    sequence_length=14,
    burn_in=2,
    sequence_stride=5,
    learning_rate=3e-3,
    target_update=200,
    epsilon_steps=1_500,
    epsilon_final=0.05,
    clip_rewards=False,
    prioritized=True,
    precision="fp32",
)


def agent_of(env: VectorEnv, seed: int = 0, **changes) -> DQN:
    return DQN(env, dataclasses.replace(SMALL, **changes), seed=seed, device="cpu")


def filled(steps: int, seed: int = 0, num_envs: int = 2, **changes) -> SequenceReplay:
    """A memory of random steps; the state before step t of environment e is t + e / 10."""
    options = dataclasses.replace(SMALL, learning_starts=1, batch_size=4, **changes)
    network = build_network((4,), 3, options)
    ring = FrameReplay(options.buffer_size, num_envs, (4,), np.float32, frame_stack=1)
    memory, rng = SequenceReplay(ring, options, network), np.random.default_rng(seed)
    memory.reset(rng.normal(size=(num_envs, 4)).astype(np.float32))
    for time in range(steps):
        values = time + torch.arange(num_envs) / 10
        memory.note_state(tuple(values[None, :, None].expand(1, -1, 32) * k for k in (1, -1)))
        over = rng.random(num_envs) < 0.15
        truncated = over & (rng.random(num_envs) < 0.4)
        terminated = (over & ~truncated) | (rng.random(num_envs) < 0.05)  # a lost life among them
        observations = rng.normal(size=(num_envs, 4)).astype(np.float32)
        memory.add(
            rng.integers(3, size=num_envs),
            rng.normal(size=num_envs) * 3,
            *(terminated, truncated, over, observations),
            {int(i): observations[i] for i in np.flatnonzero(over)},
        )
    return memory


@pytest.mark.parametrize("steps", [14, 40, 333])
def test_sequences_are_whole_and_carry_the_state_that_was_noted(steps):
    memory = filled(steps, buffer_size=100)
    ring, first_state = memory.replay, steps - memory.replay.length + 1
    first, end = memory._window()
    numbers = np.arange(first, end)
    oldest = max(first_state, 0)
    assert numbers.tolist() == [k for k in range(steps) if oldest <= 5 * k <= steps - 14]
    batch = memory.gather(numbers, numbers % 2, n_step=2, gamma=0.9)
    for row, number in enumerate(numbers):
        env = number % 2
        state = torch.full((1, 32), 5 * number + env / 10)
        torch.testing.assert_close(batch.state[0][:, row], state)
        torch.testing.assert_close(batch.state[1][:, row], -state)
        for step in range(14):
            slot = (5 * number + step) % ring.length
            assert torch.equal(batch.observations[row, step], torch.tensor(ring.frames[slot, env]))
            assert batch.actions[row, step] == ring.actions[slot, env]
            assert batch.starts[row, step] == ring.starts[slot, env]


@pytest.mark.parametrize("prioritized", [False, True])
def test_every_whole_sequence_is_drawn(prioritized):
    memory = filled(333, buffer_size=100, prioritized=prioritized)
    seen = set()
    rng = np.random.default_rng(0)
    for _ in range(40):
        batch = memory.sample(8, rng)
        assert (batch.indices is not None) == prioritized
        seen.update((10 * batch.state[0][0, :, 0]).round().int().tolist())
    first, end = memory._window()
    assert seen == {50 * k + e for k in range(first, end) for e in (0, 1)}


def test_sequences_are_drawn_by_priority_and_weighed():
    memory = filled(100)
    first, end = memory._window()
    ids = np.arange(2 * first, 2 * end)
    memory.set_priorities(ids, np.where(ids == 7, 9.0, 0.1))
    batch = memory.weigh(memory.sample(64, np.random.default_rng(0)), 1.0)
    share = (batch.indices == 7).mean()
    exact = 9**0.5 / (9**0.5 + (len(ids) - 1) * 0.1**0.5)
    assert share == pytest.approx(exact, abs=1 / 64)
    expected = np.where(batch.indices == 7, (0.1 / 9) ** 0.5, 1.0)
    np.testing.assert_allclose(batch.weights, expected, rtol=1e-4)
    uniform = filled(100, prioritized=False)
    assert uniform.weigh(uniform.sample(4, np.random.default_rng(0)), 1.0).weights is None


def test_a_memory_too_short_for_a_sequence_is_refused():
    with pytest.raises(UsageError, match="need 18: raise buffer_size or lower num_envs"):
        filled(0, num_envs=8, buffer_size=80)
    memory = filled(13)
    assert len(memory) == 0
    with pytest.raises(ValueError, match="no sequence of 14 steps"):
        memory.sample(4, np.random.default_rng(0))


def h(x: float) -> float:
    return np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x


def h_inverse(y: float) -> float:
    """By bisection, which needs no formula."""
    low, high = -1e4, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if h(middle) < y else (low, middle)
    return low


def values_by_steps(network: QNetwork, batch, row: int) -> np.ndarray:
    """(L, A) values of a sequence, one step at a time."""
    state = tuple(part[:, row : row + 1] for part in batch.state)
    values = []
    for step in range(batch.observations.shape[1]):
        if batch.starts[row, step]:
            state = None
        here, state = network.advance(batch.observations[row, step][None], state)
        values.append(here[0].detach().numpy().astype(np.float64))
    return np.array(values)


def plain_errors(memory, ids, online, target, options) -> list[dict[int, float]]:
    """Step -> TD error of each sequence, by walking from step to step."""
    ring, length, n = memory.replay, options.sequence_length, options.n_step
    found = []
    for (first, env), mine, theirs in zip(ids, online, target, strict=True):
        errors: dict[int, float] = {}
        for t in range(options.burn_in, length):
            total, discount, at, ended = 0.0, 1.0, t, ""
            while at < min(t + n, length) and not ended:
                slot = (first + at) % ring.length
                total += discount * ring.rewards[slot, env]
                discount *= options.gamma
                if ring.terminated[slot, env] or ring.cut[slot, env]:
                    ended = "terminated" if ring.terminated[slot, env] else "cut"
                at += 1
            if ended == "cut" or (not ended and (at < t + n or at == length)):
                continue
            if not ended:
                best = int(np.argmax((mine if options.double else theirs)[at]))
                value = theirs[at, best]
                total += discount * (h_inverse(value) if options.value_rescaling else value)
            goal = h(total) if options.value_rescaling else total
            errors[t] = goal - mine[t, ring.actions[(first + t) % ring.length, env]]
        found.append(errors)
    return found


@pytest.mark.parametrize("rescaling", [False, True])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("n_step", "burn_in"), [(1, 0), (3, 2), (5, 7)])
def test_the_loss_equals_a_plain_loops(rescaling, double, n_step, burn_in):
    changes = {"value_rescaling": rescaling, "double": double, "loss": "mse"}
    options = dataclasses.replace(SMALL, n_step=n_step, burn_in=burn_in, **changes)
    memory = filled(150, seed=n_step, num_envs=3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        online, target = (build_network((4,), 3, options) for _ in range(2))
    numbers = np.random.default_rng(2).integers(*memory._window(), size=20)
    envs = np.arange(20) % 3
    batch = memory.gather(numbers, envs, n_step=n_step, gamma=options.gamma)
    batch = dataclasses.replace(batch, state=tuple(part / 200 for part in batch.state))
    loss = make_sequence_loss(options)(online, target, batch)
    ids = list(zip((5 * numbers).tolist(), envs.tolist(), strict=True))
    values = [[values_by_steps(net, batch, row) for row in range(20)] for net in (online, target)]
    expected = plain_errors(memory, ids, *values, options)
    learnt = [set(map(int, np.flatnonzero(row[burn_in:]) + burn_in)) for row in batch.has_target]
    assert learnt == [set(errors) for errors in expected]
    assert {len(errors) for errors in expected} != {14 - burn_in - n_step}, "ends are needed"
    rows = [0.5 * sum(e * e for e in errors.values()) for errors in expected]
    np.testing.assert_allclose(loss.rows.detach(), rows, rtol=2e-4, atol=1e-5)
    priorities = [
        0.9 * max(sizes) + 0.1 * np.mean(sizes) if sizes else 0.0
        for sizes in ([abs(e) for e in errors.values()] for errors in expected)
    ]
    np.testing.assert_allclose(loss.errors, priorities, rtol=2e-4, atol=1e-5)


def test_no_gradient_flows_through_the_burn_in():
    memory = filled(60)
    online, target = (build_network((4,), 3, SMALL) for _ in range(2))
    batch = memory.gather(np.array([1, 4]), np.array([0, 1]), n_step=2, gamma=0.9)
    batch.observations.requires_grad_()
    make_sequence_loss(SMALL)(online, target, batch).rows.sum().backward()
    touched = batch.observations.grad.abs().sum(dim=(0, 2)) > 0
    assert not touched[: SMALL.burn_in].any() and touched[SMALL.burn_in]


def test_a_step_whose_n_steps_cross_a_cut_has_no_target():
    no, cut = np.zeros((1, 6), np.bool_), np.zeros((1, 6), np.bool_)
    cut[0, 2] = True
    ends = no.copy()
    ends[0, 5] = True
    rewards = np.arange(6, dtype=np.float32)[None]
    returns, discounts, has_target = n_step_windows(rewards, ends, cut, 2, 0.5)
    np.testing.assert_array_equal(has_target, [[True, False, False, True, True, True]])
    np.testing.assert_allclose(returns[has_target], [0.5, 3 + 2, 4 + 2.5, 5])
    np.testing.assert_allclose(discounts[has_target], [0.25, 0.25, 0, 0])


def test_a_sequence_without_targets_has_priority_and_loss_zero():
    errors, learnt = torch.ones(2, 3), torch.tensor([[False] * 3, [True, False, True]])
    np.testing.assert_allclose(sequence_errors(errors, learnt), [0.0, 1.0])


def test_soft_targets_are_refused():
    with pytest.raises(UsageError, match="sequences have no soft target"):
        make_sequence_loss(dataclasses.replace(SMALL, double=False, temperature=0.03))


def test_with_unchanged_weights_a_sequence_gives_the_values_that_acting_saw():
    agent = agent_of(Recall(4, 3, 9), num_envs=4, learning_starts=4_000)
    acted = []
    plain = agent._acting.values

    def watched(observations, *, noisy=False):
        acted.append(plain(observations, noisy=noisy))
        return acted[-1]

    agent._acting.values = watched
    agent.learn(4 * 120)
    memory = agent.replay
    first, end = memory._window()
    numbers = np.repeat(np.arange(first, end), 4)
    envs = np.tile(np.arange(4), end - first)
    batch = memory.gather(numbers, envs, n_step=1, gamma=0.9)
    assert any(part.abs().max() > 0.01 for part in batch.state)
    seen = torch.from_numpy(np.stack(acted))  # (time, env, action)
    times = torch.from_numpy(5 * numbers)[:, None] + torch.arange(14)
    expected = seen[times, torch.from_numpy(envs)[:, None]]
    network = agent.network
    with torch.no_grad():
        values, _ = network.unroll_values(batch.observations, batch.state, batch.starts)
        warm, starts = batch.observations[:, :6], batch.starts[:, :6]
        _, state = network.unroll(warm, batch.state, starts)
        rest, _ = network.unroll_values(batch.observations[:, 6:], state, batch.starts[:, 6:])
        anew, _ = network.unroll_values(batch.observations, None, batch.starts)
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rest, expected[:, 6:], rtol=1e-4, atol=1e-5)
    assert (anew - expected).abs().max() > 1e-3


def last_returns(agent: DQN, total: int) -> float:
    returns: deque[float] = deque(maxlen=200)
    for step in agent.steps(total):
        returns.extend(episode.episode_return for episode in step.record.episodes)
    return float(np.mean(returns))


def test_a_network_with_memory_recalls_a_cue_and_one_without_does_not():
    assert last_returns(agent_of(Recall(8)), 3_000) > 0.8
    without = agent_of(Recall(8), memory=None, sequence_length=0, burn_in=0, replay_ratio=2.0)
    assert abs(last_returns(without, 3_000)) < 0.3


def test_updates_replay_as_many_steps_with_a_target_as_the_ratio_says():
    agent = agent_of(Recall(8), replay_ratio=2.0)
    agent.learn(3_000)
    replayed = agent.num_updates * SMALL.batch_size * (14 - 2 - 2)
    assert replayed / (3_000 - SMALL.learning_starts) == pytest.approx(2.0, rel=0.08)


@pytest.mark.parametrize("prioritized", [False, True])
def test_going_on_with_sequences_equals_never_having_stopped(prioritized):
    changes = {"prioritized": prioritized, "buffer_size": 600, "epsilon_ladder": True}
    whole, first, second = (agent_of(Recall(8, 2, 7), seed, **changes) for seed in (0, 0, 99))
    whole.learn(1_208)
    first.learn(904)  # in the middle of games and of sequences
    second.set_state(first.get_state())
    second.learn(1_208)
    assert second.num_updates == whole.num_updates > 20
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    one, other = whole.replay.get_state(), second.replay.get_state()
    for part in ("replay", "states", *(["priorities"] if prioritized else [])):
        for name, value in one[part].items():
            np.testing.assert_array_equal(value, other[part][name], err_msg=name)
    with pytest.raises(ValueError, match="sequences of"):
        agent_of(Recall(8), sequence_stride=4).replay.set_state(one)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pixels_are_learnt_from_in_sequences(precision):
    changes = {"backbone": "nips2013", "backbone_options": "{}", "precision": precision}
    agent = agent_of(make_vec("catch", 4), num_envs=4, dueling=True, head_hidden=16, **changes)
    agent.learn(400)
    assert agent.num_updates >= 5
    assert np.isfinite(agent.q_values(agent.begin())).all()


@pytest.fixture
def uneven(monkeypatch) -> None:
    """Evaluation games of uneven length in place of the game that is named."""
    monkeypatch.setattr(
        evaluation, "make_stepper", lambda game, rows, options: EnvStepper(Recall(rows, 2, 9))
    )


def alone(agent: DQN, rows: int, quotas: list[int], seed: int) -> tuple[list, list]:
    """Returns and lengths of the same games, each environment's state kept by itself."""
    stepper = EnvStepper(Recall(rows, 2, 9))
    observations, played = stepper.reset(seed), [[] for _ in range(rows)]
    states: list = [None] * rows
    while any(len(done) < quota for done, quota in zip(played, quotas, strict=True)):
        actions = np.zeros(rows, np.int64)
        for row in range(rows):
            if len(played[row]) < quotas[row]:
                seen = torch.from_numpy(observations[row : row + 1])
                with torch.no_grad():
                    values, states[row] = agent.network.advance(seen, states[row])
                actions[row] = int(values.argmax())
        record = stepper.step(actions)
        observations = record.observations
        for row in np.flatnonzero(record.episode_over):
            states[row] = None
        for episode in record.episodes:
            if len(played[episode.env_index]) < quotas[episode.env_index]:
                played[episode.env_index].append((episode.episode_return, episode.length))
    return tuple(zip(*(one for done in played for one in done), strict=True))


def test_an_evaluation_equals_stepping_each_game_alone(uneven):
    agent = agent_of(Recall(8, 2, 9), num_envs=8)
    agent.learn(3_000)  # half learnt: what it does depends on what it remembers
    scored = evaluate_policy(
        start_playing(agent), "catch", episodes=23, num_envs=6, seed=5, epsilon=0.0
    )
    returns, lengths = alone(agent, 6, [4, 4, 4, 4, 4, 3], seed=5)
    assert scored.score.returns == returns and scored.lengths == lengths
    assert np.mean(returns) > 0.5

    def without(observations):
        return agent.q_values(observations).argmax(axis=1)

    played = evaluate_policy(without, "catch", episodes=23, num_envs=6, seed=5, epsilon=0.0)
    assert played.score.returns != returns, "a state that is not kept must show"


def test_an_agent_without_memory_is_scored_alike_by_its_player_and_its_values(uneven):
    agent = agent_of(Recall(8), memory=None, sequence_length=0, burn_in=0)

    def values(observations):
        return agent.q_values(observations).argmax(axis=1)

    one, other = (
        evaluate_policy(act, "catch", episodes=9, num_envs=4, seed=1, epsilon=0.2)
        for act in (start_playing(agent), values)
    )
    assert one == other


def test_predict_carries_the_state_as_sb3_does():
    agent = agent_of(Recall(8, 2, 9))
    agent.learn(800)
    stepper = EnvStepper(Recall(5, 2, 9))
    observations, state = stepper.reset(3), None
    starts = np.ones(5, np.bool_)
    player = agent.player()
    for _ in range(40):
        actions, state = agent.predict(observations, state, starts, deterministic=True)
        np.testing.assert_array_equal(actions, player.values(observations).argmax(axis=1))
        assert [part.shape for part in state] == [(1, 5, 32)] * 2
        for kept, part in zip(player.state, state, strict=True):
            np.testing.assert_array_equal(kept, part)
        record = stepper.step(actions)
        observations, starts = record.observations, record.episode_over
        player.end(starts)
    single, state = agent.predict(observations[0], deterministic=True)
    assert single.shape == () and state[0].shape == (1, 1, 32)


def test_predicting_changes_nothing_in_training():
    one, other = (agent_of(Recall(8, 2, 9)) for _ in range(2))
    for agent in (one, other):
        agent.learn(400)
    for _ in range(3):
        one.predict(one.begin()[:3], deterministic=True)
    one.learn(600)
    other.learn(600)
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name


@pytest.mark.parametrize("kind", list(Saliency))
def test_a_saliency_map_is_of_the_moment_and_does_not_disturb_it(kind):
    changes = {"backbone": "nips2013", "backbone_options": "{}", "num_envs": 1, "batch_size": 2}
    agent = agent_of(make_vec("catch", 1), buffer_size=100, learning_starts=100, **changes)
    player = agent.player()
    observations = agent.begin()
    first = saliency_map(kind, player.glance(), observations[0])
    for _ in range(3):
        player.values(observations)
    glance, state = player.glance(), player.state
    later = saliency_map(kind, glance, observations[0])
    assert later.max() > 0 and not np.allclose(first, later)
    assert player.state is state
    np.testing.assert_allclose(
        glance.q_values(observations), player.values(observations), rtol=1e-5, atol=1e-6
    )


def test_a_memory_that_reads_backwards_is_refused():
    with pytest.raises(UsageError, match="leave bidirectional out"):
        agent_of(Recall(8), memory_options='{"hidden": 8, "bidirectional": true}')
