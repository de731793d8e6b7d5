"""Evaluation episodes: whole games, raw returns, no bias to short games, and the controls."""

from dataclasses import replace

import ale_py
import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from eightbit.envs.options import EnvOptions, Protocol
from eightbit.envs.transitions import EnvStepper
from eightbit.errors import UsageError
from eightbit.evaluate import evaluation
from eightbit.evaluate.evaluation import (
    action_names,
    best_constant_action,
    evaluate_policy,
    evaluation_options,
    random_play,
)


def always(action):
    return lambda observations: np.full(len(observations), action)


class Stretch(gymnasium.Env):
    """An episode is 2 steps with return 0, or 30 steps with return 1, at even odds."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.long = bool(self.np_random.integers(2))
        self.left = 30 if self.long else 2
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        over = self.left == 0
        return np.zeros(1, np.float32), float(over and self.long), over, False, {}


def use_environment(monkeypatch, environment):
    def make(game, num_envs, options):
        return EnvStepper(SyncVectorEnv([environment] * num_envs))

    monkeypatch.setattr(evaluation, "make_stepper", make)


@pytest.mark.parametrize("num_envs", [None, 20])
def test_short_episodes_are_not_counted_more_often(monkeypatch, num_envs):
    use_environment(monkeypatch, Stretch)
    played = evaluate_policy(always(0), "gym:Stretch", episodes=400, num_envs=num_envs, epsilon=0.0)
    # Counting the first 400 episodes to end in 20 environments would give about 0.06 + 0.44.
    assert played.score.mean == pytest.approx(0.5, abs=0.08)
    assert len(played.score.returns) == len(played.lengths) == 400
    assert set(played.lengths) == {2, 30}


def test_the_policy_sees_only_rows_that_still_play(monkeypatch):
    use_environment(monkeypatch, Stretch)
    seen = []

    def act(observations):
        seen.append(len(observations))
        return np.zeros(len(observations), np.int64)

    played = evaluate_policy(act, "gym:Stretch", episodes=10, epsilon=0.0)
    assert len(seen) == max(played.lengths)
    assert seen[0] == 10 and seen[2] == played.lengths.count(30)


def test_epsilon_is_the_share_of_random_actions(monkeypatch):
    counts = np.zeros(2)

    class Counting(Stretch):
        def step(self, action):
            counts[action] += 1
            return super().step(action)

    monkeypatch.setattr(
        evaluation,
        "make_stepper",
        lambda game, n, options: EnvStepper(SyncVectorEnv([Counting] * n)),
    )
    evaluate_policy(always(1), "gym:Stretch", episodes=200, epsilon=0.5)
    assert counts[0] / counts.sum() == pytest.approx(0.25, abs=0.03)


def test_same_seed_same_returns_and_another_seed_other_games():
    short = EnvOptions(life_loss=False, max_frames=800)
    first, again, other = (
        random_play("breakout", episodes=2, seed=seed, options=short) for seed in (3, 3, 100)
    )
    assert first.score == again.score and first.lengths == again.lengths
    assert (first.score.returns, first.lengths) != (other.score.returns, other.lengths)


@pytest.mark.long
@pytest.mark.parametrize(("game", "most"), [("pong", 0.03), ("breakout", 0.03), ("boxing", 0.2)])
def test_random_play_scores_as_published(game, most):
    played = random_play(game, episodes=30, seed=0)
    assert played.score.game == game and played.epsilon == 1.0
    assert abs(played.score.human_normalised) < most


def steps_of_first_life(game, action):
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(ale_py.roms.get_rom_path(game))
    lives = ale.lives()
    while ale.lives() == lives:
        ale.act(action)
    return ale.getEpisodeFrameNumber() // 4


def test_a_game_is_played_through_all_its_lives():
    fire = 1  # serves every ball and loses it
    played = evaluate_policy(always(fire), "breakout", episodes=2, seed=0, epsilon=0.0)
    assert not played.options.life_loss
    assert min(played.lengths) > 3 * steps_of_first_life("breakout", fire)


def test_protocol_fields_cannot_be_changed_under_its_name():
    with pytest.raises(UsageError, match="protocol mnih2015 fixes sticky"):
        evaluation_options(Protocol.MNIH2015, sticky=0.25)
    assert evaluation_options(Protocol.MNIH2015, frame_stack=2).frame_stack == 2


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="at least one episode"):
        evaluate_policy(always(0), "pong", episodes=0)
    with pytest.raises(UsageError, match="from 0 to 1"):
        evaluate_policy(always(0), "pong", epsilon=1.5)


def test_the_best_constant_action_is_found_and_named():
    options = replace(evaluation_options(Protocol.MNIH2015), max_frames=700)
    played = best_constant_action("freeway", episodes=2, trial_episodes=1, options=options)
    assert played.player == "always UP"
    assert played.score.mean > 0 and len(played.score.returns) == 2


@pytest.mark.parametrize("game", ["pong", "breakout", "boxing"])
@pytest.mark.parametrize("full", [False, True])
def test_action_names_are_those_of_ale(game, full):
    ale = ale_py.ALEInterface()
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale.loadROM(ale_py.roms.get_rom_path(game))
    actions = ale.getLegalActionSet() if full else ale.getMinimalActionSet()
    names = action_names(game, EnvOptions(full_action_set=full), len(actions))
    assert names == [action.name for action in actions]


def test_actions_of_other_environments_are_numbered():
    assert action_names("gym:CartPole-v1", EnvOptions(), 2) == ["action 0", "action 1"]
