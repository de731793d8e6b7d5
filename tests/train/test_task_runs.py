"""The frame of all tasks: one loop, run folders, resuming, scores beside controls."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eightbit import tasks
from eightbit.backbones import create_backbone
from eightbit.cli import main
from eightbit.errors import EightBitError, RunFolderError, TaskError, TrainingError, UsageError
from eightbit.evaluate.task_scores import ScoreSettings, difference, estimate, score_run
from eightbit.tasks import Learning, RunJob, load_task
from eightbit.train.reporting import Reporter
from eightbit.train.runs import RunFolder
from eightbit.train.supervised import Learner, make_fabric, rate_factor
from eightbit.train.task_models import load_trained, trained_for
from eightbit.train.task_session import TaskPlan, TaskRequest, resume_task_run, start_task_run

NAME = "toy-task"


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Registers the toy task for the test."""
    path = Path(__file__).with_name("toy_task.py")
    spec = importlib.util.spec_from_file_location("toy_task_of_tests", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy_task_of_tests", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(tasks._MODULES, NAME, "toy_task_of_tests")
    return module


def quiet() -> Reporter:
    return Reporter(Console(file=io.StringIO()))


def a_plan(preset: str = "small", *, options=None, seed: int = 0, **learning) -> TaskPlan:
    found = load_task(NAME).presets[preset]
    request = TaskRequest(task=NAME, preset=preset, data="drawn", seed=seed, precision="fp32")
    options = dataclasses.replace(found.options, **(options or {}))
    return TaskPlan(request, options, dataclasses.replace(found.learning, **learning))


def a_learner(preset: str = "small", **learning) -> Learner:
    plan = a_plan(preset, **learning)
    task = load_task(NAME)
    data = task.build_data(plan.options, "drawn", 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(plan.options, data.facts)
    return Learner(task, model, data, plan.learning, 0, make_fabric("cpu", 1, "fp32"))


def steps(learner: Learner, until: int, of: int) -> None:
    for _ in learner.steps(lambda step: 1.0 if step >= until else step / of):
        pass


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.judged.state_dict().items()}


def same_models(a: RunFolder, b: RunFolder) -> bool:
    """Whether two runs left the same weights, bit for bit."""
    first, second = load_file(a.model), load_file(b.model)
    return all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


# --------------------------------------------------------------------------------- the loop


def test_the_learning_rate_rises_and_falls_as_the_schedule_says():
    linear = Learning(schedule="linear", warmup=0.2, final=0.1)
    assert rate_factor(linear, 0.1) == pytest.approx(0.5)
    assert rate_factor(linear, 0.2) == pytest.approx(1.0)
    assert rate_factor(linear, 0.6) == pytest.approx(0.55)
    cosine = Learning(schedule="cosine", warmup=0.0)
    assert rate_factor(cosine, 0.5) == pytest.approx(0.5)
    assert rate_factor(cosine, 0.75) == pytest.approx(0.5 - 0.5 / 2**0.5)
    assert rate_factor(Learning(schedule="constant", warmup=0.0), 0.9) == 1.0
    halving = Learning(schedule="halving", warmup=0.0)  # 5 epochs, then each half epoch to 7.5
    by_epoch = [rate_factor(halving, epoch / 7.5) for epoch in (0, 4.9, 5.1, 5.6, 6.1, 6.6, 7.1)]
    assert by_epoch == [1, 1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_rmsprop_takes_the_step_of_graves_2013():
    learner = a_learner(
        optimizer="rmsprop", learning_rate=1e-4, weight_decay=0, warmup=0, schedule="constant"
    )
    before = {n: p.detach().clone() for n, p in learner.model.named_parameters()}
    gradients: dict[str, torch.Tensor] = {}
    for name, parameter in learner.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda p, name=name: gradients.update({name: p.grad.clone()})
        )
    steps(learner, 1, 12)
    for name, parameter in learner.model.named_parameters():
        gradient = gradients[name]
        square, mean = 0.05 * gradient**2, 0.05 * gradient
        moved = -1e-4 * gradient / ((square - mean**2).sqrt() + 1e-4)
        torch.testing.assert_close(parameter.detach() - before[name], moved, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("preset", ["small", "averaged"])
def test_a_learner_that_was_stopped_equals_one_that_was_not(preset):
    whole = a_learner(preset)
    steps(whole, 12, 12)
    first = a_learner(preset)
    steps(first, 5, 12)
    state = first.get_state()
    second = a_learner(preset)
    torch.rand(7)  # the global generator stands elsewhere, and that must not matter
    second.set_state(state)
    steps(second, 12, 12)
    expected, found = weights(whole), weights(second)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def _stay(mode: bool = True) -> None:
    """Takes the place of `Module.train`, so that a module stays in evaluation mode."""


def test_accumulating_parts_gives_the_same_gradient_as_the_whole_batch():
    gradients = []
    for parts in (1, 4):
        learner = a_learner(accumulate=parts, optimizer="sgd", momentum=0.0, weight_decay=0.0)
        learner.model.dropout.p = 0.0
        learner.model.backbone.eval()
        learner.model.backbone.train = _stay  # batch norm of a part is not that of the whole
        before = learner.model.head.weight.detach().clone()
        steps(learner, 1, 10)
        gradients.append(learner.model.head.weight.detach() - before)
    assert gradients[0].abs().max() > 1e-7
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-8)


def test_the_average_is_the_running_mean_of_the_weights():
    learner = a_learner("averaged")
    expected = learner.model.head.weight.detach().clone()
    for index, _ in enumerate(learner.steps(lambda step: step / 6), 1):
        decay = min(0.9, (1 + index) / (10 + index))
        expected = decay * expected + (1 - decay) * learner.model.head.weight.detach()
    torch.testing.assert_close(learner.average.head.weight, expected)
    assert learner.judged is learner.average


def test_gradients_are_clipped_to_the_norm():
    plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0}
    learner = a_learner(clip_norm=1e-3, learning_rate=1.0, **plain)
    before = torch.cat([p.detach().flatten() for p in learner.model.parameters()])
    (step,) = learner.steps(lambda step: float(step >= 1))
    after = torch.cat([p.detach().flatten() for p in learner.model.parameters()])
    assert float(step.gradient_norm) > 1e-3
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=0.01)


