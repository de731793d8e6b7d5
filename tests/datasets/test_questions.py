"""Readers of questions: what is generated, easy-VQA, folders of one's own, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from eightbit.datasets.pictures import write_picture
from eightbit.datasets.question_rules import questions_of
from eightbit.datasets.questions import kind_of, read_questions
from eightbit.datasets.sort_of_clevr import (
    COLOURS,
    NON_RELATIONAL,
    PICTURES,
    RADIUS,
    RELATIONAL,
    SIDE,
    answer_of,
    board,
    board_questions,
    draw_board,
    varied,
)
from eightbit.errors import DataError, UsageError

KINDS = (*NON_RELATIONAL, *RELATIONAL)


def test_the_settings_are_those_of_the_paper():
    assert (PICTURES["train"], PICTURES["test"], SIDE, len(COLOURS)) == (9_800, 200, 75, 6)
    one = board("train", 0, 5)
    asked = board_questions(one)
    assert len(asked) == 20 and len({text for text, _, _ in asked}) == 20
    assert [kind in NON_RELATIONAL for _, _, kind in asked] == [True] * 10 + [False] * 10
    picture = draw_board(one)
    assert picture.shape == (75, 75, 3) and picture.dtype == np.uint8


def _seen(picture: np.ndarray) -> list[tuple[float, float, bool]]:
    """Centres and shapes of the six colours, read from the pixels alone."""
    found = []
    for colour in COLOURS.values():
        down, across = np.nonzero((picture == colour).all(-1))
        full = len(down) == (2 * RADIUS + 1) ** 2
        found.append((float(across.mean()), float(down.mean()), not full))
    return found


def _answer_from(things: list[tuple[float, float, bool]], kind: str, colour: int) -> str:
    x, y, circle = things[colour]
    others = [i for i in range(6) if i != colour]
    far = {i: math.hypot(things[i][0] - x, things[i][1] - y) for i in others}
    shape = {
        "shape": circle,
        "closest": things[min(far, key=far.__getitem__)][2],
        "furthest": things[max(far, key=far.__getitem__)][2],
    }
    if kind in shape:
        return "circle" if shape[kind] else "square"
    if kind == "same shape":
        return str(sum(thing[2] == circle for thing in things))
    return "yes" if (x < SIDE / 2 if kind == "left" else y > SIDE / 2) else "no"


@pytest.mark.parametrize("number", range(25))
def test_answers_are_what_the_pixels_show(number):
    one = board("test", 0, number)
    things = _seen(draw_board(one))
    for colour, kind in itertools.product(range(6), KINDS):
        assert answer_of(one, kind, colour) == _answer_from(things, kind, colour), (kind, colour)


def test_objects_neither_touch_nor_leave_the_picture_and_splits_differ():
    for number in range(200):
        one = board("train", 3, number)
        assert all(RADIUS <= c < SIDE - RADIUS for centre in one.centres for c in centre)
        assert all(
            math.dist(a, b) > 2 * math.sqrt(2) * RADIUS
            for a, b in itertools.combinations(one.centres, 2)
        )
    assert board("train", 0, 0) != board("test", 0, 0) != board("train", 1, 0)
    assert board("train", 0, 0) == board.__wrapped__("train", 0, 0)


@pytest.mark.parametrize("number", range(20))
def test_varied_boards_are_boards_whose_answers_the_pixels_show(number):
    old = board("train", 0, number)
    new = varied(old, np.random.default_rng(number))
    things, before = _seen(draw_board(new)), _seen(draw_board(old))
    # The shapes and the distances between all places stay; only the colours tell who is who.
    assert sum(thing[2] for thing in things) == sum(thing[2] for thing in before)
    assert _distances(things) == pytest.approx(_distances(before))
    assert [kind for kind, _ in new.asked] == [kind for kind, _ in old.asked]
    assert len(set(new.asked)) == 20
    for text, answer, kind in board_questions(new):
        (colour,) = (i for i, name in enumerate(COLOURS) if name in text.split())
        assert answer == _answer_from(things, kind, colour)


def _distances(things: list[tuple[float, float, bool]]) -> list[float]:
    return sorted(math.dist(a[:2], b[:2]) for a, b in itertools.combinations(things, 2))


def test_variants_reach_all_colours_sides_and_both_diagonals():
    one = board("train", 0, 1)
    rng = np.random.default_rng(0)
    seen = [varied(one, rng) for _ in range(600)]
    assert len({new.centres for new in seen}) > 500  # of 5,760
    assert len({frozenset(new.centres) for new in seen}) == 8


def _folder(root: Path, rows: list, rng, split: str = "") -> Path:
    folder = root / split if split else root
    for name in range(12):
        rgb = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
        write_picture(folder / "images" / f"{name}.png", rgb)
    (folder / "questions.json").write_text(json.dumps(rows))
    return root


def test_a_folder_of_ones_own_is_divided_by_picture(tmp_path, rng):
    rows = [["What colour is it?", "Red", i] for i in range(12)]
    rows += [{"question": "how many?", "answer": "2", "picture": f"{i}.png"} for i in range(12)]
    read = read_questions(str(_folder(tmp_path, rows, rng)), 0, 8)
    assert sum(read.facts["questions"].values()) == 24
    assert sum(read.facts["counts"].values()) == 12
    test = read.splits["test"]
    assert test.pictures[0].shape == (8, 8, 3)
    assert {one.kind for one in test.questions} == {"colour", "number"}
    assert test.questions[0].text == "what colour is it" and test.questions[0].answer == "red"


def test_train_and_test_folders_are_kept_apart(tmp_path, rng):
    for split in ("train", "test"):
        _folder(tmp_path, [[f"is this {split}", "yes", i] for i in range(12)], rng, split)
    read = read_questions(str(tmp_path), 0, 8)
    assert {one.text for one in read.splits["test"].questions} == {"is this test"}
    assert {one.text for one in read.splits["validation"].questions} == {"is this train"}
    assert len(read.splits["test"].pictures) == 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[["what", "red", 99]]', "lacks the picture 99 of question 1"),
        ("[1]", "question 1 of questions.json"),
        ('[["", "red", 1]]', "question 1 of questions.json"),
        ("{", "is no JSON"),
        ('{"a": 1}', "is no list of questions"),
        ("[]", "has 0 pictures with questions"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, rng, content, message):
    _folder(tmp_path, [], rng)
    (tmp_path / "questions.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_questions(str(tmp_path), 0, 8)


def test_a_folder_without_questions_and_sizes_too_small_are_refused(tmp_path, rng):
    write_picture(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"holds no questions\.json"):
        read_questions(str(tmp_path), 0, 8)
    for data, size in (("scenes", 8), ("easy-vqa", 0)):
        with pytest.raises(UsageError):
            read_questions(data, 0, size)


def test_kinds_where_none_is_told():
    assert kind_of("is there a dog", "no") == "yes or no"
    assert kind_of("how many dogs", "two") == kind_of("count them", "3") == "number"
    assert kind_of("what color is it", "red") == "colour"
    assert kind_of("where is it", "park") == "location"
    assert kind_of("what is it", "dog") == "object"


@pytest.mark.parametrize(
    ("sentence", "asked"),
    [
        (
            "a brown dog runs on the beach",
            {
                ("what runs on the beach", "dog", "object"),
                ("what is the colour of the dog", "brown", "colour"),
                ("where is the dog", "beach", "location"),
            },
        ),
        (
            "a boy holding a red ball",
            {
                ("what is holding a red ball", "boy", "object"),
                ("what is the boy holding", "ball", "object"),
                ("what is the colour of the ball", "red", "colour"),
            },
        ),
        (
            "two young girls play in the snow",
            {("how many young girls are there", "two", "number")},
        ),
        (
            "three dogs in the grass",
            {
                ("how many dogs are there", "three", "number"),
                ("where are the dogs", "grass", "location"),
            },
        ),
        ("a black and white dog and a cat", set()),
        ("one of two dogs", set()),
        ("two dogs and two cats", set()),
        ("a man wearing a red vest waves as he sails", set()),
        ("a man listening to his ipod looks at the maps", set()),
        ("a man wearing blue climbs a cliff", set()),
        (
            "a dog watching a cat in the air",
            {("what is watching a cat in the air", "dog", "object")},
        ),
        ("a child rides on a man s shoulders", set()),
        ("a couple stands here and two people stand there", set()),
        ("", set()),
    ],
)
def test_rules_ask_what_a_sentence_answers_for_sure(sentence, asked):
    found = set(questions_of(sentence))
    assert {one for one in found if not (one[2] == "colour" and one not in asked)} == asked


def test_easy_vqa_is_read_whole():
    root = os.environ.get("EIGHTBIT_DATA")
    if root is None or not Path(root, "easy_vqa").is_dir():
        pytest.skip("set EIGHTBIT_DATA to the folder with easy_vqa")
    read = read_questions("easy-vqa", 0, 64)
    assert sum(read.facts["counts"].values()) == 5_000
    assert sum(read.facts["questions"].values()) == 48_248
    assert len({one.answer for one in read.splits["train"].questions}) == 13
    # The picture of a question is the one that the file names.
    first = read.splits["test"].questions[0]
    assert (first.text, first.answer) == ("what is the red shape", "triangle")
    red = read.splits["test"].pictures[first.picture].reshape(-1, 3).astype(int)
    assert ((red[:, 0] - red[:, 1:].max(1)) > 80).sum() > 20
