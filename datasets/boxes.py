"""Pictures with boxes of classes, for detection: Pascal VOC, COCO and YOLO."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .archive import Archive
from .atari_objects import ATARI_DATA
from .box_layouts import Annotated, Layout, find_boxes
from .download import resolve, source_facts
from .jpeg import decode_quickly

HELD_OUT = 0.2
"""Share of the pictures that becomes the test part where the data name none."""

_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class BoxedPicture:
    """One picture and its boxes.

    Attributes:
        name: unique in the data set.
        read: decodes it: RGB uint8 (height, width, 3); safe from several threads.
        width, height: pixels.
        boxes: float32 (N, 4): x1, y1, x2, y2, edges in pixels from the top left corner, inside the
            picture and not empty.
        labels: int64 (N,), indices into the classes.
        difficult: bool (N,): left out of scores, like VOC's difficult and COCO's crowds.
    """

    name: str
    read: Callable[[], np.ndarray]
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class BoxedPictures:
    """A data set for detection.

    Attributes:
        classes: their names.
        train, validation, test: validation is None where the data set has no such part.
        facts: JSON values: source, licence, layout, split, counts of pictures and boxes, and
            how many boxes were clipped to their picture or dropped as empty.
    """

    classes: tuple[str, ...]
    train: list[BoxedPicture]
    validation: list[BoxedPicture] | None
    test: list[BoxedPicture]
    facts: Mapping[str, Any]


def read_boxes(data: str, seed: int) -> BoxedPictures:
    """Reads a data set's boxes; each picture is decoded when it is asked for.

    Layouts: Pascal VOC (Annotations, JPEGImages, ImageSets/Main), COCO (instances_*.json and
    pictures), YOLO (data.yaml, or classes.txt, with images/ and labels/). Parts are told by VOC's
    lists, or by train, val and test in the names of files and folders. Without a test part the
    validation part is it; without both it is a seeded share of the pictures. VOC's pixels from 1
    become edges from 0.

    Args:
        data: a registered name, a folder, or an archive; "atari-scenes" and
            "atari-scenes-by-game" are generated, see `atari_scenes`.
        seed: of the split, where one is drawn, or of what is generated to learn from.

    Raises:
        DataError: missing or damaged files, an unknown layout or class, no boxes to learn from, a
            class in the test that training never saw.
        UnknownNameError: `data` is neither a path nor a known name.
    """
    if data in ATARI_DATA:
        from .atari_scenes import atari_boxes

        return atari_boxes(seed, data)
    path = resolve(data)
    archive = Archive.open(path)
    layout = find_boxes(archive)
    splits, said = _with_test(archive, layout, seed)
    classes = _classes(archive, layout, splits)
    sizes = _sizes(archive, [one for part in splits.values() for one in part])
    trouble = {"clipped": 0, "dropped": 0}
    parts = {
        split: [_finished(archive, one, sizes, classes, trouble) for one in part]
        for split, part in splits.items()
    }
    if not any(len(one.boxes) for one in parts["train"]):
        raise DataError(f"{archive.path} has no boxes to learn from in its train part.")
    facts = {
        **source_facts(data, path),
        "layout": layout.name,
        "split": said,
        "counts": {split: len(part) for split, part in parts.items()},
        "boxes": {split: _counted(part, classes) for split, part in parts.items()},
        "boxes_clipped": trouble["clipped"],
        "boxes_dropped": trouble["dropped"],
    }
    return BoxedPictures(classes, parts["train"], parts.get("validation"), parts["test"], facts)


def _with_test(
    archive: Archive, layout: Layout, seed: int
) -> tuple[dict[str, list[Annotated]], str]:
    """Parts "train", "test" and perhaps "validation", and how they came about."""
    named = ("train", "validation", "test", "")
    splits = {name: layout.splits[name] for name in named if layout.splits.get(name)}
    if "train" in splits and "test" in splits:
        splits.pop("", None)
        return splits, "as the data set divides it"
    if "train" in splits and "validation" in splits:
        parts = {"train": splits["train"], "test": splits["validation"]}
        return parts, "its validation part is the test part"
    whole = [one for name in ("train", "") for one in splits.get(name, ())]
    if len(whole) < 2:
        raise DataError(f"{archive.path} has {len(whole)} pictures with boxes to learn from.")
    order = np.random.default_rng(seed).permutation(len(whole))
    count = max(1, round(HELD_OUT * len(whole)))
    train = [whole[i] for i in sorted(order[count:])]
    seen = {name for one in train for name in one.classes}
    test = []
    for i in sorted(order[:count]):
        # A rare class may lie in few pictures: training gets it first.
        if set(whole[i].classes) <= seen:
            test.append(whole[i])
        else:
            train.append(whole[i])
            seen.update(whole[i].classes)
    if not test:
        raise DataError(f"{archive.path} has too few pictures of each class for a test part.")
    said = f"a random {HELD_OUT:.0%} of the pictures is the test part (seed {seed})"
    return {"train": train, "test": test}, said


def _classes(
    archive: Archive, layout: Layout, splits: Mapping[str, list[Annotated]]
) -> tuple[str, ...]:
    learnt = {
        name
        for split in ("train", "validation")
        for one in splits.get(split, ())
        for name in one.classes
    }
    unseen = sorted({name for one in splits["test"] for name in one.classes} - learnt)
    if unseen:
        raise DataError(
            f"{archive.path}: the test part has classes that training never saw: "
            f"{', '.join(unseen)}; remove their boxes or add some to train."
        )
    return layout.classes or tuple(sorted(learnt))


def _sizes(archive: Archive, found: Sequence[Annotated]) -> dict[str, tuple[int, int]]:
    """(width, height) by picture: as COCO states it, else read from the picture's header."""
    names = [one.picture for one in found]
    sizes = dict(_stated(found))
    missing = [name for name in dict.fromkeys(names) if name not in sizes]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(lambda name: picture_size(archive.read(name), name), missing)
        sizes.update(zip(missing, read, strict=True))
    return sizes


