"""Writes boxes, found by a detector or drawn by hand, as Pascal VOC, COCO and YOLO do."""

from __future__ import annotations

import errno
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import DataError


@dataclass(frozen=True)
class FoundBoxes:
    """A picture's boxes to write.

    Attributes:
        name: of the picture's file, with "/" between folders.
        width, height: of the picture, pixels.
        boxes: float (N, 4): x1, y1, x2, y2, edges in pixels from the top left corner.
        labels: int (N,), indices into the classes.
        scores: float (N,) in [0, 1]; None for boxes that are certain.
    """

    name: str
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


def write_voc(folder: Path, found: Sequence[FoundBoxes], classes: Sequence[str]) -> None:
    """Writes `folder`/Annotations/NAME.xml for each picture: pixels from 1, the last included.

    A score is written as `confidence`, which other readers pass over.

    Raises:
        DataError: a file cannot be written.
    """
    for one, stem in zip(found, _stems(found), strict=True):
        root = ElementTree.Element("annotation")
        _tag(root, "filename", PurePosixPath(one.name).name)
        size = _tag(root, "size")
        for key, value in (("width", one.width), ("height", one.height), ("depth", 3)):
            _tag(size, key, value)
        _tag(root, "segmented", 0)
        for i, (x1, y1, x2, y2) in enumerate(np.rint(one.boxes).astype(int).tolist()):
            thing = _tag(root, "object")
            _tag(thing, "name", classes[int(one.labels[i])])
            edges = np.array([x1, y1, x2, y2]) == (0, 0, one.width, one.height)
            _tag(thing, "pose", "Unspecified")
            _tag(thing, "truncated", int(edges.any()))
            _tag(thing, "difficult", 0)
            if one.scores is not None:
                _tag(thing, "confidence", f"{one.scores[i]:.4f}")
            box = _tag(thing, "bndbox")
            sides = {
                "xmin": x1 + 1,
                "ymin": y1 + 1,
                "xmax": max(x2, x1 + 1),
                "ymax": max(y2, y1 + 1),
            }
            for key, value in sides.items():
                _tag(box, key, value)
        ElementTree.indent(root)
        _write(folder / "Annotations" / f"{stem}.xml", ElementTree.tostring(root, "unicode") + "\n")


def write_coco(file: Path, found: Sequence[FoundBoxes], classes: Sequence[str]) -> None:
    """Writes one JSON file with images, annotations and categories, numbered from 1.

    An annotation has its score as `score`; its `bbox` is x, y, width, height in pixels.

    Raises:
        DataError: the file cannot be written.
    """
    annotations: list[dict[str, Any]] = []
    images = []
    for number, one in enumerate(found, 1):
        images.append(
            {"id": number, "file_name": one.name, "width": one.width, "height": one.height}
        )
        for i, (x1, y1, x2, y2) in enumerate(np.asarray(one.boxes, np.float64).tolist()):
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": int(one.labels[i]) + 1,
                "bbox": [round(side, 2) for side in (x1, y1, x2 - x1, y2 - y1)],
                "area": round((x2 - x1) * (y2 - y1), 2),
                "iscrowd": 0,
            }
            if one.scores is not None:
                entry["score"] = round(float(one.scores[i]), 5)
            annotations.append(entry)
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
    table = {"images": images, "annotations": annotations, "categories": categories}
    _write(file, json.dumps(table) + "\n")


def write_yolo(folder: Path, found: Sequence[FoundBoxes], classes: Sequence[str]) -> None:
    """Writes `folder`/classes.txt and `folder`/labels/NAME.txt for each picture.

    A line is: class from 0, the box's centre, width and height as shares of the picture's sides,
    and the score where there is one.

    Raises:
        DataError: a file cannot be written.
    """
    _write(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    for one, stem in zip(found, _stems(found), strict=True):
        lines = []
        for i, (x1, y1, x2, y2) in enumerate(np.asarray(one.boxes, np.float64).tolist()):
            numbers = [
                (x1 + x2) / 2 / one.width,
                (y1 + y2) / 2 / one.height,
                (x2 - x1) / one.width,
                (y2 - y1) / one.height,
            ]
            if one.scores is not None:
                numbers.append(float(one.scores[i]))
            lines.append(" ".join([str(int(one.labels[i])), *(f"{n:.6f}" for n in numbers)]))
        _write(folder / "labels" / f"{stem}.txt", "".join(f"{line}\n" for line in lines))


def _tag(parent: ElementTree.Element, name: str, value: object = None) -> ElementTree.Element:
    tag = ElementTree.SubElement(parent, name)
    tag.text = None if value is None else str(value)
    return tag


def _stems(found: Sequence[FoundBoxes]) -> list[str]:
    """Names without endings, below the folder and unique: a.jpg and a.png become a and a_png."""
    stems: list[str] = []
    taken: set[str] = set()
    for one in found:
        path = PurePosixPath(one.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            path = PurePosixPath(path.name)
        stem = str(path.with_suffix(""))
        if stem in taken:
            stem = f"{stem}_{path.suffix[1:]}"
        number = 2
        unique = stem
        while unique in taken:
            unique = f"{stem}_{number}"
            number += 1
        stems.append(unique)
        taken.add(unique)
    return stems


def _write(path: Path, text: str) -> None:
    """Writes a text file that appears when it is complete."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no space is left" if full else error.strerror or str(error)
        raise DataError(f"{path} cannot be written: {reason}.") from None
