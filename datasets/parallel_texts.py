"""The same sentences in two languages: Multi30k, or any two plain files whose lines agree."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from .archive import Archive
from .download import resolve, source_facts
from .splits import divided_by_group, split_called

_DEVELOPMENT = ("dev", "development")
_SHARES = (("test", 0.05), ("validation", 0.05))


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations.

    Attributes:
        source: sentences.
        target: their translations, as many.
    """

    source: Sequence[str]
    target: Sequence[str]

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class ParallelTexts:
    """Translated sentences to learn from, to choose by, and to report.

    Attributes:
        train, validation, test: none of them is empty.
        facts: JSON values: source, licence, split, languages, counts.
    """

    train: Pairs
    validation: Pairs
    test: Pairs
    facts: Mapping[str, Any]


def read_parallel(
    data: str, source: str, target: str, *, test_set: str = "test", seed: int = 0
) -> ParallelTexts:
    """Reads files called `<split>.<language>`, one sentence a line, also with .gz behind.

    Splits are train, val (valid, validation, dev) and `test_set`. Where validation or test are
    missing, a twentieth of the training sentences is held out for each; equal sentences stay
    together. Pairs with an empty side are left out.

    Args:
        data: a registered name, a folder or an archive; a test set can follow behind a colon,
            like "multi30k:test_2017_flickr".
        source: the language to translate from, as the files' names end.
        target: the language to translate into.
        test_set: the file name, without language, of the sentences to report on; "test" stands
            for one that begins with it where there is none of just this name.
        seed: of what is held out.

    Raises:
        DataError: a file is missing, empty, not UTF-8, or lines do not agree.
        UnknownNameError: `data` is neither a path nor a known name.
    """
    data, test_set = _with_test_set(data, test_set)
    path = resolve(data)
    if path.is_file() and path.suffix == f".{source}":
        path = path.parent
    if source == target:
        raise DataError(f"source and target are both {source!r}; name two languages.")
    with Archive.open(path) as archive:
        files = _files(archive)
        train = _read(archive, files, _name(archive, files, "train", (source, target)))
        parts: dict[str, Pairs] = {}
        validation = _validation_name(files)
        if validation is not None and _has(files, validation, (source, target)):
            parts["validation"] = _read(archive, files, (validation, source, target))
        tested = _test_name(archive, files, test_set, (source, target))
        if tested is not None:
            parts["test"] = _read(archive, files, (tested, source, target))
    split = f"as the files divide it; test is {tested}"
    missing = [name for name in ("test", "validation") if name not in parts]
    if missing:
        train, held = _held_out(train, missing, seed, str(path))
        parts.update(held)
        split = f"5 % of the training sentences are the {' and the '.join(missing)} part"
        split += f" (seed {seed})"
    facts = {
        **source_facts(data, path),
        "split": split,
        "languages": [source, target],
        "test_set": tested or "test",
        "counts": {"train": len(train), **{name: len(part) for name, part in parts.items()}},
    }
    return ParallelTexts(train, parts["validation"], parts["test"], facts)


def read_lines(raw: bytes, name: str) -> list[str]:
    """The lines of a UTF-8 file, unpacked where its name ends in .gz, stripped of outer spaces.

    Raises:
        DataError: it is damaged, not UTF-8, or has no line with anything on it.
    """
    if name.endswith(".gz"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{name} is damaged ({error}).") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{name} is not UTF-8 text (line {line}); convert it.") from None
    lines = text.replace("\r\n", "\n").split("\n")  # other line ends may stand inside a sentence
    if lines[-1] == "":
        lines.pop()
    if not any(line.strip() for line in lines):
        raise DataError(f"{name} is empty; there is no sentence in it.")
    return [line.strip() for line in lines]


def _with_test_set(data: str, test_set: str) -> tuple[str, str]:
    base, colon, named = data.rpartition(":")
    if colon and base and not Path(data).exists() and "/" not in named and "\\" not in named:
        return base, named
    return data, test_set


def _files(archive: Archive) -> dict[tuple[str, str], str]:
    """Name in the archive by (name without language, language)."""
    found: dict[tuple[str, str], str] = {}
    for name in archive.names:
        plain = PurePosixPath(name).name.removesuffix(".gz")
        stem, dot, language = plain.rpartition(".")
        if dot and stem:
            found.setdefault((stem, language), name)
    return found


def _has(files: Mapping[tuple[str, str], str], stem: str, languages: tuple[str, str]) -> bool:
    return all((stem, language) in files for language in languages)


def _name(
    archive: Archive,
    files: Mapping[tuple[str, str], str],
    stem: str,
    languages: tuple[str, str],
) -> tuple[str, str, str]:
    for language in languages:
        if (stem, language) not in files:
            there = sorted({other for name, other in files if name == stem})
            hint = f"there are {stem} files of: {', '.join(there)}" if there else "there is none"
            raise DataError(
                f"{archive.path} holds no {stem}.{language} (or {stem}.{language}.gz); {hint}."
            )
    return (stem, *languages)


def _validation_name(files: Mapping[tuple[str, str], str]) -> str | None:
    stems = sorted({stem for stem, _ in files})
    for stem in stems:
        if split_called(stem) == "validation" or stem.lower() in _DEVELOPMENT:
            return stem
    return None


def _test_name(
    archive: Archive,
    files: Mapping[tuple[str, str], str],
    test_set: str,
    languages: tuple[str, str],
) -> str | None:
    if _has(files, test_set, languages):
        return test_set
    begun = sorted({stem for stem, _ in files if stem.startswith("test")})
    begun = [stem for stem in begun if _has(files, stem, languages)]
    if test_set == "test":
        return begun[0] if begun else None
    there = f"for these languages there are: {', '.join(begun)}" if begun else "there is none"
    wanted = ", ".join(f"{test_set}.{language}" for language in languages)
    raise DataError(f"{archive.path} holds no {wanted}; {there}.")


def _read(
    archive: Archive, files: Mapping[tuple[str, str], str], wanted: tuple[str, str, str]
) -> Pairs:
    stem, source, target = wanted
    names = [files[stem, source], files[stem, target]]
    first, second = (read_lines(archive.read(name), name) for name in names)
    if len(first) != len(second):
        raise DataError(
            f"{names[0]} has {len(first):,} lines and {names[1]} has {len(second):,}; line n of "
            "one must be the translation of line n of the other."
        )
    kept = [(a, b) for a, b in zip(first, second, strict=True) if a and b]
    if not kept:
        raise DataError(f"{names[0]} and {names[1]} have no line where both say something.")
    return Pairs([a for a, _ in kept], [b for _, b in kept])


def _held_out(
    train: Pairs, missing: Sequence[str], seed: int, where: str
) -> tuple[Pairs, dict[str, Pairs]]:
    if len(set(train.source)) <= len(missing):
        raise DataError(
            f"{where} has {len(train)} different sentences; more are needed to hold some out for "
            f"{' and '.join(missing)}."
        )
    shares = [(name, share) for name, share in _SHARES if name in missing]
    places = divided_by_group(train.source, shares, seed)
    parts = {
        name: Pairs(
            [s for s, place in zip(train.source, places, strict=True) if place == name],
            [t for t, place in zip(train.target, places, strict=True) if place == name],
        )
        for name in ("train", *missing)
    }
    return parts.pop("train"), parts
