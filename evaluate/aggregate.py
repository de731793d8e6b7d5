"""Aggregates over games and seeds, with stratified bootstrap intervals (Agarwal et al. 2021).

"Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021. Scores are
normalised and stand in arrays (..., runs, games): a row is one seed in every game. A statistic
takes the last two axes away, so that it computes all resamples of a bootstrap at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from .scores import CONFIDENCE, RESAMPLES, Interval

Statistic = Callable[[np.ndarray], np.ndarray]
"""Takes scores (..., runs, games), returns (...)."""

TRIMMED = 0.25  # share of the runs that the interquartile mean leaves out at either end
_DRAWN_AT_ONCE = 2_000_000  # scores in one part of a bootstrap: 16 MB


def mean(scores: np.ndarray) -> np.ndarray:
    """Mean over all runs and games: (..., runs, games) -> (...)."""
    return scores.mean(axis=(-2, -1))


def median(scores: np.ndarray) -> np.ndarray:
    """Median over games of the mean over runs: (..., runs, games) -> (...)."""
    return np.median(scores.mean(axis=-2), axis=-1)


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half of all runs of all games: (..., runs, games) -> (...).

    Of n runs, floor(n / 4) are left out at either end.
    """
    pooled = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    left_out = int(TRIMMED * pooled.shape[-1])
    return pooled[..., left_out : pooled.shape[-1] - left_out].mean(axis=-1)


def optimality_gap(scores: np.ndarray) -> np.ndarray:
    """By how much runs fall short of 1 on average: (..., runs, games) -> (...). Lower is better.

    What a run has above 1, which is the human's score, makes up for nothing.
    """
    return np.maximum(1.0 - scores, 0.0).mean(axis=(-2, -1))


AGGREGATES: dict[str, Statistic] = {
    "median": median,
    "interquartile_mean": interquartile_mean,
    "mean": mean,
    "optimality_gap": optimality_gap,
}


@dataclass(frozen=True)
class Estimate:
    """A statistic and its interval.

    Attributes:
        value: of the scores themselves.
        interval: 95 % percentile interval of the stratified bootstrap; None for a single run,
            whose spread is unknown.
    """

    value: float
    interval: Interval | None


def estimate(
    scores: np.ndarray,
    statistic: Statistic,
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A statistic with its interval.

    Args:
        scores: (runs, games), finite.
        statistic: one of `AGGREGATES`, or any other.
        generator: draws the resamples; the same state gives the same interval.
        resamples: how many.

    Raises:
        UsageError: there is no score, or one is not finite.
    """
    scores = _checked(scores)
    value = float(statistic(scores))
    if scores.shape[0] == 1:
        return Estimate(value, None)
    drawn = _bootstrap([scores], lambda parts: statistic(parts[0]), generator, resamples)
    return Estimate(value, Interval(*(float(end) for end in _ends(drawn))))


def improvement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Probability that a run of the first is above one of the second, in a game taken at random.

    The Mann-Whitney statistic of each game, averaged over games; a tie counts half.

    Args:
        first: (..., runs, games).
        second: (..., other runs, games); the same games in the same order.

    Returns:
        (...), from 0 to 1.
    """
    above = first[..., :, None, :] > second[..., None, :, :]
    equal = first[..., :, None, :] == second[..., None, :, :]
    return (above + 0.5 * equal).mean(axis=(-3, -2, -1))


def improvement_estimate(
    first: np.ndarray,
    second: np.ndarray,
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Estimate:
    """`improvement` with its interval, for which both are resampled.

    Args:
        first: (runs, games), finite.
        second: (other runs, games), finite.
        generator: draws the resamples.
        resamples: how many.

    Raises:
        UsageError: there is no score, one is not finite, or the numbers of games differ.
    """
    first, second = _checked(first), _checked(second)
    if first.shape[1] != second.shape[1]:
        raise UsageError(
            f"agents of {first.shape[1]} and {second.shape[1]} games cannot be compared: leave "
            "out the games that only one has played."
        )
    value = float(improvement(first, second))
    if min(first.shape[0], second.shape[0]) == 1:
        return Estimate(value, None)
    drawn = _bootstrap([first, second], lambda p: improvement(p[0], p[1]), generator, resamples)
    return Estimate(value, Interval(*(float(end) for end in _ends(drawn))))


@dataclass(frozen=True)
class Profile:
    """A performance profile: which share of runs is above a score.

    Attributes:
        thresholds: (n,) normalised scores.
        share: (n,) of the runs above each, from 1 down to 0.
        low, high: (n,) ends of the pointwise 95 % interval; None for a single run.
    """

    thresholds: np.ndarray
    share: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def performance_profile(
    scores: np.ndarray,
    thresholds: np.ndarray,
    generator: np.random.Generator,
    *,
    resamples: int = 2_000,
) -> Profile:
    """The share of runs, over all games, whose score is above each threshold.

    Args:
        scores: (runs, games), finite.
        thresholds: (n,).
        generator: draws the resamples.
        resamples: how many the band is made of.

    Raises:
        UsageError: there is no score, or one is not finite.
    """
    scores = _checked(scores)

    def above(some: np.ndarray) -> np.ndarray:
        pooled = some.reshape(*some.shape[:-2], -1)
        return np.stack([(pooled > level).mean(axis=-1) for level in thresholds], axis=-1)

    if scores.shape[0] == 1:
        return Profile(thresholds, above(scores), None, None)
    low, high = _ends(_bootstrap([scores], lambda parts: above(parts[0]), generator, resamples))
    return Profile(thresholds, above(scores), low, high)


def _bootstrap(
    groups: list[np.ndarray],
    statistic: Callable[[list[np.ndarray]], np.ndarray],
    generator: np.random.Generator,
    resamples: int,
) -> np.ndarray:
    """Stratified: in each game as many runs are drawn as it has; (resamples, ...)."""
    largest = max(scores.size for scores in groups)
    at_once = max(1, _DRAWN_AT_ONCE // (largest * max(scores.shape[0] for scores in groups)))
    parts = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = []
        for scores in groups:
            picks = generator.integers(0, scores.shape[0], size=(count, *scores.shape))
            drawn.append(np.take_along_axis(scores[None], picks, axis=1))
        parts.append(statistic(drawn))
    return np.concatenate(parts)


def _ends(drawn: np.ndarray) -> np.ndarray:
    """Both ends of the percentile interval, (2, ...)."""
    tail = (1.0 - CONFIDENCE) / 2.0
    return np.quantile(drawn, [tail, 1.0 - tail], axis=0)


def _checked(scores: np.ndarray) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise UsageError("an aggregate needs the scores of at least one run of one game.")
    if not np.isfinite(values).all():
        raise UsageError("a score is not a finite number, so there is no aggregate of it.")
    return values
