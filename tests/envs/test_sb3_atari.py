"""`preprocessing="sb3"` is what Stable-Baselines3 shows its agents, pixel by pixel."""

from __future__ import annotations

from typing import Any

import ale_py
import gymnasium
import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

from eightbit.envs import SB3VecEnv, game_facts, list_games, make_vec
from eightbit.envs.single import AtariEnv

gymnasium.register_envs(ale_py)
FAST = ["breakout", "robotank"]


def no_frameskip(game: str) -> str:
    return f"{game_facts(game).id}NoFrameskip-v4"


# The games that have the id that SB3 trains on.
GAMES = [name for name in list_games() if no_frameskip(name) in gymnasium.registry]
SLOW = [pytest.param(game, marks=pytest.mark.long) for game in GAMES if game not in FAST]


def theirs(game: str, count: int, seed: int, wrapper_kwargs: dict[str, Any] | None = None) -> Any:
    wrapper = {"clip_reward": False, **(wrapper_kwargs or {})}
    venv = make_atari_env(no_frameskip(game), count, seed=seed, wrapper_kwargs=wrapper)
    return VecTransposeImage(VecFrameStack(venv, 4))


def play_both(game: str, steps: int, seed: int, **options: Any) -> tuple[int, int]:
    """Compares every step; returns how many lives and how many games ended."""
    sb3 = theirs(game, 1, seed, {"terminal_on_life_loss": options.get("life_loss", True)})
    env = make_vec(game, 1, protocol="zoo", preprocessing="sb3", **options)
    ours = SB3VecEnv(env)
    ours.seed(seed)
    assert np.array_equal(ours.reset(), sb3.reset())
    rng = np.random.default_rng(seed)
    lives = games = 0
    for step in range(steps):
        action = rng.integers(0, ours.action_space.n, 1)
        mine, other = ours.step(action), sb3.step(action)
        where = f"{game}, step {step}"
        assert mine[2] == other[2], where
        assert np.array_equal(mine[0], other[0]), where
        # After a lost life SB3 plays some steps unseen; their rewards are lost to its agent.
        if not mine[2]:
            assert mine[1] == other[1], where
        if mine[2]:
            lives += 1
            assert mine[3][0]["TimeLimit.truncated"] == other[3][0]["TimeLimit.truncated"]
        assert ("episode" in mine[3][0]) == ("episode" in other[3][0]), where
        if "episode" in mine[3][0]:
            games += 1
            assert mine[3][0]["episode"]["r"] == other[3][0]["episode"]["r"], where
    ours.close()
    sb3.close()
    return lives, games


@pytest.mark.parametrize("game", [*FAST, *SLOW])
def test_observations_rewards_and_scores_equal_sb3s_wrappers(game):
    lives, games = play_both(game, 260 if game == "breakout" else 120, seed=3)
    assert game != "breakout" or (lives > games >= 1)


@pytest.mark.parametrize("game", [pytest.param(game, marks=pytest.mark.long) for game in FAST])
def test_without_the_signal_of_lost_lives_they_are_equal_too(game):
    play_both(game, 400, seed=5, life_loss=False)


def test_the_other_preprocessing_differs_where_colours_flicker():
    """The control of the comparison: the pictures of `ale` are not those of SB3."""
    ours, other = (AtariEnv("robotank", preprocessing=kind, noop_max=0) for kind in ("ale", "sb3"))
    ours.reset(seed=0)
    other.reset(seed=0)
    assert any(not np.array_equal(ours.step(2)[0][-1], other.step(2)[0][-1]) for _ in range(20))


def test_an_agent_of_sb3_scores_the_same_in_both():
    sb3 = theirs("breakout", 1, seed=11)
    ours = SB3VecEnv(make_vec("breakout", 1, protocol="zoo", preprocessing="sb3"))
    model = DQN("CnnPolicy", sb3, buffer_size=1, device="cpu")
    model.exploration_rate = 0.8  # a network without training scores by chance only
    scores = []
    for env in (sb3, ours):
        model.set_random_seed(2)
        env.seed(11)
        scores.append(evaluate_policy(model, env, n_eval_episodes=1, deterministic=False))
        env.close()
    assert scores[0] == scores[1] and scores[0][0] > 0


def test_the_wrapper_compared_with_is_the_one_of_sb3():
    env = theirs("breakout", 1, seed=0)
    assert env.env_is_wrapped(AtariWrapper) == [True]
    env.close()
