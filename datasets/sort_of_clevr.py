"""Sort-of-CLEVR (Santoro and others 2017): six squares and circles, and questions about them.

A picture of 75 x 75 pixels shows six objects, one of each colour, each a square or a circle. Of the
18 questions without relations and the 18 with them (six kinds, each about one of six colours) ten
of each are asked, none twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

ClevrSplit = Literal["train", "validation", "test"]

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "orange": (255, 156, 0),
    "grey": (128, 128, 128),
    "yellow": (255, 255, 0),
}
SHAPES = ("square", "circle")
SIDE = 75
"""pixels of a picture's side"""
RADIUS = 5
"""pixels from an object's centre to its side"""
NON_RELATIONAL = ("shape", "left", "bottom")
RELATIONAL = ("closest", "furthest", "same shape")
ASKED = 10
"""questions of each of the two sorts"""
PICTURES: dict[ClevrSplit, int] = {"train": 9_800, "validation": 200, "test": 200}

_TEXTS = {
    "shape": "what shape is the {} object",
    "left": "is the {} object on the left",
    "bottom": "is the {} object at the bottom",
    "closest": "what shape is the object closest to the {} one",
    "furthest": "what shape is the object furthest from the {} one",
    "same shape": "how many objects have the shape of the {} one",
}
_SPLITS: tuple[ClevrSplit, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Board:
    """One picture before it is drawn.

    Attributes:
        centres: (pixels across, pixels down) of the six, by colour in the order of COLOURS.
        circles: which of the six are circles; the others are squares.
        asked: (kind, number of the colour), the ten without relations first.
    """

    centres: tuple[tuple[int, int], ...]
    circles: tuple[bool, ...]
    asked: tuple[tuple[str, int], ...]


@lru_cache(maxsize=1 << 15)
def board(split: ClevrSplit, seed: int, number: int) -> Board:
    """A pure function of its arguments; objects do not touch each other."""
    rng = np.random.default_rng([seed, 11, _SPLITS.index(split), number])
    centres: list[tuple[int, int]] = []
    while len(centres) < len(COLOURS):
        for x, y in rng.integers(RADIUS, SIDE - RADIUS, (16, 2)).tolist():
            if all(math.dist((x, y), old) > 3 * RADIUS for old in centres):
                centres.append((x, y))
    asked: list[tuple[str, int]] = []
    for kinds in (NON_RELATIONAL, RELATIONAL):
        drawn = rng.permutation(len(kinds) * len(COLOURS))[:ASKED].tolist()
        asked += [(kinds[i // len(COLOURS)], i % len(COLOURS)) for i in drawn]
    circles = tuple(bool(one) for one in rng.integers(0, 2, len(COLOURS)).tolist())
    return Board(tuple(centres[: len(COLOURS)]), circles, tuple(asked))


def varied(one: Board, rng: np.random.Generator) -> Board:
    """The same board with its colours exchanged among the objects, mirrored and turned.

    Colours, and the questions' with them, are permuted; the board is mirrored from left to right,
    from top to bottom and about its diagonal, each as a coin falls: 5,760 boards of one. Kinds of
    questions stay. Answers are those of the new board, so nothing is wrong about them.
    """
    order = rng.permutation(len(COLOURS)).tolist()  # colour i comes to stand where order[i] stood
    across, down, turned = rng.integers(0, 2, 3).tolist()
    centres = []
    for i in order:
        x, y = one.centres[i]
        x, y = SIDE - 1 - x if across else x, SIDE - 1 - y if down else y
        centres.append((y, x) if turned else (x, y))
    asked = tuple((kind, order.index(colour)) for kind, colour in one.asked)
    return Board(tuple(centres), tuple(one.circles[i] for i in order), asked)


def answer_of(one: Board, kind: str, colour: int) -> str:
    """The right answer: "yes", "no", a shape, or a number from 1 to 6."""
    here = one.centres[colour]
    if kind == "left":
        return "yes" if here[0] < SIDE / 2 else "no"
    if kind == "bottom":
        return "yes" if here[1] > SIDE / 2 else "no"
    if kind == "same shape":
        return str(one.circles.count(one.circles[colour]))
    target = colour
    if kind in ("closest", "furthest"):
        others = [i for i in range(len(one.centres)) if i != colour]
        choose = min if kind == "closest" else max
        target = choose(others, key=lambda i: math.dist(one.centres[i], here))
    return SHAPES[int(one.circles[target])]


def board_questions(one: Board) -> list[tuple[str, str, str]]:
    """(question, answer, kind) of a picture: ten without and ten with relations."""
    names = tuple(COLOURS)
    return [
        (_TEXTS[kind].format(names[colour]), answer_of(one, kind, colour), kind)
        for kind, colour in one.asked
    ]


def draw_board(one: Board, size: int = SIDE) -> np.ndarray:
    """The picture, RGB uint8 (size, size, 3), on white."""
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for (across, down), circle, colour in zip(
        one.centres, one.circles, COLOURS.values(), strict=True
    ):
        if circle:
            cv2.circle(picture, (across, down), RADIUS, colour, -1)
        else:
            corners = (across - RADIUS, down - RADIUS), (across + RADIUS, down + RADIUS)
            cv2.rectangle(picture, *corners, colour, -1)
    if size != SIDE:
        picture = np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))
    return picture
