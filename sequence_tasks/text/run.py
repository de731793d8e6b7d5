"""`eightbit run text`: writes on from prompts, scores texts, shows what cells follow."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...datasets.output import write_whole
from ...datasets.pictures import write_picture
from ...datasets.texts import decode_text, read_text_file
from ...datasets.tokens import Tokens, tokens_from_facts
from ...errors import DataError, TaskError, UsageError
from ...tasks import RunJob, Trained
from .dynamic import Adaptation, Adapter, dynamic_losses
from .samples import neurons_picture
from .sampling import Sampling
from .scores import static_losses
from .writing import Decoder, Start, unknown_ids, write

_STUDIED, _SHOWN = 4_000, 1_500
"""tokens of a text that cells are chosen by, and that are shown"""


@dataclass(frozen=True)
class TextRunOptions:
    """What is written."""

    length: int = 500
    """most tokens of a sample"""
    samples: int = 1
    """texts for each prompt"""
    temperature: float = 0.8
    """below 1 likely tokens become likelier; 0 always takes the likeliest"""
    top_k: int = 0
    """draw only from so many of the likeliest tokens; 0 from all"""
    top_p: float = 1.0
    """draw only from the likeliest tokens that together have this probability"""
    repetition_penalty: float = 1.0
    """above 1 makes the latest 64 tokens less likely"""
    stop: str = ""
    """a sample ends before this text; \\n is a line's end"""
    seed: int = 0
    """of the draws"""
    adapt: bool = False
    """learn from the prompt, or from the text that is scored, while reading it"""
    score: bool = False
    """say how well the texts are predicted; nothing is written"""
    neurons: int = 0
    """draw the text coloured by so many cells that follow a property of it; nothing is written"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        for name in ("length", "samples"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("temperature", "top_k", "neurons", "seed"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must not be below 0.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}; it must lie in (0, 1].")
        if self.repetition_penalty < 1:
            raise UsageError(
                f"repetition_penalty is {self.repetition_penalty}; it must be 1 or more."
            )
        if self.score and self.neurons:
            raise UsageError("--score and --neurons are two jobs; ask for one of them.")

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p, self.repetition_penalty)


@dataclass(frozen=True)
class _Work:
    """One call of `run`."""

    trained: Trained
    tokens: Tokens
    options: TextRunOptions
    job: RunJob

    @property
    def model(self) -> nn.Module:
        return self.trained.model

    def ids(self, text: str, name: str) -> np.ndarray:
        """Tokens of a text; raises DataError, naming them, for those that are not known."""
        unknown = self.tokens.unknown(text)
        if unknown:
            shown = ", ".join(repr(piece) for piece in unknown[:10])
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            raise DataError(
                f"{name} has {self.tokens.kind} that this model never saw: {shown}{more}; take "
                "them out or replace them."
            )
        return self.tokens.encode(text)


def run(trained: Trained, job: RunJob) -> None:
    """Writes on from each input, or scores or draws it.

    An input is the name of a text file, "-" for standard input, or the prompt itself; without one
    the model begins a text of its own. One sample is printed as it is drawn; several are drawn
    side by side. The output is a text file, of `--neurons` a PNG file.

    Raises:
        UsageError: nothing to score or draw, or an output that does not fit.
        TaskError: some inputs failed; the others are done.
    """
    options: TextRunOptions = job.options
    if "tokens" not in trained.facts:
        raise TaskError(f"{trained.path} holds no language model; name a run of text.")
    work = _Work(trained, tokens_from_facts(trained.facts["tokens"]), options, job)
    if not job.inputs and (options.score or options.neurons):
        raise UsageError("name a text file, or - for standard input.")
    if options.score:
        job.each(job.inputs, lambda given: _score(work, given))
    elif options.neurons:
        if len(job.inputs) > 1 and job.output is not None:
            raise UsageError(f"{job.output} is one file; leave it out for several inputs.")
        job.each(job.inputs, lambda given: _draw_neurons(work, given))
    else:
        written: list[str] = []
        try:
            job.each(job.inputs or ("",), lambda given: written.extend(_write(work, given)))
        finally:
            if job.output is not None and written:
                _save(job, written)


def _given_text(given: str) -> tuple[str, str]:
    """The text that an input means, and how it is called in messages."""
    if given == "-":
        return decode_text(sys.stdin.buffer.read(), "standard input"), "standard input"
    try:
        is_file = Path(given).is_file()
    except OSError:  # a long prompt is no file name
        is_file = False
    if not is_file and Path(given).suffix == ".txt":
        raise DataError(f"{given} is missing; check the path.")
    return (read_text_file(given), given) if is_file else (given, "the prompt")


def _write(work: _Work, given: str) -> list[str]:
    """Samples after one prompt, with the prompt."""
    options = work.options
    prompt, name = _given_text(given)
    ids = work.ids(prompt, name)
    before = np.concatenate([[work.trained.facts["start"]], ids]).astype(np.int64)
    model = work.model
    if options.adapt and len(ids) > 1:
        model = _adapted(model, before)
    start = Start(before if prompt == "" else ids.astype(np.int64), options.samples)
    rng = np.random.default_rng(options.seed)
    endless = write(model, start, options.sampling, rng, unknown_ids(work.tokens))
    steps = islice(endless, options.length)
    if options.samples == 1:
        return [_stream(work, prompt, start, steps)]
    drawn = np.stack(list(steps), axis=1)
    texts = [_until(_decoded(work, start, row), _stop(options)) for row in drawn]
    for number, text in enumerate(texts, start=1):
        work.job.say(f"--- sample {number}\n{prompt}{text}")
    return [prompt + text for text in texts]


def _stream(work: _Work, prompt: str, start: Start, steps: Iterable[np.ndarray]) -> str:
    decoder = Decoder(work.tokens, start.ids)
    stop = _stop(work.options)
    written = ""
    shown = 0
    work.job.stream(prompt)
    for ids in steps:
        written += decoder.add(int(ids[0]))
        if stop and stop in written:
            written = _until(written, stop)
            break
        safe = max(len(written) - len(stop), shown)  # the end may be the beginning of `stop`
        work.job.stream(written[shown:safe])
        shown = safe
    work.job.stream(written[shown:] + "\n")
    return prompt + written


def _decoded(work: _Work, start: Start, ids: np.ndarray) -> str:
    decoder = Decoder(work.tokens, start.ids)
    return "".join(decoder.add(int(token)) for token in ids)


def _stop(options: TextRunOptions) -> str:
    return options.stop.replace("\\n", "\n")


def _until(text: str, stop: str) -> str:
    return text.split(stop, 1)[0] if stop else text


def _adapted(model: nn.Module, ids: np.ndarray) -> nn.Module:
    adaptation = Adaptation()
    adapter = Adapter(model, adaptation)
    whole = torch.from_numpy(ids).to(adapter.weights[0].device)
    state = None
    for begin in range(0, len(whole) - 1, adaptation.segment):
        _, state = adapter.read(whole[begin : begin + adaptation.segment + 1], state)
    return adapter.model.requires_grad_(False)


def _save(job: RunJob, texts: list[str]) -> None:
    assert job.output is not None
    path = Path(job.output)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a text file.")
    write_whole(path, "\n\n".join(texts) + "\n")
    job.say(f"written to {path}")


def _score(work: _Work, given: str) -> None:
    text, name = _given_text(given)
    ids = work.ids(text, name)
    if len(ids) < 2:
        raise DataError(f"{name} is too short to be scored; give at least two tokens.")
    losses = (
        dynamic_losses(work.model, ids)
        if work.options.adapt
        else static_losses(work.model, ids, streams=1)
    )
    characters = len(text) - len(work.tokens.decode(ids[:1]))
    nats = float(losses.sum()) / max(characters, 1)
    work.job.say(
        f"{name}: {nats:.4f} nats and {nats / math.log(2):.4f} bits a character, perplexity "
        f"{math.exp(float(losses.mean())):.2f} of a token, {len(losses):,} tokens"
    )


def _draw_neurons(work: _Work, given: str) -> None:
    text, name = _given_text(given)
    ids = work.ids(text, name)[:_STUDIED]
    if len(ids) < 2:
        raise DataError(f"{name} is too short; give at least two tokens.")
    drawn = neurons_picture(work.model, work.tokens, ids, _SHOWN, work.options.neurons)
    stem = Path(given).stem if name == given else "text"
    path = Path(work.job.output) if work.job.output is not None else Path(f"{stem}-neurons.png")
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} must end in .png.")
    write_picture(path, drawn)
    work.job.say(f"written to {path}")
