"""Scores of a task's run beside its controls, with bootstrap intervals: evaluation.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ..agents.device import choose_device
from ..datasets.pictures import write_picture
from ..errors import TaskError, UsageError
from ..tasks import Control, Metric, Outcome, Split, TaskData, Trained
from ..train.runs import RunFolder, write_text
from ..train.task_card import write_task_card
from ..train.task_models import load_trained
from ..train.task_session import TaskPlan, read_plan

RESAMPLES = 1000
BOOTSTRAP_SECONDS = 20.0  # of one metric at most; slow ones get fewer resamples
FEWEST_RESAMPLES = 100
LONGEST_FACT = 4_000  # characters of a fact about the data that evaluation.json repeats
NOT_RUN = "not run"
_CONTROLS: tuple[Control, ...] = ("trivial", "shuffled")


@dataclass(frozen=True)
class ScoreSettings:
    """How a task's run is scored."""

    split: Literal["test", "validation", "train"] = "test"
    """the part of the data that is scored"""
    control: str | None = field(default=None, metadata={"metavar": "RUN", "unset": "not run"})
    """another run, scored on the same data beside this one"""
    data: str | None = field(default=None, metadata={"metavar": "PATH", "unset": "the run's"})
    """where the data are now, when they were moved"""
    checkpoint: str = "last"
    """last, best or a number of steps"""
    device: str = "auto"
    """where the network computes: auto, cpu, cuda, mps"""

    def __post_init__(self) -> None:
        """Refuses a split that no task has; raises UsageError."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes:
        value: over all units.
        interval: percentile bootstrap over the units, 95 %.
        drawn: the metric over each resample, (resamples,).
    """

    value: float
    interval: tuple[float, float]
    drawn: np.ndarray = field(repr=False, compare=False)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "value": self.value,
            "interval": list(self.interval),
            "resamples": len(self.drawn),
        }


def estimate(
    value: Callable[[np.ndarray], float], units: int, generator: np.random.Generator
) -> Estimate:
    """A metric's value and its 95 % percentile bootstrap interval.

    Args:
        value: the metric over given units, by index, repetitions allowed.
        units: how many there are.
        generator: draws the resamples.
    """
    whole = float(value(np.arange(units)))
    drawn: list[float] = []
    began = time.monotonic()
    while len(drawn) < RESAMPLES:
        late = time.monotonic() - began > BOOTSTRAP_SECONDS
        if late and len(drawn) >= FEWEST_RESAMPLES:
            break
        drawn.append(float(value(generator.integers(0, units, units))))
    return Estimate(whole, _interval(np.asarray(drawn)), np.asarray(drawn))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """`one` minus `other`, paired: both were drawn by equal generators, so resample by resample."""
    both = min(len(one.drawn), len(other.drawn))
    drawn = one.drawn[:both] - other.drawn[:both]
    return Estimate(one.value - other.value, _interval(drawn), drawn)


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    known = drawn[np.isfinite(drawn)]  # a metric may be undefined on some resamples
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def score_run(run: str, settings: ScoreSettings, *, command: str) -> Path:
    """Scores a run on a split, with its controls; writes and prints everything.

    Args:
        run: the run folder.
        settings: what is scored.
        command: how this was asked for, kept in the record.

    Returns:
        The path of evaluation.json.

    Raises:
        EightBitError: the run or its data cannot be read, or the split does not exist.
    """
    folder = RunFolder.open(run)
    plan = read_plan(folder.config)
    trained = load_trained(_model(folder, settings.checkpoint), choose_device(settings.device))
    data = _data_of(plan, trained, settings)
    other = None if settings.control is None else _other(trained, settings)
    console = Console(highlight=False, soft_wrap=True)
    outcome = _measure(trained, data, settings.split, "none", plan)
    measured = [metric for metric in trained.task.metrics if metric.name in outcome.values]
    metrics = {metric.name: _described(metric) for metric in measured}
    ours = _estimates(metrics, outcome)
    for name, entry in metrics.items():
        entry.update(ours[name].told())
    for control in _CONTROLS:
        found = _measure(trained, data, settings.split, control, plan)
        _add_control(metrics, ours, _estimates(metrics, found), control)
    if other is not None:
        told, of = other
        found = _measure(of, data, settings.split, "none", plan)
        _add_control(metrics, ours, _estimates(metrics, found), "run")
        for one in metrics.values():
            one["controls"]["run"]["run"] = told
    else:
        for one in metrics.values():
            one["controls"]["run"] = NOT_RUN
    record = {
        "task": trained.task.name,
        "command": command,
        "split": settings.split,
        "units": outcome.units,
        "metrics": metrics,
        "details": dict(outcome.details),
        "data": _short_facts(data.facts),
        "seed": plan.request.seed,
    }
    path = folder.path / "evaluation.json"
    write_text(path, json.dumps(_finite(record), indent=2) + "\n")
    for name, picture in outcome.pictures.items():
        write_picture(folder.path / f"{name}.png", picture)
    console.print(score_table(record))
    write_task_card(folder)
    return path


