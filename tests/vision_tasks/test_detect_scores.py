"""Average precision against pycocotools itself, the controls, the curves."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.datasets.boxes import BoxedPicture
from eightbit.vision_tasks.detect.boxes import Detections, iou_matrix
from eightbit.vision_tasks.detect.report import precision_recall_figure, stacked
from eightbit.vision_tasks.detect.scores import (
    coco_evaluation,
    exchanged,
    match,
    mean_precision,
    most_common,
    precision_at_recalls,
)

CLASSES = 3


def _picture(boxes: np.ndarray, labels: np.ndarray, difficult: np.ndarray) -> BoxedPicture:
    return BoxedPicture(
        "one",
        lambda: np.zeros((100, 100, 3), np.uint8),
        100,
        100,
        boxes.astype(np.float32),
        labels.astype(np.int64),
        difficult,
    )


def _random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 70, (count, 2))
    return np.hstack([corners, corners + rng.uniform(5, 30, (count, 2))])


def _scene(
    seed: int, pictures: int, ties: bool = True
) -> tuple[list[BoxedPicture], list[Detections]]:
    """Random truth, and detections of which some are near it; with ties, of few scores."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(pictures):
        count = int(rng.integers(0, 6))
        boxes, labels = _random_boxes(rng, count), rng.integers(0, CLASSES, count)
        truth.append(_picture(boxes, labels, rng.random(count) < 0.2))
        near = boxes + rng.normal(0, 2, boxes.shape)
        extra = int(rng.integers(0, 4))
        every = np.vstack([near, _random_boxes(rng, extra)])
        named = np.concatenate([labels, rng.integers(0, CLASSES, extra)])
        scores = rng.choice([0.2, 0.5, 0.50001, 0.9], len(every))
        scores = scores if ties else rng.random(len(every))
        order = np.argsort(-scores, kind="stable")
        found.append(
            Detections(
                torch.from_numpy(every[order].astype(np.float32)),
                torch.from_numpy(scores[order].astype(np.float32)),
                torch.from_numpy(named[order]),
            )
        )
    return truth, found


def _by_pycocotools(truth: list[BoxedPicture], found: list[Detections]) -> np.ndarray:
    """AP, AP50 and AP75 as COCOeval prints them."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = coco_evaluation(truth, found, CLASSES)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:3]


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_average_precision_is_that_of_pycocotools(seed: int, pictures: int) -> None:
    truth, found = _scene(seed, pictures)
    matches = match(truth, found, CLASSES)
    every = np.arange(pictures)
    ours = [mean_precision(matches, every, s) for s in (slice(None), slice(0, 1), slice(5, 6))]
    theirs = np.where((stats := _by_pycocotools(truth, found)) < 0, np.nan, stats)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_a_resample_equals_scoring_the_resampled_pictures() -> None:
    truth, found = _scene(3, 8, ties=False)
    rng = np.random.default_rng(1)
    matches = match(truth, found, CLASSES)
    for _ in range(5):
        drawn = rng.integers(0, 8, 8)
        ours = mean_precision(matches, drawn, slice(None))
        theirs = _by_pycocotools([truth[i] for i in drawn], [found[i] for i in drawn])[0]
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_perfect_detections_score_one_and_none_score_nought() -> None:
    truth, _ = _scene(5, 6)
    perfect = [
        Detections(torch.from_numpy(p.boxes), torch.ones(len(p.boxes)), torch.from_numpy(p.labels))
        for p in truth
    ]
    nothing = [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))] * 6
    every = np.arange(6)
    assert mean_precision(match(truth, perfect, CLASSES), every, slice(None)) == pytest.approx(1)
    assert mean_precision(match(truth, nothing, CLASSES), every, slice(None)) == 0


def test_classes_without_objects_do_not_count() -> None:
    truth, found = _scene(5, 6)
    matches = match(truth, found, CLASSES + 1)
    assert np.isnan(precision_at_recalls(matches[CLASSES], np.arange(6))).all()
    assert mean_precision(matches, np.arange(6), slice(None)) == pytest.approx(
        mean_precision(matches[:CLASSES], np.arange(6), slice(None))
    )
    empty = [i for i, p in enumerate(truth) if not len(p.boxes)]
    assert np.isnan(mean_precision(matches, np.array(empty[:1], int), slice(None)))


def test_exchanged_detections_are_those_of_another_picture() -> None:
    found = [
        Detections(torch.full((1, 4), float(i)), torch.tensor([0.5]), torch.tensor([0]))
        for i in range(3)
    ]
    shapes = [(100, 100), (100, 200), (100, 100)]
    moved = exchanged(found, shapes)
    assert [one.boxes[0].tolist() for one in moved] == [
        [0.5, 1, 0.5, 1],
        [4, 2, 4, 2],
        [0, 0, 0, 0],
    ]


def test_the_trivial_control_lies_where_training_has_most_boxes() -> None:
    often = np.array([[10, 10, 30, 30]] * 9 + [[70, 70, 90, 90]], float)
    training = [_picture(often, np.zeros(10, int), np.zeros(10, bool))]
    found = most_common(training, (50, 50), [(100, 100), (200, 200)])
    assert found[0].boxes[0].tolist() == pytest.approx([10, 10, 30, 30], abs=1e-4)
    assert found[1].boxes[0].tolist() == pytest.approx([20, 20, 60, 60], abs=1e-4)
    assert len(found[0]) == 2 and found[0].scores.tolist() == pytest.approx([0.9, 0.1])
    overlaps = iou_matrix(found[0].boxes, found[0].boxes)
    assert overlaps[0, 1] == 0


def test_the_curve_is_drawn_without_a_display() -> None:
    recall = np.linspace(0, 1, 101).tolist()
    curves = {"recall": recall, "precision": {"cell": recall[::-1], "none": None}, "iou": 0.5}
    drawn = precision_recall_figure(curves)
    assert drawn.shape == (480, 640, 3) and drawn.dtype == np.uint8
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10
    sheet = stacked([np.zeros((10, 20, 3), np.uint8), np.zeros((5, 30, 3), np.uint8)])
    assert sheet.shape[1] == 30 and (sheet[:10, 20:] == 255).all()


def test_resamples_scatter_around_the_score(rng: np.random.Generator) -> None:
    truth, found = _scene(9, 40)
    matches = match(truth, found, CLASSES)
    values = [mean_precision(matches, rng.integers(0, 40, 40), slice(None)) for _ in range(100)]
    assert 0 < np.std(values) < 0.2
