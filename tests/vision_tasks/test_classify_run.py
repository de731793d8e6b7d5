"""`eightbit run classify`, samples and ONNX; and training that beats the controls."""

from __future__ import annotations

import csv
import importlib
import json
import os
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eightbit.datasets.pictures import read_picture, write_picture
from eightbit.errors import DataError, EightBitError, TaskError, UsageError
from eightbit.tasks import Moment, RunJob, Trained, load_task
from eightbit.vision_tasks.classify import TASK, ClassifyOptions, ClassifyRunOptions

CLASSES = ["blue", "green", "red"]


class Colours(nn.Module):
    """Names the strongest colour; its parameter is a temperature."""

    def __init__(self):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(0.05))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.float() / (255 if x.dtype == torch.uint8 else 1)
        return x.mean(dim=(2, 3)).flip(1) * 255 * self.sharpness


@pytest.fixture
def trained() -> Trained:
    options = ClassifyOptions(size=16, shift=2)
    facts = {"classes": CLASSES}
    return Trained(TASK, Colours().eval(), options, facts, torch.device("cpu"), Path("run"))


@pytest.fixture
def folder(tmp_path) -> Path:
    for index, name in enumerate(("red", "green", "blue")):
        rgb = np.full((20, 30, 3), 20, dtype=np.uint8)
        rgb[..., index] = 230
        write_picture(tmp_path / "pictures" / f"{name}.png", rgb)
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    return tmp_path / "pictures"


def _job(inputs, output=None, **options) -> tuple[RunJob, list[str]]:
    said: list[str] = []
    return RunJob(
        [str(i) for i in inputs], output, ClassifyRunOptions(**options), said.append
    ), said


def test_bad_pictures_are_named_and_the_rest_is_classified(trained, folder, tmp_path):
    output = tmp_path / "found.json"
    job, said = _job([folder, tmp_path / "missing.png"], output, topk=2)
    with pytest.raises(
        TaskError, match=r"2 of 5 failed: .*broken.png .*missing.png does not exist"
    ):
        TASK.run(trained, job)
    rows = json.loads(output.read_text())
    assert [Path(row["picture"]).stem for row in rows] == ["blue", "green", "red"]
    for row in rows:
        assert row["predictions"][0]["class"] == Path(row["picture"]).stem
        assert len(row["predictions"]) == 2
        assert row["predictions"][0]["probability"] > row["predictions"][1]["probability"]
    assert any("blue.png: blue 100" in line for line in said)


def test_a_single_bad_picture_is_its_own_error(trained, folder):
    with pytest.raises(DataError, match=r"broken\.png"):
        TASK.run(trained, _job([folder / "broken.png"])[0])
    with pytest.raises(UsageError, match="name pictures, folders, or camera:0"):
        TASK.run(trained, _job([])[0])


def test_csv_has_a_row_a_picture(trained, folder, tmp_path):
    output = tmp_path / "found.txt"
    pictures = [folder / "red.png", folder / "green.png"]
    TASK.run(trained, _job(pictures, output, topk=9, format="csv")[0])
    rows = list(csv.reader(output.read_text().splitlines()))
    assert rows[0][:3] == ["picture", "class_1", "probability_1"]
    assert len(rows[0]) == 1 + 2 * 3  # no more than there are classes
    assert [row[1] for row in rows[1:]] == ["red", "green"]
    assert sum(float(share) for share in rows[1][2::2]) == pytest.approx(1)
    with pytest.raises(UsageError, match=r"neither .json nor .csv; say --format"):
        TASK.run(trained, _job(pictures, output)[0])


def test_an_output_that_cannot_be_written_is_one_sentence(trained, folder, tmp_path):
    (tmp_path / "file").write_text("")
    job, _ = _job([folder / "red.png"], tmp_path / "file" / "found.json")
    with pytest.raises(EightBitError, match="cannot be written"):
        TASK.run(trained, job)


def test_frames_of_a_camera(trained, monkeypatch):
    closed = []

    def camera(number: int) -> Iterator[np.ndarray]:
        assert number == 3
        try:
            while True:
                yield np.full((24, 32, 3), (0, 250, 0), dtype=np.uint8)
        finally:
            closed.append(number)

    module = importlib.import_module("eightbit.vision_tasks.classify.run")
    monkeypatch.setattr(module, "open_camera", camera)
    job, said = _job(["camera:3"], limit=2, topk=1)
    TASK.run(trained, job)
    assert said == ["camera:3/000000: green 100.0%", "camera:3/000001: green 100.0%"]
    assert closed == [3]
    with pytest.raises(UsageError, match="write camera:0"):
        TASK.run(trained, _job(["camera:front"])[0])


