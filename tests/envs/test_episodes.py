"""Whole games of all rows at once."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from eightbit.envs.catch import CatchVectorEnv
from eightbit.envs.episodes import play_once
from eightbit.envs.options import EnvOptions
from eightbit.errors import UsageError


def _follow(seen: np.ndarray) -> np.ndarray:
    """Moves below the ball, on screens (N, 1, 24, 24) of two pixels a cell."""
    cells = seen[:, -1, ::2, ::2]
    ball = (cells == 255).any(1).argmax(1)
    paddle = (cells[:, -1] == 160).argmax(1)
    return np.where(ball < paddle, 1, np.where(ball > paddle + 1, 2, 0))


def _games(mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> CatchVectorEnv:
    options = EnvOptions(screen_size=24, frame_stack=1, sticky=0.0)
    return CatchVectorEnv(60, options, mode)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_each_row_is_one_game(mode):
    seeds = list(range(60))
    assert (play_once(_games(mode), _follow, seeds, 100) == 1).all()
    still = play_once(_games(mode), lambda seen: np.zeros(len(seen), np.int64), seeds, 100)
    assert set(still) == {-1.0, 1.0} and (still < 0).mean() > 0.6
    again = play_once(_games(mode), lambda seen: np.zeros(len(seen), np.int64), seeds, 100)
    assert np.array_equal(still, again)


def test_it_ends_after_the_longest_and_refuses_a_mode():
    assert (play_once(_games(), _follow, list(range(60)), 10) == 0).all()  # 11 steps are a game
    with pytest.raises(UsageError, match="another autoreset_mode"):
        play_once(_games(AutoresetMode.DISABLED), _follow, list(range(60)), 11)
