"""`eightbit run detect`: objects in pictures, folders, films and camera frames."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch

from ...datasets import films, pictures
from ...datasets.box_files import FoundBoxes, write_coco, write_voc, write_yolo
from ...datasets.output import write_whole
from ...errors import DataError, EightBitError, UnknownNameError, UsageError
from ...tasks import RunJob, Trained
from .boxes import Detections
from .drawing import count_by_class, crops, draw_detections
from .model import MOST_CANDIDATES, detect_pictures
from .tracks import Tracker

CAMERA = "camera:"
FOLDER = "detected"
"""where results go when no output is named"""
FILM_SUFFIXES = tuple(s for s in films.SUFFIXES if s not in pictures.SUFFIXES)
_FRAMES = 8
"""frames of a film that go through the network together"""


@dataclass(frozen=True)
class DetectRunOptions:
    """What is kept of the objects that are found."""

    conf: float = 0.25
    """least score of an object"""
    iou: float = 0.6
    """boxes of a class that overlap a better one by more than this are dropped"""
    max_det: int = 300
    """most objects in a picture"""
    classes: str = ""
    """names of classes, with commas, that alone are kept; all where it is empty"""
    save: Literal["pictures", "crops", "both", "none"] = "pictures"
    """pictures and films with boxes drawn on them, cut-out objects, both, or neither"""
    format: Literal["none", "json", "csv", "voc", "coco", "yolo"] = "none"
    """file format in which boxes are written; films and cameras take json or csv"""
    counts: bool = False
    """write counts.csv: how many objects of each class a picture or frame has"""
    track: bool = False
    """number the objects of a film or camera; a number stays with its object"""
    limit: int = 0
    """frames to take from a camera; 0 until Ctrl-C"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        for name in ("conf", "iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        if self.max_det < 1:
            raise UsageError(f"max_det is {self.max_det}; it must be 1 or more.")
        if self.limit < 0:
            raise UsageError(f"limit is {self.limit}; it must not be below 0.")


@dataclass(frozen=True)
class Frame:
    """A picture, or a frame of a film or camera, and what was found in it.

    Attributes:
        source: the picture's name, or the film's or camera's.
        width, height: pixels.
        found: its objects.
        number: of the frame, from 0; None for a picture.
        time: seconds since the film began; None for a picture or a camera's frame.
        tracks: numbers of the objects; None where they are not tracked.
    """

    source: str
    width: int
    height: int
    found: Detections
    number: int | None = None
    time: float | None = None
    tracks: list[int] | None = None


@dataclass
class _Work:
    """One call of `run`: where it writes, and what it found so far."""

    trained: Trained
    options: DetectRunOptions
    folder: Path
    single: Path | None
    frames: list[Frame] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    chosen: list[int] = field(default_factory=list)

    @property
    def classes(self) -> Sequence[str]:
        return self.trained.facts["classes"]

    @property
    def draws(self) -> bool:
        return self.options.save in ("pictures", "both")

    @property
    def cuts(self) -> bool:
        return self.options.save in ("crops", "both")

    def detect(self, batch: Sequence[np.ndarray]) -> list[Detections]:
        """Objects of the chosen classes in RGB pictures uint8 (H, W, 3)."""
        options = self.options
        most = MOST_CANDIDATES if self.chosen else options.max_det
        found = detect_pictures(self.trained.model, batch, options.conf, options.iou, most)
        if self.chosen:
            wanted = torch.tensor(self.chosen)
            found = [one[torch.isin(one.labels, wanted)] for one in found]
        return [one[torch.arange(min(len(one), options.max_det))] for one in found]

    def unique(self, name: str) -> str:
        """A name, without its ending, that no other result has."""
        stem = str(PurePosixPath(name).with_suffix(""))
        free, number = stem, 2
        while free in self.names:
            free, number = f"{stem}_{number}", number + 1
        self.names.add(free)
        return free


