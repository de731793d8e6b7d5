"""Pictures of lines and of the window over a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...datasets.strokes import Writing
from .drawing import Ink, picture
from .layout import Layout, place
from .sampling import Written

_MOST_LABELS = 80


def rows_picture(writings: Sequence[Writing], size: float = 16.0) -> np.ndarray:
    """Lines below each other as RGB uint8 (H, W, 3), the one that is written first on top.

    Args:
        size: pixels that small letters are high.
    """
    layout = Layout(size=size, jitter=0.0)
    return picture(place(list(writings), layout, np.random.default_rng(0)), Ink())


def attention_figure(written: Written) -> np.ndarray:
    """The window's weight of every character (rows) at every point (columns): RGB uint8."""
    weights = written.attention.T
    width = min(16.0, max(5.0, weights.shape[1] / 40))
    height = min(14.0, max(2.5, 0.16 * len(weights)))
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(weights, aspect="auto", cmap="magma_r", interpolation="nearest", vmin=0)
    labels = [*written.writing.text, "end"][: len(weights)]
    if len(labels) <= _MOST_LABELS:
        axes.set_yticks(range(len(labels)), [c.replace("$", r"\$") for c in labels], fontsize=7)
    axes.set(xlabel="point", ylabel="character")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
