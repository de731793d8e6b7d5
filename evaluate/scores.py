"""Scores: returns with their protocol, a bootstrap interval and the human-normalised value."""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import NamedTuple

import numpy as np

from ..envs.options import Protocol
from ..errors import UsageError

CONFIDENCE = 0.95
RESAMPLES = 10_000
TABLE_FILE = "atari57_random_human.csv"
TABLE_NAME = "the published table of DQN Zoo"
TABLE_SOURCE = (
    "published random and human scores of the 57 games, 30 no-op starts, 108,000-frame cap, "
    "as in DQN Zoo"
)


class Source(str, Enum):
    """Where the returns of a score come from."""

    EVALUATION = "evaluation"
    TRAINING_LOG = "training log"


class Interval(NamedTuple):
    """Two-sided interval of a mean, in the unit of the returns."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """`high - low`, at least 0."""
        return self.high - self.low


class Published(NamedTuple):
    """Published scores of one game; both are raw game points."""

    random: float
    human: float


def bootstrap_interval(
    returns: Sequence[float] | np.ndarray,
    generator: np.random.Generator,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """Percentile bootstrap interval of the mean.

    Args:
        returns: at least one finite number; one an episode.
        generator: draws the resamples; the same state gives the same interval.
        confidence: share of the bootstrap means inside, in (0, 1).
        resamples: how many means are drawn.

    Returns:
        The interval, or None for a single episode, whose spread is unknown.

    Raises:
        UsageError: no returns, or one of them is not finite.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise UsageError("a score needs the return of at least one finished episode.")
    if not np.isfinite(values).all():
        raise UsageError("a return is not a finite number, so no score can be made from it.")
    if values.size == 1:
        return None
    means = np.empty(resamples)
    rows = max(1, 1_000_000 // values.size)  # bounds the memory of one draw to 8 MB
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        picks = generator.integers(0, values.size, size=(count, values.size))
        means[start : start + count] = values[picks].mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


@functools.cache
def _published_table() -> dict[str, Published]:
    text = resources.files(__package__).joinpath(TABLE_FILE).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {
        row["game"]: Published(float(row["random"]), float(row["human"]))
        for row in csv.DictReader(lines)
    }


def published_scores(game: str) -> Published | None:
    """Published random and human score of a game (canonical name), None where there is none."""
    return _published_table().get(game)


def human_normalised(game: str, score: float) -> float | None:
    """`(score - random) / (human - random)`: 0 is published random play, 1 the human.

    None where the table lacks the game. See `TABLE_SOURCE` for what the table holds.
    """
    published = published_scores(game)
    if published is None:
        return None
    return (score - published.random) / (published.human - published.random)


@dataclass(frozen=True)
class Score:
    """Returns of finished episodes under one protocol.

    Attributes:
        game: canonical name (`pong`), `catch`, or `gym:<id>`.
        protocol: the rules that the episodes were played by.
        returns: raw (never clipped) return of each episode, in the order of the episodes.
        interval: 95 % bootstrap interval of the mean; None for a single episode.
        source: episodes of an evaluation, or of the training log.
    """

    game: str
    protocol: Protocol
    returns: tuple[float, ...]
    interval: Interval | None
    source: Source = Source.EVALUATION

    @property
    def mean(self) -> float:
        """Mean return, raw game points."""
        return float(np.mean(self.returns))

    @property
    def human_normalised(self) -> float | None:
        """0 = published random play, 1 = published human; None where the table lacks the game."""
        return human_normalised(self.game, self.mean)

    def describe(self) -> str:
        """One line: mean, interval, episodes, protocol, source and human-normalised score."""
        spread = (
            "one episode, no interval"
            if self.interval is None
            else f"95 % interval {self.interval.low:.2f} to {self.interval.high:.2f}"
        )
        human = self.human_normalised
        normalised = (
            "not in the table of human scores" if human is None else f"{human:.2f} by {TABLE_NAME}"
        )
        return (
            f"{self.game}: mean return {self.mean:.2f} ({spread}, {len(self.returns)} episodes, "
            f"protocol {self.protocol.value}, from the {self.source.value}); "
            f"human-normalised {normalised}"
        )


def make_score(
    game: str,
    protocol: Protocol,
    returns: Sequence[float] | np.ndarray,
    generator: np.random.Generator,
    *,
    source: Source = Source.EVALUATION,
) -> Score:
    """Builds a score with its bootstrap interval; see `bootstrap_interval` for what is raised."""
    interval = bootstrap_interval(returns, generator)
    values = tuple(float(value) for value in returns)
    return Score(game, Protocol(protocol), values, interval, source)


def require_comparable(first: Score, second: Score) -> None:
    """Raises UsageError unless both scores are of the same game and the same protocol."""
    if first.protocol is not second.protocol:
        raise UsageError(
            f"scores of protocols {first.protocol.value} and {second.protocol.value} cannot be "
            f"compared: evaluate both with --protocol {first.protocol.value}."
        )
    if first.game != second.game:
        raise UsageError(
            f"scores of {first.game} and {second.game} cannot be compared: raw points differ "
            "from game to game; compare human-normalised scores instead."
        )


def difference(first: Score, second: Score) -> float:
    """Mean of `first` less mean of `second`, raw points.

    Raises:
        UsageError: the scores are of different protocols or games.
    """
    require_comparable(first, second)
    return first.mean - second.mean


def beats(first: Score, second: Score) -> bool:
    """True when the mean of `first` is higher by more than the full width of either interval.

    Raises:
        UsageError: different protocols or games, or a score of one episode only.
    """
    gap = difference(first, second)
    if first.interval is None or second.interval is None:
        raise UsageError("one episode has no interval: play at least 2 with --episodes.")
    return gap > max(first.interval.width, second.interval.width, 0.0)
