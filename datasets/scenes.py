"""Scenes of coloured shapes with one sentence each, made by a rule and never twice the same.

A scene has one large object and one to three small ones, no two of the same colour and shape. Its
sentence tells where the large object is, seen from each small one, the small ones from left to
right: "a red circle is left of a blue square and above a green star". "left of" and "right of" are
said where two objects are farther apart across than down, "above" and "below" elsewhere.

A fifth of the pairs of colour and shape is in no training or validation scene and in each test
scene. A scene is a pure function of its split, a seed and its number.
"""

from __future__ import annotations

import cmath
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from ..errors import UsageError

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
COLOURS = {
    "red": (222, 36, 36),
    "green": (36, 160, 56),
    "blue": (36, 64, 224),
    "yellow": (244, 222, 40),
    "purple": (128, 40, 168),
    "orange": (246, 136, 24),
    "cyan": (56, 208, 226),
    "pink": (250, 150, 200),
}
RELATIONS = ("left of", "right of", "above", "below")
UNSEEN = (
    ("red", "star"),
    ("red", "diamond"),
    ("green", "square"),
    ("blue", "cross"),
    ("yellow", "circle"),
    ("purple", "triangle"),
    ("purple", "cross"),
    ("orange", "square"),
    ("cyan", "diamond"),
    ("pink", "triangle"),
)
"""pairs of colour and shape that training never sees: drawn once, each colour and shape among the
rest at least four times"""
SEEN = tuple(pair for pair in itertools.product(COLOURS, SHAPES) if pair not in UNSEEN)

FEWEST, MOST = 2, 4
"""objects of a scene"""
SMALLEST_PICTURE = 32
"""pixels, side of the smallest picture in which shapes can be told apart"""

SceneSplit = Literal["train", "validation", "test"]
_SPLITS: tuple[SceneSplit, ...] = ("train", "validation", "test")
_LARGE = (0.145, 0.175)  # radius as a share of the picture's side
_SMALL = (0.085, 0.11)
_APART = 0.03  # between two outlines, at least
_CLEAR = 0.07  # difference of the distances across and down that makes a relation plain
_SHADE = 14  # levels, how far a colour may be from its usual one
_TURN = 0.14  # radians, how far an object may be turned
_NOISE = 32  # levels of noise, a power of two
_STEP = 0.05  # between the places of small objects, from left to right


