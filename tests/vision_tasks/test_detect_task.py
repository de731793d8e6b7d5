"""The whole task on real blood cells."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import eightbit.vision_tasks  # noqa: F401  # registers the tasks
from eightbit.errors import DataError, UsageError
from eightbit.tasks import Moment, Task, TaskData, Trained, decayed_groups, load_task
from eightbit.vision_tasks.detect.options import DetectOptions

BCCD = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "bccd"
needs_bccd = pytest.mark.skipif(
    not BCCD.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds bccd"
)
SMALL = DetectOptions(
    size=160,
    channels=32,
    backbone_options='{"width": 16}',
    turns="mirror",
    zoom=1.1,
    mosaic=0.0,
    colour=0.0,
    train_on="train",
)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("detect")


@pytest.fixture(scope="module")
def cells(task: Task) -> TaskData:
    return task.build_data(SMALL, "bccd", 0)


def _train(task: Task, data: TaskData, options: DetectOptions, steps: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, data.facts)
    learning = task.presets["fast"].learning
    groups = decayed_groups(model, learning)
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (steps - step) / steps * 2, (step + 1) / 10)
        moment = Moment(step, step / steps, torch.Generator().manual_seed(step))
        parts = task.loss(model, data.batch(step, 8), moment)
        optimizer.zero_grad()
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    return model.eval()


@needs_bccd
def test_the_official_split_is_used(task: Task, cells: TaskData) -> None:
    assert {name: len(part) for name, part in cells.splits.items()} == {
        "train": 205,
        "validation": 87,
        "test": 72,
    }
    assert sorted(cells.facts["classes"]) == ["Platelets", "RBC", "WBC"]
    assert (cells.facts["height"], cells.facts["width"]) == (128, 160)
    both = task.build_data(DetectOptions(size=64), "bccd", 0)
    assert both.examples == 292 and "validation" not in both.splits
    names = {one.name for one in both.splits["train"]}
    assert len(names) == 292 and not names & {one.name for one in both.splits["test"]}


@needs_bccd
def test_some_seconds_of_training_beat_both_controls(task: Task, cells: TaskData) -> None:
    model = _train(task, cells, SMALL, steps=60)
    scores = {}
    for control in ("none", "trivial", "shuffled"):
        outcome = task.measure(model, cells, "test", control)
        every = np.arange(outcome.units)
        scores[control] = outcome.values["map50"](every)
        assert outcome.units == 72
        if control == "none":
            table = outcome.details["classes"]
            aps = [row["ap"] for row in table.values()]
            assert outcome.values["map"](every) == pytest.approx(np.mean(aps))
            assert table["RBC"]["objects"] == 805
            assert set(outcome.pictures) == {"precision_recall", "detections"}
    assert scores["none"] > 2 * max(scores["trivial"], scores["shuffled"])
    assert scores["none"] > 0.2


@needs_bccd
def test_samples_show_truth_beside_what_was_found(task: Task, cells: TaskData) -> None:
    model = task.build_model(SMALL, cells.facts).eval()
    shown = task.samples(model, cells, 2)
    assert len(shown) == 2 and len({one.name for one in shown}) == 2
    assert all(s.picture is not None and s.picture.shape == (480, 1288, 3) for s in shown)


@needs_bccd
def test_a_split_that_is_not_there_is_named(task: Task, cells: TaskData) -> None:
    model = task.build_model(SMALL, cells.facts).eval()
    without = TaskData(cells.facts, cells.examples, cells.batch, {"test": cells.splits["test"]})
    with pytest.raises(DataError, match="no validation split"):
        task.measure(model, without, "validation", "none")


@needs_bccd
@pytest.mark.long
def test_a_minute_of_training_finds_most_cells(task: Task, cells: TaskData) -> None:
    model = _train(task, cells, SMALL, steps=400)
    outcome = task.measure(model, cells, "validation", "none")
    assert outcome.values["map50"](np.arange(outcome.units)) > 0.6


def test_export_is_offered_for_the_one_stage_method_only(task: Task) -> None:
    facts = {"classes": ["a"], "height": 64, "width": 64}
    made = {}
    for method in ("one-stage", "masks"):
        options = DetectOptions(method=method, backbone_options='{"width": 8}', channels=16)
        model = task.build_model(options, facts).eval()
        made[method] = Trained(task, model, options, facts, torch.device("cpu"), Path("run"))
    assert task.export is not None
    exported = task.export(made["one-stage"])
    boxes, scores = exported.module(*exported.inputs)
    assert boxes.shape == (1, 84, 4) and scores.shape == (1, 84, 1)
    with pytest.raises(UsageError, match="masks cannot be written as ONNX"):
        task.export(made["masks"])
