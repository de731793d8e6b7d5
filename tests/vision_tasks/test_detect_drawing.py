"""Drawn boxes, cut-out objects, counts."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from eightbit.vision_tasks.detect.boxes import Detections
from eightbit.vision_tasks.detect.drawing import (
    class_colours,
    count_by_class,
    crops,
    draw_detections,
)

CLASSES = ("cat", "dög", "owl")


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Detections:
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(labels, dtype=torch.int64),
    )


def test_lines_have_the_colour_of_their_class() -> None:
    picture = np.full((200, 300, 3), 90, np.uint8)
    before = picture.copy()
    drawn = draw_detections(picture, found([[40, 60, 140, 160]], [1], [0.9]), CLASSES)
    assert (picture == before).all() and drawn.shape == picture.shape
    colour = class_colours(3)[1]
    for y, x in ((60, 100), (159, 100), (110, 40), (110, 139)):
        assert tuple(drawn[y, x]) == colour
    inside = drawn[70:150, 50:130]
    assert (inside == 90).all()
    assert (drawn[170:] == 90).all() and (drawn[:, 200:] == 90).all()


def test_the_name_is_written_above_or_inside() -> None:
    picture = np.full((200, 300, 3), 90, np.uint8)
    changed = draw_detections(picture, found([[40, 60, 140, 160]], [0], [0.5]), CLASSES) != 90
    assert changed[50:59, 42:60].any()
    top = draw_detections(picture, found([[40, 0, 140, 160]], [0], [0.5]), CLASSES) != 90
    assert top[2:12, 42:60].any()
    right = draw_detections(picture, found([[290, 60, 300, 160]], [0], [0.5]), CLASSES)
    assert (right != 90)[50:59, 240:289].any()
    numbered = draw_detections(picture, found([[40, 60, 140, 160]], [0], [0.5]), CLASSES, [12])
    assert (numbered != 90).sum() > changed.sum()


def test_the_surest_lies_on_top() -> None:
    picture = np.full((100, 100, 3), 90, np.uint8)
    boxes = [[20, 30, 80, 90], [20, 30, 80, 90]]
    colours = class_colours(3)
    for scores in ([0.9, 0.3], [0.3, 0.9]):
        drawn = draw_detections(picture, found(boxes, [0, 2], scores), CLASSES)
        assert tuple(drawn[60, 20]) == colours[0 if scores[0] > scores[1] else 2]


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (2000, 1500)])
def test_any_size_of_picture(shape: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    boxes = [[-50, -50, 5000, 5000], [3, 3, 3, 3]]
    drawn = draw_detections(picture, found(boxes, [1, 0], [1.0, 0.1]), CLASSES)
    assert drawn.shape == picture.shape and drawn.any()
    nothing = draw_detections(picture, found([], [], []), CLASSES)
    assert nothing is not picture and not nothing.any()


def test_colours_are_far_apart() -> None:
    colours = class_colours(12)
    assert len(set(colours)) == 12 and colours[:3] == class_colours(3)
    array = np.array(colours[:6], float)
    away = np.linalg.norm(array[:, None] - array[None], axis=2) + 1e9 * np.eye(6)
    assert away.min() > 80
    assert all(colorsys.rgb_to_hsv(*(c / 255 for c in one))[1] > 0.45 for one in colours)


def test_crops_are_the_pixels_of_the_boxes(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 255, (50, 60, 3), dtype=np.uint8)
    boxes = [[10.2, 5.0, 20.1, 9.0], [-5, -5, 5, 5], [59.5, 49.5, 80, 80], [30, 30, 30, 30]]
    cut = crops(picture, found(boxes, [0] * 4, [0.5] * 4))
    assert (cut[0] == picture[5:9, 10:21]).all()
    assert (cut[1] == picture[:5, :5]).all() and (cut[2] == picture[49:, 59:]).all()
    assert cut[3].shape == (1, 1, 3)
    cut[0][:] = 0
    assert picture[5:9, 10:21].any()


def test_counts() -> None:
    boxes = [[0, 0, 1, 1]] * 4
    assert count_by_class(found(boxes, [2, 0, 2, 2], [1.0] * 4), CLASSES) == {
        "cat": 1,
        "dög": 0,
        "owl": 3,
    }
    assert count_by_class(found([], [], []), CLASSES) == dict.fromkeys(CLASSES, 0)
