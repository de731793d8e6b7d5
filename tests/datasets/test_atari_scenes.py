"""Frames of Atari games with named objects: their boxes, sentences and questions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.datasets import atari_scenes
from eightbit.datasets.atari_objects import (
    ATARI_OBJECTS,
    AtariObject,
    _pieces,
    class_names,
    find_objects,
)
from eightbit.datasets.atari_scenes import (
    AtariScene,
    ask,
    atari_boxes,
    atari_captions,
    atari_questions,
    describe,
    first_seed,
    games_of,
    nearest,
    played,
    read_atari_scenes,
    relation,
    true_of,
)
from eightbit.datasets.boxes import read_boxes
from eightbit.datasets.captions import as_learnt, read_captions
from eightbit.envs.console.vector import ConsoleVectorEnv
from eightbit.envs.options import EnvOptions, Picture
from eightbit.errors import UnknownNameError
from eightbit.tasks import load_task
from eightbit.vision_tasks.caption import CaptionOptions

GAMES = tuple(ATARI_OBJECTS)


@cache
def frames(game: str) -> tuple[AtariScene, ...]:
    return tuple(played(game, 42, 31))


def thing(name: str, x0: int, y0: int, x1: int, y1: int, colour: str = "") -> AtariObject:
    return AtariObject(name, (x0, y0, x1, y1), name.rpartition(" ")[2], colour)


# Checked by eye on the enlarged frame; the digest tells that the frame is still that one.
GOLDEN: Mapping[str, tuple[str, Sequence[tuple[object, ...]]]] = {
    "pong": (
        "f762bad1",
        [
            ("ball", 73, 66, 75, 70),
            ("orange paddle", 16, 79, 20, 95),
            ("green paddle", 140, 92, 144, 108),
        ],
    ),
    "breakout": (
        "2172d998",
        [
            ("ball", 99, 156, 101, 160),
            ("paddle", 84, 189, 100, 193),
            ("red row", 8, 57, 152, 63),
            ("blue row", 8, 87, 152, 93),
        ],
    ),
    "space_invaders": (
        "50c6f9f1",
        [
            ("ship", 40, 185, 47, 195),
            ("alien", 24, 31, 32, 41),
            ("alien", 24, 121, 32, 131),
            ("alien", 40, 49, 48, 59),
        ],
    ),
    "freeway": (
        "0ded5689",
        [
            ("chicken", 44, 187, 50, 195),
            ("chicken", 108, 187, 114, 195),
            ("car", 112, 27, 120, 37),
            ("car", 108, 123, 116, 133),
        ],
    ),
    "boxing": (
        "318b1779",
        [("white boxer", 35, 49, 49, 96), ("black boxer", 60, 43, 74, 90)],
    ),
    "tennis": (
        "7bdca019",
        [
            ("ball", 75, 24, 77, 26),
            ("pink player", 46, 24, 58, 47),
            ("blue player", 79, 160, 91, 183),
            ("net", 32, 99, 128, 113),
            ("shadow", 75, 46, 77, 48),
        ],
    ),
    "enduro": (
        "8f4a0c2f",
        [
            ("racer", 73, 144, 89, 155),
            ("car", 88, 75, 92, 78),
            ("car", 103, 97, 111, 103),
            ("mountain", 44, 45, 76, 51),
            ("mountain", 116, 46, 144, 51),
        ],
    ),
    "skiing": (
        "47be0c67",
        [
            ("skier", 48, 41, 55, 59),
            ("flag", 72, 106, 77, 120),
            ("flag", 104, 106, 109, 120),
            ("tree", 33, 126, 49, 156),
            ("mogul", 50, 94, 66, 100),
        ],
    ),
}


@pytest.mark.parametrize("game", GAMES)
def test_boxes_are_those_that_were_checked_by_eye(game):
    one = frames(game)[-1]
    digest, boxes = GOLDEN[game]
    assert hashlib.sha256(one.screen.tobytes()).hexdigest()[:8] == digest
    found = [(each.name, *each.box) for each in one.objects]
    assert [box for box in boxes if box not in found] == []
    if game == "space_invaders":
        counts = Counter(each.name for each in one.objects)
        assert counts == {"ship": 1, "alien": 36, "shield": 3, "shot": 1}


@pytest.mark.parametrize(
    ("game", "name", "axis", "address"),
    [
        ("pong", "ball", 0, 49),
        ("pong", "ball", 1, 54),
        ("pong", "green paddle", 1, 51),
        ("pong", "orange paddle", 1, 50),
        ("breakout", "ball", 0, 99),
        ("breakout", "ball", 1, 101),
        ("breakout", "paddle", 0, 72),
    ],
)
def test_boxes_move_as_the_games_memory_says(game, name, axis, address):
    # Addresses by Anand and others, Unsupervised State Representation Learning in Atari, 2019.
    height = 16 if name.endswith(" paddle") else 4
    apart = [
        one.box[axis] - int(memory[address])
        for objects, memory in remembered(game)
        for one in objects
        if one.name == name and one.box[3] - one.box[1] == height  # no wall covers it
    ]
    # Pong draws two lines at a time, so that its objects may stand a line off.
    allowed = 1 if game == "pong" and axis == 1 else 0
    assert len(apart) > 80 and max(apart) - min(apart) <= allowed, Counter(apart)


@cache
def remembered(game: str) -> list[tuple[tuple[AtariObject, ...], np.ndarray]]:
    """Objects and bytes of memory, uint8 (128,), of 600 frames of random play."""
    options = EnvOptions(
        picture=Picture.OBJECTS, screen_size=0, frame_skip=1, frame_stack=1, max_pool=False
    )
    env = ConsoleVectorEnv(game, 1, options, AutoresetMode.NEXT_STEP, true_colours=True)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    found, held = [], 0
    for step in range(600):
        if step % 20 == 0:
            held = int(rng.integers(env.single_action_space.n))
        planes = env.step(np.array([held]))[0]
        pieces = env.pieces(0)
        found.append((find_objects(game, pieces["screen"], planes[0, 0]), pieces["ram"].copy()))
    env.close()
    return found


def _by_pairs(mask: np.ndarray, gap: tuple[int, int]) -> set[frozenset[tuple[int, int]]]:
    """Pieces, by comparing every pixel with every other one."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    pieces = set()
    while left:
        piece = front = {left.pop()}
        while front:
            front = {
                (y, x)
                for y, x in left
                if any(abs(y - v) <= gap[1] + 1 and abs(x - u) <= gap[0] + 1 for v, u in front)
            }
            left -= front
            piece = piece | front
        pieces.add(frozenset(piece))
    return pieces


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=9, max_size=9), max_size=8),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_pieces_are_those_that_lie_farther_apart_than_the_gap(rows, gap):
    mask = np.array(rows, bool).reshape(-1, 9)
    if not mask.any():
        return
    pieces = _pieces(mask, gap)
    found = {frozenset((int(y), int(x)) for y, x in np.argwhere(one)) for one in pieces}
    assert found == _by_pairs(mask, gap)


