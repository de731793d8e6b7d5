"""Names for what the console draws: a table of objects for some games, and their boxes in a frame.

The console draws with six objects of its video chip: two players, two missiles, a ball and a
playfield. Which of them is the paddle and which the wall is a matter of the game, of the colour
and of the lines on the screen. The table below says so; it was checked by eye.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import cv2
import numpy as np

from ..errors import UnknownNameError

ATARI_SCENES = "atari-scenes"
ATARI_BY_GAME = "atari-scenes-by-game"
ATARI_DATA = (ATARI_SCENES, ATARI_BY_GAME)
"""the data sets that `atari_scenes` makes"""

PLAYER0, PLAYER1, MISSILE0, MISSILE1, BALL, PLAYFIELD = (1 << bit for bit in range(6))
"""bits of the console's plane of objects, see `envs.options.Picture.OBJECTS`"""
PLAYERS = PLAYER0 | PLAYER1
WIDTH, HEIGHT = 160, 210
"""pixels of a frame of every game in the table"""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1: edges in pixels from the top left corner"""


@dataclass(frozen=True)
class Rule:
    """One kind of object of a game.

    Attributes:
        noun: what it is.
        hardware: bits of the chip's objects that draw it.
        lines: the first line in which it can be, and the one after the last.
        colours: words for colour numbers of the console; an empty word names none.
        only: pixels of other colours are not of it.
        coloured: its name is colour and noun; else the noun alone.
        one: there is one at most, and all its pixels belong together.
        gap: (across, down): pieces with at most so many pixels between them belong together.
        least: (width, height) of the smallest piece that counts; smaller ones are sparks, or
            peep in at an edge.
        many: whether to ask how many there are.
    """

    noun: str
    hardware: int
    lines: tuple[int, int]
    colours: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    only: bool = True
    coloured: bool = False
    one: bool = False
    gap: tuple[int, int] = (0, 0)
    least: tuple[int, int] = (1, 1)
    many: bool = False

    @cached_property
    def known(self) -> np.ndarray:
        """bool (256,), which colour numbers `colours` holds."""
        return np.isin(np.arange(256), list(self.colours))


@dataclass(frozen=True)
class Chase:
    """Simple play: an object is kept level with another.

    Attributes:
        mover, target: names of objects.
        axis: 0 moves across, 1 up and down.
        less, more: actions that move it left or up, and right or down.
    """

    mover: str
    target: str
    axis: int
    less: str
    more: str


@dataclass(frozen=True)
class GameObjects:
    """What is in a game's frames.

    Attributes:
        rules: the first one's object is what sentences tell of.
        chase: how it is played beside random actions; None for those alone.
    """

    rules: tuple[Rule, ...]
    chase: Chase | None = None


@dataclass(frozen=True)
class AtariObject:
    """An object in a frame.

    Attributes:
        name: its class.
        box: of its pixels; where colours tell objects apart, of those that are seen.
        noun: the class without colour.
        colour: a word; empty where there is none.
    """

    name: str
    box: Box
    noun: str
    colour: str

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) as shares of the frame, in [0, 1]."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / (2 * WIDTH), (y0 + y1) / (2 * HEIGHT)


_BRICKS = {70: "red", 54: "orange", 38: "brown", 22: "yellow", 198: "green", 134: "blue"}
_LANES = {
    66: "red",
    220: "lime",
    18: "olive",
    74: "pink",
    130: "navy",
    36: "orange",
    136: "blue",
    68: "red",
    216: "green",
    26: "yellow",
    0: "",
}
_TRAFFIC = {
    22: "yellow",
    54: "orange",
    86: "purple",
    150: "blue",
    182: "cyan",
    214: "green",
    246: "brown",
}

ATARI_OBJECTS: Mapping[str, GameObjects] = {
    "pong": GameObjects(
        (
            Rule("ball", BALL, (34, 194), least=(2, 2)),
            Rule("paddle", PLAYER0, (34, 194), {56: "orange"}, only=False, coloured=True, one=True),
            Rule("paddle", PLAYER1, (34, 194), {200: "green"}, only=False, coloured=True, one=True),
        ),
        Chase("green paddle", "ball", 1, "RIGHT", "LEFT"),
    ),
    "breakout": GameObjects(
        (
            Rule("ball", BALL, (32, 210)),
            Rule("paddle", PLAYER0, (189, 193), one=True),
            *(
                Rule("row", PLAYFIELD, (57, 93), {number: word}, coloured=True, one=True)
                for number, word in _BRICKS.items()
            ),
        ),
        Chase("paddle", "ball", 0, "LEFT", "RIGHT"),
    ),
    "space_invaders": GameObjects(
        (
            Rule("ship", PLAYER0, (185, 195), {196: ""}, one=True),
            Rule("alien", PLAYERS, (30, 185), {20: ""}, gap=(2, 2), least=(4, 4), many=True),
            Rule("shield", PLAYER0, (157, 175), {52: ""}, gap=(8, 18), many=True),
            Rule("saucer", PLAYER0, (10, 22), {82: ""}, one=True),
            Rule("shot", BALL, (20, 195), least=(1, 2), many=True),
        )
    ),
    "freeway": GameObjects(
        (
            Rule("chicken", PLAYER1, (23, 195), least=(3, 4), many=True),
            *(
                Rule(
                    *("car", PLAYER0, (top, top + 12), _LANES),
                    only=False,
                    gap=(2, 2),
                    least=(3, 6),
                    many=True,
                )
                for top in range(26, 186, 16)
            ),
        )
    ),
    "boxing": GameObjects(
        (
            Rule("boxer", PLAYERS, (33, 180), {12: "white"}, coloured=True, one=True),
            Rule("boxer", PLAYERS, (33, 180), {0: "black"}, coloured=True, one=True),
        )
    ),
    "tennis": GameObjects(
        (
            Rule("ball", BALL, (14, 192), {14: ""}, one=True),
            Rule("player", PLAYERS, (14, 192), {76: "pink"}, coloured=True, one=True),
            Rule("player", PLAYERS, (14, 192), {140: "blue"}, coloured=True, one=True),
            Rule("net", PLAYFIELD, (90, 125), {12: ""}, one=True, least=(60, 4)),
            Rule("shadow", BALL, (14, 192), {2: ""}, one=True),
        )
    ),
    "enduro": GameObjects(
        (
            Rule("racer", PLAYER0, (100, 156), one=True),
            Rule("car", PLAYER1, (53, 156), _TRAFFIC, only=False, least=(4, 2), many=True),
            Rule("mountain", PLAYERS, (44, 52), least=(4, 2), many=True),
        )
    ),
    "skiing": GameObjects(
        (
            Rule("skier", PLAYERS, (30, 180), {72: ""}, one=True),
            Rule("flag", PLAYERS, (30, 180), {134: ""}, gap=(2, 2), least=(3, 3), many=True),
            Rule(
                *("tree", PLAYERS, (30, 180), {198: "", 212: "", 214: "", 218: ""}),
                gap=(2, 2),
                least=(3, 3),
                many=True,
            ),
            Rule("mogul", PLAYERS, (30, 180), {10: "", 12: ""}, least=(4, 2), many=True),
        )
    ),
}


def game_objects(game: str) -> GameObjects:
    """The table of a game; raises UnknownNameError where it has none."""
    if game not in ATARI_OBJECTS:
        raise UnknownNameError("game with named objects", game, ATARI_OBJECTS)
    return ATARI_OBJECTS[game]


def class_names(games: Sequence[str] = tuple(ATARI_OBJECTS)) -> tuple[str, ...]:
    """Names of all objects of the games, each once, in the order of the table."""
    names: dict[str, None] = {}
    for game in games:
        for rule in game_objects(game).rules:
            names.update(dict.fromkeys(_names(rule)))
    return tuple(names)


def noun_names(games: Sequence[str] = tuple(ATARI_OBJECTS)) -> tuple[str, ...]:
    """Nouns of all objects of the games, without colours, as `class_names` orders them."""
    return tuple(dict.fromkeys(rule.noun for game in games for rule in game_objects(game).rules))


def _names(rule: Rule) -> list[str]:
    if not rule.coloured:
        return [rule.noun]
    return [f"{colour} {rule.noun}" for colour in rule.colours.values()]


def find_objects(game: str, screen: np.ndarray, planes: np.ndarray) -> tuple[AtariObject, ...]:
    """What is in a frame, by the table.

    Args:
        game: one of ATARI_OBJECTS.
        screen: uint8 (210, 160), the console's colour numbers.
        planes: uint8 (210, 160), which of the chip's objects cover a pixel.

    Returns:
        in the order of the table; objects of one rule from left to right, then from top to bottom.

    Raises:
        UnknownNameError: the table has no such game.
    """
    found: list[AtariObject] = []
    for rule in game_objects(game).rules:
        top, bottom = rule.lines
        colours = screen[top:bottom]
        mask = (planes[top:bottom] & rule.hardware) != 0
        if rule.only and rule.colours:
            mask &= rule.known[colours]
        if not mask.any():
            continue
        pieces = [mask] if rule.one else _pieces(mask, rule.gap)
        made = [_object(rule, piece, colours) for piece in pieces]
        found += sorted((one for one in made if one), key=lambda one: one.box)
    return tuple(found)


def _pieces(mask: np.ndarray, gap: tuple[int, int]) -> list[np.ndarray]:
    """Masks of the pieces that lie apart."""
    # Each pixel grows to the right and down by the gap, so that pieces at most so far apart touch.
    kernel = np.ones((gap[1] + 1, gap[0] + 1), np.uint8)
    grown = cv2.dilate(mask.astype(np.uint8), kernel, anchor=(gap[0], gap[1]))
    count, labels = cv2.connectedComponents(grown, connectivity=8)
    return [mask & (labels == label) for label in range(1, count)]


def _object(rule: Rule, mask: np.ndarray, colours: np.ndarray) -> AtariObject | None:
    columns, lines = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    y0, y1 = int(lines[0]) + rule.lines[0], int(lines[-1]) + 1 + rule.lines[0]
    if x1 - x0 < rule.least[0] or y1 - y0 < rule.least[1]:
        return None
    colour = _colour(rule, colours[mask])
    name = f"{colour} {rule.noun}" if rule.coloured else rule.noun
    return AtariObject(name, (x0, y0, x1, y1), rule.noun, colour)


def _colour(rule: Rule, numbers: np.ndarray) -> str:
    """The word for most of the pixels that have one."""
    words = {number: word for number, word in rule.colours.items() if word}
    if rule.coloured and len(words) == 1:  # it is so even where something covers it
        return next(iter(words.values()))
    counts = np.bincount(numbers, minlength=256)
    best = max(words, key=lambda number: int(counts[number]), default=None)
    return words[best] if best is not None and counts[best] else ""
