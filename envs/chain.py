"""Chain: a row of places whose best values are known exactly, for checking what agents learn.

A game begins at any place. A step goes left or right; beyond the right end lies reward 1, beyond
the left end reward 0.7, and either ends the game. Any other step is cut off with a chance that does
not depend on the place, as a time limit would: no value may be lost by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ..errors import UsageError
from .ale import check_actions, final_infos, refuse_ended, reset_rows

LEFT_REWARD = 0.7
RIGHT_REWARD = 1.0


class ChainVectorEnv(VectorEnv):
    """`num_envs` games of Chain in NumPy.

    Observations are `(num_envs, places)` float32, 1 at the place and 0 elsewhere; actions are 0
    (left) and 1 (right). Row i depends on its own seed and actions only.

    Args:
        num_envs: number of games, 1 or more.
        places: length of the row.
        cut: chance that a step which ends no game truncates it.
        autoreset_mode: when a game that has ended begins anew.
    """

    returns_fresh_arrays = True

    def __init__(
        self,
        num_envs: int,
        places: int = 6,
        cut: float = 0.1,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    ):
        if num_envs < 1 or places < 1:
            raise UsageError(f"num_envs is {num_envs} and places {places}; give 1 or more.")
        if not 0 <= cut < 1:
            raise UsageError(f"cut is {cut}; it must be at least 0 and below 1.")
        self.num_envs, self.places, self.cut = num_envs, places, cut
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        self.single_observation_space = Box(0.0, 1.0, (places,), np.float32)
        self.single_action_space = Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._random: list[np.random.Generator] = []
        self._place = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | list[int | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins new games in all rows, or in those of `options["reset_mask"]` (bool).

        Args:
            seed: row i gets `seed + i`; a list holds one for each row, None to go on as it is.
            options: `{"reset_mask": (num_envs,) bool}` leaves the other rows as they are.
        """
        mask, seeds = reset_rows(seed, options, self.num_envs, bool(self._random))
        kept = self._random or [np.random.default_rng() for _ in range(self.num_envs)]
        self._random = [
            np.random.default_rng(int(given)) if begins and given >= 0 else generator
            for given, begins, generator in zip(seeds, mask, kept, strict=True)
        ]
        self._begin(mask)
        return self._observations(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes `(num_envs,)` integer actions.

        Returns:
            observations, rewards (float32), terminated, truncated (bool), infos.
        """
        if not self._random:
            raise UsageError("step before reset(); call reset() first.")
        refuse_ended(self.autoreset_mode, self._ended)
        given = check_actions(actions, self.num_envs, 2)
        # With NEXT_STEP a game that has ended spends this step on its reset.
        resetting = self._ended
        playing = ~resetting
        moved = self._place + np.where(given == 1, 1, -1)
        left, right = playing & (moved < 0), playing & (moved >= self.places)
        terminated = left | right
        self._place = np.where(playing & ~terminated, moved, self._place)
        lots = [
            generator.random() if plays else 1.0
            for generator, plays in zip(self._random, playing, strict=True)
        ]
        truncated = playing & ~terminated & (np.array(lots) < self.cut)
        rewards = np.float32(RIGHT_REWARD) * right + np.float32(LEFT_REWARD) * left
        self._ended = terminated | truncated
        infos: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            infos = final_infos(self._observations(), self._ended, given)
            self._begin(self._ended)
        elif resetting.any():
            self._begin(resetting)
        return self._observations(), rewards.astype(np.float32), terminated, truncated, infos

    def _begin(self, mask: np.ndarray) -> None:
        for row in np.flatnonzero(mask):
            self._place[row] = self._random[row].integers(self.places)
        self._ended = self._ended & ~mask

    def _observations(self) -> np.ndarray:
        return np.eye(self.places, dtype=np.float32)[self._place]

    def places_now(self) -> np.ndarray:
        """(num_envs,) int64, where each game stands."""
        return self._place.copy()
