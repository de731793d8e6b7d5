"""Pictures with questions about them whose answer is one word."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, cast

import numpy as np

from ..errors import DataError, EightBitError, UsageError
from .archive import Archive
from .atari_objects import ATARI_DATA
from .caption_layouts import plain
from .captions import FLICKR8K_900, SCORED_SEED, Made, read_captions, squeezed
from .download import resolve, source_facts
from .jpeg import decode_quickly
from .labelled import check_memory, fitted
from .pictures import SUFFIXES
from .question_rules import questions_of
from .scenes import SMALLEST_PICTURE, SceneSplit, draw_scene, scene, scene_questions
from .sort_of_clevr import PICTURES, ClevrSplit, board, board_questions, draw_board, varied
from .splits import divided_by_group, split_called

SCENES: Mapping[SceneSplit, int] = {"train": 10_000, "validation": 500, "test": 1_000}
"""how many generated scenes each split counts"""
SCENE_ASKED = 12
"""questions about a scene at most"""
Varied = Callable[[int, np.random.Generator], tuple[np.ndarray, list[tuple[str, str, str]]]]
_SPLITS = ("train", "validation", "test")
_SHARE = 0.1  # of the pictures that a missing split takes


@dataclass(frozen=True)
class Question:
    """One question and its answer.

    Attributes:
        picture: index into the split's pictures.
        text: the question, lower case words with single spaces between them.
        answer: one word.
        kind: what is asked for, like "colour".
    """

    picture: int
    text: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Asked:
    """One split.

    Attributes:
        pictures: RGB uint8 (S, S, 3) each; generated ones are drawn when they are asked for.
        questions: in the order of their pictures; a picture may have none.
        varied: (picture's index, generator) -> the picture changed so that its answers are still
            known, and its questions as (text, answer, kind); None where the data have no such way.
    """

    pictures: Sequence[np.ndarray]
    questions: Sequence[Question]
    varied: Varied | None = None


@dataclass(frozen=True)
class PictureQuestions:
    """A data set for answering questions.

    Attributes:
        facts: JSON values: source, licence, split, counts of pictures and of questions.
        splits: "train", "validation" and "test".
    """

    facts: Mapping[str, Any]
    splits: Mapping[str, Asked]


def read_questions(data: str, seed: int, size: int) -> PictureQuestions:
    """Reads pictures and questions.

    Besides the names below, `data` may be a folder or an archive with pictures and a
    questions.json, or one in train/ and test/ (validation/) each. It is a list whose members are
    [question, answer, picture], as easy-VQA has them, or objects with the keys question, answer,
    picture and, if wished, kind and split. Where there is no validation or test part, a
    seeded tenth of the pictures is taken for it.

    Args:
        data: "easy-vqa", "sort-of-clevr" and "scenes" (both generated), "flickr8k-900" (questions
            made of its sentences, see `question_rules`), "atari-scenes" and
            "atari-scenes-by-game" (generated, see `atari_scenes`), a folder or an archive.
        seed: of what is generated to learn from, or of the split.
        size: S, pixels.

    Raises:
        DataError: files are missing or damaged, or there is nothing to learn from.
        MemoryBudgetError: the pictures do not fit the free memory.
        UnknownNameError: `data` is neither a path nor a known name.
        UsageError: `size` is too small.
    """
    if size < 1:
        raise UsageError(f"pictures cannot be {size} pixels wide; choose at least 1.")
    makers: dict[str, Callable[[int, int], PictureQuestions]] = {
        "sort-of-clevr": _sort_of_clevr,
        "scenes": _scenes,
        **{name: partial(_atari, name) for name in ATARI_DATA},
        FLICKR8K_900: partial(_from_sentences, FLICKR8K_900),
    }
    if data in makers:
        return makers[data](seed, size)
    path = resolve(data)
    with Archive.open(path) as archive:
        parts, said = _divided(_listed(archive), seed, archive)
        splits = {name: _decoded(archive, rows, size) for name, rows in parts.items()}
    return PictureQuestions(_facts(source_facts(data, path), said, splits), splits)


def _facts(source: Mapping[str, Any], said: str, splits: Mapping[str, Asked]) -> dict[str, Any]:
    return {
        **source,
        "split": said,
        "counts": {name: len(part.pictures) for name, part in splits.items()},
        "questions": {name: len(part.questions) for name, part in splits.items()},
    }


def _numbered(asked: Sequence[Sequence[tuple[str, str, str]]]) -> list[Question]:
    """Questions of (text, answer, kind) by picture."""
    return [Question(i, *one) for i, some in enumerate(asked) for one in some]


# -------------------------------------------------------------------------------- generated


def _sort_of_clevr(seed: int, size: int) -> PictureQuestions:
    seeds = {"train": seed, "validation": SCORED_SEED, "test": SCORED_SEED}
    splits: dict[str, Asked] = {}
    for name, count in PICTURES.items():
        asked = [board_questions(board(name, seeds[name], i)) for i in range(count)]
        pictures = Made(partial(_board_picture, name, seeds[name], size), count)
        changed = partial(_board_varied, name, seeds[name], size)
        splits[name] = Asked(pictures, _numbered(asked), changed)
    source = {
        "source": "generated as in Santoro and others, A Simple Neural Network Module, 2017",
        "licence": "MIT",
    }
    said = (
        f"training is drawn with seed {seed}, validation and test with seed {SCORED_SEED}; the "
        "paper has 9,800 and 200 pictures, the 200 for validation come on top"
    )
    return PictureQuestions(_facts(source, said, splits), splits)


def _board_picture(split: ClevrSplit, seed: int, size: int, number: int) -> np.ndarray:
    return draw_board(board(split, seed, number), size)


def _board_varied(
    split: ClevrSplit, seed: int, size: int, number: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[str, str, str]]]:
    one = varied(board(split, seed, number), rng)
    return draw_board(one, size), board_questions(one)


def _scenes(seed: int, size: int) -> PictureQuestions:
    if size < SMALLEST_PICTURE:
        raise UsageError(f"scenes need pictures of at least {SMALLEST_PICTURE} pixels, not {size}.")
    seeds = {"train": seed, "validation": SCORED_SEED, "test": SCORED_SEED}
    splits: dict[str, Asked] = {}
    for name, count in SCENES.items():
        asked = [_scene_asked(name, seeds[name], i) for i in range(count)]
        pictures = Made(partial(_scene_picture, name, seeds[name], size), count)
        splits[name] = Asked(pictures, _numbered(asked))
    source = {"source": "generated: two to four coloured shapes", "licence": "MIT"}
    said = (
        "each test picture has a pair of colour and shape that training never has; validation and "
        f"test are drawn with seed {SCORED_SEED}, training with seed {seed}"
    )
    return PictureQuestions(_facts(source, said, splits), splits)


def _scene_asked(split: SceneSplit, seed: int, number: int) -> list[tuple[str, str, str]]:
    """Some of a scene's questions, as many of each kind as there are."""
    every = scene_questions(scene(split, seed, number))
    rng = np.random.default_rng([seed, 12, _SPLITS.index(split), number])
    by_kind: dict[str, list[tuple[str, str, str]]] = {}
    for i in rng.permutation(len(every)):
        by_kind.setdefault(every[i][2], []).append(every[i])
    share = SCENE_ASKED // 4
    return [one for some in by_kind.values() for one in some[:share]]


def _scene_picture(split: SceneSplit, seed: int, size: int, number: int) -> np.ndarray:
    return draw_scene(scene(split, seed, number), size)


def _atari(data: str, seed: int, size: int) -> PictureQuestions:
    from .atari_scenes import atari_facts, atari_questions

    splits = {}
    for name, part in atari_questions(seed, data).items():
        scenes = part.scenes

        def drawn(i: int, scenes: Sequence[Any] = scenes) -> np.ndarray:
            return squeezed(scenes[i].picture, size)

        questions = [Question(i, plain(text), *rest) for i, text, *rest in part.questions]
        splits[name] = Asked(Made(drawn, len(scenes)), questions)
    facts = atari_facts(seed, data)
    return PictureQuestions(_facts(facts, facts["split"], splits), splits)


# ---------------------------------------------------------------------------- from sentences


def _from_sentences(data: str, seed: int, size: int) -> PictureQuestions:
    """Questions made of each picture's sentences, each question once a picture.

    A question that two sentences of a picture answer differently is left out.
    """
    read = read_captions(data, seed, size)
    splits = {}
    for name, members in read.splits.items():
        asked = [
            _agreed([one for s in member.sentences for one in questions_of(s)])
            for member in members
        ]
        splits[name] = Asked([member.picture for member in members], _numbered(asked))
    facts = {key: value for key, value in read.facts.items() if key != "sentences"}
    facts["rules"] = "questions are made of the sentences by datasets.question_rules"
    return PictureQuestions(_facts(facts, facts["split"], splits), splits)


def _agreed(asked: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    answers = Counter(text for text, _ in {(text, answer) for text, answer, _ in asked})
    return [one for one in dict.fromkeys(asked) if answers[one[0]] == 1]


# ------------------------------------------------------------------------------------ files


@dataclass(frozen=True)
class _Row:
    """A question of a file: `picture` names a file; `split` is "" where none is told."""

    text: str
    answer: str
    kind: str
    picture: str
    split: str


def _listed(archive: Archive) -> list[_Row]:
    """All questions; raises DataError where there are none or the file is damaged."""
    names = [n for n in archive.names if PurePosixPath(n).name == "questions.json"]
    if not names:
        raise DataError(
            f"{archive.path} holds no questions.json; it lists [question, answer, picture]."
        )
    files = {n: n for n in archive.names if PurePosixPath(n).suffix.lower() in SUFFIXES}
    return [row for name in names for row in _rows(archive, name, files)]


def _rows(archive: Archive, name: str, files: dict[str, str]) -> list[_Row]:
    folder = PurePosixPath(name).parent
    split = split_called(folder.name) or ""
    here = _by_short_name(files, str(folder))
    try:
        listed = json.loads(archive.text(name))
    except ValueError as error:
        raise DataError(f"{name} in {archive.path} is no JSON ({error}).") from None
    if not isinstance(listed, list):
        raise DataError(f"{name} in {archive.path} is no list of questions.")
    rows = []
    for number, one in enumerate(listed, 1):
        try:
            row = _row(one, split)
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"question {number} of {name} in {archive.path} is not [question, answer, picture] "
                "nor an object with these keys."
            ) from None
        found = here.get(row.picture)
        if found is None:
            raise DataError(
                f"{archive.path} lacks the picture {row.picture} of question {number} in {name}; "
                "add it, or take the question out."
            )
        rows.append(_Row(row.text, row.answer, row.kind, found, row.split))
    return rows


def _row(one: Any, split: str) -> _Row:
    if isinstance(one, Mapping):
        told = cast(Mapping[str, Any], one)
        text, answer, picture = told["question"], told["answer"], told["picture"]
        kind = str(told.get("kind", ""))
        split = split_called(str(told["split"])) or "" if "split" in told else split
    else:
        text, answer, picture = one
        kind = ""
    text, answer = plain(str(text)), plain(str(answer))
    if not text or not answer:
        raise ValueError("a question or an answer without words")
    return _Row(text, answer, kind or kind_of(text, answer), str(picture), split)


def kind_of(text: str, answer: str) -> str:
    """The kind of a question whose data set does not tell it, by its words and its answer."""
    if answer in ("yes", "no"):
        return "yes or no"
    if answer.isdigit() or text.startswith("how many"):
        return "number"
    if "color" in text or "colour" in text:
        return "colour"
    return "location" if text.startswith("where") else "object"


def _by_short_name(files: Mapping[str, str], folder: str) -> dict[str, str]:
    """Picture files by whole name, last part and stem, those in `folder` before the others."""
    found: dict[str, str] = {}
    inside = [n for n in files if folder in ("", ".") or n.startswith(folder + "/")]
    for name in [*inside, *files]:
        path = PurePosixPath(name)
        below = name.removeprefix(folder + "/")
        for key in (name, below, path.name, path.stem):
            found.setdefault(key, name)
    return found


def _divided(
    rows: Sequence[_Row], seed: int, archive: Archive
) -> tuple[dict[str, list[_Row]], str]:
    """Questions by split, those of one picture together, and how it came about."""
    parts = {name: [row for row in rows if row.split == name] for name in _SPLITS}
    free = parts["train"] or [row for row in rows if not row.split]
    missing = [name for name in ("test", "validation") if not parts[name]]
    pictures = {row.picture for row in free}
    if len(pictures) <= len(missing):
        raise DataError(
            f"{archive.path} has {len(pictures)} pictures with questions to learn from; add some."
        )
    said = "as the data set divides it"
    if missing:
        shares = [(name, _SHARE) for name in missing]
        places = divided_by_group([row.picture for row in free], shares, seed)
        for name in ("train", *missing):
            parts[name] = [row for row, place in zip(free, places, strict=True) if place == name]
        taken = " and another the ".join(missing)
        said = f"a random tenth of the training pictures is the {taken} part (seed {seed})"
    else:
        parts["train"] = free
    return parts, said


def _decoded(archive: Archive, rows: Sequence[_Row], size: int) -> Asked:
    """Pictures in memory; raises DataError naming what cannot be read."""
    names = list(dict.fromkeys(row.picture for row in rows))
    places = {name: i for i, name in enumerate(names)}
    check_memory(len(names), size)
    pictures = np.empty((len(names), size, size, 3), np.uint8)
    failed: list[str] = []

    def read(i: int) -> None:
        try:
            pictures[i] = fitted(decode_quickly(archive.read(names[i]), names[i]), size)
        except EightBitError as error:
            failed.append(str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read, range(len(names))))
    if failed:
        raise DataError(
            f"{len(failed)} of {len(names)} pictures cannot be read; mend or remove them: "
            f"{failed[0]}"
        )
    ordered = sorted(rows, key=lambda row: places[row.picture])
    questions = [Question(places[r.picture], r.text, r.answer, r.kind) for r in ordered]
    return Asked(pictures, questions)  # type: ignore[arg-type]  # rows of an array are pictures