@dataclass(frozen=True)
class _Item:
    """One input: what is to be read, or why it cannot be."""

    kind: Literal["picture", "film", "camera", "failed"]
    name: str
    path: Path | None = None
    camera: int = 0
    error: EightBitError | None = None


def run(trained: Trained, job: RunJob) -> None:
    """Finds objects in all inputs, prints counts and writes what the options name.

    The output is a folder, `detected` where none is named; of a single picture or film it may be
    the drawn file itself. Drawn pictures keep their names, films become MP4 with the sound kept,
    frames of a camera lie in a folder of its name. Boxes lie in `detections.json`,
    `detections.csv`, `coco.json`, `Annotations/` (VOC) or `labels/` and `classes.txt` (YOLO);
    cut-out objects in `crops/CLASS/`.

    Raises:
        UsageError: no inputs, an unknown class, or a format that does not fit the input.
        TaskError: some inputs failed; the others are done.
    """
    options: DetectRunOptions = job.options
    if not job.inputs:
        raise UsageError("name pictures, folders, films, or camera:0.")
    work = _work(trained, job)
    try:
        job.each(_items(job.inputs), lambda item: _process(work, item, job))
    except KeyboardInterrupt:  # that is how a camera is left
        job.say("stopped")
    finally:
        if work.frames:
            write_boxes(work.folder, work.frames, work.classes, options.format)
            if options.counts:
                write_whole(work.folder / "counts.csv", counts_table(work.frames, work.classes))
            if options.save != "none" or options.format != "none" or options.counts:
                job.say(f"results in {work.single or work.folder}")


def _work(trained: Trained, job: RunJob) -> _Work:
    options: DetectRunOptions = job.options
    classes = list(trained.facts["classes"])
    chosen = []
    for name in filter(None, (part.strip() for part in options.classes.split(","))):
        if name not in classes:
            raise UnknownNameError("class", name, classes)
        chosen.append(classes.index(name))
    output = Path(job.output) if job.output is not None else Path(FOLDER)
    single = None
    if output.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", *films.WRITTEN):
        one_file = len(job.inputs) == 1 and not Path(job.inputs[0]).is_dir()
        if not one_file or options.save != "pictures" or job.inputs[0].startswith(CAMERA):
            raise UsageError(
                f"{output} is one file; it suits a single picture or film with --save pictures, "
                "otherwise name a folder."
            )
        film = Path(job.inputs[0]).suffix.lower() in FILM_SUFFIXES
        if film != (output.suffix.lower() in films.WRITTEN):
            raise UsageError(f"{output} does not suit {job.inputs[0]}: pictures stay pictures.")
        output, single = output.parent, output
    return _Work(trained, options, output, single, chosen=chosen)


def _items(inputs: Sequence[str]) -> Iterator[_Item]:
    for given in inputs:
        path = Path(given)
        if given.startswith(CAMERA):
            number = given.removeprefix(CAMERA)
            if number.isdigit():
                yield _Item("camera", f"camera-{number}", camera=int(number))
            else:
                wrong = UsageError(f"{given} names no camera; write camera:0.")
                yield _Item("failed", given, error=wrong)
        elif path.is_dir():
            yield from _folder_items(path)
        elif not path.exists():
            missing = DataError(f"{path} does not exist; name a picture, a film or a folder.")
            yield _Item("failed", given, error=missing)
        else:
            kind = _kind(path)
            yield _Item(kind, path.name, path)


def _kind(path: Path) -> Literal["picture", "film"]:
    return "film" if path.suffix.lower() in FILM_SUFFIXES else "picture"


def _folder_items(folder: Path) -> Iterator[_Item]:
    """Pictures and films of a folder and those below it; hidden ones are left out."""
    known = (*pictures.SUFFIXES, *films.SUFFIXES)
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in known
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    ]
    if not files:
        empty = DataError(f"{folder} holds no pictures and no films.")
        yield _Item("failed", str(folder), error=empty)
    for file in files:
        yield _Item(_kind(file), file.relative_to(folder).as_posix(), file)


