"""The task colorize: data, training on real pictures, controls, and what `run` writes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eightbit.datasets.pictures import read_picture, write_picture
from eightbit.errors import EightBitError, TaskError, UsageError
from eightbit.tasks import Learning, Moment, RunJob, Task, TaskData, Trained, load_task
from eightbit.vision_tasks.colorize import TASK, ColorizeOptions, ColorizeRunOptions
from eightbit.vision_tasks.colorize.data import Split, build_data, scored_size
from eightbit.vision_tasks.colorize.learn_results import measure, samples

SMALL = ColorizeOptions(backbone_options='{"depth": 8}', decoder=16, size=32)


def painted(folder: Path, count: int = 40, size: tuple[int, int] = (40, 48)) -> Path:
    """Pictures whose colour follows from their lightness: dark is blue, bright is yellow."""
    generator = np.random.default_rng(0)
    for index in range(count):
        coarse = generator.integers(0, 256, (4, 5)).astype(np.float32)
        bright = np.kron(coarse, np.ones((size[0] // 4, size[1] // 5 + 1)))[:, : size[1]]
        rgb = np.stack([bright, bright * 0.9, 160 - bright * 0.4], axis=-1).astype(np.uint8)
        write_picture(folder / f"{index:03d}.png", rgb)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted(tmp_path_factory.mktemp("pictures"))


def test_the_task_is_found_by_its_name() -> None:
    assert load_task("colorize") is TASK
    assert isinstance(TASK, Task)
    assert {preset.options.method for preset in TASK.presets.values()} >= {"zhang", "larsson", "l2"}
    assert next(iter(TASK.presets.values())).options.method == "zhang"


def test_a_folder_of_pictures_becomes_splits_and_batches(folder: Path) -> None:
    data = build_data(SMALL, str(folder), seed=0)
    assert set(data.splits) == {"train", "validation", "test"}
    assert data.examples == len(data.splits["train"])
    assert sum(data.facts["pictures"].values()) == 40
    batch = data.batch(0, 8)
    assert batch["lightness"].shape == (8, 1, 32, 32) and batch["ab"].shape == (8, 2, 16, 16)
    assert float(batch["lightness"].min()) >= 0 and float(batch["lightness"].max()) <= 100


def test_batches_follow_from_seed_and_step_alone(folder: Path) -> None:
    options = dataclasses.replace(SMALL, scale_jitter=1.5)
    one, two = (build_data(options, str(folder), seed=1) for _ in range(2))
    two.batch(7, 8)  # what was asked for before must not matter
    for step in (0, 3, 4, 11):
        for name, tensor in one.batch(step, 8).items():
            assert torch.equal(tensor, two.batch(step, 8)[name])
    other = build_data(options, str(folder), seed=2)
    assert not torch.equal(one.batch(0, 8)["ab"], other.batch(0, 8)["ab"])


def test_every_picture_is_shown_once_an_epoch(folder: Path) -> None:
    data = build_data(dataclasses.replace(SMALL, validation=0), str(folder), seed=0)
    order = data.batch.__self__._order  # type: ignore[attr-defined]  # a method of Batches
    every = np.arange(data.examples)
    first, second = order(every), order(data.examples + every)
    assert sorted(first) == sorted(second) == list(range(data.examples))
    assert list(first) != list(second)


@pytest.mark.parametrize(("test_size", "shape"), [(0, (32, 32)), (32, (32, 40)), (64, (64, 80))])
def test_scored_pictures_are_squares_or_whole(test_size: int, shape: tuple[int, int]) -> None:
    rgb = np.zeros((40, 48, 3), np.uint8)
    options = dataclasses.replace(SMALL, test_size=test_size)
    assert scored_size(rgb, options).shape[:2] == shape


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    painted(tmp_path, count=12)
    (tmp_path / "005.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(EightBitError, match=r"1 of .*005\.png"):
        build_data(SMALL, str(tmp_path), seed=0)


def fit(data: TaskData, options: ColorizeOptions, learning: Learning, steps: int) -> nn.Module:
    """A short training without the frame: AdamW, whose rate rises and falls linearly."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TASK.build_model(options, data.facts)
    assert TASK.begin is not None
    TASK.begin(model, data)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(TASK.parameter_groups(model, learning))
    for step in range(steps):
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = learning.learning_rate * min(1, 10 * progress + 0.05, 1.02 - progress)
        moment = Moment(step, progress, torch.Generator().manual_seed(step))
        loss = TASK.loss(model, data.batch(step, learning.batch_size), moment)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("method", ["zhang", "larsson", "l2"])
