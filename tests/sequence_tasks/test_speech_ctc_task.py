"""The end-to-end recognizer: expected word errors, real digits, and `eightbit run`."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.errors import DataError, TaskError, UsageError
from eightbit.sequence_tasks.speech_ctc.options import SpeechCtcOptions
from eightbit.sequence_tasks.speech_ctc.run import SpeechCtcRunOptions
from eightbit.sequence_tasks.speech_ctc.transcribe import Transcriber
from eightbit.sequence_tasks.speech_ctc.word_errors import (
    Spelling,
    collapsed,
    expected_word_errors,
)
from eightbit.tasks import Moment, RunJob, Task, TaskData, Trained, decayed_groups, load_task
from eightbit.train.events import wav_bytes

FSDD = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "fsdd"
needs_fsdd = pytest.mark.skipif(
    not FSDD.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds fsdd"
)
SMALL = SpeechCtcOptions(
    channels=8,
    stride=2,
    backbone_options='{"hidden": 64, "bidirectional": true}',
    dropout=0.0,
    augment=0.0,
)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("speech-ctc")


@pytest.fixture(scope="module")
def data(task: Task) -> TaskData:
    return task.build_data(SMALL, "fsdd", 0)


def train(task: Task, data: TaskData, options: SpeechCtcOptions, steps: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, data.facts).train()
    optimizer = torch.optim.AdamW(decayed_groups(model, task.presets["fast"].learning), lr=5e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1.0, (step + 1) / 20, 2 * (1 - step / steps))
        moment = Moment(step, step / steps, torch.Generator().manual_seed(step))
        loss = task.loss(model, data.batch(step, 16), moment)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def errors(task: Task, data: TaskData, model: torch.nn.Module, split: Any) -> dict[str, float]:
    found = {}
    for control in ("none", "trivial", "shuffled"):
        with torch.no_grad():
            outcome = task.measure(model, data, split, control)
        found[control] = outcome.values["wer"](np.arange(outcome.units))
    return found


@needs_fsdd
def test_some_seconds_of_training_beat_both_controls(task: Task, data: TaskData) -> None:
    found = errors(task, data, train(task, data, SMALL, 250), "validation")
    assert found["none"] < 0.8 * min(found["trivial"], found["shuffled"])


@needs_fsdd
@pytest.mark.long
def test_a_minute_of_training_hears_rows_of_digits(task: Task) -> None:
    options = replace(SMALL, row=3, word_error_share=0.1, augment=0.3)
    data = task.build_data(options, "fsdd", 0)
    model = train(task, data, options, 900)
    assert errors(task, data, model, "test")["none"] < 0.2


@needs_fsdd
def test_rows_are_of_one_speaker_and_hold_every_recording(task: Task, data: TaskData) -> None:
    rows = task.build_data(replace(SMALL, row=4), "fsdd", 0)
    words = [word for one in rows.splits["test"] for word in one.text.split()]
    assert sorted(words) == sorted(one.text for one in data.splits["test"])
    assert max(len(one.text.split()) for one in rows.splits["test"]) == 4
    batch = rows.batch(3, 8)
    assert batch["features"].shape[0] == 8 and (batch["label_lengths"] >= 3).all()
    letters = rows.facts["alphabet"]
    said = "".join(letters[i - 1] for i in batch["labels"][0][: batch["label_lengths"][0]])
    assert set(said.split()) <= set(data.facts["words"])


def test_the_gradient_of_expected_word_errors_is_that_of_all_paths() -> None:
    alphabet, true = "A ", [[1, 2, 1]]
    spelling = Spelling(alphabet)
    logits = torch.tensor([[[0.2, 0.9, -0.3], [0.1, -0.5, 0.4], [0.3, 0.6, -0.2]]])
    logits.requires_grad_()
    log_probs = logits.log_softmax(-1)
    exact = torch.zeros(())
    for path in itertools.product(range(3), repeat=3):
        row = collapsed(torch.tensor([path]))[0]
        wrong = abs(len(spelling.words(row)) - 2)  # all words are rows of A
        heard = spelling.words(row)
        wrong += sum(a != b for a, b in zip(["A", "A"], heard, strict=False))
        exact = exact + wrong / 2 * log_probs[0, torch.arange(3), list(path)].sum().exp()
    (wanted,) = torch.autograd.grad(exact, logits, retain_graph=True)
    loss, rate = expected_word_errors(
        log_probs, torch.tensor([3]), true, spelling, 40_000, torch.Generator().manual_seed(0)
    )
    (found,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(found, wanted, atol=0.01) and wanted.abs().max() > 0.03
    assert float(rate) == pytest.approx(float(exact.detach()), abs=0.01)


# ------------------------------------------------------------------------------------- run


@pytest.fixture(scope="module")
def trained(task: Task) -> Trained:
    facts = {
        "rate": 8_000,
        "alphabet": " NOESY",
        "words": ["NO", "YES"],
        "language": "\\data\\\nngram 1=4\n\n\\1-grams:\n-0.5\tNO\n-0.5\tYES\n-0.5\t</s>\n"
        "-9\t<unk>\n\n\\end\\\n",
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(SMALL, facts).eval()
    return Trained(task, model, SMALL, facts, torch.device("cpu"), Path("run"))


def job(inputs: list[str], output: Path | None = None, **options: Any) -> tuple[RunJob, list[str]]:
    said: list[str] = []
    return RunJob(inputs, output, SpeechCtcRunOptions(**options), said.append), said


def test_what_is_heard_does_not_depend_on_the_other_sounds(trained: Trained) -> None:
    rng = np.random.default_rng(0)
    sounds = [(rng.normal(0, 2_000, n)).astype(np.int16) for n in (3_000, 9_000, 3_100)]
    transcriber = Transcriber(trained.model, trained.facts, SMALL)
    together = transcriber.log_probs(sounds)
    for sound, found in zip(sounds, together, strict=True):
        alone = transcriber.log_probs([sound])[0]
        assert alone.shape == found.shape and np.allclose(alone, found, atol=1e-4)


def test_words_come_from_the_dictionary_with_rising_times(trained: Trained) -> None:
    logits = np.full((12, 7), -4.0, np.float32)
    spelled = [0, 2, 2, 3, 0, 1, 0, 6, 4, 5, 5, 0]  # "NO YES" as labels of " NOESY"
    for frame, label in enumerate(spelled):
        logits[frame, label] = 3.0
    logits[3] = 0.0  # a character that nobody understood
    log_probs = torch.from_numpy(logits).log_softmax(-1).numpy()
    words = Transcriber(trained.model, trained.facts, SMALL).words(log_probs)
    assert [word.text for word in words] == ["NO", "YES"]
    assert 0 < words[0].start < words[0].end <= words[1].start < words[1].end <= 12 * 0.02
    assert words[1].confidence > words[0].confidence > 0


def test_sounds_are_transcribed_and_failures_listed(
    task: Task, trained: Trained, tmp_path: Path
) -> None:
    tone = 0.3 * np.sin(np.arange(16_000) / 5)
    (tmp_path / "a.wav").write_bytes(wav_bytes(tone, 16_000))
    (tmp_path / "b.wav").write_bytes(b"no sound")
    (tmp_path / "c.wav").write_bytes(wav_bytes(np.zeros(8_000), 8_000))
    one, said = job([str(tmp_path)], tmp_path / "out.json")
    with pytest.raises(TaskError, match=r"b\.wav"):
        task.run(trained, one)
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [Path(row["file"]).name for row in rows] == ["a.wav", "c.wav"]
    assert any("silent" in note or "no speech" in note for note in rows[1]["notes"])
    assert set(rows[0]["text"].split()) <= {"NO", "YES"} and said


def test_another_model_of_language_brings_its_words(
    task: Task, trained: Trained, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(0.3 * np.sin(np.arange(8_000) / 3), 8_000))
    (tmp_path / "bad.arpa").write_text("\\data\\\nngram 1=x\n")
    with pytest.raises(DataError, match="bad.arpa"):
        task.run(trained, job([str(tmp_path / "a.wav")], arpa=str(tmp_path / "bad.arpa"))[0])
    (tmp_path / "words.txt").write_text("NOSY\n")
    one, _ = job([str(tmp_path / "a.wav")], tmp_path / "o.txt", words=str(tmp_path / "words.txt"))
    task.run(trained, one)
    assert set((tmp_path / "o.txt").read_text().split()) <= {"NOSY"}
    with pytest.raises(UsageError, match="longest is 0.5"):
        SpeechCtcRunOptions(longest=0.5)
    with pytest.raises(UsageError, match="Name sound files"):
        task.run(trained, job([])[0])
