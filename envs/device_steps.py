"""Transition records of environments whose arrays are torch tensors: nothing goes to the host.

`EnvStepper` looks at each step's ends on the host, which would have it wait for a GPU at every
step. A `DeviceStepper` decides nothing there: scores and lengths are counted on the device, and
what became of finished games is fetched in one copy for many steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Discrete, Space
from gymnasium.vector import AutoresetMode, VectorEnv

from ..errors import EightBitError, UsageError
from .options import EnvOptions
from .transitions import EnvStepper, Episode

if TYPE_CHECKING:
    import torch

FETCH_EVERY = 64
"""Steps of all environments between two looks at finished games."""


@dataclass(frozen=True)
class DeviceRecord:
    """What one vector step did; a `StepRecord` in tensors on the device, n rows."""

    actions: torch.Tensor
    """(n,) int64, the actions that were executed."""
    rewards: torch.Tensor
    """(n,) float32, raw."""
    terminated: torch.Tensor
    """(n,) bool, game over, or a life lost while that counts for learning: no bootstrap."""
    truncated: torch.Tensor
    """(n,) bool, cut by the time limit: bootstrap from `final_observations`."""
    episode_over: torch.Tensor
    """(n,) bool, the game ended and began anew."""
    observations: torch.Tensor
    """(n, *obs), what to act on next; after an end the first observation of the new game."""
    final_observations: torch.Tensor
    """(n, *obs), of which the rows in `episode_over` count: the last ones of games that ended."""
    episodes: tuple[Episode, ...]
    """On the steps that fetch them, the games that ended since the last such step; else none."""


class DeviceStepper:
    """Steps an environment that gives tensors; the counterpart of `EnvStepper`.

    With SAME_STEP (the mode to choose) the environment begins ended games anew by itself; with the
    other modes they are reset by a mask at each step, which costs a call more. None of it waits for
    the device; one step of `fetch_every` does.

    Attributes:
        device: of all tensors.
        fetch_every: steps between two looks at finished games.
        num_envs, num_actions, observation_space, frames_per_step, frame_stack: see `EnvStepper`.

    Args:
        env: a vector environment with discrete actions, an attribute `device`, and tensors on it.
        fetch_every: 1 or more.

    Raises:
        UsageError: the actions are not discrete, or `fetch_every` is below 1.
    """

    def __init__(self, env: VectorEnv, *, fetch_every: int = FETCH_EVERY):
        import torch

        space, inner = env.single_action_space, env.unwrapped
        if not isinstance(space, Discrete):
            raise UsageError(f"actions must be discrete, but the environment has {space}.")
        if fetch_every < 1:
            raise UsageError(f"fetch_every is {fetch_every}; it must be at least 1.")
        self.env = env
        self.device: torch.device = inner.device  # type: ignore[attr-defined]  # see Args
        self.fetch_every = fetch_every
        self.num_envs: int = env.num_envs
        self.num_actions = int(space.n)
        self.observation_space: Space[Any] = env.single_observation_space
        self._first_action = int(space.start)
        self._mode = AutoresetMode(env.metadata["autoreset_mode"])
        options = getattr(inner, "options", None)
        self.options: EnvOptions | None = options if isinstance(options, EnvOptions) else None
        self.frames_per_step = self.options.frame_skip if self.options else 1
        self.frame_stack = self.options.frame_stack if self.options else 1
        self._life_loss = self.options is not None and self.options.life_loss
        self._sent: tuple[Any, ...] | None = None
        # In float64, as EnvStepper sums: scores above 2**24 stay exact.
        kind = {"dtype": torch.float64, "device": self.device}
        self._returns = torch.zeros(self.num_envs, **kind)
        self._lengths = torch.zeros(self.num_envs, **kind)
        # Of each step and row: return, length, and 0 for going on, 1 for ended, 2 for cut.
        self._log = torch.zeros((fetch_every, 3, self.num_envs), **kind)
        self._logged = 0

    @property
    def can_restore(self) -> bool:
        """Whether the environment can be put back into an earlier state."""
        inner = self.env.unwrapped
        return hasattr(inner, "get_state") and hasattr(inner, "set_state")

    @property
    def longest_game(self) -> int | None:
        """Steps after which a game is cut; None where that is not known."""
        if self.options is None:
            return None
        return -(-self.options.max_frames // self.options.frame_skip)

    @property
    def fetch_due(self) -> bool:
        """Whether the step under way, or else the next one, fetches: it waits for the device."""
        return self._logged + 1 >= self.fetch_every

    def reset(self, seed: int | None = None) -> torch.Tensor:
        """Begins new games in all rows; returns the first observations (n, *obs)."""
        self._sent = None
        self._returns.zero_()
        self._lengths.zero_()
        observations, _ = self.env.reset(seed=seed)
        return observations

    def send(self, actions: torch.Tensor) -> None:
        """Starts a step with a (n,) integer tensor of actions."""
        if self._sent is not None:
            raise UsageError("send() twice without recv() between; call recv() first.")
        if tuple(actions.shape) != (self.num_envs,):
            raise UsageError(f"actions have shape {tuple(actions.shape)}; give ({self.num_envs},).")
        given = actions + self._first_action if self._first_action else actions
        self._sent = (actions, *self.env.step(given))

    def recv(self) -> DeviceRecord:
        """Returns what the step that `send` started does; does not wait for it."""
        if self._sent is None:
            raise UsageError("recv() without send(); call send(actions) first.")
        (sent, observations, rewards, terminated, truncated, infos), self._sent = self._sent, None
        over = terminated | truncated
        self._count(rewards, over, truncated)
        if self._mode == AutoresetMode.SAME_STEP:
            finals = infos["final_obs"]
        else:
            finals = observations
            observations, _ = self.env.reset(options={"reset_mask": over})
        executed = infos.get("executed_action")
        if self._life_loss and "life_lost" in infos:
            terminated = terminated | infos["life_lost"]
        return DeviceRecord(
            actions=sent if executed is None else executed - self._first_action,
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            episode_over=over,
            observations=observations,
            final_observations=finals,
            episodes=self._fetch() if self._logged == self.fetch_every else (),
        )

    def step(self, actions: torch.Tensor) -> DeviceRecord:
        """Takes a (n,) integer tensor of actions: `send`, then `recv`."""
        self.send(actions)
        return self.recv()

    def _count(self, rewards: torch.Tensor, over: torch.Tensor, truncated: torch.Tensor) -> None:
        row = self._log[self._logged]
        self._returns += rewards
        self._lengths += 1
        row[0].copy_(self._returns)
        row[1].copy_(self._lengths)
        row[2].copy_(over)
        row[2] += truncated
        self._returns.masked_fill_(over, 0)
        self._lengths.masked_fill_(over, 0)
        self._logged += 1

    def _fetch(self) -> tuple[Episode, ...]:
        """The games that ended in the logged steps, by step and row; the one copy to the host."""
        log = self._log[: self._logged].cpu().numpy()
        self._logged = 0
        ends = np.argwhere(log[:, 2] > 0).tolist()
        return tuple(
            Episode(row, float(log[t, 0, row]), int(log[t, 1, row]), bool(log[t, 2, row] > 1))
            for t, row in ends
        )

    def get_state(self) -> dict[str, Any]:
        """Returns all that the future depends on, in arrays of the host.

        An `EnvStepper` of the same games goes on from it too, without the finished games that were
        not fetched yet.

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
            "returns": self._returns.cpu().numpy().copy(),
            "lengths": self._lengths.cpu().numpy().astype(np.int64),
            "log": self._log[: self._logged].cpu().numpy().copy(),
        }

    def set_state(self, state: dict[str, Any]) -> torch.Tensor:
        """Puts back what `get_state` returned, or an `EnvStepper`'s; returns the observations.

        Raises:
            EightBitError: the environment cannot be restored, or the state is of another one.
        """
        import torch

        if not self.can_restore:
            raise EightBitError(
                "this environment cannot be restored; reset it, which begins new episodes."
            )
        self._sent = None
        inner: Any = self.env.unwrapped
        observations = inner.set_state(state["env"])
        self._returns.copy_(torch.from_numpy(np.array(state["returns"], np.float64)))
        self._lengths.copy_(torch.from_numpy(np.array(state["lengths"], np.float64)))
        log = np.array(state.get("log", ()), np.float64).reshape(-1, 3, self.num_envs)
        # Another `fetch_every` may hold: the newest steps fit, and one slot stays free.
        log = log[max(len(log) - self.fetch_every + 1, 0) :]
        self._logged = len(log)
        self._log[: len(log)].copy_(torch.from_numpy(log))
        return observations

    def close(self) -> None:
        """Closes the environment."""
        self._sent = None
        self.env.close()


Stepper = EnvStepper | DeviceStepper
"""What a learner steps."""


def gives_tensors(env: VectorEnv) -> bool:
    """Whether an environment's observations are torch tensors on a device of its own."""
    import torch

    return isinstance(getattr(env.unwrapped, "device", None), torch.device)


def as_stepper(env: VectorEnv | Stepper) -> Stepper:
    """The stepper for an environment; a stepper is returned as it is."""
    if isinstance(env, EnvStepper | DeviceStepper):
        return env
    return DeviceStepper(env) if gives_tensors(env) else EnvStepper(env)
