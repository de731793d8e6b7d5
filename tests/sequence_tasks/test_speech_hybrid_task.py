"""The hybrid on real digits: GMM, alignment, network, search, and `eightbit run`."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.datasets.lexicons import DIGITS
from eightbit.errors import DataError, UsageError
from eightbit.sequence_tasks.speech_hybrid.data import Batches
from eightbit.sequence_tasks.speech_hybrid.inputs import Speakers, moments, windows_of
from eightbit.sequence_tasks.speech_hybrid.options import SpeechHybridOptions
from eightbit.sequence_tasks.speech_hybrid.run import SpeechHybridRunOptions
from eightbit.tasks import Moment, RunJob, Task, TaskData, Trained, decayed_groups, load_task
from eightbit.train.events import wav_bytes

FSDD = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "fsdd"
needs_fsdd = pytest.mark.skipif(
    not FSDD.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds fsdd"
)
SMALL = SpeechHybridOptions(
    window=11, backbone_options='{"hidden": [128, 128]}', gaussians=1, augment=0.0
)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("speech-hybrid")


@pytest.fixture(scope="module")
def data(task: Task) -> TaskData:
    """A third of the training digits, so that the GMM is soon trained."""
    whole = task.build_data(SMALL, "fsdd", 0)
    some = whole.splits["train"][::3]
    batches = Batches(some, DIGITS, SMALL, whole.facts["rate"], 0)
    return TaskData(whole.facts, batches.examples, batches, {**whole.splits, "train": some})


@pytest.fixture(scope="module")
def model(task: Task, data: TaskData) -> torch.nn.Module:
    return trained_model(task, SMALL, data, 300, 256)


def trained_model(
    task: Task, options: SpeechHybridOptions, data: TaskData, steps: int, size: int
) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, data.facts).train()
    assert task.begin is not None
    task.begin(model, data)
    optimizer = torch.optim.AdamW(decayed_groups(model, task.presets["fast"].learning), lr=2e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        loss = task.loss(model, data.batch(step, size), Moment(step, 0.0, torch.Generator()))
        optimizer.zero_grad()
        loss["loss"].backward()
        optimizer.step()
    return model.eval()


def rates(
    task: Task, data: TaskData, model: torch.nn.Module, control: Any, split: Any = "validation"
) -> dict[str, float]:
    with torch.no_grad():
        outcome = task.measure(model, data, split, control)
    every = np.arange(outcome.units)
    return {name: value(every) for name, value in outcome.values.items()}


@needs_fsdd
def test_some_seconds_of_training_beat_both_controls(
    task: Task, data: TaskData, model: torch.nn.Module
) -> None:
    found = rates(task, data, model, "none")
    for control in ("trivial", "shuffled"):
        assert found["wer"] < 0.3 * rates(task, data, model, control)["wer"]
    assert found["gmm_wer"] < 0.3
    assert found["gain"] == pytest.approx(found["gmm_wer"] - found["wer"])


@needs_fsdd
@pytest.mark.long
def test_a_minute_of_training_leaves_hardly_an_error(task: Task) -> None:
    preset = task.presets["fast"]
    data = task.build_data(preset.options, "fsdd", 0)
    model = trained_model(task, preset.options, data, 1500, 512)
    found = rates(task, data, model, "none", "test")
    assert found["wer"] < 0.03
    assert found["gmm_wer"] < 0.05


@needs_fsdd
def test_windows_hold_the_frames_around_the_one_that_is_judged(data: TaskData) -> None:
    batches = cast(Batches, data.batch)
    frames = len(batches.states)
    assert frames == sum(batches.lengths)
    size = 1_000
    every = [batches(step, size) for step in range(-(-frames // size))]
    states = torch.cat([one["states"] for one in every])[:frames]
    assert torch.equal(states.bincount(), batches.states.bincount()), "each frame once an epoch"
    width = batches.frontend.size
    assert every[0]["windows"].shape == (size, 11 * width)
    features = torch.randn(5, 3)
    windows = windows_of(features, 3).reshape(5, 3, 3)
    assert torch.equal(windows[:, 1], features) and torch.equal(windows[1:, 0], features[:-1])
    assert torch.equal(windows[0, 0], features[0]) and torch.equal(windows[-1, 2], features[-1])


def test_a_speaker_of_much_speech_has_mean_zero_and_one_of_none_the_prior() -> None:
    rows = torch.randn(20_000, 13) * 3 + 7
    rows[:, 0] = 0.0  # one level: all frames are loud
    speakers = Speakers(torch.zeros(13), torch.ones(13))
    assert torch.allclose(speakers.normalised("new", rows), rows, atol=1e-4)
    speakers.hear("old", rows)
    found = speakers.normalised("old", rows)[:, 1:]
    assert found.mean().abs() < 0.03 and (found.std() - 1).abs() < 0.03
    mean, variance = moments([rows])
    assert mean[1:].sub(7).abs().max() < 0.1 and variance[1:].sub(9).abs().max() < 0.5


def test_words_that_the_lexicon_lacks_are_named(task: Task, tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(wav_bytes(0.2 * np.sin(np.arange(4_000) / 4), 8_000))
        path.with_suffix(".txt").write_text("YES MAYBE")
    with pytest.raises(DataError, match="has no lexicon"):
        task.build_data(SMALL, str(tmp_path), 0)
    (tmp_path / "lexicon.txt").write_text("YES  Y EH S\n")
    with pytest.raises(DataError, match="lacks MAYBE"):
        task.build_data(SMALL, str(tmp_path), 0)


def test_boltzmann_machines_need_a_sigmoid(task: Task, data: TaskData) -> None:
    if not FSDD.is_dir():
        pytest.skip("set EIGHTBIT_DATA to a folder that holds fsdd")
    options = replace(SMALL, pretrain="rbm", pretrain_steps=2)
    assert task.begin is not None
    with pytest.raises(UsageError, match="need layers with a sigmoid"):
        task.begin(task.build_model(options, data.facts), data)
    smooth = replace(options, backbone_options='{"hidden": [32, 16], "activation": "sigmoid"}')
    model = task.build_model(smooth, data.facts)
    before = [p.clone() for p in model.backbone.parameters()]  # type: ignore[union-attr]
    task.begin(model, data)
    after = list(model.backbone.parameters())  # type: ignore[union-attr]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@needs_fsdd
def test_a_recurrent_backbone_is_refused(task: Task, data: TaskData) -> None:
    options = replace(SMALL, backbone="lstm", backbone_options="{}")
    with pytest.raises(UsageError, match="lstm reads sequences"):
        task.build_model(options, data.facts)


@needs_fsdd
def test_sounds_are_transcribed_with_times(
    task: Task, data: TaskData, model: torch.nn.Module, tmp_path: Path
) -> None:
    one = data.splits["test"][7]
    (tmp_path / "a.wav").write_bytes(wav_bytes(one.samples / 32_768, 8_000))
    trained = Trained(task, model, SMALL, data.facts, torch.device("cpu"), Path("run"))
    for acoustics in ("network", "gmm"):
        job = RunJob(
            [str(tmp_path / "a.wav")],
            tmp_path / "out.json",
            SpeechHybridRunOptions(acoustics=acoustics),  # type: ignore[arg-type]
            lambda line: None,
        )
        task.run(trained, job)
        (row,) = json.loads((tmp_path / "out.json").read_text())
        (word,) = row["words"]
        assert word["word"] in data.facts["words"]
        assert 0 <= word["start"] < word["end"] <= row["seconds"] + 0.05
        assert 0 < word["confidence"] <= 1
    assert len(task.samples(model, data, 2)) == 2
