"""Pictures alone, as colorisation and other work on unlabelled pictures takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..errors import DataError
from .archive import Archive
from .download import resolve, source_facts
from .jpeg import decode_quickly
from .labelled import Part, labelled_parts
from .pictures import SUFFIXES
from .splits import common_top, divided_by_group, split_called

FEWEST_GROUPS = 10
"""With fewer top-level folders than this, pictures are divided one by one."""
_SHARES = (("test", 0.1), ("validation", 0.1))


@dataclass(frozen=True)
class Entry:
    """One picture.

    Attributes:
        name: unique in the collection.
        group: what must not be cut by a split: a person, a class, a folder; else the name.
        read: decodes it: RGB uint8 (H, W, 3); safe from several threads.
    """

    name: str
    group: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class PictureCollection:
    """Pictures to learn from, to choose by, and to report.

    Attributes:
        train, validation, test: validation is None where the data set has no such part.
        facts: JSON values: source, licence, split, counts.
    """

    train: list[Entry]
    validation: list[Entry] | None
    test: list[Entry]
    facts: Mapping[str, Any]


def read_collection(data: str, seed: int) -> PictureCollection:
    """Lists the pictures of a data set; each is decoded when it is asked for.

    A data set in which folders called train and test (or val) lie side by side keeps that split,
    without pictures outside of them, and CIFAR-10 its own. Else a tenth of the top-level folders
    is the test part and a tenth the validation part, so that no person is in two; with fewer than
    ten folders, of the pictures.

    Args:
        data: a registered name, a folder, or an archive.
        seed: of the split, where one is drawn.

    Raises:
        DataError: missing or damaged files, or too few pictures.
        UnknownNameError: `data` is neither a path nor a known name.
    """
    path = resolve(data)
    archive = Archive.open(path)
    if any(PurePosixPath(name).name.startswith("data_batch_") for name in archive.names):
        parts, split = _from_labelled(archive, seed)
    else:
        parts, split = _from_files(archive, seed)
    parts = {name: parts[name] for name in ("train", "validation", "test") if name in parts}
    counts = {name: len(entries) for name, entries in parts.items()}
    facts = {**source_facts(data, path), "split": split, "counts": counts}
    return PictureCollection(parts["train"], parts.get("validation"), parts["test"], facts)


def _from_labelled(archive: Archive, seed: int) -> tuple[dict[str, list[Entry]], str]:
    classes, parts, split = labelled_parts(archive, seed)
    return {name: _entries(part, classes) for name, part in parts.items()}, split


def _entries(part: Part, classes: tuple[str, ...]) -> list[Entry]:
    return [
        Entry(name, classes[part.labels[i]], partial(part.read, i))
        for i, name in enumerate(part.names)
    ]


def _from_files(archive: Archive, seed: int) -> tuple[dict[str, list[Entry]], str]:
    names = [name for name in archive.names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not names:
        raise DataError(f"{archive.path} holds no pictures ({', '.join(SUFFIXES)}).")
    divided = _divided_below(names)
    if divided is not None:
        return _official(archive, names, divided)
    top = common_top(names)
    tops = [name[len(top) :].partition("/")[0] if "/" in name[len(top) :] else "" for name in names]
    folders = len(set(tops) - {""})
    by_folder = folders >= FEWEST_GROUPS
    groups = [
        folder if by_folder and folder else name for name, folder in zip(names, tops, strict=True)
    ]
    if len(set(groups)) < 3:
        raise DataError(
            f"{archive.path} holds {len(names)} pictures; at least 3 are needed for training, "
            "validation and test."
        )
    parts: dict[str, list[Entry]] = {"train": [], "validation": [], "test": []}
    chosen = divided_by_group(groups, _SHARES, seed)
    for name, group, split in zip(names, groups, chosen, strict=True):
        parts[split].append(_entry(archive, name, group))
    unit = f"of the {folders} folders" if by_folder else "of the pictures"
    return parts, f"10 % {unit} are the test part, 10 % the validation part (seed {seed})"


def _divided_below(names: list[str]) -> str | None:
    """The uppermost folder, ending in "/" or empty, in which train and test (or val) lie."""
    found: dict[str, set[str]] = {}
    for name in names:
        *folders, _ = name.split("/")
        for depth, folder in enumerate(folders):
            split = split_called(folder)
            if split is not None:
                base = "".join(part + "/" for part in folders[:depth])
                found.setdefault(base, set()).add(split)
    bases = [base for base, splits in found.items() if "train" in splits and len(splits) > 1]
    return min(bases, key=lambda base: (base.count("/"), base), default=None)


def _official(archive: Archive, names: list[str], base: str) -> tuple[dict[str, list[Entry]], str]:
    parts: dict[str, list[Entry]] = {}
    outside = 0
    for name in names:
        folder, _, rest = name[len(base) :].partition("/")
        split = split_called(folder) if name.startswith(base) and rest else None
        if split is None:
            outside += 1
            continue
        group, inner, _ = rest.partition("/")
        parts.setdefault(split, []).append(_entry(archive, name, group if inner else name))
    said = "as the data set divides it"
    if "test" not in parts:
        parts["test"] = parts.pop("validation")
        said = "its validation part is the test part"
    return parts, said + (f"; {outside} pictures outside are left out" if outside else "")


def _entry(archive: Archive, name: str, group: str) -> Entry:
    return Entry(name, group, partial(_read, archive, name))


def _read(archive: Archive, name: str) -> np.ndarray:
    return decode_quickly(archive.read(name), name)
