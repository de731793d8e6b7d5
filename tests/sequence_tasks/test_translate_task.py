"""The whole task on real sentences: data, some seconds of training, scores, use."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.errors import DataError, EightBitError, TaskError, UsageError
from eightbit.sequence_tasks.translate import TranslateOptions, TranslateRunOptions
from eightbit.sequence_tasks.translate.data import BEGIN, END, PAD, UNK, Vocabulary, build_data
from eightbit.sequence_tasks.translate.run import _converse, _work
from eightbit.sequence_tasks.translate.search import Beam
from eightbit.sequence_tasks.translate.use import Translator, as_network
from eightbit.tasks import Moment, RunJob, Task, TaskData, Trained, decayed_groups, load_task

MULTI30K = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "multi30k"
needs_multi30k = pytest.mark.skipif(
    not MULTI30K.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds multi30k"
)
SMALL = TranslateOptions(
    source="en",
    target="fr",
    tokens="words",
    vocabulary=1000,
    embedding=64,
    encoder_hidden=48,
    hidden=96,
    cell="gru",
    decoder_layers=1,
    dropout=0.0,
    word_dropout=0.0,
    label_smoothing=0.0,
    longest=12,
)
_COLOURS = ("red", "green", "blue", "black")
_THINGS = ("dog", "cat", "ball", "house", "car")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("translate")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language in which the words stand the other way round and end in o."""
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    for split, count in (("train", 400), ("val", 20), ("test", 30)):
        lines = [
            f"the {_COLOURS[a]} {_THINGS[b]} and the {_COLOURS[c]} {_THINGS[d]}."
            for a, b, c, d in rng.integers(0, 4, (count, 4))
        ]
        (folder / f"{split}.aa").write_text("\n".join(lines))
        turned = [
            " ".join(word.strip(".") + "o" for word in line.split()[::-1]) + "!" for line in lines
        ]
        (folder / f"{split}.bb").write_text("\n".join(turned))
    return folder


TOY = TranslateOptions(
    source="aa",
    target="bb",
    tokens="words",
    vocabulary=100,
    embedding=24,
    encoder_hidden=16,
    hidden=32,
    decoder_layers=1,
    dropout=0.0,
    word_dropout=0.0,
    label_smoothing=0.0,
)


def _train(
    task: Task, data: TaskData, options: TranslateOptions, steps: int, size: int
) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, data.facts)
    groups = decayed_groups(model, task.presets["attention"].learning)
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1.2e-2 * min(1.0, (step + 1) / 20, (steps - step) / steps * 2)
        moment = Moment(step, step / steps, torch.Generator())
        parts = task.loss(model, data.batch(step, size), moment)
        optimizer.zero_grad()
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def trained(task: Task, toy: Path) -> Trained:
    data = task.build_data(TOY, str(toy), 0)
    model = _train(task, data, TOY, 150, 32)
    return Trained(task, model, TOY, data.facts, torch.device("cpu"), Path("run"))


@needs_multi30k
def test_some_seconds_of_training_beat_both_controls(task: Task) -> None:
    data = task.build_data(SMALL, "multi30k", 0)
    model = _train(task, data, SMALL, 320, 48)
    scores = {}
    for control in ("none", "trivial", "shuffled"):
        outcome = task.measure(model, data, "test", control)
        assert outcome.units == 1000
        every = np.arange(outcome.units)
        scores[control] = {name: value(every) for name, value in outcome.values.items()}
        if control == "none":
            assert "tok:13a" in outcome.details["signature"]
            assert outcome.details["beam"] == 5
            assert outcome.details["sentences_per_second"] > 0
    for control in ("trivial", "shuffled"):
        assert scores["none"]["bleu"] > 2 * scores[control]["bleu"]
        assert scores["none"]["chrf"] > scores[control]["chrf"] + 3
        assert scores["none"]["perplexity"] < 0.8 * scores[control]["perplexity"]


@needs_multi30k
@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_batches_hold_sentences_of_similar_length(kind: str) -> None:
    longest = 300 if kind == "characters" else 80
    options = TranslateOptions(tokens=kind, vocabulary=3000, longest=longest)
    data = build_data(options, "multi30k", 1)
    json.dumps(data.facts)
    vocabulary = Vocabulary.of(data.facts)
    assert vocabulary.shared == (kind == "bpe")
    filled = total = 0
    seen: set[str] = set()
    for step in range(40):
        batch = data.batch(step, 64)
        assert {len(part) for part in batch.values()} == {64}
        assert (batch["target"][:, 0] == BEGIN).all() and (batch["source"][:, -1] != 1).all()
        filled += int((batch["target"] != PAD).sum())
        total += batch["target"].numel()
        assert ((batch["target"] == END).sum(1) == 1).all()
        seen |= {vocabulary.target.decode(row.numpy()) for row in batch["target"]}
    assert filled / total > 0.93
    assert len(seen) > 0.95 * 40 * 64  # no sentence twice in an epoch
    assert len(seen & set(data.splits["train"].texts.target)) > 0.95 * len(seen)


