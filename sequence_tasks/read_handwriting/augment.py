"""Random changes of handwriting that keep what it says."""

from __future__ import annotations

import numpy as np

_KNOT = 24
"""points between two knots of a smooth random curve"""


def augmented(
    points: np.ndarray, lengths: np.ndarray, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Changes a padded batch: slant, scale, rotation, smooth stretch, jitter, lost points.

    Args:
        points: float32 (B, T, 3): x, y, lift after the point; changed in place.
        lengths: int64 (B,) points that count of each row, at least 1.
        strength: factor on all changes; 0 for none.
        rng: of the draws.

    Returns:
        the changed points, those that count first, and their new lengths. First and last points
        of strokes are never lost.
    """
    rows, steps = points.shape[:2]
    if strength == 0:
        return points, lengths
    moves = np.diff(points[:, :, :2], axis=1, prepend=points[:, :1, :2])
    # Parts of a line are written larger, narrower or more turned than others.
    smooth = _smooth(rng, rows, steps, 3) * np.float32(strength)
    along, across, turn = smooth[..., 0], smooth[..., 1], smooth[..., 2]
    x, y = moves[..., 0] * (1 + 0.15 * along), moves[..., 1] * (1 + 0.15 * across)
    moves[..., 0] = x - 0.12 * turn * y
    moves[..., 1] = y + 0.12 * turn * x
    moves @= _affine(rng, rows, strength)
    xy = np.cumsum(moves, axis=1, out=moves)
    noise = rng.uniform(0, 0.03 * strength, (rows, 1, 1)).astype(np.float32)
    xy += noise * rng.standard_normal(xy.shape, np.float32)
    points[..., :2] = xy
    return _thinned(points, lengths, 0.12 * strength, rng)


def _affine(rng: np.random.Generator, rows: int, strength: float) -> np.ndarray:
    """Matrices float32 (rows, 2, 2), applied from the right: scale, then slant, then rotation."""
    height = np.exp(strength * rng.normal(0, 0.15, rows))
    width = height * np.exp(strength * rng.normal(0, 0.15, rows))
    slant = strength * rng.normal(0, 0.25, rows)
    angle = strength * rng.normal(0, 0.05, rows)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.empty((rows, 2, 2), np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = width * cos, width * sin
    matrix[:, 1, 0], matrix[:, 1, 1] = height * (slant * cos - sin), height * (slant * sin + cos)
    return matrix


def _smooth(rng: np.random.Generator, rows: int, steps: int, curves: int) -> np.ndarray:
    """Random curves float32 (rows, steps, curves) of unit variance at their knots."""
    knots = rng.standard_normal((rows, steps // _KNOT + 2, curves), np.float32)
    place, share = np.divmod(np.arange(steps), _KNOT)
    weight = (share / _KNOT).astype(np.float32)[None, :, None]
    return knots[:, place] * (1 - weight) + knots[:, place + 1] * weight


def _thinned(
    points: np.ndarray, lengths: np.ndarray, most: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Loses a share of each row's inner points, drawn from 0 to `most`."""
    rows, steps = points.shape[:2]
    lift = points[..., 2] > 0.5
    ends = lift.copy()
    ends[:, 1:] |= lift[:, :-1]
    ends[:, 0] = True
    lost = rng.random((rows, steps), np.float32) < rng.uniform(0, most, (rows, 1))
    kept = (ends | ~lost) & (np.arange(steps) < lengths[:, None])
    thinned = np.zeros_like(points)
    row, place = np.nonzero(kept)
    thinned[row, (np.cumsum(kept, axis=1) - 1)[row, place]] = points[row, place]
    return thinned, kept.sum(axis=1)
