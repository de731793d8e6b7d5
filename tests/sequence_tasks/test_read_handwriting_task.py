"""The whole task on real handwriting, and `eightbit run read-handwriting`."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.datasets.stroke_files import write_stroke_file
from eightbit.datasets.strokes import Writing, from_strokes, read_writings
from eightbit.errors import DataError, EightBitError, TaskError, UsageError
from eightbit.sequence_tasks.read_handwriting.data import ready
from eightbit.sequence_tasks.read_handwriting.ink import path_strokes, read_ink
from eightbit.sequence_tasks.read_handwriting.options import ReadHandwritingOptions
from eightbit.sequence_tasks.read_handwriting.run import ReadHandwritingRunOptions
from eightbit.tasks import Moment, RunJob, Task, TaskData, Trained, decayed_groups, load_task

UNIPEN = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "unipen"
needs_unipen = pytest.mark.skipif(
    not UNIPEN.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds unipen"
)
SMALL = ReadHandwritingOptions(
    stride=4,
    channels=32,
    backbone_options='{"hidden": 96, "bidirectional": true}',
    dropout=0.0,
    distortion=0.3,
    longest_row=1,
    decode="greedy",
)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("read-handwriting")


@pytest.fixture(scope="module")
def data(task: Task) -> TaskData:
    return task.build_data(SMALL, "unipen", 0)


@pytest.fixture(scope="module")
def words(data: TaskData) -> TaskData:
    """Words of held-out writers in the place of their lines: they are soon read."""
    found = read_writings("unipen", 0).words["validation"]
    short = [one for one in ready(found, SMALL) if len(one.points) < 200][:300]
    splits = {"train": data.splits["train"], "validation": short}
    return TaskData(data.facts, data.examples, data.batch, splits)


def train(task: Task, data: TaskData, steps: int) -> torch.nn.Module:
    """Trains on the batches of the beginning, which hold short words."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(SMALL, data.facts).train()
    optimizer = torch.optim.AdamW(decayed_groups(model, task.presets["fast"].learning), lr=5e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1.0, (step + 1) / 20, 3 * (1 - step / steps))
        moment = Moment(step, step / steps, torch.Generator())
        loss = task.loss(model, data.batch(step, 16), moment)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def scores(task: Task, data: TaskData, model: torch.nn.Module) -> dict[str, float]:
    found = {}
    for control in ("none", "trivial", "shuffled"):
        outcome = task.measure(model, data, "validation", control)
        found[control] = outcome.values["cer"](np.arange(outcome.units))
    return found


@needs_unipen
def test_some_seconds_of_training_beat_both_controls(
    task: Task, data: TaskData, words: TaskData
) -> None:
    found = scores(task, words, train(task, data, steps=650))
    assert found["none"] < 0.9 * min(found["trivial"], found["shuffled"], 1.0)


@needs_unipen
@pytest.mark.long
def test_a_minute_of_training_reads_most_letters(
    task: Task, data: TaskData, words: TaskData
) -> None:
    model = train(task, data, steps=1200)
    assert scores(task, words, model)["none"] < 0.35
    assert scores(task, data, model)["none"] < 0.75


@needs_unipen
def test_writers_are_the_units_and_details_tell_new_texts(task: Task, data: TaskData) -> None:
    model = task.build_model(SMALL, data.facts).eval()
    short = {
        name: sorted(part, key=lambda one: len(one.points))[:25]
        for name, part in data.splits.items()
    }
    outcome = task.measure(model, TaskData(data.facts, 1, data.batch, short), "test", "none")
    every = np.arange(outcome.units)
    assert outcome.units == outcome.details["writers"] <= 25 == outcome.details["lines"]
    assert 0 <= outcome.values["exact"](every) <= 1 and outcome.values["cer"](every) > 0
    assert len(outcome.details["worst"]) == 25
    first = outcome.values["cer"](np.array([0, 0, 0]))
    assert first == pytest.approx(outcome.values["cer"](np.array([0])))
    shown = task.samples(model, TaskData(data.facts, 1, data.batch, short), 3)
    assert len(shown) == 3 and all("written:" in (one.text or "") for one in shown)
    without = TaskData(data.facts, 1, data.batch, {"train": short["train"]})
    with pytest.raises(DataError, match="no test split"):
        task.measure(model, without, "test", "none")


# ------------------------------------------------------------------------------------- run


def strokes(rng: np.random.Generator) -> Writing:
    return Writing(from_strokes([rng.normal(0, 9, (9, 2)).cumsum(0) for _ in range(3)]), "ab")