def _process(work: _Work, item: _Item, job: RunJob) -> None:
    if item.error is not None:
        raise item.error
    if item.kind == "picture":
        _picture(work, item, job)
        return
    if work.options.format in ("voc", "coco", "yolo"):
        raise UsageError(
            f"{item.name} is no picture, and {work.options.format} names a picture's boxes; "
            "take --format json or csv."
        )
    first = len(work.frames)
    try:
        if item.kind == "film":
            _film(work, item)
        else:
            _camera(work, item)
    finally:
        frames = work.frames[first:]
        if frames:
            total: Counter[str] = Counter()
            for frame in frames:
                total.update(count_by_class(frame.found, work.classes))
            shares = {name: count / len(frames) for name, count in total.items()}
            means = ", ".join(f"{share:.1f} {name}" for name, share in shares.items() if share)
            job.say(f"{item.name}: {len(frames)} frames, {means or 'nothing'} a frame")


def _picture(work: _Work, item: _Item, job: RunJob) -> None:
    assert item.path is not None
    rgb = pictures.read_picture(item.path)
    found = work.detect([rgb])[0]
    frame = Frame(item.name, rgb.shape[1], rgb.shape[0], found)
    work.frames.append(frame)
    stem = work.unique(item.name)
    if work.draws:
        suffix = item.path.suffix.lower()
        kept = suffix if suffix in (".jpg", ".jpeg", ".png", ".webp") else ".png"
        target = work.single or work.folder / f"{stem}{kept}"
        if target.exists() and target.samefile(item.path):
            raise UsageError(f"{target} is the picture that is read; choose another output.")
        pictures.write_picture(target, draw_detections(rgb, found, work.classes))
    if work.cuts:
        _write_crops(work, rgb, frame, stem)
    counts = count_by_class(found, work.classes)
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    job.say(f"{item.name}: {listed or 'nothing'}")


def _film(work: _Work, item: _Item) -> None:
    assert item.path is not None
    film = films.FilmReader(item.path)
    stem = work.unique(item.name)
    tracker = Tracker() if work.options.track else None
    if not work.draws:
        for frame, rgb in _film_frames(work, film, item.name, tracker):
            _keep(work, frame, rgb, stem)
        return
    suffix = item.path.suffix.lower()
    kept = suffix if suffix in films.WRITTEN else ".mp4"
    target = work.single or work.folder / f"{stem}{kept}"
    with films.FilmWriter(target, film) as writer:
        for frame, rgb in _film_frames(work, film, item.name, tracker):
            _keep(work, frame, rgb, stem)
            drawn = draw_detections(rgb, frame.found, work.classes, frame.tracks)
            writer.write(drawn, frame.time or 0.0)


def _film_frames(
    work: _Work, film: films.FilmReader, name: str, tracker: Tracker | None
) -> Iterator[tuple[Frame, np.ndarray]]:
    """Frames with what was found; of a damaged film all whole ones before the error."""
    decoded = film.frames()
    number = 0
    error: EightBitError | None = None
    while error is None:
        batch: list[tuple[float, np.ndarray]] = []
        try:
            while len(batch) < _FRAMES:
                batch.append(next(decoded))
        except StopIteration:
            pass
        except EightBitError as damaged:
            error = damaged
        for (time, rgb), found in zip(batch, work.detect([b for _, b in batch]), strict=True):
            tracks = None if tracker is None else tracker.update(found)
            yield Frame(name, rgb.shape[1], rgb.shape[0], found, number, time, tracks), rgb
            number += 1
        if error is None and len(batch) < _FRAMES:
            return
    raise error


def _camera(work: _Work, item: _Item) -> None:
    tracker = Tracker() if work.options.track else None
    stem = work.unique(item.name)
    with closing(films.open_camera(item.camera)) as frames:  # type: ignore[type-var]
        for number, rgb in enumerate(islice(frames, work.options.limit or None)):
            found = work.detect([rgb])[0]
            tracks = None if tracker is None else tracker.update(found)
            frame = Frame(item.name, rgb.shape[1], rgb.shape[0], found, number, None, tracks)
            _keep(work, frame, rgb, stem)
            if work.draws:
                drawn = draw_detections(rgb, found, work.classes, tracks)
                pictures.write_picture(work.folder / stem / f"{number:06d}.jpg", drawn)


