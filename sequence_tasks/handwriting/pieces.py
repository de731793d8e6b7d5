"""Long lines cut between words, where it is plain which gap is a space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...datasets.strokes import Writing, to_strokes

_SPACE = 0.25
"""narrowest space, in core heights"""
_MISFIT = 0.5
"""largest logarithm of a word's width by what its letters should take, for a cut to be trusted"""
_NARROW, _WIDE = "fijlrt.,:;'!|I()[]1", "mwMWQ@%&"


def letter_width(character: str) -> float:
    """A guess: small letters are 1, others by their kind."""
    if character in _NARROW:
        return 0.6
    if character in _WIDE:
        return 1.5
    return 1.25 if character.isupper() else 1.0


def cut(writing: Writing, longest: int) -> list[Writing]:
    """Runs of whole words of a line, each of at most `longest` points.

    The spaces are found by dynamic programming: words shall be as wide as their letters make them,
    and spaces wide. A line that fits badly gives nothing; one that is short stays whole.

    Args:
        writing: at core height 1.
        longest: points.
    """
    if len(writing.points) <= longest:
        return [writing]
    words = writing.text.split()
    strokes = to_strokes(writing.points)
    ends = _spaces(words, strokes) if len(words) > 1 else None
    if ends is None:
        return []
    sizes = np.cumsum([0, *map(len, strokes)])
    pieces, first = [], 0
    edges = [0, *(end + 1 for end in ends), len(strokes)]
    for last in range(1, len(words) + 1):
        full = last < len(words) and sizes[edges[last + 1]] - sizes[edges[first]] > longest
        if full or last == len(words):
            rows = slice(int(sizes[edges[first]]), int(sizes[edges[last]]))
            if rows.stop - rows.start <= longest:
                points = writing.points[rows].copy()
                points[:, 0] -= points[0, 0]
                text = " ".join(words[first:last])
                pieces.append(Writing(points, text, writing.writer, writing.quality))
            first = last
    return pieces


def _spaces(words: Sequence[str], strokes: Sequence[np.ndarray]) -> list[int] | None:
    """The stroke after which each word but the last ends; None where it is not plain."""
    left = np.array([stroke[:, 0].min() for stroke in strokes])
    right = np.array([stroke[:, 0].max() for stroke in strokes])
    reached = np.maximum.accumulate(right)
    following = np.minimum.accumulate(left[::-1])[::-1]
    gaps = following[1:] - reached[:-1]
    places = np.flatnonzero(gaps > _SPACE)
    if len(places) < len(words) - 1:
        return None
    # Node 0 is the beginning, the last one the end; between them lie gaps that may be spaces.
    begin = np.concatenate([[left.min()], following[places + 1]])
    end = np.concatenate([reached[places], [right.max()]])
    gain = np.concatenate([np.minimum(gaps[places], 2.0), [0.0]])
    wanted = np.array([sum(map(letter_width, word)) for word in words])
    unit = (end[-1] - begin[0]) / (wanted.sum() + len(words) - 1)
    width = end[None, :] - begin[:, None]  # from node i to the gap (or end) j, i <= j
    usable = np.triu(np.ones(width.shape, bool)) & (width > 0)
    cost = np.full(len(begin), np.inf)
    cost[0] = 0.0
    came: list[np.ndarray] = []
    logs = np.log(np.where(usable, width, 1.0) / unit)
    for word in wanted:
        total = np.where(usable, cost[:, None] + (4 * (logs - np.log(word))) ** 2, np.inf)
        came.append(total.argmin(0))
        best = total.min(0) - 2 * gain
        cost = np.concatenate([[np.inf], best[:-1]])
        final = best[-1]
    if not np.isfinite(final):
        return None
    chosen, node = [], len(end) - 1
    for word, back in zip(wanted[::-1], came[::-1], strict=True):
        start = int(back[node])
        if abs(logs[start, node] - np.log(word)) > _MISFIT:
            return None
        chosen.append(node)
        node = start - 1
    return [int(places[index]) for index in chosen[::-1][:-1]]
