"""How folders of recordings are laid out: which sounds there are, and who says what in them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from .archive import Archive, is_archive
from .lexicons import DIGITS, Lexicon, read_lexicon
from .sounds import SUFFIXES
from .splits import common_top, split_called
from .texts import decode_text

TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
RAW_SUFFIX = ".raw"
"""AN4's own files: 16 bit, the high byte first, without a header"""
RAW_RATE = 16_000

_COLUMNS = {
    "file": ("file", "path", "audio_filepath"),
    "text": ("text", "sentence"),
    "speaker": ("speaker", "client_id"),
    "split": ("split",),
}
"""names of columns; the second are those of Common Voice, the third NeMo's"""

_TRANSCRIPTION = re.compile(r"(.*)\((\S+)\)\s*$")
_AN4_SPEAKER = re.compile(r"[^-]+-(.+)-[^-]+$")
_DIGIT = re.compile(r"(\d)_(.+)_(\d+)\.\w+$")
_DIGIT_WORDS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
_DEVELOPMENT = ("dev", "development")


@dataclass(frozen=True)
class Line:
    """An utterance before decoding.

    Attributes:
        name: what it is called.
        file: where its sound is, for `SpeechFiles.source`.
        text: words with single spaces between them; not empty.
        speaker: empty where unknown.
        split: "train", "validation", "test", or empty where nobody says.
        where: the line that tells it, for messages; empty where the file itself does.
    """

    name: str
    file: str
    text: str
    speaker: str = ""
    split: str = ""
    where: str = ""


@dataclass(frozen=True)
class Layout:
    """What a folder of recordings holds.

    Attributes:
        lines: utterances.
        lexicon: None where there is none.
        split: what is said of the division that the lines have.
    """

    lines: list[Line]
    lexicon: Lexicon | None
    split: str = "as the files say"


class SpeechFiles:
    """Files of a folder, an archive, a folder with archives in it, or beside a table.

    Attributes:
        path: what was opened.
        names: of the files, with "/" between folders, in order.

    Args:
        path: of a folder, an archive, or a table of recordings.
        opened: closes what is opened here.
    """

    def __init__(self, path: Path, opened: ExitStack):
        self.path = path
        self._folder = path if path.is_dir() else path.parent
        self._members: dict[str, tuple[Archive, str]] = {}
        if path.is_file() and not is_archive(path):  # a table; what it names may lie anywhere
            self.names = tuple(sorted(one.name for one in path.parent.iterdir() if one.is_file()))
            return
        whole = opened.enter_context(Archive.open(path))
        for name in whole.names:
            self._members[name] = (whole, name)
            if (path / name).is_file() and is_archive(Path(name)):
                inner = opened.enter_context(Archive.open(path / name))
                stem = name.partition(".")[0]
                self._members |= {f"{stem}/{one}": (inner, one) for one in inner.names}
        self.names = tuple(sorted(self._members))

    def text(self, name: str) -> str:
        """The content of a UTF-8 file with "\\n" as line ends."""
        source = self.source(name)
        try:
            content = source if isinstance(source, bytes) else source.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{name} in {self.path} cannot be read: {reason}.") from None
        return decode_text(content, f"{name} in {self.path}")

    def source(self, name: str) -> Path | bytes:
        """A file's path, or its content where it is in an archive.

        Raises:
            DataError: there is no such file.
        """
        if not is_archive(self.path) or self.path.is_dir():
            path = self._folder / name
            if path.is_file():
                return path
        if name not in self._members:
            raise DataError(f"there is no {name} in {self._folder}.")
        archive, inner = self._members[name]
        return archive.read(inner)


