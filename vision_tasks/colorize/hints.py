"""Colours that a user gives at points, spread over the things that the points lie on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import UsageError
from .lab import rgb_to_lab_array

REACH = 0.25
"""Distance over which a hint loses its hold on an even surface, as a share of the longer side."""
BARRIER = 0.02
"""Length that a step of lightness by 1 adds to a way, as a share of the longer side."""
_SWEEPS = 4  # over the picture in each direction; ways bend no more often than that
_HINT = re.compile(r"(-?\d+),(-?\d+),#([0-9a-fA-F]{6})")


@dataclass(frozen=True)
class Hint:
    """A colour wanted at a point.

    Attributes:
        x, y: column and row in pixels of the picture at full size.
        ab: CIE a* and b*.
    """

    x: int
    y: int
    ab: tuple[float, float]


def parse_hint(text: str) -> Hint:
    """ "120,80,#a03020" -> a hint; raises UsageError where the text is written otherwise."""
    match = _HINT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"hint {text!r} is not like 120,80,#a03020 (column, row, colour).")
    colour = np.frombuffer(bytes.fromhex(match[3]), np.uint8)
    _, a, b = rgb_to_lab_array(colour[None])[0].tolist()
    return Hint(int(match[1]), int(match[2]), (a, b))


def spread_hints(
    hints: Sequence[Hint], guide: np.ndarray, ab: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Blends hints into a prediction.

    A hint's hold on a pixel falls with the length of the shortest way between them, and a way is
    the longer the more lightness changes along it: an edge holds a colour back. Where several
    hints reach, they are mixed; where none does, the prediction stays.

    Args:
        hints: at least one, in pixels of the full size.
        guide: lightness float32 (h, w).
        ab: the prediction float32 (h, w, 2).
        size: height and width of the picture at full size.

    Returns:
        float32 (h, w, 2).

    Raises:
        UsageError: a hint outside the picture.
    """
    height, width = guide.shape
    starts = []
    for hint in hints:
        if not (0 <= hint.x < size[1] and 0 <= hint.y < size[0]):
            raise UsageError(
                f"hint {hint.x},{hint.y} lies outside the picture of {size[1]} x {size[0]} pixels."
            )
        starts.append((hint.y * height // size[0], hint.x * width // size[1]))
    holds = np.exp(-0.5 * (_ways(guide, starts) / np.float32(REACH)) ** 2)
    colours = np.array([hint.ab for hint in hints], np.float32)
    mixed = np.einsum("khw,kc->hwc", holds, colours)
    mixed /= np.maximum(holds.sum(axis=0), np.float32(1e-20))[..., None]
    hold = holds.max(axis=0)[..., None]
    return np.asarray(hold * mixed + (1 - hold) * ab, dtype=np.float32)


def _ways(guide: np.ndarray, starts: Sequence[tuple[int, int]]) -> np.ndarray:
    """Lengths of the shortest ways from each start to each pixel, float32 (K, h, w)."""
    # Texture must not count as a multitude of edges.
    calm = cv2.bilateralFilter(guide, d=7, sigmaColor=8, sigmaSpace=2)
    far = np.full((len(starts), *guide.shape), 1e6, np.float32)
    for ways, (row, column) in zip(far, starts, strict=True):
        ways[row, column] = 0
    step = 1 / max(guide.shape)
    for _ in range(_SWEEPS):
        before = far.copy()
        for turned, lie in ((far, calm), (far.transpose(0, 2, 1), calm.T)):
            _sweep(turned, lie, step)
            _sweep(turned[:, ::-1], lie[::-1], step)
        if np.array_equal(before, far):
            break
    return far


def _sweep(ways: np.ndarray, guide: np.ndarray, step: float) -> None:
    """Carries ways from every row to the next, straight and aslant; in place."""
    last = guide.shape[1] - 1
    for row in range(1, len(guide)):
        for aside in (0, 1, -1):
            to = slice(max(aside, 0), last + 1 + min(aside, 0))
            origin = slice(max(-aside, 0), last + 1 + min(-aside, 0))
            climb = np.abs(guide[row, to] - guide[row - 1, origin]) * np.float32(BARRIER)
            length = np.float32(step * (1.4142135 if aside else 1))
            reached = ways[:, row - 1, origin] + (climb + length)
            np.minimum(ways[:, row, to], reached, out=ways[:, row, to])
