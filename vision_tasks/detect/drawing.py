"""What was found, to look at: boxes with names and scores, cut-out objects, counts."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from .boxes import Detections

_GOLDEN = (5**0.5 - 1) / 2
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def class_colours(count: int) -> list[tuple[int, int, int]]:
    """RGB colours of classes: hues in steps of the golden ratio, so that none lie close by."""
    colours = []
    for index in range(count):
        hue = (0.01 + index * _GOLDEN) % 1
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.9 - index % 3 * 0.2, 0.95 - index % 2 * 0.2)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def draw_detections(
    picture: np.ndarray,
    detections: Detections,
    classes: Sequence[str],
    tracks: Sequence[int] | None = None,
) -> np.ndarray:
    """Boxes, each with its class and score; the surest lie on top.

    Lines and letters grow with the picture. A name lies above its box, or inside where the picture
    ends. Letters that are not ASCII appear as question marks.

    Args:
        picture: RGB uint8 (H, W, 3); it is not changed.
        detections: in its pixels.
        classes: names.
        tracks: a number for each detection, written before its class.

    Returns:
        RGB uint8 (H, W, 3), a copy.
    """
    drawn = np.ascontiguousarray(picture).copy()
    height, width = drawn.shape[:2]
    line = max(1, round(min(height, width) / 300))
    colours = class_colours(len(classes))
    boxes = detections.boxes.round().int().tolist()
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    for index in reversed(np.argsort([-score for score in scores], kind="stable").tolist()):
        x1, y1, x2, y2 = boxes[index]
        colour = colours[labels[index]]
        cv2.rectangle(drawn, (x1, y1), (x2 - 1, y2 - 1), colour, line)
        number = "" if tracks is None else f"{tracks[index]} "
        text = f"{number}{classes[labels[index]]} {scores[index]:.2f}"
        _write(drawn, text, (x1, y1), colour)
    return drawn


def _write(
    drawn: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """A name on a field of its colour, its lower left corner at `corner` where that fits."""
    height, width = drawn.shape[:2]
    plain = text.encode("ascii", "replace").decode()
    scale = max(0.33, min(height, width) / 1200)
    thick = max(1, round(scale * 1.5))
    (long, high), below = cv2.getTextSize(plain, _FONT, scale, thick)
    left = max(0, min(corner[0], width - long - 2))
    top = corner[1] - high - below - 1
    if top < 0:
        top = max(0, corner[1])
    bottom = top + high + below + 1
    cv2.rectangle(drawn, (left, top), (left + long + 1, bottom), colour, cv2.FILLED)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 128
    ink = (0, 0, 0) if bright else (255, 255, 255)
    place = (left + 1, bottom - below)
    cv2.putText(drawn, plain, place, _FONT, scale, ink, thick, cv2.LINE_AA)


def crops(picture: np.ndarray, detections: Detections) -> list[np.ndarray]:
    """Each object cut out: RGB uint8 (h, w, 3), whole pixels that its box touches, at least one."""
    height, width = picture.shape[:2]
    found = []
    for x1, y1, x2, y2 in detections.boxes.tolist():
        left, top = (int(np.clip(np.floor(v), 0, m - 1)) for v, m in ((x1, width), (y1, height)))
        right = int(np.clip(np.ceil(x2), left + 1, width))
        bottom = int(np.clip(np.ceil(y2), top + 1, height))
        found.append(picture[top:bottom, left:right].copy())
    return found


def count_by_class(detections: Detections, classes: Sequence[str]) -> dict[str, int]:
    """How many of each class were found, in the order of the classes, zeros included."""
    counts = np.bincount(detections.labels.numpy(), minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}
