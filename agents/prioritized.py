"""Prioritized replay: transitions are drawn by their TD error (Schaul et al. 2016)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .replay import Batch, FrameReplay

PRIORITY_FLOOR = 1e-6
"""Added to each error, so that a transition without one is drawn again some day."""


class SumTree:
    """Leaves with priorities, and above them the sums by which leaves are drawn.

    Schaul et al. (2016), appendix B.2.1. Every operation takes a batch. Each sum is made anew of
    its two parts, so that rounding errors do not pile up and equal leaves make equal trees.

    Args:
        size: number of leaves; all begin with priority 0.
    """

    def __init__(self, size: int):
        self.size = size
        self._depth = max(size - 1, 0).bit_length()
        self._first_leaf = 1 << self._depth
        # Node 1 is the root, 2i and 2i + 1 are the parts of node i.
        self._nodes = np.zeros(2 * self._first_leaf)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._nodes[1])

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._nodes.nbytes

    def priorities(self, leaves: np.ndarray) -> np.ndarray:
        """(B,) float64 of (B,) leaves."""
        return self._nodes[leaves + self._first_leaf]

    def set(self, leaves: np.ndarray, priorities: np.ndarray | float) -> None:
        """Gives (B,) leaves new priorities; of a leaf named twice the last one stays.

        Raises:
            ValueError: a priority is negative or no finite number.
        """
        if not np.all((priorities >= np.float64(0)) & (priorities < np.inf)):
            raise ValueError("a priority is a finite number of at least 0")
        nodes = leaves + self._first_leaf
        self._nodes[nodes] = priorities
        for _ in range(self._depth):
            nodes = nodes >> 1
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def sample(self, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        """Draws one leaf from each of B equal parts of the total, (B,) int64 in ascending order.

        Leaves of priority 0 are never drawn.

        Raises:
            ValueError: all priorities are 0.
        """
        if not self.total > 0:
            raise ValueError("nothing can be drawn: all priorities are 0")
        mass = (np.arange(batch_size) + rng.random(batch_size)) * (self.total / batch_size)
        nodes = np.ones(batch_size, np.int64)
        for _ in range(self._depth):
            left = 2 * nodes
            on_the_left = self._nodes[left]
            # Rounding may leave a mass that no leaf covers; an empty part is not entered for it.
            right = (mass >= on_the_left) & (self._nodes[left + 1] > 0)
            mass -= on_the_left * right
            nodes = left + right
        return nodes - self._first_leaf


class RingPriorities:
    """Priorities of a ring of rows, of which a window of neighbouring rows may be drawn.

    Rows are counted on and on; row r lies in slot r % rows. Entry (row, column) has the id
    row * columns + column, which no later entry has.

    Args:
        rows: slots of the ring.
        columns: entries in each row.
        exponent: power of the error in a priority (alpha); 0 draws uniformly.
    """

    def __init__(self, rows: int, columns: int, exponent: float):
        self.rows, self.columns, self.exponent = rows, columns, exponent
        self.highest = 1.0  # priority so far
        self.written = 0  # rows that were ever begun
        self.first, self.end = 0, 0  # the window
        self._priorities = np.zeros((rows, columns))  # also of rows outside the window
        self._tree = SumTree(rows * columns)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._priorities.nbytes + self._tree.nbytes

    def renew(self, row: int) -> None:
        """A new row takes its slot, with the highest priority so far, 1 at first."""
        self._priorities[row % self.rows] = self.highest
        self.written = row + 1

    def slide(self, first: int, end: int) -> None:
        """From now on the rows first <= row < end may be drawn, at most `rows` of them."""
        end = max(first, end)
        if (first, end) == (self.first, self.end):
            return
        leaving = _outside(self.first, self.end, first, end)
        entering = _outside(first, end, self.first, self.end)
        # In this order: a row that enters may take the slot of one that leaves.
        for rows, weight in ((leaving, 0.0), (entering, 1.0)):
            slots = rows % self.rows
            leaves = slots[:, None] * self.columns + np.arange(self.columns)
            self._tree.set(leaves.ravel(), weight * self._priorities[slots].ravel())
        self.first, self.end = first, end

    def sample(self, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        """(B,) int64 ids from the window; raises ValueError when it is empty."""
        slots, columns = np.divmod(self._tree.sample(batch_size, rng), self.columns)
        return (self.first + (slots - self.first) % self.rows) * self.columns + columns

    def weights(self, ids: np.ndarray, exponent: float) -> np.ndarray:
        """Importance weights (N p)^-beta over the largest of the batch, (B,) float32.

        Schaul et al. (2016), section 3.4. They divide by the largest weight, which we take from
        the batch, as DQN Zoo does.

        Args:
            ids: of entries in the window, N of them with probabilities p.
            exponent: beta in [0, 1].
        """
        rows, columns = np.divmod(ids, self.columns)
        priorities = self._tree.priorities(rows % self.rows * self.columns + columns)
        count = (self.end - self.first) * self.columns
        weights = (count * priorities / self._tree.total) ** -exponent
        return (weights / weights.max()).astype(np.float32)

    def update(self, ids: np.ndarray, errors: np.ndarray) -> None:
        """Gives entries the priority (|error| + floor)^alpha; those overwritten are left alone."""
        rows, columns = np.divmod(ids, self.columns)
        kept = (rows >= self.written - self.rows) & (rows < self.written)
        rows, columns = rows[kept], columns[kept]
        if not len(rows):
            return
        errors = np.abs(errors[kept].astype(np.float64))
        priorities = (errors + PRIORITY_FLOOR) ** self.exponent
        slots = rows % self.rows
        self._priorities[slots, columns] = priorities
        inside = (rows >= self.first) & (rows < self.end)
        self._tree.set((slots * self.columns + columns)[inside], priorities[inside])
        self.highest = max(self.highest, float(priorities.max()))

    def get_state(self) -> dict:
        """All that `set_state` needs; the array is a view of the slots in use."""
        return {
            "shape": [self.rows, self.columns],
            "priorities": self._priorities[: min(self.written, self.rows)],
            "highest": self.highest,
            "written": self.written,
            "window": [self.first, self.end],
        }

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` gave; raises ValueError for another shape."""
        if list(state["shape"]) != [self.rows, self.columns]:
            raise ValueError(
                f"the saved priorities have shape {state['shape']}, not {[self.rows, self.columns]}"
            )
        self.slide(0, 0)
        self._priorities[: len(state["priorities"])] = state["priorities"]
        self.highest, self.written = float(state["highest"]), int(state["written"])
        first, end = state["window"]
        self.slide(int(first), int(end))


