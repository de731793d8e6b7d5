"""The one-stage network: assignment, losses, decoding, trunks, export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eightbit.errors import UsageError
from eightbit.tasks import Moment
from eightbit.vision_tasks.detect import one_stage
from eightbit.vision_tasks.detect.assign import OVERLAP_POWER, SCORE_POWER, TOP, assign
from eightbit.vision_tasks.detect.boxes import Detections, iou_matrix
from eightbit.vision_tasks.detect.losses import distance_loss
from eightbit.vision_tasks.detect.model import (
    Predictions,
    build_model,
    detect_pictures,
    loss,
    select,
)
from eightbit.vision_tasks.detect.one_stage import BINS, STRIDES, boxes_of, decode
from eightbit.vision_tasks.detect.options import DetectOptions

FACTS = {"classes": ["a", "b"], "height": 64, "width": 96}
SMALL: dict[str, Any] = {"channels": 16, "backbone_options": '{"width": 8}'}
PLACES = 8 * 12 + 4 * 6 + 2 * 3


def _model(**options: Any) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(DetectOptions(**{**SMALL, **options}), FACTS)


def _batch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pictures": torch.randint(0, 256, (2, 3, 64, 96), generator=generator).to(torch.uint8),
        "boxes": torch.tensor(
            [[[8.0, 8, 40, 40], [50, 10, 70, 50]], [[20, 20, 90, 60], [0, 0, 0, 0]]]
        ),
        "labels": torch.tensor([[0, 1], [1, -1]]),
    }


def _moment() -> Moment:
    return Moment(0, 0.0, torch.Generator())


def test_raw_outputs_name_every_place_of_every_stride() -> None:
    raw = _model()(_batch()["pictures"])
    assert raw["scores"].shape == (2, PLACES, 2)
    assert raw["sides"].shape == (2, PLACES, 4, BINS)
    places = raw["places"]
    assert places.shape == (PLACES, 3)
    assert places[0].tolist() == [4, 4, 8] and places[95].tolist() == [92, 60, 8]
    assert places[96].tolist() == [8, 8, 16] and places[-1].tolist() == [80, 48, 32]
    assert raw["scores"].sigmoid().mean().item() == pytest.approx(0.01, abs=0.01)


def test_distances_become_boxes_around_their_place() -> None:
    sides = torch.full((1, 1, 4, BINS), -50.0)
    for side, distance in enumerate((1, 2, 3, 4)):
        sides[0, 0, side, distance] = 50
    boxes = boxes_of(sides, torch.tensor([[100.0, 60, 16]]))
    assert boxes[0, 0].tolist() == pytest.approx([84, 28, 148, 124], abs=1e-3)
    sides[0, 0, 0, 2] = 50  # between one and two strides: half way
    assert boxes_of(sides, torch.tensor([[100.0, 60, 16]]))[0, 0, 0].item() == pytest.approx(76)


def test_decoding_gives_each_class_at_each_place() -> None:
    raw = _model().eval()(_batch()["pictures"])
    found = decode(raw, (64, 96))
    assert len(found) == 2 and len(found[0]) == 2 * PLACES
    assert found[1].labels[:4].tolist() == [0, 1, 0, 1]
    assert torch.equal(found[1].boxes[2], found[1].boxes[3])
    assert torch.equal(found[1].scores.view(PLACES, 2), raw["scores"][1].sigmoid())
    assert found[0].boxes.min() >= 0 and found[0].boxes[:, 2].max() <= 96


def _plain_assignment(
    scores: Tensor, boxes: Tensor, places: Tensor, true_boxes: Tensor, labels: Tensor
) -> tuple[list[int], dict[int, float]]:
    """For one picture: the object of each place (-1 for none), and the quality wanted there."""
    overlaps = iou_matrix(true_boxes, boxes)
    wanted: dict[int, list[int]] = {}
    for i in range(len(true_boxes)):
        x1, y1, x2, y2 = true_boxes[i].tolist()
        inside = [p for p, (x, y, _) in enumerate(places.tolist()) if x1 < x < x2 and y1 < y < y2]
        fitness = {
            p: float(scores[p, labels[i]] ** SCORE_POWER * overlaps[i, p] ** OVERLAP_POWER)
            for p in inside
        }
        for p in sorted(inside, key=lambda p: -fitness[p])[:TOP]:
            wanted.setdefault(p, []).append(i)
    owner = [-1] * len(places)
    for p, objects in wanted.items():
        owner[p] = max(objects, key=lambda i: float(overlaps[i, p]))
    quality = {}
    for i in range(len(true_boxes)):
        own = [p for p in range(len(places)) if owner[p] == i]
        fitness = {
            p: float(scores[p, labels[i]] ** SCORE_POWER * overlaps[i, p] ** OVERLAP_POWER)
            for p in own
        }
        for p in own:
            best = max(float(overlaps[i, q]) for q in own)
            quality[p] = fitness[p] / max(max(fitness.values()), 1e-9) * best
    return owner, quality


@pytest.mark.parametrize("seed", range(4))
def test_assignment_equals_going_through_objects_and_places(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    places = _model()(_batch()["pictures"])["places"]
    scores = torch.rand(1, PLACES, 2, generator=generator)
    middles = places[:, :2] + torch.randn(PLACES, 2, generator=generator) * 4
    sides = 10 + 20 * torch.rand(PLACES, 2, generator=generator)
    boxes = torch.cat([middles - sides / 2, middles + sides / 2], 1)[None]
    corners = torch.rand(5, 2, generator=generator) * 40
    true_boxes = torch.cat([corners, corners + 12 + 20 * torch.rand(5, 2, generator=generator)], 1)
    labels = torch.tensor([0, 1, 0, 1, 1])
    padded = torch.cat([true_boxes, torch.zeros(2, 4)])[None]
    named = torch.cat([labels, torch.tensor([-1, -1])])[None]
    got = assign(scores, boxes, places, padded, named)
    owner, quality = _plain_assignment(scores[0], boxes[0], places, true_boxes, labels)
    assert got.matched[0].tolist() == [o >= 0 for o in owner]
    for place, o in enumerate(owner):
        if o >= 0:
            assert torch.equal(got.boxes[0, place], true_boxes[o])
            expected = torch.zeros(2)
            expected[labels[o]] = quality[place]
            assert torch.allclose(got.scores[0, place], expected, atol=1e-5)
    assert got.scores[0][~got.matched[0]].abs().sum() == 0


def test_without_objects_nothing_is_assigned_and_the_loss_is_finite() -> None:
    batch = _batch()
    for empty in (
        {**batch, "labels": torch.full((2, 2), -1)},
        {**batch, "boxes": torch.zeros(2, 0, 4), "labels": torch.zeros(2, 0, dtype=torch.int64)},
    ):
        parts = loss(_model(), empty, _moment())
        assert torch.isfinite(parts["loss"]) and parts["box"] == 0 == parts["distance"]
        parts["loss"].backward()


def test_distance_loss_is_the_cross_entropy_with_the_two_bins_around() -> None:
    logits = torch.randn(1, 4, BINS, generator=torch.Generator().manual_seed(0))
    places, target = torch.tensor([[40.0, 40, 8]]), torch.tensor([[20.0, 30, 48, 70]])
    soft = torch.zeros(4, BINS)
    for side, distance in enumerate((2.5, 1.25, 1.0, 3.75)):
        soft[side, int(distance)] = 1 - distance % 1
        soft[side, int(distance) + 1] = distance % 1
    expected = 0.5 * F.cross_entropy(logits[0], soft)
    assert torch.allclose(distance_loss(logits, target, places, torch.tensor([0.5])), expected)


def test_some_steps_fit_a_picture_and_find_its_objects() -> None:
    model, batch = _model(), _batch()
    for pictures, boxes in zip(batch["pictures"], batch["boxes"], strict=True):
        for index, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
            pictures[index, y1:y2, x1:x2] = 255
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = loss(model, batch, _moment())["loss"].item()
    for _ in range(60):
        last = loss(model, batch, _moment())["loss"]
        optimizer.zero_grad()
        last.backward()
        optimizer.step()
    assert last.item() < 0.5 * first
    pictures = [p.permute(1, 2, 0).numpy() for p in batch["pictures"]]
    found = detect_pictures(model, pictures, 0.2)
    for one, boxes, labels in zip(found, batch["boxes"], batch["labels"], strict=True):
        true = boxes[labels >= 0]
        assert iou_matrix(true, one.boxes).amax(1).min() > 0.6


def test_pictures_of_any_size_come_back_in_their_own_pixels(rng: np.random.Generator) -> None:
    model = _model().eval()
    pictures = [
        rng.integers(0, 256, shape, dtype=np.uint8)
        for shape in ((64, 96, 3), (30, 200, 3), (7, 5, 3))
    ]
    together = detect_pictures(model, pictures, 0.0, 0.5, 20)
    for picture, found in zip(pictures, together, strict=True):
        height, width = picture.shape[:2]
        assert 0 < len(found) <= 20 and (found.scores.diff() <= 0).all()
        assert found.boxes.dtype == torch.float32 and found.boxes.min() >= 0
        assert found.boxes[:, 2].max() <= width and found.boxes[:, 3].max() <= height
        alone = detect_pictures(model, [picture], 0.0, 0.5, 20)[0]
        assert torch.allclose(alone.scores, found.scores, atol=1e-4)
    assert detect_pictures(model, []) == []


def test_selection_drops_low_scores_empty_boxes_and_overlaps() -> None:
    boxes = torch.tensor(
        [[0.0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 9], [5, 5, 5, 9], [20, 20, 30, 30]]
    )
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.95, 0.1]), torch.tensor([0, 0, 1, 0, 0])
    kept = select(Detections(boxes, scores, labels), 0.2, 0.5, 10)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7])
    assert len(select(Detections(boxes, scores, labels), 0.05, 0.5, 2)) == 2


@pytest.mark.parametrize(
    ("backbone", "options"),
    [("resnet", '{"depth": 8}'), ("impala", '{"adaptive_pool": 1}'), ("darknet", '{"width": 8}')],
)
def test_other_trunks_carry_the_same_head(backbone: str, options: str) -> None:
    model = _model(backbone=backbone, backbone_options=options)
    raw = model(_batch()["pictures"])
    assert raw["scores"].shape == (2, PLACES, 2)
    assert model.backbone is not None and len(STRIDES) == 3
    model(torch.zeros(2, 3, 96, 64, dtype=torch.uint8))  # the same network, standing pictures


def test_a_trunk_that_loses_places_is_refused() -> None:
    with pytest.raises(UsageError, match="nature does not keep the places"):
        _model(backbone="nature", backbone_options="{}")


@pytest.mark.parametrize(
    "options",
    [
        {"size": 8},
        {"channels": 20},
        {"zoom": 0.5},
        {"mosaic": 1.5},
        {"max_det": 0},
        {"backbone_options": "[1]"},
        {"backbone_options": "{"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        DetectOptions(**options)


def test_predictions_for_export_are_boxes_and_scores() -> None:
    model = _model().eval()
    boxes, scores = Predictions(model)(_batch()["pictures"])  # type: ignore[arg-type]
    raw = model(_batch()["pictures"])
    assert torch.equal(boxes, boxes_of(raw["sides"], raw["places"]))
    assert torch.equal(scores, raw["scores"].sigmoid())
    assert one_stage.METHOD.begin is None
