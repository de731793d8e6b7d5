"""Pictures with one class each: class folders, CIFAR-10's binary version, MNIST's idx files."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from ..errors import DataError, EightBitError, MemoryBudgetError, UsageError
from .archive import Archive
from .download import resolve, source_facts
from .jpeg import decode_quickly
from .pictures import SUFFIXES, resize
from .splits import common_top, held_out_by_class, split_called

Progress = Callable[[int, int], None]
"""Is told (pictures decoded, pictures in all); it is called in several threads."""

HELD_OUT = 0.2
"""Share of each class that becomes the test set where the data name none."""

_CHUNK = 256
_CIFAR_BATCH = re.compile(r"(data_batch_\d+|test_batch)\.bin")
_CIFAR_RECORD = 1 + 3 * 32 * 32
_IDX_PICTURES = re.compile(r"(train|t10k|test)-images[-.]idx3-ubyte(\.gz)?")


@dataclass(frozen=True)
class PictureSet:
    """Pictures and their classes, in memory.

    Attributes:
        pictures: uint8 (N, 3, S, S), RGB.
        labels: int64 (N,), indices into the classes.
        names: of the pictures, unique.
    """

    pictures: Tensor
    labels: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class LabelledPictures:
    """A data set for classification.

    Attributes:
        classes: their names.
        train: to learn from.
        test: to report.
        facts: JSON values: source, licence, split, counts.
        validation: to choose by, where the data set names such a part.
    """

    classes: tuple[str, ...]
    train: PictureSet
    test: PictureSet
    facts: Mapping[str, Any]
    validation: PictureSet | None = None


@dataclass(frozen=True)
class Part:
    """One split before decoding.

    Attributes:
        labels: int64 (N,).
        names: of the pictures, unique.
        read: index -> RGB uint8 (H, W, 3); safe from several threads.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    read: Callable[[int], np.ndarray]

    def chosen(self, indices: np.ndarray) -> Part:
        """Some of the pictures."""
        names = tuple(self.names[i] for i in indices)
        return Part(self.labels[indices], names, partial(_read_chosen, self.read, indices))


def _read_chosen(read: Callable[[int], np.ndarray], indices: np.ndarray, i: int) -> np.ndarray:
    return read(int(indices[i]))


def read_labelled(
    data: str, size: int, seed: int, progress: Progress | None = None
) -> LabelledPictures:
    """Reads a data set into memory.

    Layouts: a folder per class, below train/ and test/ (val/) where the data are divided;
    CIFAR-10's binary version; MNIST's idx files. Where no test part is named, val/ is it; where
    none of the two is, a seeded share of each class.

    Args:
        data: a registered name, a folder, or an archive.
        size: S, pixels; a picture's shorter side is brought to it and the middle is cut out.
        seed: of the split, where one is drawn.
        progress: is told how many pictures are decoded.

    Raises:
        DataError: missing or damaged files, a class without pictures, fewer than two classes, a
            class in the test that training never saw.
        MemoryBudgetError: the pictures do not fit the free memory.
        UnknownNameError: `data` is neither a path nor a known name.
        UsageError: `size` is below 1.
    """
    if size < 1:
        raise UsageError(f"pictures cannot be {size} pixels wide; choose at least 1.")
    path = resolve(data)
    with Archive.open(path) as archive:
        classes, parts, split = labelled_parts(archive, seed)
        check_memory(sum(len(part.names) for part in parts.values()), size)
        sets = _decoded(parts, size, progress)
    counts = {name: len(part.names) for name, part in parts.items()}
    facts = {**source_facts(data, path), "split": split, "counts": counts}
    return LabelledPictures(
        classes, sets["train"], sets["test"], facts, validation=sets.get("validation")
    )


def labelled_parts(archive: Archive, seed: int) -> tuple[tuple[str, ...], dict[str, Part], str]:
    """Classes, parts by split ("train", "test", perhaps "validation"), and how it was divided.

    Raises:
        DataError: see `read_labelled`.
    """
    if any(_CIFAR_BATCH.fullmatch(PurePosixPath(name).name) for name in archive.names):
        return _cifar_parts(archive)
    if any(_IDX_PICTURES.fullmatch(PurePosixPath(name).name) for name in archive.names):
        return _idx_parts(archive)
    return _folder_parts(archive, seed)


# ------------------------------------------------------------------------------- class folders


