"""Scores of colours against other ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from eightbit.vision_tasks.colorize.bins import bin_counts, nearest_bins, smoothed
from eightbit.vision_tasks.colorize.lab import lab_to_bytes, rgb_to_lab
from eightbit.vision_tasks.colorize.scores import (
    PictureScores,
    balancing,
    figures,
    joined,
    score_pictures,
)


def some_pictures(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    small = torch.randint(256, (count, 3, 4, 4), generator=generator).float()
    large = torch.nn.functional.interpolate(small, size=(16, 12), mode="bilinear")
    return rgb_to_lab(large.round().to(torch.uint8))


def scored(lab: Tensor, ab: Tensor) -> PictureScores:
    return score_pictures(lab, ab, balancing(bin_counts(lab[:, 1:])))


def everything(scores: PictureScores) -> dict[str, float]:
    chosen = np.arange(len(scores.area))
    return {name: value(chosen) for name, value in figures(scores).items()}


def test_the_truth_scores_highest() -> None:
    lab = some_pictures()
    found = everything(scored(lab, lab[:, 1:]))
    assert found["auc_raw"] == pytest.approx(100) and found["auc_balanced"] == pytest.approx(100)
    assert found["psnr_ab"] == pytest.approx(10 * np.log10(255**2 * 12))
    assert found["chroma_ratio"] == pytest.approx(1, rel=0.01)


def test_the_area_is_that_under_a_curve_of_thresholds() -> None:
    lab = some_pictures()
    ab = lab[:, 1:] * 0.3 + 4
    distance = (ab - lab[:, 1:]).square().sum(1).sqrt().numpy()
    thresholds = np.linspace(0, 150, 3001)
    curve = [(distance <= threshold).mean() for threshold in thresholds]
    area = np.trapezoid(curve, thresholds) / 150 * 100
    assert everything(scored(lab, ab))["auc_raw"] == pytest.approx(area, abs=0.02)


def test_the_balanced_area_weighs_pixels_by_how_rare_their_colour_is() -> None:
    lab = some_pictures()
    ab = lab[:, 1:] * 0.5
    prior = smoothed(bin_counts(lab[:, 1:])).numpy()
    weights = 1 / prior[nearest_bins(lab[:, 1:]).numpy()]
    near = 1 - (ab - lab[:, 1:]).square().sum(1).sqrt().numpy() / 150
    wanted = 100 * (weights * near).sum() / weights.sum()
    found = everything(scored(lab, ab))
    assert found["auc_balanced"] == pytest.approx(wanted, rel=1e-4)
    assert found["auc_balanced"] < found["auc_raw"]  # halving hurts vivid colours, which are rare


def test_psnr_is_that_of_scikit_image() -> None:
    lab = some_pictures()
    ab = lab[:, 1:] * 0.8 - 3
    scores = scored(lab, ab)
    ours = lab_to_bytes(torch.cat((lab[:, :1], ab), 1)).numpy()
    truth = lab_to_bytes(lab).numpy()
    for index in range(len(lab)):
        rgb = peak_signal_noise_ratio(truth[index], ours[index])
        assert scores.psnr_rgb[index] == pytest.approx(rgb, rel=1e-4)
        true_ab = lab[index, 1:].double().numpy()
        wanted = peak_signal_noise_ratio(true_ab, ab[index].double().numpy(), data_range=255)
        assert scores.psnr_ab[index] == pytest.approx(wanted, rel=1e-4)


def test_grey_has_no_chroma_and_half_the_colour_about_half() -> None:
    lab = some_pictures()
    assert everything(scored(lab, lab[:, 1:] * 0))["chroma_ratio"] < 0.01
    assert everything(scored(lab, lab[:, 1:] * 0.5))["chroma_ratio"] == pytest.approx(0.5, abs=0.03)


def test_figures_are_of_the_pictures_that_are_chosen() -> None:
    lab = some_pictures()
    ab = lab[:, 1:].clone()
    ab[0] += 20  # only the first is wrong
    scores = scored(lab, ab)
    for name in ("auc_raw", "auc_balanced", "psnr_ab", "psnr_rgb"):
        value = figures(scores)[name]
        assert value(np.array([0])) < value(np.array([0, 1])) < value(np.array([1, 1]))


def test_batches_join_to_the_same_scores() -> None:
    lab = some_pictures()
    ab, weights = lab[:, 1:] * 0.5, balancing(bin_counts(lab[:, 1:]))
    parts = [score_pictures(lab[i : i + 2], ab[i : i + 2], weights) for i in (0, 2)]
    assert everything(joined(parts)) == pytest.approx(everything(score_pictures(lab, ab, weights)))
