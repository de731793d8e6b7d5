"""Figures equal torchmetrics'; views are what their papers say; maps point at what decided."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_precision,
    multiclass_recall,
)

from eightbit.errors import TaskError, UsageError
from eightbit.vision_tasks.classify.data import Split
from eightbit.vision_tasks.classify.heatmaps import heat_map, overlay
from eightbit.vision_tasks.classify.model import build_model
from eightbit.vision_tasks.classify.options import ClassifyOptions
from eightbit.vision_tasks.classify.scores import measure, rank_of_truth, score
from eightbit.vision_tasks.classify.views import list_views, look, predict

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
VIEWS = ("one", "flip", "six", "ten", "howard")


def _predictions(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (count, 7))
    labels = generator.integers(0, 6, count)  # the last class never occurs
    logits[np.arange(count), labels] += 1.5
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_those_of_torchmetrics(seed):
    probabilities, labels = _predictions(700, seed)
    outcome = score(probabilities, labels, NAMES, drawn=False)
    chosen = np.random.default_rng(seed).integers(0, 700, 500)  # as the bootstrap draws
    p, truth = torch.from_numpy(probabilities[chosen]), torch.from_numpy(labels[chosen])
    want = {
        "accuracy": multiclass_accuracy(p, truth, 7, average="micro"),
        "top5": multiclass_accuracy(p, truth, 7, top_k=5, average="micro"),
        "ece": multiclass_calibration_error(p, truth, 7, n_bins=15),
    }
    for name, value in want.items():
        assert outcome.values[name](chosen) == pytest.approx(value.item(), abs=1e-6), name


def test_tables_equal_those_of_torchmetrics():
    probabilities, labels = _predictions(400)
    details = score(probabilities, labels, NAMES, drawn=False).details
    p, truth = torch.from_numpy(probabilities), torch.from_numpy(labels)
    assert details["confusion"] == multiclass_confusion_matrix(p, truth, 7).tolist()
    precision = multiclass_precision(p, truth, 7, average="none")
    recall = multiclass_recall(p, truth, 7, average="none")
    for row, name, right, found in zip(details["classes"], NAMES, precision, recall, strict=True):
        assert row["class"] == name
        assert row["precision"] == pytest.approx(right.item())
        assert row["count"] == (labels == NAMES.index(name)).sum()
        if row["count"]:
            assert row["recall"] == pytest.approx(found.item())
        else:
            assert row["recall"] is None


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_ranks_are_those_of_a_stable_sort(seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.integers(0, 4, (20, 6)) / 4  # full of ties
    labels = generator.integers(0, 6, 20)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    want = [list(row).index(label) for row, label in zip(order, labels, strict=True)]
    assert rank_of_truth(probabilities, labels).tolist() == want


def test_charts_are_pictures_and_only_the_model_has_them():
    probabilities, labels = _predictions(100)
    drawn = score(probabilities, labels, NAMES).pictures
    assert set(drawn) == {"confusion", "reliability"}
    for picture in drawn.values():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert picture.std() > 10
    assert score(probabilities, labels, NAMES, drawn=False).pictures == {}


class Brightest(nn.Module):
    """Takes the brighter half of a picture's pixels for class 1."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.float().mean(dim=(1, 2, 3)) / 255 - 0.5
        return torch.stack([-mean, mean], dim=1) * self.scale


def _toy_data() -> SimpleNamespace:
    labels = torch.tensor([0, 1] * 40 + [1] * 20)
    pictures = (labels * 150 + 50).to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    names = tuple(map(str, range(100)))
    split = Split(pictures.contiguous(), labels, names, "one", 8)
    facts = {"classes": ["dark", "light"], "training_counts": [40, 60]}
    return SimpleNamespace(splits={"train": split, "test": split}, facts=facts)


def test_controls_see_nothing():
    data = _toy_data()
    every = np.arange(100)
    model = Brightest().eval()
    values = {
        control: measure(model, data, "test", control).values["accuracy"](every)
        for control in ("none", "trivial", "shuffled")
    }
    assert values["none"] == 1
    assert values["trivial"] == 0.6
    assert 0.4 < values["shuffled"] < 0.64  # 0.52 by chance
    with pytest.raises(TaskError, match="no validation split; there are train, test"):
        measure(model, data, "validation", "none")


