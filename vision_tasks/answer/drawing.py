"""Pictures with questions, answers, and what they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from torch import nn

from ...datasets.pictures import resize
from ..caption.drawing import TILE, captioned, in_rows
from ..classify.heatmaps import overlay

__all__ = ["answer_sheet", "attention_tile", "cell_places", "in_rows", "spread"]

_GREEN, _RED, _GREY = (0, 110, 0), (170, 0, 0), (90, 90, 90)


def answer_sheet(
    rgb: np.ndarray, question: str, best: Sequence[tuple[str, float]], right: str | None
) -> np.ndarray:
    """A picture above a question and its likeliest answers.

    Args:
        rgb: uint8 (S, S, 3).
        question: its text.
        best: answers with probabilities, the likeliest first.
        right: the right answer; None where it is not known.

    Returns:
        uint8 (H, W, 3).
    """
    said = "  ".join(f"{answer} {value:.0%}" for answer, value in best)
    shade = _GREY if right is None else _GREEN if best[0][0] == right else _RED
    lines = [(question, (0, 0, 0)), (said, shade)]
    if right is not None and best[0][0] != right:
        lines.append((right, _GREY))
    return captioned(rgb, lines)


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


def attention_tile(rgb: np.ndarray, text: str, heat: np.ndarray) -> np.ndarray:
    """A picture under the map of what was attended to, float (S, S), above a text."""
    shown = (heat / max(float(heat.max()), 1e-9)).astype(np.float32)
    picture = overlay(resize(rgb, 2 * TILE, 2 * TILE), shown, 0.45)
    return captioned(picture, [(text, (0, 0, 0))])
