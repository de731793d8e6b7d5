"""Numbered styles: short writings of training writers, kept with the model."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...datasets.strokes import Writing, person
from ...errors import UsageError

MOST = 30
_POINTS = 120, 330
"""least and most points of a style's writing"""
_FEWEST_CHARACTERS = 10
_FINENESS = 200.0
"""whole numbers a core height that coordinates are stored as"""


def choose_styles(lines: Sequence[Writing]) -> list[dict[str, str]]:
    """One line of each of the training writers that wrote most, as JSON values.

    Args:
        lines: paced.
    """
    written = Counter(person(one.writer) for one in lines)
    best: dict[str, tuple[float, Writing]] = {}
    for one in lines:
        fits = _POINTS[0] <= len(one.points) <= _POINTS[1] and one.quality != "BAD"
        if not fits or len(one.text) < _FEWEST_CHARACTERS:
            continue
        plain = sum(c.islower() or c == " " for c in one.text) / len(one.text)
        score = plain + 0.3 * min(len(one.points) / _POINTS[1], 1.0)
        who = person(one.writer)
        if who not in best or score > best[who][0]:
            best[who] = score, one
    ranked = sorted(best, key=lambda who: (-round(best[who][0], 1), -written[who], who))
    return [_packed(best[who][1]) for who in ranked[:MOST]]


def _packed(writing: Writing) -> dict[str, str]:
    whole = np.rint(writing.points * [_FINENESS, _FINENESS, 1]).astype("<i2")
    return {"text": writing.text, "points": base64.b64encode(whole.tobytes()).decode("ascii")}


def style_writing(facts: Mapping[str, Any], number: int) -> Writing:
    """The paced writing of a style, numbered from 1.

    Raises:
        UsageError: there is no such style.
    """
    styles = facts["styles"]
    if not styles:
        raise UsageError("this run holds no styles; its data have no line of a fitting length.")
    if not 1 <= number <= len(styles):
        raise UsageError(
            f"there is no style {number}; styles are numbered from 1 to {len(styles)}."
        )
    packed = base64.b64decode(styles[number - 1]["points"])
    points = np.frombuffer(packed, "<i2").reshape(-1, 3).astype(np.float32)
    points[:, :2] /= _FINENESS
    return Writing(points, styles[number - 1]["text"], f"style {number}")
