"""Training a task: consumes the learner's steps and sees to logs, scores, checkpoints, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..tasks import Outcome
from .checkpoints import Checkpoint, write_atomically
from .reporting import Reporter, duration
from .runs import RunFolder, naming_last_checkpoint
from .stopping import StopSignal
from .supervised import Learner, TrainStep
from .task_log import TaskLog, TaskProgress
from .task_models import save_model

LOG_SECONDS = 5.0
SAMPLES = 8  # of each validation
SLOW_SHARE = 1 / 20  # of the time of a run that validations, and as much that checkpoints may take


@dataclass(frozen=True)
class TaskSettings:
    """How a task's run is conducted.

    Attributes:
        minutes: of wall time that the schedule follows, over all resumes; None: it follows epochs.
        validate_minutes: between validations; more where one takes long.
        checkpoint_minutes: between checkpoints; more where writing one takes long.
        options: of the task, for its model file.
    """

    minutes: float | None
    validate_minutes: float
    checkpoint_minutes: float
    options: Any


@dataclass(frozen=True)
class TaskResult:
    """How a run ended.

    Attributes:
        reason: "done", "stopped" (by a signal) or "early" (validations without a better score).
        steps: optimizer steps in all.
        minutes: of training in all.
        validation: the last scores by metric; empty without a validation split.
        signal: the number of the signal that stopped it.
    """

    reason: str
    steps: int
    minutes: float
    validation: Mapping[str, float]
    signal: int | None = None


def train_task(
    learner: Learner,
    folder: RunFolder,
    settings: TaskSettings,
    *,
    resume_from: Checkpoint | None = None,
    reporter: Reporter | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TaskResult:
    """Trains until epochs or minutes are over or a signal asks to stop; always saves.

    The caller holds the folder's lock, and has given the learner the state of `resume_from`.

    Args:
        learner: what learns.
        folder: where everything is written.
        settings: how far, and what is written when.
        resume_from: the checkpoint that the learner continues from.
        reporter: prints; standard output by default.
        clock: seconds that never go back.

    Raises:
        TrainingError: the loss is not a number, or the disk is full; names the last checkpoint.
    """
    run = _TaskRun(learner, folder, settings, reporter or Reporter(), clock)
    if resume_from is not None:
        run.restore(resume_from)
    try:
        with naming_last_checkpoint(folder), StopSignal(run.reporter.say).listening() as stop:
            run.open_log()
            reason = run.go(stop)
            run.finish(reason)
            return TaskResult(reason, learner.step, run.minutes, run.scores, stop.number)
    finally:
        run.reporter.close()
        with suppress(OSError):  # all was flushed with the last checkpoint, or the disk is full
            run.close_log()


def whole_values(outcome: Outcome) -> dict[str, float]:
    """The metrics over all units, each once."""
    everything = np.arange(outcome.units)
    return {name: float(value(everything)) for name, value in outcome.values.items()}


class _Tally:
    """Sums since the last report."""

    def __init__(self, since: float, step: int):
        self.since, self.first_step = since, step
        self.steps = 0
        self.waited = 0.0
        self.losses: dict[str, Any] = {}
        self.norms: Any = 0.0

    def add(self, step: TrainStep) -> None:
        self.steps += 1
        self.waited += step.waited
        for name, value in step.losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + value
        if step.gradient_norm is not None:
            self.norms = self.norms + step.gradient_norm

    def mean_losses(self) -> dict[str, float]:
        return {name: float(total) / self.steps for name, total in self.losses.items()}


class _TaskRun:
    """One process's part of a run."""

    def __init__(
        self,
        learner: Learner,
        folder: RunFolder,
        settings: TaskSettings,
        reporter: Reporter,
        clock: Callable[[], float],
    ):
        self.learner, self.folder, self.settings = learner, folder, settings
        self.reporter, self.clock = reporter, clock
        self.task, self.data, self.learning = learner.task, learner.data, learner.learning
        self.scores: dict[str, float] = {}
        self.best: float | None = None
        self.worse = 0  # validations since the best
        self.log: TaskLog | None = None
        per_epoch = self.data.examples / (self.learning.batch_size * learner.fabric.world_size)
        self._steps_per_epoch = max(per_epoch, 1e-9)
        self._minutes_before = 0.0
        self._started = clock()
        self._first_share = 0.0
        self._tally = _Tally(self._started, learner.step)
        self._last: TrainStep | None = None
        self._saved_at = self._validated_at = self._started
        self._saved_step: int | None = None
        self._save_seconds = self._validation_seconds = 0.0

    @property
    def minutes(self) -> float:
        return self._minutes_before + (self.clock() - self._started) / 60

    def share(self, step: int) -> float:
        """The share of training that is over; the same in all processes."""
        if self.settings.minutes is None:
            return step / max(self.learning.epochs * self._steps_per_epoch, 1)
        share = self.minutes / self.settings.minutes
        fabric = self.learner.fabric
        return share if fabric.world_size == 1 else fabric.broadcast(share)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes up the run's own figures where the checkpoint left them."""
        state = checkpoint.load_state()["run"]
        self._minutes_before = float(state["minutes"])
        self.scores, self.worse = dict(state["scores"]), int(state["worse"])
        self._saved_step = checkpoint.step
        self._first_share = self.share(self.learner.step)
        self.best = state["best"]

    def open_log(self) -> None:
        if self.learner.fabric.is_global_zero:
            self.log = TaskLog(self.folder.path, self.task.metrics, self.learner.step)

    def close_log(self) -> None:
        if self.log is not None:
            self.log.close()

    def go(self, stop: StopSignal) -> str:
        """Learns until there is a reason to end, which it returns."""
        for step in self.learner.steps(self.share):
            self._last = step
            self._tally.add(step)
            now = self.clock()
            if self._tally.steps and now - self._tally.since >= LOG_SECONDS:
                self._report(now)
            if self._agreed(now - self._validated_at >= self._validation_pause()):
                self._validate()
                if self._agreed(0 < self.learning.patience <= self.worse):
                    return "early"
            if self._agreed(now - self._saved_at >= self._checkpoint_pause()):
                self.save()
            if self._agreed(stop.number is not None):
                return "stopped"
        return "done"

    def finish(self, reason: str) -> None:
        """Scores and saves once more, and says how it went."""
        if reason == "done":
            self._validate()
        self.save()
        self.reporter.close()
        path, spent = self.folder.path, duration(self.minutes * 60)
        if reason == "stopped":
            self.reporter.say(f"stopped at step {self.learner.step:,} after {spent}; saved.")
            self.reporter.say(f"go on with: eightbit train --resume {path}")
            return
        if self.learning.patience and self.folder.checkpoints.best() is not None:
            self._keep(self.folder.checkpoints.find("best"))
            self.reporter.say("the model kept is the one with the best validation score.")
        self.reporter.say(f"trained {self.learner.step:,} steps in {spent}; saved to {path}")

    def save(self) -> None:
        """Writes a checkpoint, and the newest weights beside it, unless it stands already."""
        if self.learner.step == self._saved_step or not self.learner.fabric.is_global_zero:
            return
        if self._tally.steps:
            self._report(self.clock())
        started = self.clock()
        self._keep(self._checkpoint(best=False))
        self._saved_step = self.learner.step
        self._saved_at = self.clock()
        self._save_seconds = self._saved_at - started

    def _agreed(self, decision: bool) -> bool:
        """The first process's decision, in all of them."""
        fabric = self.learner.fabric
        return decision if fabric.world_size == 1 else bool(fabric.broadcast(decision))

    def _keep(self, checkpoint: Checkpoint) -> None:
        weights = checkpoint.model.read_bytes()
        write_atomically(self.folder.model, lambda file: file.write(weights))

    def _checkpoint(self, *, best: bool) -> Checkpoint:
        score = self.scores.get(self.task.metrics[0].name)
        return self.folder.checkpoints.save(
            self.learner.step,
            {"learner": self.learner.get_state(), "run": self._state()},
            replay=None,
            save_model=self._save_model,
            best=best,
            metadata={
                "step": str(self.learner.step),
                "minutes": f"{self.minutes:.2f}",
                "score": "nan" if score is None else repr(score),
            },
        )

    def _save_model(self, path: Path) -> None:
        options = self.settings.options
        save_model(path, self.task, self.learner.judged, options, self.data.facts)

    def _state(self) -> dict[str, Any]:
        return {
            "minutes": self.minutes,
            "scores": self.scores,
            "best": self.best,
            "worse": self.worse,
        }

    def _checkpoint_pause(self) -> float:
        return max(self.settings.checkpoint_minutes * 60, self._save_seconds / SLOW_SHARE)

    def _validation_pause(self) -> float:
        return max(self.settings.validate_minutes * 60, self._validation_seconds / SLOW_SHARE)

    @torch.no_grad()
    def _validate(self) -> None:
        if "validation" not in self.data.splits or not self.learner.fabric.is_global_zero:
            self._validated_at = self.clock()
            return
        started = self.clock()
        judged = self.learner.judged
        judged.eval()
        with self.learner.autocast():
            outcome = self.task.measure(judged, self.data, "validation", "none")
            samples = self.task.samples(judged, self.data, SAMPLES)
        self.scores = whole_values(outcome)
        if self.log is not None:
            self.log.validation(self.scores, samples, self.minutes, self.learner.step)
        first = self.task.metrics[0]
        score = self.scores[first.name] if first.higher_is_better else -self.scores[first.name]
        if self.best is None or score > self.best:
            self.best, self.worse = score, 0
            if self.learning.patience:
                self._checkpoint(best=True)
        else:
            self.worse += 1
        self._validated_at = self.clock()
        self._validation_seconds = self._validated_at - started
        told = ", ".join(f"{name} {value:.4g}" for name, value in self.scores.items())
        self.reporter.say(f"step {self.learner.step:,}: validation {told}")

    def _report(self, now: float) -> None:
        assert self._last is not None
        tally, batch = self._tally, self.learning.batch_size * self.learner.fabric.world_size
        elapsed = max(now - tally.since, 1e-9)
        norm = None if not self.learning.clip_norm else float(tally.norms) / tally.steps
        progress = TaskProgress(
            minutes=self.minutes,
            step=self.learner.step,
            epoch=self.learner.step / self._steps_per_epoch,
            share=self._last.progress,
            losses=tally.mean_losses(),
            learning_rate=self._last.learning_rate,
            gradient_norm=norm,
            examples_per_second=tally.steps * batch / elapsed,
            waiting=tally.waited / elapsed,
        )
        if self.log is not None:
            self.log.progress(progress)
            first = self.task.metrics[0].name
            score = f"{first} {self.scores[first]:.4g}" if first in self.scores else ""
            line = progress.line("examples", score, self._seconds_left(progress.share, now))
            self.reporter.live(line, now)
        self._tally = _Tally(now, self.learner.step)

    def _seconds_left(self, share: float, now: float) -> float | None:
        if self.settings.minutes is not None:
            return max((self.settings.minutes - self.minutes) * 60, 0.0)
        made = share - self._first_share
        return (now - self._started) * (1 - share) / made if made > 0 else None
