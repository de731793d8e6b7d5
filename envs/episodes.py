"""Whole games for players outside the loop of reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from ..errors import UsageError

Act = Callable[[np.ndarray], np.ndarray]
"""Actions (num_envs,) of observations (num_envs, ...)."""


def play_once(games: VectorEnv, act: Act, seeds: Sequence[int], longest: int) -> np.ndarray:
    """Plays one game in every row, until all have ended.

    Args:
        games: with the autoreset mode NEXT_STEP or SAME_STEP, so that games which ended early do
            no harm; theirs that begin anew count for nothing.
        act: is called once a step, with the observations of all rows.
        seeds: of the rows.
        longest: steps at most.

    Returns:
        float64 (num_envs,), the sum of each game's rewards.

    Raises:
        UsageError: the mode is DISABLED.
    """
    if games.metadata.get("autoreset_mode") == AutoresetMode.DISABLED:
        raise UsageError("games of different length need another autoreset_mode than DISABLED.")
    # Gymnasium's signature leaves out what its vector environments take.
    observations, _ = games.reset(seed=list(seeds))  # type: ignore[arg-type]
    total = np.zeros(games.num_envs)
    playing = np.ones(games.num_envs, bool)
    for _ in range(longest):
        observations, rewards, terminated, truncated, _ = games.step(act(observations))
        total += np.where(playing, rewards, 0.0)
        playing &= ~(terminated | truncated)
        if not playing.any():
            break
    return total
