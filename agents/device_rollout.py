"""PQN's rollout on a device; see `rollout`. Nothing of it goes through the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..errors import TrainingError
from .device_replay import FinalFrames, final_rows
from .options import DQNOptions
from .replay import Batch

Values = Callable[[torch.Tensor], torch.Tensor]
"""(B, *observation) -> (B, A) float32 action values."""


def lambda_returns(
    rewards: torch.Tensor,
    discounts: torch.Tensor,
    next_values: torch.Tensor,
    ended: torch.Tensor,
    td_lambda: float,
) -> torch.Tensor:
    """`rollout.lambda_returns` in torch, all (T, n), float32 and bool."""
    returns = torch.empty_like(rewards)
    following = next_values[-1]
    for t in reversed(range(len(rewards))):
        following = torch.where(ended[t], next_values[t], following)
        mixed = (1 - td_lambda) * next_values[t] + td_lambda * following
        following = rewards[t] + discounts[t] * mixed
        returns[t] = following
    return returns


class DeviceRollout:
    """The newest `rollout_steps` of every environment, in tensors; see `Rollout`.

    A game that is cut bootstraps from its last observation. Whether there is one only the device
    knows, so these observations are kept, and valued together when the rollout is full: the
    weights are still those that its actions were chosen by.

    Args:
        options: `rollout_steps`, `batch_size`, `gamma` and `td_lambda` hold.
        num_envs: n.
        observation_shape: of one environment.
        dtype: of the observations.
        device: of everything.
        values: of observations, with the newest weights and without noise.
        longest_game: steps after which a game is cut; None when any step may cut one.
    """

    def __init__(
        self,
        options: DQNOptions,
        num_envs: int,
        observation_shape: tuple[int, ...],
        dtype: Any,
        *,
        device: torch.device | str,
        values: Values,
        longest_game: int | None = None,
    ):
        self.num_envs, self.steps = num_envs, options.rollout_steps
        self.gamma, self.td_lambda = options.gamma, options.td_lambda
        self.device, self._value = torch.device(device), values
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        slots = (self.steps, num_envs)

        def zeros(dtype: torch.dtype, *more: int) -> torch.Tensor:
            return torch.zeros((*slots, *more), dtype=dtype, device=self.device)

        self.observations = zeros(kind, *observation_shape)
        self.actions = zeros(torch.int64)
        self.rewards, self.discounts = zeros(torch.float32), zeros(torch.float32)
        self.ended = zeros(torch.bool)
        self.values = zeros(torch.float32)  # max Q of each observation
        self.next_values = zeros(torch.float32)
        room = final_rows(self.steps, num_envs, longest_game)
        self.finals = FinalFrames(room, tuple(observation_shape), kind, self.device)
        self._final_row = torch.full(slots, room, dtype=torch.int64, device=self.device)
        self._cuts = torch.zeros((), dtype=torch.int64, device=self.device)  # in this rollout
        self._most_cuts = torch.zeros_like(self._cuts)
        self.time = 0
        self._newest: torch.Tensor = zeros(kind, *observation_shape)[0]
        self._rows = self.observations.view(self.steps * num_envs, -1)
        # Values that a saved rollout's last step leads to where its game was cut; NaN elsewhere.
        self._told: torch.Tensor | None = None
        self._order = torch.zeros(0, dtype=torch.int64, device=self.device)
        self._returns: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        tensors = [self.observations, self.actions, self.rewards, self.discounts, self.ended]
        tensors += [self.values, self.next_values, self._final_row]
        return sum(t.numel() * t.element_size() for t in tensors) + self.finals.nbytes

    def __len__(self) -> int:
        return self.time * self.num_envs

    @property
    def full(self) -> bool:
        """Whether all steps are there to be learnt from."""
        return self.time == self.steps

    def reset(self, observations: torch.Tensor) -> None:
        """New games begin in every environment; steps of an open rollout are dropped."""
        self._newest = observations
        self._begin()

    def _begin(self) -> None:
        self.time, self._told, self._returns = 0, None, None
        self.finals.clear()
        self._most_cuts = torch.maximum(self._most_cuts, self._cuts)
        self._cuts = torch.zeros_like(self._cuts)

    def note_values(self, values: torch.Tensor) -> None:
        """Takes the (n, A) values of the newest observations, which actions are chosen by."""
        best = values.amax(dim=1)
        if self.time:
            told = self._told
            following = best if told is None else torch.where(told.isnan(), best, told)
            self.next_values[self.time - 1] = following
        self._told = None
        if self.full:
            self._finish()
        self.values[0 if self.full else self.time] = best

    def add(
        self,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        terminated: torch.Tensor,
        truncated: torch.Tensor,
        episode_over: torch.Tensor,
        observations: torch.Tensor,
        final_observations: torch.Tensor,
    ) -> None:
        """Stores one step of every environment; see `DeviceReplay.add`."""
        if self.full:
            self._begin()
        t = self.time
        self.observations[t] = self._newest
        self.actions[t] = actions
        self.rewards[t] = rewards
        self.discounts[t] = self.gamma * ~terminated
        self.ended[t] = terminated | truncated
        self._final_row[t] = self.finals.add(truncated, final_observations)
        self._cuts = self._cuts + truncated.sum()
        self._newest = observations
        self.time += 1

    def _with_finals(self) -> torch.Tensor:
        """(T, n) max Q of what followed each step, the last observations of cut games included."""
        values = self._value(self.finals.frames).amax(dim=1)
        rows = self._final_row
        return torch.where(rows < self.finals.rows, values[rows], self.next_values)

    def _finish(self) -> None:
        self._returns = lambda_returns(
            self.rewards, self.discounts, self._with_finals(), self.ended, self.td_lambda
        ).flatten()
        self._order = self._order[:0]

    def sample(
        self, batch_size: int, rng: torch.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> Batch:
        """The next transitions of a random order; see `Rollout.sample`.

        Raises:
            ValueError: the rollout is not full.
        """
        if self._returns is None:
            raise ValueError("the rollout is not full")
        if len(self._order) < batch_size:
            self._order = torch.randperm(len(self), generator=rng, device=self.device)
        picked, self._order = self._order[:batch_size], self._order[batch_size:]
        shape = (batch_size, *self.observations.shape[2:])
        observations = self._rows.index_select(0, picked).view(shape)
        returns = self._returns[picked]
        return Batch(
            observations=observations,
            actions=self.actions.view(-1)[picked],
            returns=returns,
            next_observations=observations,
            discounts=torch.zeros_like(returns),
        )

    def check(self) -> None:
        """Waits for the device; raises TrainingError when more games were cut than fit here."""
        cuts = int(torch.maximum(self._most_cuts, self._cuts))
        if cuts > self.finals.rows:
            raise TrainingError(
                f"{cuts:,} games of a rollout were cut and {self.finals.rows:,} last observations "
                "fit: the environment cuts games sooner than its options say"
            )

    def get_state(self) -> dict:
        """What a `Rollout` of the same steps would give; copies in the host's memory."""
        used, last = self.time, self.time - 1
        state = {name: getattr(self, name)[:used].cpu().numpy() for name in _KEPT}
        finals: dict[str, float] = {}
        if used:
            state["next_values"] = following = self._with_finals()[:used].cpu().numpy()
            cut = (self._final_row[last] < self.finals.rows).cpu().numpy()
            finals = {str(row): float(following[last, row]) for row in np.flatnonzero(cut)}
        if self._told is not None:
            told = self._told.cpu().numpy()
            finals |= {str(row): float(told[row]) for row in np.flatnonzero(~np.isnan(told))}
        return {
            "time": used,
            "shape": list(self.observations.shape),
            **state,
            "newest": self._newest.cpu().numpy(),
            "finals": finals,
        }

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` or a `Rollout` gave; raises ValueError for another shape."""
        if list(state["shape"]) != list(self.observations.shape):
            raise ValueError(
                f"the saved rollout has shape {state['shape']}, not {list(self.observations.shape)}"
            )
        self._begin()
        self.time = int(state["time"])
        for name in _KEPT:
            getattr(self, name)[: self.time].copy_(torch.from_numpy(np.array(state[name])))
        self._final_row[: self.time] = self.finals.rows  # their values are told already
        self._newest = torch.from_numpy(np.array(state["newest"])).to(self.device)
        if state["finals"]:
            told = np.full(self.num_envs, np.nan, np.float32)
            for row, value in state["finals"].items():
                told[int(row)] = value
            self._told = torch.from_numpy(told).to(self.device)


_KEPT = ("observations", "actions", "rewards", "discounts", "ended", "values", "next_values")
