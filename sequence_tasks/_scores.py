"""What several tasks' scores share: edits between sequences, ratios of sums, exchanged items."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def edits(true: Sequence[Hashable], said: Sequence[Hashable]) -> tuple[int, int, int]:
    """Substitutions, deletions and insertions that make what is true into what was said.

    They are the fewest (Levenshtein), as jiwer counts them: characters of two texts, or words of
    two lists.
    """
    from rapidfuzz.distance import Levenshtein

    kinds = [one.tag for one in Levenshtein.editops(true, said)]
    return kinds.count("replace"), kinds.count("delete"), kinds.count("insert")


def exchanged(items: Sequence[Item]) -> list[Item]:
    """Items in another order, drawn once; none stays in its place if there are two or more."""
    order = np.random.default_rng(0).permutation(len(items))
    found = list(items)
    for place, source in zip(order, np.roll(order, 1), strict=True):
        found[place] = items[source]
    return found


def ratio(sums: np.ndarray, part: int, whole: int) -> Callable[[np.ndarray], float]:
    """The sum of one column over that of another, as a function of the units that are drawn.

    Args:
        sums: float (units, columns).
        part, whole: columns.
    """
    parts, wholes = sums[:, part], sums[:, whole]
    return lambda units: float(parts[units].sum() / max(1.0, wholes[units].sum()))