@pytest.mark.parametrize("game", GAMES)
def test_every_frame_is_told_and_asked_about_truly(game):
    names = set(class_names([game]))
    for one in frames(game):
        assert one.picture.shape == (210, 160, 3) and one.picture.dtype == np.uint8
        assert one.objects and {each.name for each in one.objects} <= names
        boxes = np.array([each.box for each in one.objects])
        assert (boxes[:, :2] < boxes[:, 2:]).all() and boxes.min() >= 0
        assert (boxes[:, 2] <= 160).all() and (boxes[:, 3] <= 210).all()
        assert true_of(one.sentence, one.objects), one.sentence
        for question, answer, kind in one.questions:
            assert kind in ("object", "number", "colour", "location") and answer, question
        assert len({question for question, _, _ in one.questions}) == len(one.questions)


def test_the_same_seed_plays_the_same_games():
    again = list(played("pong", 42, 4))
    assert all(
        np.array_equal(a.screen, b.screen) and a.objects == b.objects and a.name == b.name
        for a, b in zip(frames("pong")[: len(again)], again, strict=True)
    )
    other = list(played("pong", 43, 4))
    assert not np.array_equal(frames("pong")[len(other) - 1].screen, other[-1].screen)


def test_a_sentence_tells_of_the_nearest_of_each_noun():
    ship = thing("ship", 40, 180, 48, 190)
    aliens = [thing("alien", 40, 50, 48, 60), thing("alien", 100, 30, 108, 40)]
    shot = thing("shot", 20, 180, 22, 190)
    assert describe([ship, *aliens, shot]) == "the ship is below an alien and right of the shot"
    assert describe([ship]) == "there is the ship"
    assert describe(aliens) == "there is an alien"


