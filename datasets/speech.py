"""Speech with its transcripts: AN4, the Free Spoken Digit Dataset, or recordings of one's own.

Own recordings are a folder or an archive with a table of them (manifest.csv, .tsv, .json, .jsonl
with `file`, `text` and, where known, `speaker` and `split`), or with a .txt beside every sound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError, UsageError
from .download import resolve, source_facts
from .lexicons import Lexicon
from .sounds import read_sound, sound_rate
from .speech_layouts import RAW_RATE, RAW_SUFFIX, Layout, Line, SpeechFiles, read_layout
from .splits import divided_by_group

_T = TypeVar("_T")

SPLITS = ("train", "validation", "test")

_TEST_SHARE, _VALIDATION_SHARE = 0.15, 0.07
_WIDE, _NARROW = 16_000, 8_000
"""samples a second of which one is taken; speech has little above half of the first"""
_DECODERS = 2
"""threads; more of them wait for each other"""
_NOISE = 0.4
"""speech has 0.8 and more; see `_smoothness`"""
_PROBED = 50
"""files of which the rate is asked"""


@dataclass(frozen=True)
class Utterance:
    """What somebody said in one go.

    Attributes:
        name: of its file, or of the data set's own list.
        speaker: who said it; empty where nobody knows.
        text: the words with single spaces between them.
        samples: int16 (n,); divided by 32,768 they are in [-1, 1).
    """

    name: str
    speaker: str
    text: str
    samples: np.ndarray

    @property
    def voice(self) -> str:
        """Whose voice it is: the speaker's, or one of its own where nobody knows."""
        return self.speaker or self.name


@dataclass(frozen=True)
class Speech:
    """Utterances to learn from, to choose by, and to report.

    Attributes:
        facts: JSON values: source, licence, split, rate, and by split counts, seconds and the
            number of speakers.
        rate: samples a second of all utterances.
        splits: "train", "validation" and "test"; none of them is empty.
        lexicon: of the data set; None where it has none.
    """

    facts: Mapping[str, Any]
    rate: int
    splits: Mapping[str, list[Utterance]]
    lexicon: Lexicon | None


def read_speech(data: str, seed: int, held_out: str = "") -> Speech:
    """Reads utterances and divides them as their publisher says, else by speaker.

    Args:
        data: `an4`, `fsdd`, a folder, an archive, or the path of a manifest.
        seed: of what is not divided by the publisher; the division is a pure function of it.
        held_out: a speaker whose utterances alone are the test part.

    Raises:
        DataError: something is missing or damaged; the message names the file. Or most sounds
            are noise.
        UsageError: nobody is called like `held_out`.
        UnknownNameError: `data` is neither a path nor a known name.
    """
    path = resolve(data)
    with ExitStack() as opened:
        files = SpeechFiles(path, opened)
        layout = read_layout(files)
        lines, split = _divided(layout, seed, held_out, data)
        rate = _common_rate(files, lines)
        utterances = _decoded(files, lines, rate)
        _refuse_noise(utterances, path)
    splits: dict[str, list[Utterance]] = {name: [] for name in SPLITS}
    for line, utterance in zip(lines, utterances, strict=True):
        splits[line.split].append(utterance)
    facts = {
        **source_facts(data, path),
        "split": split,
        "rate": rate,
        "counts": {name: len(part) for name, part in splits.items()},
        "seconds": {
            name: round(sum(len(one.samples) for one in part) / rate, 1)
            for name, part in splits.items()
        },
        "speakers": {
            name: len({one.speaker for one in part} - {""}) for name, part in splits.items()
        },
    }
    return Speech(facts, rate, splits, layout.lexicon)


# --------------------------------------------------------------------------------- division


def _divided(layout: Layout, seed: int, held_out: str, data: str) -> tuple[list[Line], str]:
    """The lines, each with its split, and a sentence on how they were divided."""
    lines = layout.lines
    sentences = [layout.split] if any(line.split for line in lines) and layout.split else []
    if held_out:
        lines = _with_held_out(lines, held_out, data)
        sentences = [f"all of the speaker {held_out} is test"]
        if any(line.split == "validation" for line in lines):
            sentences.append("validation as without a speaker held out")
    lines = [line if line.split else replace(line, split="train") for line in lines]
    there = {line.split for line in lines}
    shares = [("test", _TEST_SHARE), ("validation", _VALIDATION_SHARE)]
    shares = [(split, share) for split, share in shares if split not in there]
    if shares:
        lines, sentence = _drawn(lines, shares, seed, data)
        sentences.append(sentence)
    if not any(line.split == "train" for line in lines):
        raise DataError(f"{data} holds nothing to learn from: no recording is in the split train.")
    return lines, "; ".join(sentences)