def test_colours_that_follow_from_lightness_are_learnt(folder: Path, method: str) -> None:
    options = dataclasses.replace(SMALL, method=method, uniform=1.0)
    data = build_data(options, str(folder), seed=0)
    model = fit(data, options, Learning(batch_size=16, learning_rate=1e-2), steps=60)
    with torch.no_grad():
        ours = measure(model, data, "train", "none")
        grey = measure(model, data, "train", "trivial")
    everyone = np.arange(ours.units)
    gain = ours.values["psnr_ab"](everyone) - grey.values["psnr_ab"](everyone)
    assert gain > 1.5
    assert ours.values["psnr_gain"](everyone) == pytest.approx(gain)
    assert ours.details["grey"]["psnr_ab"] == pytest.approx(grey.values["psnr_ab"](everyone))
    assert set(ours.values) == {metric.name for metric in TASK.metrics}


def test_controls_see_nothing_or_another_picture(folder: Path) -> None:
    options = dataclasses.replace(SMALL, test_size=32, method="l2")
    data = build_data(options, str(folder), seed=0)
    model = fit(data, options, Learning(batch_size=16, learning_rate=1e-2), 5).requires_grad_(False)
    everyone = np.arange(len(data.splits["test"]))
    trivial = measure(model, data, "test", "trivial")
    assert trivial.values["psnr_gain"](everyone) == 0
    assert trivial.values["chroma_ratio"](everyone) < 0.02
    ours = measure(model, data, "test", "none").values["psnr_ab"](everyone)
    assert measure(model, data, "test", "shuffled").values["psnr_ab"](everyone) != ours
    with pytest.raises(TaskError, match="no val split"):
        measure(model, data, "val", "none")  # type: ignore[arg-type]  # that is the mistake
    (sheet,) = samples(model, data, 3)
    assert sheet.picture is not None and sheet.picture.dtype == np.uint8


# ----------------------------------------------------------------------------------------- run


@pytest.fixture(scope="module")
def trained() -> Trained:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TASK.build_model(SMALL, {}).eval()
    return Trained(TASK, model, SMALL, {}, torch.device("cpu"), Path("run"))


def run(trained: Trained, inputs: list[str], output: Path | None, **options: object) -> list[str]:
    said: list[str] = []
    TASK.run(trained, RunJob(inputs, output, ColorizeRunOptions(**options), said.append))  # type: ignore[arg-type]
    return said


def test_a_folder_is_coloured_into_another(trained: Trained, tmp_path: Path) -> None:
    painted(tmp_path / "in" / "deep", count=2)
    said = run(trained, [str(tmp_path / "in")], tmp_path / "out")
    assert len(said) == 2
    found = read_picture(tmp_path / "out" / "deep" / "000.png")
    assert found.shape == (40, 48, 3)


def test_samples_differ_and_hints_show(trained: Trained, tmp_path: Path) -> None:
    painted(tmp_path, count=1)
    picture = str(tmp_path / "000.png")
    run(trained, [picture], tmp_path / "o.png", samples=3)
    variants = [read_picture(tmp_path / f"o_{number}.png") for number in (1, 2, 3)]
    assert (variants[0] != variants[1]).any() and (variants[1] != variants[2]).any()
    run(trained, [picture], tmp_path / "plain.png", saturation=0.0)
    plain = read_picture(tmp_path / "plain.png").astype(int)
    assert np.abs(plain - plain[..., :1]).max() <= 2
    run(trained, [picture], tmp_path / "hinted.png", hints="20,20,#e01010")
    red = read_picture(tmp_path / "hinted.png")[20, 20].astype(int)
    assert red[0] > red[1] and red[0] > red[2]


def test_bad_inputs_are_told_and_the_rest_is_done(trained: Trained, tmp_path: Path) -> None:
    painted(tmp_path, count=2)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(EightBitError, match="bad.png is empty"):
        run(trained, [str(tmp_path)], tmp_path / "out")
    assert (tmp_path / "out" / "001.png").is_file()
    for inputs, output in (([], None), ([str(tmp_path)], tmp_path / "one.png")):
        with pytest.raises(UsageError):
            run(trained, inputs, output)


# ------------------------------------------------------------------------------------ real data


@pytest.mark.skipif(
    not (Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "cifar10").is_dir(),
    reason="needs CIFAR-10 below EIGHTBIT_DATA",
)
def test_150_steps_on_cifar10_beat_grey_and_other_pictures_lightness() -> None:
    options = dataclasses.replace(SMALL, uniform=1.0, temperature=0.4)
    data = build_data(options, "cifar10", seed=0)
    few = data.splits["test"].groups[0][::20]  # the files stand in the order of their classes
    data = dataclasses.replace(data, splits={**data.splits, "test": Split((few,))})
    model = fit(data, options, Learning(batch_size=32, learning_rate=2e-2), steps=150)
    with torch.no_grad():
        found = {c: measure(model, data, "test", c) for c in ("none", "trivial", "shuffled")}
    psnr = {c: outcome.values["psnr_ab"](np.arange(500)) for c, outcome in found.items()}
    assert psnr["none"] > psnr["trivial"] + 0.1
    assert psnr["none"] > psnr["shuffled"] + 0.2
