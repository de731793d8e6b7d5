"""`eightbit run read-handwriting`: the text of strokes in files and folders."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ...datasets.output import form_of, write_whole
from ...datasets.stroke_files import read_stroke_text
from ...datasets.strokes import Writing, lines_of
from ...errors import EightBitError, UsageError
from ...tasks import RunJob, Trained
from .._scores import edits
from .data import ready
from .ink import list_ink, read_ink
from .options import ReadHandwritingOptions
from .reading import Reading, read_lines

_FORMS = {".json": "json", ".csv": "csv", ".txt": "text"}


@dataclass(frozen=True)
class ReadHandwritingRunOptions:
    """How strokes are read and what is written."""

    decode: Literal["as trained", "greedy", "beam"] = "as trained"
    """the best path, a prefix beam search, or what the run was made with"""
    beam: int = 0
    """readings kept by the beam search; 0 for as many as the run was made with"""
    language: float = -1.0
    """weight of the model of language; 0 for none, below 0 for the run's own"""
    format: Literal["auto", "json", "csv", "text"] = "auto"
    """form of the output file; auto goes by its ending"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        if self.beam < 0:
            raise UsageError(f"beam is {self.beam}; it must be 1 or more, or 0.")
        if self.language > 3:
            raise UsageError(f"language is {self.language}; it must not be above 3.")


@dataclass(frozen=True)
class Found:
    """What was read of one writing.

    Attributes:
        name: its file, with the sample's number where the file holds several.
        lines: what each of its lines says.
        written: what it is known to say; empty where nobody knows.
    """

    name: str
    lines: tuple[Reading, ...]
    written: str

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    @property
    def confidence(self) -> float:
        return min(line.confidence for line in self.lines)

    def row(self) -> dict[str, Any]:
        """As it is written to JSON and CSV."""
        row = {"file": self.name, "text": self.text, "confidence": round(self.confidence, 4)}
        if self.written:
            errors = sum(edits(self.written, " ".join(self.text.split())))
            row |= {"written": self.written, "cer": round(errors / len(self.written), 4)}
        return row


def run(trained: Trained, job: RunJob) -> None:
    """Reads every input; see `Task.run`.

    Raises:
        TaskError: some of the inputs failed; the others are read.
    """
    if not job.inputs:
        raise UsageError("name files or folders of strokes, or - for standard input.")
    layout = form_of(job.output, str(job.options.format), _FORMS)
    options = _options(trained.options, job.options)
    found: list[Found] = []
    try:
        job.each(_items(job.inputs), partial(_work, trained, options, job, found))
    finally:
        if job.output is not None and found:
            write_whole(job.output, _written(found, layout))
            job.say(f"{len(found)} readings in {job.output}")


def read_writings_of(
    trained: Trained, writings: Sequence[Writing], options: ReadHandwritingOptions | None = None
) -> list[tuple[Reading, ...]]:
    """What writings of any scale say, line by line.

    Args:
        trained: a run of this task.
        writings: each may have several lines.
        options: how to decode; as in training where None.
    """
    options = options or trained.options
    parts = [[replace(one, points=p) for p in lines_of(one.points)] for one in writings]
    lines = ready([line for part in parts for line in part], options)
    read = iter(read_lines(trained.model, lines, trained.facts["alphabet"], options))
    return [tuple(next(read) for _ in part) for part in parts]


def _options(
    own: ReadHandwritingOptions, said: ReadHandwritingRunOptions
) -> ReadHandwritingOptions:
    return replace(
        own,
        decode=own.decode if said.decode == "as trained" else said.decode,
        beam=said.beam or own.beam,
        language=own.language if said.language < 0 else said.language,
    )


Item = tuple[str, Path | EightBitError]


def _items(inputs: Sequence[str]) -> Iterator[Item]:
    """Names, and the file of each or the error that came instead."""
    for given in inputs:
        try:
            if given == "-":
                yield "standard input", Path("-")
            else:
                yield from ((str(path), path) for path in list_ink(Path(given)))
        except EightBitError as error:
            yield given, error


def _work(
    trained: Trained,
    options: ReadHandwritingOptions,
    job: RunJob,
    found: list[Found],
    item: Item,
) -> None:
    name, path = item
    if isinstance(path, EightBitError):
        raise path
    if path == Path("-"):
        writings = read_stroke_text(sys.stdin.read(), name, need_text=False)
    else:
        writings = read_ink(path)
    readings = read_writings_of(trained, writings, options)
    for number, (writing, lines) in enumerate(zip(writings, readings, strict=True), 1):
        label = f"{name}, sample {number}" if len(writings) > 1 else name
        one = Found(label, lines, writing.text)
        found.append(one)
        job.say(f"{label}: {one.text or '(nothing)'}  ({one.confidence:.0%})")


def _written(found: Sequence[Found], layout: str) -> str:
    rows = [one.row() for one in found]
    if layout == "text":
        return "".join(one.text + "\n" for one in found)
    if layout == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    stream = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
