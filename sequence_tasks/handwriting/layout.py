"""From lines of writing to a page: where each line stands, how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...datasets.strokes import Writing, to_strokes
from ...errors import UsageError
from .paths import baseline

_WIDE = 6.0
"""heights of small letters that a line must be wide to be levelled"""


@dataclass(frozen=True)
class Page:
    """Writing on paper, in pixels.

    Attributes:
        strokes: float64 (n, 2) each, in the order of writing; y grows downwards.
        width, height: of the paper.
    """

    strokes: list[np.ndarray]
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """How lines are put on a page.

    Attributes:
        size: pixels that small letters are high.
        line_height: from baseline to baseline, in heights of small letters.
        margin: around the page, in heights of small letters.
        page_width: of the page, in heights of small letters; 0 for as wide as the longest line.
        jitter: 0 to 1, by how much lines begin, stand and lean at random.
    """

    size: float = 16.0
    line_height: float = 4.5
    margin: float = 2.0
    page_width: float = 0.0
    jitter: float = 0.3


def broken(text: str, longest: int) -> list[str]:
    """Lines of at most `longest` characters, broken at spaces; "" stands for an empty line.

    Line breaks of the text stay. A longer word has a line of its own.
    """
    lines: list[str] = []
    for paragraph in text.replace("\r\n", "\n").replace("\t", " ").split("\n"):
        line = ""
        for word in paragraph.split():
            if line and len(line) + 1 + len(word) > longest:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    while lines and not lines[-1]:
        lines.pop()
    return lines


def levelled(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) as float64 (N, 2), turned so that a wide line neither climbs nor falls."""
    xy = points[:, :2].astype(np.float64)
    if np.ptp(xy[:, 0]) < _WIDE:
        return xy
    xy[:, 1] -= np.polyfit(xy[:, 0], xy[:, 1], 1)[0] * xy[:, 0]
    xy[:, 1] -= baseline(np.column_stack([xy, points[:, 2]]))
    return xy


def place(lines: Sequence[Writing | None], layout: Layout, rng: np.random.Generator) -> Page:
    """Puts lines below each other; None leaves one empty.

    A line that is wider than `page_width` is made smaller.

    Raises:
        UsageError: no line has any point.
    """
    if not any(line is not None for line in lines):
        raise UsageError("there is nothing to write: the text is empty.")
    strokes: list[np.ndarray] = []
    for number, line in enumerate(lines):
        shift, drop, lean = rng.normal(0, layout.jitter, 3) * (0.8, 0.12, 0.008)
        if line is None:
            continue
        xy = levelled(line.points)
        xy[:, 0] -= xy[:, 0].min()
        if layout.page_width and xy[:, 0].max() > layout.page_width:
            xy *= layout.page_width / xy[:, 0].max()
        xy[:, 1] += lean * xy[:, 0]
        xy += (abs(shift), number * layout.line_height + drop)
        strokes += to_strokes(np.column_stack([xy, line.points[:, 2]]))
    every = np.concatenate(strokes)
    low, high = every.min(0), every.max(0)
    # All pages have their lines at the same height, whatever the letters' lengths.
    low = np.minimum(low, (0.0, -2.0))
    high = np.maximum(high, (layout.page_width, (len(lines) - 1) * layout.line_height + 1.0))
    size, margin = layout.size, layout.margin
    moved = [(stroke - low + margin) * size for stroke in strokes]
    width, height = ((high - low + 2 * margin) * size).tolist()
    return Page(moved, width, height)
