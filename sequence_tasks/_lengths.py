"""Sequences of unequal lengths: which steps count, and which sequences go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

_Count = TypeVar("_Count", int, Tensor)


def counts(lengths: Tensor, steps: int) -> Tensor:
    """bool (B, steps): whether a step is within each length (B,)."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def halved(count: _Count) -> _Count:
    """What a convolution of stride 2 leaves of a length, or of lengths."""
    return (count + 1) // 2


def of_one_length(lengths: Sequence[int], multiple: int, most: int) -> Iterator[np.ndarray]:
    """Groups of sequences that are padded to the same length.

    What a network says of a sequence in such a group does not depend on the others.

    Args:
        lengths: of all sequences.
        multiple: they are padded to the next one.
        most: steps of a group, padding included; a single sequence may have more.

    Yields:
        int64 (n,), indices of the group's sequences.
    """
    padded = np.array([-(-length // multiple) * multiple for length in lengths])
    for length in np.unique(padded):
        rows = np.flatnonzero(padded == length)
        size = max(1, most // int(length))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def batches_of_like_length(
    lengths: np.ndarray,
    size: int,
    rng: np.random.Generator,
    spread: tuple[float, float],
    shuffled: bool,
) -> np.ndarray:
    """An epoch's batches, each of sequences of nearly one length.

    Args:
        lengths: of all sequences, (N,).
        size: of a batch; the last one is filled with the shortest sequences.
        rng: draws the order.
        spread: lowest and highest factor on a length before it is sorted by: the wider, the more
            the batches change from epoch to epoch.
        shuffled: whether the batches are in random order; else the shortest come first.

    Returns:
        int64 (batches, size), indices.
    """
    order = np.argsort(lengths * rng.uniform(*spread, len(lengths)), kind="stable")
    batches = np.resize(order, -(-len(order) // size) * size).reshape(-1, size)
    return batches[rng.permutation(len(batches))] if shuffled else batches


def cuts(count: int, longest: int, rng: np.random.Generator) -> np.ndarray:
    """Where `count` items are cut into rows of 1 to `longest`."""
    ends = np.cumsum(rng.integers(1, longest + 1, count))
    return ends[ends < count]
