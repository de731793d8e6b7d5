"""Aggregates equal plain loops and SciPy; bootstrap intervals equal those known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eightbit.errors import UsageError
from eightbit.evaluate.aggregate import (
    AGGREGATES,
    estimate,
    improvement,
    improvement_estimate,
    interquartile_mean,
    mean,
    median,
    optimality_gap,
    performance_profile,
)

SHAPES = [(1, 1), (3, 1), (1, 5), (5, 7), (4, 26), (2, 3)]


@pytest.fixture(params=SHAPES, ids=str)
def scores(request, rng):
    return rng.normal(0.9, 1.5, size=request.param)


def test_the_interquartile_mean_is_the_mean_without_a_quarter_at_either_end(scores):
    ordered = sorted(value for row in scores.tolist() for value in row)
    out = len(ordered) // 4
    middle = ordered[out : len(ordered) - out]
    assert float(interquartile_mean(scores)) == pytest.approx(sum(middle) / len(middle))


def test_the_interquartile_mean_is_that_of_scipy(scores):
    stats = pytest.importorskip("scipy.stats")
    assert float(interquartile_mean(scores)) == pytest.approx(stats.trim_mean(scores, 0.25, None))


def test_the_median_is_over_games_of_the_mean_over_runs(scores):
    means = sorted(sum(column) / len(column) for column in zip(*scores.tolist(), strict=True))
    half = len(means) // 2
    wanted = means[half] if len(means) % 2 else (means[half - 1] + means[half]) / 2
    assert float(median(scores)) == pytest.approx(wanted)


def test_mean_and_optimality_gap_are_those_of_plain_loops(scores):
    flat = [value for row in scores.tolist() for value in row]
    assert float(mean(scores)) == pytest.approx(sum(flat) / len(flat))
    gap = sum(1 - value for value in flat if value < 1) / len(flat)
    assert float(optimality_gap(scores)) == pytest.approx(gap)


@pytest.mark.parametrize("name", AGGREGATES)
def test_a_statistic_of_many_resamples_is_that_of_each(name, rng):
    many = rng.normal(size=(6, 4, 5))
    assert np.allclose(AGGREGATES[name](many), [AGGREGATES[name](one) for one in many])


def test_a_few_bad_and_good_runs_do_not_move_the_interquartile_mean(rng):
    scores = rng.uniform(0.4, 0.6, size=(5, 8))
    usual = float(interquartile_mean(scores))
    scores[0, 0], scores[1, 1] = 1e6, -1e6
    assert float(interquartile_mean(scores)) == pytest.approx(usual, abs=0.05)


# --------------------------------------------------------------------------- the bootstrap


def binomial_quantile(runs: int, share: float, level: float) -> int:
    below = 0.0
    for successes in range(runs + 1):
        below += math.comb(runs, successes) * share**successes * (1 - share) ** (runs - successes)
        if below >= level:
            return successes
    return runs


@pytest.mark.parametrize(("runs", "ones"), [(10, 5), (20, 4), (30, 27)])
def test_the_interval_of_ones_and_zeros_is_that_of_the_binomial(runs, ones, rng):
    """The resampled mean of one game is a binomial share, whose quantiles are known."""
    scores = np.zeros((runs, 1))
    scores[:ones] = 1.0
    found = estimate(scores, mean, rng)
    share = ones / runs
    wanted = [binomial_quantile(runs, share, level) / runs for level in (0.025, 0.975)]
    assert found.value == pytest.approx(share)
    assert found.interval == pytest.approx(wanted)


def test_the_interval_over_many_games_has_the_width_of_independent_games(rng):
    scores = rng.normal(size=(6, 40))
    found = estimate(scores, mean, rng)
    # Each game's resampled mean has variance s^2 / runs, s^2 being that of its runs.
    sigma = math.sqrt(scores.var(axis=0).sum() / 6) / 40
    assert found.interval is not None
    assert found.interval.width == pytest.approx(2 * 1.96 * sigma, rel=0.05)
    assert sum(found.interval) / 2 == pytest.approx(found.value, abs=0.1 * sigma)


def test_runs_are_resampled_within_their_games():
    """Were they resampled over all games, these scores would have a wide interval."""
    scores = np.tile([0.0, 100.0], (5, 1))
    found = estimate(scores, mean, np.random.default_rng(0))
    assert found.interval == (50.0, 50.0)


def test_one_run_has_no_interval_and_the_same_seed_the_same_one(rng):
    assert estimate(np.ones((1, 9)), mean, rng).interval is None
    scores = rng.normal(size=(3, 4))
    first, second = (estimate(scores, median, np.random.default_rng(7)) for _ in range(2))
    assert first == second and first != estimate(scores, median, np.random.default_rng(8))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones(3), "at least one run of one game"),
        (np.ones((0, 3)), "at least one run of one game"),
        (np.array([[1.0, np.nan]]), "not a finite number"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(scores, message, rng):
    with pytest.raises(UsageError, match=message):
        estimate(scores, mean, rng)


# ------------------------------------------------------------ improvement and profiles


def test_the_probability_of_improvement_counts_pairs(rng):
    first, second = rng.integers(0, 4, size=(3, 5)), rng.integers(0, 4, size=(4, 5))
    games = []
    for game in range(5):
        pairs = [(x, y) for x in first[:, game] for y in second[:, game]]
        games.append(sum(1.0 if x > y else 0.5 if x == y else 0.0 for x, y in pairs) / len(pairs))
    assert float(improvement(first, second)) == pytest.approx(sum(games) / 5)
    assert float(improvement(second, first)) == pytest.approx(1 - sum(games) / 5)


def test_the_probability_of_improvement_has_an_interval(rng):
    below, above = rng.uniform(size=(5, 3)), rng.uniform(size=(4, 3)) + 2
    assert improvement_estimate(above, below, rng).value == 1.0
    assert improvement_estimate(above, below, rng).interval == (1.0, 1.0)
    alike = improvement_estimate(rng.normal(size=(8, 6)), rng.normal(size=(8, 6)), rng)
    assert alike.interval is not None and alike.interval.low < 0.5 < alike.interval.high
    assert improvement_estimate(below[:1], above, rng).interval is None
    with pytest.raises(UsageError, match="agents of 3 and 2 games cannot be compared"):
        improvement_estimate(below, above[:, :2], rng)


def test_a_profile_is_the_share_of_runs_above_each_score(rng):
    scores = np.array([[0.0, 1.0], [0.5, 2.0]])
    levels = np.array([-1.0, 0.0, 0.5, 1.5, 2.0])
    profile = performance_profile(scores, levels, rng)
    assert profile.share.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert profile.low is not None and profile.high is not None
    # In the first game both runs are at 0 in a quarter of the resamples, both at 0.5 in another.
    assert (profile.low[1], profile.high[1]) == (0.5, 1.0)
    assert (profile.low[0], profile.high[0], profile.low[4], profile.high[4]) == (1, 1, 0, 0)
    assert performance_profile(scores[:1], levels, rng).low is None


def test_the_estimates_are_those_of_rliable(rng):
    metrics = pytest.importorskip("rliable.metrics")
    scores, other = rng.normal(1, 1, size=(5, 9)), rng.normal(1, 1, size=(4, 9))
    assert float(median(scores)) == pytest.approx(metrics.aggregate_median(scores))
    assert float(mean(scores)) == pytest.approx(metrics.aggregate_mean(scores))
    assert float(interquartile_mean(scores)) == pytest.approx(metrics.aggregate_iqm(scores))
    assert float(optimality_gap(scores)) == pytest.approx(metrics.aggregate_optimality_gap(scores))
    wanted = metrics.probability_of_improvement(scores, other)
    assert float(improvement(scores, other)) == pytest.approx(wanted)