def _stated(found: Sequence[Annotated]) -> list[tuple[str, tuple[int, int]]]:
    return [(one.picture, one.size) for one in found if one.size and min(one.size) > 0]


def picture_size(content: bytes, name: str) -> tuple[int, int]:
    """(width, height) of a picture as it is shown, from its header; raises DataError."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            turned = picture.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = picture.size
    except Exception as error:  # decoders of damaged files raise errors of every kind
        raise DataError(f"{name} is not a picture of a known format.") from error
    return (height, width) if turned else (width, height)


def _finished(
    archive: Archive,
    found: Annotated,
    sizes: Mapping[str, tuple[int, int]],
    classes: tuple[str, ...],
    trouble: dict[str, int],
) -> BoxedPicture:
    width, height = sizes[found.picture]
    sides = np.array([width, height, width, height], np.float64)
    boxes = np.array(found.boxes, np.float64).reshape(-1, 4)
    if found.relative:
        boxes = boxes * sides
    inside = np.clip(boxes, 0, sides).astype(np.float32)
    kept = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    # Half a pixel is the rounding of numbers in text files, not a box outside the picture.
    moved = (np.abs(inside - boxes) > 0.5).any(axis=1)
    trouble["clipped"] += int((moved & kept).sum())
    trouble["dropped"] += int((~kept).sum())
    labels = np.array([classes.index(name) for name in found.classes], np.int64)
    return BoxedPicture(
        name=found.picture,
        read=partial(_read, archive, found.picture, (height, width)),
        width=width,
        height=height,
        boxes=inside[kept],
        labels=labels[kept],
        difficult=np.array(found.difficult, bool)[kept],
    )


def _read(archive: Archive, name: str, shape: tuple[int, int]) -> np.ndarray:
    picture = decode_quickly(archive.read(name), name)
    if picture.shape[:2] != shape:
        raise DataError(
            f"{name} in {archive.path} is {picture.shape[1]} x {picture.shape[0]} pixels and its "
            f"boxes are for {shape[1]} x {shape[0]}; save it upright, or correct its annotation."
        )
    return picture


def _counted(part: Sequence[BoxedPicture], classes: tuple[str, ...]) -> dict[str, int]:
    counts = np.zeros(len(classes), np.int64)
    for one in part:
        counts += np.bincount(one.labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}