def test_what_is_nearer_across_than_down_is_above_or_below():
    # 16 pixels are a tenth of the width, 21 a tenth of the height.
    middle = thing("ball", 79, 104, 81, 106)
    assert relation(middle, thing("paddle", 95, 123, 97, 125)) == "left of"
    assert relation(middle, thing("paddle", 95, 127, 97, 129)) == "above"
    assert relation(thing("paddle", 95, 127, 97, 129), middle) == "below"


def test_what_is_under_a_wide_object_is_below_it():
    row, ball = thing("blue row", 8, 87, 152, 93, "blue"), thing("ball", 12, 120, 14, 124)
    assert relation(ball, row) == "below" and relation(row, ball) == "above"
    beside = thing("ball", 155, 88, 157, 92)
    assert relation(beside, row) == "right of"
    # Boxes that overlap are told apart by their centres.
    boxers = thing("white boxer", 35, 49, 65, 96), thing("black boxer", 60, 43, 74, 90)
    assert relation(*boxers) == "left of"


def test_the_nearest_is_that_with_the_nearest_edge():
    ball = thing("ball", 20, 100, 22, 104)
    wide, small = thing("net", 18, 108, 150, 120), thing("shadow", 30, 100, 32, 104)
    assert nearest(ball, [small, wide]) is wide


def test_only_sentences_that_hold_are_true():
    objects = [
        thing("ball", 70, 60, 72, 64),
        thing("orange paddle", 16, 60, 20, 76, "orange"),
        thing("green paddle", 140, 60, 144, 76, "green"),
    ]
    for sentence in (
        "the ball is right of the orange paddle",
        "a ball is right of the orange paddle and left of the green paddle",
        "the green paddle is right of a ball",
        "there is a ball",
    ):
        assert true_of(sentence, objects), sentence
    for sentence in (
        "the ball is left of the orange paddle",
        "the ball is right of the orange paddle and right of the green paddle",
        "the ball is right of the ball",
        "there is a ship",
        "ball right",
        "",
    ):
        assert not true_of(sentence, objects), sentence


def test_questions_have_the_answers_that_the_frame_gives():
    objects = [
        thing("skier", 70, 40, 78, 58),
        thing("flag", 60, 100, 65, 114),
        thing("flag", 92, 100, 97, 114),
        thing("mogul", 100, 60, 116, 66),
    ]
    asked = {question: answer for question, answer, _ in ask("skiing", objects)}
    assert asked["what game is this"] == "skiing"
    assert asked["how many flags are there"] == "2" and asked["how many trees are there"] == "0"
    assert asked["where is the skier seen from the mogul"] == "left"
    assert asked["where is the mogul seen from the skier"] == "right"
    assert asked["what is nearest to the skier"] == "mogul"
    assert not any("flag" in question for question in asked if question.startswith("where"))
    boxers = [
        thing("white boxer", 35, 49, 49, 96, "white"),
        thing("black boxer", 60, 43, 74, 90, "black"),
    ]
    asked = {question: answer for question, answer, _ in ask("boxing", boxers)}
    assert asked["what colour is the leftmost boxer"] == "white"
    assert asked["what colour is the highest boxer"] == "black"


def test_an_unknown_game_is_named():
    with pytest.raises(UnknownNameError, match="did you mean pong"):
        next(played("pongg", 0, 1))


def test_seeds_of_two_splits_never_meet():
    rows = 10
    firsts = [
        first_seed(*which)
        for which in (("test", 0), ("validation", 0), ("train", 0), ("train", 1), ("train", 7))
    ]
    ranges = [set(range(first, first + rows)) for first in firsts]
    assert len(set.union(*ranges)) == rows * len(ranges)


FEW_GAMES = {game: ATARI_OBJECTS[game] for game in ("pong", "breakout", "boxing")}


@pytest.fixture(scope="module")
def few_read():
    """By `by_game`: the splits of a small data set of three games."""
    once = cache(lambda *which: tuple(played(*which)))  # both data sets have the same games
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atari_scenes, "played", once)
        patch.setattr(atari_scenes, "_ROWS", 4)
        patch.setattr(atari_scenes, "ATARI_OBJECTS", FEW_GAMES)
        patch.setattr(atari_scenes, "FRAMES", {"train": 12, "validation": 10, "test": 11})
        patch.setattr(atari_scenes, "_FEWEST", 12)
        patch.setattr(atari_scenes, "_MOST", 24)
        return {by_game: atari_scenes._read.__wrapped__(3, by_game) for by_game in (False, True)}


