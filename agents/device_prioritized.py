"""Prioritized replay on a device (Schaul et al. 2016): sums of blocks instead of a tree.

A tree of a million leaves is 20 levels high, and on a GPU each level is another kernel. Leaves in
about a thousand blocks of about a thousand need two looks: one at the sums of the blocks, one at
the leaves of the block that was drawn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .device_replay import DeviceReplay
from .prioritized import PRIORITY_FLOOR, _outside
from .replay import Batch


class BlockSums:
    """Leaves with priorities, and the sums of their blocks by which leaves are drawn.

    Args:
        size: number of leaves; all begin with priority 0.
        device: where they lie.
    """

    def __init__(self, size: int, device: torch.device):
        self.size = size
        self.width = 1 << (max(size - 1, 1).bit_length() + 1) // 2
        blocks = -(-size // self.width)
        self._leaves = torch.zeros((blocks, self.width), device=device)
        self._sums = torch.zeros(blocks, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return 4 * (self._leaves.numel() + self._sums.numel())

    @property
    def total(self) -> torch.Tensor:
        """Sum of all priorities, a scalar on the device."""
        return self._sums.sum()

    def priorities(self, leaves: torch.Tensor) -> torch.Tensor:
        """(B,) float32 of (B,) int64 leaves."""
        return self._leaves.view(-1)[leaves]

    def set(self, leaves: torch.Tensor, priorities: torch.Tensor) -> None:
        """Gives (B,) leaves new priorities; of a leaf named twice any one counts."""
        self._leaves.view(-1)[leaves] = priorities
        blocks = torch.div(leaves, self.width, rounding_mode="floor")
        self._sums[blocks] = self._leaves[blocks].sum(dim=1)

    def set_range(self, start: int, priorities: torch.Tensor) -> None:
        """Gives the leaves from `start` on new priorities (m,)."""
        end = start + len(priorities)
        self._leaves.view(-1)[start:end] = priorities
        blocks = slice(start // self.width, -(-end // self.width))
        self._sums[blocks] = self._leaves[blocks].sum(dim=1)

    def sample(self, batch_size: int, rng: torch.Generator, otherwise: int) -> torch.Tensor:
        """Draws one leaf from each of B equal parts of the total, (B,) int64.

        Args:
            batch_size: B.
            rng: on the same device.
            otherwise: a leaf above 0, taken where rounding led to one of priority 0.
        """
        device = self._sums.device
        shares = torch.rand(batch_size, generator=rng, device=device)
        shares += torch.arange(batch_size, device=device)
        above = self._sums.cumsum(0)
        mass = shares * (above[-1] / batch_size)
        last = len(self._sums) - 1
        block = torch.searchsorted(above, mass, right=True).clamp_(max=last)
        rest = (mass - (above[block] - self._sums[block])).clamp_(min=0.0)
        inner = self._leaves[block].cumsum(1)
        # Rounding may leave a rest that the block does not hold: its last part is meant.
        rest = torch.minimum(rest, torch.nextafter(inner[:, -1], torch.zeros_like(rest)))
        column = torch.searchsorted(inner, rest.unsqueeze(1), right=True).squeeze(1)
        leaves = block * self.width + column.clamp_(max=self.width - 1)
        leaves.clamp_(max=self.size - 1)
        return torch.where(self.priorities(leaves) > 0, leaves, otherwise)


class DevicePrioritizedReplay:
    """A DeviceReplay that draws transitions by their TD error; see `PrioritizedReplay`.

    Priorities are float32. Which transitions may be drawn follows from numbers that the host
    knows, so nothing here waits for the device.

    Args:
        replay: keeps the transitions; empty.
        exponent: alpha; 0 draws uniformly.
    """

    def __init__(self, replay: DeviceReplay, exponent: float):
        self.replay, self.exponent = replay, exponent
        self.num_envs = replay.num_envs
        self._sums = BlockSums(replay.length * replay.num_envs, replay.device)
        # Also of the steps that may not be drawn now.
        self._priorities = torch.zeros((replay.length, replay.num_envs), device=replay.device)
        self._highest = torch.ones((), device=replay.device)
        self._first, self._end = 0, 0  # the steps that may be drawn

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self.replay.nbytes + self._sums.nbytes + 4 * self._priorities.numel()

    def __len__(self) -> int:
        return len(self.replay)

    def reset(self, observations: torch.Tensor) -> None:
        """Begins new episodes in every environment; see `FrameReplay.reset`."""
        self.replay.reset(observations)

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
        self._priorities[self.replay.time % self.replay.length] = self._highest
        self.replay.add(
            *(actions, rewards, terminated, truncated, episode_over),
            observations,
            final_observations,
        )

    def _slide(self, first: int, end: int) -> None:
        """From now on the steps first <= step < end may be drawn."""
        leaving = _outside(self._first, self._end, first, end)
        entering = _outside(first, end, self._first, self._end)
        # In this order: a step that enters may take the slot of one that leaves.
        for steps, weight in ((leaving, 0.0), (entering, 1.0)):
            for slot, count in _runs(steps, self.replay.length):
                values = weight * self._priorities[slot : slot + count].flatten()
                self._sums.set_range(slot * self.num_envs, values)
        self._first, self._end = first, end

    def sample(
        self, batch_size: int, rng: torch.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> Batch:
        """Draws transitions by priority; their ids are `indices`.

        Raises:
            ValueError: fewer than `n_step` steps are stored.
        """
        oldest, end = self.replay._oldest(), self.replay.time - n_step + 1
        if end <= oldest:
            raise ValueError(f"the replay memory holds fewer than {n_step} steps")
        self._slide(oldest, end)
        newest = (end - 1) % self.replay.length * self.num_envs
        leaves = self._sums.sample(batch_size, rng, newest)
        slots = torch.div(leaves, self.num_envs, rounding_mode="floor")
        envs = leaves - slots * self.num_envs
        times = oldest + (slots - oldest) % self.replay.length
        batch = self.replay.gather(times, envs, n_step=n_step, gamma=gamma)
        ids: Any = times * self.num_envs + envs  # in torch, as all of this batch
        return replace(batch, indices=ids)

    def _leaves_of(self, indices: torch.Tensor) -> torch.Tensor:
        return indices % (self.replay.length * self.num_envs)

    def weigh(self, batch: Batch, exponent: float) -> Batch:
        """The batch that `sample` gave last, with importance weights (N p)^-beta over the largest.

        Args:
            batch: with `indices`.
            exponent: beta in [0, 1].
        """
        indices: Any = batch.indices
        count = (self._end - self._first) * self.num_envs
        priorities = self._sums.priorities(self._leaves_of(indices))
        weights = (count * priorities / self._sums.total) ** -exponent
        return replace(batch, weights=weights / weights.max())

    def set_priorities(self, indices: torch.Tensor, errors: torch.Tensor) -> None:
        """Gives transitions the priorities of their newest errors; see `PrioritizedReplay`."""
        steps = torch.div(indices, self.num_envs, rounding_mode="floor")
        time, leaves = self.replay.time, self._leaves_of(indices)
        kept = (steps >= time - self.replay.length) & (steps < time)
        inside = kept & (steps >= self._first) & (steps < self._end)
        priorities = (errors.abs() + PRIORITY_FLOOR) ** self.exponent
        flat = self._priorities.view(-1)
        flat[leaves] = torch.where(kept, priorities, flat[leaves])
        self._sums.set(leaves, torch.where(inside, priorities, self._sums.priorities(leaves)))
        highest = torch.where(kept, priorities, torch.zeros_like(priorities)).max()
        self._highest = torch.maximum(self._highest, highest)

    def check(self) -> None:
        """See `DeviceReplay.check`."""
        self.replay.check()

    def get_state(self) -> dict:
        """What a `PrioritizedReplay` of the same memory would give; copies in the host's memory."""
        written = self.replay.time
        used = min(written, self.replay.length)
        priorities = {
            "shape": list(self._priorities.shape),
            "priorities": self._priorities[:used].cpu().numpy().astype(np.float64),
            "highest": float(self._highest),
            "written": written,
            "window": [self._first, self._end],
        }
        return {"replay": self.replay.get_state(), "priorities": priorities}

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` or a `PrioritizedReplay` gave.

        Raises:
            ValueError: the state belongs to a memory of another shape.
        """
        self.replay.set_state(state["replay"])
        saved = state["priorities"]
        self._slide(0, 0)
        values = torch.from_numpy(np.array(saved["priorities"], np.float32))
        self._priorities[: len(values)].copy_(values)
        self._highest.fill_(float(saved["highest"]))
        first, end = saved["window"]
        self._slide(int(first), int(end))


def _runs(steps: np.ndarray, length: int) -> list[tuple[int, int]]:
    """(slot, count) of the neighbouring slots that ascending steps take in a ring."""
    slots = steps % length
    parts = np.split(slots, np.flatnonzero(np.diff(slots) != 1) + 1)
    return [(int(part[0]), len(part)) for part in parts if len(part)]
