"""`eightbit run caption`: pictures and folders in, sentences out; or a search both ways."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.caption_layouts import plain
from ...datasets.captions import as_learnt
from ...datasets.download import say_on_stderr
from ...datasets.output import form_of, write_whole
from ...datasets.pictures import list_pictures, read_picture, write_picture
from ...errors import DataError, EightBitError, UsageError
from ...tasks import RunJob, Trained
from .._telling.drawing import cell_places
from .drawing import alignment_sheet, attention_sheet
from .model import CaptionNetwork, as_network
from .options import CaptionRunOptions
from .ranking import Alignment, smoothed_alignment
from .search import Beam, Written, beam_search, draw_sentences
from .use import (
    attention_of,
    device_of,
    encoded,
    similarities,
    word_region_scores,
)

FORMS = {".json": "json", ".csv": "csv"}
CHANGE_COST = 0.3  # of the alignment's chain: what a change of region takes off the scores' sum

Item = tuple[str, Path | EightBitError]


@dataclass(frozen=True)
class Told:
    """What was said of a picture.

    Attributes:
        name: of the picture.
        sentences: texts, the best first.
        log_probabilities: theirs, in nats.
    """

    name: str
    sentences: tuple[str, ...]
    log_probabilities: tuple[float, ...]

    def lines(self) -> list[str]:
        """For a terminal: one line, or one a sentence where there are several."""
        if len(self.sentences) == 1:
            return [f"{self.name}: {self.sentences[0]}"]
        pairs = zip(self.sentences, self.log_probabilities, strict=True)
        return [f"{self.name}: {text} ({value:.2f})" for text, value in pairs]


@dataclass
class _Work:
    """One call of `run`.

    Attributes:
        facts: of the data that the network learnt from.
        generator: of sentences that are drawn.
        told: what was said so far.
    """

    network: CaptionNetwork
    facts: Mapping[str, Any]
    job: RunJob
    options: CaptionRunOptions
    generator: torch.Generator
    told: list[Told] = field(default_factory=list)


def run(trained: Trained, job: RunJob) -> None:
    """Tells all pictures, or orders them for a sentence; goes on after bad ones.

    Raises:
        UsageError: no inputs, or options that the run cannot follow.
        TaskError: some of the pictures failed; the others are done.
    """
    options: CaptionRunOptions = job.options
    network = as_network(trained.model)
    if not job.inputs:
        raise UsageError("name pictures or folders of pictures.")
    form = form_of(job.output, options.format, FORMS)
    _refuse_unfit(network, options, job)
    if options.find or options.among:
        _search(network, trained.facts, job)
        return
    generator = torch.Generator().manual_seed(options.seed)
    work = _Work(network, trained.facts, job, options, generator)
    try:
        job.each(_items(job.inputs), partial(_tell_one, work))
    finally:
        if job.output is not None and work.told:
            write_whole(job.output, _as_json(work.told) if form == "json" else _as_csv(work.told))
            job.say(f"{len(work.told)} pictures told in {job.output}")


def _refuse_unfit(network: CaptionNetwork, options: CaptionRunOptions, job: RunJob) -> None:
    if options.attention and network.options.way != "attention":
        raise UsageError(
            f"this network sees by way of '{network.options.way}' and has no attention to draw; "
            "leave --attention out."
        )
    if options.alignment and not isinstance(network.ranking, Alignment):
        raise UsageError(
            "this run learnt no regions for words; train one with --ranking alignment, or leave "
            "--alignment out."
        )
    if (options.find or options.among) and job.output is not None:
        raise UsageError("a search prints its results; leave -o out.")


def _items(inputs: Sequence[str]) -> Iterator[Item]:
    """Names of pictures, and their files or the error that came instead."""
    for given in inputs:
        try:
            for path in list_pictures(Path(given)):
                yield str(path), path
        except EightBitError as error:
            yield given, error


def _read(network: CaptionNetwork, facts: Mapping[str, Any], item: Item) -> np.ndarray:
    """The picture as the network sees it: uint8 (S, S, 3)."""
    _, thing = item
    if isinstance(thing, EightBitError):
        raise thing
    return as_learnt(read_picture(thing), network.options.size, facts)


def as_input(rgb: np.ndarray) -> Tensor:
    """uint8 (1, 3, S, S) of uint8 (S, S, 3)."""
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]


# ------------------------------------------------------------------------------------ telling


def _tell_one(work: _Work, item: Item) -> None:
    rgb = _read(work.network, work.facts, item)
    pictures = as_input(rgb)
    best = _written(work, pictures.to(device_of(work.network)))
    texts = tuple(work.network.words.decode(one.ids) for one in best)
    told = Told(item[0], texts, tuple(one.log_probability for one in best))
    work.told.append(told)
    for line in told.lines():
        work.job.say(line)
    file = f"{len(work.told):06d}_{Path(item[0]).stem}.png"
    if work.options.attention:
        maps = attention_of(work.network, pictures[0], best[0].ids)[:-1]
        sheet = attention_sheet(rgb, texts[0].split(), maps)
        write_picture(Path(work.options.attention) / file, sheet)
    if work.options.alignment and best[0].ids:
        scores = word_region_scores(work.network, pictures[0], best[0].ids)
        regions = smoothed_alignment(scores, CHANGE_COST)
        sheet = alignment_sheet(
            rgb, texts[0].split(), regions, work.network.grid, cell_places(work.network.backbone)
        )
        write_picture(Path(work.options.alignment) / file, sheet)


def _written(work: _Work, pictures: Tensor) -> list[Written]:
    options, longest = work.options, work.network.options.longest
    if options.temperature:
        return draw_sentences(
            work.network, pictures, options.temperature, options.n_best, longest, work.generator
        )[0]
    beam = Beam(options.beam, options.n_best, options.length_penalty, longest)
    return beam_search(work.network, pictures, beam)[0]


def image_id(name: str) -> int | str:
    """COCO's number at the end of a file's name, as in COCO_val2014_000000000042.jpg; else the
    name without its ending.
    """
    stem = Path(name).stem
    found = re.fullmatch(r"(?:COCO_\w+_)?(\d+)", stem)
    return int(found.group(1)) if found else stem


def _as_json(told: Sequence[Told]) -> str:
    """COCO's result format, with the file and further sentences as keys that its tools pass by."""
    rows: list[dict[str, Any]] = []
    for one in told:
        row: dict[str, Any] = {
            "image_id": image_id(one.name),
            "caption": one.sentences[0],
            "file": one.name,
        }
        row["log_probability"] = one.log_probabilities[0]
        if len(one.sentences) > 1:
            row["n_best"] = [
                {"caption": text, "log_probability": value}
                for text, value in zip(one.sentences, one.log_probabilities, strict=True)
            ]
        rows.append(row)
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _as_csv(told: Sequence[Told]) -> str:
    """A row a sentence: picture, place from 1, sentence, log probability."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["picture", "place", "caption", "log_probability"])
    for one in told:
        pairs = zip(one.sentences, one.log_probabilities, strict=True)
        for place, (text, value) in enumerate(pairs, 1):
            writer.writerow([one.name, place, text, value])
    return stream.getvalue()


# ---------------------------------------------------------------------------------- searching


def _search(network: CaptionNetwork, facts: Mapping[str, Any], job: RunJob) -> None:
    options: CaptionRunOptions = job.options
    texts = [options.find] if options.find else _lines(Path(options.among))
    sentences = [_asked(network, text) for text in texts]
    names: list[str] = []
    pictures: list[np.ndarray] = []

    def read(item: Item) -> None:
        pictures.append(_read(network, facts, item))
        names.append(item[0])

    try:
        job.each(_items(job.inputs), read)
    finally:
        if pictures:
            stacked = torch.cat([as_input(rgb) for rgb in pictures])
            table = similarities(network, stacked, sentences)
            for line in _found(names, texts, table, options):
                job.say(line)


def _found(
    names: Sequence[str], texts: Sequence[str], table: np.ndarray, options: CaptionRunOptions
) -> Iterator[str]:
    """Lines for the terminal: pictures for the sentence, or sentences for each picture."""
    if options.find:
        for i in np.argsort(-table[:, 0], kind="stable")[: options.top]:
            yield f"{table[i, 0]:.3f} {names[i]}"
        return
    for name, row in zip(names, table, strict=True):
        for i in np.argsort(-row, kind="stable")[: options.top]:
            yield f"{name}: {row[i]:.3f} {texts[i]}"


def _asked(network: CaptionNetwork, text: str) -> list[int]:
    """Ids of a sentence; names words that no training sentence had."""
    words = plain(text)
    if not words:
        raise UsageError(f"{text!r} holds no words; write a sentence.")
    strange = network.words.unknown(words)
    if len(strange) == len(set(words.split())):
        raise UsageError(f"no word of {text!r} was in the training sentences; use other words.")
    if strange:
        say_on_stderr(f"not in the training sentences, so not looked for: {', '.join(strange)}")
    return encoded(network, words)


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}).") from None
    texts = [line for line in found if line]
    if not texts:
        raise DataError(f"{path} holds no sentences; write one a line.")
    return texts
