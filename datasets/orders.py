"""In which order examples are learnt from."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

KEPT = 4  # permutations: a batch may lie in two epochs, and batches are made ahead


class EpochOrder:
    """Every example once an epoch, each epoch in an order of its own.

    Epochs follow each other without a gap: a batch may hold the end of one and the next one's
    beginning. The order is a pure function of the seeds.

    Args:
        count: of examples.
        seeds: any, not below 0; the epoch is put behind them.
    """

    def __init__(self, count: int, *seeds: int):
        self._count, self._seeds = count, seeds
        self._permutation = lru_cache(maxsize=KEPT)(self._drawn)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Which examples stand at places int64 (N,), counted from the beginning: int64 (N,)."""
        epochs, inside = np.divmod(places, self._count)
        found = np.empty(len(places), np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            found[here] = self._permutation(int(epoch))[inside[here]]
        return found

    def _drawn(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self._seeds, epoch]).permutation(self._count)
