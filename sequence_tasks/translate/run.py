"""`eightbit run translate`: files, standard input, or a conversation at the prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...datasets.download import say_on_stderr
from ...datasets.output import write_whole
from ...datasets.parallel_texts import read_lines
from ...datasets.pictures import write_picture
from ...errors import DataError, TaskError, UsageError
from ...tasks import RunJob, Trained
from .scores import sentence_picture
from .search import Beam
from .use import BATCH, Translation, Translator, as_network, chosen_dtype

STANDARD = "-"
FOLDER = "translated"
"""where results go when several files and no output are named"""
_NAMED = 12
"""unknown words or letters that are listed"""


@dataclass(frozen=True)
class TranslateRunOptions:
    """How texts are translated."""

    beam: int = 5
    """hypotheses that are followed at a time; 1 takes the likeliest token each time"""
    n_best: int = 1
    """translations of a sentence; with more than one, each line begins with number and score"""
    length_penalty: float = 1.0
    """exponent of the length that scores are divided by; more makes translations longer"""
    replace_unknown: bool = True
    """write the word of the source that attention reads most in place of an unknown word"""
    ensemble: str = ""
    """further runs with the same tokens, with commas, whose probabilities are averaged"""
    attention: str = field(default="", metadata={"metavar": "FOLDER"})
    """write there a picture of the attention for each sentence"""
    batch: int = BATCH
    """sentences that are translated together"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        for name in ("beam", "n_best", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.n_best > self.beam:
            raise UsageError(f"n_best is {self.n_best}; it cannot be above the beam, {self.beam}.")
        if self.length_penalty < 0:
            raise UsageError(f"length_penalty is {self.length_penalty}; it must not be below 0.")


@dataclass
class _Work:
    """One call of `run`."""

    translator: Translator
    options: TranslateRunOptions
    letters: frozenset[str]
    pictures: int = 0
    strange: dict[str, None] = field(default_factory=dict)

    @property
    def beam(self) -> Beam:
        options = self.options
        return Beam(options.beam, options.n_best, options.length_penalty)

    def lines(self, texts: Sequence[str]) -> list[str]:
        """The lines to write for sentences."""
        for text in texts:
            self._note_strange(text)
        options = self.options
        found = self.translator.translate(
            texts, self.beam, batch=options.batch, replace_unknown=options.replace_unknown
        )
        if options.attention:
            for text, best in zip(texts, found, strict=True):
                self._draw(text, best[0])
        if options.n_best == 1:
            return [best[0].text for best in found]
        return [
            f"{number}\t{one.hypothesis.score:.4f}\t{one.text}"
            for number, best in enumerate(found, 1)
            for one in best
        ]

    def _draw(self, text: str, best: Translation) -> None:
        self.pictures += 1
        if not text.strip():
            return
        picture = sentence_picture(self.translator, text, best.hypothesis.ids)
        write_picture(Path(self.options.attention) / f"{self.pictures:05d}.png", picture)

    def _note_strange(self, text: str) -> None:
        for letter in set(text) - self.letters:
            if not letter.isspace():
                self.strange[letter] = None
        if self.translator.vocabulary.source.kind == "words":
            for word in self.translator.vocabulary.source.unknown(text):
                self.strange[word] = None

    def tell_strange(self) -> None:
        """Names, on standard error, what no training sentence had."""
        if not self.strange:
            return
        named = ", ".join(repr(one) for one in list(self.strange)[:_NAMED])
        more = len(self.strange) - _NAMED
        named += f" and {more} more" if more > 0 else ""
        say_on_stderr(f"not in the training sentences, so hardly translated: {named}")
        self.strange.clear()


def run(trained: Trained, job: RunJob) -> None:
    """Translates files, standard input ("-" or a pipe), or what is typed at the prompt.

    Raises:
        EightBitError: an input cannot be read or an output not written; others are still done.
    """
    work = _work(trained, job)
    if not job.inputs and sys.stdin is not None and sys.stdin.isatty():
        _converse(work, job)
        return
    inputs = job.inputs or (STANDARD,)
    if len(inputs) == 1:
        _write(work, job, inputs[0], job.output)
        work.tell_strange()
        return
    folder = job.output or Path(FOLDER)
    if folder.is_file():
        raise UsageError(f"{folder} is a file; several inputs need a folder behind -o.")
    names = [_output_name(one) for one in inputs]
    if len(set(names)) < len(names):
        raise UsageError("two inputs have the same file name; translate them one by one.")
    job.each(inputs, lambda one: _write(work, job, one, folder / _output_name(one)))
    work.tell_strange()


def _work(trained: Trained, job: RunJob) -> _Work:
    options: TranslateRunOptions = job.options
    networks = [as_network(trained.model)]
    for path in filter(None, (one.strip() for one in options.ensemble.split(","))):
        other = job.load(path)
        network = as_network(other.model)
        if not network.vocabulary.equals(networks[0].vocabulary):
            raise TaskError(
                f"{path} has other tokens or languages than {trained.path}; an ensemble needs runs "
                "of the same data, languages and vocabulary."
            )
        networks.append(network)
    # Networks of one ensemble may differ in size; the number format is chosen by the first.
    dtype = chosen_dtype(networks[0])
    translator = Translator(networks, networks[0].vocabulary, dtype)
    if options.attention and not translator.attends:
        raise UsageError("the networks of 2014 have no attention to draw; leave --attention out.")
    return _Work(translator, options, frozenset(trained.facts["letters"]))


def _write(work: _Work, job: RunJob, name: str, output: Path | None) -> None:
    """Translates one input into a file, or line by line to the user."""
    lines = work.lines(_read(name))
    if output is None:
        for line in lines:
            job.say(line)
        return
    if output.is_dir():
        output = output / _output_name(name)
    if name != STANDARD and output.exists() and output.samefile(name):
        raise UsageError(f"{output} is the file that is read; choose another output.")
    write_whole(output, "".join(line + "\n" for line in lines).encode("utf-8"))


def _read(name: str) -> list[str]:
    if name == STANDARD:
        stream = sys.stdin
        binary = getattr(stream, "buffer", None)
        raw = binary.read() if binary is not None else stream.read().encode("utf-8")
        return read_lines(raw, "standard input")
    path = Path(name)
    if path.is_dir():
        raise DataError(f"{name} is a folder; name the files in it.")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{name} does not exist; check the path.") from None
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}).") from None
    return read_lines(raw, name)


def _output_name(name: str) -> str:
    return "stdin.txt" if name == STANDARD else Path(name).name.removesuffix(".gz")


def _converse(work: _Work, job: RunJob, ask: Callable[[str], str] = input) -> None:
    """Translates what is typed until an empty line, Ctrl-D or Ctrl-C."""
    first, second = work.translator.vocabulary.languages
    job.say(f"{first} to {second}; an empty line ends.")
    while True:
        try:
            text = ask("> ").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not text:
            return
        for line in work.lines([text]):
            job.say(line)
        work.tell_strange()
