"""Boxes and suppression against slow, plain reckonings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eightbit.errors import UsageError
from eightbit.vision_tasks.detect.boxes import (
    Detections,
    box_areas,
    ciou_matrix,
    clip,
    from_centers,
    giou_matrix,
    iou,
    iou_matrix,
    to_centers,
)
from eightbit.vision_tasks.detect.letterbox import GREY, fit, letterbox, to_original
from eightbit.vision_tasks.detect.nms import batched_nms, nms

side = st.integers(0, 12)
box = st.tuples(side, side, side, side).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 1, max(b[1], b[3]) + 1)
)
some_boxes = st.lists(box, min_size=1, max_size=8)


def _cells(corners: tuple[int, ...]) -> set[tuple[int, int]]:
    x1, y1, x2, y2 = (int(value) for value in corners)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def _tensor(boxes: list[tuple[int, ...]]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


@given(some_boxes, some_boxes)
@settings(max_examples=60, deadline=None)
def test_iou_and_giou_equal_counting_cells(a: list, b: list) -> None:
    overlaps, general = iou_matrix(_tensor(a), _tensor(b)), giou_matrix(_tensor(a), _tensor(b))
    assert overlaps.shape == general.shape == (len(a), len(b))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            shared, union = len(_cells(one) & _cells(other)), len(_cells(one) | _cells(other))
            hull = (max(one[2], other[2]) - min(one[0], other[0])) * (
                max(one[3], other[3]) - min(one[1], other[1])
            )
            assert overlaps[i, j].item() == pytest.approx(shared / union, abs=1e-6)
            expected = shared / union - (hull - union) / hull
            assert general[i, j].item() == pytest.approx(expected, abs=1e-6)


@given(box, box)
@settings(max_examples=60, deadline=None)
def test_ciou_is_the_formula_of_its_paper(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    overlap = len(_cells(a) & _cells(b)) / len(_cells(a) | _cells(b))
    between = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    angles = math.atan((b[2] - b[0]) / (b[3] - b[1])) - math.atan((a[2] - a[0]) / (a[3] - a[1]))
    v = 4 / math.pi**2 * angles**2
    alpha = v / (1 - overlap + v) if v else 0.0
    expected = overlap - between / diagonal - alpha * v
    assert ciou_matrix(_tensor([a]), _tensor([b])).item() == pytest.approx(expected, abs=1e-5)


def test_empty_and_turned_boxes_have_no_area_and_no_overlap() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 9], [9, 9, 2, 2]])
    assert box_areas(boxes).tolist() == [0, 0]
    assert iou(boxes, boxes).tolist() == [0, 0]
    assert iou_matrix(torch.zeros(0, 4), boxes).shape == (0, 2)


@given(some_boxes)
@settings(max_examples=30, deadline=None)
def test_centres_and_corners_are_two_ways_to_write_a_box(boxes: list) -> None:
    corners = _tensor(boxes)
    centres = to_centers(corners)
    assert torch.equal(from_centers(centres), corners)
    assert torch.equal(centres[:, 2:].prod(-1), box_areas(corners))


def test_clipped_boxes_end_at_the_picture() -> None:
    clipped = clip(torch.tensor([[-3.0, 2, 50, 90], [60, 1, 70, 4]]), height=40, width=30)
    assert clipped.tolist() == [[0, 2, 30, 40], [30, 1, 30, 4]]


def _plain_nms(
    boxes: list[tuple[int, ...]], scores: list[float], labels: list[int], threshold: float
) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda index: (-scores[index], index)):
        a = _cells(boxes[i])
        rivals = [_cells(boxes[k]) for k in kept if labels[k] == labels[i]]
        if all(len(a & b) / len(a | b) <= threshold for b in rivals):
            kept.append(i)
    return kept


@given(
    st.lists(
        st.tuples(box, st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.integers(0, 2)), max_size=14
    ),
    st.sampled_from([0.0, 0.3, 0.45, 0.71, 1.0]),
    st.integers(0, 15),
)
@settings(max_examples=80, deadline=None)
def test_suppression_equals_trying_every_pair(
    items: list[tuple[tuple[int, ...], float, int]], threshold: float, most: int
) -> None:
    boxes, scores, labels = [i[0] for i in items], [i[1] for i in items], [i[2] for i in items]
    expected = _plain_nms(boxes, scores, labels, threshold)
    given_tensors = _tensor(boxes), torch.tensor(scores)
    got = batched_nms(*given_tensors, torch.tensor(labels), threshold, most)
    assert got.tolist() == expected[:most]
    alone = _plain_nms(boxes, scores, [0] * len(items), threshold)
    assert nms(*given_tensors, threshold).tolist() == alone


def test_suppression_of_many_boxes_is_quick_enough_for_films(rng: np.random.Generator) -> None:
    corners = rng.uniform(0, 300, (3000, 2))
    boxes = torch.tensor(np.hstack([corners, corners + rng.uniform(20, 60, (3000, 2))]))
    scores = torch.tensor(rng.random(3000))
    kept = batched_nms(boxes, scores, torch.zeros(3000), 0.6, 100)
    assert len(kept) == 100
    assert (scores[kept].diff() <= 0).all()
    overlaps = iou_matrix(boxes[kept], boxes[kept])
    assert overlaps.fill_diagonal_(0).max() <= 0.6


@pytest.mark.parametrize(("threshold", "most"), [(-0.1, 5), (1.5, 5), (0.5, -1)])
def test_suppression_refuses_senseless_limits(threshold: float, most: int) -> None:
    with pytest.raises(UsageError, match="must"):
        batched_nms(torch.zeros(1, 4), torch.zeros(1), torch.zeros(1), threshold, most)


@given(st.integers(1, 90), st.integers(1, 90))
@settings(max_examples=40, deadline=None)
def test_boxes_return_from_the_letterbox(height: int, width: int) -> None:
    size = (48, 64)
    place = fit(height, width, size)
    corners = torch.tensor([[0.0, 0, width, height], [width / 4, 0, width / 2, height / 3]])
    inside = corners * place.scale + torch.tensor([place.left, place.top] * 2)
    assert inside[0].min() >= -1e-4
    assert inside[0, 2] <= 64 + 1e-3 and inside[0, 3] <= 48 + 1e-3
    found = Detections(inside, torch.ones(2), torch.zeros(2, dtype=torch.int64))
    back = to_original(found, place, height, width)
    assert torch.allclose(back.boxes, corners, atol=1e-3 * max(height, width))


def test_letterbox_keeps_the_shape_and_fills_with_grey() -> None:
    picture = np.full((100, 50, 3), 200, np.uint8)
    canvas, place = letterbox(picture, (48, 64))
    assert canvas.shape == (48, 64, 3)
    assert (place.scale, place.left, place.top) == (0.48, 20, 0)
    assert (canvas[:, 20:44] == 200).all()
    assert (canvas[:, :20] == GREY).all() and (canvas[:, 44:] == GREY).all()
    same, place = letterbox(np.zeros((48, 64, 3), np.uint8), (48, 64))
    assert not same.any() and place.scale == 1