def read_layout(files: SpeechFiles) -> Layout:
    """Finds out how the files are laid out and reads who says what.

    Raises:
        DataError: they are in no known layout, or a line is wrong, which is named.
    """
    if files.path.is_file() and not is_archive(files.path):
        return _own_table(files, files.path.name)
    transcriptions = [name for name in files.names if name.endswith(".transcription")]
    if transcriptions:
        return _transcribed(files, transcriptions)
    tables = [
        name
        for name in files.names
        if PurePosixPath(name).stem == "manifest" and name.lower().endswith(TABLE_SUFFIXES)
    ]
    if len(tables) > 1:
        raise DataError(f"{files.path} holds {' and '.join(tables)}; keep one of them.")
    if tables:
        return _own_table(files, tables[0])
    sounds = [name for name in files.names if name.lower().endswith(SUFFIXES)]
    if sounds and all(_DIGIT.match(PurePosixPath(name).name) for name in sounds):
        return _digits(sounds)
    return _beside_texts(files, sounds)


# ----------------------------------------------------------------------- known data sets


def _transcribed(files: SpeechFiles, transcriptions: list[str]) -> Layout:
    """AN4 and what else is laid out for CMU Sphinx: "<s> TEXT </s> (utterance)" a line."""
    sounds = {
        PurePosixPath(name).stem: name
        for name in files.names
        if name.lower().endswith((*SUFFIXES, RAW_SUFFIX))
    }
    lines = []
    for name in transcriptions:
        split = _split(PurePosixPath(name).stem.rpartition("_")[2]) or "train"
        for number, line in enumerate(files.text(name).splitlines(), start=1):
            if not line.strip():
                continue
            where = f"line {number} of {PurePosixPath(name).name}"
            found = _TRANSCRIPTION.match(line)
            if not found:
                raise DataError(f"{where} does not end in a name like (an251-fash-b).")
            words = [word for word in found[1].split() if word not in ("<s>", "</s>")]
            if found[2] not in sounds:
                raise DataError(f"{files.path} has no sound of {found[2]} ({where}).")
            speaker = _AN4_SPEAKER.match(found[2])
            who = speaker[1] if speaker else ""
            text = _words(" ".join(words), where)
            lines.append(Line(found[2], sounds[found[2]], text, who, split, where))
    told = {line.split for line in lines}
    split = f"official {' and '.join(sorted(told - {'train'}))} part" if told > {"train"} else ""
    return Layout(lines, _lexicon(files), split)


def _digits(sounds: list[str]) -> Layout:
    """The Free Spoken Digit Dataset: digit_speaker_index, of which 0 to 4 are its test part."""
    lines = []
    for name in sounds:
        found = _DIGIT.match(PurePosixPath(name).name)
        assert found is not None
        digit, speaker, index = int(found[1]), found[2], int(found[3])
        split = "test" if index < 5 else "validation" if index < 10 else "train"
        stem = PurePosixPath(name).stem
        lines.append(Line(stem, name, _DIGIT_WORDS[digit], speaker, split))
    split = "official: index 0 to 4 is test; of the training part 5 to 9 are validation"
    return Layout(lines, DIGITS, split)


def _lexicon(files: SpeechFiles) -> Lexicon | None:
    """Of lexicon.txt or a .dic, compared with the list of phones if there is one."""
    found = [
        name
        for name in files.names
        if PurePosixPath(name).name == "lexicon.txt" or name.lower().endswith(".dic")
    ]
    if not found:
        return None
    if len(found) > 1:
        raise DataError(f"{files.path} holds {' and '.join(found)}; keep one lexicon.")
    lexicon = read_lexicon(files.text(found[0]), PurePosixPath(found[0]).name)
    for name in files.names:
        if name.endswith(".phone"):
            strange = sorted(set(lexicon.phones) - set(files.text(name).split()))
            if strange:
                raise DataError(
                    f"{lexicon.name} uses the phones {' '.join(strange)}, which "
                    f"{PurePosixPath(name).name} does not list."
                )
    return lexicon


# ---------------------------------------------------------------------------- one's own


