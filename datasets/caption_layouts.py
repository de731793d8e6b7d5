"""How files say which sentences tell of which picture: Flickr8k, Karpathy, COCO, and a table."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..errors import DataError
from .archive import Archive
from .splits import split_called

_FLICKR_TOKENS = re.compile(r"Flickr\w*\.token\.txt|\w*results_20130124\.token")
_FLICKR_PART = re.compile(r"Flickr_?\w*\.(train|dev|val|test)Images\.txt")
_KARPATHY = re.compile(r"dataset(_\w+)?\.json")
_COCO = re.compile(r"captions_(train|val|test)\w*\.json")
_TABLE = "captions.csv"
_KARPATHY_SPLITS = {"restval": "train", "dev": "validation"}


@dataclass(frozen=True)
class Told:
    """Sentences of a picture before it is read.

    Attributes:
        picture: name of its file, perhaps without folders.
        sentences: see `plain`; at least one.
        split: "train", "validation" or "test"; "" where the data do not say.
    """

    picture: str
    sentences: tuple[str, ...]
    split: str


def plain(sentence: str) -> str:
    """Lower case words with single spaces between them.

    Marks between words are taken off; apostrophes and hyphens inside a word stay.
    """
    spaced = "".join(c if c.isalnum() or c in "'-" else " " for c in sentence.lower())
    return " ".join(word for word in (w.strip("'-") for w in spaced.split()) if word)


def find_captions(archive: Archive) -> list[Told]:
    """The pictures with sentences of a folder or archive, in the order of its files.

    Raises:
        DataError: no file holds sentences, or one that should is damaged.
    """
    readers: tuple[tuple[Callable[[str], Any], Callable[[Archive, list[str]], list[Told]]], ...] = (
        (_TABLE.__eq__, _read_tables),
        (_KARPATHY.fullmatch, _read_karpathy),
        (_COCO.fullmatch, _read_coco),
        (_FLICKR_TOKENS.fullmatch, _read_flickr),
    )
    for matches, read in readers:
        names = [name for name in archive.names if matches(PurePosixPath(name).name)]
        if names:
            told = read(archive, names)
            if not told:
                raise DataError(f"{names[0]} in {archive.path} holds no sentences.")
            return told
    raise DataError(
        f"{archive.path} holds no sentences; give it a captions.csv with the columns image and "
        "caption, Flickr8k.token.txt, Karpathy's dataset.json, or COCO's captions_*.json."
    )


def _gathered(rows: Iterable[tuple[str, str, str]]) -> list[Told]:
    """One entry a picture from (picture, sentence, split); sentences without a word are left."""
    sentences: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for picture, sentence, split in rows:
        words = plain(sentence)
        if words:
            sentences.setdefault(picture, []).append(words)
            splits.setdefault(picture, split)
    return [Told(name, tuple(said), splits[name]) for name, said in sentences.items()]


def _split(name: str, where: str) -> str:
    found = _KARPATHY_SPLITS.get(name.lower()) or split_called(name)
    if found is None:
        raise DataError(f"{where} names a split {name!r}; write train, validation or test.")
    return found


# ------------------------------------------------------------------------------------ tables


def _read_tables(archive: Archive, names: list[str]) -> list[Told]:
    return _gathered(row for name in names for row in _table_rows(archive, name))


def _table_rows(archive: Archive, name: str) -> Iterable[tuple[str, str, str]]:
    where = f"{name} in {archive.path}"
    table = csv.DictReader(io.StringIO(archive.text(name)))
    columns = table.fieldnames or ()
    if "image" not in columns or "caption" not in columns:
        raise DataError(f"{where} needs the columns image and caption in its first line.")
    try:
        for row in table:
            if not row["image"] or row["caption"] is None:
                raise DataError(f"line {table.line_num} of {where} names no image or no caption.")
            split = row.get("split") or ""
            yield row["image"], row["caption"], _split(split, where) if split else ""
    except csv.Error as error:
        raise DataError(f"{where} is damaged at line {table.line_num}: {error}.") from None


# --------------------------------------------------------------------------------------- JSON


def _loaded(archive: Archive, name: str) -> Any:
    try:
        return json.loads(archive.text(name))
    except json.JSONDecodeError as error:
        raise DataError(f"{name} in {archive.path} is no JSON ({error}); get it again.") from None


def _read_karpathy(archive: Archive, names: list[str]) -> list[Told]:
    def rows(name: str) -> Iterable[tuple[str, str, str]]:
        for image in _loaded(archive, name)["images"]:
            folder = image.get("filepath", "")
            picture = f"{folder}/{image['filename']}" if folder else image["filename"]
            split = _split(image["split"], name)
            yield from ((picture, one["raw"], split) for one in image["sentences"])

    return _told(archive, names, rows)


def _read_coco(archive: Archive, names: list[str]) -> list[Told]:
    def rows(name: str) -> Iterable[tuple[str, str, str]]:
        match = _COCO.fullmatch(PurePosixPath(name).name)
        assert match is not None
        content = _loaded(archive, name)
        files: Mapping[Any, str] = {one["id"]: one["file_name"] for one in content["images"]}
        split = _split(match[1], name)
        for one in content["annotations"]:
            yield files[one["image_id"]], one["caption"], split

    return _told(archive, names, rows)


def _told(
    archive: Archive,
    names: list[str],
    rows: Callable[[str], Iterable[tuple[str, str, str]]],
) -> list[Told]:
    found = []
    for name in names:
        try:
            found += list(rows(name))
        except (KeyError, TypeError, AttributeError):
            raise DataError(
                f"{name} in {archive.path} is not laid out as files of its name are; get it again."
            ) from None
    return _gathered(found)


# ---------------------------------------------------------------------------------- Flickr8k


def _read_flickr(archive: Archive, names: list[str]) -> list[Told]:
    splits = {}
    for name in archive.names:
        match = _FLICKR_PART.fullmatch(PurePosixPath(name).name)
        if match is not None:
            split = _split(match[1], name)
            splits.update(dict.fromkeys(archive.text(name).split(), split))
    rows = []
    for name in names:
        for number, line in enumerate(archive.text(name).splitlines(), 1):
            head, tab, sentence = line.partition("\t")
            picture, mark, _ = head.rpartition("#")
            if not line.strip():
                continue
            if not tab or not mark:
                raise DataError(
                    f"line {number} of {name} in {archive.path} is not 'picture#number', a tab "
                    "and a sentence."
                )
            rows.append((picture, sentence, splits.get(picture, "")))
    return _gathered(rows)
