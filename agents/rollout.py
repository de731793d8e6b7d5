"""Learning from the newest steps of many environments instead of a replay memory.

Gallici et al. (2025), "Simplifying Deep Temporal Difference Learning" (PQN): a network with layer
norm needs neither a replay memory nor a target network; lambda-returns of the values that the
actions were chosen by are learnt from a few times, then dropped.
"""

from __future__ import annotations

import numpy as np
import torch

from .methods import Loss, LossFunction
from .networks import QNetwork
from .options import DQNOptions
from .replay import Batch
from .targets import chosen, td_loss


def lambda_returns(
    rewards: np.ndarray,
    discounts: np.ndarray,
    next_values: np.ndarray,
    ended: np.ndarray,
    td_lambda: float,
) -> np.ndarray:
    """G_t = r_t + discount_t ((1 - lambda) max Q(s_t+1) + lambda G_t+1), backwards in time.

    Peng's Q(lambda) in the form of Gallici et al. (2025). Where an episode was cut, and at the
    last step, G_t+1 is max Q(s_t+1).

    Args:
        rewards: (T, n) float32.
        discounts: (T, n) float32, gamma, or 0 where the episode terminated.
        next_values: (T, n) float32, max Q of the state that followed, the last one of an episode
            that was cut.
        ended: (T, n) bool, what follows belongs to another episode.
        td_lambda: in [0, 1]; 0 bootstraps at once.

    Returns:
        (T, n) float32.
    """
    returns = np.empty_like(rewards)
    following = next_values[-1]
    for t in reversed(range(len(rewards))):
        following = np.where(ended[t], next_values[t], following)
        mixed = (1 - td_lambda) * next_values[t] + td_lambda * following
        returns[t] = following = rewards[t] + discounts[t] * mixed
    return returns


class Rollout:
    """The newest `rollout_steps` of every environment, and lambda-returns of them.

    The agent notes the values of each observation that it acts on. When the rollout is full, the
    values noted next complete the returns, and `sample` gives its transitions in random batches,
    each once an epoch, until the next step begins another rollout.

    Args:
        options: `rollout_steps`, `batch_size`, `gamma` and `td_lambda` hold.
        num_envs: n.
        observation_shape: of one environment.
        dtype: of the observations.
    """

    def __init__(
        self,
        options: DQNOptions,
        num_envs: int,
        observation_shape: tuple[int, ...],
        dtype: np.dtype | type | None,
    ):
        self.num_envs, self.steps = num_envs, options.rollout_steps
        self.gamma, self.td_lambda = options.gamma, options.td_lambda
        slots = (self.steps, num_envs)
        self.observations = np.zeros((*slots, *observation_shape), dtype)
        self.actions = np.zeros(slots, np.int64)
        self.rewards = np.zeros(slots, np.float32)
        self.discounts = np.zeros(slots, np.float32)
        self.ended = np.zeros(slots, np.bool_)
        self.values = np.zeros(slots, np.float32)  # max Q of each observation
        self.next_values = np.zeros(slots, np.float32)
        self.time = 0  # steps in the rollout
        self._newest = np.zeros((num_envs, *observation_shape), dtype)
        self._finals: dict[int, float] = {}
        self._order = np.zeros(0, np.int64)
        self._rows = torch.from_numpy(self.observations).view(self.steps * num_envs, -1)
        self._returns: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        arrays = (self.observations, self.actions, self.rewards, self.discounts, self.ended)
        return sum(array.nbytes for array in (*arrays, self.values, self.next_values))

    def __len__(self) -> int:
        return self.time * self.num_envs

    @property
    def full(self) -> bool:
        """Whether all steps are there to be learnt from."""
        return self.time == self.steps

    def reset(self, observations: np.ndarray) -> None:
        """New games begin in every environment; steps of an open rollout are dropped."""
        self._newest = observations
        self.time = 0
        self._finals = {}
        self._returns = None

    def note_values(self, values: np.ndarray) -> None:
        """Takes the (n, A) values of the newest observations, which actions are chosen by."""
        best = values.max(axis=1)
        if self.time:
            following = best.copy()
            for row, value in self._finals.items():
                following[row] = value
            self.next_values[self.time - 1] = following
        self._finals = {}
        if self.full:
            self._finish()
        self.values[0 if self.full else self.time] = best

    def note_finals(self, values: dict[int, np.ndarray]) -> None:
        """Takes row -> (A,) values of the last observations of games that are cut by this step."""
        self._finals = {row: float(each.max()) for row, each in values.items()}

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
        """Stores one step of every environment; see `FrameReplay.add`."""
        if self.full:
            self.time, self._returns = 0, None
        self.observations[self.time] = self._newest
        self.actions[self.time] = actions
        self.rewards[self.time] = rewards
        self.discounts[self.time] = np.where(terminated, np.float32(0), np.float32(self.gamma))
        self.ended[self.time] = terminated | truncated
        self._newest = observations
        self.time += 1

    def _finish(self) -> None:
        returns = lambda_returns(
            self.rewards, self.discounts, self.next_values, self.ended, self.td_lambda
        )
        self._returns = torch.from_numpy(returns.ravel())
        self._order = np.zeros(0, np.int64)

    def sample(
        self, batch_size: int, rng: np.random.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> Batch:
        """The next transitions of a random order, `returns` being their lambda-returns.

        Args:
            batch_size: divides the rollout.
            rng: shuffles at the beginning of each epoch.
            n_step, gamma: without effect; the returns are made.

        Raises:
            ValueError: the rollout is not full.
        """
        if self._returns is None:
            raise ValueError("the rollout is not full")
        if len(self._order) < batch_size:
            self._order = rng.permutation(len(self))
        picked = torch.from_numpy(self._order[:batch_size])
        self._order = self._order[batch_size:]
        shape = (batch_size, *self.observations.shape[2:])
        observations = self._rows.index_select(0, picked).view(shape)
        returns = self._returns[picked]
        return Batch(
            observations=observations,
            actions=torch.from_numpy(self.actions.ravel())[picked],
            returns=returns,
            next_observations=observations,
            discounts=torch.zeros_like(returns),
        )

    def get_state(self) -> dict:
        """All that `set_state` needs; taken between two steps of an agent, after its updates."""
        return {
            "time": self.time,
            "shape": list(self.observations.shape),
            "observations": self.observations[: self.time],
            **{name: getattr(self, name)[: self.time] for name in _KEPT},
            "newest": self._newest,
            "finals": {str(row): value for row, value in self._finals.items()},
        }

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` gave; raises ValueError for another shape."""
        if list(state["shape"]) != list(self.observations.shape):
            raise ValueError(
                f"the saved rollout has shape {state['shape']}, not {list(self.observations.shape)}"
            )
        self.time = int(state["time"])
        self.observations[: self.time] = state["observations"]
        for name in _KEPT:
            getattr(self, name)[: self.time] = state[name]
        self._newest = np.array(state["newest"])
        self._finals = {int(row): float(value) for row, value in state["finals"].items()}
        self._returns = None


_KEPT = ("actions", "rewards", "discounts", "ended", "values", "next_values")


def make_rollout_loss(options: DQNOptions) -> LossFunction:
    """The TD loss towards lambda-returns; there is no target network."""

    def loss(online: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        values = chosen(online(batch.observations), batch.actions)
        errors = batch.returns - values
        return Loss(td_loss(errors, options.loss), errors.detach().abs(), values.detach().mean())

    return loss