# --------------------------------------------------------------------------------------- views


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("size", "crop"), [(32, 32), (32, 28), (33, 28)])
def test_weights_of_views_sum_to_one_and_views_have_the_size(name, size, crop):
    views = list_views(name, size, crop)
    assert sum(view.weight for view in views) == pytest.approx(1)
    assert len(views) == {"one": 1, "flip": 2, "six": 6, "ten": 10, "howard": 30}[name]
    pictures = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    seen = [look(pictures, view, crop) for view in views]
    assert all(picture.shape == (2, 3, crop, crop) for picture in seen)
    assert len({bytes(picture.numpy()) for picture in seen}) == len(views)


def test_ten_views_are_corners_and_middle(rng):
    x = torch.from_numpy(rng.integers(0, 256, (1, 3, 32, 32), dtype=np.uint8))
    corners = [x[..., i : i + 28, j : j + 28] for i, j in ((2, 2), (0, 0), (0, 4), (4, 0), (4, 4))]
    want = [view for corner in corners for view in (corner, corner.flip(3))]
    got = [look(x, view, 28) for view in list_views("ten", 32, 28)]
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_six_views_average_as_their_author_does(rng):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5))
    model.forward = lambda x: model[1](model[0](x.float() / 255))
    x = torch.from_numpy(rng.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8))

    def both(pixels):
        return 0.5 * model(pixels) + 0.5 * model(pixels.flip(3))

    padded = nn.functional.pad(x.float(), (1, 1, 1, 1), mode="reflect")
    moved = 0.5 * both(padded[:, :, :8, :8]) + 0.5 * both(padded[:, :, 2:, 2:])
    with torch.no_grad():
        want = (0.5 * both(x) + 0.5 * moved).softmax(1).numpy()
    np.testing.assert_allclose(predict(model, x, "six", 8), want, rtol=1e-5)


def test_other_views_average_probabilities(rng):
    x = torch.from_numpy(rng.integers(0, 256, (3, 3, 12, 12), dtype=np.uint8))
    model = Brightest()
    shares = [model(look(x, view, 8)).softmax(1) for view in list_views("ten", 12, 8)]
    want = torch.stack(shares).mean(0).detach().numpy()
    np.testing.assert_allclose(predict(model, x, "ten", 8), want, rtol=1e-6)


# ------------------------------------------------------------------------------------ heat maps


@pytest.fixture(scope="module")
def resnet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = ClassifyOptions(backbone="resnet", backbone_options='{"depth": 8}')
        return build_model(options, {"classes": NAMES}).eval()


def test_cam_is_the_last_layers_weights_on_the_map(resnet):
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    labels = torch.tensor([3, 5])
    with torch.no_grad():
        features = resnet.backbone.forward_features(x)
    for row, label in enumerate(labels):
        want = np.maximum(np.tensordot(resnet.head.weight[label].detach(), features[row], 1), 0)
        got = heat_map(resnet, x, labels, "cam")[row]
        assert got.shape == (32, 32)
        assert got.max() == pytest.approx(1)
        # Between the centres of the map's cells, the picture's map is interpolated.
        cells = got.reshape(8, 4, 8, 4)[:, 1:3, :, 1:3].mean(axis=(1, 3))
        assert np.corrcoef(cells.ravel(), want.ravel())[0, 1] > 0.95


def test_gradcam_equals_cam_where_the_map_is_averaged(resnet):
    x = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 6])
    got = heat_map(resnet, x, labels, "gradcam")
    np.testing.assert_allclose(got, heat_map(resnet, x, labels, "cam"), atol=1e-4)


def test_cam_refuses_a_network_with_hidden_layers():
    options = ClassifyOptions(
        backbone="alexnet", backbone_options='{"width": 0.1, "hidden": 8}', head_bias=True
    )
    model = build_model(options, {"classes": NAMES}).eval()
    x = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(UsageError, match="take gradcam"):
        heat_map(model, x, torch.tensor([0]), "cam")
    assert heat_map(model, x, torch.tensor([0]), "gradcam").shape == (1, 32, 32)


def test_an_overlay_is_red_where_the_map_is_hot():
    grey = np.full((40, 60, 3), 128, dtype=np.uint8)
    heat = np.zeros((4, 6), dtype=np.float32)
    heat[:, 5] = 1
    picture = overlay(grey, heat)
    assert picture.shape == grey.shape
    assert picture[20, 58, 0] > picture[20, 58, 2] + 40
    assert picture[20, 2, 2] > picture[20, 2, 0] + 40
