"""Priors, the matching, MultiBox's loss and its two networks."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from eightbit.errors import DataError
from eightbit.tasks import Moment, TaskData
from eightbit.vision_tasks.detect import multibox
from eightbit.vision_tasks.detect.boxes import iou_matrix
from eightbit.vision_tasks.detect.data import Batches, build_data
from eightbit.vision_tasks.detect.options import DetectOptions
from eightbit.vision_tasks.detect.priors import cluster, match

OPTIONS = DetectOptions(method="multibox", backbone_options='{"width": 8}')
FACTS = {"classes": ["a", "b", "c"], "height": 96, "width": 128}


def moment(seed: int = 0) -> Moment:
    return Moment(0, 0.0, torch.Generator().manual_seed(seed))


@pytest.fixture
def network() -> multibox.MultiBox:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = multibox.build(OPTIONS, FACTS)
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(multibox.BOXES, 2, generator=generator) * 0.6
    made.priors.copy_(torch.cat([low, low + 0.3], dim=1))
    made.spread.fill_(0.1)
    return made


# ------------------------------------------------------------------------- k-means and matching


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 25), columns=st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_matching_costs_as_little_as_scipys(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    whole = rng.integers(-3, 4, (rows, columns)).astype(float)  # many ties
    for cost in (rng.normal(size=(rows, columns)), whole):
        r, c = match(cost)
        assert len(r) == min(rows, columns) and (np.diff(r) > 0).all()
        assert len(set(c.tolist())) == len(c)
        assert cost[r, c].sum() == pytest.approx(cost[linear_sum_assignment(cost)].sum())


def test_matching_is_the_best_of_all() -> None:
    cost = np.random.default_rng(3).random((4, 6))
    best = min(sum(cost[i, c[i]] for i in range(4)) for c in itertools.permutations(range(6), 4))
    rows, columns = match(cost)
    assert cost[rows, columns].sum() == pytest.approx(best)
    assert all(len(index) == 0 for index in match(np.zeros((0, 5))))


def test_clusters_are_found_again(rng: np.random.Generator) -> None:
    true = np.array([[0, 0, 1, 1], [5, 5, 6, 6], [9, 0, 9.5, 3], [2, 8, 4, 9]], np.float32)
    points = np.concatenate([t + 0.05 * rng.normal(size=(50, 4)) for t in true])
    centres = cluster(points, 4, seed=0)
    assert centres.dtype == np.float32
    assert np.abs(centres - true[np.lexsort(true.T[::-1])]).max() < 0.05
    assert (centres == cluster(points, 4, seed=0)).all()


def test_every_centre_is_the_mean_of_its_points(rng: np.random.Generator) -> None:
    points = rng.random((300, 4))
    centres = cluster(points, 12, seed=1, rounds=200)
    owner = ((points[:, None] - centres[None]) ** 2).sum(2).argmin(1)
    means = np.stack([points[owner == i].mean(0) for i in range(12)])
    assert np.abs(means - centres).max() < 1e-5


def test_too_few_boxes_for_the_priors() -> None:
    with pytest.raises(DataError, match="3 different boxes|there are 3"):
        cluster(np.repeat(np.eye(4)[:3], 9, axis=0), 4, seed=0)


def test_priors_come_from_training_batches(network: multibox.MultiBox) -> None:
    def batch(step: int, size: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        low = torch.rand(size, 9, 2, generator=generator) * 60
        boxes = torch.cat([low, low + 30], dim=2)
        labels = torch.zeros(size, 9, dtype=torch.int64)
        labels[:, -1] = -1  # filled with what must not count
        boxes[:, -1] = 1e6
        return {"boxes": boxes, "labels": labels}

    multibox.begin(network, TaskData(FACTS, 16, batch, {}))
    sides = network.priors[:, 2:] - network.priors[:, :2]
    assert torch.allclose(
        sides, torch.tensor([30 / 128, 30 / 96]).expand(multibox.BOXES, 2), atol=1e-4
    )
    assert network.priors.max() <= 1 and (network.spread > 0).all() and network.spread.max() < 0.1
    with pytest.raises(DataError, match="no training picture has a box"):
        empty = {"boxes": torch.zeros(1, 0, 4), "labels": torch.zeros(1, 0, dtype=torch.int64)}
        multibox.begin(network, TaskData(FACTS, 16, lambda step, size: empty, {}))


# ------------------------------------------------------------------------------------ the loss


def test_the_loss_is_the_papers(network: multibox.MultiBox, rng: np.random.Generator) -> None:
    pictures = torch.from_numpy(rng.integers(0, 255, (2, 3, 96, 128), dtype=np.uint8))
    boxes = torch.tensor([[[10, 10, 50, 50], [60, 20, 100, 60.0]], [[5, 5, 25, 40], [0, 0, 0, 0]]])
    labels = torch.tensor([[0, 2], [1, -1]])
    batch = {"pictures": pictures, "boxes": boxes, "labels": labels}
    network.eval()  # so that norms see the same numbers twice
    with torch.no_grad():
        found = multibox.loss(network, batch, moment())
        raw = network(pictures, torch.zeros(2, 1, 4))
    sides = torch.tensor([128, 96, 128, 96])
    distance = confidence = 0.0
    for picture in range(2):
        own = (boxes[picture] / sides)[labels[picture] >= 0].numpy()
        cost = ((own[:, None] - network.priors.numpy()[None]) ** 2).sum(2)
        rows, columns = linear_sum_assignment(cost)
        taken = dict(zip(columns.tolist(), rows.tolist(), strict=True))
        for k in range(multibox.BOXES):
            probability = 1 / (1 + math.exp(-raw["confidences"][picture, k]))
            confidence -= math.log(probability if k in taken else 1 - probability)
            if k in taken:
                box = raw["boxes"][picture, k] / sides
                away = (box.numpy() - own[taken[k]]) / network.spread.numpy()
                distance += 0.5 * float((away**2).sum())
    assert float(found["distance"]) == pytest.approx(distance / 3, rel=1e-4)
    assert float(found["confidence"]) == pytest.approx(confidence / 3, rel=1e-4)
    total = 0.3 * found["distance"] + found["confidence"] + found["class"]
    assert float(found["loss"]) == pytest.approx(float(total))


@pytest.mark.parametrize("most", [0, 2])
def test_pictures_without_objects_have_a_loss(network: multibox.MultiBox, most: int) -> None:
    batch = {
        "pictures": torch.zeros(2, 3, 96, 128, dtype=torch.uint8),
        "boxes": torch.zeros(2, most, 4),
        "labels": torch.full((2, most), -1),
    }
    found = multibox.loss(network, batch, moment())
    assert torch.isfinite(found["loss"]) and float(found["distance"].detach()) == 0
    found["loss"].backward()


def test_windows_show_what_their_targets_say() -> None:
    boxes = torch.tensor([[[10, 10, 50, 50], [60, 20, 100, 60.0]], [[5, 5, 25, 40], [0, 0, 0, 0]]])
    labels = torch.tensor([[0, 2], [1, -1]])
    generator = torch.Generator().manual_seed(0)
    windows, targets = multibox.sample_windows(boxes, labels, 3, generator, count=400)
    assert set(targets[0].tolist()) == {-1, 0, 2, 3} and set(targets[1].tolist()) == {-1, 1, 3}
    for picture in range(2):
        own = labels[picture] >= 0
        overlap = iou_matrix(windows[picture], boxes[picture][own])
        best, which = overlap.max(dim=1)
        shown = targets[picture] >= 0
        background = targets[picture] == 3
        assert (best[background] < multibox.BACKGROUND).all()
        objects = shown & ~background
        assert (best[objects] >= multibox.CERTAIN).all()
        assert (labels[picture][own][which][objects] == targets[picture][objects]).all()
        assert 0.2 < background.float().mean() < 0.6


def test_cut_out_windows_are_the_pixels(rng: np.random.Generator) -> None:
    pictures = torch.from_numpy(rng.integers(0, 255, (2, 3, 40, 60), dtype=np.uint8))
    windows = torch.tensor([[[8.0, 4.0, 24.0, 20.0]], [[40.0, 20.0, 56.0, 36.0]]])
    found = multibox.cut(pictures, windows, 16, context=1.0) * 255
    assert torch.allclose(found[0], pictures[0, :, 4:20, 8:24].float(), atol=1e-3)
    assert torch.allclose(found[1], pictures[1, :, 20:36, 40:56].float(), atol=1e-3)
    half = multibox.cut(pictures, windows, 16, context=2.0)  # twice as large: cells of 2 x 2 pixels
    inner = F.avg_pool2d(pictures[0, :, 4:20, 8:24].float()[None], 2)[0] / 255
    assert torch.allclose(half[0][:, 4:12, 4:12], inner, atol=1e-5)


# ------------------------------------------------------------------------------------ detection


def test_detections_come_with_every_class(network: multibox.MultiBox) -> None:
    network.eval()
    with torch.no_grad():
        raw = network(torch.zeros(2, 3, 96, 128, dtype=torch.uint8))
    assert raw["boxes"].shape == (2, multibox.CLASSIFIED, 4)
    assert (raw["confidences"].diff(dim=1) <= 0).all()
    found = multibox.decode(raw, (96, 128))
    assert len(found) == 2 and len(found[0]) == 3 * multibox.CLASSIFIED
    probabilities = raw["classes"][0, 5].softmax(0)
    expected = raw["confidences"][0, 5].sigmoid() * probabilities[:3]
    assert torch.allclose(found[0].scores[15:18], expected)
    assert found[0].labels[15:18].tolist() == [0, 1, 2]
    assert found[0].boxes[..., 2].max() <= 128 and found[0].boxes.min() >= 0


@pytest.mark.parametrize(
    "options",
    [
        DetectOptions(method="multibox", backbone="resnet", backbone_options='{"depth": 8}'),
        DetectOptions(method="multibox", backbone="impala"),
    ],
)
def test_other_trunks_fit(options: DetectOptions) -> None:
    network = multibox.build(options, FACTS).eval()
    with torch.no_grad():
        raw = network(torch.zeros(1, 3, 96, 128, dtype=torch.uint8))
    assert raw["boxes"].shape == (1, multibox.CLASSIFIED, 4)


# ---------------------------------------------------------------------------------- real cells


BCCD = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "bccd"
needs_bccd = pytest.mark.skipif(
    not BCCD.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds bccd"
)
SMALL = DetectOptions(
    method="multibox", size=128, mosaic=0.0, zoom=1.2, backbone_options='{"width": 8}'
)


def trained_on_cells(steps: int, rate: float) -> tuple[multibox.MultiBox, TaskData]:
    data = build_data(SMALL, "bccd", 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = multibox.build(SMALL, data.facts)
    multibox.begin(network, data)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = max(0.1, 12 / steps)  # running means keep up with few steps
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / 5, 1 - step / steps)
        found = multibox.loss(network, data.batch(step, 8), moment(step))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    return network.eval(), data


def constant_losses(
    network: multibox.MultiBox, data: TaskData, test: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Parts of the loss on the test batch of what looks at no picture, but knows training boxes."""
    sides = torch.tensor([network.size[1], network.size[0]] * 2)
    times = torch.ones(multibox.BOXES)
    shown = torch.ones(4)
    pictures = 2
    for step in range(30):
        batch = data.batch(step, 8)
        _, _, columns, _ = multibox.matched(batch["boxes"] / sides, batch["labels"], network)
        times += torch.bincount(columns, minlength=multibox.BOXES)
        pictures += 8
        _, targets = multibox.sample_windows(
            batch["boxes"], batch["labels"], 3, moment(step).generator
        )
        shown += torch.bincount(targets[targets >= 0], minlength=4)
    wanted, rows, columns, count = multibox.matched(test["boxes"] / sides, test["labels"], network)
    away = (network.priors[columns] - wanted) / network.spread
    present = torch.zeros(len(test["labels"]), multibox.BOXES)
    present[rows, columns] = 1
    often = (times / pictures).expand_as(present)
    _, targets = multibox.sample_windows(test["boxes"], test["labels"], 3, moment().generator)
    surprise = -(shown / shown.sum()).log()
    return {
        "distance": float(away.square().sum()) / 2 / count,
        "confidence": float(F.binary_cross_entropy(often, present, reduction="sum")) / count,
        "class": float(surprise[targets[targets >= 0]].mean()),
    }


def held_out(data: TaskData, count: int) -> dict[str, torch.Tensor]:
    plain = replace(SMALL, turns="none", zoom=1.0, colour=0.0)
    size = data.facts["height"], data.facts["width"]
    return dict(Batches(data.splits["test"], size, plain, 0)(0, count))


def losses(network: multibox.MultiBox, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    with torch.no_grad():
        return {name: float(v) for name, v in multibox.loss(network, batch, moment()).items()}


@needs_bccd
def test_seconds_on_cells_beat_what_looks_at_no_picture() -> None:
    network, data = trained_on_cells(45, 2e-3)
    test = held_out(data, 24)
    found, constant = losses(network, test), constant_losses(network, data, test)
    assert found["class"] < 0.8 * constant["class"]
    constant_loss = 0.3 * constant["distance"] + constant["confidence"] + constant["class"]
    assert found["loss"] < constant_loss
    exchanged = {**test, "pictures": test["pictures"].roll(1, dims=0)}
    assert losses(network, exchanged)["loss"] > found["loss"]
