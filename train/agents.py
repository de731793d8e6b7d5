"""Training an agent: consumes its steps and sees to logs, evaluation, checkpoints and stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..agents.loop import LoopStep
from ..envs.transitions import EnvStepper
from .checkpoints import Checkpoint, DamagedError, read_header, write_atomically
from .logs import EpisodeWindow, LogStyle, Progress, RunLog
from .reporting import Reporter, duration, short
from .runs import RunFolder, naming_last_checkpoint
from .stopping import StopRequested, StopSignal

LOG_SECONDS = 5.0
SAVING_SHARE = 1 / 30  # of the time of a run that writing checkpoints may take
BEST_NEEDS = 20  # games that a mean training return is judged by at least

Evaluate = Callable[[Any], float]
"""Plays the agent in environments of its own and returns its mean raw return."""


class TrainableAgent(Protocol):
    """What `train_agent` asks of an agent."""

    num_timesteps: int
    num_updates: int

    @property
    def stepper(self) -> EnvStepper: ...

    def steps(self, total_timesteps: int) -> Iterator[LoopStep]: ...

    def get_state(self, replay: bool = True) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...

    def save(self, path: str | Path) -> None: ...


@dataclass(frozen=True)
class TrainSettings:
    """How a run is conducted; nothing here changes what the agent learns.

    Attributes:
        total_steps: agent steps to reach, over all environments and resumes.
        minutes: of wall time to stop after, over all resumes; None for no limit.
        checkpoint_minutes: between checkpoints; more where writing one takes long.
        save_replay: keep the replay memory in each checkpoint.
        eval_every: agent steps between evaluations; None for none.
        log_style: whose TensorBoard tags.
        learning_rate: as it is logged.
    """

    total_steps: int
    minutes: float | None = None
    checkpoint_minutes: float = 5.0
    save_replay: bool = True
    eval_every: int | None = None
    log_style: LogStyle = "sb3"
    learning_rate: float = 0.0


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        reason: "done", "time" (the minutes are over) or "stopped" (by a signal).
        agent_steps: made in all.
        minutes: of training in all.
        mean_return: of the last 100 training games; None before the first one ends.
        signal: the number of the signal that stopped it.
    """

    reason: str
    agent_steps: int
    minutes: float
    mean_return: float | None
    signal: int | None = None