def _keep(work: _Work, frame: Frame, rgb: np.ndarray, stem: str) -> None:
    work.frames.append(frame)
    if work.cuts:
        _write_crops(work, rgb, frame, f"{stem}_{frame.number:06d}")


def _write_crops(work: _Work, rgb: np.ndarray, frame: Frame, stem: str) -> None:
    labels = frame.found.labels.tolist()
    for index, crop in enumerate(crops(rgb, frame.found)):
        folder = work.classes[labels[index]].replace("/", "_").replace("\\", "_")
        name = f"{stem.replace('/', '_')}_{index:03d}.png"
        pictures.write_picture(work.folder / "crops" / folder / name, crop)


# ----------------------------------------------------------------------------------- the tables


def write_boxes(folder: Path, frames: Sequence[Frame], classes: Sequence[str], layout: str) -> None:
    """Writes all boxes into a folder, in the layout of `DetectRunOptions.format`.

    Raises:
        EightBitError: a file cannot be written.
    """
    if layout == "json":
        text = json.dumps([_entry(frame, classes) for frame in frames], indent=1)
        write_whole(folder / "detections.json", text + "\n")
    elif layout == "csv":
        write_whole(folder / "detections.csv", boxes_table(frames, classes))
    elif layout != "none":
        found = [
            FoundBoxes(
                frame.source,
                frame.width,
                frame.height,
                frame.found.boxes.numpy(),
                frame.found.labels.numpy(),
                frame.found.scores.numpy(),
            )
            for frame in frames
            if frame.number is None
        ]
        if layout == "coco":
            write_coco(folder / "coco.json", found, classes)
        elif layout == "voc":
            write_voc(folder, found, classes)
        else:
            write_yolo(folder, found, classes)


def _entry(frame: Frame, classes: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"file": frame.source, "width": frame.width, "height": frame.height}
    if frame.number is not None:
        entry["frame"] = frame.number
    if frame.time is not None:
        entry["time"] = round(frame.time, 4)
    entry["objects"] = objects = []
    for index, (label, score, box) in enumerate(_rows(frame.found)):
        thing: dict[str, Any] = {
            "class": classes[label],
            "score": round(score, 5),
            "box": [round(side, 2) for side in box],
        }
        if frame.tracks is not None:
            thing["track"] = frame.tracks[index]
        objects.append(thing)
    return entry


def _rows(found: Detections) -> list[tuple[int, float, list[float]]]:
    """(label, score, x1 y1 x2 y2) of each object."""
    columns = found.labels.tolist(), found.scores.tolist(), found.boxes.tolist()
    return list(zip(*columns, strict=True))


def boxes_table(frames: Sequence[Frame], classes: Sequence[str]) -> str:
    """CSV, a row an object; what an object does not have is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ("file", "frame", "time", "track", "class", "score", "x1", "y1", "x2", "y2")
    writer.writerow(head)
    for frame in frames:
        time = None if frame.time is None else f"{frame.time:.4f}"
        for index, (label, score, box) in enumerate(_rows(frame.found)):
            track = None if frame.tracks is None else frame.tracks[index]
            row = [frame.source, frame.number, time, track, classes[label], f"{score:.5f}"]
            writer.writerow([*row, *(f"{side:.2f}" for side in box)])
    return stream.getvalue()


def counts_table(frames: Sequence[Frame], classes: Sequence[str]) -> str:
    """CSV, a row a picture or frame, a column a class."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["file", "frame", *classes])
    for frame in frames:
        counts = count_by_class(frame.found, classes)
        writer.writerow([frame.source, frame.number, *counts.values()])
    return stream.getvalue()
