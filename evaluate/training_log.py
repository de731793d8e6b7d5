"""Scores that a protocol takes from the training log instead of from episodes of its own."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..envs.options import PROTOCOLS, Protocol
from ..errors import RunFolderError, UsageError
from .scores import Score, Source, make_score

FILE_NAME = "episodes.csv"
LAST_EPISODES = 100  # Machado 2018 reports the mean of the last 100 training episodes
FRAMES_PER_POINT = 1_000_000  # Dopamine reports one mean per million frames


@dataclass(frozen=True)
class TrainingLog:
    """Finished training episodes in the order in which they ended.

    Attributes:
        frames: (n,) int64, emulator frames of training, over all environments, at the end of
            each episode; never decreasing.
        returns: (n,) float64, raw return of each episode.
    """

    frames: np.ndarray
    returns: np.ndarray


def read_training_log(path: Path) -> TrainingLog:
    """Reads a CSV file whose header names the columns `frames` and `return` (others may follow).

    Raises:
        RunFolderError: the file is missing, lacks a column, or holds a value that is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(line for line in file if not line.startswith("#"))
            if not {"frames", "return"} <= set(rows.fieldnames or ()):
                raise RunFolderError(f"{path} lacks the columns frames and return.")
            pairs = [(int(row["frames"]), float(row["return"])) for row in rows]
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read ({error.strerror}): a score from training needs the log "
            "that 'eightbit train' writes."
        ) from error
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{path} holds a row that is not two numbers ({error}).") from error
    frames = np.array([frame for frame, _ in pairs], dtype=np.int64)
    returns = np.array([value for _, value in pairs], dtype=np.float64)
    return TrainingLog(frames, returns)


def returns_per_million(log: TrainingLog) -> list[tuple[int, float]]:
    """Dopamine's curve: (frames at the end of the million, mean return of episodes ended in it).

    A million in which no episode ended has no point.
    """
    points = []
    buckets = log.frames // FRAMES_PER_POINT
    for bucket in np.unique(buckets):
        mean = float(log.returns[buckets == bucket].mean())
        points.append((int(bucket + 1) * FRAMES_PER_POINT, mean))
    return points


def training_score(
    game: str, protocol: Protocol, log: TrainingLog, generator: np.random.Generator
) -> Score:
    """The score that `protocol` takes from the training log.

    `machado2018`: the last 100 training episodes. `dopamine`: the episodes that ended in the
    last million frames.

    Raises:
        UsageError: the protocol plays evaluation episodes instead, or no episode has ended yet.
    """
    if not PROTOCOLS[protocol].score_from_training:
        raise UsageError(
            f"protocol {protocol.value} plays evaluation episodes; its score is not taken "
            "from the training log."
        )
    if log.returns.size == 0:
        raise UsageError("no training episode has ended yet: train longer, then evaluate.")
    if protocol is Protocol.DOPAMINE:
        returns = log.returns[log.frames > log.frames[-1] - FRAMES_PER_POINT]
    else:
        returns = log.returns[-LAST_EPISODES:]
    return make_score(game, protocol, returns, generator, source=Source.TRAINING_LOG)
