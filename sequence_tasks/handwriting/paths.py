"""The pen's path as the network sees it: smooth, level, few points, most of them where it bends.

Tablets differ in rate and resolution. Every writing is brought to core height 1 (the height of
small letters) and timed anew as by a pen that follows the two-thirds power law (Lacquaniti,
Terzuolo and Viviani 1983): its speed is inverse to the cube root of the path's curvature. A letter
then needs about a dozen points, and steps do not all have the same length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...datasets.strokes import Writing, normalised, resampled, without_repeats

_FINE = 0.06
"""distance of points, in core heights, at which curvature is taken"""
_SMOOTHINGS = 4
"""passes of the kernel (1 2 1) / 4 over fine points, against the tablet's pixels"""
_STRAIGHT = 0.3
"""least curvature, per core height: how fast the pen is on straight ways"""
_TOGETHER = 1000
"""writings that are computed together"""


def paced(writings: Sequence[Writing], density: float) -> list[Writing]:
    """Brings writings to core height 1, their baseline to y = 0, and few points.

    Args:
        writings: with points of any scale; y grows downwards.
        density: points on a core height of a path with curvature 1.

    Returns:
        as many, the first point of each at x = 0.
    """
    found: list[Writing] = []
    for first in range(0, len(writings), _TOGETHER):
        some = writings[first : first + _TOGETHER]
        found += _paced(some, density)
    return found


def _paced(writings: Sequence[Writing], density: float) -> list[Writing]:
    paths = [normalised(without_repeats(one.points)) for one in writings]
    strokes = np.cumsum([int(path[:, 2].sum()) for path in paths])
    fine = _smoothed(resampled(np.concatenate(paths), _FINE))
    few = _picked(fine, density)
    results = []
    for one, points, path in zip(
        writings, _apart(few, strokes), _apart(fine, strokes), strict=True
    ):
        points[:, 0] -= points[0, 0]
        points[:, 1] -= baseline(path)
        results.append(replace(one, points=points))
    return results


def _apart(points: np.ndarray, strokes: np.ndarray) -> list[np.ndarray]:
    """Cuts points of many writings; `strokes` counts strokes up to the end of each."""
    return np.split(points, np.flatnonzero(points[:, 2] > 0.5)[strokes - 1] + 1)[:-1]


def _smoothed(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) with less noise; ends of strokes stay."""
    inner = _inner(points)
    xy = points[:, :2].astype(np.float64)
    for _ in range(_SMOOTHINGS):
        xy[inner] = 0.25 * xy[inner - 1] + 0.5 * xy[inner] + 0.25 * xy[inner + 1]
    return np.column_stack([xy, points[:, 2]]).astype(np.float32)


def _inner(points: np.ndarray) -> np.ndarray:
    """Indices of points that neither begin nor end a stroke."""
    ends = points[:, 2] > 0.5
    begins = np.concatenate([[True], ends[:-1]])
    return np.flatnonzero(~(ends | begins))


def _picked(points: np.ndarray, density: float) -> np.ndarray:
    """Few of the points (N, 3), at equal times of a pen after the power law."""
    inner = _inner(points)
    moves = np.diff(points[:, :2].astype(np.float64), axis=0)
    lengths, angles = np.hypot(*moves.T), np.arctan2(moves[:, 1], moves[:, 0])
    turns = np.zeros(len(points))
    turned = angles[inner] - angles[inner - 1]
    turns[inner] = np.abs((turned + np.pi) % (2 * np.pi) - np.pi)
    curvature = turns / _FINE
    for _ in range(2):
        curvature[inner] = (
            0.25 * curvature[inner - 1] + 0.5 * curvature[inner] + 0.25 * curvature[inner + 1]
        )
    slowness = (curvature**2 + _STRAIGHT**2) ** (1 / 6)
    durations = lengths * 0.5 * (slowness[1:] + slowness[:-1]) * density

    lift = points[:, 2] > 0.5
    last = np.flatnonzero(lift)
    first = np.concatenate([[0], last[:-1] + 1])
    clock = np.concatenate([[0.0], np.cumsum(np.where(lift[:-1], 1.0, durations))])
    spans = clock[last] - clock[first]
    counts = np.where(spans > 0.3, np.maximum(np.rint(spans), 1), 0).astype(np.int64) + 1
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    share = within / np.repeat(np.maximum(counts - 1, 1), counts)
    wanted = np.repeat(clock[first], counts) + share * np.repeat(spans, counts)
    made = np.zeros((len(wanted), 3), np.float32)
    made[:, 0] = np.interp(wanted, clock, points[:, 0])
    made[:, 1] = np.interp(wanted, clock, points[:, 1])
    made[np.cumsum(counts) - 1, 2] = 1
    return made


def baseline(points: np.ndarray) -> float:
    """Where most letters stand: the median height of the path's lower turns, y down."""
    y = points[:, 1]
    inner = _inner(points)
    low = inner[(y[inner] >= y[inner - 1]) & (y[inner] > y[inner + 1])]
    ends = np.flatnonzero(points[:, 2] > 0.5)
    begins = np.concatenate([[0], ends[:-1] + 1])
    stops = ends[(ends > begins) & (y[ends] > y[ends - 1])]
    lower = np.concatenate([y[low], y[stops]])
    return float(np.median(lower)) if len(lower) else float(y.max())


def from_baseline(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) as (dx, dy, pen), the first from (0, 0): from the baseline."""
    offsets = points.astype(np.float32, copy=True)
    offsets[1:, :2] = np.diff(points[:, :2], axis=0)
    return offsets
