"""R2D2: sequences are replayed through a recurrent network (Kapturowski et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from .methods import Loss
from .networks import QNetwork, State
from .options import DQNOptions
from .prioritized import RingPriorities
from .replay import FrameReplay
from .targets import rescale, td_loss, unrescale

ETA = 0.9
"""Share of the largest error in a sequence's priority; the rest is the mean error's."""


@dataclass(frozen=True)
class SequenceBatch:
    """Sampled sequences; B rows of L steps.

    Attributes:
        observations: (B, L, *observation) the environment's dtype.
        actions: (B, L) int64.
        returns: (B, L) float32, discounted sum of the rewards of up to n steps from each step.
        discounts: (B, L) float32, gamma^n, 0 where the episode terminated within them.
        has_target: (B, L) bool; see `n_step_windows`.
        starts: (B, L) bool, a game begins with this step: the state is zeroed before it.
        state: of the memory before the first step, each part (layers, B, size) float32.
        weights: (B,) float32 importance weights.
        indices: (B,) int64 of prioritized sequences, in NumPy.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    returns: torch.Tensor
    discounts: torch.Tensor
    has_target: torch.Tensor
    starts: torch.Tensor
    state: State
    weights: torch.Tensor | None = None
    indices: np.ndarray | None = None

    def to(self, device: torch.device) -> SequenceBatch:
        """The batch on another device, with indices as they are."""
        moved: dict[str, Any] = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self).items()
        }
        moved["state"] = tuple(part.to(device) for part in self.state)
        return replace(self, **moved)


