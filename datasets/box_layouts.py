"""Where boxes stand in files: the layouts of Pascal VOC, COCO and YOLO."""

from __future__ import annotations

import json
import math
import posixpath
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ..errors import DataError
from .archive import Archive
from .pictures import SUFFIXES
from .splits import common_top, split_called


@dataclass
class Annotated:
    """A picture's boxes as its file states them.

    Attributes:
        picture: its name in the archive.
        size: (width, height) as stated; None where nothing is.
        boxes: (x1, y1, x2, y2), edges in pixels from the top left corner, or in shares of the
            picture's sides where `relative` is set.
        classes: each box's class.
        difficult: whether scores leave a box out.
    """

    picture: str
    size: tuple[int, int] | None
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    relative: bool = False

    def add(self, box: Sequence[float], name: str, difficult: bool = False) -> None:
        """Appends one box."""
        x1, y1, x2, y2 = box
        self.boxes.append((x1, y1, x2, y2))
        self.classes.append(name)
        self.difficult.append(difficult)


@dataclass(frozen=True)
class Layout:
    """What a data set states.

    Attributes:
        name: "VOC", "COCO" or "YOLO".
        classes: in their order; None where only the boxes tell them.
        splits: pictures by "train", "validation", "test"; by "" where nothing divides them.
    """

    name: str
    classes: tuple[str, ...] | None
    splits: dict[str, list[Annotated]]


