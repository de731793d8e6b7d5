"""Attention as a picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

_CELL = 0.32  # inches


def attention_picture(
    weights: np.ndarray, across: Sequence[str], downwards: Sequence[str]
) -> np.ndarray:
    """What each written token read: RGB uint8 (H, W, 3).

    Args:
        weights: (T, S), a row a written token.
        across: S tokens of the source.
        downwards: T written tokens.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (2.0 + _CELL * len(across), 1.6 + _CELL * len(downwards))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(weights, cmap="magma", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(across)), [_plain(name) for name in across], rotation=60, ha="right")
    axes.set_yticks(range(len(downwards)), [_plain(name) for name in downwards])
    axes.tick_params(labelsize=9)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _plain(name: str) -> str:
    """A token as matplotlib can write it; a dollar would begin a formula."""
    return name.replace("\n", "\\n").replace("$", r"\$")
