"""`eightbit run answer`: what it writes and refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eightbit.datasets.pictures import read_picture, write_picture
from eightbit.errors import DataError, TaskError, UsageError
from eightbit.tasks import RunJob, Trained
from eightbit.vision_tasks._telling.words import Words
from eightbit.vision_tasks.answer import TASK, AnswerOptions, AnswerRunOptions

WORDS = Words.learn(["what colour is the shape", "is it red"])
ANSWERS = ["yes", "no", "red", "green"]


def trained_of(**options) -> Trained:
    settings = {
        "backbone_options": '{"channels": [4, 8]}',
        "size": 16,
        "embedding": 6,
        "hidden": 8,
        "width": 8,
        **options,
    }
    made = AnswerOptions(**settings)
    facts = {"words": WORDS.to_facts(), "answers": ANSWERS}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TASK.build_model(made, facts).eval()
    return Trained(TASK, model, made, facts, torch.device("cpu"), Path("run"))


@pytest.fixture
def folder(tmp_path, rng) -> Path:
    for name in ("a.png", "b.jpg"):
        rgb = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        write_picture(tmp_path / "pictures" / name, rgb)
    return tmp_path / "pictures"


def _job(inputs, output=None, **options) -> tuple[RunJob, list[str]]:
    said: list[str] = []
    job = RunJob([str(i) for i in inputs], output, AnswerRunOptions(**options), said.append)
    return job, said


def test_each_question_is_asked_of_each_picture_and_bad_ones_are_named(folder, tmp_path):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    asked = tmp_path / "asked.txt"
    asked.write_text("What colour is the shape?\n\nIs it red?\n")
    output = tmp_path / "answers.json"
    job, said = _job([folder, tmp_path / "missing.png"], output, questions=str(asked), top=3)
    with pytest.raises(TaskError, match=r"2 of 4 failed: .*broken.png .*missing.png does not"):
        TASK.run(trained_of(), job)
    rows = json.loads(output.read_text())
    assert [Path(row["picture"]).name for row in rows] == ["a.png", "a.png", "b.jpg", "b.jpg"]
    assert rows[0]["question"] == "What colour is the shape?"
    for row in rows:
        values = [one["probability"] for one in row["best"]]
        assert len(values) == 3 and values == sorted(values, reverse=True)
        assert row["answer"] == row["best"][0]["answer"]
    assert rows[0]["best"][0]["answer"] in said[0]


def test_all_answers_sum_to_one_in_the_table(folder, tmp_path):
    output = tmp_path / "answers.csv"
    job, _ = _job([folder / "a.png"], output, question="is it red?", top=9)
    TASK.run(trained_of(way="full"), job)
    rows = list(csv.reader(output.read_text().splitlines()))
    assert rows[0] == ["picture", "question", "place", "answer", "probability"]
    assert sorted(row[3] for row in rows[1:]) == sorted(ANSWERS)
    assert sum(float(row[4]) for row in rows[1:]) == pytest.approx(1, abs=1e-5)


def test_attention_is_drawn(folder, tmp_path):
    maps = tmp_path / "maps"
    job, _ = _job([folder], question="is it red", attention=str(maps))
    TASK.run(trained_of(), job)
    names = sorted(one.name for one in maps.iterdir())
    assert names == ["000001_a_1.png", "000002_b_1.png"]
    assert read_picture(maps / names[0]).std() > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"question": "is the zebra purple?"}, "no training question had: zebra, purple"),
        ({"question": "?!"}, "holds no words"),
        ({}, "ask something"),
        ({"question": "is it red", "attention": "maps"}, "has no attention to draw"),
    ],
)
def test_what_cannot_be_asked_is_refused(folder, options, message):
    with pytest.raises(UsageError, match=message):
        TASK.run(trained_of(way="img_bow"), _job([folder], **options)[0])


def test_files_of_questions_and_inputs_are_checked(folder, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for path, message in ((empty, "holds no questions"), (tmp_path / "none.txt", "cannot be read")):
        with pytest.raises(DataError, match=message):
            TASK.run(trained_of(), _job([folder], questions=str(path))[0])
    with pytest.raises(UsageError, match="name pictures"):
        TASK.run(trained_of(), _job([], question="is it red")[0])
    for options in ({"top": 0}, {"question": "a", "questions": "b"}):
        with pytest.raises(UsageError):
            AnswerRunOptions(**options)