def test_groups_keep_their_own_rate_and_an_empty_one_is_left_out(toy, monkeypatch):
    def groups(model, learning):
        return [
            {"params": [], "lr": 7.0},
            {"params": list(model.backbone.parameters()), "lr": 0.5},
            {"params": list(model.head.parameters())},
        ]

    monkeypatch.setattr(toy, "TASK", dataclasses.replace(load_task(NAME), parameter_groups=groups))
    learner = a_learner(learning_rate=0.1, warmup=0.0)
    (step,) = learner.steps(lambda step: float(step >= 1))
    rates = [group["lr"] for group in learner._optimizer.param_groups]
    assert rates == pytest.approx([0.05, 0.1]) and step.learning_rate == pytest.approx(0.05)


def test_what_the_model_learns_does_not_depend_on_the_global_generator():
    found = []
    for seed in (1, 2):
        torch.rand(seed)
        learner = a_learner()
        steps(learner, 3, 3)
        found.append(weights(learner)["head.weight"])
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"momentum": 1.0}, {"accumulate": 5}, {"final": 2.0}, {"patience": -1}],
)
def test_learning_refuses_numbers_that_make_no_sense(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("accumulate", "accumulate")):
        Learning(**wrong)


# ------------------------------------------------------------------------------ run folders


def test_a_run_learns_and_leaves_a_folder_that_explains_itself(tmp_path):
    folder, result = start_task_run(a_plan(), out=tmp_path / "run", reporter=quiet())
    assert result.reason == "done" and result.steps == 32
    assert result.validation["accuracy"] > 0.8
    names = {path.name for path in folder.path.iterdir()}
    assert {"config.toml", "model.safetensors", "progress.csv", "events", "README.md"} <= names
    assert "curves.png" in names
    rows = list(csv.DictReader((folder.path / "progress.csv").read_text().splitlines()))
    assert rows[-1]["validation_accuracy"] or rows[-2]["validation_accuracy"]
    events = EventAccumulator(str(folder.path / "events")).Reload()
    tags = events.Tags()
    assert {"train/loss", "train/double", "validation/accuracy"} <= set(tags["scalars"])
    assert tags["images"] == ["samples/all"] and tags["audio"] == ["samples/all"]
    assert "samples/all" in tags["tensors"]
    card = (folder.path / "README.md").read_text()
    assert "Not evaluated yet" in card and "tells red from green" in card


