"""`eightbit run handwriting`: a text as SVG, pixels, film or pen coordinates."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ...datasets.output import write_whole
from ...datasets.pictures import write_picture
from ...datasets.stroke_files import read_stroke_file, write_stroke_file
from ...datasets.strokes import Writing
from ...errors import DataError, EightBitError, UsageError
from ...tasks import RunJob, Trained
from .drawing import Ink, check_colour, picture, svg, write_film
from .layout import Layout, broken, place
from .model import WritingNetwork
from .report import attention_figure
from .sampling import Request, Written, prime_from, write
from .styles import style_writing
from .text import check_characters

SUFFIXES = (".svg", ".png", ".mp4", ".json", ".jsonl")
DEFAULT = "handwriting.svg"
_PACE = 60.0
"""points a second of an animation at speed 1"""
_SCRIBBLE = " " * 30
"""as long a text as a prediction network's line is, by default"""
_SAID = 5
"""unfinished lines that are named"""


@dataclass(frozen=True)
class HandwritingRunOptions:
    """How a text is written."""

    bias: float = 1.0
    """0 writes as varied as people do, 1 and more neater; 5 is the most"""
    style: int = 0
    """number of a training writer's style, from 1; 0 for none"""
    prime: str = ""
    """JSON file with strokes and text of a writer whose style is taken over"""
    seed: int = 0
    """of all that is drawn at random"""
    columns: int = 42
    """most characters of a line; longer texts are broken at spaces"""
    size: float = 16.0
    """pixels that small letters are high"""
    line_height: float = 4.5
    """from line to line, in heights of small letters"""
    margin: float = 2.0
    """around the page, in heights of small letters"""
    page_width: float = 0.0
    """of the written part, in heights of small letters; 0 for as wide as the longest line"""
    jitter: float = 0.3
    """how unevenly lines begin, stand and lean: 0 not at all, 1 much"""
    colour: str = "#1f2a5a"
    """of the ink, as #rrggbb"""
    width: float = 0.14
    """of the pen, in heights of small letters"""
    paper: str = "#ffffff"
    """colour of the paper as #rrggbb, or none"""
    animate: bool = False
    """an SVG that writes itself"""
    speed: float = 1.0
    """of animations; 1 is about as fast as people write"""
    window: bool = False
    """also write NAME.window.png: which character was looked at when"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        for name, low, high in (
            ("bias", 0.0, 5.0),
            ("size", 2.0, 400.0),
            ("line_height", 0.5, 50.0),
            ("margin", 0.0, 100.0),
            ("page_width", 0.0, 2000.0),
            ("jitter", 0.0, 1.0),
            ("width", 0.01, 2.0),
            ("speed", 0.05, 50.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"{name} is {getattr(self, name)}; it must lie between {low:g} and {high:g}."
                )
        if self.columns < 1:
            raise UsageError(f"columns is {self.columns}; it must be 1 or more.")
        if self.style < 0:
            raise UsageError(f"style is {self.style}; styles are numbered from 1, 0 is none.")
        if self.style and self.prime:
            raise UsageError("give a --style or a --prime, not both.")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}; it must not be below 0.")
        check_colour(self.colour)
        check_colour(self.paper, may_be_none=True)


def write_lines(
    trained: Trained,
    texts: Sequence[str],
    bias: float = 1.0,
    prime: Writing | Sequence[Writing] | None = None,
    style: int | None = None,
    seed: int = 0,
) -> list[Writing]:
    """Writes lines of text, many at once.

    Args:
        trained: a run of this task.
        texts: one line each, of any length; long ones are not broken.
        bias: towards likely points, 0 to 5.
        prime: a writing with its text whose style is taken over, at any scale, or one for each
            text.
        style: number of a training writer's style, in place of `prime`.
        seed: with a text's place in the list it fixes its line.

    Returns:
        writings at core height 1, y down, the baseline at 0, without the prime.

    Raises:
        UsageError: an empty text, a character that was not learnt, no such style, or not as many
            primes as texts.
    """
    primes: list[Writing | None] = [None] * len(texts)
    if style is not None:
        primes = [style_writing(trained.facts, style)] * len(texts)
    elif isinstance(prime, Writing):
        primes = [prime_from(prime, trained.facts)] * len(texts)
    elif prime is not None:
        if len(prime) != len(texts):
            raise UsageError(f"{len(prime)} primes do not suit {len(texts)} texts.")
        primes = [prime_from(one, trained.facts) for one in prime]
    check_characters([*texts, *(one.text for one in primes if one)], trained.facts)
    requests = [Request(text, one) for text, one in zip(texts, primes, strict=True)]
    network = cast(WritingNetwork, trained.model)
    return [one.writing for one in write(network, trained.facts, requests, bias, seed)]


def run(trained: Trained, job: RunJob) -> None:
    """Writes each input as a page.

    An input is a text, a text file, or "-" for standard input. The output ends in .svg, .png,
    .mp4 (the page as it is written), .json or .jsonl (pen coordinates); of several inputs it is a
    folder for page_1.svg and so on. A prediction network takes no text; it scribbles one line.

    Raises:
        UsageError: nothing to write, a character that was not learnt, another ending.
        DataError: a file cannot be read.
        TaskError: some of several inputs failed; the others are written.
    """
    network = cast(WritingNetwork, trained.model)
    texts = list(job.inputs)
    if network.reads_text and not texts:
        raise UsageError('what shall be written? Give a "text", a text file, or - to read one.')
    if not network.reads_text:
        if texts:
            raise UsageError("this network scribbles and reads no text; leave the text out.")
        texts = [""]
    output = Path(job.output) if job.output is not None else None
    if len(texts) > 1:
        folder = output or Path("handwriting")
        if folder.suffix.lower() in SUFFIXES:
            raise UsageError(
                f"{folder} is one file and there are {len(texts)} inputs; name a folder."
            )
        targets = [folder / f"page_{number}.svg" for number in range(1, len(texts) + 1)]
    else:
        targets = [output or Path(DEFAULT)]
    for target in targets:
        if target.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{target} must end in one of {', '.join(SUFFIXES)}.")
    prime = _prime(trained, job.options)
    job.each(
        zip(texts, targets, strict=True),
        lambda item: _write_page(trained, job, item[0], item[1], prime),
    )


def _prime(trained: Trained, options: HandwritingRunOptions) -> Writing | None:
    if options.style:
        return style_writing(trained.facts, options.style)
    if not options.prime:
        return None
    path = Path(options.prime)
    found = read_stroke_file(path)
    longest = max(found, key=lambda one: len(one.text))
    try:
        check_characters([longest.text], trained.facts)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return prime_from(longest, trained.facts)


def _text_of(given: str) -> str:
    """What an input says: a file's content, standard input, or itself."""
    if given == "-":
        content = sys.stdin.buffer.read()
        name = "standard input"
    else:
        looks_like_file = re.fullmatch(r"\S+\.(txt|md|text)", given)
        path = Path(given)
        try:
            there = path.is_file()
        except OSError:  # a text may be longer than any name of a file
            there = False
        if not there:
            if looks_like_file:
                raise DataError(f"{given} does not exist; check the path.")
            return given
        content, name = path.read_bytes(), given
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{name} is not UTF-8 text.") from None
    if not text.strip():
        raise DataError(f"{name} is empty; there is nothing to write.")
    return text


