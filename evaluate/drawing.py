"""Smooth text and simple shapes on RGB arrays, without a display and without other libraries."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font

Colour = tuple[int, int, int]

_FONTS = {False: "DejaVuSansMono.ttf", True: "DejaVuSansMono-Bold.ttf"}
_ADVANCE = 1233 / 2048  # width of a DejaVu Sans Mono character in units of the font's size


@functools.cache
def _font(bold: bool) -> FT2Font:
    # The font comes with matplotlib, so a picture looks the same on every machine.
    return FT2Font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", _FONTS[bold])))


@functools.lru_cache(maxsize=4096)
def _glyph(character: str, size: int, bold: bool) -> tuple[np.ndarray, int, int]:
    """Coverage (h, w) float32 in [0, 1], offset from the pen, and rows above the baseline."""
    font = _font(bold)
    font.set_size(size, 72)
    metrics = font.load_char(ord(character))
    font.set_text(character)
    font.draw_glyphs_to_bitmap(antialiased=True)
    mask = np.asarray(font.get_image(), np.float32) / 255.0
    # How much empty margin the bitmap has differs between versions of matplotlib.
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return mask, round(metrics.horiBearingX / 64), round(metrics.horiBearingY / 64)


def text_width(text: str, size: int) -> int:
    """Width in pixels of `text` at `size` pixels an em."""
    return round(len(text) * size * _ADVANCE)


def draw_text(
    canvas: np.ndarray,
    text: str,
    position: tuple[int, int],
    size: int,
    colour: Colour,
    *,
    bold: bool = False,
    right: bool = False,
) -> None:
    """Writes `text` onto the canvas, in place; what would stand outside is cut off.

    Args:
        canvas: (H, W, 3) uint8.
        text: one line.
        position: (x, y) of the left (or right) end of the baseline.
        size: pixels an em.
        colour: RGB.
        bold: heavier strokes.
        right: `position` is the right end.
    """
    pen = position[0] - (text_width(text, size) if right else 0)
    for index, character in enumerate(text):
        if character != " ":
            mask, offset, above = _glyph(character, size, bold)
            left = pen + round(index * size * _ADVANCE) + offset
            _blend(canvas, mask, left, position[1] - above, colour)


def _blend(canvas: np.ndarray, mask: np.ndarray, left: int, top: int, colour: Colour) -> None:
    height, width = mask.shape
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, canvas.shape[1]), min(top + height, canvas.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    part = canvas[y0:y1, x0:x1]
    cover = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    part[:] = (part + (np.asarray(colour, np.float32) - part) * cover + 0.5).astype(np.uint8)


def fill(canvas: np.ndarray, box: tuple[int, int, int, int], colour: Colour) -> None:
    """Fills the box (left, top, right, bottom; the last two excluded) in place."""
    left, top, right, bottom = box
    canvas[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = colour


def draw_line(canvas: np.ndarray, points: np.ndarray, colour: Colour, thickness: int = 2) -> None:
    """Draws a smooth line through points (n, 2) of (x, y), in place."""
    cv2.polylines(canvas, [points.astype(np.int32)], False, colour, thickness, cv2.LINE_AA)
