"""chrF, the F score of character n-grams, by counts that add up over sentences."""

from __future__ import annotations

from collections import Counter

import numpy as np

ORDER = 6
_BETA = 2.0


def chrf_counts(text: str, reference: str) -> list[int]:
    """For each n-gram order: how many the text has, the reference has, and both share.

    Spaces do not count. Popovic 2015; an n-gram is shared as often as the rarer side has it.
    """
    ours, theirs = "".join(text.split()), "".join(reference.split())
    found: list[int] = []
    for n in range(1, ORDER + 1):
        a = Counter(ours[i : i + n] for i in range(len(ours) - n + 1))
        b = Counter(theirs[i : i + n] for i in range(len(theirs) - n + 1))
        # Without n-grams in the reference there is no precision to speak of.
        total = sum(a.values()) if b else 0
        found += [total, sum(b.values()), sum((a & b).values())]
    return found


def chrf_of(counts: np.ndarray) -> float:
    """chrF2 in [0, 100] of summed counts, (3 * ORDER,) as `chrf_counts` returns them."""
    precision = recall = 0.0
    orders = 0
    for ours, theirs, both in np.asarray(counts).reshape(ORDER, 3).tolist():
        if ours > 0 and theirs > 0:
            precision += both / ours
            recall += both / theirs
            orders += 1
    if not orders:
        return 0.0
    precision, recall = precision / orders, recall / orders
    if precision + recall == 0:
        return 0.0
    return 100 * (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)
