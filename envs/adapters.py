"""Environments of other libraries as ours; the way back is in `sb3_vec`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ..errors import UnknownNameError, UsageError
from .ale import final_infos

GYM_PREFIX = "gym:"
"""Marks a name as an id of Gymnasium's registry: `gym:CartPole-v1`."""


def make_gym_vec(
    name: str,
    num_envs: int,
    *,
    autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    processes: bool = False,
    **kwargs: Any,
) -> VectorEnv:
    """Makes any registered environment with discrete actions as a vector environment.

    Args:
        name: an id of Gymnasium's registry, with or without `gym:` before it.
        num_envs: number of copies, 1 or more.
        autoreset_mode: when an environment whose episode has ended begins anew.
        processes: one process for each copy, for environments that are slow.
        **kwargs: arguments of the environment.

    Raises:
        UnknownNameError: the id is not registered.
        UsageError: it cannot be made, or its actions are not discrete.
    """
    env_id = name.removeprefix(GYM_PREFIX)
    if num_envs < 1:
        raise UsageError(f"num_envs is {num_envs}; give 1 or more.")
    try:
        env = gymnasium.make_vec(
            env_id,
            num_envs,
            vectorization_mode="async" if processes else "sync",
            vector_kwargs={"autoreset_mode": AutoresetMode(autoreset_mode)},
            **kwargs,
        )
    except gymnasium.error.UnregisteredEnv:
        raise UnknownNameError("Gymnasium environment", env_id, gymnasium.registry) from None
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        reason = str(error).rstrip(".")
        raise UsageError(f"{env_id} cannot be made: {reason}; mend that and try again.") from error
    if not isinstance(env.single_action_space, Discrete):
        space = env.single_action_space
        env.close()
        raise UsageError(f"{env_id} has actions {space}; choose one with discrete actions.")
    return env


class VectorEnvFromSB3(VectorEnv):
    """A Stable-Baselines3 `VecEnv` as a Gymnasium vector environment with SAME_STEP autoreset.

    `infos["final_obs"]` comes from SB3's `terminal_observation`, `truncated` from its
    `TimeLimit.truncated`. Rewards are what the `VecEnv` gives: leave clipping out of it.

    Args:
        venv: the SB3 environment.
    """

    returns_fresh_arrays = True

    def __init__(self, venv: Any):
        self.venv = venv
        self.num_envs = venv.num_envs
        self.autoreset_mode = AutoresetMode.SAME_STEP
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        self.single_observation_space = venv.observation_space
        self.single_action_space = venv.action_space
        self.observation_space = batch_space(venv.observation_space, self.num_envs)
        self.action_space = batch_space(venv.action_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins new episodes in all rows; row i gets `seed + i`.

        Raises:
            UsageError: a reset mask was given; SB3 has none.
        """
        if options is not None and options.get("reset_mask") is not None:
            raise UsageError("an SB3 VecEnv cannot reset some rows only; reset all of them.")
        if seed is not None:
            self.venv.seed(seed)
        return np.array(self.venv.reset()), {}

    def send(self, actions: np.ndarray) -> None:
        """Starts a step with `(num_envs,)` actions; returns at once where the backend can."""
        self.venv.step_async(np.asarray(actions))

    def recv(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Waits for the step that `send` started; returns what `step` returns."""
        observations, rewards, dones, rows = self.venv.step_wait()
        observations = np.array(observations)
        dones = np.array(dones, np.bool_)
        truncated = dones & np.array([bool(row.get("TimeLimit.truncated")) for row in rows])
        infos: dict[str, Any] = {}
        if dones.any():
            last = observations.copy()
            for index in np.flatnonzero(dones):
                last[index] = rows[index]["terminal_observation"]
            finals = final_infos(last, dones, np.zeros(self.num_envs, np.int64))
            infos = {key: finals[key] for key in ("final_obs", "_final_obs")}
            for index in np.flatnonzero(dones):
                kept = {k: v for k, v in rows[index].items() if k != "terminal_observation"}
                infos = self._add_info(infos, {"final_info": kept}, int(index))
        return observations, np.array(rewards, np.float32), dones & ~truncated, truncated, infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes `(num_envs,)` actions.

        Returns:
            observations, rewards (float32), terminated, truncated (bool), infos.
        """
        self.send(actions)
        return self.recv()

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the SB3 environment."""
        self.venv.close()
