"""Mask regression: targets, the search for boxes, the loss."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eightbit.tasks import Moment
from eightbit.vision_tasks.detect import masks
from eightbit.vision_tasks.detect.boxes import iou
from eightbit.vision_tasks.detect.data import Batches, build_data
from eightbit.vision_tasks.detect.options import DetectOptions

OPTIONS = DetectOptions(method="masks", backbone_options='{"width": 8}')
FACTS = {"classes": ["a", "b"], "height": 96, "width": 128}


@pytest.fixture
def network() -> masks.Masks:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return masks.build(OPTIONS, FACTS)


# ------------------------------------------------------------------------------------- targets


def test_masks_are_the_share_that_boxes_cover() -> None:
    """Against counting pixels one by one."""
    windows = torch.tensor([[[12.0, 8.0, 84.0, 56.0]]])  # cells of 3 x 2 pixels
    boxes = torch.tensor([[[20.0, 10.0, 46.0, 40.0], [40, 20, 90, 60], [0, 0, 0, 0]]])
    labels = torch.tensor([[1, 1, -1]])
    found = masks.target_masks(windows, boxes, labels, 2)
    assert found.shape == (1, 1, 2, 5, 24, 24) and not found[0, 0, 0].any()
    expected = np.zeros((5, 24, 24))
    for x1, y1, x2, y2 in boxes[0, :2].int().tolist():
        middle = (x1 + x2) // 2, (y1 + y2) // 2
        sides = [
            (x1, y1, x2, y2),
            (x1, y1, middle[0], y2),
            (middle[0], y1, x2, y2),
            (x1, y1, x2, middle[1]),
            (x1, middle[1], x2, y2),
        ]
        for part, (left, top, right, bottom) in enumerate(sides):
            plane = np.zeros((200, 200))
            plane[top:bottom, left:right] = 1
            seen = plane[8:56, 12:84].reshape(24, 2, 24, 3).mean((1, 3))
            expected[part] = np.maximum(expected[part], seen)
    assert np.abs(found[0, 0, 1].numpy() - expected).max() < 1e-5


def test_halves_make_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(3, 1, 2, generator=generator) * 50
    boxes = torch.cat([low, low + 10 + 30 * torch.rand(3, 1, 2, generator=generator)], dim=2)
    windows = torch.tensor([[[0.0, 0.0, 128.0, 96.0]]]).expand(3, 1, 4)
    found = masks.target_masks(windows, boxes, torch.zeros(3, 1).long(), 1)[:, :, 0]
    full, left, right, top, bottom = found.unbind(2)
    assert torch.allclose(left + right, full, atol=1e-5)
    assert torch.allclose(top + bottom, full, atol=1e-5)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    assert torch.allclose(full.sum((-1, -2)) * (128 / 24) * (96 / 24), area, rtol=1e-4)


def test_windows_to_learn_from(rng: np.random.Generator) -> None:
    boxes = torch.tensor([[[30.0, 30, 60, 70]], [[0, 0, 0, 0]]])
    labels = torch.tensor([[0], [-1]])
    generator = torch.Generator().manual_seed(0)
    windows = torch.stack(
        [masks.sample_windows(boxes, labels, (96, 128), generator) for _ in range(200)]
    )
    around = windows[:, 0, 0]
    grown = torch.tensor([27.0, 26, 63, 74])
    assert iou(around, grown).mean() > 0.7
    rest = torch.cat([windows[:, 0, 1:].flatten(0, 1), windows[:, 1].flatten(0, 1)])
    assert rest.min() >= 0 and (rest[:, 2] <= 128.01).all() and (rest[:, 3] <= 96.01).all()
    scale = (rest[:, 2] - rest[:, 0]) / 128
    assert scale.min() > 0.249 and scale.max() > 0.9


# -------------------------------------------------------------------------------------- search


def brute_agreement(mask: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """The score of one box, cell by cell."""
    x1, y1, x2, y2 = box
    x, y = (x1 + x2) // 2, (y1 + y2) // 2
    ring_x, ring_y = max(1, (x2 - x1) // 4), max(1, (y2 - y1) // 4)

    def mean(part: int, cells: list[tuple[int, int]]) -> float:
        inside = [(r, c) for r, c in cells if 0 <= r < 24 and 0 <= c < 24]
        return sum(mask[part, r, c] for r, c in inside) / len(cells)

    def grid(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
        return [(r, c) for r in range(top, bottom) for c in range(left, right)]

    whole = grid(x1, y1, x2, y2)
    ring = set(grid(x1 - ring_x, y1 - ring_y, x2 + ring_x, y2 + ring_y)) - set(whole)
    total = mean(0, whole) - mean(0, sorted(ring))
    left, right = grid(x1, y1, x, y2), grid(x, y1, x2, y2)
    top, bottom = grid(x1, y1, x2, y), grid(x1, y, x2, y2)
    total += mean(1, left) - mean(1, right) + mean(2, right) - mean(2, left)
    total += mean(3, top) - mean(3, bottom) + mean(4, bottom) - mean(4, top)
    return total / 5


def test_agreement_against_brute_force(rng: np.random.Generator) -> None:
    mask = rng.random((2, 5, 24, 24))
    scores = masks.agreement(torch.from_numpy(mask))
    boxes = masks.all_boxes()
    assert scores.shape == (2, len(boxes))
    assert len(set(map(tuple, boxes.tolist()))) == len(boxes)
    for index in rng.integers(len(boxes), size=60).tolist():
        x1, y1, x2, y2 = boxes[index].tolist()
        for k in range(2):
            expected = brute_agreement(mask[k], (x1, y1, x2, y2))
            assert float(scores[k, index]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("box", [(4, 6, 14, 12), (0, 2, 8, 10), (14, 16, 24, 24)])
def test_the_box_that_drew_the_masks_is_found(box: tuple[int, int, int, int]) -> None:
    drawn = masks.target_masks(
        torch.tensor([[[0.0, 0, 24, 24]]]),
        torch.tensor([[[float(side) for side in box], [17, 1, 23, 7.0]]]),
        torch.tensor([[0, 1]]),
        2,
    )[0, 0, :1]
    scores, boxes = masks.best_boxes(drawn, torch.ones(1, 4, dtype=torch.bool), 1)
    assert tuple(boxes[0, 0].tolist()) == box
    assert float(scores[0, 0]) == pytest.approx(1, abs=1e-6)
    inner = torch.zeros(1, 4, dtype=torch.bool)  # the picture goes on at all sides
    again = masks.best_boxes(drawn, inner, 1)[1][0, 0]
    assert (again[:2] > 0).all() and (again[2:] < 24).all()
    barred = (masks.all_boxes() != torch.tensor(box)).any(1)
    assert tuple(masks.best_boxes(drawn, ~inner, 1, barred)[1][0, 0].tolist()) != box


def test_windows_cover_the_picture() -> None:
    windows = masks.tiled_windows(96, 128)
    assert windows[0].tolist() == [0, 0, 128, 96] and len(windows) < 40
    for scale in masks.SCALES:
        own = windows[torch.isclose(windows[:, 2] - windows[:, 0], torch.tensor(128 * scale))]
        seen = torch.zeros(96, 128)
        for x1, y1, x2, y2 in own.round().int().tolist():
            seen[y1:y2, x1:x2] += 1
        assert (seen > 0).all()
    starts = sorted({float(w[0]) for w in windows if w[2] - w[0] == 32})
    assert max(np.diff(starts)) <= 32 * (1 - masks.OVERLAP) + 1e-4


class Painter(torch.nn.Module):
    """Draws the true masks of given objects, as a perfect network would."""

    def __init__(self, boxes: torch.Tensor, labels: torch.Tensor):
        super().__init__()
        self.boxes, self.labels = boxes, labels

    def draw(self, pictures: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        return masks.target_masks(windows, self.boxes[None], self.labels[None], 2)


def test_perfect_masks_give_the_objects(
    network: masks.Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = torch.tensor(
        [[10.0, 12, 42, 40], [43, 10, 75, 41], [80, 50, 90, 60], [5, 50, 60, 96], [100, 5, 128, 30]]
    )
    labels = torch.tensor([0, 0, 1, 1, 0])
    monkeypatch.setattr(network, "_draw", Painter(boxes, labels).draw)
    raw = network.eval()(torch.zeros(1, 3, 96, 128, dtype=torch.uint8))
    found = masks.decode(raw, (96, 128))[0]
    for box, label in zip(boxes, labels, strict=True):
        overlap = iou(found.boxes, box) * (found.labels == label)
        assert overlap.max() > 0.8, (box, overlap.max())
        assert found.scores[overlap.argmax()] > 0.7


def test_nothing_is_found_where_masks_are_empty(network: masks.Masks) -> None:
    with torch.no_grad():
        network.head[-1].weight.zero_()
        network.head[-1].bias.zero_()
        raw = network.eval()(torch.zeros(2, 3, 96, 128, dtype=torch.uint8))
    assert raw["boxes"].shape == (2, 0, 4)
    assert [len(found) for found in masks.decode(raw, (96, 128))] == [0, 0]


# ---------------------------------------------------------------------------------------- loss


def test_the_weighted_error() -> None:
    wanted, drawn = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.5, 0.5, 0.5])
    expected = ((1 + 0.2) * 0.25 + 0.2 * 0.25) / 3
    assert float(masks.weighted_error(drawn, wanted)) == pytest.approx(expected)


@pytest.mark.parametrize("most", [0, 3])
def test_the_loss_falls_with_a_step(network: masks.Masks, most: int) -> None:
    batch = {
        "pictures": torch.zeros(2, 3, 96, 128, dtype=torch.uint8),
        "boxes": torch.tensor([10.0, 10, 60, 60]).expand(2, most, 4),
        "labels": torch.full((2, most), 1),
    }
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    losses = []
    for _ in range(3):
        moment = Moment(0, 0.0, torch.Generator().manual_seed(0))
        found = masks.loss(network, batch, moment)["loss"]
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        losses.append(float(found.detach()))
    assert losses[2] < losses[0]


# ---------------------------------------------------------------------------------- real cells


BCCD = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "bccd"


@pytest.mark.skipif(not BCCD.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds bccd")
def test_seconds_on_cells_beat_constant_masks() -> None:
    options = replace(OPTIONS, size=128, mosaic=0.0, zoom=1.2)
    data = build_data(options, "bccd", 0)
    size = data.facts["height"], data.facts["width"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = masks.build(options, data.facts)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.3  # running means keep up with few steps
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    steps = 45
    weight, covered = torch.zeros(3, 5), torch.zeros(3, 5)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min((step + 1) / 5, 1 - step / steps)
        batch = data.batch(step, 8)
        moment = Moment(step, step / steps, torch.Generator().manual_seed(step))
        found = masks.loss(network, batch, moment)["loss"]
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        generator = torch.Generator().manual_seed(step)
        windows = masks.sample_windows(batch["boxes"], batch["labels"], size, generator)
        wanted = masks.target_masks(windows, batch["boxes"], batch["labels"], 3)
        share = wanted + masks.ZERO_WEIGHT
        weight += share.sum((0, 1, 4, 5))
        covered += (share * wanted).sum((0, 1, 4, 5))
    plain = replace(options, turns="none", zoom=1.0, colour=0.0)
    test = Batches(data.splits["test"], size, plain, 0)(0, 24)
    windows = masks.sample_windows(test["boxes"], test["labels"], size, torch.Generator())
    wanted = masks.target_masks(windows, test["boxes"], test["labels"], 3)
    network.eval()
    with torch.no_grad():
        drawn = network(test["pictures"], windows)["masks"]
        exchanged = network(test["pictures"].roll(1, dims=0), windows)["masks"]
    best = (covered / weight)[:, :, None, None].expand_as(wanted)  # of all constants, in training
    error = masks.weighted_error(drawn, wanted)
    others = [masks.weighted_error(drawing, wanted) for drawing in (best, exchanged)]
    assert error < 0.85 * min(others)