@pytest.fixture
def few_frames(monkeypatch, few_read):
    """The small data set in the place of the whole."""
    monkeypatch.setattr(atari_scenes, "ATARI_OBJECTS", FEW_GAMES)
    monkeypatch.setattr(atari_scenes, "_read", lambda seed, by_game: few_read[by_game])


def test_each_task_reads_the_frames(few_frames):
    splits = read_atari_scenes(3)
    assert {one.game for one in splits["test"]} == {"pong", "breakout", "boxing"}
    pictures = [one.screen.tobytes() for part in splits.values() for one in part]
    assert len(set(pictures)) == len(pictures), "no picture twice"

    boxed = read_boxes("atari-scenes", 3)
    assert boxed.classes == class_names() and boxed.validation is not None
    assert len(boxed.train) == len(splits["train"]) and boxed.facts["split"].startswith("by the")
    first = boxed.test[0]
    assert np.array_equal(first.read(), splits["test"][0].picture)
    assert first.boxes.dtype == np.float32 and first.labels.dtype == np.int64
    names = [boxed.classes[label] for label in first.labels]
    assert names == [one.name for one in splits["test"][0].objects]

    told = read_captions("atari-scenes", 3, 48)
    assert told.splits["test"][0].picture.shape == (48, 48, 3) and told.fresh is None
    assert told.splits["test"][0].sentences == (splits["test"][0].sentence,)

    asked = atari_questions(3)["validation"]
    assert {number for number, *_ in asked.questions} == set(range(len(asked.scenes)))
    assert atari_boxes(3).facts["counts"] == atari_captions(3, 48).facts["counts"]


def test_by_game_the_test_has_other_games_and_known_nouns(few_frames):
    splits = read_atari_scenes(3, "atari-scenes-by-game")
    games = {name: {one.game for one in part} for name, part in splits.items()}
    assert games["train"] == games["validation"] == {"pong", "boxing"}
    assert games["test"] == {"breakout"}
    boxed = read_boxes("atari-scenes-by-game", 3)
    assert boxed.classes == ("ball", "paddle", "boxer")
    assert boxed.facts["split"].startswith("by game: the test is breakout and enduro")
    assert boxed.facts["boxes"]["test"]["boxer"] == 0 < boxed.facts["boxes"]["test"]["paddle"]
    told = read_captions("atari-scenes-by-game", 3, 48).splits["test"]
    words = {word for one in told for word in one.sentences[0].split()}
    assert words <= set(
        ["there", "is", "the", "a", "ball", "paddle", "left", "right", "of", "above", "below"]
    )
    for i, one in enumerate(told):
        assert true_of(one.sentences[0], splits["test"][i].objects)
    asked = atari_questions(3, "atari-scenes-by-game")["test"].questions
    assert asked and not any("game" in text or "row" in text for _, text, *_ in asked)


def test_by_game_every_game_is_in_one_place():
    for split in ("train", "validation"):
        assert set(games_of(split, True)).isdisjoint(games_of("test", True))
    assert set(games_of("train", True)) | set(games_of("test", True)) == set(GAMES)


def test_sentences_of_a_split_are_checked_on_its_own_frames(few_frames):
    data = load_task("caption").build_data(CaptionOptions(size=48), "atari-scenes", 3)
    for split in ("train", "test"):
        part, frames_ = data.splits[split], read_atari_scenes(3)[split]
        for i in range(len(part)):
            assert part.true(i, part.members[i].sentences[0])
            assert part.members[i].name == frames_[i].name
    assert not data.splits["test"].true(0, "there is a saucer")


@pytest.mark.parametrize("shape", [(210, 160), (630, 800), (40, 30)])
def test_pictures_are_made_square_as_those_that_were_learnt_from(few_frames, shape):
    picture = np.zeros((*shape, 3), np.uint8)
    picture[:2], picture[-2:] = 255, 255  # the upper and the lower edge
    whole = as_learnt(picture, 20, atari_captions(3, 20).facts)
    middle = as_learnt(picture, 20, {"source": "photographs"})
    assert whole.shape == middle.shape == (20, 20, 3)
    assert whole[0].any() and whole[-1].any()
    if shape[0] > shape[1]:
        assert not middle[0].any() and not middle[-1].any()
