"""Replay memory that keeps every frame once and rebuilds stacks of frames when it samples.

A transition of Mnih et al. (2015) holds two stacks of four 84x84 frames, 56 kB. Neighbouring
stacks share three frames of four, so a ring of single frames holds the same in 7 kB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Batch:
    """Sampled n-step transitions; B rows.

    Attributes:
        observations: (B, *observation) the environment's dtype.
        actions: (B,) int64.
        returns: (B,) float32, discounted sum of the rewards of up to n steps.
        next_observations: (B, *observation) what followed the last of these steps.
        discounts: (B,) float32, gamma^m after m steps, 0 where the episode terminated.
        weights: (B,) float32 importance weights, of a prioritized memory.
        indices: (B,) int64 of the transitions in a prioritized memory, in NumPy.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    returns: torch.Tensor
    next_observations: torch.Tensor
    discounts: torch.Tensor
    weights: torch.Tensor | None = None
    indices: np.ndarray | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on another device, with indices as they are."""
        moved: dict[str, Any] = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self).items()
        }
        return replace(self, **moved)


def replay_bytes(
    capacity: int, num_envs: int, observation_shape: tuple[int, ...], dtype: np.dtype, stack: int
) -> int:
    """Bytes that a FrameReplay of these settings allocates."""
    frame_shape = observation_shape[1:] if stack > 1 else observation_shape
    frame = int(np.prod(frame_shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    per_transition = frame + 8 + 4 + 3  # action, reward, three flags
    return _ring_length(capacity, num_envs, stack) * num_envs * per_transition


def _ring_length(capacity: int, num_envs: int, stack: int) -> int:
    return max(-(-capacity // num_envs), 1) + stack


class FrameReplay:
    """A ring of single frames for each environment, sampled uniformly.

    Time runs along the first axis, environments along the second. Slot t holds the newest frame of
    the observation that was acted on at time t, with the action, its reward and flags; the frame
    that followed stands in slot t + 1, written one step ahead. Where a stack would reach back
    past the start of its episode it holds zeros, as the environments' own stacks do. The last
    frame of a truncated episode, which the ring has no slot for, is kept apart.

    Args:
        capacity: transitions to keep, over all environments.
        num_envs: environments that are added at each step.
        observation_shape: of one environment; with `frame_stack` k > 1 its first axis is k long.
        dtype: of the observations.
        frame_stack: frames in an observation, newest last; 1 stores observations whole.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_shape: tuple[int, ...],
        dtype: np.dtype | type = np.uint8,
        *,
        frame_stack: int = 4,
    ):
        if frame_stack > 1 and observation_shape[0] != frame_stack:
            raise ValueError(
                f"observations of shape {observation_shape} are not stacks of {frame_stack} frames"
            )
        self.num_envs = num_envs
        self.frame_stack = frame_stack
        self.observation_shape = tuple(observation_shape)
        self.length = _ring_length(capacity, num_envs, frame_stack)
        frame_shape = observation_shape[1:] if frame_stack > 1 else observation_shape
        slots = (self.length, num_envs)
        self.frames = np.zeros((*slots, *frame_shape), dtype=dtype)
        self.actions = np.zeros(slots, dtype=np.int64)
        self.rewards = np.zeros(slots, dtype=np.float32)
        self.terminated = np.zeros(slots, dtype=np.bool_)
        self.cut = np.zeros(slots, dtype=np.bool_)
        self.starts = np.zeros(slots, dtype=np.bool_)
        self.final_frames: dict[tuple[int, int], np.ndarray] = {}  # (slot, environment)
        self.time = 0  # steps added since the first reset
        # index_select copies whole rows on all threads; numpy's fancy indexing uses one.
        self._rows = torch.from_numpy(self.frames).view(self.length * num_envs, -1)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        arrays = (self.frames, self.actions, self.rewards, self.terminated, self.cut, self.starts)
        return sum(array.nbytes for array in arrays)

    def __len__(self) -> int:
        """Transitions that can be sampled with n = 1."""
        return max(self.time - self._oldest(), 0) * self.num_envs

    def _oldest(self) -> int:
        """The first time whose whole stack is still in the ring."""
        return 0 if self.time < self.length else self.time - self.length + self.frame_stack

    def reset(self, observations: np.ndarray) -> None:
        """Begins new episodes in every environment, after whatever is stored already.

        An episode that was open is closed as truncated: its last observation is in the ring.
        """
        if self.time:
            last = (self.time - 1) % self.length
            open_rows = np.flatnonzero(~(self.terminated[last] | self.cut[last]))
            newest = self.frames[self.time % self.length]
            for env in open_rows:
                self.final_frames[last, int(env)] = newest[env].copy()
            self.cut[last, open_rows] = True
        slot = self.time % self.length
        self.frames[slot] = self._newest(observations)
        self.starts[slot] = True

    def add(
        self,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        episode_over: np.ndarray,
        observations: np.ndarray,
        final_observations: dict[int, np.ndarray],
    ) -> None:
        """Stores one step of every environment.

        Args:
            actions: (n,) integers.
            rewards: (n,) floats as the learner wants them (clipped or raw).
            terminated: (n,) bool, no bootstrap beyond this step.
            truncated: (n,) bool, bootstrap from `final_observations`.
            episode_over: (n,) bool, `observations` shows the start of another episode.
            observations: (n, *observation) to act on next.
            final_observations: row -> (*observation), needed where truncated.
        """
        slot, following = self.time % self.length, (self.time + 1) % self.length
        self.actions[slot] = actions
        self.rewards[slot] = rewards
        self.terminated[slot] = terminated
        self.cut[slot] = truncated & ~terminated
        if self.final_frames:
            for row in range(self.num_envs):
                self.final_frames.pop((slot, row), None)
        for env in np.flatnonzero(self.cut[slot]):
            final = final_observations[int(env)]
            self.final_frames[slot, int(env)] = self._newest(final[None])[0].copy()
        self.frames[following] = self._newest(observations)
        self.starts[following] = episode_over
        self.time += 1

    def _newest(self, observations: np.ndarray) -> np.ndarray:
        return observations[:, -1] if self.frame_stack > 1 else observations

    def sample(
        self, batch_size: int, rng: np.random.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> Batch:
        """Draws transitions uniformly with replacement.

        Raises:
            ValueError: fewer than `n_step` steps are stored.
        """
        oldest, newest = self._oldest(), self.time - n_step
        if newest < oldest:
            raise ValueError(f"the replay memory holds fewer than {n_step} steps")
        times = rng.integers(oldest, newest + 1, size=batch_size)
        envs = rng.integers(self.num_envs, size=batch_size)
        return self.gather(times, envs, n_step=n_step, gamma=gamma)

    def gather(self, times: np.ndarray, envs: np.ndarray, *, n_step: int, gamma: float) -> Batch:
        """The n-step transitions that begin at these times (steps since the first reset)."""
        window = (times[:, None] + np.arange(n_step)) % self.length
        columns = envs[:, None]
        terminated = self.terminated[window, columns]
        ended = terminated | self.cut[window, columns]
        # alive[:, i] is 1 while no earlier step of the window ended the episode.
        alive = np.ones(window.shape, dtype=np.bool_)
        alive[:, 1:] = ~np.logical_or.accumulate(ended, axis=1)[:, :-1]
        powers = np.float32(gamma) ** np.arange(n_step + 1, dtype=np.float32)
        returns = (self.rewards[window, columns] * alive * powers[:-1]).sum(axis=1)
        steps = alive.sum(axis=1)
        last = times + steps - 1
        discounts = powers[steps] * ~self.terminated[last % self.length, envs]
        next_observations = self._stacks(last + 1, envs)
        for row in np.flatnonzero(self.cut[last % self.length, envs]):
            self._put_final(next_observations[row], int(last[row]), int(envs[row]))
        return Batch(
            observations=self._stacks(times, envs),
            actions=torch.from_numpy(self.actions[window[:, 0], envs]),
            returns=torch.from_numpy(returns.astype(np.float32)),
            next_observations=next_observations,
            discounts=torch.from_numpy(discounts.astype(np.float32)),
        )

    def _stacks(self, times: np.ndarray, envs: np.ndarray) -> torch.Tensor:
        """Observations at these times, (B, *observation_shape)."""
        back = np.arange(self.frame_stack - 1, -1, -1)
        slots = (times[:, None] - back) % self.length
        rows = torch.from_numpy((slots * self.num_envs + envs[:, None]).reshape(-1))
        flat = self._rows.index_select(0, rows)
        stacks = flat.view(len(times), *self.observation_shape)
        if self.frame_stack > 1:
            # A start at time s hides all frames older than s.
            starts = self.starts[slots[:, 1:], envs[:, None]]
            hidden = np.logical_or.accumulate(starts[:, ::-1], axis=1)[:, ::-1]
            for row, position in zip(*np.nonzero(hidden), strict=True):
                stacks[row, position] = 0
        return stacks

    def _put_final(self, observation: torch.Tensor, time: int, env: int) -> None:
        """Overwrites `observation` with the one that a truncated step at `time` led to."""
        final = torch.from_numpy(self.final_frames[time % self.length, env])
        if self.frame_stack == 1:
            observation.copy_(final)
            return
        before = self._stacks(np.array([time]), np.array([env]))[0]
        observation[:-1] = before[1:]
        observation[-1] = final

    def get_state(self) -> dict:
        """All that `set_state` needs; the arrays are views of the slots in use, not copies."""
        used = min(self.time + 1, self.length)
        keys = sorted(self.final_frames)
        return {
            "time": self.time,
            "shape": [self.length, self.num_envs, *self.observation_shape],
            "frames": self.frames[:used],
            "actions": self.actions[:used],
            "rewards": self.rewards[:used],
            "terminated": self.terminated[:used],
            "cut": self.cut[:used],
            "starts": self.starts[:used],
            "final_keys": np.array(keys, dtype=np.int64).reshape(-1, 2),
            "final_frames": np.array(
                [self.final_frames[key] for key in keys], dtype=self.frames.dtype
            ).reshape(-1, *self.frames.shape[2:]),
        }

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` gave.

        Raises:
            ValueError: the state belongs to a memory of another shape.
        """
        shape = [self.length, self.num_envs, *self.observation_shape]
        if list(state["shape"]) != shape:
            raise ValueError(f"the saved replay memory has shape {state['shape']}, not {shape}")
        used = len(state["frames"])
        for name in ("frames", "actions", "rewards", "terminated", "cut", "starts"):
            getattr(self, name)[:used] = state[name]
        self.time = int(state["time"])
        self.final_frames = {
            (int(slot), int(env)): np.array(frame)
            for (slot, env), frame in zip(state["final_keys"], state["final_frames"], strict=True)
        }
