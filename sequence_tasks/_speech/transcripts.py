"""What was said, with times, as text, subtitles (SRT), JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LINE, _LINES = 42, 2  # characters of a subtitle's line, and lines, that are read in its time
_LONGEST_CUE = 6.0  # seconds
_SHORTEST_CUE = 1.0  # seconds that a subtitle stays, if the next one leaves it the time
_CUE_PAUSE = 0.8  # seconds without a word that end a subtitle


@dataclass(frozen=True)
class Word:
    """A word that was heard.

    Attributes:
        text: without spaces.
        start, end: in seconds.
        confidence: in [0, 1].
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """What a sound says.

    Attributes:
        name: of its file.
        duration: in seconds.
        words: in the order in which they were said; times from the beginning of the sound.
        notes: what a reader should know, like "clipped: ..."; empty where the sound is fine.
    """

    name: str
    duration: float
    words: tuple[Word, ...]
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def to_text(transcripts: Sequence[Transcript]) -> str:
    """The text of each sound on a line of its own; an empty line where nothing was said."""
    return "".join(one.text + "\n" for one in transcripts)


def to_json(transcripts: Sequence[Transcript]) -> str:
    """A list of objects with `file`, `seconds`, `text`, `words` and `notes`."""
    rows = [
        {
            "file": one.name,
            "seconds": round(one.duration, 3),
            "text": one.text,
            "words": [_row(word) for word in one.words],
            "notes": list(one.notes),
        }
        for one in transcripts
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def to_csv(transcripts: Sequence[Transcript]) -> str:
    """A row for each word: `file`, `word`, `start`, `end`, `confidence`."""
    stream = io.StringIO()
    columns = ["file", "word", "start", "end", "confidence"]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({"file": one.name, **_row(word)} for one in transcripts for word in one.words)
    return stream.getvalue()


def _row(word: Word) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "confidence": round(word.confidence, 4),
    }


# --------------------------------------------------------------------------------- subtitles


def to_srt(transcript: Transcript) -> str:
    """Subtitles in the form of SubRip; empty where nothing was said.

    A subtitle has at most two lines of 42 characters, but for a word that is longer, and stays for
    at most 6 s. It ends at a pause, and stays for a second where the next one leaves it the time.
    Times are whole milliseconds that rise; no two subtitles overlap.
    """
    cues = _cues(transcript.words)
    starts = _rising([round(cue[0].start * 1000) for cue in cues])
    limits = [*starts[1:], round(transcript.duration * 1000)][: len(cues)]
    blocks = []
    for number, (cue, start, limit) in enumerate(zip(cues, starts, limits, strict=True), 1):
        end = max(round(cue[-1].end * 1000), start + round(_SHORTEST_CUE * 1000))
        end = max(min(end, limit, start + round(_LONGEST_CUE * 1000)), start + 1)
        lines = "\n".join(_lines(cue))
        blocks.append(f"{number}\n{_stamp(start)} --> {_stamp(end)}\n{lines}\n")
    return "\n".join(blocks)


def _cues(words: Sequence[Word]) -> list[list[Word]]:
    """Words that are shown together."""
    cues: list[list[Word]] = []
    for word in words:
        if cues:
            cue = cues[-1]
            pause = word.start - cue[-1].end
            fits = len(_lines([*cue, word])) <= _LINES
            if pause < _CUE_PAUSE and fits and word.end - cue[0].start <= _LONGEST_CUE:
                cue.append(word)
                continue
        cues.append([word])
    return cues


def _lines(words: Sequence[Word]) -> list[str]:
    text = " ".join(word.text for word in words)
    return textwrap.wrap(text, _LINE, break_long_words=False, break_on_hyphens=False)


def _rising(milliseconds: Sequence[int]) -> list[int]:
    """The same times, moved on where one is not after the one before."""
    found: list[int] = []
    for time in milliseconds:
        found.append(max(time, found[-1] + 1 if found else 0))
    return found


def _stamp(milliseconds: int) -> str:
    """Like 01:02:03,004."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02},{thousandths:03}"
