"""Transcripts as files: read back with the standard library and a parser of SRT of our own."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.sequence_tasks._speech.transcripts import (
    Transcript,
    Word,
    to_csv,
    to_json,
    to_srt,
    to_text,
)

HELLO = Transcript(
    "a, b.wav",
    7.25,
    (
        Word("GRÜSS", 0.5, 0.81234, 0.987654),
        Word("GOTT", 0.9, 1.3, 0.5),
        Word("WELT", 4.0, 4.4, 1.0),
    ),
    ("clipped: 2.0% of its samples stand at full scale",),
)
EMPTY = Transcript("silent.wav", 3.0, (), ("silent: its peak is zero",))


def parse_srt(text: str) -> list[tuple[int, int, list[str]]]:
    """Beginning and end in milliseconds, and lines; raises where it is no SubRip file."""
    cues = []
    for number, block in enumerate(text.split("\n\n") if text else [], 1):
        lines = block.rstrip("\n").split("\n")
        assert lines[0] == str(number)
        times = re.fullmatch(
            r"(\d\d):([0-5]\d):([0-5]\d),(\d{3}) --> (\d\d):([0-5]\d):([0-5]\d),(\d{3})", lines[1]
        )
        assert times
        n = [int(part) for part in times.groups()]
        start, end = (((n[k] * 60 + n[k + 1]) * 60 + n[k + 2]) * 1000 + n[k + 3] for k in (0, 4))
        assert len(lines) > 2 and all(lines[2:])
        cues.append((start, end, lines[2:]))
    return cues


def test_subtitles_have_the_form_of_subrip() -> None:
    assert to_srt(HELLO) == (
        "1\n00:00:00,500 --> 00:00:01,500\nGRÜSS GOTT\n\n2\n00:00:04,000 --> 00:00:05,000\nWELT\n"
    )
    assert to_srt(EMPTY) == ""
    late = Transcript("x", 360_001.0, (Word("END", 359_999.5, 360_000.0, 1.0),))
    assert "99:59:59,500 --> 100:00:00,500" in to_srt(late)


def test_a_pause_a_full_cue_or_six_seconds_begin_the_next_cue() -> None:
    slow = tuple(Word(f"W{k}", 0.9 * k, 0.9 * k + 0.8, 1.0) for k in range(20))
    cues = parse_srt(to_srt(Transcript("x", 20.0, slow)))
    assert len(cues) == 4 and max(end - start for start, end, _ in cues) <= 6000
    fast = tuple(Word("ABCDEFGHI", 0.1 * k, 0.1 * k + 0.1, 1.0) for k in range(20))
    cues = parse_srt(to_srt(Transcript("x", 20.0, fast)))
    assert [len(lines) for _, _, lines in cues] == [2, 2, 1]
    assert cues[0][2] == ["ABCDEFGHI " * 3 + "ABCDEFGHI"] * 2
    assert cues[0][1] == cues[1][0] == 800, "it leaves when the next one comes"
    long = Transcript("x", 9.0, (Word("A" * 50, 0.0, 8.0, 1.0), Word("B", 8.0, 8.5, 1.0)))
    assert [lines for _, _, lines in parse_srt(to_srt(long))] == [["A" * 50], ["B"]]


WORDS = st.lists(
    st.tuples(
        st.text("ABCÄ'-", min_size=1, max_size=30),
        st.floats(0, 3, allow_subnormal=False),
        st.floats(0, 9, allow_subnormal=False),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(found=WORDS, overlap=st.booleans())
def test_subtitles_of_any_words_hold_them_all_and_never_overlap(
    found: list[tuple[str, float, float]], overlap: bool
) -> None:
    words, time = [], 0.0
    for text, gap, length in found:
        start = time if overlap else time + gap
        words.append(Word(text, start, start + length, 0.5))
        time = start + (0.0 if overlap else length)
    one = Transcript("x", time + 10, tuple(words))
    cues = parse_srt(to_srt(one))
    assert " ".join(" ".join(lines) for _, _, lines in cues).split() == one.text.split()
    for start, end, lines in cues:
        assert start < end <= start + 6000
        assert len(lines) <= 2 and all(len(line) <= 42 for line in lines)
    for before, after in zip(cues, cues[1:], strict=False):
        assert before[1] <= after[0]


def test_text_is_a_line_for_each_sound() -> None:
    assert to_text([HELLO, EMPTY]) == "GRÜSS GOTT WELT\n\n"


def test_json_holds_words_times_and_notes() -> None:
    first, second = json.loads(to_json([HELLO, EMPTY]))
    assert first["file"] == "a, b.wav" and first["seconds"] == 7.25
    assert first["text"] == "GRÜSS GOTT WELT" and len(first["words"]) == 3
    word = {"word": "GRÜSS", "start": 0.5, "end": 0.812, "confidence": 0.9877}
    assert first["words"][0] == word
    assert first["notes"] == [*HELLO.notes] and second["words"] == []
    assert second["notes"] == ["silent: its peak is zero"]
    assert "Ü" in to_json([HELLO])


def test_csv_is_a_row_for_each_word() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([HELLO, EMPTY]))))
    assert [row["word"] for row in rows] == ["GRÜSS", "GOTT", "WELT"]
    assert rows[0]["file"] == "a, b.wav"
    assert float(rows[0]["end"]) == pytest.approx(0.812) and rows[2]["confidence"] == "1.0"
    assert to_csv([EMPTY]) == "file,word,start,end,confidence\n"