@pytest.fixture(scope="module")
def trained(task: Task) -> Trained:
    facts = {"alphabet": [" ", "a", "b"]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(SMALL, facts).eval()
    return Trained(task, model, SMALL, facts, torch.device("cpu"), Path("run"))


def job(inputs: list[str], output: Path | None = None, **options: Any) -> tuple[RunJob, list[str]]:
    said: list[str] = []
    return RunJob(inputs, output, ReadHandwritingRunOptions(**options), said.append), said


def test_strokes_of_every_kind_are_read_and_failures_listed(
    task: Task, trained: Trained, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    write_stroke_file(tmp_path / "a.json", [strokes(rng), strokes(rng)])
    (tmp_path / "b.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0,0 L3 9 4-2"/>'
        '<polyline points="5,5 6,9 7,5"/><line x1="9" y1="0" x2="9" y2="7"/></svg>'
    )
    (tmp_path / "c.inkml").write_text(
        '<ink xmlns="http://www.w3.org/2003/InkML"><trace>0 0 12, 3 9 14</trace>'
        "<trace>5 1 20, 6 7 22</trace></ink>"
    )
    (tmp_path / "d.json").write_text('[{"strokes": [[[0, NaN], [1, 2]]]}]')
    one, said = job([str(tmp_path), str(tmp_path / "none.svg")], tmp_path / "out.csv")
    with pytest.raises(TaskError, match=r"2 of 5 failed: .*d.json, sample 1.*none.svg does not"):
        task.run(trained, one)
    assert len(said) == 5 and said[0].startswith(f"{tmp_path}/a.json, sample 1: ")
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0] == "file,text,confidence,written,cer" and len(rows) == 5
    again, _ = job([str(tmp_path / "b.svg")], tmp_path / "out.json", decode="beam", language=0.5)
    task.run(trained, again)
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert set(row) == {"file", "text", "confidence"} and 0 <= row["confidence"] <= 1


def test_standard_input_and_lines_below_one_another_are_read(
    task: Task, trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wave = [[5 * k, 10 * (k % 2)] for k in range(9)]
    below = [[x, y + 40] for x, y in wave]
    right = [[x + 70, y] for x, y in wave]
    sample = {"strokes": [wave, right, below]}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(sample)))
    one, said = job(["-"], tmp_path / "out.txt")
    task.run(trained, one)
    assert said[0].startswith("standard input: ")
    assert len((tmp_path / "out.txt").read_text().split("\n")) == 3, "two lines and an end"


def test_the_same_writing_is_read_alike_at_every_scale(
    task: Task, trained: Trained, tmp_path: Path
) -> None:
    one = strokes(np.random.default_rng(1))
    large = Writing(one.points * np.array([16, 16, 1], np.float32) + [512, 256, 0], "ab")
    write_stroke_file(tmp_path / "a.json", [one, large])
    work, said = job([str(tmp_path / "a.json")])
    task.run(trained, work)
    assert said[0].partition("sample 1")[2] == said[1].partition("sample 2")[2]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.png", "x", "is none of .json, .jsonl, .inkml, .svg"),
        ("a.svg", "<svg", "is not XML"),
        ("a.svg", "<svg/>", "holds no path, polyline or line"),
        ("a.inkml", "<ink/>", "holds no trace"),
        ("a.inkml", "<ink><trace>1 2</trace></ink>", "single point"),
        ("a.svg", '<svg><path d="M0 0 A 1 1 0 0 0 2 2"/></svg>', "command A1 1 0 0 0 2 2 cannot"),
        ("a.svg", '<svg><g transform="scale(2)"><path d="M0 0L1 1"/></g></svg>', "a transform"),
        ("a.json", '{"strokes": [[[1, 2]]]}', "a.json, sample 1: it has a single point"),
        ("a.json", "", "a.json is empty"),
    ],
)
def test_a_bad_input_is_named(name: str, content: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(EightBitError, match=sentence):
        read_ink(path)


def test_paths_of_svg_equal_their_curves() -> None:
    (curve,) = path_strokes("M1 2C1 6 5 6 5 2", "x")
    t = np.linspace(0, 1, 17)
    x = (1 - t) ** 3 + 3 * (1 - t) ** 2 * t + 15 * (1 - t) * t**2 + 5 * t**3
    y = 2 * (1 - t) ** 3 + 18 * (1 - t) ** 2 * t + 18 * (1 - t) * t**2 + 2 * t**3
    assert np.allclose(curve, np.column_stack([x, y]))
    (smooth,) = path_strokes("m1,2q2-4 4,0t4 0", "x")
    assert smooth[16] == [5, 2] and smooth[-1] == [9, 2]
    assert smooth[24][1] == pytest.approx(4), "the second arc hangs as far as the first stands"
    closed, second = path_strokes("M0 0h2v3zm5 5 1 1", "x")
    assert closed == [[0, 0], [2, 0], [2, 3], [0, 0]]
    assert second == [[5, 5], [6, 6]]
    with pytest.raises(DataError, match="command L1 2 3 cannot be read"):
        list(path_strokes("M0 0 L1 2 3", "x"))


def test_an_output_of_unknown_form_and_no_input_are_refused(
    task: Task, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="ends in none of .json, .csv and .txt"):
        task.run(trained, job(["x.json"], tmp_path / "out.xml")[0])
    with pytest.raises(UsageError, match="name files or folders of strokes"):
        task.run(trained, job([])[0])
    with pytest.raises(UsageError, match="language is 5"):
        ReadHandwritingRunOptions(language=5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files of strokes"):
        task.run(trained, job([str(tmp_path / "empty")])[0])


def test_the_loss_of_a_fresh_network_is_finite_and_near_chance(task: Task) -> None:
    facts = {"alphabet": list("abcdefgh")}
    model = task.build_model(SMALL, facts).train()
    batch = {
        "points": torch.randn(2, 64, 3),
        "lengths": torch.tensor([64, 40]),
        "labels": torch.tensor([[1, 2, 3], [4, 0, 0]]),
        "label_lengths": torch.tensor([3, 1]),
    }
    loss = task.loss(model, batch, Moment(0, 0.0, torch.Generator()))["loss"]
    assert math.isfinite(loss.item()) and 0 < loss.item() < 64 * math.log(9)
