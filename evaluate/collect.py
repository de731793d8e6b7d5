"""Runs below a folder, read from their files and put together: by agent, game and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.options import Protocol
from ..errors import RunFolderError, UsageError
from ..train.curves import read_curve
from ..train.runs import CONFIG, RunFolder
from ..train.session import RunRequest
from .records import FILE_NAME as EVALUATION
from .records import read_record
from .training_log import FILE_NAME as TRAINING_LOG
from .training_log import FRAMES_PER_POINT, TrainingLog, read_training_log

_MEASURED = ("precision",)  # chosen by the machine, not by the user
SHORT_CURVE_POINTS = 20


@dataclass(frozen=True)
class CollectedRun:
    """What a run folder tells.

    Attributes:
        path: of the folder.
        agent, preset, game, seed: as the run was asked for.
        trained_by: the protocol of its training.
        options: of the agent, as config.toml holds them.
        record: what evaluation.json holds; None where the run was not evaluated.
        log: the training episodes.
        frames: emulator frames of training so far.
    """

    path: Path
    agent: str
    preset: str
    game: str
    seed: int
    trained_by: Protocol
    options: Mapping[str, Any]
    record: Mapping[str, Any] | None
    log: TrainingLog
    frames: int

    @property
    def protocol(self) -> Protocol:
        """The protocol of its score; that of its training where it was not evaluated."""
        return self.trained_by if self.record is None else Protocol(self.record["protocol"])


def collect_runs(folder: Path) -> tuple[list[CollectedRun], list[str]]:
    """Every run in or below a folder, by path, and a sentence for each that cannot be read.

    Raises:
        RunFolderError: there is no such folder, or no run in it that can be read.
    """
    if not folder.is_dir():
        raise RunFolderError(f"there is no folder {folder}; 'eightbit train' writes runs/.")
    runs, notes = [], []
    for config in sorted(folder.rglob(CONFIG)):
        try:
            runs.append(read_run(config.parent))
        except RunFolderError as error:
            notes.append(f"{config.parent} is left out: {error}")
    if not runs:
        why = f" that can be read: {notes[0]}" if notes else "; 'eightbit train' makes one."
        raise RunFolderError(f"{folder} holds no run{why}")
    return runs, notes


def read_run(path: Path) -> CollectedRun:
    """Reads one run folder; raises RunFolderError when a file of it is damaged."""
    folder = RunFolder.open(path)
    request = RunRequest.from_table(folder.config["run"])
    log = TrainingLog(np.empty(0, np.int64), np.empty(0))
    if (path / TRAINING_LOG).is_file():
        log = read_training_log(path / TRAINING_LOG)
    frames = int(log.frames[-1]) if log.frames.size else 0
    if (path / "progress.csv").is_file():
        made = read_curve(path / "progress.csv").columns["frames"]
        frames = max(frames, int(made[-1]) if made.size else 0)
    record = read_record(path) if (path / EVALUATION).is_file() else None
    return CollectedRun(
        path,
        request.agent,
        request.preset,
        request.game,
        request.seed,
        request.protocol,
        folder.config["options"],
        record,
        log,
        frames,
    )


def of_one_protocol(
    runs: Sequence[CollectedRun], protocol: Protocol | None
) -> tuple[list[CollectedRun], Protocol, list[str]]:
    """The runs whose scores are of one protocol, that protocol, and what is left out.

    Raises:
        UsageError: they are of several protocols and none is chosen, or none is of the chosen one.
    """
    counts = Counter(run.protocol for run in runs)
    found = ", ".join(f"{one.value} ({_runs(number)})" for one, number in sorted(counts.items()))
    if protocol is None:
        if len(counts) > 1:
            raise UsageError(
                f"scores of several protocols do not stand in one table, and here are {found}: "
                "choose one with --protocol, or evaluate all runs by one."
            )
        return list(runs), next(iter(counts)), []
    if protocol not in counts:
        raise UsageError(
            f"no run here is of protocol {protocol.value}, only of {found}: evaluate them by it "
            "first, or choose another --protocol."
        )
    left_out = [run.path.name for run in runs if run.protocol is not protocol]
    note = f"{_runs(len(left_out))} of other protocols left out: {', '.join(left_out)}."
    kept = [run for run in runs if run.protocol is protocol]
    return kept, protocol, [note] if left_out else []


def group_runs(
    runs: Iterable[CollectedRun],
) -> tuple[dict[str, dict[str, list[CollectedRun]]], list[str]]:
    """Runs by agent and game, in the order of their seeds, and what is to be known of them.

    What differs between runs of one agent, preset and game, an option or the protocol of the
    training, makes them agents of their own and stands in their labels.

    Returns:
        Label ("dqn fast", "dqn fast, n_step=1") -> game -> runs, and the notes.
    """
    families: dict[tuple[str, str], list[CollectedRun]] = {}
    for run in runs:
        families.setdefault((run.agent, run.preset), []).append(run)
    groups: dict[str, dict[str, list[CollectedRun]]] = {}
    for (agent, preset), family in sorted(families.items()):
        differing = _differing(family)
        for run in family:
            told = _settings(run)
            label = ", ".join([f"{agent} {preset}", *(f"{k}={told.get(k)}" for k in differing)])
            groups.setdefault(label, {}).setdefault(run.game, []).append(run)
    notes = []
    for label, games in groups.items():
        for game, some in games.items():
            games[game], again = _one_of_each_seed(some)
            notes += again
            longest, shortest = max(r.frames for r in some), min(r.frames for r in some)
            if longest > 1.05 * shortest:
                notes.append(
                    f"the runs of {game} by {label} are of {shortest:,} to {longest:,} frames of "
                    "training."
                )
    return {label: dict(sorted(games.items())) for label, games in sorted(groups.items())}, notes


def _settings(run: CollectedRun) -> dict[str, Any]:
    told = {name: value for name, value in run.options.items() if name not in _MEASURED}
    return {**told, "trained_by": run.trained_by.value}


def _differing(family: Sequence[CollectedRun]) -> list[str]:
    """Settings that differ between runs of one game; between games a preset may set its own."""
    names: dict[str, None] = {}
    for game in {run.game for run in family}:
        tables = [_settings(run) for run in family if run.game == game]
        for name in dict.fromkeys(name for table in tables for name in table):
            if any(table.get(name) != tables[0].get(name) for table in tables):
                names[name] = None
    return sorted(names)


def _one_of_each_seed(runs: Sequence[CollectedRun]) -> tuple[list[CollectedRun], list[str]]:
    """Two runs of one seed are no two samples: the one that was trained for longer counts."""
    best: dict[int, CollectedRun] = {}
    notes = []
    for run in runs:
        other = best.get(run.seed)
        if other is None:
            best[run.seed] = run
            continue
        kept, left = (run, other) if run.frames > other.frames else (other, run)
        best[run.seed] = kept
        notes.append(f"{left.path} has the seed of {kept.path}, which was trained no shorter.")
    return [best[seed] for seed in sorted(best)], notes


# ----------------------------------------------------------------------------------- curves


@dataclass(frozen=True)
class SeedCurve:
    """Training return over frames, over the seeds of one agent in one game.

    Attributes:
        frames: (n,) int64, emulator frames at the end of each interval.
        mean: (n,) float64, over the runs that have a point there; raw game points.
        std: (n,) float64, sample standard deviation over these runs; NaN for one run.
        runs: (n,) int64, how many they are.
    """

    frames: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    runs: np.ndarray


def point_width(runs: Iterable[CollectedRun]) -> int:
    """Frames that one point of a curve is of: a million, as published; less for short runs."""
    longest = max((run.frames for run in runs), default=0)
    if longest >= FRAMES_PER_POINT:
        return FRAMES_PER_POINT
    return max(1, longest // SHORT_CURVE_POINTS)


def seed_curve(runs: Iterable[CollectedRun], width: int) -> SeedCurve:
    """The mean return of the episodes that ended in each whole interval of `width` frames."""
    points: dict[int, list[float]] = {}
    for run in runs:
        # An episode that ends with the last frame of an interval is of that interval.
        intervals = (run.log.frames - 1) // width
        for interval in np.unique(intervals):
            end = int(interval + 1) * width
            if end <= run.frames:  # the last one may not be whole
                mean = float(run.log.returns[intervals == interval].mean())
                points.setdefault(end, []).append(mean)
    frames = sorted(points)
    return SeedCurve(
        np.array(frames, dtype=np.int64),
        np.array([np.mean(points[end]) for end in frames]),
        np.array(
            [np.std(points[end], ddof=1) if len(points[end]) > 1 else np.nan for end in frames]
        ),
        np.array([len(points[end]) for end in frames], dtype=np.int64),
    )


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
