"""Training pictures, changed at random: moved, turned, enlarged, recoloured, put together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .letterbox import GREY

_KEPT_SHARE = 0.25
"""an object of which less than this remains in the picture is not asked for"""
_KEPT_SIDE = 2.0
"""nor one that is narrower, in pixels"""
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True)
class Example:
    """A picture with its objects.

    Attributes:
        picture: RGB uint8 (H, W, 3).
        boxes: float32 (N, 4), x1 y1 x2 y2 in its pixels.
        labels: int64 (N,).
    """

    picture: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Changes:
    """How much pictures are changed; the fields are those of `DetectOptions`."""

    mirror: bool
    upside_down: bool
    zoom: float
    mosaic: float
    colour: float


def augmented(
    examples: list[Example], size: tuple[int, int], changes: Changes, rng: np.random.Generator
) -> Example:
    """One training example of `size` (height, width) from one picture, or a mosaic of four.

    Args:
        examples: one or four; of four, each fills a quarter around a random point.
    """
    height, width = size
    canvas = np.full((height, width, 3), GREY, np.uint8)
    if len(examples) == 1:
        areas = [(0, 0, width, height)]
    else:
        x, y = round(width * rng.uniform(0.3, 0.7)), round(height * rng.uniform(0.3, 0.7))
        areas = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    found = [
        _place(canvas, example, area, changes, rng)
        for example, area in zip(examples, areas, strict=True)
    ]
    boxes = np.concatenate([boxes for boxes, _ in found]).astype(np.float32)
    labels = np.concatenate([labels for _, labels in found])
    return Example(recoloured(canvas, changes.colour, rng), boxes, labels)


def _place(
    canvas: np.ndarray,
    example: Example,
    area: tuple[int, int, int, int],
    changes: Changes,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a picture into an area of the canvas; the boxes and labels that are seen there."""
    left, top, right, bottom = area
    room = np.array([right - left, bottom - top])
    sides = np.array(example.picture.shape[1::-1])
    whole = min(canvas.shape[1] / sides[0], canvas.shape[0] / sides[1])
    scale = whole * math.exp(rng.uniform(-1, 1) * math.log(changes.zoom))
    flips = rng.random(2) < (0.5 * changes.mirror, 0.5 * changes.upside_down)
    spare = room - sides * scale  # negative where only a part of the picture is seen
    start = rng.uniform(np.minimum(spare, 0), np.maximum(spare, 0))
    factor = np.where(flips, -scale, scale)
    offset = np.where(flips, start + sides * scale, start)
    # Boxes count from the edges of pixels, OpenCV from their middles.
    matrix = np.column_stack([np.diag(factor), offset + 0.5 * factor - 0.5])
    canvas[top:bottom, left:right] = cv2.warpAffine(
        example.picture,
        matrix,
        (int(room[0]), int(room[1])),
        flags=cv2.INTER_LINEAR,
        borderValue=(GREY,) * 3,
    )
    ends = example.boxes.reshape(-1, 2, 2) * factor + offset
    corners = np.concatenate([ends.min(1), ends.max(1)], axis=1)
    seen = np.clip(corners, 0, np.tile(room, 2))
    seen_sides = seen[:, 2:] - seen[:, :2]
    area_share = seen_sides.prod(1) / np.maximum((corners[:, 2:] - corners[:, :2]).prod(1), 1e-9)
    kept = (area_share >= _KEPT_SHARE) & (seen_sides.min(1) >= _KEPT_SIDE)
    return seen[kept] + (left, top, left, top), example.labels[kept]


def recoloured(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Hue, saturation, contrast and brightness of RGB uint8 (H, W, 3), changed at random."""
    if not strength:
        return picture
    hue, saturation, contrast, brightness = rng.uniform(-strength, strength, 4)
    angle = hue * math.pi / 2
    turn = np.eye(3)
    turn[1:, 1:] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    turn[1:, 1:] *= 1 + 2 * saturation
    matrix = (1 + contrast) * np.linalg.inv(_YIQ) @ turn @ _YIQ
    shift = 255 * (brightness / 2) - 128 * contrast
    return cv2.transform(picture, np.column_stack([matrix, np.full(3, shift)]))