def test_dropped_merges_change_with_the_epoch_only(toy: Path) -> None:
    options = replace(TOY, tokens="bpe", vocabulary=330, piece_dropout=0.5)
    data, again = (build_data(options, str(toy), 7) for _ in range(2))
    epoch = data.examples // 8
    assert torch.equal(data.batch(3, 8)["source"], again.batch(3, 8)["source"])
    vocabulary = Vocabulary.of(data.facts)
    texts = set(data.splits["train"].texts.source)
    for step in (0, epoch):
        for row in data.batch(step, 8)["source"]:
            assert vocabulary.source.decode(row.numpy()) in texts


def test_a_small_language_is_learnt_and_predictions_are_kept(trained: Trained, toy: Path) -> None:
    task = trained.task
    data = task.build_data(TOY, str(toy), 0)
    outcome = task.measure(trained.model, data, "test", "none")
    kept = data.splits["test"].memory["predicted"]
    task.measure(trained.model, data, "test", "shuffled")
    assert data.splits["test"].memory["predicted"] is kept
    every = np.arange(outcome.units)
    assert outcome.values["bleu"](every) > 90 and outcome.values["perplexity"](every) < 1.3
    # `data` leaves a tensor's own counter of changes as it is, as some operations on a GPU do.
    next(trained.model.parameters()).data.mul_(1.001)
    task.measure(trained.model, data, "test", "none")
    assert data.splits["test"].memory["predicted"] is not kept
    shown = task.samples(trained.model, data, 3)
    assert len(shown) == 3 and all(one.picture is not None and one.text for one in shown)
    # A run with other tokens is scored in its own; one of other languages is refused.
    options = replace(TOY, tokens="bpe", vocabulary=330)
    other = task.build_data(options, str(toy), 0)
    pieces = task.build_model(options, other.facts).eval()
    assert task.measure(pieces, data, "test", "none").units == outcome.units
    turned = task.build_data(replace(TOY, source="bb", target="aa"), str(toy), 0)
    with pytest.raises(TaskError, match="this network translates bb to aa, and the data are aa"):
        task.measure(task.build_model(TOY, turned.facts).eval(), data, "test", "none")
    with pytest.raises(DataError, match="no other split"):
        task.measure(trained.model, data, "other", "none")  # type: ignore[arg-type]


@dataclass
class _Heard:
    lines: list[str]

    def job(self, trained: Trained, *inputs: str, output: Path | None = None, **told) -> RunJob:
        options = TranslateRunOptions(**told)
        return RunJob(inputs, output, options, self.lines.append, load=lambda path: trained)


@pytest.fixture
def heard() -> _Heard:
    return _Heard([])


SENTENCE = "the red dog and the blue cat."
TURNED = "cato blueo theo ando dogo redo theo!"