def _folder_parts(archive: Archive, seed: int) -> tuple[tuple[str, ...], dict[str, Part], str]:
    pictures = [name for name in archive.names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not pictures:
        raise DataError(f"{archive.path} holds no pictures ({', '.join(SUFFIXES)}).")
    top = common_top(_at_least_two_deep(pictures))
    folders = {name[len(top) :].partition("/")[0] for name in pictures if name.startswith(top)}
    found = {split_called(name): top + name + "/" for name in sorted(folders)}
    if None in found or "train" not in found:
        found = {"train": top}
    listed = {split: _classes_below(archive, pictures, root) for split, root in found.items()}
    classes = tuple(sorted(listed["train"]))
    if len(classes) < 2:
        raise DataError(
            f"{archive.path} shows {len(classes)} class; put the pictures of each class into a "
            "folder of its own, at least two."
        )
    parts: dict[str, Part] = {}
    for split, by_class in listed.items():
        assert split is not None
        unseen = sorted(set(by_class) - set(classes))
        if unseen:
            raise DataError(
                f"{archive.path}: the {split} part has classes that training never saw: "
                f"{', '.join(unseen)}; remove them or add them to train."
            )
        names = [name for folder in classes for name in by_class.get(folder, ())]
        labels = [i for i, folder in enumerate(classes) for _ in by_class.get(folder, ())]
        read = partial(_read_file, archive, tuple(names))
        parts[split] = Part(np.array(labels, np.int64), tuple(names), read)
    order = ("train", "validation", "test")
    return (classes, *_with_test({name: parts[name] for name in order if name in parts}, seed))


def _at_least_two_deep(pictures: list[str]) -> list[str]:
    """Folders of pictures as names whose last folder is not descended into."""
    return [str(PurePosixPath(name).parent) for name in pictures if "/" in name]


def _classes_below(archive: Archive, pictures: list[str], root: str) -> dict[str, list[str]]:
    """Pictures by class folder directly below `root`, or below the only folder in it."""
    inside = [name for name in pictures if name.startswith(root)]
    root = common_top(_at_least_two_deep(inside), root)
    by_class: dict[str, list[str]] = {}
    for name in inside:
        folder, _, rest = name[len(root) :].partition("/")
        if rest:
            by_class.setdefault(folder, []).append(name)
    if not by_class:
        raise DataError(
            f"{archive.path} has its pictures in no class folders; put those of each class into "
            "a folder of its own."
        )
    for folder in archive.folders:
        name = folder[len(root) :]
        if folder.startswith(root) and "/" not in name and name not in by_class:
            raise DataError(
                f"the class folder {folder} in {archive.path} holds no pictures; fill or remove it."
            )
    return by_class


def _read_file(archive: Archive, names: tuple[str, ...], i: int) -> np.ndarray:
    return decode_quickly(archive.read(names[i]), names[i])


def _with_test(parts: dict[str, Part], seed: int) -> tuple[dict[str, Part], str]:
    """Makes sure that there is a test part; says how."""
    if "test" in parts:
        return parts, "as the data set divides it"
    if "validation" in parts:
        test = parts["validation"]
        return {"train": parts["train"], "test": test}, "its validation part is the test part"
    whole = parts["train"]
    held = held_out_by_class(whole.labels, HELD_OUT, seed)
    if not held.any():
        raise DataError("no class has two pictures; add some to train and test on.")
    parts = {
        "train": whole.chosen(np.flatnonzero(~held)),
        "test": whole.chosen(np.flatnonzero(held)),
    }
    return parts, f"a random {HELD_OUT:.0%} of each class is the test part (seed {seed})"


# -------------------------------------------------------------------------------- CIFAR and idx


def _cifar_parts(archive: Archive) -> tuple[tuple[str, ...], dict[str, Part], str]:
    files = [n for n in archive.names if _CIFAR_BATCH.fullmatch(PurePosixPath(n).name)]
    folder = str(PurePosixPath(files[0]).parent / "batches.meta.txt")
    classes = tuple(archive.text(folder).split())
    parts: dict[str, Part] = {}
    for split, start in (("train", "data_batch"), ("test", "test_batch")):
        chosen = [name for name in files if PurePosixPath(name).name.startswith(start)]
        if not chosen:
            raise DataError(f"{archive.path} holds no {start} file of CIFAR-10; get it again.")
        records = []
        names: list[str] = []
        for name in chosen:
            content = np.frombuffer(archive.read(name), np.uint8)
            if not len(content) or len(content) % _CIFAR_RECORD:
                raise DataError(f"{name} in {archive.path} is truncated; get it again.")
            records.append(content.reshape(-1, _CIFAR_RECORD))
            stem = PurePosixPath(name).stem
            names += [f"{stem}/{i:05d}" for i in range(len(records[-1]))]
        table = np.concatenate(records)
        labels = table[:, 0].astype(np.int64)
        if labels.max() >= len(classes):
            raise DataError(f"{archive.path} has labels beyond its {len(classes)} classes.")
        pictures = table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts[split] = Part(labels, tuple(names), partial(_read_array, pictures))
    return classes, parts, "as the data set divides it"


def _read_array(pictures: np.ndarray, i: int) -> np.ndarray:
    picture = pictures[i]
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return np.ascontiguousarray(picture)


def _idx_parts(archive: Archive) -> tuple[tuple[str, ...], dict[str, Part], str]:
    parts: dict[str, Part] = {}
    for name in archive.names:
        match = _IDX_PICTURES.fullmatch(PurePosixPath(name).name)
        if match is None:
            continue
        head, sep, base = name.rpartition("/")
        labels_name = head + sep + base.replace("images", "labels").replace("idx3", "idx1")
        pictures = _idx_array(archive, name, 3)
        labels = _idx_array(archive, labels_name, 1).astype(np.int64)
        if len(pictures) != len(labels):
            raise DataError(
                f"{name} has {len(pictures)} pictures and {labels_name} {len(labels)} labels."
            )
        split = "train" if match[1] == "train" else "test"
        names = tuple(f"{split}/{i:05d}" for i in range(len(labels)))
        parts[split] = Part(labels, names, partial(_read_array, pictures))
    split = "as the data set divides it"
    if len(parts) == 1:
        (only,) = parts.values()
        first = int(len(only.names) * (1 - HELD_OUT))
        order = np.arange(len(only.names))
        parts = {"train": only.chosen(order[:first]), "test": only.chosen(order[first:])}
        split = f"the first {first} are train, the last {len(order) - first} test"
    classes = _digits(parts["train"].labels)
    unseen = sorted(set(parts["test"].labels.tolist()) - set(parts["train"].labels.tolist()))
    if unseen:
        raise DataError(
            f"{archive.path}: the test part has classes that training never saw: "
            f"{', '.join(map(str, unseen))}."
        )
    return classes, {name: parts[name] for name in ("train", "test")}, split


def _digits(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(str(i) for i in range(int(labels.max()) + 1))


def _idx_array(archive: Archive, name: str, axes: int) -> np.ndarray:
    """An idx file of unsigned bytes, perhaps compressed."""
    content = archive.read(name)
    if name.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise DataError(f"{name} in {archive.path} is damaged; get it again.") from None
    head = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:head], ">u4").astype(int))
    whole = len(shape) == axes and len(content) - head == int(np.prod(shape))
    if content[:4] != bytes((0, 0, 8, axes)) or not whole or 0 in shape:
        raise DataError(f"{name} in {archive.path} is no whole idx file of bytes; get it again.")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


