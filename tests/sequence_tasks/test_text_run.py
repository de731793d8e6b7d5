"""`eightbit run text`, its samples and its pictures."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.datasets.pictures import read_picture
from eightbit.errors import DataError, TaskError, UsageError
from eightbit.sequence_tasks.text.neurons import picture, telling_neurons
from eightbit.sequence_tasks.text.options import TextOptions
from eightbit.sequence_tasks.text.run import TextRunOptions, run
from eightbit.sequence_tasks.text.samples import samples
from eightbit.sequence_tasks.text.writing import Decoder
from eightbit.tasks import RunJob, Trained, load_task

BLOCK = 'He said "no (never)" and left.\nSHE stayed; 12 days, they say.\n\n'
TEXT = BLOCK * 60


@pytest.fixture(scope="module", params=["characters", "words", "bpe"])
def made(request, tmp_path_factory):
    """(trained, data) of each kind of tokens, untrained."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text(TEXT)
    options = TextOptions(
        tokens=request.param,
        vocabulary=0 if request.param != "bpe" else 300,
        embedding=5,
        context=16,
        backbone_options='{"hidden": 8}',
    )
    task = load_task("text")
    data = task.build_data(options, str(path), 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, data.facts).eval()
    return Trained(task, model, options, data.facts, torch.device("cpu"), Path("RUN")), data


@pytest.fixture(scope="module")
def trained(made):
    return made[0]


def _run(trained, *inputs, output=None, **options):
    said, streamed = [], []
    job = RunJob(inputs, output, TextRunOptions(**options), said.append, streamed.append)
    run(trained, job)
    return said, streamed


def test_one_sample_is_streamed_and_its_seed_decides(trained, tmp_path):
    said, streamed = _run(trained, "He said", length=20)
    assert said == [] and len(streamed) > 5
    assert streamed[0] == "He said" and streamed[-1].endswith("\n")
    again, other = (
        _run(trained, "He said", length=20)[1],
        _run(trained, "He said", length=20, seed=1)[1],
    )
    assert "".join(again) == "".join(streamed) != "".join(other)
    path = tmp_path / "new" / "out.txt"
    said, _ = _run(trained, "He said", length=20, output=path)
    assert path.read_text() == "".join(streamed) and said == [f"written to {path}"]


def test_several_samples_stand_side_by_side_and_a_prompt_is_not_needed(trained, tmp_path):
    path = tmp_path / "out.txt"
    said, streamed = _run(trained, length=12, samples=3, output=path)
    assert streamed == [] and [line.split("\n")[0] for line in said[:3]] == [
        "--- sample 1", "--- sample 2", "--- sample 3",
    ]  # fmt: skip
    assert len({line.split("\n", 1)[1] for line in said[:3]}) > 1
    greedy, _ = _run(trained, "He", length=12, samples=2, temperature=0.0)
    assert greedy[0].split("\n", 1)[1] == greedy[1].split("\n", 1)[1]


def test_a_prompt_comes_from_a_file_or_standard_input(trained, tmp_path, monkeypatch):
    path = tmp_path / "prompt.txt"
    path.write_text("He said")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"He said")))
    texts = ["".join(_run(trained, given, length=9)[1]) for given in ("He said", str(path), "-")]
    assert len(set(texts)) == 1


def test_what_the_model_never_saw_is_named(trained):
    if trained.options.tokens == "bpe":
        pytest.skip("bpe spells what it never saw as bytes")
    wrong = "'é', 'Z'" if trained.options.tokens == "characters" else "'éZ'"
    with pytest.raises(DataError, match=f"the prompt has .* never saw: {wrong}; take them out"):
        _run(trained, "He éZ")
    with pytest.raises(TaskError, match="1 of 2 failed: the prompt has"):
        _run(trained, "He éZ", "He said", length=3)


def test_a_sample_ends_before_the_stop_text(trained):
    whole = "".join(_run(trained, "He said", length=60)[1])[7:]
    if trained.options.tokens == "characters":
        stop = whole[20:22]
        cut = "".join(_run(trained, "He said", length=60, stop=stop)[1])
        assert cut == "He said" + whole.split(stop)[0] + "\n"
    ended = _run(trained, "He said", length=60, samples=2, stop="\\n")[0]
    assert all("\n" not in text.split("\n", 1)[1][7:] for text in ended)


