"""Pictures of a detector's results: the curve, and what is true beside what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...datasets.boxes import BoxedPicture
from .boxes import Detections
from .drawing import draw_detections

_GAP = 8


def precision_recall_figure(curves: Mapping[str, Any]) -> np.ndarray:
    """Precision against recall, a line a class: RGB uint8 (480, 640, 3).

    Args:
        curves: "recall" (101 values), "precision" by class (as many, or None), "iou".
    """
    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, precision in curves["precision"].items():
        if precision is not None:
            axes.plot(curves["recall"], precision, label=f"{name} {np.mean(precision):.3f}")
    axes.set(xlabel="recall", ylabel=f"precision at IoU {curves['iou']}")
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
    if axes.lines and len(axes.lines) <= 20:
        axes.legend(title="average precision", loc="lower left")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def beside(picture: BoxedPicture, found: Detections, classes: Sequence[str]) -> np.ndarray:
    """A picture with its true boxes, left, and with what was found, right: RGB uint8."""
    pixels = picture.read()
    true = Detections(
        torch.from_numpy(picture.boxes),
        torch.ones(len(picture.boxes)),
        torch.from_numpy(picture.labels),
    )
    gap = np.full((len(pixels), _GAP, 3), 255, np.uint8)
    left, right = (draw_detections(pixels, one, classes) for one in (true, found))
    return np.concatenate([left, gap, right], axis=1)


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) below each other, white at the right of narrow ones."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        short = width - picture.shape[1]
        rows.append(np.pad(picture, ((0, _GAP), (0, short), (0, 0)), constant_values=255))
    return np.concatenate(rows)
