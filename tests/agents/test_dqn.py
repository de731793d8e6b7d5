"""DQN learns, repeats itself from its seed, goes on where it stopped, and refuses bad input."""

from __future__ import annotations

import dataclasses
from collections import deque

import numpy as np
import pytest
import torch

from eightbit.agents import AGENTS, DQN, DQNOptions
from eightbit.agents.presets import DQN_PRESETS
from eightbit.envs.adapters import make_gym_vec
from eightbit.envs.vector import make_vec
from eightbit.errors import UsageError, WeightsError

SMALL = DQNOptions(
    backbone="nips2013",
    num_envs=8,
    buffer_size=10_000,
    learning_starts=500,
    batch_size=32,
    replay_ratio=4.0,
    learning_rate=1e-3,
    target_update=400,
    epsilon_steps=3_000,
    epsilon_final=0.02,
    n_step=3,
)


def catch(options: DQNOptions = SMALL, seed: int = 0) -> DQN:
    return DQN(make_vec("catch", options.num_envs), options, seed=seed, device="cpu")


def recent_return(agent: DQN, total: int, window: int = 50) -> float:
    returns: deque[float] = deque(maxlen=window)
    for step in agent.steps(total):
        returns.extend(episode.episode_return for episode in step.record.episodes)
    return float(np.mean(returns))


def test_dqn_learns_catch_from_pixels():
    agent = catch()
    before = recent_return(agent, 600)
    after = recent_return(agent, 7_000)
    assert before < 0.0
    assert after > 0.7


@pytest.mark.long
def test_dqn_balances_cartpole_to_475():
    options = DQN_PRESETS["vector"]
    env = make_gym_vec("gym:CartPole-v1", options.num_envs)
    agent = DQN(env, options, seed=1, device="cpu")
    returns: deque[float] = deque(maxlen=100)
    best = 0.0
    for step in agent.steps(120_000):
        returns.extend(e.episode_return for e in step.record.episodes)
        if len(returns) == 100:
            best = max(best, float(np.mean(returns)))
        if best >= 475:
            break
    assert best >= 475


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    def weights(seed: int) -> torch.Tensor:
        agent = catch(dataclasses.replace(SMALL, precision="fp32"), seed)
        agent.learn(1_200)
        return torch.cat([p.detach().flatten() for p in agent.network.parameters()])

    one, same, other = weights(0), weights(0), weights(1)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_going_on_from_a_state_equals_never_having_stopped(precision):
    options = dataclasses.replace(SMALL, precision=precision, dueling=True)
    whole = catch(options)
    whole.learn(1_600)
    first = catch(options)
    first.learn(1_000)
    second = catch(options, seed=99)
    second.set_state(first.get_state())
    second.learn(1_600)
    assert second.num_updates == whole.num_updates > 20
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    kept = whole.replay.get_state()
    for name, value in second.replay.get_state().items():
        np.testing.assert_array_equal(value, kept[name], err_msg=name)


def test_without_its_memory_an_agent_refills_it_before_it_learns():
    first = catch()
    first.learn(1_000)
    second = catch()
    second.set_state(first.get_state(replay=False))
    updates = second.num_updates
    for step in second.steps(1_000 + SMALL.learning_starts - SMALL.num_envs):
        assert step.losses is None
    assert second.num_updates == updates
    second.learn(1_000 + SMALL.learning_starts + 100)
    assert second.num_updates > updates


@pytest.mark.parametrize("num_envs", [1, 4, 16])
def test_the_replay_ratio_does_not_depend_on_the_number_of_environments(num_envs):
    options = dataclasses.replace(SMALL, num_envs=num_envs, replay_ratio=2.0)
    agent = catch(options)
    agent.learn(1_600)
    replayed = agent.num_updates * options.batch_size
    steps = agent.num_timesteps - options.learning_starts
    assert replayed / steps == pytest.approx(2.0, rel=0.08)


def test_save_and_load_keep_every_value(tmp_path):
    agent = catch(dataclasses.replace(SMALL, dueling=True))
    agent.learn(700)
    agent.save(tmp_path / "model.safetensors")
    loaded = DQN.load(tmp_path / "model.safetensors", device="cpu")
    assert loaded.precision == agent.precision == agent.options.precision
    observations = agent.begin()
    np.testing.assert_array_equal(loaded.q_values(observations), agent.q_values(observations))
    actions, state = loaded.predict(observations, deterministic=True)
    assert state is None
    np.testing.assert_array_equal(actions, agent.q_values(observations).argmax(axis=1))
    single, _ = loaded.predict(observations[0], deterministic=True)
    assert single.shape == ()
    with pytest.raises(UsageError, match="no environment"):
        loaded.learn(10)


def test_files_that_are_not_agents_are_refused(tmp_path):
    cases = {
        "missing.safetensors": None,
        "text.safetensors": b"hello",
        "pickle.safetensors": b"\x80\x04\x95",
    }
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=name):
            DQN.load(tmp_path / name)


def test_a_callback_that_returns_false_stops_learning():
    agent = catch()
    agent.learn(5_000, callback=lambda step: step.num_timesteps < 80)
    assert agent.num_timesteps == 80


def test_lost_lives_end_the_bootstrap_but_not_the_game():
    options = dataclasses.replace(SMALL, learning_starts=9_000)
    agent = DQN(make_vec("breakout", 8), options, device="cpu")
    lives_lost = games = 0
    for step in agent.steps(4_000):
        lives_lost += int((step.record.terminated & ~step.record.episode_over).sum())
        games += len(step.record.episodes)
    assert games > 3
    assert lives_lost == pytest.approx(4 * games, abs=4 * 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_step": 0}, "n_step is 0; it must be at least 1"),
        ({"gamma": 1.5}, "gamma is 1.5; it must lie between 0 and 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        ({"replay_ratio": float("nan")}, "replay_ratio is nan; it must be above 0"),
        ({"learning_starts": 20_000}, "exceeds buffer_size"),
        ({"backbone_options": "{width: 2}"}, "is not JSON"),
        ({"backbone_options": "[1]"}, "must be a JSON object"),
        ({"backbone": "natur"}, "did you mean nature"),
    ],
)
def test_bad_options_are_refused_with_a_sentence(change, message):
    with pytest.raises(UsageError, match=message):
        catch(dataclasses.replace(SMALL, **change))


def test_every_preset_is_listed_and_explained():
    for name in AGENTS:
        spec = AGENTS[name]
        assert spec.description
        assert spec.default_preset((4, 84, 84)) in spec.presets
