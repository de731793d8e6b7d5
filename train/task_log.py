"""What a task's run writes down: progress as CSV, TensorBoard events with samples, curves."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..tasks import Metric, Sample
from .checkpoints import write_atomically
from .curves import FILE_NAME
from .events import EventFile
from .logs import CsvLog
from .reporting import duration

STEP = "step"


@dataclass(frozen=True)
class TaskProgress:
    """Where a task's run stands.

    Attributes:
        minutes: of training so far, over all resumes.
        step: optimizer steps.
        epoch: passes over the training data.
        share: of training that is over, 0 to 1.
        losses: means since the last report.
        learning_rate: of the first parameter group.
        gradient_norm: mean before clipping; None where nothing is clipped.
        examples_per_second: since the last report, over all devices.
        waiting: share of the time in which the learner stood still for its batch.
    """

    minutes: float
    step: int
    epoch: float
    share: float
    losses: Mapping[str, float]
    learning_rate: float
    gradient_norm: float | None
    examples_per_second: float
    waiting: float

    def line(self, unit: str, last_score: str, seconds_left: float | None) -> str:
        """One line for a terminal."""
        parts = (
            f"epoch {self.epoch:.2f}",
            f"step {self.step:,}",
            f"{self.examples_per_second:,.0f} {unit}/s",
            f"loss {self.losses.get('loss', float('nan')):.4f}",
            last_score,
            f"{duration(seconds_left)} left",
        )
        return "  ".join(part for part in parts if part)


class TaskLog:
    """Writes progress.csv and TensorBoard events of one run; x is optimizer steps everywhere.

    Args:
        folder: the run folder.
        metrics: of the task, columns of the file.
        first_step: steps made already; later entries of a killed run are dropped.
    """

    def __init__(self, folder: Path, metrics: Sequence[Metric], first_step: int):
        columns = ("minutes", STEP, "epoch", "loss", "learning_rate", "examples_per_second")
        names = tuple(f"validation_{metric.name}" for metric in metrics)
        self._csv = CsvLog(
            folder / "progress.csv", (*columns, "waiting", *names), first_step, step_column=STEP
        )
        self._events = EventFile(folder / "events", first_step)

    def progress(self, now: TaskProgress) -> None:
        """Writes down where the run stands."""
        self._csv.add({**vars(now), "loss": now.losses.get("loss")})
        for name, value in now.losses.items():
            self._events.scalar(f"train/{name}", value, now.step)
        self._events.scalar("train/learning_rate", now.learning_rate, now.step)
        if now.gradient_norm is not None:
            self._events.scalar("train/gradient_norm", now.gradient_norm, now.step)
        self._events.scalar("time/examples_per_second", now.examples_per_second, now.step)
        self._events.scalar("time/waiting_for_data", now.waiting, now.step)
        self._events.scalar("time/epoch", now.epoch, now.step)
        self.flush()

    def validation(
        self, values: Mapping[str, float], samples: Sequence[Sample], minutes: float, step: int
    ) -> None:
        """Writes down scores on the validation split, and samples of it."""
        row: dict[str, Any] = {f"validation_{name}": value for name, value in values.items()}
        self._csv.add({**row, "minutes": minutes, STEP: step})
        for name, value in values.items():
            self._events.scalar(f"validation/{name}", value, step)
        for sample in samples:
            tag = f"samples/{sample.name}"
            if sample.picture is not None:
                self._events.picture(tag, sample.picture, step)
            if sample.text is not None:
                self._events.text(tag, sample.text, step)
            if sample.sound is not None:
                self._events.sound(tag, sample.sound, sample.rate, step)
        self.flush()

    def flush(self) -> None:
        """Hands all to the system, so that killing this process loses none of it."""
        self._csv.flush()
        self._events.flush()

    def close(self) -> None:
        self._csv.close()
        self._events.close()


def draw_task_run(folder: Path, title: str) -> Path | None:
    """Draws loss, validation scores and learning rate over the minutes to `curves.png`.

    Returns None where there is nothing to draw yet.
    """
    from matplotlib.figure import Figure

    with open(folder / "progress.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    named = [name for name in (rows[0] if rows else {}) if re.match(r"loss|valid|learn", name)]
    shown = {}
    for name in named:
        points = [(float(row["minutes"]), float(row[name])) for row in rows if row[name]]
        if points:
            shown[name] = points
    if not shown:
        return None
    figure = Figure(figsize=(4 * len(shown), 3), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (name, points) in zip(axes, shown.items(), strict=True):
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "")
        axis.set(title=name.replace("_", " "), xlabel="minutes")
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=9)
    path = folder / FILE_NAME
    write_atomically(path, lambda target: figure.savefig(target, format="png", dpi=100))
    return path