def test_the_model_file_rebuilds_the_model_and_lends_its_trunk(tmp_path):
    folder, _ = start_task_run(a_plan(epochs=1.0), out=tmp_path / "run", reporter=quiet())
    trained = load_trained(folder.path)
    assert trained.task.name == NAME and trained.facts["classes"] == ["red", "green"]
    assert not trained.model.training
    trunk = create_backbone("resnet", (3, 16, 16), depth=8, weights=folder.path)
    expected = trained.model.backbone.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trunk.state_dict().items())
    plan = a_plan(epochs=0.2)
    request = dataclasses.replace(plan.request, backbone_weights=str(folder.path))
    lines = io.StringIO()
    start_task_run(
        dataclasses.replace(plan, request=request),
        out=tmp_path / "next",
        reporter=Reporter(Console(file=lines, width=300)),
    )
    assert "layers carried over" in lines.getvalue()


def test_a_run_that_goes_on_equals_one_that_never_stopped(tmp_path):
    steady = {"schedule": "constant", "warmup": 0.0}
    whole, _ = start_task_run(
        a_plan(epochs=2.0, **steady), out=tmp_path / "whole", reporter=quiet()
    )
    half, _ = start_task_run(a_plan(epochs=1.0, **steady), out=tmp_path / "half", reporter=quiet())
    result = resume_task_run(
        RunFolder.open(half.path), a_plan(epochs=2.0, **steady), reporter=quiet()
    )
    assert result.steps == 16
    assert same_models(whole, half)


def test_a_signal_stops_a_run_where_it_can_go_on(tmp_path, toy, monkeypatch):
    task = load_task(NAME)
    made = []

    def loss(model, batch, moment):
        made.append(moment.step)
        if moment.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return task.loss(model, batch, moment)

    monkeypatch.setattr(toy, "TASK", dataclasses.replace(task, loss=loss))
    folder, result = start_task_run(a_plan(), out=tmp_path / "run", reporter=quiet())
    assert (result.reason, result.signal) == ("stopped", signal.SIGINT)
    monkeypatch.setattr(toy, "TASK", task)
    resume_task_run(RunFolder.open(folder.path), a_plan(), reporter=quiet())
    whole, _ = start_task_run(a_plan(), out=tmp_path / "whole", reporter=quiet())
    assert same_models(whole, folder)


def test_minutes_fit_the_schedule_to_the_time(tmp_path):
    plan = a_plan()
    plan = dataclasses.replace(plan, request=dataclasses.replace(plan.request, minutes=0.05))
    folder, result = start_task_run(plan, out=tmp_path / "run", reporter=quiet())
    assert result.reason == "done" and 0.05 <= result.minutes < 0.5
    assert result.steps != 32


def test_training_stops_early_and_keeps_the_best(tmp_path, toy, monkeypatch):
    scores = iter([0.9, 0.5, 0.4, 0.3, 0.2])

    def measure(model, data, split, control):
        value = next(scores)
        return tasks.Outcome({"accuracy": lambda u: value, "error": lambda u: 1 - value}, 4)

    task = load_task(NAME)
    monkeypatch.setattr(toy, "TASK", dataclasses.replace(task, measure=measure))
    plan = a_plan(patience=2, epochs=1000.0)
    request = dataclasses.replace(plan.request, validate_minutes=1e-9)
    folder, result = start_task_run(
        dataclasses.replace(plan, request=request), out=tmp_path / "run", reporter=quiet()
    )
    assert result.reason == "early"
    best = folder.checkpoints.best()
    assert folder.model.read_bytes() == best.model.read_bytes()
    assert best.step < result.steps