def score_table(record: Mapping[str, Any]) -> Table:
    """The scores of a record as a table: each metric beside its controls."""
    title = f"{record['task']}, {record['split']} split, {record['units']} units"
    table = Table(title=title)
    for head in ("metric", "score", "95 % interval", "trivial", "shuffled input", "control run"):
        table.add_column(head, justify="left" if head == "metric" else "right")
    for name, one in record["metrics"].items():
        low, high = one["interval"]
        controls = one["controls"]
        run = controls["run"]
        table.add_row(
            f"{name} {one['unit']} ({'higher' if one['higher_is_better'] else 'lower'} is better)",
            f"{one['value']:.4g}",
            f"{low:.4g} to {high:.4g}",
            f"{controls['trivial']['value']:.4g}",
            f"{controls['shuffled']['value']:.4g}",
            run if run == NOT_RUN else _beside(run),
        )
    return table


def _beside(run: Mapping[str, Any]) -> str:
    """A control run's figure, and the model's minus it with the paired interval."""
    gain = run["difference"]
    low, high = gain["interval"]
    return f"{run['value']:.4g} (difference {gain['value']:+.3g}: {low:+.3g} to {high:+.3g})"


def _described(metric: Metric) -> dict[str, Any]:
    return {
        "higher_is_better": metric.higher_is_better,
        "standard": metric.standard,
        "unit": metric.unit,
        "controls": {},
    }


def _estimates(metrics: Mapping[str, Any], outcome: Outcome) -> dict[str, Estimate]:
    """By metric; equal generators draw the same resamples for the model and its controls."""
    return {
        name: estimate(outcome.values[name], outcome.units, np.random.default_rng(0))
        for name in metrics
    }


def _add_control(
    metrics: dict[str, dict[str, Any]],
    ours: Mapping[str, Estimate],
    theirs: Mapping[str, Estimate],
    control: str,
) -> None:
    """Writes a control's figures, and how much the model's are above, paired."""
    for name, entry in metrics.items():
        gain = difference(ours[name], theirs[name])
        entry["controls"][control] = {
            **theirs[name].told(),
            "difference": {"value": gain.value, "interval": list(gain.interval)},
        }


@torch.no_grad()
def _measure(
    trained: Trained, data: TaskData, split: Split, control: Control, plan: TaskPlan
) -> Outcome:
    low = plan.request.precision == "bf16"
    with torch.autocast(trained.device.type, torch.bfloat16, enabled=low):
        return trained.task.measure(trained.model, data, split, control)


def _model(folder: RunFolder, which: str) -> Path:
    if which == "last" and folder.model.is_file():
        return folder.model
    return folder.checkpoints.find(which).model


def _data_of(plan: TaskPlan, trained: Trained, settings: ScoreSettings) -> TaskData:
    source = settings.data or plan.request.data
    data = trained.task.build_data(plan.options, source, plan.request.seed)
    if settings.split not in data.splits:
        there = ", ".join(data.splits)
        raise UsageError(f"{source} has no {settings.split} split; score one of: {there}.")
    return data


def _other(trained: Trained, settings: ScoreSettings) -> tuple[str, Trained]:
    assert settings.control is not None
    other = load_trained(settings.control, trained.device)
    if other.task.name != trained.task.name:
        raise TaskError(
            f"{settings.control} is a run of {other.task.name} and no control for a run of "
            f"{trained.task.name}."
        )
    return Path(settings.control).name, other


def _short_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for a reader; vocabularies and other long ones are in the model's file."""
    short = {key: value for key, value in facts.items() if len(json.dumps(value)) <= LONGEST_FACT}
    left_out = sorted(facts.keys() - short.keys())
    return {**short, "left_out": left_out} if left_out else short


def _finite(value: Any) -> Any:
    """JSON has no NaN; it is written as null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
