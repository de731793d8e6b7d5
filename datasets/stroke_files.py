"""Files of pen strokes: the packed arrays of a data set, and JSON that anybody can write.

A sample in JSON is an object with "strokes", a list of strokes of [x, y] points (y down, any
unit), and, where they are known, "text", "writer" and "quality":

    {"text": "to be", "writer": "anna", "strokes": [[[0, 0], [3, 8]], [[5, 1]]]}

A .jsonl file holds one such object a line, a .json file one object or a list of them.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .output import write_whole
from .strokes import Writing, from_strokes, to_strokes

SUFFIXES = (".json", ".jsonl")
_FEWEST_STROKE_POINTS = 2


def read_packed(folder: Path, name: str) -> list[Writing]:
    """Reads `name`.npz and `name`.jsonl.gz; an empty list where there is no such array.

    Raises:
        DataError: they are damaged or do not belong together.
    """
    path = folder / f"{name}.npz"
    if not path.is_file():
        return []
    try:
        with np.load(path) as packed:
            delta, lifts, offsets = (packed[k] for k in ("delta", "end_of_stroke", "offsets"))
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as stream:
            table = [json.loads(line) for line in stream]
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path} or its .jsonl.gz cannot be read: {error}.") from None
    if len(offsets) != len(table) + 1 or offsets[-1] != len(delta) or len(lifts) != len(delta):
        raise DataError(
            f"{path} holds {len(offsets) - 1} samples and {name}.jsonl.gz {len(table)}; they do "
            "not belong together: fetch the data set again."
        )
    found = []
    for row, start, end in zip(table, offsets[:-1], offsets[1:], strict=True):
        points = np.empty((end - start, 3), np.float32)
        points[:, :2] = np.cumsum(delta[start:end], axis=0, dtype=np.int64)
        points[:, 2] = lifts[start:end]
        points[-1, 2] = 1
        found.append(Writing(points, _clean(row["text"]), row["writer"], row["quality"]))
    return found


def read_stroke_path(path: Path, need_text: bool = True) -> list[Writing]:
    """Reads a file of JSON strokes, or all of a folder in order of their names.

    Raises:
        DataError: a file is missing, empty or damaged, or a sample is not as it must be; the
            sentence names file and sample.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise DataError(f"{path} holds no {' or '.join(SUFFIXES)} files of strokes.")
        return [one for file in files for one in read_stroke_file(file, need_text)]
    return read_stroke_file(path, need_text)


def read_stroke_file(path: Path, need_text: bool = True) -> list[Writing]:
    """Reads one .json or .jsonl file; see `read_stroke_path`."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; strokes are read from JSON.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    return read_stroke_text(content, str(path), need_text)


def read_stroke_text(content: str, name: str, need_text: bool = True) -> list[Writing]:
    """The writings of JSON, or of JSON lines where `name` ends in .jsonl.

    Raises:
        DataError: as `read_stroke_path`; `name` is what the sentence calls it.
    """
    if not content.strip():
        raise DataError(f"{name} is empty.")
    samples = _parsed(content, name)
    return [_writing(one, f"{name}, sample {i + 1}", need_text) for i, one in enumerate(samples)]


def to_json(writing: Writing, digits: int = 4) -> dict[str, Any]:
    """A writing as the object that `read_stroke_file` takes, coordinates rounded."""
    strokes = [np.round(s.astype(float), digits).tolist() for s in to_strokes(writing.points)]
    return {"text": writing.text, "writer": writing.writer, "strokes": strokes}


def write_stroke_file(path: Path, writings: Sequence[Writing]) -> None:
    """Writes one object a line to a .jsonl file, else a list."""
    rows = [json.dumps(to_json(one), ensure_ascii=False) for one in writings]
    if path.suffix.lower() == ".jsonl":
        content = "".join(row + "\n" for row in rows)
    else:
        content = "[\n" + ",\n".join(rows) + "\n]\n"
    write_whole(path, content)


def writing_of(strokes: Any, where: str, text: str = "", writer: str = "") -> Writing:
    """A writing of strokes that come from outside, tested.

    Args:
        strokes: a list of strokes of points [x, y]; further numbers of a point, like time and
            pressure, are passed over.
        where: file and sample, which an error names.

    Raises:
        DataError: no strokes, not points, not finite, a single point, points in one place.
    """
    if not isinstance(strokes, list) or not strokes or not all(strokes):
        raise DataError(f"{where}: it needs strokes, a list of non-empty lists of [x, y] points.")
    try:
        arrays = [np.array([point[:2] for point in stroke], np.float64) for stroke in strokes]
    except (TypeError, ValueError, KeyError, IndexError):
        arrays = [np.zeros(0)]
    if any(stroke.ndim != 2 or stroke.shape[1] != 2 for stroke in arrays):
        raise DataError(f"{where}: every point must be two numbers, [x, y].")
    every = np.concatenate(arrays)
    if not np.isfinite(every).all() or np.abs(every).max() > 1e12:
        raise DataError(f"{where}: a coordinate is not a number (NaN or infinite); mend the file.")
    if len(every) < _FEWEST_STROKE_POINTS:
        raise DataError(f"{where}: it has a single point; writing has more.")
    if (np.ptp(every, axis=0) == 0).all():
        raise DataError(f"{where}: all of its points lie in one place.")
    centred = [stroke - every[0] for stroke in arrays]  # float32 keeps small writing far away
    return Writing(from_strokes(centred), _clean(text), writer)


def _parsed(content: str, name: str) -> list[Any]:
    lines = content.splitlines() if name.lower().endswith(".jsonl") else [content]
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            place = f", line {number}" if len(lines) > 1 else ""
            raise DataError(f"{name}{place} is not JSON: {error}.") from None
    if len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    if not found:
        raise DataError(f"{name} holds no samples.")
    return found


def _writing(sample: Any, where: str, need_text: bool) -> Writing:
    if not isinstance(sample, dict):
        raise DataError(f'{where}: it must be an object like {{"text": ..., "strokes": ...}}.')
    text, writer = sample.get("text") or "", sample.get("writer") or ""
    if not isinstance(text, str) or not isinstance(writer, str):
        raise DataError(f"{where}: text and writer must be strings.")
    if need_text and not _clean(text):
        raise DataError(f"{where}: its text is empty; training needs to know what was written.")
    found = writing_of(sample.get("strokes"), where, text, writer)
    quality = sample.get("quality")
    return Writing(found.points, found.text, writer, quality if isinstance(quality, str) else "?")


def _clean(text: str) -> str:
    """Composed letters, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())