def test_a_loss_that_is_not_a_number_is_one_sentence(tmp_path, toy, monkeypatch):
    task = dataclasses.replace(load_task(NAME), loss=toy.broken_loss)
    monkeypatch.setattr(toy, "TASK", task)
    with pytest.raises(TrainingError, match="not a number at step 0; lower --learning-rate"):
        start_task_run(a_plan(), out=tmp_path / "run", reporter=quiet())


def test_a_gradient_that_is_not_finite_is_one_sentence(tmp_path, toy, monkeypatch):
    def steep(model, batch, moment):
        return {"loss": sum(weight.mul(0).sum().sqrt() for weight in model.parameters())}

    monkeypatch.setattr(toy, "TASK", dataclasses.replace(load_task(NAME), loss=steep))
    with pytest.raises(TrainingError, match="gradient is not finite at step 0; lower"):
        start_task_run(a_plan(clip_norm=1.0), out=tmp_path / "run", reporter=quiet())


def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stands(tmp_path, monkeypatch):
    folder, _ = start_task_run(a_plan(epochs=1.0), out=tmp_path / "run", reporter=quiet())
    before = folder.model.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eightbit.train.checkpoints.save_state", full)
    with pytest.raises(TrainingError, match="the disk is full.*last checkpoint is of step 8"):
        resume_task_run(RunFolder.open(folder.path), a_plan(epochs=2.0), reporter=quiet())
    assert folder.model.read_bytes() == before


def test_what_a_resumed_run_cannot_change_is_refused(tmp_path):
    folder, _ = start_task_run(a_plan(epochs=0.2), out=tmp_path / "run", reporter=quiet())
    folder = RunFolder.open(folder.path)
    with pytest.raises(UsageError, match="dropout is 0.2 in .* cannot change"):
        resume_task_run(folder, a_plan(options={"dropout": 0.5}), reporter=quiet())
    with pytest.raises(UsageError, match="batch_size is 32"):
        resume_task_run(folder, a_plan(batch_size=16), reporter=quiet())
    with pytest.raises(UsageError, match="seed is 0"):
        resume_task_run(folder, a_plan(seed=3), reporter=quiet())


# ------------------------------------------------------------------------- scores and use


@pytest.fixture
def a_run(tmp_path) -> RunFolder:
    folder, _ = start_task_run(a_plan(), out=tmp_path / "run", reporter=quiet())
    return RunFolder.open(folder.path)


def test_scores_stand_beside_their_controls(a_run, tmp_path, capsys):
    path = score_run(str(a_run.path), ScoreSettings(), command="eightbit evaluate run")
    record = json.loads(path.read_text())
    accuracy = record["metrics"]["accuracy"]
    low, high = accuracy["interval"]
    assert low <= accuracy["value"] <= high and accuracy["resamples"] == 1000
    assert accuracy["controls"]["run"] == "not run"
    assert accuracy["controls"]["trivial"]["value"] < 0.7
    assert accuracy["controls"]["shuffled"]["value"] < 0.7 < accuracy["value"]
    assert record["metrics"]["error"]["higher_is_better"] is False
    assert (a_run.path / "picture.png").is_file()
    assert "shuffled" in capsys.readouterr().out
    assert "| accuracy |" in (a_run.path / "README.md").read_text()

    other, _ = start_task_run(a_plan(epochs=0.2), out=tmp_path / "other", reporter=quiet())
    settings = ScoreSettings(control=str(other.path))
    record = json.loads(score_run(str(a_run.path), settings, command="").read_text())
    control = record["metrics"]["accuracy"]["controls"]["run"]
    assert control["run"] == "other" and control["value"] < accuracy["value"]
    gain = control["difference"]
    assert gain["value"] == pytest.approx(accuracy["value"] - control["value"])
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    assert "difference" in capsys.readouterr().out


def test_a_difference_is_paired(rng):
    ours = rng.normal(3.0, 2.0, 400)
    theirs = ours - rng.normal(0.1, 0.2, 400)
    first, second = (
        estimate(lambda units, v=v: float(v[units].mean()), 400, np.random.default_rng(0))
        for v in (ours, theirs)
    )
    gain = difference(first, second)
    low, high = gain.interval
    assert gain.value == pytest.approx((ours - theirs).mean())
    assert high - low == pytest.approx(2 * 1.96 * (ours - theirs).std() / 20, rel=0.1)
    assert first.interval[0] < second.value < first.interval[1] and low > 0


