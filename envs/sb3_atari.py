"""The exact path for agents that Stable-Baselines3 trained: its preprocessing, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ..errors import UsageError
from .ale import check_actions, final_infos, refuse_ended, reset_mask, row_seeds
from .options import EnvOptions
from .single import AtariEnv


class Sb3AtariVectorEnv(VectorEnv):
    """`num_envs` games with the observations of Stable-Baselines3's `AtariWrapper`.

    Same contract as `AleVectorEnv`, without its speed: the games are stepped one after another.
    See `AtariEnv` for what SB3 does after a lost life.

    Args:
        game: canonical name in snake_case.
        num_envs: number of games, 1 or more.
        options: the semantics; `preprocessing` must be sb3.
        autoreset_mode: when a game that has ended begins anew.
    """

    returns_fresh_arrays = True

    def __init__(
        self,
        game: str,
        num_envs: int,
        options: EnvOptions,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    ):
        if num_envs < 1:
            raise UsageError(f"num_envs is {num_envs}; give 1 or more.")
        self.game = game
        self.options = options
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        self._envs = [AtariEnv(game, options) for _ in range(num_envs)]
        self.single_observation_space = self._envs[0].observation_space
        self.single_action_space = self._envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observations = np.zeros(self.observation_space.shape or (), np.uint8)
        self._rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
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
        mask = reset_mask(options, self.num_envs)
        if not (mask.all() or all(self._rows)):
            raise UsageError("reset all environments once before a reset with a mask.")
        seeds = row_seeds(seed, self.num_envs)
        for row in np.flatnonzero(mask).tolist():
            self._begin(row, int(seeds[row]) if seeds[row] >= 0 else None)
        self._ended = self._ended & ~mask
        return self._observations.copy(), self._infos(mask)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes `(num_envs,)` integer actions.

        Returns:
            observations, rewards (float32, raw), terminated, truncated (bool), infos.
        """
        given = check_actions(actions, self.num_envs, int(self.single_action_space.n))  # type: ignore[attr-defined]  # Discrete
        refuse_ended(self.autoreset_mode, self._ended)
        rewards = np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        for row, env in enumerate(self._envs):
            if self._ended[row]:
                self._begin(row, None)
                continue
            result = env.step(int(given[row]))
            self._observations[row], rewards[row], terminated[row], truncated[row] = result[:4]
            self._rows[row] = result[4]
        ended = terminated | truncated
        infos = self._infos(np.ones(self.num_envs, np.bool_))
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            finals = final_infos(self._observations, ended, given)
            for row in np.flatnonzero(ended).tolist():
                self._begin(row, None)
            kept = {name: infos[name] for name in ("life_lost", "executed_action")}
            infos = self._infos(np.ones(self.num_envs, np.bool_)) | kept | finals
        else:
            self._ended = ended
        return self._observations.copy(), rewards, terminated, truncated, infos

    def _begin(self, row: int, seed: int | None) -> None:
        self._observations[row], self._rows[row] = self._envs[row].reset(seed=seed)

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        infos = {name: np.array([row[name] for row in self._rows]) for name in self._rows[0]}
        return {**infos, **{f"_{name}": mask.copy() for name in infos}}
