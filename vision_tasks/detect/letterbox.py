"""How a picture of any shape is fitted into the network's input, and boxes back out of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from .boxes import Detections, clip

GREY = 114
"""what the rest of the input is filled with"""


@dataclass(frozen=True)
class Fit:
    """Where a picture lies in the input: pixel p of the picture is at p * scale + offset."""

    scale: float
    left: float
    top: float


def fit(height: int, width: int, size: tuple[int, int]) -> Fit:
    """The largest scale at which a picture lies within `size` (height, width), in its middle."""
    scale = min(size[0] / height, size[1] / width)
    return Fit(scale, (size[1] - width * scale) / 2, (size[0] - height * scale) / 2)


def letterbox(picture: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, Fit]:
    """RGB uint8 (H, W, 3) -> the same scaled into (height, width, 3), grey around it."""
    height, width = picture.shape[:2]
    place = fit(height, width, size)
    inner = max(1, round(width * place.scale)), max(1, round(height * place.scale))
    flags = cv2.INTER_AREA if place.scale < 1 else cv2.INTER_CUBIC
    scaled = (
        picture if inner == (width, height) else cv2.resize(picture, inner, interpolation=flags)
    )
    if inner == size[::-1]:
        return np.ascontiguousarray(scaled), place
    canvas = np.full((*size, 3), GREY, np.uint8)
    left, top = round(place.left), round(place.top)
    canvas[top : top + inner[1], left : left + inner[0]] = scaled
    return canvas, Fit(place.scale, left, top)


def to_original(found: Detections, place: Fit, height: int, width: int) -> Detections:
    """Detections in the input -> in the picture of `height` x `width` that lies there."""
    shift = torch.tensor([place.left, place.top] * 2, device=found.boxes.device)
    boxes = clip((found.boxes.float() - shift) / place.scale, height, width)
    return Detections(boxes, found.scores.float(), found.labels)
