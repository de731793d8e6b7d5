"""Pictures of what words were read from."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...datasets.pictures import resize
from ..classify.heatmaps import overlay

TILE = 160  # pixels, side of a picture on a sheet
LINE = 22  # pixels, height of a line of text


def attention_sheet(rgb: np.ndarray, words: Sequence[str], maps: np.ndarray) -> np.ndarray:
    """A tile a word: the picture under the map of what the word was read from.

    Args:
        rgb: uint8 (S, S, 3).
        words: T of them.
        maps: float (T, h, w), 0 or more; each is shown relative to its largest value.

    Returns:
        uint8 (H, W, 3).
    """
    picture = resize(rgb, TILE, TILE)
    tiles = [_tile(picture, "")]
    for word, heat in zip(words, maps, strict=True):
        shown = (heat / max(float(heat.max()), 1e-9)).astype(np.float32)
        tiles.append(_tile(overlay(picture, shown, 0.45), word))
    return in_rows(tiles)


def alignment_sheet(
    rgb: np.ndarray, words: Sequence[str], regions: np.ndarray, grid: tuple[int, int]
) -> np.ndarray:
    """A tile for each run of words that fit one region, the region framed.

    Args:
        rgb: uint8 (S, S, 3).
        words: T of them.
        regions: int (T,), cells of the grid row by row; h * w stands for the whole picture.
        grid: (h, w).

    Returns:
        uint8 (H, W, 3).
    """
    picture = resize(rgb, TILE, TILE)
    tiles = [_tile(picture, "")]
    start = 0
    for place in range(1, len(words) + 1):
        if place < len(words) and regions[place] == regions[start]:
            continue
        tiles.append(
            _tile(_framed(picture, int(regions[start]), grid), " ".join(words[start:place]))
        )
        start = place
    return in_rows(tiles)


def _framed(picture: np.ndarray, region: int, grid: tuple[int, int]) -> np.ndarray:
    height, width = grid
    if region >= height * width:
        corners = (0, 0), (TILE - 1, TILE - 1)
    else:
        row, column = divmod(region, width)
        corners = (
            (column * TILE // width, row * TILE // height),
            ((column + 1) * TILE // width - 1, (row + 1) * TILE // height - 1),
        )
    return np.asarray(cv2.rectangle(picture.copy(), *corners, (255, 0, 0), 2))


def captioned(rgb: np.ndarray, lines: Sequence[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """A picture with lines of text, each in its colour, below: uint8 (H, 2 * TILE, 3)."""
    side = 2 * TILE
    broken = [(part, shade) for text, shade in lines for part in _broken(text, side)]
    strip = np.full((LINE * len(broken) + 6, side, 3), 255, np.uint8)
    for place, (text, shade) in enumerate(broken):
        _write(strip, text, 16 + LINE * place, shade)
    return np.concatenate([resize(rgb, side, side), strip])


def in_rows(tiles: Sequence[np.ndarray], columns: int = 6) -> np.ndarray:
    """Tiles of one width in rows, white between them; a row is as high as its highest tile."""
    columns = min(columns, len(tiles))
    rows = []
    for start in range(0, len(tiles), columns):
        some = list(tiles[start : start + columns])
        height = max(len(tile) for tile in some) + 6
        row = np.full((height, columns * (some[0].shape[1] + 6), 3), 255, np.uint8)
        for place, tile in enumerate(some):
            left = place * (tile.shape[1] + 6)
            row[: len(tile), left : left + tile.shape[1]] = tile
        rows.append(row)
    return np.concatenate(rows)


def _tile(picture: np.ndarray, text: str) -> np.ndarray:
    lines = _broken(text, TILE) or [""]
    strip = np.full((LINE * len(lines) + 6, TILE, 3), 255, np.uint8)
    for place, line in enumerate(lines):
        _write(strip, line, 16 + LINE * place, (0, 0, 0))
    return np.concatenate([picture, strip])


def _write(strip: np.ndarray, text: str, down: int, shade: tuple[int, int, int]) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's letters are ASCII alone
    cv2.putText(strip, plain, (2, down), cv2.FONT_HERSHEY_SIMPLEX, 0.45, shade, 1, cv2.LINE_AA)


def _broken(text: str, width: int) -> list[str]:
    """Lines that fit a width in pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and len(longer) * 8 <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
