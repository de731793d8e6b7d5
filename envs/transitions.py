"""One transition record for every environment, made by one adapter per autoreset mode.

Gymnasium's vector environments begin a new episode in three ways (on the next step, on the same
step, or when told), and each hides the last observation elsewhere. Learners and evaluation step
an `EnvStepper` and see none of this: every row of every record is a real transition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Dict, Discrete, Space, Tuple
from gymnasium.vector import AutoresetMode, VectorEnv

from ..errors import EightBitError, UsageError
from .options import EnvOptions


@dataclass(frozen=True)
class Episode:
    """One finished game."""

    env_index: int
    """Row of the environment in which it was played."""
    episode_return: float
    """Sum of raw rewards."""
    length: int
    """Agent steps."""
    truncated: bool
    """Cut by the time limit."""


@dataclass(frozen=True)
class StepRecord:
    """What one vector step did, the same for every autoreset mode and backend; n rows."""

    actions: np.ndarray
    """(n,) int64, the actions that were executed (FIRE after a life replaces the given one)."""
    rewards: np.ndarray
    """(n,) float32, raw."""
    terminated: np.ndarray
    """(n,) bool, game over, or a life lost while that counts for learning: no bootstrap."""
    truncated: np.ndarray
    """(n,) bool, cut by the time limit: bootstrap from `final_observations`."""
    episode_over: np.ndarray
    """(n,) bool, the game ended and began anew: score, length and video follow only this."""
    observations: np.ndarray
    """(n, *obs), what to act on next; after an end the first observation of the new game."""
    final_observations: dict[int, np.ndarray]
    """Row to the last observation (*obs) of the game that ended there; no other rows."""
    episodes: tuple[Episode, ...]
    """The games that ended on this step."""


class EnvStepper:
    """Steps a vector environment of any autoreset mode; learners and evaluation use only this.

    Attributes:
        num_envs: number of rows.
        num_actions: number of discrete actions.
        observation_space: space of one observation.
        frames_per_step: emulator frames of one step; 1 outside Atari.
        frame_stack: above 1, an observation is a stack of so many screens, newest last.
        can_restore: whether `get_state` and `set_state` work.

    Args:
        env: any Gymnasium vector environment with discrete actions. A lost life that it reports
            in `infos["life_lost"]` ends an episode for learning if its `EnvOptions` say so.

    Raises:
        UsageError: the actions are not discrete, an observation is not one array, or the autoreset
            mode is not stated.
    """

    def __init__(self, env: VectorEnv):
        space = env.single_action_space
        if not isinstance(space, Discrete):
            raise UsageError(f"actions must be discrete, but the environment has {space}.")
        if isinstance(env.single_observation_space, Dict | Tuple):
            raise UsageError(
                f"observations must be one array each, but the environment has "
                f"{env.single_observation_space}; flatten them with Gymnasium's wrapper."
            )
        if "autoreset_mode" not in env.metadata:
            raise UsageError('env.metadata has no "autoreset_mode"; set it to an AutoresetMode.')
        self.env = env
        self.num_envs: int = env.num_envs
        self.num_actions = int(space.n)
        self.observation_space: Space[Any] = env.single_observation_space
        self._first_action = int(space.start)
        self._mode = AutoresetMode(env.metadata["autoreset_mode"])
        options = getattr(env.unwrapped, "options", None)
        known = options if isinstance(options, EnvOptions) else None
        self.frames_per_step = known.frame_skip if known else 1
        self.frame_stack = known.frame_stack if known else 1
        self._life_loss = known is not None and known.life_loss
        self._copy = not getattr(type(env), "returns_fresh_arrays", False)
        if hasattr(type(env), "send"):
            self._start, self._finish = env.send, env.recv  # type: ignore[attr-defined]  # ours
        elif hasattr(type(env), "step_async"):
            self._start, self._finish = env.step_async, env.step_wait  # type: ignore[attr-defined]  # AsyncVectorEnv
        else:
            self._start = self._finish = None
        self._sent: np.ndarray | None = None
        self._returns = np.zeros(self.num_envs, np.float64)
        self._lengths = np.zeros(self.num_envs, np.int64)

    @property
    def can_restore(self) -> bool:
        """Whether the environment can be put back into an earlier state."""
        inner = self.env.unwrapped
        return hasattr(inner, "get_state") and hasattr(inner, "set_state")

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Begins new games in all rows; returns the first observations (n, *obs)."""
        if self._sent is not None:
            self.recv()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        observations, _ = self.env.reset(seed=seed)
        return self._own(observations)

    def send(self, actions: np.ndarray) -> None:
        """Starts a step with (n,) integer actions; returns at once where the backend can."""
        if self._sent is not None:
            raise UsageError("send() twice without recv() between; call recv() first.")
        sent = np.array(actions, dtype=np.int64)
        if sent.shape != (self.num_envs,):
            raise UsageError(f"actions have shape {sent.shape}; give ({self.num_envs},).")
        if self._start is not None:
            self._start(sent + self._first_action)
        self._sent = sent

    def recv(self) -> StepRecord:
        """Waits for the step that `send` started and returns what it did."""
        if self._sent is None:
            raise UsageError("recv() without send(); call send(actions) first.")
        sent, self._sent = self._sent, None
        if self._finish is not None:
            result = self._finish()
        else:
            result = self.env.step(sent + self._first_action)
        observations, rewards, terminated, truncated, infos = result
        observations = self._own(observations)
        rewards = np.array(rewards, np.float32)
        truncated = np.array(truncated, np.bool_)
        terminated = np.array(terminated, np.bool_)
        over = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        finals: dict[int, np.ndarray] = {}
        episodes: tuple[Episode, ...] = ()
        if over.any():
            rows = np.flatnonzero(over).tolist()
            observations, finals = self._begin_anew(observations, over, rows, infos)
            episodes = self._finish_episodes(rows, truncated)
        if self._life_loss and "life_lost" in infos:
            terminated |= infos["life_lost"]
        executed = infos.get("executed_action")
        return StepRecord(
            actions=sent if executed is None else executed - self._first_action,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            episode_over=over,
            observations=observations,
            final_observations=finals,
            episodes=episodes,
        )

    def step(self, actions: np.ndarray) -> StepRecord:
        """Takes (n,) integer actions: `send`, then `recv`."""
        self.send(actions)
        return self.recv()

    def get_state(self) -> dict[str, Any]:
        """Returns all that the future depends on, as nested dicts of arrays and numbers.

        Raises:
            EightBitError: the environment cannot be restored, or a step is under way.
        """
        if not self.can_restore:
            raise EightBitError(
                "this environment cannot be restored; reset it, which begins new episodes."
            )
        if self._sent is not None:
            raise EightBitError("get_state() while a step is under way; call recv() first.")
        inner: Any = self.env.unwrapped
        return {
            "env": inner.get_state(),
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Puts back what `get_state` returned; returns the observations (n, *obs) to act on."""
        if not self.can_restore:
            raise EightBitError(
                "this environment cannot be restored; reset it, which begins new episodes."
            )
        if self._sent is not None:
            self.recv()
        inner: Any = self.env.unwrapped
        observations = inner.set_state(state["env"])
        self._returns = np.array(state["returns"], np.float64)
        self._lengths = np.array(state["lengths"], np.int64)
        return self._own(observations)

    def close(self) -> None:
        """Closes the environment."""
        if self._sent is not None and self._finish is not None:
            self._finish()
        self._sent = None
        self.env.close()

    def _own(self, observations: np.ndarray) -> np.ndarray:
        return np.array(observations) if self._copy else observations

    def _begin_anew(
        self, observations: np.ndarray, over: np.ndarray, rows: list[int], infos: dict[str, Any]
    ) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Returns the observations to act on and the last ones of the games that ended."""
        if self._mode == AutoresetMode.SAME_STEP:
            return observations, {row: np.array(infos["final_obs"][row]) for row in rows}
        finals = {row: observations[row].copy() for row in rows}
        # With NEXT_STEP too: a reset by mask takes the place of the step that would be spent.
        observations, _ = self.env.reset(options={"reset_mask": over.copy()})
        return self._own(observations), finals

    def _finish_episodes(self, rows: list[int], truncated: np.ndarray) -> tuple[Episode, ...]:
        episodes = tuple(
            Episode(row, float(self._returns[row]), int(self._lengths[row]), bool(truncated[row]))
            for row in rows
        )
        self._returns[rows] = 0.0
        self._lengths[rows] = 0
        return episodes
