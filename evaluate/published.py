"""Published learning curves: what the training of well-known agents looked like, game by game."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np

FILE_NAME = "dopamine_curves.csv"
SOURCE = (
    "published with Dopamine (github.com/google/dopamine, baselines/atari/data, Apache License "
    "2.0): training return, sticky actions, mean and standard deviation over 5 runs"
)


@dataclass(frozen=True)
class PublishedCurve:
    """The training return of one agent in one game.

    Attributes:
        agent: as its authors call it.
        runs: seeds that mean and spread are of.
        millions: (n,) int64; point m is of the games that ended in the m-th million of frames.
        mean: (n,) float64, raw game points.
        std: (n,) float64, sample standard deviation over the runs.
    """

    agent: str
    runs: int
    millions: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def at(self, million: int) -> tuple[float, float]:
        """Mean and standard deviation in that million of frames.

        Raises:
            KeyError: the curve does not go so far.
        """
        (found,) = np.nonzero(self.millions == million)
        if not found.size:
            raise KeyError(million)
        return float(self.mean[found[0]]), float(self.std[found[0]])


def published_curves(game: str) -> tuple[PublishedCurve, ...]:
    """The published curves of a game (canonical name) under the protocol `dopamine`; maybe none."""
    return _all_curves().get(game, ())


@functools.cache
def _all_curves() -> dict[str, tuple[PublishedCurve, ...]]:
    text = resources.files(__package__).joinpath(FILE_NAME).read_text(encoding="utf-8")
    rows = list(csv.reader(line for line in text.splitlines() if not line.startswith("#")))
    millions = np.array(rows[0][4:], dtype=np.int64)
    figures = {
        (game, agent, figure): np.array(values, dtype=np.float64)
        for game, agent, _, figure, *values in rows[1:]
    }
    curves: dict[str, tuple[PublishedCurve, ...]] = {}
    for game, agent, runs, figure, *_ in rows[1:]:
        if figure == "mean":
            mean, std = figures[game, agent, "mean"], figures[game, agent, "std"]
            curve = PublishedCurve(agent, int(runs), millions, mean, std)
            curves[game] = (*curves.get(game, ()), curve)
    return curves
