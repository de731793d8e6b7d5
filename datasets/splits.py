"""How examples are divided into training, validation and test, where nobody has done so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def split_called(name: str) -> str | None:
    """The split that a folder or file of this name holds; None where it is no usual name."""
    return _NAMES.get(name.lower())


def held_out_by_class(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which examples are held out: a seeded share of each class, at least one where there are two.

    Args:
        labels: integers (N,).
        share: of each class, in (0, 1).
        seed: of the draw.

    Returns:
        bool (N,).
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(len(members) - 1, max(1, round(share * len(members))))
        held[rng.permutation(members)[:count]] = True
    return held


def divided_by_group(
    groups: Sequence[str], shares: Sequence[tuple[str, float]], seed: int
) -> list[str]:
    """Gives whole groups to splits: seeded, at least one group each, the rest to "train".

    Args:
        groups: each example's group.
        shares: (split, share of the groups) for all but "train".
        seed: of the draw.

    Returns:
        each example's split.
    """
    names = sorted(set(groups))
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    place = dict.fromkeys(names, "train")
    for split, share in shares:
        count = min(len(shuffled) - 1, max(1, round(share * len(names))))
        for name in shuffled[:count]:
            place[name] = split
        shuffled = shuffled[count:]
    return [place[group] for group in groups]


def common_top(names: Iterable[str], below: str = "") -> str:
    """The folder, ending in "/" or empty, below which the first branch or the first file lies.

    Args:
        names: of files, with "/" between folders.
        below: a folder to begin at, ending in "/" or empty.
    """
    names = [name for name in names if name.startswith(below)]
    while True:
        tops = {name[len(below) :].partition("/")[::2] for name in names}
        firsts = {first for first, _ in tops}
        if len(firsts) != 1 or any(not rest for _, rest in tops):
            return below
        below += firsts.pop() + "/"