def test_heat_maps_show_what_a_network_looked_at(tmp_path):
    """A network that knows one class by a bright spot; the map must be hot there."""
    options = ClassifyOptions(backbone_options='{"widths": [8, 16, 16]}', head_scale=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TASK.build_model(options, {"classes": ["spot", "none"]})
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(25):
        x = torch.randint(90, 120, (32, 3, 32, 32), dtype=torch.uint8, generator=generator)
        corners = torch.randint(0, 26, (16, 2), generator=generator).tolist()
        for picture, (i, j) in zip(x[:16], corners, strict=True):
            picture[:, i : i + 6, j : j + 6] = 250
        targets = torch.eye(2)[[0] * 16 + [1] * 16]
        moment = Moment(0, 0.0, generator)
        batch = {"pictures": x, "targets": targets, "smoothed": targets}
        TASK.loss(model, batch, moment)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    rgb = np.full((64, 64, 3), 105, dtype=np.uint8)
    rgb[8:20, 40:52] = 250
    write_picture(tmp_path / "spot.png", rgb)
    trained = Trained(
        TASK, model.eval(), options, {"classes": ["spot", "none"]}, torch.device("cpu"), tmp_path
    )
    job, said = _job([tmp_path / "spot.png"], heatmap=str(tmp_path / "maps"), views="one")
    TASK.run(trained, job)
    assert said[0].split(": ")[1].startswith("spot")
    shown = read_picture(tmp_path / "maps" / "000001_spot.png").astype(int)
    assert shown.shape == (64, 64, 3)
    red = (shown - rgb // 2)[..., 0]
    assert red[8:20, 40:52].mean() > red[36:, :28].mean() + 50


def test_views_and_crops_of_a_run(trained, folder):
    said = {}
    for views in ("one", "flip", "six", "ten", "howard"):
        job, lines = _job([folder / "red.png"], views=views)
        TASK.run(trained, job)
        said[views] = lines[0]
    assert len({line.split()[1] for line in said.values()}) == 1


def test_onnx_gives_the_probabilities(tmp_path, rng):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    options = ClassifyOptions(backbone_options='{"widths": [8, 8, 8]}')
    model = TASK.build_model(options, {"classes": CLASSES}).eval()
    trained = Trained(TASK, model, options, {"classes": CLASSES}, torch.device("cpu"), tmp_path)
    exported = TASK.export(trained)
    file = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what torch deprecates
        torch.onnx.export(
            exported.module.eval(),
            exported.inputs,
            file,
            input_names=list(exported.input_names),
            output_names=list(exported.output_names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = rng.random((5, 3, 32, 32), dtype=np.float32)
    (got,) = session.run(None, {"pictures": x})
    with torch.no_grad():
        want = model(torch.from_numpy(x)).softmax(1).numpy()
    np.testing.assert_allclose(got, want, atol=1e-5)


# ------------------------------------------------------------------------- training on real data


@pytest.fixture(scope="module")
def small_cifar(tmp_path_factory) -> Path:
    """CIFAR-10 as class folders, 200 training and 50 test pictures of each of four classes."""
    root = Path(os.environ.get("EIGHTBIT_DATA", "")) / "cifar10"
    if not (root / "train.zip").is_file():
        pytest.skip("set EIGHTBIT_DATA to the folder with cifar10/train.zip")
    folder = tmp_path_factory.mktemp("cifar")
    for split, count in (("train", 200), ("test", 50)):
        with zipfile.ZipFile(root / f"{split}.zip") as archive:
            taken: dict[str, int] = {}
            for name in archive.namelist():
                label = name.split("/")[0]
                if label in ("airplane", "automobile", "frog", "horse") and name.endswith(".jpg"):
                    taken[label] = taken.get(label, 0) + 1
                    if taken[label] <= count:
                        archive.extract(name, folder / split)
    return folder


def _fit(folder: Path, options: ClassifyOptions, steps: int) -> tuple[nn.Module, object]:
    data = TASK.build_data(options, str(folder), 0)
    learning = replace(TASK.presets["fast"].learning, batch_size=64, learning_rate=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TASK.build_model(options, data.facts)
    TASK.begin(model, data)
    groups = TASK.parameter_groups(model, learning)
    for group in groups:
        group["lr"] = group.get("lr", 1.0) * learning.learning_rate
    factors = [group["lr"] for group in groups]
    optimizer = torch.optim.SGD(groups, momentum=learning.momentum, nesterov=True)
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, factors, strict=True):
            group["lr"] = rate * min(1, 4 * (step + 1) / steps, 1.3 * (1 - step / steps))
        moment = Moment(step, step / steps, torch.Generator().manual_seed(step))
        TASK.loss(model, data.batch(step, 64), moment)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), data


def test_training_on_photographs_beats_the_controls(small_cifar):
    options = ClassifyOptions(backbone_options='{"widths": [32, 48, 64]}')
    model, data = _fit(small_cifar, options, steps=60)
    every = np.arange(200)
    accuracy = {
        control: TASK.measure(model, data, "test", control).values["accuracy"](every)
        for control in ("none", "trivial", "shuffled")
    }
    assert accuracy["trivial"] == 0.25
    assert accuracy["shuffled"] < 0.4
    assert accuracy["none"] > 0.65
    (sample,) = TASK.samples(model, data, 12)
    assert sample.picture.shape[2] == 3
    assert sample.picture.std() > 20


def test_the_task_is_found_by_its_name():
    assert load_task("classify") is TASK
    assert next(iter(TASK.presets)) == "fast"
    for name, preset in TASK.presets.items():
        model = TASK.build_model(preset.options, {"classes": list("abcdefghij")}).eval()
        x = torch.zeros(1, 3, preset.options.seen, preset.options.seen, dtype=torch.uint8)
        assert model(x).shape == (1, 10), name