# ------------------------------------------------------------------------------------- decoding


def check_memory(count: int, size: int) -> None:
    """Raises MemoryBudgetError where so many pictures uint8 (3, size, size) do not fit."""
    needed = count * 3 * size * size
    free = psutil.virtual_memory().available
    if needed > 0.9 * free:
        raise MemoryBudgetError(
            f"{count} pictures of {size} x {size} take {needed / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free; choose a smaller size or fewer pictures."
        )


def _decoded(
    parts: Mapping[str, Part], size: int, progress: Progress | None
) -> dict[str, PictureSet]:
    """Decodes all parts in threads; raises DataError naming what could not be read."""
    total = sum(len(part.names) for part in parts.values())
    failed: list[str] = []
    done = 0
    sets: dict[str, PictureSet] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split, part in parts.items():
            pictures = np.empty((len(part.names), 3, size, size), np.uint8)
            work = partial(_decode_chunk, part, pictures)
            for errors in pool.map(work, range(0, len(pictures), _CHUNK)):
                failed += errors
                done = min(done + _CHUNK, total)
                if progress is not None:
                    progress(done, total)
            labels = torch.from_numpy(part.labels)
            sets[split] = PictureSet(torch.from_numpy(pictures), labels, part.names)
    if failed:
        more = f" (and {len(failed) - 3} more)" if len(failed) > 3 else ""
        raise DataError(
            f"{len(failed)} of {total} pictures cannot be read; mend or remove them: "
            f"{' '.join(failed[:3])}{more}"
        )
    return sets


def _decode_chunk(part: Part, pictures: np.ndarray, start: int) -> list[str]:
    errors = []
    for i in range(start, min(start + _CHUNK, len(pictures))):
        try:
            pictures[i] = fitted(part.read(i), pictures.shape[-1]).transpose(2, 0, 1)
        except EightBitError as error:
            errors.append(str(error))
    return errors


def fitted(rgb: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture whose shorter side is brought to `size`.

    Args:
        rgb: uint8 (H, W, 3).
        size: S.

    Returns:
        uint8 (S, S, 3).
    """
    height, width = rgb.shape[:2]
    scale = size / min(height, width)
    if scale != 1:
        rgb = resize(rgb, max(size, round(height * scale)), max(size, round(width * scale)))
        height, width = rgb.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return rgb[top : top + size, left : left + size]
