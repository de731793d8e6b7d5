"""Figures about a classifier, drawn as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 20  # classes, up to which each cell of the confusion matrix shows its number


def draw_confusion(confusion: np.ndarray, classes: list[str]) -> np.ndarray:
    """The confusion matrix: shares of each true class as shades, counts as numbers.

    Args:
        confusion: int (classes, classes), true classes down.
        classes: their names.

    Returns:
        RGB uint8 (H, W, 3).
    """
    from matplotlib.figure import Figure

    count = len(classes)
    side = 2.5 + min(0.55 * count, 18)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= NUMBERED:
        for row, column in np.ndindex(confusion.shape):
            if confusion[row, column]:
                shade = "white" if shares[row, column] > 0.5 else "black"
                text = f"{confusion[row, column]}"
                axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=7)
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name in classes]
    axes.set_xticks(range(count), names, rotation=90)
    axes.set_yticks(range(count), names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return _pixels(figure)


def draw_reliability(bins: np.ndarray, error: float) -> np.ndarray:
    """Accuracy against confidence, and how often each confidence occurs.

    Args:
        bins: float (3, n): count, mean confidence, accuracy.
        error: expected calibration error, for the title.

    Returns:
        RGB uint8 (H, W, 3).
    """
    from matplotlib.figure import Figure

    count, confidence, accuracy = bins
    figure = Figure(figsize=(4.5, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(count) + 1)
    middle, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
    filled = count > 0
    upper.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    upper.bar(middle[filled], accuracy[filled], width, color="tab:blue", edgecolor="white")
    upper.plot(confidence[filled], accuracy[filled], "o", color="black", markersize=3)
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=f"calibration error {error:.3f}")
    lower.bar(middle, count / max(count.sum(), 1), width, color="tab:grey", edgecolor="white")
    lower.set(xlabel="confidence", ylabel="share of pictures")
    return _pixels(figure)


def _pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