def test_the_bootstrap_interval_covers_a_mean_as_its_theory_says(rng):
    values = rng.normal(3.0, 2.0, 400)
    found = estimate(lambda units: float(values[units].mean()), 400, rng)
    low, high = found.interval
    expected = 1.96 * values.std() / 20
    assert high - low == pytest.approx(2 * expected, rel=0.1)


def test_an_unknown_split_and_a_moved_run_are_refused_in_a_sentence(a_run, tmp_path):
    with pytest.raises(UsageError, match="has no train split; score one of: validation, test"):
        score_run(str(a_run.path), ScoreSettings(split="train"), command="")
    with pytest.raises(RunFolderError, match="there is no run folder"):
        score_run(str(tmp_path / "none"), ScoreSettings(), command="")


def test_a_run_of_another_task_is_refused(a_run):
    with pytest.raises(TaskError, match="is a run of toy-task, not of classify; write"):
        trained_for("classify", a_run.path)
    with pytest.raises(RunFolderError, match="is a run of the task toy-task, not of a game"):
        _ = a_run.game


def test_a_model_is_exported_and_compared(a_run, capsys):
    assert main(["export", str(a_run.path)]) == 0
    out = capsys.readouterr().out
    assert "in: pictures uint8 (batch, 3, 16, 16)" in out and "logits float32 (batch, 2)" in out
    assert (a_run.path / "model.onnx").is_file()


def test_the_command_line_trains_scores_uses_and_shows(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = str(tmp_path / "run")
    assert main(["train", NAME, "--epochs", "1", "--precision", "fp32", "--out", run]) == 0
    assert main(["train", "--resume", run, "--epochs", "2"]) == 0
    assert "going on from step 8" in capsys.readouterr().out
    assert main(["evaluate", run]) == 0
    assert main(["run", NAME, run, "one", "--loud", "two"]) == 0
    out = capsys.readouterr().out
    assert "ONE" in out and "TWO" in out
    assert main(["watch", run, "-o", str(tmp_path / "shown")]) == 0
    assert {path.suffix for path in (tmp_path / "shown").iterdir()} == {".png", ".txt", ".wav"}
    assert main(["train", "--config", f"{run}/config.toml", "--epochs", "0.2"]) == 0
    assert main(["train", NAME, "--help"]) == 0
    assert "share of features that are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["train", NAME, "--preset", "smal"], 2, "did you mean small"),
        (["train", NAME, "--batch-sise", "3"], 2, "--batch-size"),
        (["train", NAME, "--minutes", "0"], 2, "minutes is 0"),
        (["run", "toy-tusk", "x"], 2, "did you mean toy-task"),
        (["run", NAME], 2, "which run?"),
        (["run", NAME, "nowhere", "x"], 1, "nowhere is missing"),
    ],
)
def test_mistakes_get_one_sentence(words, code, told, capsys):
    assert main(words) == code
    said = capsys.readouterr().err
    assert told in said and said.startswith("eightbit: ") and said.count("\n") == 1


def test_a_batch_job_goes_on_and_lists_what_failed():
    done: list[int] = []

    def work(number: int) -> None:
        if number % 2:
            raise EightBitError(f"{number} is odd.")
        done.append(number)

    job = RunJob((), None, None, print)
    with pytest.raises(TaskError, match="2 of 4 failed: 1 is odd. 3 is odd."):
        job.each(range(4), work)
    assert done == [0, 2]
    with pytest.raises(EightBitError, match="^5 is odd.$"):
        job.each([5], work)


def test_numbers_of_a_score_are_finite_json(a_run, toy, monkeypatch):
    task = load_task(NAME)

    def measure(model, data, split, control):
        values = {"accuracy": lambda units: np.nan, "error": lambda units: 0.5}
        return tasks.Outcome(values, 3)

    monkeypatch.setattr(toy, "TASK", dataclasses.replace(task, measure=measure))
    with np.errstate(all="ignore"):
        path = score_run(str(a_run.path), ScoreSettings(), command="")
    assert json.loads(path.read_text())["metrics"]["accuracy"]["value"] is None
