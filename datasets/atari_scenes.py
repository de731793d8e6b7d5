"""Frames of Atari games with the boxes of what is in them, and sentences and questions about it.

The console tells which of its video chip's objects covers which pixel, and `atari_objects` names
them, so that every frame comes with its truth. Games are played at random, some of them beside
that by a simple rule. No seed of a game serves two splits, and no picture comes twice. In
`ATARI_BY_GAME` no game serves both training and the test either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from ..envs.console.cartridges import rgb_palette
from ..envs.object_frames import ObjectFrames, object_actions, play_objects
from .atari_objects import (
    ATARI_BY_GAME,
    ATARI_OBJECTS,
    ATARI_SCENES,
    HEIGHT,
    WIDTH,
    AtariObject,
    Chase,
    class_names,
    find_objects,
    game_objects,
    noun_names,
)
from .boxes import BoxedPicture, BoxedPictures
from .captions import CaptionedPicture, Captions
from .captions import squeezed as squeezed
from .labelled import check_memory

FRAMES: Mapping[str, int] = {"train": 400, "validation": 50, "test": 100}
"""how many frames of a game each split is made from; frames without objects and pictures that
were there before are left out of it"""
SCORED_SEED = 0
"""of validation and test, which are the same in every run"""
UNSEEN_GAMES = ("breakout", "enduro")
"""the test of ATARI_BY_GAME; what is in them and in no other game is left out of it"""
RELATIONS = ("left of", "right of", "above", "below")

Kind = Literal["object", "number", "colour", "location"]
AtariQuestion = tuple[str, str, Kind]
"""(question, answer, kind)"""

_SPLITS = tuple(FRAMES)
_ROWS = 10  # games that are played side by side
_SKILLS = (0.0, 0.4, 0.8, 0.95)  # share of the steps that follow the rule, by row
_HELD = 12  # frames that a random action is held for
_REACTION = 4  # the same where a rule follows an object
_FEWEST, _MOST = 24, 84  # frames between two that are kept
_CHANGE = 0.5  # share of the steps on which random play takes another action


@dataclass(frozen=True)
class AtariScene:
    """One frame and the truth about it.

    Attributes:
        name: unique in the data set.
        game: canonical name.
        screen: uint8 (210, 160), the console's colour numbers.
        objects: at least one, in the order of `find_objects`.
        nouns: all that questions may be of; None for anything, and for the game itself.
    """

    name: str
    game: str
    screen: np.ndarray
    objects: tuple[AtariObject, ...]
    nouns: tuple[str, ...] | None = None

    @property
    def picture(self) -> np.ndarray:
        """RGB uint8 (210, 160, 3), made at each call."""
        return np.take(rgb_palette(60), self.screen, axis=0)

    @cached_property
    def sentence(self) -> str:
        """See `describe`."""
        return describe(self.objects)

    @cached_property
    def questions(self) -> tuple[AtariQuestion, ...]:
        """See `ask`."""
        return tuple(ask(self.game, self.objects, self.nouns))


# ------------------------------------------------------------------------------------ frames


def read_atari_scenes(seed: int, data: str = ATARI_SCENES) -> Mapping[str, Sequence[AtariScene]]:
    """Plays games of the table and keeps frames.

    Args:
        seed: of the games that are played to learn from, not below 0; those of validation and test
            are the same for every seed.
        data: ATARI_SCENES for all games in each split; ATARI_BY_GAME for UNSEEN_GAMES in the test
            alone and the others in training and validation. Then objects are called by their
            nouns, without colours, and those whose noun no game of training has are left out.

    Returns:
        frames by "train", "validation" and "test", the games mixed, so that a part of a split, or
        its shuffled frames, are of all games; kept in memory, 34 kB each, and made once for a seed.

    Raises:
        UsageError: the games' ROMs cannot be read.
    """
    return _read(seed, data == ATARI_BY_GAME)


@lru_cache(maxsize=2)
def _read(seed: int, by_game: bool) -> Mapping[str, Sequence[AtariScene]]:
    splits: dict[str, list[AtariScene]] = {split: [] for split in _SPLITS}
    seen: set[bytes] = set()
    # Test comes first: what training shares with it is left out of training.
    for split in reversed(_SPLITS):
        first = first_seed(split, seed)
        for game in games_of(split, by_game):
            for one in played(game, first, FRAMES[split]):
                content = one.screen.tobytes()
                if content not in seen:
                    seen.add(content)
                    splits[split].append(one)
    if by_game:
        nouns = noun_names(games_of("train", by_game))
        splits = {name: _by_nouns(part, nouns) for name, part in splits.items()}
    for part in splits.values():
        np.random.default_rng(SCORED_SEED).shuffle(part)
    return splits


def games_of(split: str, by_game: bool) -> list[str]:
    """The games that a split has frames of."""
    if not by_game:
        return list(ATARI_OBJECTS)
    return [game for game in ATARI_OBJECTS if (game in UNSEEN_GAMES) == (split == "test")]


def _by_nouns(part: Sequence[AtariScene], nouns: tuple[str, ...]) -> list[AtariScene]:
    """Frames with objects that are called by these nouns, and with no others."""
    found = []
    for one in part:
        objects = tuple(replace(each, name=each.noun) for each in one.objects if each.noun in nouns)
        if objects:
            found.append(replace(one, objects=objects, nouns=nouns))
    return found


def first_seed(split: str, seed: int) -> int:
    """The lowest of the games' seeds: those of two splits, or of two seeds, never meet."""
    if split == "train":
        return (seed + 1) * 1000
    return SCORED_SEED + (100 if split == "validation" else 0)


