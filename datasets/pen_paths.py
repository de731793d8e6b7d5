"""Geometry of pens' paths, computed for many writings at once.

Writings lie one after another in one array of points (N, 3): x, y (down) and 1 where the pen is
lifted after the point; the last point of each has it. `sizes` (S,) says how many points each has.
"""

from __future__ import annotations

import numpy as np

_STEEPEST = np.tan(np.radians(20.0))
"""a line that climbs more is left as it is: it is no line of text"""
_LEVEL_FROM = 6.0
"""heights that a writing must be wide to be levelled; a short word's slope says nothing"""


def without_repeats(points: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leaves out points that lie where the point before of the same stroke does."""
    lift = points[:, 2] > 0.5
    repeats = np.zeros(len(points), bool)
    moved = (points[1:, 0] != points[:-1, 0]) | (points[1:, 1] != points[:-1, 1])
    repeats[1:] = ~(moved | lift[:-1])
    kept = points[~repeats]
    place = np.cumsum(~repeats)
    # A lift belongs to the last point that is kept of its stroke.
    kept[place[lift] - 1, 2] = 1
    return kept, np.diff(place[np.cumsum(sizes) - 1], prepend=0)


def core_heights(points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The height of small letters of each writing, float64 (S,), above 0.

    It is the median of the way up or down that the pen goes between two turns, each weighted by
    its length, which neither slope nor a few tall letters change.
    """
    owner, lift = np.repeat(np.arange(len(sizes)), sizes), points[:, 2] > 0.5
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    drawn = ~lift[:-1]  # moves with the pen down
    rise, across = np.diff(y)[drawn], np.diff(x)[drawn]
    length = np.bincount(owner[:-1][drawn], np.hypot(rise, across), minlength=len(sizes))
    stroke = np.concatenate([[0], np.cumsum(lift[:-1])])
    moving = rise != 0
    height = _middle_ways(
        rise[moving], stroke[:-1][drawn][moving], owner[:-1][drawn][moving], len(sizes)
    )
    # Dashes and dots have no height of their own.
    starts = np.concatenate([[0], np.flatnonzero(lift[:-1]) + 1])
    high_y, low_y = np.maximum.reduceat(y, starts), np.minimum.reduceat(y, starts)
    wide = np.maximum.reduceat(x, starts) - np.minimum.reduceat(x, starts)
    extent = np.maximum(high_y - low_y, wide)
    strokes_owner = owner[starts]
    first = np.searchsorted(strokes_owner, np.arange(len(sizes)))
    straight = length < 1.2 * np.add.reduceat(extent, first)
    tall = np.maximum.reduceat(high_y, first) - np.minimum.reduceat(low_y, first)
    order = np.lexsort((extent, strokes_owner))
    count = np.diff(first, append=len(starts))
    middle = extent[order[first + count // 2]]
    found = np.maximum.reduce([height, middle / np.where(straight, 2, 30), tall / 20])
    return np.where(found > 0, found, 1.0)


def _middle_ways(rise: np.ndarray, stroke: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The weighted median of ways between turns of each of `count` writings; 0 where none is."""
    height = np.zeros(count)
    if not len(rise):
        return height
    turn = (np.diff(np.sign(rise)) != 0) | (np.diff(stroke) != 0)
    begins = np.concatenate([[0], np.flatnonzero(turn) + 1])
    ways, whose = np.abs(np.add.reduceat(rise, begins)), owner[begins]
    order = np.lexsort((ways, whose))
    ways, whose = ways[order], whose[order]
    weight = np.cumsum(ways)
    present, first = np.unique(whose, return_index=True)
    before = np.concatenate([[0.0], weight])[first]
    ends = np.append(first[1:], len(ways))
    half = before + (weight[ends - 1] - before) / 2
    height[present] = ways[np.minimum(np.searchsorted(weight, half), ends - 1)]
    return height


def normalised(points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Brings each writing to core height 1, its first point to (0, 0), and a wide one level.

    Returns:
        float32 (N, 3).
    """
    starts = np.cumsum(sizes) - sizes
    xy = points[:, :2].astype(np.float64)
    xy -= np.repeat(xy[starts], sizes, axis=0)
    xy /= np.repeat(core_heights(points, sizes), sizes)[:, None]
    centred = xy - np.repeat(np.add.reduceat(xy, starts) / sizes[:, None], sizes, axis=0)
    spread = np.add.reduceat(centred[:, 0] ** 2, starts)
    shared = np.add.reduceat(centred[:, 0] * centred[:, 1], starts)
    slope = shared / np.maximum(spread, 1e-12)
    width = np.maximum.reduceat(xy[:, 0], starts) - np.minimum.reduceat(xy[:, 0], starts)
    level = (width > _LEVEL_FROM) & (np.abs(slope) < _STEEPEST)
    angle = np.repeat(np.where(level, np.arctan(slope), 0.0), sizes)
    cos, sin = np.cos(angle), np.sin(angle)
    found = np.empty((len(xy), 3), np.float32)
    found[:, 0] = xy[:, 0] * cos + xy[:, 1] * sin
    found[:, 1] = xy[:, 1] * cos - xy[:, 0] * sin
    found[:, 2] = points[:, 2]
    return found


def resampled(
    points: np.ndarray, sizes: np.ndarray, step: float, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points at equal distances along every stroke; see `strokes.resampled`."""
    lift = points[:, 2] > 0.5
    way = np.hypot(np.diff(points[:, 0].astype(np.float64)), np.diff(points[:, 1]))
    # Between strokes the arc length jumps by 1, so that no two points share a place on it.
    arc = np.concatenate([[0.0], np.cumsum(np.where(lift[:-1], 1.0, way))])
    last = np.flatnonzero(lift)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = arc[last] - arc[first]
    pieces = np.maximum(np.ceil(lengths / step - 1e-6).astype(np.int64), least - 1)
    counts = pieces + 1
    ends = np.cumsum(counts)
    within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    share = within / np.repeat(np.maximum(pieces, 1), counts)
    wanted = np.repeat(arc[first], counts) + share * np.repeat(lengths, counts)
    made = np.zeros((len(wanted), 3), np.float32)
    made[:, 0] = np.interp(wanted, arc, points[:, 0])
    made[:, 1] = np.interp(wanted, arc, points[:, 1])
    made[ends - 1, 2] = 1
    last_stroke = np.searchsorted(last, np.cumsum(sizes) - 1)
    return made, np.diff(ends[last_stroke], prepend=0)
