"""Ours as a VecEnv of Stable-Baselines3, and its as ours: the same games on both sides."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor

from eightbit.envs import EnvStepper, SB3VecEnv, VectorEnvFromSB3, make_gym_vec, make_vec
from eightbit.envs.catch import CatchEnv
from eightbit.envs.options import EnvOptions
from eightbit.errors import UsageError

MODES = list(AutoresetMode)
CUT = EnvOptions(max_frames=7)  # a game of Catch takes 11 steps


def assert_same_steps(ours: Any, theirs: Any, steps: int, seed: int = 4) -> int:
    """Plays two VecEnvs with the same actions; returns how many games ended."""
    ours.seed(seed)
    theirs.seed(seed)
    rng = np.random.default_rng(0)
    first = ours.reset()
    assert np.array_equal(first, theirs.reset()) and first.dtype == ours.observation_space.dtype
    ended = 0
    for step in range(steps):
        actions = rng.integers(0, ours.action_space.n, ours.num_envs)
        mine, other = ours.step(actions), theirs.step(actions)
        for name, got, want in zip(("obs", "rewards", "dones"), mine, other, strict=False):
            assert np.array_equal(got, want) and got.dtype == want.dtype, (name, step)
        for info, known in zip(mine[3], other[3], strict=True):
            assert info["TimeLimit.truncated"] == known["TimeLimit.truncated"]
            assert ("terminal_observation" in info) == ("terminal_observation" in known)
            if "terminal_observation" in info:
                assert np.array_equal(info["terminal_observation"], known["terminal_observation"])
            assert ("episode" in info) == ("episode" in known)
            if "episode" in info:
                assert info["episode"]["r"] == known["episode"]["r"]
                assert info["episode"]["l"] == known["episode"]["l"]
                assert info["episode"]["t"] >= 0
                ended += 1
    ours.close()
    theirs.close()
    return ended


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [EnvOptions(), CUT])
def test_ours_gives_sb3_what_its_own_vec_env_gives(mode, options):
    ours = SB3VecEnv(make_vec("catch", 3, options=options, autoreset_mode=mode))
    theirs = DummyVecEnv([lambda: Monitor(CatchEnv(options))] * 3)
    assert assert_same_steps(ours, theirs, 40) >= 6


def test_a_gymnasium_vector_environment_becomes_a_vec_env_too():
    ours = SB3VecEnv(SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2))
    theirs = DummyVecEnv([lambda: Monitor(gymnasium.make("CartPole-v1"))] * 2)
    assert assert_same_steps(ours, theirs, 100) >= 4


@pytest.mark.parametrize("options", [EnvOptions(), CUT])
def test_a_vec_env_of_sb3_becomes_one_of_ours(options):
    ours = EnvStepper(VectorEnvFromSB3(DummyVecEnv([lambda: CatchEnv(options)] * 3)))
    plain = EnvStepper(make_vec("catch", 3, options=options))
    assert np.array_equal(ours.reset(4), plain.reset(4))
    rng = np.random.default_rng(1)
    ends = 0
    for _ in range(40):
        actions = rng.integers(0, 3, 3)
        got, want = ours.step(actions), plain.step(actions)
        names = ("actions", "rewards", "terminated", "truncated", "episode_over", "observations")
        for name in names:
            assert np.array_equal(getattr(got, name), getattr(want, name)), name
        assert got.episodes == want.episodes
        assert got.final_observations.keys() == want.final_observations.keys()
        for row, last in want.final_observations.items():
            assert np.array_equal(got.final_observations[row], last)
        ends += len(got.episodes)
    assert ends >= 6
    ours.close()


def test_there_and_back_again_nothing_is_lost():
    twice = SB3VecEnv(VectorEnvFromSB3(SB3VecEnv(make_vec("catch", 2, options=CUT))))
    assert assert_same_steps(twice, SB3VecEnv(make_vec("catch", 2, options=CUT)), 30) >= 6


def test_what_the_sb3_environment_says_at_an_end_stands_in_final_info():
    env = VectorEnvFromSB3(DummyVecEnv([lambda: Monitor(CatchEnv())] * 2))
    env.reset(seed=0)
    for _ in range(11):
        _, rewards, terminated, _, infos = env.step(np.zeros(2, np.int64))
    assert terminated.all() and infos["_final_info"].all()
    assert np.array_equal(infos["final_info"]["episode"]["r"], rewards)
    with pytest.raises(UsageError, match="reset all of them"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.close()


def test_a_lost_life_is_done_for_learning_but_no_episode():
    env = SB3VecEnv(make_vec("breakout", 1))
    env.seed(1)
    env.reset()
    dones = scored = 0
    for _ in range(260):
        observations, rewards, done, infos = env.step(np.array([1]))
        dones += int(done[0])
        scored += "episode" in infos[0]
        if done[0] and "episode" not in infos[0]:
            assert np.array_equal(infos[0]["terminal_observation"], observations[0])
            assert not infos[0]["TimeLimit.truncated"]
    assert scored >= 1 and 4 * scored <= dones - scored <= 4 * scored + 4
    env.close()


def test_sb3s_algorithms_learn_on_ours():
    for make in (
        lambda env: DQN("CnnPolicy", env, buffer_size=200, learning_starts=20, batch_size=4),
        lambda env: PPO("CnnPolicy", env, n_steps=8, batch_size=16, n_epochs=1),
    ):
        env = SB3VecEnv(make_vec("catch", 2))
        model = make(env)
        model.learn(48)
        assert model.num_timesteps >= 48 and model._n_updates > 0
        # Two games in each row have ended, and SB3 logs them from their infos.
        assert len(model.ep_info_buffer) == 4
        assert {episode["l"] for episode in model.ep_info_buffer} == {11}


def test_sb3s_evaluation_and_wrappers_take_ours_without_a_warning():
    env = VecFrameStack(SB3VecEnv(make_vec("catch", 2, frame_stack=1)), 4)
    assert env.observation_space.shape == (4, 84, 84)
    model = DQN("CnnPolicy", env, buffer_size=10, seed=0)
    rewards, lengths = evaluate_policy(model, env, n_eval_episodes=4, return_episode_rewards=True)
    assert lengths == [11] * 4 and set(rewards) <= {-1.0, 1.0}
    # `is wrapped by Monitor` is what keeps evaluate_policy from warning about altered rewards.
    evaluate_policy(model, SB3VecEnv(make_vec("catch", 1)), n_eval_episodes=1)


def test_cartpole_goes_through_both_adapters():
    env = SB3VecEnv(make_gym_vec("gym:CartPole-v1", 2))
    assert env.observation_space == gymnasium.make("CartPole-v1").observation_space
    PPO("MlpPolicy", env, n_steps=8, batch_size=16, n_epochs=1).learn(16)


def test_what_a_vec_env_of_one_piece_cannot_do_is_said():
    env = SB3VecEnv(make_vec("catch", 2))
    assert env.get_attr("options")[1].frame_skip == 1 and env.get_attr("render_mode", 0) == [None]
    assert env.env_is_wrapped(Monitor) == [True, True]
    assert env.env_is_wrapped(VecMonitor, [0]) == [False]
    with pytest.raises(UsageError, match="other options"):
        env.set_attr("options", None)
    with pytest.raises(UsageError, match="cannot be called"):
        env.env_method("reset")
    env.close()