@dataclass(frozen=True)
class SceneObject:
    """One object.

    Attributes:
        shape: one of SHAPES.
        colour: one of COLOURS.
        size: radius of its outline as a share of the picture's side.
        x, y: its centre, in [0, 1] from the left and from the top.
    """

    shape: str
    colour: str
    size: float
    x: float
    y: float

    @property
    def name(self) -> str:
        """Colour and shape."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """What is in a picture.

    Attributes:
        objects: the large one first, then the small ones from left to right.
        sentence: see `describe`.
        look: seed of background, turns, shades and noise.
    """

    objects: tuple[SceneObject, ...]
    sentence: str
    look: int


def scene(split: SceneSplit, seed: int, number: int) -> Scene:
    """The scene of a number, 0 and up without end.

    Args:
        split: "test" scenes have at least one pair of UNSEEN; the others none.
        seed: not below 0; other seeds make other scenes.
        number: not below 0.
    """
    rng = np.random.default_rng([_SPLITS.index(split), seed, number])
    count = int(rng.integers(FEWEST, MOST + 1))
    pairs = _pairs(split, count, rng)
    places = _places(count, rng)
    objects = tuple(
        SceneObject(shape, colour, *place)
        for (colour, shape), place in zip(pairs, places, strict=True)
    )
    return Scene(objects, describe(objects), int(rng.integers(1 << 62)))


def _pairs(split: SceneSplit, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    if split != "test":
        return [SEEN[i] for i in rng.permutation(len(SEEN))[:count]]
    first = UNSEEN[int(rng.integers(len(UNSEEN)))]
    others = [pair for pair in (*SEEN, *UNSEEN) if pair != first]
    chosen = [others[i] for i in rng.permutation(len(others))[: count - 1]]
    chosen.insert(int(rng.integers(count)), first)
    return chosen


def _places(count: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """(size, x, y) of the large object and of the small ones from left to right."""
    while True:
        drawn = iter(rng.random(3 * 40).tolist())
        placed: list[tuple[float, float, float]] = []
        for part in drawn:
            low, high = _SMALL if placed else _LARGE
            size = low + (high - low) * part
            inside = 1 - 2 * (size + 0.01)
            place = (size, *(size + 0.01 + inside * next(drawn) for _ in range(2)))
            if _fits(place, placed):
                placed.append(place)
            if len(placed) == count:
                return [placed[0], *sorted(placed[1:], key=lambda one: one[1])]


def _fits(place: tuple[float, float, float], placed: Sequence[tuple[float, float, float]]) -> bool:
    """Whether an object has room beside others and its relations are plain."""
    size, x, y = place
    for i, (other, x2, y2) in enumerate(placed):
        across, down = abs(x - x2), abs(y - y2)
        if across**2 + down**2 < (size + other + _APART) ** 2:
            return False
        if i == 0 and abs(across - down) < _CLEAR:
            return False
        if i > 0 and across < _STEP:
            return False
    return True


# -------------------------------------------------------------------------------- sentences


def relation(first: SceneObject, second: SceneObject) -> str:
    """Where the first is, seen from the second: one of RELATIONS."""
    across, down = second.x - first.x, second.y - first.y
    if abs(across) >= abs(down):
        return "left of" if across > 0 else "right of"
    return "above" if down > 0 else "below"


def describe(objects: Sequence[SceneObject]) -> str:
    """The one sentence of a scene, by the rule at the top of this module."""
    large = max(objects, key=lambda one: one.size)
    small = sorted((one for one in objects if one is not large), key=lambda one: one.x)
    said = [f"{relation(large, one)} {_with_article(one.name)}" for one in small]
    return f"{_with_article(large.name)} is " + " and ".join(said)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


_THING = f"(?:{'|'.join(_with_article(f'{c} {s}') for c in COLOURS for s in SHAPES)})"
_CLAUSE = f"(?:{'|'.join(RELATIONS)}) {_THING}"
_SENTENCE = re.compile(f"{_THING} is {_CLAUSE}(?: and {_CLAUSE})*")


def true_of(sentence: str, objects: Sequence[SceneObject]) -> bool:
    """Whether a sentence holds of a scene, whichever of its true sentences it is.

    Any object may be the one that is told of, each "and" tells of another one, and not all need to
    be told of. What the grammar of `describe` does not make is false.
    """
    if _SENTENCE.fullmatch(sentence) is None:
        return False
    subject, told = sentence.split(" is ")
    clauses = []
    for clause in told.split(" and "):
        kind = next(one for one in RELATIONS if clause.startswith(one))
        clauses.append((kind, _bare(clause[len(kind) + 1 :])))
    for first in objects:
        if first.name != _bare(subject):
            continue
        others = [(relation(first, one), one.name) for one in objects if one is not first]
        # No pair of colour and shape is in a scene twice, so that counting finds the objects.
        if not Counter(clauses) - Counter(others):
            return True
    return False


def _bare(thing: str) -> str:
    return thing.partition(" ")[2]


# -------------------------------------------------------------------------------- questions

QuestionKind = Literal["object", "number", "colour", "location"]
_PLURAL = {"cross": "es"}


def scene_questions(one: Scene) -> list[tuple[str, str, QuestionKind]]:
    """All questions of a scene whose answer, one word, is beyond doubt.

    Returns:
        (question, answer, kind): which shape something is, how many there are (in digits, also
        0), which colour something is, and where the large object is, seen from a small one:
        "left", "right", "above" or "below".
    """
    large, *small = one.objects
    found: list[tuple[str, str, QuestionKind]] = [
        ("what shape is the largest object", large.shape, "object"),
        ("what colour is the largest object", large.colour, "colour"),
        ("how many objects are there", str(len(one.objects)), "number"),
    ]
    shapes = Counter(thing.shape for thing in one.objects)
    colours = Counter(thing.colour for thing in one.objects)
    found += [
        (f"how many {s}{_PLURAL.get(s, 's')} are there", str(shapes[s]), "number") for s in SHAPES
    ]
    found += [(f"how many {c} objects are there", str(colours[c]), "number") for c in COLOURS]
    for thing in one.objects:
        if colours[thing.colour] == 1:
            found.append((f"what shape is the {thing.colour} object", thing.shape, "object"))
        if shapes[thing.shape] == 1:
            found.append((f"what colour is the {thing.shape}", thing.colour, "colour"))
    sides = Counter(relation(thing, large) for thing in small)
    for thing in small:
        side = relation(thing, large)
        where = relation(large, thing).removesuffix(" of")
        found.append((f"where is the largest object seen from the {thing.name}", where, "location"))
        if sides[side] == 1:
            found.append((f"what shape is {side} the largest object", thing.shape, "object"))
            found.append(
                (f"what colour is the object {side} the largest one", thing.colour, "colour")
            )
    return found


# ---------------------------------------------------------------------------------- drawing


def draw_scene(one: Scene, size: int) -> np.ndarray:
    """The picture of a scene, a pure function of it.

    Args:
        one: what is drawn.
        size: S, pixels, at least SMALLEST_PICTURE.

    Returns:
        RGB uint8 (S, S, 3).

    Raises:
        UsageError: the picture would be too small.
    """
    if size < SMALLEST_PICTURE:
        raise UsageError(
            f"scenes of {size} pixels would be unreadable; choose at least {SMALLEST_PICTURE}."
        )
    rng = np.random.default_rng(one.look)
    picture = _background(size, rng)
    drawn = rng.uniform(-1, 1, (len(one.objects), 4)).tolist()
    for thing, (turn, *shade) in zip(one.objects, drawn, strict=True):
        levels = zip(COLOURS[thing.colour], shade, strict=True)
        colour = [max(level + _SHADE * part - _NOISE / 2, 0) for level, part in levels]
        outline = _outline(thing, _TURN * turn) * (size * 16) - 8  # in 16ths of a pixel
        cv2.fillPoly(picture, [np.rint(outline).astype(np.int32)], colour, cv2.LINE_AA, 4)
    noise = np.frombuffer(rng.bytes(picture.size), np.uint8) // (256 // _NOISE)
    return np.asarray(cv2.add(picture, noise.reshape(picture.shape)))  # both end at 255


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Soft patches of a dull colour, darker by the mean of the noise: uint8 (S, S, 3)."""
    level = rng.uniform(60, 190) - _NOISE / 2
    tint, light, hues = (rng.uniform(-1, 1, shape) for shape in (3, (4, 4, 1), (4, 4, 3)))
    patches = level + 18 * tint + 26 * light + 10 * hues
    patches = patches.clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(patches, (size, size), interpolation=cv2.INTER_CUBIC))


