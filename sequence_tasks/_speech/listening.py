"""`eightbit run` of the tasks of speech: files, folders, standard input and the microphone."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from ...datasets.output import form_of, write_whole
from ...datasets.sounds import list_sounds, microphone_blocks, read_sound, sound_blocks
from ...errors import EightBitError, UsageError
from ...tasks import RunJob
from .segments import Gauge, Segment, check_longest, cut_at_silence
from .transcripts import Transcript, Word, to_csv, to_json, to_srt, to_text

Recognize = Callable[[list[np.ndarray], list[str]], list[list[Word]]]
"""Pieces of speech, float32 (n,) each, as a batch, and the names of the sounds that they are of ->
the words of each, with times in seconds from the piece's beginning."""

BATCH = 60.0
"""seconds of sound, padding included, that are recognised at once"""
POOL = 240.0
"""seconds of speech that batches of similar length are chosen from"""
_BLOCK = 5.0  # seconds decoded at once; before a damage no more than this is lost
_STDIN, _MICROPHONE = "standard input", "microphone"
_LAYOUTS = {".txt": "text", ".json": "json", ".csv": "csv", ".srt": "srt"}
_WRITERS = {"text": to_text, "json": to_json, "csv": to_csv}


def check_run_options(language: float, longest: float) -> None:
    """Refuses values that make no sense for any recognizer; raises UsageError."""
    if language > 10:
        raise UsageError(f"language is {language}; it must not be above 10.")
    if not 1 <= longest <= 120:
        raise UsageError(f"longest is {longest}; it must lie between 1 and 120 seconds.")


def listen(
    job: RunJob, rate: int, recognize: Recognize, format: str = "auto", longest: float = 15.0
) -> None:
    """Prints what every input says and writes it where the job has an output.

    Inputs are sound files, folders of them, "-" for a sound on standard input, or "microphone",
    which listens until Ctrl-C and prints a piece as soon as a pause of 0.4 s ends it.

    Args:
        job: inputs, output, `say`.
        rate: samples a second that `recognize` wants.
        recognize: finds the words of a batch of pieces.
        format: "text", "json", "csv", "srt", or "auto" for what the output's ending says. Without
            an output the transcripts are printed in this form; with "auto" as plain lines.
        longest: seconds of a piece.

    Raises:
        UsageError: before anything is heard: no input, an output that cannot be meant so, or pieces
            of less than a second.
        TaskError: at the end: some of the inputs failed; the others are transcribed. Of a sound
            that is damaged, what comes before the damage is transcribed.
    """
    if not job.inputs:
        raise UsageError(
            "on what? Name sound files or folders of them, - for standard input, or microphone."
        )
    check_longest(longest)
    items = _items(job.inputs)
    target = _target(job.output, format, items)
    ear = _Ear(rate, recognize, longest, target.quiet or job.say, target.subtitle)
    try:
        job.each(items, ear.hear)
    finally:
        ear.finish()
        target.write(ear.found, job.say)


# ------------------------------------------------------------------------- inputs and outputs


@dataclass(frozen=True)
class _Item:
    """Something to hear.

    Attributes:
        name: what it is called in all that is printed and written.
        path: of the file; None of standard input and the microphone.
        under: path below an output folder, without its ending.
        error: why it cannot be heard.
    """

    name: str
    path: Path | None
    under: Path
    error: EightBitError | None = None


def _items(inputs: Sequence[str]) -> list[_Item]:
    found = []
    for given in inputs:
        if given == "-":
            found.append(_Item(_STDIN, None, Path("standard-input")))
            continue
        if given == _MICROPHONE:
            found.append(_Item(_MICROPHONE, None, Path(_MICROPHONE)))
            continue
        path = Path(given)
        try:
            for one in list_sounds(path):
                below = one.relative_to(path) if one != path else Path(one.name)
                found.append(_Item(str(one), one, below.with_suffix("")))
        except EightBitError as error:
            found.append(_Item(given, path, Path(), error))
    return found


@dataclass(frozen=True)
class _Target:
    """Where transcripts go.

    Attributes:
        layout: "text", "json", "csv", "srt"; "auto" for printed lines only.
        path: the file, or the folder of subtitles; None for standard output.
        subtitles: by item, the file of its subtitles, where they go to a folder.
    """

    layout: str
    path: Path | None
    subtitles: dict[_Item, Path] | None = None

    @property
    def quiet(self) -> Callable[[str], None] | None:
        """Takes the printed lines, where the transcripts themselves are printed instead."""
        return _say_nothing if self.path is None and self.layout != "auto" else None

    def subtitle(self, item: _Item, transcript: Transcript) -> None:
        """Writes a sound's subtitles to the folder as soon as they are there."""
        if self.subtitles is not None:
            write_whole(self.subtitles[item], to_srt(transcript))

    def write(self, found: Sequence[Transcript], say: Callable[[str], None]) -> None:
        """Writes, or prints, all of them."""
        if not found or self.layout == "auto":
            return
        if self.subtitles is None:
            writer = _WRITERS.get(self.layout)
            content = writer(found) if writer else to_srt(found[0])
            if self.path is None:
                say(content.removesuffix("\n"))
                return
            write_whole(self.path, content)
        say(f"{len(found)} transcript{'s' if len(found) > 1 else ''} in {self.path}")


