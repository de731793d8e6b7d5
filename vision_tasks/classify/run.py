"""`eightbit run classify`: pictures, folders and cameras in, classes out; samples and ONNX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.films import open_camera
from ...datasets.labelled import fitted
from ...datasets.output import write_whole
from ...datasets.pictures import list_pictures, read_picture, write_picture
from ...errors import EightBitError, UsageError
from ...tasks import Exported, RunJob, Sample, TaskData, Trained
from .data import Split
from .heatmaps import heat_map, overlay
from .options import ClassifyOptions, ClassifyRunOptions, ViewName
from .views import predict

CAMERA = "camera:"


@dataclass(frozen=True)
class Prediction:
    """What a picture was taken for.

    Attributes:
        name: of the picture.
        classes: names, the most probable first.
        probabilities: theirs.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    def line(self) -> str:
        """One line for a terminal."""
        pairs = zip(self.classes, self.probabilities, strict=True)
        return f"{self.name}: " + ", ".join(f"{name} {share:.1%}" for name, share in pairs)


def run(trained: Trained, job: RunJob) -> None:
    """Classifies all inputs, prints and writes what was found; goes on after bad pictures.

    Raises:
        UsageError: no inputs, or a file format that is unknown.
        TaskError: some of the pictures failed; the others are done.
    """
    options: ClassifyRunOptions = job.options
    layout = _layout(job)
    found: list[Prediction] = []
    if not job.inputs:
        raise UsageError("name pictures, folders, or camera:0.")
    try:
        job.each(_items(job.inputs, options.limit), partial(_work, trained, job, found))
    except KeyboardInterrupt:  # that is how a camera is left
        job.say("stopped")
    finally:
        if job.output is not None and found:
            _write(job.output, found, layout)
            job.say(f"{len(found)} predictions in {job.output}")


def _layout(job: RunJob) -> str:
    """ "json" or "csv"."""
    wanted = str(job.options.format)
    if wanted != "auto":
        return wanted
    suffix = job.output.suffix.lower() if job.output is not None else ".json"
    if suffix not in (".json", ".csv"):
        raise UsageError(f"{job.output} ends in neither .json nor .csv; say --format json or csv.")
    return suffix[1:]


Item = tuple[str, Path | np.ndarray | EightBitError]


def _items(inputs: Sequence[str], limit: int) -> Iterator[Item]:
    """Names, and what each is: a file, a camera's frame, or the error that came instead."""
    for given in inputs:
        try:
            if given.startswith(CAMERA):
                with closing(open_camera(_camera_number(given))) as frames:  # type: ignore[type-var]
                    for index, frame in enumerate(islice(frames, limit or None)):
                        yield f"{given}/{index:06d}", frame
            else:
                for path in list_pictures(Path(given)):
                    yield str(path), path
        except EightBitError as error:
            yield given, error


def _camera_number(given: str) -> int:
    number = given.removeprefix(CAMERA)
    if not number.isdigit():
        raise UsageError(f"{given} names no camera; write camera:0.")
    return int(number)


def _work(trained: Trained, job: RunJob, found: list[Prediction], item: Item) -> None:
    name, thing = item
    if isinstance(thing, EightBitError):
        raise thing
    rgb = read_picture(thing) if isinstance(thing, Path) else thing
    run_options: ClassifyRunOptions = job.options
    prediction = classify(trained, rgb, name, run_options)
    found.append(prediction)
    job.say(prediction.line())
    if run_options.heatmap:
        picture = explain(trained, rgb, prediction.classes[0], run_options)
        file = f"{len(found):06d}_{Path(name).stem}.png"
        write_picture(Path(run_options.heatmap) / file, picture)


def classify(
    trained: Trained, rgb: np.ndarray, name: str, options: ClassifyRunOptions
) -> Prediction:
    """What a picture uint8 (H, W, 3) of any size shows."""
    own: ClassifyOptions = trained.options
    views: ViewName = own.views if options.views == "as trained" else options.views
    probabilities = predict(trained.model, _input(rgb, own.size), views, own.seen)[0]
    order = np.argsort(-probabilities, kind="stable")[: options.topk]
    classes = trained.facts["classes"]
    return Prediction(
        name,
        tuple(classes[i] for i in order),
        tuple(float(probabilities[i]) for i in order),
    )