def _corners(radii: Sequence[float], first: float = 0.0) -> np.ndarray:
    """Corners at equal angles, clockwise; `first` of them lies clockwise from the top."""
    angles = first + np.arange(len(radii)) * 2 * np.pi / len(radii)
    return np.asarray(radii) * (np.sin(angles) - 1j * np.cos(angles))


_ARM = 0.31  # half the width of a cross's arm
_CORNER = np.array([_ARM - 0.95j, _ARM - _ARM * 1j, 0.95 - _ARM * 1j])
_OUTLINES = {
    "circle": _corners([0.92] * 24),
    "square": _corners([1.12] * 4, np.pi / 4),
    "triangle": _corners([1.0] * 3) + 0.15j,
    "star": _corners([1.0, 0.42] * 5),
    "cross": np.concatenate([_CORNER * 1j**quarter for quarter in range(4)]),
    "diamond": np.array([-1.08j, 0.8, 1.08j, -0.8]),
}
"""corners of each shape about its centre, across + i down, complex128 (N,); a radius of about 1"""


def _outline(thing: SceneObject, turn: float) -> np.ndarray:
    """Corners in [0, 1], float64 (N, 2), turned clockwise by radians."""
    corners = _OUTLINES[thing.shape] * cmath.rect(thing.size, turn) + complex(thing.x, thing.y)
    return corners.view(np.float64).reshape(-1, 2)
