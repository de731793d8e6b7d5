"""Pictures with text below, sheets of them, and where the cells of a trunk's map lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from torch import nn

from ...datasets.pictures import resize

TILE = 160  # pixels, side of a picture on a sheet
LINE = 22  # pixels, height of a line of text


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


def tile(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture (TILE, TILE, 3) with a text below: uint8 (H, TILE, 3)."""
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


def _side(told: Any) -> int:
    """Of a layer's setting, one number or one a side."""
    return int(told[0] if isinstance(told, tuple) else told)


def cell_places(trunk: nn.Module) -> tuple[float, float]:
    """Where a trunk's cells are centred: the first one's pixel and the pixels to the next.

    A 3x3 kernel that moves by two with a pixel of padding is centred on every second pixel, the
    first included, and not between two. Where layers other than convolutions and poolings halve
    the map, cells are taken to tile the picture.
    """
    first, step = 0.0, 1
    for layer in trunk.features.modules():  # type: ignore[union-attr]  # a Sequential
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding = map(_side, (layer.kernel_size, layer.stride, layer.padding))
            first += ((kernel - 1) / 2 - padding) * step
            step *= stride
    reduction = int(trunk.feature_info[-1].reduction)  # type: ignore[index, union-attr]
    return (first, step) if step == reduction else ((reduction - 1) / 2, reduction)


def spread(heat: np.ndarray, size: int, first: float, step: float) -> np.ndarray:
    """Values of cells (h, w), see `cell_places`, as values of pixels float32 (size, size)."""
    places = ((np.arange(size) - first) / step).astype(np.float32)
    across, down = np.meshgrid(places, places)
    found = cv2.remap(
        heat.astype(np.float32), across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(found)