def _say_nothing(line: str) -> None:
    pass


def _target(output: Path | None, format: str, items: Sequence[_Item]) -> _Target:
    """Refuses outputs that cannot be meant so; raises UsageError."""
    layout = form_of(output, format, _LAYOUTS)
    if layout == "srt" and len(items) > 1:
        if output is None or (output.suffix.lower() == ".srt" and not output.is_dir()):
            raise UsageError(
                f"there are {len(items)} sounds and each has its own subtitles; name a folder "
                f"for them with -o{'' if output is None else f' in the place of {output}'}."
            )
        return _Target(layout, output, _subtitle_files(output, items))
    if output is None:
        return _Target(layout, None)
    if output.is_dir():
        if layout != "srt":
            raise UsageError(f"{output} is a folder; name a file, like {output / 'all.json'}.")
        return _Target(layout, output, _subtitle_files(output, items))
    if any(one.path is not None and one.path.resolve() == output.resolve() for one in items):
        raise UsageError(f"{output} is one of the sounds; choose another name with -o.")
    return _Target(layout, output)


def _subtitle_files(folder: Path, items: Sequence[_Item]) -> dict[_Item, Path]:
    """By item a file of its own, in the folders that the sounds have below what was named."""
    taken: dict[Path, _Item] = {}
    for one in items:
        if one.error is not None:
            continue
        path = folder / one.under.with_name(one.under.name + ".srt")
        if path in taken:
            raise UsageError(
                f"the subtitles of {taken[path].name} and of {one.name} would both be {path}; "
                "write them to two folders, one after the other, or rename one of the sounds."
            )
        taken[path] = one
    return {item: path for path, item in taken.items()}


# ----------------------------------------------------------------------------------- hearing


@dataclass
class _Heard:
    """A sound that is being heard, up to where it is.

    Attributes:
        item: what it is.
        pieces: the recognised ones, by their beginning in seconds, with absolute times.
        pending: pieces that are not yet recognised.
        told: pieces that were printed.
        seconds: of the whole sound; None while it lasts.
        notes: for its transcript.
        lost: whether the recognizer failed on a piece of it.
    """

    item: _Item
    pieces: list[tuple[float, list[Word]]] = field(default_factory=list)
    pending: int = 0
    told: int = 0
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    lost: bool = False

    @property
    def complete(self) -> bool:
        return self.seconds is not None and not self.pending

    def transcript(self) -> Transcript:
        words = tuple(word for _, part in self.pieces for word in part)
        notes = self.notes
        if not self.pieces and not notes:
            notes = ("no speech was found",)
        elif self.pieces and not words:
            notes = (*notes, "no word was recognised")
        return Transcript(self.item.name, self.seconds or 0.0, words, notes)


