"""Pictures with sentences that tell what is in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar, overload

import cv2
import numpy as np

from ..errors import DataError, EightBitError, UsageError
from .archive import Archive
from .atari_objects import ATARI_DATA
from .caption_layouts import Told, find_captions
from .download import resolve, source_facts
from .jpeg import decode_quickly
from .labelled import check_memory, fitted
from .pictures import SUFFIXES
from .scenes import SMALLEST_PICTURE, UNSEEN, SceneSplit, draw_scene, scene
from .splits import divided_by_group

SCENES: Mapping[SceneSplit, int] = {"train": 100_000, "validation": 500, "test": 1_000}
"""how many generated scenes each split counts"""
SCORED_SEED = 0
"""of the scenes for validation and test, which are the same in every run"""
FLICKR8K_900 = "flickr8k-900"
"""900 photographs that nobody has divided: the first 800 of their list are there to learn from and
the last 100 to test on; of the 800 the last 80 are the validation part"""
_FLICKR8K_900_PARTS = (("train", 720), ("validation", 80), ("test", 100))
_SPLITS = ("train", "validation", "test")
_SHARES = (("test", 0.1), ("validation", 0.1))


@dataclass(frozen=True)
class CaptionedPicture:
    """One picture and what is said of it.

    Attributes:
        name: unique in the split.
        source: RGB uint8 (S, S, 3), or a function without arguments that makes it.
        sentences: at least one; lower case words with single spaces between them, see
            `caption_layouts.plain`.
    """

    name: str
    source: np.ndarray | Callable[[], np.ndarray]
    sentences: tuple[str, ...]

    @property
    def picture(self) -> np.ndarray:
        """RGB uint8 (S, S, 3); a generated one is drawn at each call."""
        return self.source() if callable(self.source) else self.source


@dataclass(frozen=True)
class Captions:
    """A data set for captioning.

    Attributes:
        facts: JSON values: source, licence, split, counts of pictures and of sentences.
        splits: members of "train", "validation" and "test"; pictures that are not generated are
            kept in memory.
        fresh: number -> a training picture, for every number from 0 without end; those beyond the
            length of "train" are in no split. None where pictures are not generated.
    """

    facts: Mapping[str, Any]
    splits: Mapping[str, Sequence[CaptionedPicture]]
    fresh: Callable[[int], CaptionedPicture] | None = field(default=None)


def read_captions(data: str, seed: int, size: int) -> Captions:
    """Reads pictures and their sentences.

    Besides the names below, `data` may be a folder or an archive with pictures and one of:
    Flickr8k.token.txt (with Flickr_8k.trainImages.txt and the like, where they are), Karpathy's
    dataset.json, COCO's captions_*.json, or a captions.csv with the columns image, caption and,
    if wished, split. Where there is no validation or test part, a seeded tenth of the pictures
    is taken for it.

    Args:
        data: "scenes" (generated, see `scenes`), "flickr8k-900", "atari-scenes" and
            "atari-scenes-by-game" (generated, see `atari_scenes`), a folder or an archive.
        seed: of what is generated to learn from, or of the split.
        size: S, pixels; of a photograph the middle square is taken, frames of games are squeezed.

    Raises:
        DataError: files are missing or damaged, sentences tell of pictures that are not there,
            or there is nothing to learn from.
        MemoryBudgetError: the pictures do not fit the free memory.
        UnknownNameError: `data` is neither a path nor a known name.
        UsageError: `size` is too small.
    """
    if size < 1:
        raise UsageError(f"pictures cannot be {size} pixels wide; choose at least 1.")
    if data == "scenes":
        return _scenes(seed, size)
    if data in ATARI_DATA:
        from .atari_scenes import atari_captions

        return atari_captions(seed, size, data)
    path = resolve(data)
    with Archive.open(path) as archive:
        told = find_captions(archive)
        if data == FLICKR8K_900:
            parts, said = _flickr8k_900(told)
        else:
            parts, said = _divided(told, seed, archive)
        splits = _decoded(archive, parts, size)
    facts = {
        **source_facts(data, path),
        "split": said,
        "counts": {name: len(part) for name, part in splits.items()},
        "sentences": {
            name: sum(len(one.sentences) for one in part) for name, part in splits.items()
        },
    }
    return Captions(facts, splits)


def squeezed(picture: np.ndarray, size: int) -> np.ndarray:
    """A whole picture, RGB uint8 (H, W, 3), as uint8 (S, S, 3)."""
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))


def as_learnt(picture: np.ndarray, size: int, facts: Mapping[str, Any]) -> np.ndarray:
    """A picture made square as those were that a network learnt from.

    Args:
        picture: RGB uint8 (H, W, 3).
        size: S.
        facts: of the data that the network learnt from; where "fit" is "squeeze" the whole picture
            is taken, else its middle square.

    Returns:
        uint8 (S, S, 3).
    """
    return squeezed(picture, size) if facts.get("fit") == "squeeze" else fitted(picture, size)


# ----------------------------------------------------------------------------------- scenes

Member = TypeVar("Member")


class Made(Sequence[Member]):
    """A sequence whose members are made when they are asked for.

    Args:
        make: index in [0, count) -> member; a pure function.
        count: of members.
    """

    def __init__(self, make: Callable[[int], Member], count: int):
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> Made[Member]: ...
    def __getitem__(self, index: int | slice) -> Member | Made[Member]:
        places = range(self._count)[index]
        if isinstance(places, range):
            return Made(lambda i: self._make(places[i]), len(places))
        return self._make(places)


def _scenes(seed: int, size: int) -> Captions:
    if size < SMALLEST_PICTURE:
        raise UsageError(f"scenes need pictures of at least {SMALLEST_PICTURE} pixels, not {size}.")
    seeds = {"train": seed, "validation": SCORED_SEED, "test": SCORED_SEED}
    facts = {
        "source": "generated: two to four coloured shapes and one sentence by a rule",
        "licence": "MIT",
        "split": f"each test picture has a pair of colour and shape that training never has; "
        f"validation and test are drawn with seed {SCORED_SEED}, training with seed {seed}, "
        "without end",
        "unseen_pairs": [" ".join(pair) for pair in UNSEEN],
        "counts": dict(SCENES),
        "sentences": dict(SCENES),
    }
    splits: dict[str, Sequence[CaptionedPicture]] = {
        name: Made(partial(_scene, name, seeds[name], size), count)
        for name, count in SCENES.items()
    }
    return Captions(facts, splits, fresh=partial(_scene, "train", seed, size))


def _scene(split: SceneSplit, seed: int, size: int, number: int) -> CaptionedPicture:
    one = scene(split, seed, number)
    return CaptionedPicture(
        f"{split}-{number:06d}", partial(draw_scene, one, size), (one.sentence,)
    )


# ------------------------------------------------------------------------------------ files


def _flickr8k_900(told: Sequence[Told]) -> tuple[dict[str, list[Told]], str]:
    parts: dict[str, list[Told]] = {}
    start = 0
    for name, count in _FLICKR8K_900_PARTS:
        parts[name] = list(told[start : start + count])
        start += count
    if len(told) != start:
        raise DataError(
            f"{FLICKR8K_900} has {len(told)} pictures with sentences where {start} belong; get it "
            "again, or name its folder with --data to divide it otherwise."
        )
    said = "in the order of the list: 720 to learn from, 80 for validation, 100 for the test"
    return parts, said


def _divided(
    told: Sequence[Told], seed: int, archive: Archive
) -> tuple[dict[str, list[Told]], str]:
    """Members by split, and how it came about.

    Pictures without a split are left out where others to learn from have one.
    """
    parts = {name: [one for one in told if one.split == name] for name in _SPLITS}
    said = "as the data set divides it"
    if parts["validation"] and not parts["test"]:
        parts["test"], parts["validation"] = parts["validation"], []
        said = "its validation part is the test part"
    free = parts["train"] or [one for one in told if not one.split]
    missing = [(name, share) for name, share in _SHARES if not parts[name]]
    if len(free) <= len(missing):
        raise DataError(
            f"{archive.path} has {len(free)} pictures with sentences to learn from; add some."
        )
    if missing:
        places = divided_by_group([one.picture for one in free], missing, seed)
        for name in ("train", *(name for name, _ in missing)):
            parts[name] = [one for one, place in zip(free, places, strict=True) if place == name]
        drawn = " and another the ".join(name for name, _ in missing)
        drawn = f"a random tenth of the pictures to learn from is the {drawn} part (seed {seed})"
        said = drawn if len(missing) == len(_SHARES) else f"{said}; {drawn}"
    else:
        parts["train"] = free
    return parts, said


def _decoded(
    archive: Archive, parts: Mapping[str, Sequence[Told]], size: int
) -> dict[str, list[CaptionedPicture]]:
    """All pictures in memory; raises DataError naming what is missing or cannot be read."""
    files = _picture_files(archive)
    wanted = [one.picture for part in parts.values() for one in part]
    missing = [name for name in wanted if _found(files, name) is None]
    if missing:
        raise DataError(
            f"{archive.path} lacks {len(missing)} of the {len(wanted)} pictures that its sentences "
            f"tell of, first {missing[0]}; add them, or take their sentences out."
        )
    check_memory(len(wanted), size)
    failed: list[str] = []
    work = partial(_read, archive, files, size, failed)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        splits = {name: list(pool.map(work, part)) for name, part in parts.items()}
    if failed:
        raise DataError(
            f"{len(failed)} of {len(wanted)} pictures cannot be read; mend or remove them: "
            f"{failed[0]}"
        )
    return splits


def _picture_files(archive: Archive) -> dict[str, str]:
    """Files by their whole name and by the last part of it."""
    found: dict[str, str] = {}
    for name in archive.names:
        if PurePosixPath(name).suffix.lower() in SUFFIXES:
            found[name] = name
            found.setdefault(PurePosixPath(name).name, name)
    return found


def _found(files: Mapping[str, str], name: str) -> str | None:
    return files.get(name) or files.get(PurePosixPath(name).name)


def _read(
    archive: Archive, files: Mapping[str, str], size: int, failed: list[str], one: Told
) -> CaptionedPicture:
    name = _found(files, one.picture)
    assert name is not None
    try:
        picture = fitted(decode_quickly(archive.read(name), name), size)
    except EightBitError as error:
        failed.append(str(error))
        picture = np.zeros((size, size, 3), np.uint8)
    return CaptionedPicture(one.picture, np.ascontiguousarray(picture), one.sentences)