def test_files_give_a_line_for_a_line(trained: Trained, heard: _Heard, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text(f"{SENTENCE}\n\nthe green ball and the red dog.\n")
    trained.task.run(trained, heard.job(trained, str(source)))
    assert heard.lines == [TURNED, "", "dogo redo theo ando ballo greeno theo!"]
    target = tmp_path / "deep" / "out.txt"
    trained.task.run(trained, heard.job(trained, str(source), output=target))
    assert target.read_text().splitlines() == heard.lines
    several = [source, tmp_path / "two.txt", tmp_path / "missing.txt"]
    several[1].write_text(SENTENCE)
    with pytest.raises(TaskError, match=r"1 of 3 failed: .*missing.txt does not exist"):
        job = heard.job(trained, *map(str, several), output=tmp_path / "folder")
        trained.task.run(trained, job)
    assert (tmp_path / "folder" / "two.txt").read_text() == TURNED + "\n"


def test_standard_input_is_read_from_a_pipe(
    trained: Trained, heard: _Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inputs in ((), ("-",)):
        monkeypatch.setattr("sys.stdin", io.StringIO(SENTENCE))
        trained.task.run(trained, heard.job(trained, *inputs))
    assert heard.lines == [TURNED, TURNED]


def test_at_the_prompt_a_line_is_answered_at_once(trained: Trained, heard: _Heard) -> None:
    typed = iter([SENTENCE, ""])
    work = _work(trained, heard.job(trained))
    _converse(work, heard.job(trained), lambda _: next(typed))
    assert heard.lines == ["aa to bb; an empty line ends.", TURNED]


def test_n_best_are_in_order_and_an_ensemble_of_equals_changes_nothing(
    trained: Trained, heard: _Heard, tmp_path: Path
) -> None:
    source = tmp_path / "in.txt"
    source.write_text(SENTENCE)
    trained.task.run(trained, heard.job(trained, str(source), n_best=3, ensemble="other, third"))
    rows = [line.split("\t") for line in heard.lines]
    assert [row[0] for row in rows] == ["1", "1", "1"] and rows[0][2] == TURNED
    scores = [float(row[1]) for row in rows]
    assert scores == sorted(scores, reverse=True) and len({row[2] for row in rows}) == 3
    facts = {**trained.facts, "languages": ["aa", "cc"]}
    other = replace(trained, model=trained.task.build_model(TOY, facts))
    job = replace(heard.job(trained, str(source), ensemble="other"), load=lambda path: other)
    with pytest.raises(TaskError, match="other has other tokens or languages than run"):
        trained.task.run(trained, job)


def test_unknown_words_are_named_and_taken_over(
    trained: Trained, heard: _Heard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = Vocabulary.of(trained.facts)
    translator = Translator([as_network(trained.model)], vocabulary, torch.float32)
    weights = translator.alignment(SENTENCE, vocabulary.target.encode(TURNED).tolist())
    assert weights.shape == (9, 9) and np.allclose(weights.sum(1), 1, atol=1e-4)
    # The network is made to say that it does not know: the word that it looks at is written.
    model = as_network(trained.model)
    held = model.bias.clone()
    model.bias[UNK] = 1e4  # type: ignore[index, operator]
    try:
        beam = Beam(1, more=3, ratio=0.0)
        plain, taken = (
            translator.translate([SENTENCE], beam, replace_unknown=swap)[0][0].text
            for swap in (False, True)
        )
    finally:
        model.bias.copy_(held)  # type: ignore[operator]
    assert plain == "<unk> <unk>"
    assert set(taken.split()) <= set(vocabulary.source.pieces(SENTENCE))
    source = tmp_path / "in.txt"
    source.write_text("the \u017cebra and the red dog.")
    trained.task.run(trained, heard.job(trained, str(source)))
    assert "hardly translated: '\u017c', '\u017cebra'" in capsys.readouterr().err


def test_attention_is_drawn(trained: Trained, heard: _Heard, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text(f"{SENTENCE}\n\n{SENTENCE}\n")
    trained.task.run(trained, heard.job(trained, str(source), attention=str(tmp_path / "seen")))
    assert sorted(p.name for p in (tmp_path / "seen").iterdir()) == ["00001.png", "00003.png"]


def test_networks_of_2014_translate_but_have_nothing_to_draw(
    task: Task, toy: Path, heard: _Heard, tmp_path: Path
) -> None:
    source = tmp_path / "in.txt"
    source.write_text(SENTENCE)
    for method in ("sutskever", "cho"):
        options = replace(TOY, method=method)
        data = task.build_data(options, str(toy), 0)
        model = _train(task, data, options, 2, 8)
        made = Trained(task, model, options, data.facts, torch.device("cpu"), Path("run"))
        task.run(made, heard.job(made, str(source), beam=2))
        with pytest.raises(UsageError, match="2014 have no attention to draw"):
            task.run(made, heard.job(made, str(source), attention="seen"))
    assert len(heard.lines) == 2


def test_bad_inputs_are_one_sentence(trained: Trained, heard: _Heard, tmp_path: Path) -> None:
    bad = {"empty.txt": b"", "blank.txt": b"\n \n", "latin.txt": b"a\n\xe9\n"}
    for name, raw in bad.items():
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "same.txt").write_text(SENTENCE)
    cases: list[tuple[type[EightBitError], str, RunJob]] = [
        (DataError, "empty.txt is empty", heard.job(trained, str(tmp_path / "empty.txt"))),
        (DataError, "blank.txt is empty", heard.job(trained, str(tmp_path / "blank.txt"))),
        (DataError, r"not UTF-8 text \(line 2\)", heard.job(trained, str(tmp_path / "latin.txt"))),
        (DataError, "is a folder; name the files", heard.job(trained, str(tmp_path))),
        (
            UsageError,
            "is the file that is read",
            heard.job(trained, str(tmp_path / "same.txt"), output=tmp_path / "same.txt"),
        ),
        (
            UsageError,
            "several inputs need a folder",
            heard.job(trained, "a", "b", output=tmp_path / "same.txt"),
        ),
        (UsageError, "two inputs have the same file name", heard.job(trained, "a/x", "b/x")),
    ]
    for kind, message, job in cases:
        with pytest.raises(kind, match=message):
            trained.task.run(trained, job)
    for told, message in (
        ({"beam": 0}, "beam is 0; it must be 1 or more"),
        ({"n_best": 6}, "n_best is 6; it cannot be above the beam, 5"),
        ({"length_penalty": -1.0}, "length_penalty is -1.0; it must not be below 0"),
    ):
        with pytest.raises(UsageError, match=message):
            TranslateRunOptions(**told)  # type: ignore[arg-type]


def test_sentences_that_are_all_too_long_are_refused(toy: Path) -> None:
    with pytest.raises(DataError, match="no training pair has at most 4 tokens; raise --longest"):
        build_data(replace(TOY, longest=4), str(toy), 0)