class _Ear:
    """Hears one sound after the other and recognises their pieces together."""

    def __init__(
        self,
        rate: int,
        recognize: Recognize,
        longest: float,
        say: Callable[[str], None],
        done: Callable[[_Item, Transcript], None],
    ) -> None:
        self._rate, self._recognize, self._longest = rate, recognize, longest
        self._say, self._done = say, done
        self._waiting: list[tuple[_Heard, Segment]] = []
        self._open: deque[_Heard] = deque()
        self.found: list[Transcript] = []

    def hear(self, item: _Item) -> None:
        """Hears a sound to its end; what it says may be told later, together with the next ones.

        Raises:
            EightBitError: it cannot be heard, or not to its end.
        """
        if item.error is not None:
            raise item.error
        live = item.path is None and item.name == _MICROPHONE
        if live:
            self._recognise()
            self._say("microphone: listening until Ctrl-C")
        heard = _Heard(item)
        gauge = Gauge()
        damage: EightBitError | None = None
        self._open.append(heard)
        try:
            self._cut(heard, gauge, live)
        except EightBitError as error:
            if not gauge.facts().samples:
                self._open.remove(heard)
                raise
            damage = error
        except KeyboardInterrupt:
            if not live:
                raise
            heard.lost = False  # what was recognised before counts
        facts = gauge.facts()
        heard.notes = facts.notes() + ((str(damage),) if damage else ())
        heard.seconds = facts.samples / self._rate
        self._tell()
        if damage:
            raise damage

    def finish(self) -> None:
        """Recognises and tells what is left of the sounds that were heard to their end."""
        self._recognise()

    def _cut(self, heard: _Heard, gauge: Gauge, live: bool) -> None:
        blocks = _measured(_blocks(heard.item, self._rate), gauge)
        for segment in cut_at_silence(blocks, self._rate, self._longest):
            heard.pending += 1
            self._waiting.append((heard, segment))
            if live or sum(len(one.samples) for _, one in self._waiting) >= POOL * self._rate:
                self._recognise()

    def _recognise(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            pieces = [one.samples for _, one in waiting]
            names = [heard.item.name for heard, _ in waiting]
            found = in_batches(pieces, names, self._recognize, self._rate)
        except BaseException:
            for heard, _ in waiting:
                heard.lost, heard.pending = True, heard.pending - 1
            raise
        for (heard, segment), words in zip(waiting, found, strict=True):
            at = segment.start
            moved = [replace(word, start=word.start + at, end=word.end + at) for word in words]
            heard.pieces.append((at, moved))
            heard.pending -= 1
        self._tell()

    def _tell(self) -> None:
        """Prints what has become known, in the order of the inputs."""
        while self._open:
            heard = self._open[0]
            if not heard.complete:
                # A single piece may turn out to be the whole sound, which is told on one line.
                if len(heard.pieces) > 1 or heard.item.name == _MICROPHONE:
                    self._print_pieces(heard)
                return
            self._open.popleft()
            if heard.lost:
                self._say(f"{heard.item.name}: [not transcribed: the recognizer failed]")
                continue
            transcript = heard.transcript()
            self._print_whole(heard, transcript)
            self.found.append(transcript)
            self._done(heard.item, transcript)

    def _print_whole(self, heard: _Heard, transcript: Transcript) -> None:
        notes = "; ".join(transcript.notes)
        if heard.told or len(heard.pieces) > 1:
            self._print_pieces(heard)
            if notes:
                self._say(f"  [{notes}]")
        elif transcript.words:
            said = f"{transcript.name}: {_said(transcript.words)}"
            self._say(f"{said}  [{notes}]" if notes else said)
        else:
            self._say(f"{transcript.name}: [{notes}]")

    def _print_pieces(self, heard: _Heard) -> None:
        if not heard.told and heard.item.name != _MICROPHONE:
            self._say(f"{heard.item.name}:")
        for at, words in heard.pieces[heard.told :]:
            if words:
                self._say(f"  {_clock(at)}  {_said(words)}")
        heard.told = len(heard.pieces)


def in_batches(
    pieces: Sequence[np.ndarray], names: Sequence[str], recognize: Recognize, rate: int
) -> list[list[Word]]:
    """The words of pieces, in their order; recognised in batches of similar length.

    A batch holds at most a minute of sound, padding to its longest piece included, or one piece.
    """
    found: list[list[Word]] = [[] for _ in pieces]
    batches: list[list[int]] = []
    for index in sorted(range(len(pieces)), key=lambda one: len(pieces[one])):
        if batches and (len(batches[-1]) + 1) * len(pieces[index]) <= BATCH * rate:
            batches[-1].append(index)
        else:
            batches.append([index])
    for batch in batches:
        words = recognize([pieces[index] for index in batch], [names[index] for index in batch])
        for index, said in zip(batch, words, strict=True):
            found[index] = said
    return found


def _blocks(item: _Item, rate: int) -> Iterable[np.ndarray]:
    if item.path is not None:
        return sound_blocks(item.path, rate, _BLOCK)
    if item.name == _MICROPHONE:
        return _until_interrupted(microphone_blocks(rate))
    return [read_sound(sys.stdin.buffer.read(), rate, item.name).samples]


def _until_interrupted(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """So that Ctrl-C ends the sound, and what was being said is recognised still."""
    try:
        yield from blocks
    except KeyboardInterrupt:
        return


def _measured(blocks: Iterable[np.ndarray], gauge: Gauge) -> Iterator[np.ndarray]:
    for block in blocks:
        gauge.add(block)
        yield block


def _said(words: Sequence[Word]) -> str:
    return f"{' '.join(w.text for w in words)}  ({fmean(w.confidence for w in words):.0%})"


def _clock(seconds: float) -> str:
    """Like 1:02:03.4."""
    tenths = int(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60}:{minutes % 60:02}:{rest / 10:04.1f}"