def train_agent(
    agent: TrainableAgent,
    folder: RunFolder,
    settings: TrainSettings,
    *,
    evaluate: Evaluate | None = None,
    resume_from: Checkpoint | None = None,
    reporter: Reporter | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainResult:
    """Trains until the steps or minutes are reached or a signal asks to stop; always saves.

    The caller holds the folder's lock, and has given the agent the state of `resume_from`.

    Args:
        agent: a DQN, or anything with the same methods.
        folder: where everything is written.
        settings: how far, and what is written when.
        evaluate: plays the agent elsewhere; needed for `settings.eval_every`.
        resume_from: the checkpoint that the agent continues from.
        reporter: prints; standard output by default.
        clock: seconds that never go back.

    Raises:
        TrainingError: the loss is not a number, or the disk is full; names the last checkpoint.
    """
    reporter = reporter or Reporter()
    run = _Run(agent, folder, settings, evaluate, reporter, clock)
    if resume_from is not None:
        run.restore(resume_from)
    try:
        with naming_last_checkpoint(folder), StopSignal(reporter.say).listening() as stop:
            run.open_log()
            reason = run.go(stop)
            run.save()
            reporter.close()
            _say_how_it_ended(run, reason)
            mean = run.window.mean_return
            return TrainResult(reason, agent.num_timesteps, run.minutes, mean, stop.number)
    finally:
        reporter.close()
        with suppress(OSError):  # all was flushed with the last checkpoint, or the disk is full
            run.close_log()


@dataclass
class _Tally:
    """Sums since the last report."""

    since: float
    steps: int
    losses: dict[str, float] = field(default_factory=dict)
    updates: int = 0

    def add(self, losses: dict[str, float]) -> None:
        self.updates += 1
        for name, value in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + value

    def mean(self, name: str) -> float | None:
        return self.losses[name] / self.updates if name in self.losses else None


class _Run:
    """One process's part of a run."""

    def __init__(
        self,
        agent: TrainableAgent,
        folder: RunFolder,
        settings: TrainSettings,
        evaluate: Evaluate | None,
        reporter: Reporter,
        clock: Callable[[], float],
    ):
        self.agent, self.folder, self.settings = agent, folder, settings
        self.evaluate, self.reporter, self.clock = evaluate, reporter, clock
        self.window = EpisodeWindow()
        self.best: float | None = None
        self.log: RunLog | None = None
        self._minutes_before = 0.0
        self._started = clock()
        self._first_step = agent.num_timesteps
        self._tally = _Tally(self._started, agent.num_timesteps)
        self._epsilon = 0.0
        self._saved_at = self._started
        self._saved_step: int | None = None
        self._save_seconds = 0.0

    @property
    def minutes(self) -> float:
        return self._minutes_before + (self.clock() - self._started) / 60

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes up the run's own figures where the checkpoint left them."""
        state = checkpoint.load_state()["run"]
        self.window.set_state(state["episodes"])
        self._minutes_before = float(state["minutes"])
        self._saved_step = checkpoint.step
        best = self.folder.checkpoints.best()
        if best is not None:
            try:
                self.best = float(read_header(best.state)["score"])
            except DamagedError as error:
                self.reporter.say(f"{error} Looking for another best one.")
                self.folder.checkpoints.set_aside(best)

    def open_log(self) -> None:
        self.log = RunLog(
            self.folder.path,
            self.settings.log_style,
            self.agent.num_timesteps,
            self.agent.stepper.frames_per_step,
        )

    def close_log(self) -> None:
        if self.log is not None:
            self.log.close()

    def go(self, stop: StopSignal) -> str:
        """Learns until there is a reason to end, which it returns."""
        every = self.settings.eval_every if self.evaluate is not None else None
        for step in self.agent.steps(self.settings.total_steps):
            self._note(step)
            now = self.clock()
            if now - self._tally.since >= LOG_SECONDS:
                self._report(now)
            made = len(step.record.rewards)
            if every and step.num_timesteps // every > (step.num_timesteps - made) // every:
                self._evaluate(stop)
            if now - self._saved_at >= self._checkpoint_seconds():
                self.save()
            if stop.number is not None:
                return "stopped"
            if self.settings.minutes is not None and self.minutes >= self.settings.minutes:
                return "time"
        return "done"

    def save(self) -> None:
        """Writes a checkpoint, and the newest weights beside it, unless it stands already."""
        if self.agent.num_timesteps == self._saved_step:
            return
        if self.log is not None and self.agent.num_timesteps > self._tally.steps:
            self._report(self.clock())
        started = self.clock()
        step = self.agent.num_timesteps
        state = self.agent.get_state(replay=self.settings.save_replay)
        replay = state.pop("replay", None)
        saved = self.folder.checkpoints.save(
            step,
            {"agent": state, "run": self._state()},
            replay=replay,
            save_model=self.agent.save,
            metadata=self._summary(self.window.mean_return),
        )
        weights = saved.model.read_bytes()
        write_atomically(self.folder.model, lambda file: file.write(weights))
        if self.settings.eval_every is None and len(self.window.returns) >= BEST_NEEDS:
            assert self.window.mean_return is not None
            self._save_if_best(self.window.mean_return)
        self._saved_step = step
        self._saved_at = self.clock()
        self._save_seconds = self._saved_at - started

    def _checkpoint_seconds(self) -> float:
        return max(self.settings.checkpoint_minutes * 60, self._save_seconds / SAVING_SHARE)

    def _note(self, step: LoopStep) -> None:
        self._epsilon = step.epsilon
        if step.losses is not None:
            self._tally.add(step.losses)
        for episode in step.record.episodes:
            self.window.add(episode)
            if self.log is not None:
                self.log.episode(episode, step.num_timesteps, self.minutes)

    def _progress(self, now: float) -> Progress:
        steps = self.agent.num_timesteps
        return Progress(
            minutes=self.minutes,
            agent_steps=steps,
            frames=steps * self.agent.stepper.frames_per_step,
            episodes=self.window.count,
            mean_return=self.window.mean_return,
            mean_length=self.window.mean_length,
            loss=self._tally.mean("loss"),
            q_mean=self._tally.mean("q_mean"),
            epsilon=self._epsilon,
            updates=self.agent.num_updates,
            fps=(steps - self._tally.steps) / max(now - self._tally.since, 1e-9),
            learning_rate=self.settings.learning_rate,
        )

    def _report(self, now: float) -> None:
        progress = self._progress(now)
        if self.log is not None:
            self.log.progress(progress)
        self.reporter.progress(progress, self._seconds_left(now), now)
        self._tally = _Tally(now, self.agent.num_timesteps)

    def _seconds_left(self, now: float) -> float | None:
        steps, limits = self.agent.num_timesteps - self._first_step, []
        if steps and self.settings.total_steps < UNLIMITED:
            ahead = self.settings.total_steps - self.agent.num_timesteps
            limits.append(ahead * (now - self._started) / steps)
        if self.settings.minutes is not None:
            limits.append((self.settings.minutes - self.minutes) * 60)
        return max(min(limits), 0.0) if limits else None

    def _evaluate(self, stop: StopSignal) -> None:
        assert self.evaluate is not None
        try:
            with stop.interruptible():
                score = self.evaluate(self.agent)
        except StopRequested:
            return
        if self.log is not None:
            self.log.evaluation(score, self._progress(self.clock()))
        self.reporter.say(f"step {self.agent.num_timesteps:,}: evaluated at {short(score)}")
        self._save_if_best(score)

    def _save_if_best(self, score: float) -> None:
        if self.best is not None and score <= self.best:
            return
        self.best = score
        state = self.agent.get_state(replay=False)
        state.pop("replay", None)
        self.folder.checkpoints.save(
            self.agent.num_timesteps,
            {"agent": state, "run": self._state()},
            replay=None,
            save_model=self.agent.save,
            best=True,
            metadata=self._summary(score),
        )

    def _state(self) -> dict[str, Any]:
        return {"minutes": self.minutes, "episodes": self.window.get_state()}

    def _summary(self, score: float | None) -> dict[str, str]:
        steps = self.agent.num_timesteps
        return {
            "agent_steps": str(steps),
            "frames": str(steps * self.agent.stepper.frames_per_step),
            "minutes": f"{self.minutes:.2f}",
            "score": "nan" if score is None else repr(score),
        }


UNLIMITED = 1 << 62
"""Agent steps of a run that only time or a signal ends."""


def _say_how_it_ended(run: _Run, reason: str) -> None:
    path, steps = run.folder.path, run.agent.num_timesteps
    spent = duration(run.minutes * 60)
    if reason == "stopped":
        run.reporter.say(f"stopped at step {steps:,} after {spent}; saved.")
        run.reporter.say(f"go on with: eightbit train --resume {path}")
        return
    run.reporter.say(f"trained {steps:,} agent steps in {spent}; saved to {path}")
