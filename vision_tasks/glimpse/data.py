"""Digits to look at, or games to play, as training batches and as splits to score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.digits import DigitSplit, draw, read_digits
from ...datasets.orders import EpochOrder
from ...datasets.splits import held_out_by_class
from ...errors import UsageError
from ...tasks import Batch, TaskData
from .cost import of_glimpses
from .model import ACTIONS
from .options import GlimpseOptions

CATCH = "catch"
GAMES = 20_000
"""Games in what counts as an epoch of catch."""
SCORED_GAMES = {"validation": 240, "test": 1200}
SCORED_SEED = 1
"""Of the drawings that are scored: the same whatever the run's seed is."""
# Numbers of the drawings and games that are scored; those of training are counted from 0.
_FIRST_SCORED = {"train": 0, "validation": 1 << 29, "test": 1 << 30}
_SEEDS = 1 << 29  # of games to train on


@dataclass(frozen=True)
class Pictures:
    """Drawn digits of a split.

    Attributes:
        pictures: uint8 (N, 1, S, S).
        labels: int64 (N,).
        names: of the digits.
    """

    pictures: Tensor
    labels: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Games:
    """Games of a split.

    Attributes:
        seeds: int64 (N,).
    """

    seeds: np.ndarray


def build_data(options: GlimpseOptions, data: str, seed: int) -> TaskData:
    """Reads digits and draws those that are scored; or numbers the games of catch.

    Raises:
        DataError: the data are missing or damaged.
        MemoryBudgetError: they do not fit the free memory.
        UnknownNameError: no such data set.
        UsageError: catch with other data, or the other way round.
    """
    if (options.task == "catch") != (data == CATCH):
        raise UsageError(
            f"--task {options.task} does not go with the data {data}; catch is both a task and "
            "its data."
        )
    if options.task == "catch":
        return _build_games(options, seed)
    read = read_digits(data, seed)
    digits = dict(read.splits)
    if "validation" not in digits and options.validation:
        train = digits["train"]
        held = held_out_by_class(train.labels.numpy(), options.validation, seed)
        digits["validation"] = train.take(np.flatnonzero(held))
        digits["train"] = train.take(np.flatnonzero(~held))
    train = digits["train"]
    facts: dict[str, Any] = {
        **read.facts,
        "classes": list(read.classes),
        "training_counts": torch.bincount(train.labels, minlength=len(read.classes)).tolist(),
        "pictures": {name: len(one.labels) for name, one in digits.items()},
        "multiply_adds": options.multiply_adds or of_glimpses(options, len(read.classes)),
    }
    splits = {name: _drawn(one, name, options) for name, one in digits.items()}
    return TaskData(facts, len(train.labels), Batches(train, options, seed), splits)


def _drawn(digits: DigitSplit, name: str, options: GlimpseOptions) -> Pictures:
    """Each digit once, as it is."""
    chosen = np.arange(len(digits.labels))
    numbers = chosen + _FIRST_SCORED[name]
    pictures = draw(digits, chosen, numbers, SCORED_SEED, options.canvas())
    return Pictures(pictures, digits.labels, digits.names)


def _build_games(options: GlimpseOptions, seed: int) -> TaskData:
    facts = {
        "source": "drawn by eightbit.envs.catch",
        "licence": "MIT",
        "split": "by the games' seeds",
        "answers": ["stay", "left", "right"],
        "multiply_adds": of_glimpses(options, ACTIONS),
    }
    splits = {
        name: Games(_FIRST_SCORED[name] + np.arange(count)) for name, count in SCORED_GAMES.items()
    }

    def batch(step: int, size: int) -> Batch:
        numbers = (seed << 20) + step * size + np.arange(size)
        return {"games": torch.from_numpy(numbers % _SEEDS)}

    return TaskData(facts, GAMES, batch, splits)


class Batches:
    """Training batches as a pure function of the step; see `TaskData.batch`.

    Called with (step, batch size) it returns "pictures" uint8 (B, 1, S, S), each drawn anew, and
    "labels" int64 (B,).
    """

    def __init__(self, train: DigitSplit, options: GlimpseOptions, seed: int):
        self.train, self.options, self.seed = train, options, seed
        self._order = EpochOrder(len(train.labels), seed, 3)

    def __call__(self, step: int, size: int) -> Batch:
        numbers = step * size + np.arange(size)
        chosen = self._order(numbers)
        options = self.options
        pictures = draw(
            self.train, chosen, numbers, self.seed + 2, options.canvas(), options.distortion()
        )
        return {"pictures": pictures, "labels": self.train.labels[torch.from_numpy(chosen)]}