def _outside(first: int, end: int, other_first: int, other_end: int) -> np.ndarray:
    """The rows of first <= row < end that are not in the other range."""
    before = np.arange(first, min(end, other_first))
    after = np.arange(max(first, other_end), end)
    return np.concatenate([before, after]) if other_end > other_first else np.arange(first, end)


class PrioritizedReplay:
    """A replay memory that draws transitions by their TD error.

    Proportional prioritization, Schaul et al. (2016): P(i) = p_i^alpha / sum of p_k^alpha with
    p = |error| + 1e-6, drawn in strata. A new transition has the highest priority so far, 1 at
    first. The newest n - 1 steps, whose n-step returns are not complete, and those whose stack of
    frames has left the ring are not drawn.

    Args:
        replay: keeps the transitions; empty.
        exponent: alpha; 0 draws uniformly.
    """

    def __init__(self, replay: FrameReplay, exponent: float):
        self.replay = replay
        self.num_envs = replay.num_envs
        self._priorities = RingPriorities(replay.length, replay.num_envs, exponent)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self.replay.nbytes + self._priorities.nbytes

    def __len__(self) -> int:
        return len(self.replay)

    def reset(self, observations: np.ndarray) -> None:
        """Begins new episodes in every environment; see `FrameReplay.reset`."""
        self.replay.reset(observations)

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
        self._priorities.renew(self.replay.time)
        self.replay.add(
            *(actions, rewards, terminated, truncated, episode_over),
            observations,
            final_observations,
        )

    def sample(
        self, batch_size: int, rng: np.random.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> Batch:
        """Draws transitions by priority; their ids are `indices`.

        Raises:
            ValueError: fewer than `n_step` steps are stored.
        """
        oldest, end = self.replay._oldest(), self.replay.time - n_step + 1
        if end <= oldest:
            raise ValueError(f"the replay memory holds fewer than {n_step} steps")
        self._priorities.slide(oldest, end)
        ids = self._priorities.sample(batch_size, rng)
        times, envs = np.divmod(ids, self.num_envs)
        batch = self.replay.gather(times, envs, n_step=n_step, gamma=gamma)
        return replace(batch, indices=ids)

    def weigh(self, batch: Batch, exponent: float) -> Batch:
        """The batch that `sample` gave last, with importance weights.

        Args:
            batch: with `indices`.
            exponent: beta in [0, 1]; see `RingPriorities.weights`.
        """
        assert batch.indices is not None, "only batches of this memory are weighed"
        weights = self._priorities.weights(batch.indices, exponent)
        return replace(batch, weights=torch.from_numpy(weights))

    def set_priorities(self, indices: np.ndarray, errors: np.ndarray) -> None:
        """Gives transitions the priorities of their newest errors.

        Args:
            indices: (B,) of batches of any age; of a transition named twice the last error counts,
                and one that was overwritten is left alone.
            errors: (B,) TD errors.
        """
        self._priorities.update(indices, errors)

    def get_state(self) -> dict:
        """All that `set_state` needs; the arrays are views, not copies."""
        return {"replay": self.replay.get_state(), "priorities": self._priorities.get_state()}

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` gave; raises ValueError for another shape."""
        self.replay.set_state(state["replay"])
        self._priorities.set_state(state["priorities"])
