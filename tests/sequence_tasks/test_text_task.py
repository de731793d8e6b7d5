"""The whole task on a real play."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.sequence_tasks.text.options import TextOptions
from eightbit.sequence_tasks.text.scores import static_losses
from eightbit.tasks import Moment, Task, TaskData, decayed_groups, load_task

PLAYS = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "tinyshakespeare"
needs_plays = pytest.mark.skipif(
    not PLAYS.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds tinyshakespeare"
)
SMALL = TextOptions(backbone_options='{"hidden": 128}', embedding=32, context=64, train_on="train")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("text")


@pytest.fixture(scope="module")
def plays(task: Task) -> TaskData:
    return task.build_data(SMALL, "tinyshakespeare", 0)


def _train(task: Task, data: TaskData, options: TextOptions, steps: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, data.facts).train()
    groups = decayed_groups(model, next(iter(task.presets.values())).learning)
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (steps - step) / steps * 2, (step + 1) / 10)
        moment = Moment(step, step / steps, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        task.loss(model, data.batch(step, 32), moment)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@needs_plays
def test_the_split_is_the_first_nine_tenths_and_the_last(plays: TaskData) -> None:
    assert {name: part.characters for name, part in plays.splits.items()} == {
        "train": 953_662,
        "validation": 50_192,
        "test": 111_540,
    }
    assert plays.facts["vocabulary"] == 65


@needs_plays
def test_some_seconds_of_training_beat_both_controls(task: Task, plays: TaskData) -> None:
    model = _train(task, plays, SMALL, steps=200)
    nats = {}
    for control in ("none", "trivial", "shuffled"):
        outcome = task.measure(model, plays, "validation", control)
        nats[control] = outcome.values["nats"](np.arange(outcome.units))
        assert outcome.units == 50
        if control == "none":
            table = outcome.details["nats_after_context"]
            assert table["1-1"] > table["2-4"] > table["17-64"]
    assert nats["trivial"] == pytest.approx(3.3, abs=0.1)
    assert nats["shuffled"] > nats["trivial"]
    assert nats["none"] < nats["trivial"] - 1.0
    ids = plays.splits["validation"].ids[:20_000]
    together = static_losses(model, ids, streams=2).mean()
    assert together == pytest.approx(static_losses(model, ids, streams=1).mean(), abs=1e-4)


@needs_plays
@pytest.mark.long
def test_a_minute_of_training_writes_words(task: Task, plays: TaskData) -> None:
    from eightbit.sequence_tasks.text.samples import samples

    began = time.monotonic()
    steps = 100
    model = _train(task, plays, SMALL, steps)
    steps = int(steps * 50 / (time.monotonic() - began))
    model = _train(task, plays, SMALL, steps)
    outcome = task.measure(model, plays, "validation", "none")
    assert outcome.values["nats"](np.arange(outcome.units)) < 2.0
    known = set((PLAYS / "input.txt").read_text().split())
    words = samples(model, plays, 1)[0].text.split()
    assert np.mean([word in known for word in words]) > 0.5