def find_boxes(archive: Archive) -> Layout:
    """Reads the boxes in whichever layout the data have; raises DataError."""
    pictures = [name for name in archive.names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not pictures:
        raise DataError(f"{archive.path} holds no pictures ({', '.join(SUFFIXES)}).")
    xmls = [name for name in archive.names if name.lower().endswith(".xml")]
    if xmls:
        return _voc(archive, pictures, xmls)
    tables = _coco_tables(archive)
    if tables:
        return _coco(archive, pictures, tables)
    if any(_yolo_labels(archive, name) for name in pictures):
        return _yolo(archive, pictures)
    raise DataError(
        f"{archive.path} holds no boxes as VOC (Annotations/*.xml), COCO (a .json with images, "
        "annotations and categories) or YOLO (labels/*.txt beside images/) write them."
    )


# ------------------------------------------------------------------------------------------ VOC


def _voc(archive: Archive, pictures: list[str], xmls: list[str]) -> Layout:
    in_folders = [name for name in xmls if PurePosixPath(name).parent.name == "Annotations"]
    xmls = in_folders or xmls
    by_stem = {posixpath.splitext(name)[0]: name for name in pictures}
    lists = _voc_lists(archive)
    splits: dict[str, list[Annotated]] = {}
    if lists:
        known = set(xmls)
        for split, stems in lists.items():
            named = [stem + ".xml" for stem in stems]
            missing = [name for name in named if name not in known]
            if named and len(missing) == len(named):
                continue  # a test part whose boxes are not published
            if missing:
                raise DataError(f"{archive.path} names {missing[0]} in its lists but lacks it.")
            splits[split] = [_voc_picture(archive, name, by_stem) for name in named]
    else:
        top = common_top(pictures + xmls)
        for name in xmls:
            split = _split_in(PurePosixPath(name[len(top) :]).parent.parts) or ""
            splits.setdefault(split, []).append(_voc_picture(archive, name, by_stem))
    return Layout("VOC", None, splits)


def _voc_lists(archive: Archive) -> dict[str, list[str]]:
    """Annotation files without their endings by split, from ImageSets/Main."""
    lists: dict[str, list[str]] = {}
    whole: dict[str, list[str]] = {}
    for name in archive.names:
        path = PurePosixPath(name)
        if path.parts[-3:-1] != ("ImageSets", "Main") or path.suffix != ".txt":
            continue
        split = split_called(path.stem)
        if split is None and path.stem != "trainval":
            continue  # the lists of single classes
        root = path.parent.parent.parent
        stems = [str(root / "Annotations" / line.split()[0]) for line in _lines(archive, name)]
        (whole if split is None else lists).setdefault(split or "train", []).extend(stems)
    return lists if "train" in lists else {**lists, **whole}


def _voc_picture(archive: Archive, name: str, by_stem: dict[str, str]) -> Annotated:
    where = f"{name} in {archive.path}"
    try:
        root = ElementTree.fromstring(archive.read(name))
    except ElementTree.ParseError as error:
        raise DataError(f"{where} is no XML: {error}.") from None
    folder, stem = posixpath.split(name[: -len(".xml")])
    stated = posixpath.splitext((root.findtext("filename") or "").replace("\\", "/"))[0]
    places = [posixpath.join(posixpath.dirname(folder), f) for f in ("JPEGImages", "images", "")]
    found = (
        by_stem.get(posixpath.join(place, each))
        for each in (stem, posixpath.basename(stated))
        for place in (*places, folder)
    )
    picture = next((one for one in found if one), None)
    if picture is None:
        raise DataError(f"{where} has no picture called {stem} in JPEGImages, images or beside it.")
    size = None
    width, height = root.findtext("size/width"), root.findtext("size/height")
    if width and height and width.isdecimal() and height.isdecimal():
        size = (int(width), int(height))
    found_boxes = Annotated(picture, size)
    for thing in root.iter("object"):
        label = (thing.findtext("name") or "").strip()
        if not label:
            raise DataError(f"{where} has an object without a name.")
        sides = [thing.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        x1, y1, x2, y2 = _numbers(sides, where)
        # VOC counts pixels from 1 and includes the last one.
        hard = (thing.findtext("difficult") or "0").strip() == "1"
        found_boxes.add((x1 - 1, y1 - 1, x2, y2), label, hard)
    return found_boxes


# ----------------------------------------------------------------------------------------- COCO


def _coco_tables(archive: Archive) -> dict[str, dict[str, Any]]:
    """By file name, every JSON that holds boxes as COCO writes them."""
    names = [name for name in archive.names if name.lower().endswith(".json")]
    instances = [n for n in names if PurePosixPath(n).name.startswith("instances")]
    tables = {}
    for name in instances or names:
        try:
            table = json.loads(archive.text(name))
        except ValueError as error:
            raise DataError(f"{name} in {archive.path} is no JSON: {error}.") from None
        wanted = ("images", "annotations", "categories")
        if isinstance(table, dict) and all(isinstance(table.get(key), list) for key in wanted):
            tables[name] = table
    return tables


def _coco(archive: Archive, pictures: list[str], tables: dict[str, dict[str, Any]]) -> Layout:
    by_base: dict[str, list[str]] = {}
    for name in pictures:
        by_base.setdefault(posixpath.basename(name), []).append(name)
    classes: dict[str, None] = {}
    splits: dict[str, list[Annotated]] = {}
    top = common_top([*pictures, *tables])
    for name, table in tables.items():
        where = f"{name} in {archive.path}"
        try:
            categories = {c["id"]: str(c["name"]) for c in table["categories"]}
            classes.update(dict.fromkeys(categories[key] for key in sorted(categories)))
            below = PurePosixPath(name[len(top) :])
            split = _split_in([*below.parent.parts, below.stem]) or ""
            found = _coco_pictures(name, table, categories, by_base, where)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where} is not as COCO writes it: {error!r}.") from None
        splits.setdefault(split, []).extend(found)
    return Layout("COCO", tuple(classes), splits)


def _coco_pictures(
    name: str,
    table: dict[str, Any],
    categories: dict[Any, str],
    by_base: dict[str, list[str]],
    where: str,
) -> list[Annotated]:
    found: dict[Any, Annotated] = {}
    for image in table["images"]:
        stated = str(image["file_name"]).replace("\\", "/")
        size = (int(image["width"]), int(image["height"])) if image.get("width") else None
        found[image["id"]] = Annotated(_coco_file(name, stated, by_base, where), size)
    for thing in table["annotations"]:
        if thing["image_id"] not in found:
            raise DataError(f"{where} has a box of an unknown picture {thing['image_id']}.")
        if thing["category_id"] not in categories:
            raise DataError(f"{where} has a box of an unknown class {thing['category_id']}.")
        x, y, width, height = _numbers(thing["bbox"], where)
        hard = bool(thing.get("iscrowd", 0))
        box = (x, y, x + width, y + height)
        found[thing["image_id"]].add(box, categories[thing["category_id"]], hard)
    return list(found.values())


def _coco_file(name: str, stated: str, by_base: dict[str, list[str]], where: str) -> str:
    """The picture of that name that lies nearest to what the JSON file's own name says."""
    ending = [
        n for n in by_base.get(posixpath.basename(stated), ()) if f"/{n}".endswith(f"/{stated}")
    ]
    if not ending:
        raise DataError(f"{where} names the picture {stated}, which is not there.")
    folder = posixpath.dirname(name)
    own = PurePosixPath(name).stem.removeprefix("instances_")
    return min(ending, key=lambda n: (own not in n.split("/"), not n.startswith(folder), n))


# ----------------------------------------------------------------------------------------- YOLO


def _yolo(archive: Archive, pictures: list[str]) -> Layout:
    names, splits_of = _yolo_description(archive, pictures)
    if not names:
        raise DataError(f"{archive.path} names no classes; add a data.yaml or a classes.txt.")
    splits: dict[str, list[Annotated]] = {}
    for split, chosen in splits_of.items():
        splits[split] = [_yolo_picture(archive, name, names) for name in chosen]
    return Layout("YOLO", names, splits)


def _yolo_description(
    archive: Archive, pictures: list[str]
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Class names, and pictures by split, from data.yaml or from classes.txt and folders' names."""
    described = [n for n in archive.names if n.lower().endswith((".yaml", ".yml"))]
    for name in described:
        table = _yaml(archive, name)
        if isinstance(table, dict) and "names" in table:
            names = table["names"]
            if isinstance(names, dict):
                names = [names[key] for key in sorted(names)]
            splits = {
                split: _yolo_part(archive, pictures, name, table, table[key])
                for key, split in (("train", "train"), ("val", "validation"), ("test", "test"))
                if table.get(key)
            }
            return tuple(map(str, names)), splits
    names = ()
    for name in archive.names:
        if PurePosixPath(name).name in ("classes.txt", "obj.names"):
            names = tuple(_lines(archive, name))
    splits = {}
    top = common_top(pictures)
    for name in pictures:
        split = _split_in(PurePosixPath(name[len(top) :]).parent.parts) or ""
        splits.setdefault(split, []).append(name)
    return names, splits


def _yaml(archive: Archive, name: str) -> Any:
    import yaml  # type: ignore[import-untyped]  # of the extra `tasks`, and without types

    try:
        return yaml.safe_load(archive.text(name))
    except yaml.YAMLError:
        raise DataError(f"{name} in {archive.path} is no YAML.") from None


def _yolo_part(
    archive: Archive, pictures: list[str], name: str, table: dict[str, Any], stated: Any
) -> list[str]:
    """Pictures of one entry of data.yaml: a folder, a list file, or several of them.

    The folders were right on the machine that wrote the file; here the longest end of one counts
    that exists below the YAML file or below the root.
    """
    chosen: list[str] = []
    for one in stated if isinstance(stated, list) else [stated]:
        full = posixpath.normpath(posixpath.join(str(table.get("path") or ""), str(one)))
        parts = [part for part in full.split("/") if part not in ("", ".", "..")]
        bases = (posixpath.dirname(name), "")
        for ending in [
            posixpath.join(base, *parts[start:]) for start in range(len(parts)) for base in bases
        ]:
            below = [p for p in pictures if p.startswith(ending + "/")]
            if ending in archive:
                below = [
                    _listed(archive, ending, line, pictures) for line in _lines(archive, ending)
                ]
            if below:
                chosen += below
                break
        else:
            raise DataError(f"{name} in {archive.path} names {one}, where no pictures are.")
    return chosen


def _listed(archive: Archive, file: str, line: str, pictures: list[str]) -> str:
    parts = [part for part in line.split("/") if part not in ("", ".", "..")]
    known = set(pictures)
    for base in (posixpath.dirname(file), ""):
        for start in range(len(parts)):
            name = posixpath.join(base, *parts[start:])
            if name in known:
                return name
    raise DataError(f"{file} in {archive.path} names {line}, which is not there.")


def _yolo_labels(archive: Archive, picture: str) -> str | None:
    """The text file of a picture's boxes: in labels/ where it lies in images/, or beside it."""
    stem = posixpath.splitext(picture)[0]
    head, found, tail = f"/{stem}".rpartition("/images/")
    names = [f"{head}/labels/{tail}.txt"[1:]] if found else []
    return next((name for name in [*names, stem + ".txt"] if name in archive), None)


def _yolo_picture(archive: Archive, picture: str, names: tuple[str, ...]) -> Annotated:
    found = Annotated(picture, None, relative=True)
    labels = _yolo_labels(archive, picture)
    for number, line in enumerate(_lines(archive, labels) if labels else (), 1):
        where = f"line {number} of {labels} in {archive.path}"
        first, *rest = line.split()
        if not first.isdecimal() or int(first) >= len(names):
            raise DataError(f"{where} has the class {first}; there are {len(names)}, from 0.")
        numbers = _numbers(rest, where)
        if len(numbers) in (4, 5):  # the fifth is a score
            x, y, width, height = numbers[:4]
            box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        elif len(numbers) >= 6 and len(numbers) % 2 == 0:  # an outline
            xs, ys = numbers[::2], numbers[1::2]
            box = [min(xs), min(ys), max(xs), max(ys)]
        else:
            raise DataError(f"{where} is not a class and a box (x, y, width, height).")
        found.add(box, names[int(first)])
    return found


# --------------------------------------------------------------------------------------- common


def _lines(archive: Archive, name: str) -> list[str]:
    return [line.strip() for line in archive.text(name).splitlines() if line.strip()]


def _split_in(words: Iterable[str]) -> str | None:
    """The split that the last telling word of a path names."""
    for word in reversed(list(words)):
        for part in re.split(r"[^a-z]+", word.lower()):
            split = split_called(part)
            if split is not None:
                return split
    return None


def _numbers(stated: Iterable[Any], where: str) -> list[float]:
    try:
        numbers = [float(one) for one in stated]
    except (TypeError, ValueError):
        raise DataError(f"{where} has a box that is not numbers.") from None
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{where} has a box that is not finite.")
    return numbers