def explain(
    trained: Trained, rgb: np.ndarray, label: str, options: ClassifyRunOptions
) -> np.ndarray:
    """The picture's middle square with a map over it of what spoke for a class: uint8 (S, S, 3)."""
    own: ClassifyOptions = trained.options
    rim = (own.size - own.seen) // 2
    seen = _input(rgb, own.size)[:, :, rim : rim + own.seen, rim : rim + own.seen]
    target = torch.tensor([trained.facts["classes"].index(label)], device=trained.device)
    heat = heat_map(trained.model, seen.to(trained.device), target, options.heatmap_method)[0]
    side = min(rgb.shape[:2])
    square = fitted(rgb, side)
    rim = round(side * rim / own.size)
    return overlay(square[rim : side - rim, rim : side - rim], heat)


def _input(rgb: np.ndarray, size: int) -> Tensor:
    """uint8 (1, 3, size, size), as training pictures were read."""
    return torch.from_numpy(np.ascontiguousarray(fitted(rgb, size).transpose(2, 0, 1)))[None]


def _write(path: Path, found: Sequence[Prediction], layout: str) -> None:
    rows: list[dict[str, Any]] = [
        {
            "picture": prediction.name,
            "predictions": [
                {"class": name, "probability": share}
                for name, share in zip(prediction.classes, prediction.probabilities, strict=True)
            ],
        }
        for prediction in found
    ]
    if layout == "json":
        text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    else:
        text = _as_csv(found)
    write_whole(path, text)


def _as_csv(found: Sequence[Prediction]) -> str:
    """A row a picture: its name, then classes and probabilities in turn."""
    columns = max(len(prediction.classes) for prediction in found)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = [name for i in range(1, columns + 1) for name in (f"class_{i}", f"probability_{i}")]
    writer.writerow(["picture", *head])
    for prediction in found:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        writer.writerow([prediction.name, *(x for pair in pairs for x in pair)])
    return stream.getvalue()


# ------------------------------------------------------------------------------------- samples


def samples(model: nn.Module, data: TaskData, count: int) -> list[Sample]:
    """A sheet of pictures of the validation or test split with what they were taken for."""
    split: Split = data.splits.get("validation", data.splits.get("test"))
    chosen = np.random.default_rng(0).permutation(len(split.labels))[: max(count, 1)]
    part = split.take(np.sort(chosen))
    probabilities = predict(model, part.pictures, "one", part.crop)
    classes = data.facts["classes"]
    tiles = [
        _tile(
            part.pictures[i].permute(1, 2, 0).numpy(),
            f"{classes[best]} {probabilities[i, best]:.0%}",
            "" if best == part.labels[i] else f"is {classes[int(part.labels[i])]}",
        )
        for i, best in enumerate(probabilities.argmax(axis=1))
    ]
    return [Sample("pictures", picture=sheet(tiles))]


TILE = 128  # pixels, of a picture on a sheet


def _tile(rgb: np.ndarray, said: str, truth: str) -> np.ndarray:
    """A picture with a line below: what was said, and the truth in red where it is another."""
    picture = cv2.resize(rgb, (TILE, TILE), interpolation=cv2.INTER_NEAREST)
    lines = np.full((34, TILE, 3), 255, dtype=np.uint8)
    shade = (170, 0, 0) if truth else (0, 110, 0)
    for text, down in ((said, 13), (truth, 29)):
        cv2.putText(
            lines, _plain(text), (2, down), cv2.FONT_HERSHEY_SIMPLEX, 0.4, shade, 1, cv2.LINE_AA
        )
    return np.concatenate([picture, lines])


def _plain(text: str) -> str:
    """OpenCV's letters are ASCII alone."""
    return text.encode("ascii", "replace").decode()


def sheet(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles of one shape in rows, about as many as columns."""
    columns = int(np.ceil(np.sqrt(len(tiles))))
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    found = np.full((rows * (height + 4), columns * (width + 4), 3), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        down, right = index // columns * (height + 4), index % columns * (width + 4)
        found[down : down + height, right : right + width] = tile
    return found


# ---------------------------------------------------------------------------------------- ONNX


class Probabilities(nn.Module):
    """A classifier that takes float pictures in [0, 1] and gives probabilities."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, classes)."""
        return self.model(pictures).softmax(1)


def export(trained: Trained) -> Exported:
    """Float pictures (B, 3, S, S) in [0, 1], of the size that the network sees -> probabilities."""
    side = trained.options.seen
    return Exported(
        Probabilities(trained.model),
        (torch.zeros(1, 3, side, side, device=trained.device),),
        ("pictures",),
        ("probabilities",),
    )