def test_scores_are_said_and_a_text_read_with_learning_scores_otherwise(trained, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(TEXT)
    said, _ = _run(trained, str(path), score=True)
    adapted, _ = _run(trained, str(path), score=True, adapt=True)
    nats = [float(line[0].split(": ")[1].split(" nats")[0]) for line in (said, adapted)]
    assert nats[1] < nats[0]
    assert f"{nats[0] / np.log(2):.3f}"[:4] in said[0]
    before = "".join(_run(trained, str(path), length=200)[1])
    assert "".join(_run(trained, str(path), length=200, adapt=True)[1]) != before


def test_neurons_are_drawn_into_a_png(trained, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(BLOCK * 6)
    target = tmp_path / "n.png"
    said, _ = _run(trained, str(path), neurons=2, output=target)
    assert said == [f"written to {target}"]
    assert read_picture(target).shape[2] == 3
    with pytest.raises(UsageError, match="must end in .png"):
        _run(trained, str(path), neurons=1, output=tmp_path / "n.txt")


def test_samples_are_texts_and_a_picture(made):
    trained, data = made
    found = samples(trained.model, data, 2)
    assert [one.name for one in found] == ["text_1", "text_2", "neurons"]
    assert found[0].text != found[1].text and len(found[0].text) > 100
    assert found[2].picture.dtype == np.uint8 and found[2].picture.shape[0] > 100


def test_tokens_that_come_one_by_one_give_the_text_of_all(made):
    _, data = made
    part = data.splits["test"]
    decoder = Decoder(part.tokens, part.ids[:20])
    written = "".join(decoder.add(int(token)) for token in part.ids[20:])
    whole = part.tokens.decode(part.ids)
    assert whole.endswith(written) and whole == part.tokens.decode(part.ids[:20]) + written


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ((), {"score": True}, "name a text file, or - for standard input"),
        (("a", "b"), {"neurons": 1, "output": Path("x.png")}, "x.png is one file"),
        (("\n",), {"score": True}, "too short to be scored"),
        (("\n",), {"neurons": 1}, "is too short"),
        (("He",), {"output": Path("."), "length": 1}, "is a folder; name a text file"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused(trained, inputs, options, message):
    with pytest.raises((UsageError, DataError), match=message):
        _run(trained, *inputs, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length is 0; it must be 1 or more"),
        ({"samples": 0}, "samples is 0"),
        ({"temperature": -1.0}, "temperature is -1.0; it must not be below 0"),
        ({"top_p": 0.0}, r"top_p is 0.0; it must lie in \(0, 1\]"),
        ({"repetition_penalty": 0.5}, "repetition_penalty is 0.5; it must be 1 or more"),
        ({"score": True, "neurons": 2}, "two jobs"),
    ],
)
def test_run_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        TextRunOptions(**options)


def test_cells_that_follow_a_property_are_found():
    text = TEXT[:1000]
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(1000, 2, 9)).clip(-1, 1)
    column = np.array([len(text[: i + 1].rsplit("\n", 1)[-1]) for i in range(1000)])
    cells[:, 1, 4] = -column / 40
    open_quotes = np.array([text[: i + 1].count('"') % 2 for i in range(1000)])
    cells[:, 0, 7] = open_quotes - 0.5 + 0.1 * rng.normal(size=1000)
    found = {one.meaning: one for one in telling_neurons(cells, list(text), 9)}
    line = found["position in the line"]
    assert (line.layer, line.cell) == (1, 4) and line.correlation == pytest.approx(-1, abs=0.01)
    quotes = found["inside double quotes"]
    assert (quotes.layer, quotes.cell) == (0, 7) and quotes.correlation > 0.9
    assert "layer 1, cell 8: inside double quotes (r = +0.9" in quotes.title


def test_a_picture_is_red_below_zero_and_blue_above():
    drawn = picture(["a ", "b"], [np.array([-1.0, 1.0])], ["title"])
    red = (drawn == (255, 64, 64)).all(-1)
    blue = (drawn == (64, 64, 255)).all(-1)
    assert red.sum() > 150 and blue.sum() > 80
    assert np.argwhere(red)[:, 1].max() < np.argwhere(blue)[:, 1].min()
