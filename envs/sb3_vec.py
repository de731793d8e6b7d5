"""Our environments as a Stable-Baselines3 `VecEnv`. Loading this module loads SB3, and so torch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from ..errors import UsageError
from .transitions import EnvStepper


class SB3VecEnv(VecEnv):
    """A vector environment as SB3's algorithms and `evaluate_policy` want it.

    `dones` is terminated or truncated, a lost life included while that counts for learning; then
    `terminal_observation` holds the last observation and `TimeLimit.truncated` whether only the
    time limit ended it. At the end of a game `infos[i]["episode"]` holds the raw return `r`, the
    length `l` in agent steps and the seconds `t` since the environment was made, as SB3's Monitor
    would, so that scores count games and not lives.

    Args:
        env: a Gymnasium vector environment with discrete actions, or its stepper.
    """

    def __init__(self, env: VectorEnv | EnvStepper):
        self.stepper = env if isinstance(env, EnvStepper) else EnvStepper(env)
        self._next_seed: int | None = None
        self._made_at = time.monotonic()
        super().__init__(
            self.stepper.num_envs,
            self.stepper.observation_space,
            Discrete(self.stepper.num_actions),
        )

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Sets the seed of the next reset: row i gets `seed + i`."""
        self._next_seed = seed
        return [None if seed is None else seed + row for row in range(self.num_envs)]

    def reset(self) -> np.ndarray:
        """Begins new games in all rows; returns the observations (num_envs, *obs)."""
        observations = self.stepper.reset(self._next_seed)
        self._next_seed = None
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Starts a step with (num_envs,) integer actions."""
        self.stepper.send(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Returns observations, rewards (float32, raw), dones (bool) and one info for each row."""
        record = self.stepper.recv()
        dones = record.terminated | record.truncated
        only_cut = record.truncated & ~record.terminated
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(cut)} for cut in only_cut]
        for row in np.flatnonzero(dones).tolist():
            last = record.final_observations.get(row)
            # After a lost life the game goes on: the last observation is the present one.
            infos[row]["terminal_observation"] = (
                record.observations[row].copy() if last is None else last
            )
        for episode in record.episodes:
            infos[episode.env_index]["episode"] = {
                "r": episode.episode_return,
                "l": episode.length,
                "t": round(time.monotonic() - self._made_at, 6),
            }
        return record.observations, record.rewards, dones, infos

    def close(self) -> None:
        """Closes the environment."""
        self.stepper.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Returns an attribute of the environment, once for each row asked for."""
        if attr_name == "render_mode":
            value: Any = None
        else:
            value = getattr(self.stepper.env.unwrapped, attr_name)
        return [value for _ in self._rows(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: the rows are one environment, whose options are fixed when it is made."""
        raise UsageError(f"{attr_name} cannot be set; make the environment with other options.")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refused: the rows are one environment and have no methods of their own."""
        raise UsageError(f"{method_name} cannot be called on single rows of this environment.")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """True for SB3's Monitor: the infos hold what it would write."""
        return [issubclass(Monitor, wrapper_class) for _ in self._rows(indices)]

    def _rows(self, indices: int | Iterable[int] | None) -> list[int]:
        if indices is None:
            return list(range(self.num_envs))
        return [indices] if isinstance(indices, int) else list(indices)
