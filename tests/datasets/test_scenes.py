"""Generated scenes: the rule of their sentences, the parser, the questions, the pictures."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from eightbit.datasets.scenes import (
    COLOURS,
    RELATIONS,
    SEEN,
    SHAPES,
    UNSEEN,
    Scene,
    SceneObject,
    describe,
    draw_scene,
    relation,
    scene,
    scene_questions,
    true_of,
)
from eightbit.errors import UsageError


def _pairs(one: Scene) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in one.objects}


RED = SceneObject("circle", "red", 0.16, 0.5, 0.5)
BLUE = SceneObject("square", "blue", 0.1, 0.8, 0.6)
ORANGE = SceneObject("star", "orange", 0.1, 0.4, 0.9)
THREE = (RED, ORANGE, BLUE)
SENTENCE = "a red circle is above an orange star and left of a blue square"


def test_a_fifth_of_the_pairs_is_kept_from_training_and_every_word_remains() -> None:
    assert len(COLOURS) == 8 and len(SHAPES) == 6 and len(RELATIONS) == 4
    assert len(set(UNSEEN)) == 10 and len(SEEN) + len(UNSEEN) == 48
    colours, shapes = (Counter(pair[i] for pair in SEEN) for i in (0, 1))
    assert min(colours[c] for c in COLOURS) >= 4 and min(shapes[s] for s in SHAPES) >= 4
    for number in range(1000):
        assert not _pairs(scene("train", 0, number)) & set(UNSEEN)
        assert not _pairs(scene("validation", 0, number)) & set(UNSEEN)
        assert _pairs(scene("test", 0, number)) & set(UNSEEN)


def test_a_scene_follows_from_split_seed_and_number_and_none_comes_twice() -> None:
    assert scene("train", 3, 12) == scene("train", 3, 12)
    first = scene("train", 3, 12)
    for other in (scene("validation", 3, 12), scene("train", 4, 12), scene("train", 3, 13)):
        assert other.objects != first.objects
    made = [scene("train", 0, number) for number in (*range(2000), 10**9)]
    assert len({one.objects for one in made}) == len({one.look for one in made}) == len(made)
    assert len({one.sentence for one in made}) > 1800, "sentences are seldom the same"
    assert Counter(len(one.objects) for one in made).keys() == {2, 3, 4}


def test_objects_have_room_and_relations_are_plain_and_all_occur() -> None:
    told: Counter[str] = Counter()
    for number in range(1000):
        large, *small = scene("test", 1, number).objects
        assert len({(thing.colour, thing.shape) for thing in (large, *small)}) == len(small) + 1
        assert large.size > 1.3 * max(thing.size for thing in small)
        assert all(a.x + 0.05 <= b.x for a, b in zip(small, small[1:], strict=False))
        for thing in small:
            assert np.hypot(large.x - thing.x, large.y - thing.y) > large.size + thing.size
            assert abs(abs(large.x - thing.x) - abs(large.y - thing.y)) >= 0.07
            told[relation(large, thing)] += 1
        for thing in (large, *small):
            assert all(thing.size < at < 1 - thing.size for at in (thing.x, thing.y))
    assert min(told[one] for one in RELATIONS) > 0.2 * told.total()


def test_the_sentence_tells_of_the_large_object_from_left_to_right() -> None:
    assert describe(THREE) == describe(THREE[::-1]) == SENTENCE
    assert relation(BLUE, RED) == "right of" and relation(ORANGE, RED) == "below"
    for number in range(200):
        one = scene("train", 5, number)
        assert one.sentence == describe(one.objects) == describe(one.objects[::-1])


@pytest.mark.parametrize(
    ("sentence", "holds"),
    [
        (SENTENCE, True),
        ("a red circle is left of a blue square and above an orange star", True),
        ("a red circle is above an orange star", True),
        ("a blue square is right of a red circle and right of an orange star", True),
        ("a red circle is below an orange star and left of a blue square", False),
        ("a red circle is left of a blue square and left of a blue square", False),
        ("a red square is left of a blue square", False),
        ("a red circle is left of a blue circle", False),
        ("a red circle is above a orange star", False),
        ("a red circle is above an orange star and", False),
        ("red circle is above an orange star", False),
        ("a red circle is a blue square", False),
        ("", False),
        ("<unk> a is is", False),
    ],
)
def test_the_parser_knows_what_holds(sentence: str, holds: bool) -> None:
    assert true_of(sentence, THREE) is holds


def test_each_sentence_holds_of_its_scene_and_hardly_of_another() -> None:
    some = [scene("test", 0, number) for number in range(300)]
    assert all(true_of(one.sentence, one.objects) for one in some)
    moved = sum(true_of(a.sentence, b.objects) for a, b in zip(some, some[1:], strict=False))
    assert moved <= 3


def test_questions_have_one_answer_of_a_few() -> None:
    kinds: Counter[str] = Counter()
    answers: set[str] = set()
    for number in range(300):
        asked = scene_questions(scene("train", 0, number))
        assert len({text for text, _, _ in asked}) == len(asked), "none is asked twice"
        kinds.update(kind for _, _, kind in asked)
        answers.update(answer for _, answer, _ in asked)
    assert kinds.keys() == {"object", "number", "colour", "location"}
    digits = {"0", "1", "2", "3", "4"}
    assert answers == {*SHAPES, *COLOURS, *digits, "left", "right", "above", "below"}


def test_questions_of_a_known_scene() -> None:
    asked = {text: answer for text, answer, _ in scene_questions(Scene(THREE, SENTENCE, 0))}
    assert asked["what shape is the largest object"] == "circle"
    assert asked["what colour is the star"] == "orange"
    assert asked["what shape is the blue object"] == "square"
    assert asked["how many objects are there"] == "3"
    assert asked["how many crosses are there"] == "0" and asked["how many stars are there"] == "1"
    assert asked["how many red objects are there"] == "1"
    assert asked["where is the largest object seen from the orange star"] == "above"
    assert asked["what shape is right of the largest object"] == "square"
    assert asked["what colour is the object below the largest one"] == "orange"
    twins = (RED, BLUE, SceneObject("square", "red", 0.1, 0.85, 0.3))
    asked = {text: answer for text, answer, _ in scene_questions(Scene(twins, "", 0))}
    for doubtful in ("what colour is the square", "what shape is the red object"):
        assert doubtful not in asked
    assert "what shape is right of the largest object" not in asked
    assert asked["how many squares are there"] == "2"


def test_a_picture_is_a_pure_function_and_shows_the_colours_where_they_are() -> None:
    for number in range(60):
        one = scene("test", 0, number)
        picture = draw_scene(one, 64)
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, draw_scene(one, 64))
        for thing in one.objects:
            x, y = int(thing.x * 64), int(thing.y * 64)
            seen = picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)
            gaps = {name: np.abs(seen - rgb).sum() for name, rgb in COLOURS.items()}
            assert min(gaps, key=lambda name: gaps[name]) == thing.colour


def test_a_picture_keeps_its_scene_at_every_size_and_refuses_too_small_ones() -> None:
    one = scene("train", 0, 7)
    small, large = draw_scene(one, 64), draw_scene(one, 128)
    averaged = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(averaged - small).mean() < 12
    with pytest.raises(UsageError, match="scenes of 31 pixels would be unreadable; .* least 32"):
        draw_scene(one, 31)


def test_drawing_is_quick() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        for number in range(100):
            draw_scene(scene("train", 0, number), 64)
        return (time.perf_counter() - began) / 100

    assert min(seconds() for _ in range(5)) < 2e-3, "an idle machine takes a sixth of this"