def played(game: str, first: int, count: int) -> Iterator[AtariScene]:
    """Frames of ten games that are played side by side, a pure function of the arguments.

    Args:
        game: one of ATARI_OBJECTS.
        first: seed of the first of the games; the others have the next ones.
        count: how many frames are looked at; those without an object are left out.

    Raises:
        UnknownNameError: the table has no such game.
        UsageError: the game's ROM cannot be read.
    """
    chase = game_objects(game).chase
    skip = _HELD if chase is None else _REACTION
    names = object_actions(game)
    rng = np.random.default_rng([first, *game.encode()])
    skills = np.resize(_SKILLS, _ROWS)
    held = rng.integers(len(names), size=_ROWS)

    def act(now: ObjectFrames) -> np.ndarray:
        fresh = rng.integers(len(names), size=_ROWS)
        held[:] = np.where(rng.random(_ROWS) < _CHANGE, fresh, held)
        actions = held.copy()
        if chase is not None:
            for row in np.flatnonzero(rng.random(_ROWS) < skills).tolist():
                objects = find_objects(game, now.screens[row], now.planes[row])
                actions[row] = _chasing(chase, objects, names, int(held[row]))
        return actions

    wait = rng.integers(_FEWEST // skip, _MOST // skip + 1, size=_ROWS)
    looked = 0
    with closing(play_objects(game, _ROWS, first, skip, act)) as games:
        next(games)  # how a game begins is the same for all
        for now in games:
            wait -= 1
            for row in np.flatnonzero(wait == 0).tolist():
                screen = now.screens[row].copy()
                objects = find_objects(game, screen, now.planes[row])
                if objects:
                    yield AtariScene(f"{game}-{first + row}-{looked:04d}", game, screen, objects)
                looked += 1
                if looked == count:
                    return
                wait[row] = rng.integers(_FEWEST // skip, _MOST // skip + 1)


def _chasing(
    chase: Chase, objects: Sequence[AtariObject], names: Sequence[str], otherwise: int
) -> int:
    """The action that brings the mover level with the target."""
    where = {one.name: one.centre[chase.axis] for one in reversed(objects)}
    if chase.mover not in where or chase.target not in where:
        return otherwise
    apart = where[chase.target] - where[chase.mover]
    if abs(apart) < 0.01:
        return names.index("NOOP")
    return names.index(chase.more if apart > 0 else chase.less)


# --------------------------------------------------------------------------------- sentences


def relation(first: AtariObject, second: AtariObject) -> str:
    """Where the first is, seen from the second: one of RELATIONS.

    The direction in which their boxes lie farther apart; where they overlap, that in which their
    centres do. Distances across count as shares of the frame's width, those down of its height.
    """
    (x1, y1), (x2, y2) = first.centre, second.centre
    across, down = _gaps(first, second)
    if across == down:
        across, down = abs(x2 - x1), abs(y2 - y1)
    if across >= down:
        return "left of" if x2 > x1 else "right of"
    return "above" if y2 > y1 else "below"


def _gaps(first: AtariObject, second: AtariObject) -> tuple[float, float]:
    """How far boxes lie apart, (across, down) as shares of the frame; 0 where they overlap."""
    (a0, b0, a1, b1), (c0, d0, c1, d1) = first.box, second.box
    return max(c0 - a1, a0 - c1, 0) / WIDTH, max(d0 - b1, b0 - d1, 0) / HEIGHT


def describe(objects: Sequence[AtariObject]) -> str:
    """One sentence by a rule: "the ball is left of the green paddle".

    It tells where the first object is, seen from the nearest one of each other noun, in their
    order; "the" is said of what there is once. Objects of the first one's own name are passed
    over; where there are no others it says that there is one.

    Args:
        objects: at least one, as `find_objects` gives them.
    """
    first, counts = objects[0], Counter(one.name for one in objects)

    def called(one: AtariObject) -> str:
        if counts[one.name] == 1:
            return f"the {one.name}"
        return f"{'an' if one.name[0] in 'aeiou' else 'a'} {one.name}"

    clauses = [f"{relation(first, one)} {called(one)}" for one in _told(objects)]
    if not clauses:
        return f"there is {called(first)}"
    return f"{called(first)} is " + " and ".join(clauses)


def _told(objects: Sequence[AtariObject]) -> list[AtariObject]:
    """The nearest to the first one, of each noun."""
    first, *rest = objects
    others = [one for one in rest if one.name != first.name]
    return [nearest(first, ones) for ones in _by_noun(others).values()]


def _by_noun(objects: Sequence[AtariObject]) -> dict[str, list[AtariObject]]:
    found: dict[str, list[AtariObject]] = {}
    for one in objects:
        found.setdefault(one.noun, []).append(one)
    return found


def nearest(first: AtariObject, others: Sequence[AtariObject]) -> AtariObject:
    """The one whose box is nearest, distances as `relation` counts them.

    Of equals it is that with the nearest centre, then the first.
    """
    x, y = first.centre

    def far(one: AtariObject) -> tuple[float, float]:
        across, down = _gaps(first, one)
        return across**2 + down**2, (one.centre[0] - x) ** 2 + (one.centre[1] - y) ** 2

    return min(others, key=far)


_ARTICLE = "(?:the|an?)"
_CALLED = {*class_names(), *noun_names()}
_THING = f"{_ARTICLE} (?:{'|'.join(sorted(_CALLED, key=len, reverse=True))})"
_CLAUSE = f"(?:{'|'.join(RELATIONS)}) {_THING}"
_SENTENCE = re.compile(f"there is {_THING}|{_THING} is {_CLAUSE}(?: and {_CLAUSE})*")


def true_of(sentence: str, objects: Sequence[AtariObject]) -> bool:
    """Whether a sentence holds of a frame, whichever of its true sentences it is.

    Any object may be the one that is told of. Articles say nothing. What the grammar of `describe`
    does not make is false.
    """
    if _SENTENCE.fullmatch(sentence) is None:
        return False
    if sentence.startswith("there is "):
        return any(one.name == _bare(sentence.removeprefix("there is ")) for one in objects)
    subject, told = sentence.split(" is ")
    clauses = []
    for clause in told.split(" and "):
        kind = next(one for one in RELATIONS if clause.startswith(one))
        clauses.append((kind, _bare(clause[len(kind) + 1 :])))
    for first in objects:
        if first.name == _bare(subject):
            others = {(relation(first, one), one.name) for one in objects if one is not first}
            if others.issuperset(clauses):
                return True
    return False


def true_in(frames: Sequence[AtariScene], number: int, sentence: str) -> bool:
    """`true_of` of one of several frames."""
    return true_of(sentence, frames[number].objects)


def _bare(thing: str) -> str:
    return thing.partition(" ")[2]


# --------------------------------------------------------------------------------- questions


def ask(
    game: str, objects: Sequence[AtariObject], nouns: Sequence[str] | None = None
) -> list[AtariQuestion]:
    """Questions of a frame whose answer is beyond doubt.

    Args:
        game: one of ATARI_OBJECTS.
        objects: as `find_objects` gives them.
        nouns: what may be counted, where the game is not to be told; None for all of the game's.

    Returns:
        which game it is and what is nearest to something (an object's name); how many there are of
        what comes in numbers (in digits, also 0); where something is, seen from something else
        (left, right, above or below); which colour the outermost of several things has.
    """
    found: list[AtariQuestion] = []
    if nouns is None:
        found.append(("what game is this", game.replace("_", " "), "object"))
    for noun in dict.fromkeys(rule.noun for rule in game_objects(game).rules if rule.many):
        if nouns is not None and noun not in nouns:
            continue
        number = sum(one.noun == noun for one in objects)
        found.append((f"how many {noun}s are there", str(number), "number"))
    found += _places(objects)
    found += _colours(objects)
    return found


def _places(objects: Sequence[AtariObject]) -> Iterator[AtariQuestion]:
    """About the first object and those that its sentence tells of, as far as there is one each."""
    counts = Counter(one.name for one in objects)
    if not objects or counts[objects[0].name] > 1:
        return
    first, *others = objects
    for other in _told(objects):
        if counts[other.name] == 1:
            for one, seen_from in ((first, other), (other, first)):
                where = relation(one, seen_from).removesuffix(" of")
                yield f"where is the {one.name} seen from the {seen_from.name}", where, "location"
    if others:
        yield f"what is nearest to the {first.name}", nearest(first, others).name, "object"


def _colours(objects: Sequence[AtariObject]) -> Iterator[AtariQuestion]:
    for noun, ones in _by_noun(objects).items():
        if len(ones) < 2 or not any(one.colour for one in ones):
            continue
        for word, axis, sign in (
            ("leftmost", 0, 1),
            ("rightmost", 0, -1),
            ("highest", 1, 1),
            ("lowest", 1, -1),
        ):
            places = sorted(sign * one.centre[axis] for one in ones)
            outermost = min(ones, key=lambda one: sign * one.centre[axis])
            if outermost.colour and places[1] - places[0] > 0.01:
                yield f"what colour is the {word} {noun}", outermost.colour, "colour"


# ------------------------------------------------------------------------------ for the tasks


def atari_facts(seed: int, data: str = ATARI_SCENES) -> dict[str, Any]:
    """JSON values that each task's data tell: source, licence, split, counts of frames.

    "fit" says that whole frames are squeezed into squares, see `captions.as_learnt`.
    """
    by_game = data == ATARI_BY_GAME
    said = (
        f"by the games' seeds: validation and test are played with seed {SCORED_SEED}, training "
        f"with seed {seed}; no picture twice"
    )
    if by_game:
        said = f"by game: the test is {' and '.join(UNSEEN_GAMES)}, which training has not; {said}"
    return {
        "source": "played on the console: frames of games, objects named by a table",
        "licence": "MIT",
        "games": {name: games_of(name, by_game) for name in _SPLITS},
        "split": said,
        "fit": "squeeze",
        "counts": {name: len(part) for name, part in read_atari_scenes(seed, data).items()},
    }


def atari_boxes(seed: int, data: str = ATARI_SCENES) -> BoxedPictures:
    """The frames for detection; see `boxes.read_boxes`."""
    by_game = data == ATARI_BY_GAME
    classes = noun_names(games_of("train", by_game)) if by_game else class_names()
    splits = read_atari_scenes(seed, data)
    parts = {name: [_boxed(one, classes) for one in part] for name, part in splits.items()}
    boxes = {
        name: dict.fromkeys(classes, 0)
        | Counter(thing.name for one in part for thing in one.objects)
        for name, part in splits.items()
    }
    facts = {**atari_facts(seed, data), "layout": "generated", "boxes": boxes}
    return BoxedPictures(classes, parts["train"], parts["validation"], parts["test"], facts)


def _boxed(one: AtariScene, classes: Sequence[str]) -> BoxedPicture:
    return BoxedPicture(
        name=one.name,
        read=lambda: one.picture,
        width=WIDTH,
        height=HEIGHT,
        boxes=np.array([thing.box for thing in one.objects], np.float32),
        labels=np.array([classes.index(thing.name) for thing in one.objects], np.int64),
        difficult=np.zeros(len(one.objects), bool),
    )


def atari_captions(seed: int, size: int, data: str = ATARI_SCENES) -> Captions:
    """The frames with their sentences; see `captions.read_captions`.

    Args:
        seed, data: as in `read_atari_scenes`.
        size: S; a frame is squeezed into (S, S, 3) as a whole.

    Raises:
        MemoryBudgetError: the pictures do not fit the free memory.
    """
    read = read_atari_scenes(seed, data)
    check_memory(sum(map(len, read.values())), size)
    splits = {
        name: [
            CaptionedPicture(one.name, squeezed(one.picture, size), (one.sentence,)) for one in part
        ]
        for name, part in read.items()
    }
    facts = atari_facts(seed, data)
    return Captions({**facts, "sentences": dict(facts["counts"])}, splits)


@dataclass(frozen=True)
class AskedFrames:
    """Frames of a split with their questions.

    Attributes:
        scenes: the frames; `captions.squeezed` brings their pictures to a size.
        questions: (number of the frame, question, answer, kind).
    """

    scenes: Sequence[AtariScene]
    questions: Sequence[tuple[int, str, str, Kind]]


def atari_questions(seed: int, data: str = ATARI_SCENES) -> Mapping[str, AskedFrames]:
    """All questions of all frames, by split."""
    return {
        name: AskedFrames(
            part,
            [(number, *asked) for number, one in enumerate(part) for asked in one.questions],
        )
        for name, part in read_atari_scenes(seed, data).items()
    }
