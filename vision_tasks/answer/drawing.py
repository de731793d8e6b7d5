"""Pictures with questions, answers, and what they were read from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...datasets.pictures import resize
from .._telling.drawing import TILE, captioned
from ..classify.heatmaps import overlay

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


def attention_tile(rgb: np.ndarray, text: str, heat: np.ndarray) -> np.ndarray:
    """A picture under the map of what was attended to, float (S, S), above a text."""
    shown = (heat / max(float(heat.max()), 1e-9)).astype(np.float32)
    picture = overlay(resize(rgb, 2 * TILE, 2 * TILE), shown, 0.45)
    return captioned(picture, [(text, (0, 0, 0))])
