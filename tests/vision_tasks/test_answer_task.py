"""Data, scores and training of the questions' task."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eightbit.datasets import questions as reader
from eightbit.datasets.questions import Asked, PictureQuestions, Question
from eightbit.errors import DataError, UsageError
from eightbit.tasks import Moment, TaskData, load_task
from eightbit.vision_tasks._telling.words import Words
from eightbit.vision_tasks.answer import TASK, AnswerOptions
from eightbit.vision_tasks.answer import data as task_data
from eightbit.vision_tasks.answer.data import NO_ANSWER, BlindAnswers, Split, build_data
from eightbit.vision_tasks.answer.scores import by_kind, probabilities

TINY = AnswerOptions(
    backbone_options='{"channels": [16, 24]}',
    size=32,
    width=32,
    layers=1,
    hidden=32,
)
SHADES = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def _picture(number: int, size: int) -> tuple[np.ndarray, str, str]:
    """A square of one colour on the left or on the right."""
    rng = np.random.default_rng(number)
    colour = list(SHADES)[int(rng.integers(3))]
    side = ("left", "right")[int(rng.integers(2))]
    picture = rng.integers(90, 160, (size, size, 3)).astype(np.uint8)
    x = int(rng.integers(0, size // 2 - 8)) + (size // 2 if side == "right" else 0)
    y = int(rng.integers(0, size - 8))
    picture[y : y + 8, x : x + 8] = SHADES[colour]
    return picture, colour, side


def _squares(data: str, seed: int, size: int) -> PictureQuestions:
    splits = {}
    for name, first, count in (("train", 0, 400), ("validation", 9000, 40), ("test", 5000, 120)):
        made = [_picture(first + i, size) for i in range(count)]
        asked = []
        for i, (_, colour, side) in enumerate(made):
            asked += [
                Question(i, "what colour is the square", colour, "colour"),
                Question(i, "where is it", side, "location"),
                Question(i, "is it red", "yes" if colour == "red" else "no", "yes or no"),
            ][: 3 - i % 2]
        splits[name] = Asked([picture for picture, _, _ in made], asked)
    return PictureQuestions({"source": "made"}, splits)


@pytest.fixture
def squares(monkeypatch) -> TaskData:
    monkeypatch.setattr(task_data, "read_questions", _squares)
    return build_data(TINY, "squares", 0)


def model_of(options: AnswerOptions, data: TaskData):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TASK.build_model(options, data.facts)


def fit(options: AnswerOptions, data: TaskData, steps: int, rate: float, batch: int = 32):
    model = model_of(options, data).train()
    TASK.begin(model, data)
    optimizer = torch.optim.AdamW(TASK.parameter_groups(model, TASK.presets["fast"].learning), rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, 10 * (step + 1) / steps, 2 * (1 - step / steps))
        moment = Moment(step, step / steps, torch.Generator().manual_seed(step))
        TASK.loss(model, data.batch(step, batch), moment)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def scored(model, data: TaskData, control: str, name: str = "accuracy") -> float:
    found = TASK.measure(model, data, "test", control)
    return found.values[name](np.arange(found.units))


def test_the_task_is_found_by_its_name():
    assert load_task("answer") is TASK
    assert next(iter(TASK.presets)) == "fast"


def test_batches_hold_the_questions_of_their_pictures(squares):
    words = Words.from_facts(squares.facts["words"])
    train = squares.splits["train"]
    by_picture = {i: [] for i in range(len(train))}
    for one in train.asked.questions:
        by_picture[one.picture].append((one.text, one.answer))
    batch = squares.batch(3, 16)
    for picture, questions, answers in zip(*batch.values(), strict=True):
        (number,) = [
            i
            for i, one in enumerate(train.asked.pictures)
            if np.array_equal(one.transpose(2, 0, 1), picture.numpy())
        ]
        asked = [
            (words.decode(ids.tolist()), squares.facts["answers"][answer])
            for ids, answer in zip(questions, answers.tolist(), strict=True)
            if answer != NO_ANSWER
        ]
        assert asked == by_picture[number]
    pictures = torch.cat([squares.batch(i, 80)["pictures"] for i in range(5)])
    assert len({one.numpy().tobytes() for one in pictures}) == 400  # an epoch, each once


def test_at_most_so_many_questions_are_asked(squares, monkeypatch):
    few = build_data(replace(TINY, asked=2), "squares", 0)
    assert few.batch(0, 8)["answers"].shape == (8, 2)
    assert not torch.equal(few.batch(0, 400)["answers"], few.batch(1, 400)["answers"])


def test_rare_answers_are_not_learnt_and_none_at_all_is_refused(squares):
    common = build_data(replace(TINY, fewest=150), "squares", 0)
    assert set(common.facts["answers"]) < set(squares.facts["answers"])
    with pytest.raises(DataError, match="lower --fewest"):
        build_data(replace(TINY, fewest=10_000), "squares", 0)


def test_blind_answers_by_words_and_then_by_kind():
    asked = [
        Question(0, "what is red", "dog", "object"),
        Question(1, "what is red", "dog", "object"),
        Question(2, "what is blue", "cat", "object"),
        Question(3, "how many", "two", "number"),
    ]
    blind = BlindAnswers(asked)
    assert blind(Question(9, "what is blue", "?", "object")) == "cat"
    assert blind(Question(9, "what is pink", "?", "object")) == "dog"
    assert blind.guess(Question(9, "what is blue", "?", "object")) == "dog"
    assert blind(Question(9, "why", "?", "reason")) == "dog"


def test_values_are_shares_over_the_questions_of_the_chosen_pictures(squares):
    model = model_of(TINY, squares).eval()
    part: Split = squares.splits["test"]
    table = probabilities(model, part, part.asked.questions).argmax(1)
    right = [model.answers[i] for i in table]
    found = TASK.measure(model, squares, "test", "none")
    assert found.units == 120
    for chosen in ([0, 1, 2], [5, 5, 8]):
        hits = [
            one.answer == text
            for unit in chosen
            for one, text in zip(part.asked.questions, right, strict=True)
            if one.picture == unit
        ]
        assert found.values["accuracy"](np.array(chosen)) == pytest.approx(np.mean(hits))
    table = found.details["by_kind"]
    assert table["all"]["questions"] == 300 and set(table["colour"]) == {
        "questions",
        "model",
        "blind",
        "guess",
    }
    with pytest.raises(DataError, match="no dev split"):
        TASK.measure(model, squares, "dev", "none")


def test_wups_is_scored_where_a_wordnet_folder_is_given(squares, monkeypatch):
    from eightbit.vision_tasks.answer import scores

    monkeypatch.setattr(scores, "WordNet", lambda folder: folder)
    monkeypatch.setattr(scores, "wups", lambda net, a, b, t: [t + 0.05] * len(a))
    model = model_of(replace(TINY, wordnet="folder"), squares).eval()
    assert scored(model, squares, "none", "wups_0.9") == pytest.approx(0.95)
    assert scored(model, squares, "trivial", "wups_0.0") == pytest.approx(0.05)
    plain = TASK.measure(model_of(TINY, squares).eval(), squares, "test", "none")
    assert "wups_0.9" not in plain.values and "wordnet" in plain.details["left_out"]


def test_by_kind_counts_each_kind():
    asked = [
        Question(0, "a", "x", "one"),
        Question(0, "b", "x", "two"),
        Question(0, "c", "x", "two"),
    ]
    table = by_kind(asked, {"model": np.array([1.0, 0.0, 1.0])})
    assert table["all"] == {"questions": 3, "model": 0.6667}
    assert table["two"] == {"questions": 2, "model": 0.5}


def test_seconds_beat_both_controls_and_blind_ones_do_not(squares):
    model = fit(TINY, squares, steps=150, rate=4e-3)
    found = {
        control: scored(model, squares, control) for control in ("none", "trivial", "shuffled")
    }
    assert found["none"] > 0.85
    assert found["none"] > found["trivial"] + 0.2
    assert found["none"] > found["shuffled"] + 0.2
    sheet, looks = TASK.samples(model, squares, 4)
    assert sheet.picture.std() > 20 and looks.picture.std() > 20
    blind = fit(replace(TINY, blind=True), squares, steps=40, rate=4e-3)
    assert scored(blind, squares, "none") == scored(blind, squares, "shuffled")
    assert scored(blind, squares, "none") < scored(squares and model, squares, "none") - 0.2


def test_sort_of_clevr_has_its_two_sorts(monkeypatch):
    monkeypatch.setattr(reader, "PICTURES", {"train": 20, "validation": 5, "test": 10})
    data = build_data(replace(TINY, size=75), "sort-of-clevr", 0)
    model = model_of(replace(TINY, size=75), data).eval()
    parts = [scored(model, data, "none", name) for name in ("relational", "non_relational")]
    assert np.mean(parts) == pytest.approx(scored(model, data, "none"))
    assert data.facts["questions"] == {"train": 400, "validation": 100, "test": 200}


def test_boards_are_varied_and_other_data_refuse(monkeypatch):
    monkeypatch.setattr(reader, "PICTURES", {"train": 20, "validation": 5, "test": 10})
    options = replace(TINY, size=75, vary=True)
    data = build_data(options, "sort-of-clevr", 0)
    first, again, later = data.batch(0, 20), data.batch(0, 20), data.batch(1, 20)
    assert all(torch.equal(first[name], again[name]) for name in first)  # by the step alone
    known = {one.numpy().tobytes() for one in data.splits["train"].pictures(np.arange(20))}
    for batch in (first, later):
        assert not known & {one.numpy().tobytes() for one in batch["pictures"]}
        assert batch["answers"].shape == (20, 20) and (batch["answers"] != NO_ANSWER).all()
    monkeypatch.setattr(task_data, "read_questions", _squares)
    with pytest.raises(UsageError, match="leave --vary out"):
        build_data(replace(TINY, vary=True), "squares", 0)


def _easy_vqa() -> tuple[AnswerOptions, TaskData]:
    root = os.environ.get("EIGHTBIT_DATA")
    if root is None or not Path(root, "easy_vqa").is_dir():
        pytest.skip("set EIGHTBIT_DATA to the folder with easy_vqa")
    options = TASK.presets["fast"].options
    return options, build_data(options, "easy-vqa", 0)


def test_seconds_of_easy_vqa_beat_both_controls():
    options, data = _easy_vqa()
    model = fit(options, data, steps=250, rate=3e-3, batch=8)
    found = {control: scored(model, data, control) for control in ("none", "trivial", "shuffled")}
    assert found["none"] > found["trivial"] + 0.04
    assert found["none"] > found["shuffled"] + 0.04


@pytest.mark.long
def test_a_minute_of_easy_vqa_answers_nearly_all():
    options, data = _easy_vqa()
    model = fit(options, data, steps=1_200, rate=2e-3, batch=16)
    assert scored(model, data, "none") > 0.97
    assert scored(model, data, "trivial") < 0.7