def _with_held_out(lines: Sequence[Line], speaker: str, data: str) -> list[Line]:
    """All lines of one speaker are test; the others' validation lines stay what they are."""
    speakers = sorted({line.speaker for line in lines} - {""})
    if speaker not in speakers:
        known = ", ".join(speakers) if speakers else "nobody by name"
        raise UsageError(f"{data} has no speaker {speaker!r} to hold out; it has {known}.")
    if len(speakers) == 1 and all(line.speaker for line in lines):
        raise UsageError(
            f"{data} has the speaker {speaker} alone; nobody else is left to learn from."
        )
    kept = {"validation": "validation"}
    return [
        replace(line, split="test" if line.speaker == speaker else kept.get(line.split, "train"))
        for line in lines
    ]


def _drawn(
    lines: Sequence[Line], shares: Sequence[tuple[str, float]], seed: int, data: str
) -> tuple[list[Line], str]:
    """Takes the splits that are missing out of the training part, whole speakers if they do."""
    from_train = [line for line in lines if line.split == "train"]
    speakers = {line.speaker for line in from_train}
    by_speaker = "" not in speakers and len(speakers) > len(shares)
    if len(from_train) <= len(shares):
        raise DataError(
            f"{data} has {len(from_train)} recordings to learn from; more are needed to hold some "
            f"out for {' and '.join(split for split, _ in shares)}."
        )
    groups = [line.speaker if by_speaker else f"{at:09}" for at, line in enumerate(from_train)]
    places = iter(divided_by_group(groups, shares, seed))
    divided = [
        replace(line, split=next(places)) if line.split == "train" else line for line in lines
    ]
    told = " and ".join(f"{share:.0%} for {split}".replace("%", " %") for split, share in shares)
    unit = "whole speakers" if by_speaker else "single recordings"
    return divided, f"{unit} of the training part were drawn, {told} (seed {seed})"


# --------------------------------------------------------------------------------- decoding


def _common_rate(files: SpeechFiles, lines: Sequence[Line]) -> int:
    """16 kHz where most of the recordings have as much, else 8 kHz; some of them are asked."""
    asked = [lines[i] for i in np.linspace(0, len(lines) - 1, min(len(lines), _PROBED), dtype=int)]
    wide = Counter(_rate(files, line) >= _WIDE for line in asked)
    return _WIDE if wide[True] >= wide[False] else _NARROW


def _rate(files: SpeechFiles, line: Line) -> int:
    if line.file.endswith(RAW_SUFFIX):
        return RAW_RATE
    return _told_line(line, lambda: sound_rate(files.source(line.file), line.file))


def _decoded(files: SpeechFiles, lines: Sequence[Line], rate: int) -> list[Utterance]:
    """All utterances; FFmpeg lets several threads decode at once."""
    raw = [line for line in lines[:_PROBED] if line.file.endswith(RAW_SUFFIX)]
    order = _byte_order([_content(files.source(line.file)) for line in raw])

    def decode(line: Line) -> Utterance:
        source = files.source(line.file)
        samples = _told_line(line, lambda: _samples(source, line.file, rate, order))
        return Utterance(line.name, line.speaker, line.text, samples)

    pool = ThreadPoolExecutor(_DECODERS)
    try:
        return list(pool.map(decode, lines))
    finally:
        pool.shutdown(cancel_futures=True)


def _samples(source: Path | bytes, name: str, rate: int, order: str) -> np.ndarray:
    """int16 (n,)."""
    if name.endswith(RAW_SUFFIX) and rate == RAW_RATE:
        content = _content(source)
        if len(content) < 2:
            raise DataError(f"{name} is empty.")
        return _numbers(content, order)
    samples = read_sound(source, rate, name).samples
    return np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype(np.int16)


def _content(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _numbers(content: bytes, order: str) -> np.ndarray:
    """16-bit numbers in this byte order, ">" or "<", as int16 (n,)."""
    return np.frombuffer(content[: len(content) // 2 * 2], order + "i2").astype(np.int16)


def _byte_order(contents: Sequence[bytes]) -> str:
    """The order in which neighbouring samples are alike; AN4 is spread in both."""
    return max("><", key=lambda order: _smoothness([_numbers(one, order) for one in contents]))


def _smoothness(sounds: Sequence[np.ndarray]) -> float:
    """How alike neighbouring samples are: 1 for a slow wave, 0 for white noise.

    It is the median of the sounds' autocorrelations at one sample; silent ones do not count.
    """
    found = []
    for one in sounds:
        samples = one.astype(np.float64)
        power = float(samples @ samples)
        if power > 0:
            found.append(float(samples[1:] @ samples[:-1]) / power)
    return float(np.median(found)) if found else 1.0


def _refuse_noise(utterances: Sequence[Utterance], path: Path) -> None:
    """Raises DataError where no speech can be in the sounds."""
    if _smoothness([one.samples for one in utterances]) < _NOISE:
        raise DataError(
            f"the sounds of {path} are noise, as samples with exchanged bytes sound; get the data "
            "anew, or convert them with the right byte order."
        )


def _told_line(line: Line, work: Callable[[], _T]) -> _T:
    """What `work` returns; its DataError says which line led to it."""
    try:
        return work()
    except DataError as error:
        if not line.where:
            raise
        raise DataError(f"{line.where}: {error}") from error
