"""The 313 bins of colour, and what is done with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.vision_tasks.colorize.bins import (
    annealed_mean,
    bin_centres,
    bin_counts,
    gamut_bins,
    nearest_bins,
    rebalancing,
    smoothed,
    soft_targets,
)

# The lowest and highest b* of the published table of 313 points, by a*.
PUBLISHED = {
    -90: (50, 90),
    -80: (20, 90),
    -70: (0, 90),
    -60: (-20, 90),
    -50: (-30, 100),
    -40: (-40, 100),
    -30: (-50, 100),
    -20: (-50, 100),
    -10: (-60, 100),
    0: (-70, 100),
    10: (-80, 90),
    20: (-80, 90),
    30: (-90, 90),
    40: (-100, 90),
    50: (-100, 80),
    60: (-110, 80),
    70: (-110, 80),
    80: (-110, 70),
    90: (-110, 70),
    100: (-90, 0),
}


def test_the_bins_are_the_313_of_the_paper_in_its_order() -> None:
    published = [(a, b) for a, (low, high) in PUBLISHED.items() for b in range(low, high + 1, 10)]
    assert len(published) == 313
    assert [tuple(row) for row in gamut_bins().astype(int).tolist()] == published


@settings(deadline=None)
@given(st.floats(-80, 90), st.floats(-100, 90))
def test_soft_targets_are_gaussian_weights_of_the_five_nearest_bins(a: float, b: float) -> None:
    ab = torch.tensor([a, b], dtype=torch.float32).reshape(1, 2, 1, 1)
    target = soft_targets(ab)
    # The nearest are decided at whole a*, b*.
    squared = ((gamut_bins() - ab.round().flatten().numpy()) ** 2).sum(axis=1)
    chosen = target.bins.flatten().numpy()
    assert len(set(chosen.tolist())) == 5
    assert np.sort(squared[chosen]) == pytest.approx(np.sort(squared)[:5])
    exact = ((gamut_bins()[chosen] - ab.flatten().numpy()) ** 2).sum(axis=1)
    weights = np.exp((exact.min() - exact.astype(np.float64)) / 50)
    assert target.shares.flatten().numpy() == pytest.approx(weights / weights.sum(), abs=1e-4)
    assert target.shares.flatten()[0] == target.shares.max()


def test_a_colour_on_a_bin_is_nearest_to_it() -> None:
    ab = bin_centres(torch.device("cpu")).T.reshape(1, 2, 1, 313)
    assert torch.equal(nearest_bins(ab).flatten(), torch.arange(313))
    assert torch.equal(soft_targets(ab).bins[:, 0].flatten(), torch.arange(313))
    assert torch.equal(bin_counts(ab), torch.ones(313, dtype=torch.float64))


def test_smoothing_keeps_the_whole_and_fills_what_is_near() -> None:
    counts = torch.zeros(313)
    at = gamut_bins().tolist().index([0.0, 0.0])
    counts[at] = 7
    prior = smoothed(counts)
    assert float(prior.sum()) == pytest.approx(1)
    beside = gamut_bins().tolist().index([10.0, 0.0])
    # Neighbours at distance 10 get exp(-100 / 50) of the middle's share.
    assert float(prior[beside] / prior[at]) == pytest.approx(np.exp(-2), rel=1e-3)
    assert (prior > 0).sum() > 5


def test_rebalancing_has_an_expected_weight_of_one_and_favours_the_rare() -> None:
    prior = smoothed(torch.rand(313, generator=torch.Generator().manual_seed(0)) ** 8)
    weights = rebalancing(prior, 0.5)
    assert float((prior * weights).sum()) == pytest.approx(1, rel=1e-4)
    assert weights.argmax() == prior.argmin() and weights.argmin() == prior.argmax()
    by_hand = 1 / (0.5 * prior + 0.5 / 313)
    assert torch.allclose(weights / weights[0], (by_hand / by_hand[0]).float(), rtol=1e-4)
    assert torch.allclose(rebalancing(prior, 1.0), torch.ones(313))


def test_the_annealed_mean_goes_from_the_mean_to_the_mode() -> None:
    logits = torch.randn(2, 313, 3, 3, generator=torch.Generator().manual_seed(0))
    centres = bin_centres(torch.device("cpu"))
    mean = torch.einsum("bqhw,qc->bchw", logits.softmax(1), centres)
    assert torch.allclose(annealed_mean(logits, centres, 1.0), mean, atol=1e-3)
    mode = centres[logits.argmax(1)].permute(0, 3, 1, 2)
    assert torch.allclose(annealed_mean(logits, centres, 0.001), mode, atol=0.1)
    chroma = [float(annealed_mean(logits, centres, t).norm(dim=1).mean()) for t in (1, 0.38, 0.1)]
    assert chroma == sorted(chroma)