def _write_page(
    trained: Trained, job: RunJob, given: str, target: Path, prime: Writing | None
) -> None:
    options: HandwritingRunOptions = job.options
    network = cast(WritingNetwork, trained.model)
    if network.reads_text:
        lines = broken(_text_of(given), options.columns)
        check_characters([" ".join(lines)], trained.facts)
    else:
        lines = [_SCRIBBLE]
    written = _written_lines(trained, lines, options, prime)
    late = [one.writing.text for one in written if one is not None and not one.finished]
    if late and network.reads_text:
        named = "; ".join(repr(text) for text in late[:_SAID])
        job.say(
            f"warning: {len(late)} of {len(lines)} lines came to no end and were cut off: {named}. "
            "Another --seed, a higher --bias or shorter lines help."
        )
    _save(target, written, options)
    job.say(f"wrote {target}")


def _written_lines(
    trained: Trained,
    lines: Sequence[str],
    options: HandwritingRunOptions,
    prime: Writing | None,
) -> list[Written | None]:
    """Lines in one hand; without a prime the longest of the first lines sets the style."""
    network = cast(WritingNetwork, trained.model)
    wanted = [number for number, line in enumerate(lines) if line]
    results: list[Written | None] = [None] * len(lines)

    def fill(numbers: Sequence[int], style: Writing | None) -> None:
        requests = [Request(lines[n], style) for n in numbers]
        found = write(network, trained.facts, requests, options.bias, options.seed)
        for number, one in zip(numbers, found, strict=True):
            results[number] = one

    if prime is None and len(wanted) > 1:
        fill(wanted[:1], None)
        first = results[wanted[0]]
        assert first is not None
        fill(wanted[1:], first.writing if first.finished else None)
    else:
        fill(wanted, prime)
    return results


def _save(target: Path, written: Sequence[Written | None], options: HandwritingRunOptions) -> None:
    layout = Layout(
        options.size, options.line_height, options.margin, options.page_width, options.jitter
    )
    lines = [None if one is None else one.writing for one in written]
    ink = Ink(options.colour, options.width * options.size, options.paper)
    ending = target.suffix.lower()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if ending in (".json", ".jsonl"):
            write_stroke_file(target, [line for line in lines if line is not None])
        else:
            page = place(lines, layout, np.random.default_rng([options.seed, 5]))
            pace = _PACE * options.speed
            if ending == ".svg":
                write_whole(target, svg(page, ink, pace if options.animate else 0.0))
            elif ending == ".png":
                write_picture(target, picture(page, ink))
            else:
                write_film(target, page, ink, pace)
        if options.window:
            for number, one in enumerate(written, 1):
                if one is not None and one.attention.shape[1]:
                    path = target.with_name(f"{target.stem}.window_{number}.png")
                    write_picture(path, attention_figure(one))
    except OSError as error:
        raise EightBitError(f"{target} cannot be written ({error.strerror}).") from error
