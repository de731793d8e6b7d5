"""The whole task on real handwriting."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.datasets.stroke_files import read_packed, write_stroke_file
from eightbit.errors import DataError
from eightbit.sequence_tasks.handwriting.options import HandwritingOptions
from eightbit.tasks import Moment, Task, TaskData, decayed_groups, load_task

UNIPEN = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "unipen"
needs_unipen = pytest.mark.skipif(
    not UNIPEN.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds unipen"
)
SMALL = HandwritingOptions(hidden=64, mixtures=8, longest=288, dropout=0.0, joined=0.0)
LINES = 300


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("handwriting")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Short lines of UNIPEN as a user's own file."""
    if not UNIPEN.is_dir():
        pytest.skip("set EIGHTBIT_DATA to a folder that holds unipen")
    every = read_packed(UNIPEN, "lines")
    short = [one for one in every if 10 <= len(one.text) <= 36 and len(one.points) < 1500]
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    write_stroke_file(path, short[:: max(1, len(short) // LINES)][:LINES])
    return str(path)


@pytest.fixture(scope="module")
def data(task: Task, lines: str) -> TaskData:
    return task.build_data(SMALL, lines, 0)


def _trained(task: Task, data: TaskData, options: HandwritingOptions, steps: int, size: int):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, data.facts)
    learning = task.presets["fast"].learning
    optimizer = torch.optim.AdamW(decayed_groups(model, learning), lr=5e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1.0, (steps - step) / steps * 2, (step + 1) / 10)
        moment = Moment(step, step / steps, torch.Generator().manual_seed(step))
        parts = task.loss(model, data.batch(step, size), moment)
        optimizer.zero_grad()
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def _scores(task: Task, model: torch.nn.Module, data: TaskData, split: str) -> dict[str, float]:
    with torch.no_grad():
        outcomes = {
            control: task.measure(model, data, split, control)  # type: ignore[arg-type]
            for control in ("none", "trivial", "shuffled")
        }
    for outcome in outcomes.values():
        every = np.arange(outcome.units)
        assert outcome.units == len(data.splits[split])
        assert set(outcome.values) == {metric.name for metric in task.metrics}
        per_line = outcome.values["nats_per_line"](every)
        one = [outcome.values["nats_per_line"](np.array([i])) for i in every]
        assert per_line == pytest.approx(np.mean(one))
    return {
        control: outcome.values["nats_per_point"](np.arange(outcome.units))
        for control, outcome in outcomes.items()
    }


def test_some_seconds_of_synthesis_beat_both_controls(task: Task, data: TaskData) -> None:
    model = _trained(task, data, SMALL, steps=60, size=12)
    scores = _scores(task, model, data, "validation")
    assert scores["none"] < scores["trivial"] - 0.2
    assert scores["none"] < scores["shuffled"]


def test_some_seconds_of_prediction_beat_both_controls(task: Task, data: TaskData) -> None:
    options = replace(SMALL, method="prediction")
    model = _trained(task, data, options, steps=70, size=12)
    scores = _scores(task, model, data, "validation")
    assert scores["none"] < min(scores["trivial"], scores["shuffled"]) - 0.2


def test_writers_are_in_one_split_only(task: Task, data: TaskData) -> None:
    seen = [{one.writer for one in part} for part in data.splits.values()]
    assert len(seen) == 3 and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert data.facts["pace"] < 0.3 and len(data.facts["styles"]) > 3


def test_samples_and_the_test_split_show_written_lines(task: Task, data: TaskData) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(replace(SMALL, hidden=8), data.facts).eval()
    few = {name: part[:3] for name, part in data.splits.items()}
    little = TaskData(data.facts, data.examples, data.batch, few)
    with torch.no_grad():
        shown = task.samples(model, little, 2)
        outcome = task.measure(model, little, "test", "none")
    assert len(shown) == 2 and len({one.name for one in shown}) == 2
    assert all(one.picture is not None and one.picture.shape[-1] == 3 for one in shown)
    assert set(outcome.pictures) == {"written", "window"} and 0 <= outcome.details["finished"] <= 1
    with pytest.raises(DataError, match="no validation split"):
        task.measure(
            model, TaskData(data.facts, 1, data.batch, {"test": few["test"]}), "validation", "none"
        )


@needs_unipen
@pytest.mark.long
def test_a_minute_of_training_learns_that_the_text_matters(task: Task) -> None:
    options = HandwritingOptions(hidden=96, longest=320, dropout=0.0)
    data = task.build_data(options, str(UNIPEN), 0)
    model = _trained(task, data, options, steps=100, size=12)
    scores = _scores(task, model, data, "validation")
    assert scores["none"] < scores["shuffled"] - 0.01 < scores["trivial"] - 1.0
