"""`eightbit run answer`: questions about pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.caption_layouts import plain
from ...datasets.captions import as_learnt
from ...datasets.output import form_of, write_whole
from ...datasets.pictures import list_pictures, read_picture, write_picture
from ...errors import DataError, EightBitError, UsageError
from ...tasks import RunJob, Trained
from .data import padded, stacked
from .drawing import attention_tile
from .model import AnswerNetwork, as_network
from .options import AnswerRunOptions
from .scores import attended

FORMS = {".json": "json", ".csv": "csv"}

Item = tuple[str, Path | EightBitError]


@dataclass(frozen=True)
class Answered:
    """A question about a picture with its likeliest answers.

    Attributes:
        picture: its file.
        question: as it was asked.
        best: (answer, probability), the likeliest first.
    """

    picture: str
    question: str
    best: tuple[tuple[str, float], ...]

    def line(self) -> str:
        """For a terminal."""
        said = ", ".join(f"{answer} {value:.1%}" for answer, value in self.best)
        return f"{self.picture}: {self.question} {said}"


@dataclass
class _Work:
    """One call of `run`.

    Attributes:
        facts: of the data that the network learnt from.
        asked: the questions as written, and as the network reads them.
        done: what was answered so far.
    """

    network: AnswerNetwork
    facts: Mapping[str, Any]
    job: RunJob
    asked: list[tuple[str, str]]
    done: list[Answered] = field(default_factory=list)


def run(trained: Trained, job: RunJob) -> None:
    """Asks all questions about all pictures; goes on after bad pictures.

    Raises:
        UsageError: no pictures or questions, a question with unknown words, or options that the
            run cannot follow.
        TaskError: some of the pictures failed; the others are done.
    """
    options: AnswerRunOptions = job.options
    network = as_network(trained.model)
    if not job.inputs:
        raise UsageError("name pictures or folders of pictures.")
    form = form_of(job.output, options.format, FORMS)
    if options.attention and network.options.way != "attention":
        raise UsageError(
            f"this network's way is '{network.options.way}' and has no attention to draw; leave "
            "--attention out."
        )
    work = _Work(network, trained.facts, job, _questions(network, options))
    try:
        job.each(_items(job.inputs), partial(_answer_one, work))
    finally:
        if job.output is not None and work.done:
            write_whole(job.output, _as_json(work.done) if form == "json" else _as_csv(work.done))
            job.say(f"{len(work.done)} answers in {job.output}")


def _questions(network: AnswerNetwork, options: AnswerRunOptions) -> list[tuple[str, str]]:
    """Questions as written and in the network's words; names words that it does not know."""
    if options.questions:
        written = _lines(Path(options.questions))
    elif options.question.strip():
        written = [options.question.strip()]
    else:
        raise UsageError('ask something: --question "what colour is the shape?".')
    asked = [(text, plain(text)) for text in written]
    for text, words in asked:
        if not words:
            raise UsageError(f"{text!r} holds no words; write a question.")
        strange = network.words.unknown(words)
        if strange:
            raise UsageError(
                f"{text!r} has words that no training question had: {', '.join(strange)}; ask in "
                "other words."
            )
    return asked


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}).") from None
    if not any(found):
        raise DataError(f"{path} holds no questions; write one a line.")
    return [line for line in found if line]


def _items(inputs: Sequence[str]) -> Iterator[Item]:
    """Names of pictures, and their files or the error that came instead."""
    for given in inputs:
        try:
            for path in list_pictures(Path(given)):
                yield str(path), path
        except EightBitError as error:
            yield given, error


@torch.no_grad()
def _answer_one(work: _Work, item: Item) -> None:
    name, thing = item
    if isinstance(thing, EightBitError):
        raise thing
    network, options = work.network, work.job.options
    rgb = as_learnt(read_picture(thing), network.options.size, work.facts)
    device = network.embed.weight.device
    ids = padded([network.words.encode(words) for _, words in work.asked]).to(device)
    owners = torch.zeros(len(ids), dtype=torch.int64, device=device)
    table = network.probabilities(stacked([rgb]).to(device), ids, owners).cpu().numpy()
    for place, ((text, words), row) in enumerate(zip(work.asked, table, strict=True), 1):
        order = np.argsort(-row, kind="stable")[: options.top].tolist()
        best = tuple((network.answers[i], float(row[i])) for i in order)
        found = Answered(name, text, best)
        work.done.append(found)
        work.job.say(found.line())
        if options.attention:
            tile = attention_tile(rgb, f"{text} {best[0][0]}", attended(network, rgb, words))
            file = f"{len(work.done):06d}_{Path(name).stem}_{place}.png"
            write_picture(Path(options.attention) / file, tile)


def _as_json(done: Sequence[Answered]) -> str:
    rows: list[dict[str, Any]] = [
        {
            "picture": one.picture,
            "question": one.question,
            "answer": one.best[0][0],
            "best": [{"answer": answer, "probability": value} for answer, value in one.best],
        }
        for one in done
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _as_csv(done: Sequence[Answered]) -> str:
    """A row an answer: picture, question, place from 1, answer, probability."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["picture", "question", "place", "answer", "probability"])
    for one in done:
        for place, (answer, value) in enumerate(one.best, 1):
            writer.writerow([one.picture, one.question, place, answer, value])
    return stream.getvalue()
