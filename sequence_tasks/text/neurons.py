"""Text coloured by a cell's activation, as in Karpathy, Johnson and Fei-Fei 2015."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from .stepper import make_stepper

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

COLUMNS = 100
"""most characters of a line of a picture"""
_WIDTH, _HEIGHT = 8, 16
"""pixels of a character"""
_LONGEST_LINE = 120


@dataclass(frozen=True)
class Neuron:
    """A cell and what it follows.

    Attributes:
        layer, cell: which, from 0.
        meaning: the property of the text that it goes with best.
        correlation: with it, in [-1, 1].
    """

    layer: int
    cell: int
    meaning: str
    correlation: float

    @property
    def title(self) -> str:
        """One line for a picture."""
        return (
            f"layer {self.layer + 1}, cell {self.cell + 1}: {self.meaning} "
            f"(r = {self.correlation:+.2f})"
        )


def activations(model: nn.Module, ids: np.ndarray) -> np.ndarray:
    """Of all cells after each token, float32 (N, layers, size) in [-1, 1].

    They are tanh of the cell state where there is one, else the hidden state.
    """
    state = model.backbone.initial_state(1)  # type: ignore[union-attr, operator]
    stepper = make_stepper(model, tuple(part.float().cpu() for part in state))
    found = []
    for token in ids.astype(np.int64):
        stepper.read(np.array([token]))
        parts = stepper.state
        last = parts[-1][:, 0].float().cpu()
        found.append((torch.tanh(last) if len(parts) > 1 else last).numpy().copy())
    return np.stack(found)


# ------------------------------------------------------------------------- properties of text


def _since(text: str, ends: str) -> np.ndarray:
    found, count = np.zeros(len(text)), 0
    for place, letter in enumerate(text):
        count = 0 if letter in ends else count + 1
        found[place] = min(count, _LONGEST_LINE)
    return found


def _inside(text: str, opening: str, closing: str) -> np.ndarray:
    """Depth of brackets, or whether quotes are open where both signs are the same."""
    found, depth = np.zeros(len(text)), 0
    for place, letter in enumerate(text):
        if opening == closing:
            depth = 1 - depth if letter == opening else depth
        else:
            depth = max(depth + (letter in opening) - (letter in closing), 0)
        found[place] = depth
    return found


def _where(text: str, test: Callable[[str], bool]) -> np.ndarray:
    return np.array([test(letter) for letter in text], float)


def _first_lines(text: str) -> np.ndarray:
    """1 in a line that follows an empty one, as the speaker's name in a play does."""
    lines = text.split("\n")
    marks = [float(number == 0 or not lines[number - 1]) for number in range(len(lines))]
    found = [np.full(len(line) + 1, mark) for line, mark in zip(lines, marks, strict=True)]
    return np.concatenate(found)[: len(text)]


PROPERTIES: dict[str, Callable[[str], np.ndarray]] = {
    "position in the line": lambda text: _since(text, "\n"),
    "position in the word": lambda text: _since(text, " \n\t"),
    "position in the sentence": lambda text: _since(text, ".!?;:"),
    "inside double quotes": lambda text: _inside(text, '"', '"'),
    "inside brackets": lambda text: _inside(text, "([{", ")]}"),
    "first line after an empty one": _first_lines,
    "capital letter": lambda text: _where(text, str.isupper),
    "end of a word": lambda text: _where(text, str.isspace),
    "digit": lambda text: _where(text, str.isdigit),
    "mark": lambda text: _where(text, lambda letter: not letter.isalnum() and letter > " "),
}
"""of each character of a text, a number that a reader could tell"""


def telling_neurons(cells: np.ndarray, pieces: Sequence[str], count: int) -> list[Neuron]:
    """Cells that go best with a property of the text, at most one a property, best first.

    Args:
        cells: activations (N, layers, size).
        pieces: the text of each token, N of them.
        count: how many are wanted.
    """
    text = "".join(pieces)
    ends = np.cumsum([len(piece) for piece in pieces]) - 1
    flat = cells.reshape(len(cells), -1).astype(np.float64)
    flat = flat - flat.mean(0)
    sizes = np.sqrt((flat**2).sum(0)) + 1e-9
    found = []
    for meaning, measure in PROPERTIES.items():
        values = measure(text)[ends]
        values = values - values.mean()
        size = np.sqrt((values**2).sum())
        if size < 1e-6:
            continue  # the text has none of it
        correlations = values @ flat / (sizes * size)
        best = int(np.abs(correlations).argmax())
        layer, cell = divmod(best, cells.shape[2])
        found.append(Neuron(layer, cell, meaning, float(correlations[best])))
    return sorted(found, key=lambda one: -abs(one.correlation))[:count]


# ------------------------------------------------------------------------------------ pictures


@lru_cache(maxsize=1)
def _font() -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSansMono.ttf")
    return ImageFont.truetype(str(path), 13)


def picture(
    pieces: Sequence[str], values: Sequence[np.ndarray], titles: Sequence[str]
) -> np.ndarray:
    """The text once for each title, on a ground that is red below 0 and blue above.

    Args:
        pieces: the text of each token, N of them.
        values: for each title (N,), in [-1, 1].
        titles: of the panels.

    Returns:
        RGB uint8 (H, W, 3).
    """
    panels = [_panel(pieces, v, title) for v, title in zip(values, titles, strict=True)]
    width = max(panel.shape[1] for panel in panels)
    wide = [
        np.pad(panel, ((0, 0), (0, width - panel.shape[1]), (0, 0)), constant_values=255)
        for panel in panels
    ]
    return np.concatenate(wide)


def _panel(pieces: Sequence[str], values: np.ndarray, title: str) -> np.ndarray:
    from PIL import Image, ImageDraw

    places = _places("".join(pieces))
    rows, columns = (max(axis) + 1 for axis in zip(*places, strict=True))
    size = max(columns, len(title) + 1) * _WIDTH, (rows + 2) * _HEIGHT
    image = Image.new("RGB", size, (255, 255, 255))
    pen = ImageDraw.Draw(image)
    pen.text((2, 0), title, (0, 0, 0), _font())
    letters = (
        (letter, value) for piece, value in zip(pieces, values, strict=True) for letter in piece
    )
    for (letter, value), (row, column) in zip(letters, places, strict=True):
        x, y = column * _WIDTH, (row + 1) * _HEIGHT
        pen.rectangle((x, y, x + _WIDTH - 1, y + _HEIGHT - 1), _colour(float(value)))
        if letter.isprintable():
            pen.text((x, y), letter, (0, 0, 0), _font())
    return np.asarray(image)


def _places(text: str) -> list[tuple[int, int]]:
    """(row, column) of each character; long lines are broken."""
    row, column, found = 0, 0, []
    for letter in text:
        if column == COLUMNS:
            row, column = row + 1, 0
        found.append((row, column))
        column += 1
        if letter == "\n":
            row, column = row + 1, 0
    return found


def _colour(value: float) -> tuple[int, int, int]:
    faded = round(255 * (1 - 0.75 * min(abs(value), 1.0)))
    return (255, faded, faded) if value < 0 else (faded, faded, 255)
