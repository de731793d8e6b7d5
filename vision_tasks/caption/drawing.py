"""Pictures of what words were read from."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...datasets.pictures import resize
from .._telling.drawing import TILE, in_rows, tile
from ..classify.heatmaps import overlay


def attention_sheet(rgb: np.ndarray, words: Sequence[str], maps: np.ndarray) -> np.ndarray:
    """A tile a word: the picture under the map of what the word was read from.

    Args:
        rgb: uint8 (S, S, 3).
        words: T of them.
        maps: float (T, S, S), 0 or more; each is shown relative to its largest value.

    Returns:
        uint8 (H, W, 3).
    """
    picture = resize(rgb, TILE, TILE)
    tiles = [tile(picture, "")]
    for word, heat in zip(words, maps, strict=True):
        shown = (heat / max(float(heat.max()), 1e-9)).astype(np.float32)
        tiles.append(tile(overlay(picture, shown, 0.45), word))
    return in_rows(tiles)


def alignment_sheet(
    rgb: np.ndarray,
    words: Sequence[str],
    regions: np.ndarray,
    grid: tuple[int, int],
    places: tuple[float, float],
) -> np.ndarray:
    """A tile for each run of words that fit one region, the region framed.

    Args:
        rgb: uint8 (S, S, 3).
        words: T of them.
        regions: int (T,), cells of the grid row by row; h * w stands for the whole picture.
        grid: (h, w).
        places: of the cells' centres, see `cell_places`.

    Returns:
        uint8 (H, W, 3).
    """
    picture = resize(rgb, TILE, TILE)
    tiles = [tile(picture, "")]
    start = 0
    for place in range(1, len(words) + 1):
        if place < len(words) and regions[place] == regions[start]:
            continue
        shown = _framed(picture, int(regions[start]), grid, _on_tile(places, len(rgb)))
        tiles.append(tile(shown, " ".join(words[start:place])))
        start = place
    return in_rows(tiles)


def _on_tile(places: tuple[float, float], size: int) -> tuple[float, float]:
    """Places of pixels of a picture of `size` as those on a tile."""
    scale = TILE / size
    return (places[0] + 0.5) * scale - 0.5, places[1] * scale


def _framed(
    picture: np.ndarray, region: int, grid: tuple[int, int], places: tuple[float, float]
) -> np.ndarray:
    first, step = places
    height, width = grid
    if region >= height * width:
        corners = (0, 0), (TILE - 1, TILE - 1)
    else:
        row, column = divmod(region, width)
        left, top, right, bottom = (
            round(first + step * (cell + side)) for side in (-0.5, 0.5) for cell in (column, row)
        )
        corners = (left, top), (right, bottom)
    return np.asarray(cv2.rectangle(picture.copy(), *corners, (255, 0, 0), 2))