def n_step_windows(
    rewards: np.ndarray, terminated: np.ndarray, cut: np.ndarray, n_step: int, gamma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns and discounts of n steps from each step of sequences.

    A step has a target where its n steps and the observation after them lie inside the sequence,
    or where its episode terminates within them. The last observation of an episode that was cut
    belongs to no sequence, so steps whose n steps cross a cut have none.

    Args:
        rewards: (B, L) float32.
        terminated, cut: (B, L) bool, the episode ended with this step, without or with a value
            of what followed.
        n_step: n.
        gamma: discount of a step.

    Returns:
        returns (B, L) float32, discounts (B, L) float32, and which steps have a target, (B, L).
    """
    length = rewards.shape[1]
    returns = np.zeros_like(rewards)
    alive = np.ones(rewards.shape, np.bool_)
    terminates = np.zeros(rewards.shape, np.bool_)
    for i in range(min(n_step, length)):
        here, there = np.s_[:, : length - i], np.s_[:, i:]
        returns[here] += alive[here] * np.float32(gamma**i) * rewards[there]
        terminates[here] |= alive[here] & terminated[there]
        alive[here] &= ~(terminated | cut)[there]
    inside = np.arange(length) + n_step < length
    discounts = np.where(alive, np.float32(gamma**n_step), np.float32(0))
    return returns, discounts, terminates | (alive & inside)


class SequenceReplay:
    """Sequences of `sequence_length` steps that begin every `sequence_stride` steps.

    Frames lie in a ring once, whatever sequences they belong to. A sequence may run across the
    ends of episodes. With it is kept the recurrent state that acting had before its first step.

    Args:
        replay: keeps the steps; empty.
        options: `sequence_length`, `sequence_stride`, `prioritized` and `priority_exponent` hold.
        network: whose memory's states are kept.

    Raises:
        UsageError: an environment's share of the memory does not hold a sequence at all times.
    """

    def __init__(self, replay: FrameReplay, options: DQNOptions, network: QNetwork):
        self.replay = replay
        self.num_envs = replay.num_envs
        self.sequence_length, self.stride = options.sequence_length, options.sequence_stride
        kept, needed = replay.length - replay.frame_stack, self.sequence_length + self.stride - 1
        if kept < needed:
            raise UsageError(
                f"buffer_size leaves {kept:,} steps for each of {replay.num_envs:,} environments; "
                f"sequences of {self.sequence_length} steps every {self.stride} need {needed:,}: "
                "raise buffer_size or lower num_envs."
            )
        self._rows = replay.length // self.stride + 2
        shapes = [part.shape for part in network.memory.initial_state(1)]  # type: ignore[union-attr, operator]  # every recurrent backbone has it
        self._states = [
            np.zeros((self._rows, self.num_envs, layers, size), np.float32)
            for layers, _, size in shapes
        ]
        self._priorities = None
        if options.prioritized:
            self._priorities = RingPriorities(self._rows, self.num_envs, options.priority_exponent)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        priorities = self._priorities.nbytes if self._priorities is not None else 0
        return self.replay.nbytes + sum(part.nbytes for part in self._states) + priorities

    def __len__(self) -> int:
        """Transitions in the ring, 0 as long as there is no whole sequence."""
        first, end = self._window()
        return len(self.replay) if end > first else 0

    def _window(self) -> tuple[int, int]:
        """The sequences that are whole: number k begins at step k * stride."""
        first = -(-self.replay._oldest() // self.stride)
        return first, (self.replay.time - self.sequence_length) // self.stride + 1

    def reset(self, observations: np.ndarray) -> None:
        """Begins new episodes in every environment; see `FrameReplay.reset`."""
        self.replay.reset(observations)

    def note_state(self, state: State | None) -> None:
        """Takes the memory's state before the next step, each part (layers, n, size).

        None is a state of zeros.
        """
        if self.replay.time % self.stride:
            return
        row = self.replay.time // self.stride % self._rows
        for index, kept in enumerate(self._states):
            kept[row] = 0 if state is None else state[index].transpose(0, 1).float().cpu().numpy()

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
        self.replay.add(
            *(actions, rewards, terminated, truncated, episode_over),
            observations,
            final_observations,
        )
        start = self.replay.time - self.sequence_length
        if self._priorities is not None and start >= 0 and start % self.stride == 0:
            self._priorities.renew(start // self.stride)

    def sample(
        self, batch_size: int, rng: np.random.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> SequenceBatch:
        """Draws sequences, uniformly or by priority.

        Raises:
            ValueError: no whole sequence is stored.
        """
        first, end = self._window()
        if end <= first:
            raise ValueError(f"the replay memory holds no sequence of {self.sequence_length} steps")
        if self._priorities is None:
            numbers = rng.integers(first, end, size=batch_size)
            envs = rng.integers(self.num_envs, size=batch_size)
            return self.gather(numbers, envs, n_step=n_step, gamma=gamma)
        self._priorities.slide(first, end)
        ids = self._priorities.sample(batch_size, rng)
        batch = self.gather(*np.divmod(ids, self.num_envs), n_step=n_step, gamma=gamma)
        return replace(batch, indices=ids)

    def gather(
        self, numbers: np.ndarray, envs: np.ndarray, *, n_step: int, gamma: float
    ) -> SequenceBatch:
        """The sequences of these numbers; number k begins k * stride steps after the first reset.

        Args:
            numbers, envs: (B,) int64.
            n_step: steps of reward in a return.
            gamma: discount of a step.
        """
        replay, shape = self.replay, (len(numbers), self.sequence_length)
        times = numbers[:, None] * self.stride + np.arange(self.sequence_length)
        columns = np.broadcast_to(envs[:, None], shape)
        at = (times % replay.length, columns)
        returns, discounts, has_target = n_step_windows(
            replay.rewards[at], replay.terminated[at], replay.cut[at], n_step, gamma
        )
        stacks = replay._stacks(times.ravel(), columns.ravel())
        rows = numbers % self._rows
        return SequenceBatch(
            observations=stacks.view(*shape, *replay.observation_shape),
            actions=torch.from_numpy(replay.actions[at]),
            returns=torch.from_numpy(returns),
            discounts=torch.from_numpy(discounts),
            has_target=torch.from_numpy(has_target),
            starts=torch.from_numpy(replay.starts[at]),
            state=tuple(
                torch.from_numpy(kept[rows, envs]).transpose(0, 1).contiguous()
                for kept in self._states
            ),
        )

    def weigh(self, batch: SequenceBatch, exponent: float) -> SequenceBatch:
        """The batch that `sample` gave last, with importance weights.

        A memory without priorities leaves it as it is.

        Args:
            batch: of this memory.
            exponent: beta in [0, 1]; see `RingPriorities.weights`.
        """
        if self._priorities is None or batch.indices is None:
            return batch
        weights = self._priorities.weights(batch.indices, exponent)
        return replace(batch, weights=torch.from_numpy(weights))

    def set_priorities(self, indices: np.ndarray, errors: np.ndarray) -> None:
        """Gives sequences the priorities of their newest errors; see `PrioritizedReplay`."""
        if self._priorities is not None:
            self._priorities.update(indices, errors)

    def get_state(self) -> dict:
        """All that `set_state` needs; the arrays are views, not copies."""
        used = min(self.replay.time // self.stride + 1, self._rows)
        return {
            "replay": self.replay.get_state(),
            "sequences": [self.sequence_length, self.stride],
            "states": {str(index): kept[:used] for index, kept in enumerate(self._states)},
            "priorities": None if self._priorities is None else self._priorities.get_state(),
        }

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` gave; raises ValueError for other sequences or sizes."""
        if list(state["sequences"]) != [self.sequence_length, self.stride]:
            raise ValueError(
                f"the saved memory has sequences of [length, stride] {state['sequences']}, not "
                f"{[self.sequence_length, self.stride]}"
            )
        self.replay.set_state(state["replay"])
        for index, kept in enumerate(self._states):
            saved = state["states"][str(index)]
            kept[: len(saved)] = saved
        if self._priorities is not None and state["priorities"] is not None:
            self._priorities.set_state(state["priorities"])


SequenceLoss = Callable[[QNetwork, QNetwork, SequenceBatch], Loss]


def make_sequence_loss(options: DQNOptions) -> SequenceLoss:
    """The loss of R2D2, Kapturowski et al. (2019), sections 2.3 and 3.

    The state that was kept is stale: the weights have changed since. The first `burn_in` steps
    bring it up to date, without gradient and for each network by its own weights. On the others
    stand targets h(R + discount h^-1(Q'(s_t+n, argmax_a Q(s_t+n, a)))). A sequence's loss is the
    sum over its steps with a target, its priority 0.9 max |error| + 0.1 mean |error| of them.

    Raises:
        UsageError: the options ask for a soft target.
    """
    if options.munchausen or options.temperature:
        raise UsageError("sequences have no soft target: leave munchausen and temperature out.")
    burn_in = options.burn_in

    def loss(online: QNetwork, target: QNetwork, batch: SequenceBatch) -> Loss:
        seen, starts = batch.observations[:, burn_in:], batch.starts[:, burn_in:]
        state, target_state = batch.state, batch.state
        with torch.no_grad():
            if burn_in:
                warm, resets = batch.observations[:, :burn_in], batch.starts[:, :burn_in]
                _, state = online.unroll(warm, state, resets)
                _, target_state = target.unroll(warm, target_state, resets)
            target_values, _ = target.unroll_values(seen, target_state, starts)
        values, _ = online.unroll_values(seen, state, starts)
        chooser = values.detach() if options.double else target_values
        targets = sequence_targets(
            *(batch.returns[:, burn_in:], batch.discounts[:, burn_in:]),
            target_values,
            chooser,
            options.n_step,
            rescaled=options.value_rescaling,
        )
        chosen = values.gather(2, batch.actions[:, burn_in:, None]).squeeze(2)
        learnt = batch.has_target[:, burn_in:]
        errors = torch.where(learnt, targets - chosen, 0.0)
        return Loss(
            td_loss(errors, options.loss).sum(dim=1),
            sequence_errors(errors.detach().abs(), learnt),
            chosen.detach()[learnt].sum() / learnt.sum().clamp(min=1),
        )

    return loss


def sequence_targets(
    returns: torch.Tensor,
    discounts: torch.Tensor,
    target_values: torch.Tensor,
    chooser: torch.Tensor,
    n_step: int,
    *,
    rescaled: bool,
) -> torch.Tensor:
    """h(R_t + discount_t h^-1(Q'(s_t+n, argmax_a C(s_t+n, a)))) of each step of sequences.

    Args:
        returns, discounts: (B, T) of n steps.
        target_values: (B, T, A) Q', of the target network.
        chooser: (B, T, A) C, which chooses the action.
        n_step: n; the last n steps get a target for terminated episodes only.
        rescaled: with h of Pohlen et al. (2018); else h is the identity.

    Returns:
        (B, T), without meaning where n steps from t lie outside and the discount is above 0.
    """
    best = chooser.argmax(dim=2, keepdim=True)
    following = target_values.gather(2, best).squeeze(2)
    length = following.shape[1]
    ahead = torch.arange(length, device=following.device) + n_step
    following = following[:, ahead.clamp(max=length - 1)]
    if not rescaled:
        return returns + discounts * following
    return rescale(returns + discounts * unrescale(following))


def sequence_errors(errors: torch.Tensor, learnt: torch.Tensor) -> torch.Tensor:
    """eta max |error| + (1 - eta) mean |error|, of (B, T) absolute errors where `learnt`; (B,)."""
    errors = errors * learnt
    mean = errors.sum(dim=1) / learnt.sum(dim=1).clamp(min=1)
    return ETA * errors.amax(dim=1) + (1 - ETA) * mean