def _beside_texts(files: SpeechFiles, sounds: list[str]) -> Layout:
    """Sounds with a .txt beside each; folders called train, test or the like are its splits."""
    known = set(files.names)
    told = {name: str(PurePosixPath(name).with_suffix(".txt")) for name in sounds}
    lacking = [name for name, text in told.items() if text not in known]
    if not sounds or len(lacking) == len(sounds):
        raise DataError(
            f"{files.path} tells no transcripts; put a manifest.csv with the columns file and text "
            "into it, or a .txt beside every sound."
        )
    if lacking:
        raise DataError(f"{lacking[0]} in {files.path} has no {told[lacking[0]]} beside it.")
    top = len(common_top(sounds))
    lines = [
        Line(
            name=name,
            file=name,
            text=_words(files.text(text), text),
            split=_split(name[top:].partition("/")[0]),
        )
        for name, text in told.items()
    ]
    return Layout(lines, _lexicon(files))


def _own_table(files: SpeechFiles, table: str) -> Layout:
    """A table with a line for every recording; its paths are seen from where it lies."""
    suffix = PurePosixPath(table).suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(
            f"{files.path} is no table of recordings; give a folder, an archive, or one of "
            f"{', '.join(TABLE_SUFFIXES)}."
        )
    text = files.text(table)
    name = PurePosixPath(table).name
    rows = _csv_rows(text, name, suffix) if suffix in (".csv", ".tsv") else _json_rows(text, name)
    folder = PurePosixPath(table).parent
    lines = []
    for where, row in rows:
        value = {column: _cell(row, column, where) for column in _COLUMNS}
        if not value["file"]:
            raise DataError(f"{where} names no file.")
        split = _split(value["split"])
        if value["split"] and not split:
            raise DataError(
                f"{where} has the split {value['split']!r}; write train, validation or test."
            )
        file = str(folder / value["file"].replace("\\", "/"))
        spoken = _words(value["text"], where)
        lines.append(Line(value["file"], file, spoken, value["speaker"], split, where))
    if not lines:
        raise DataError(f"{name} lists no recordings.")
    return Layout(lines, _lexicon(files))


def _csv_rows(text: str, name: str, suffix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    head = text.partition("\n")[0]
    if suffix == ".tsv":
        reader = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        delimiter = ";" if ";" in head and "," not in head else ","
        reader = csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter)
    columns = [column.strip().lower() for column in reader.fieldnames or ()]
    for wanted in ("file", "text"):
        if not set(_COLUMNS[wanted]) & set(columns):
            raise DataError(
                f"{name} has no column {wanted}; its first line names the columns: file, text and, "
                "where known, speaker and split."
            )
    reader.fieldnames = columns
    for row in reader:
        yield f"line {reader.line_num} of {name}", row


def _json_rows(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A list of objects, or an object a line where `name` ends in .jsonl."""
    if name.lower().endswith(".jsonl"):
        parts = [
            (f"line {number} of {name}", line)
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        ]
    else:
        parts = [(name, text)]
    for where, part in parts:
        try:
            value = json.loads(part)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is no JSON: {error}.") from None
        several = value if isinstance(value, list) and where == name else [value]
        for number, row in enumerate(several, start=1):
            at = where if several == [value] else f"entry {number} of {name}"
            if not isinstance(row, dict):
                raise DataError(f"{at} is no object with file and text.")
            yield at, row


def _cell(row: dict[str, Any], column: str, where: str) -> str:
    """The text of a column under any of its names; empty where there is none."""
    value = next((row[name] for name in _COLUMNS[column] if row.get(name) is not None), "")
    if not isinstance(value, str):
        raise DataError(f"{where} has {value!r} as {column}; write it as text.")
    return value.strip()


def _words(text: str, where: str) -> str:
    words = " ".join(text.split())
    if not words:
        raise DataError(f"{where} holds no text; write what is said, or leave the recording out.")
    return words


def _split(name: str) -> str:
    return "validation" if name.lower() in _DEVELOPMENT else split_called(name) or ""
