"""Colour that was predicted small, brought to a picture's full size along the picture's edges.

After the guided filter (He, Sun and Tang 2013) in its fast form (He and Sun 2015): around every
pixel, colour is taken for a linear function of lightness, whose slope is fitted at the small size
and applied to lightness at full size. Unlike the filter's, each function goes through the pixel's
own colour: nothing of the prediction is smoothed away, and what full size adds follows the edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from .paint_light import lightness, with_colour

RADIUS = 2
"""Pixels at the small size from a window's middle to its edge."""
SMOOTHNESS = 36.0
"""Squared steps of lightness below which a change of lightness is no edge."""
_STRIP = 2**20  # pixels that are coloured at once, which bounds the memory


def guided_lines(guide: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """Fits colour as a linear function of lightness around every pixel.

    Args:
        guide: lightness float32 (h, w).
        ab: colour float32 (h, w, 2).

    Returns:
        float32 (h, w, 4): slopes of a* and b*, then their values at lightness 0.
    """
    mean = _box(guide)
    spread = np.maximum(_box(guide * guide) - mean * mean, 0) + np.float32(SMOOTHNESS)
    mean_ab = _box(ab)
    slopes = (_box(guide[..., None] * ab) - mean[..., None] * mean_ab) / spread[..., None]
    slopes = _box(slopes)
    return np.concatenate([slopes, ab - slopes * guide[..., None]], axis=2)


def _box(values: np.ndarray) -> np.ndarray:
    side = 2 * RADIUS + 1
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REPLICATE))


def paint(rgb: np.ndarray, guide: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """Colours a picture.

    Args:
        rgb: uint8 (H, W, 3), of which the lightness is taken.
        guide: the same picture's lightness at the small size, float32 (h, w).
        ab: its colour, float32 (h, w, 2).

    Returns:
        RGB uint8 (H, W, 3) of the same lightness.
    """
    painted = np.empty_like(rgb)
    for rows, bright, colour in _strips(rgb, guide, ab):
        painted[rows] = with_colour(bright, colour)
    return painted


def full_colour(rgb: np.ndarray, guide: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """The colour that `paint` puts on: float32 (H, W, 2), before it is fitted into the gamut."""
    return np.concatenate([colour for _, _, colour in _strips(rgb, guide, ab)])


def _strips(
    rgb: np.ndarray, guide: np.ndarray, ab: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows of the picture, their lightness (n, W) and their colour (n, W, 2)."""
    for rows, lines in _enlarged(guided_lines(guide, ab), *rgb.shape[:2]):
        bright = lightness(rgb[rows])
        yield rows, bright, bright[..., None] * lines[..., :2] + lines[..., 2:]


def _enlarged(lines: np.ndarray, height: int, width: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Strips of (h, w, 4), enlarged bilinearly to (height, width, 4), with the rows they are."""
    small = lines.shape[0]
    step = max(1, _STRIP // width)
    for first in range(0, height, step):
        rows = slice(first, min(height, first + step))
        y = (np.arange(rows.start, rows.stop) + 0.5) * small / height - 0.5
        y = np.clip(y, 0, small - 1)
        upper = np.floor(y).astype(np.intp)
        lower = np.minimum(upper + 1, small - 1)
        share = (y - upper).astype(np.float32)[:, None, None]
        between = lines[upper] * (1 - share) + lines[lower] * share
        size = (width, rows.stop - rows.start)
        wide = cv2.resize(between, size, interpolation=cv2.INTER_LINEAR)
        yield rows, np.asarray(wide).reshape(size[1], width, 4)
