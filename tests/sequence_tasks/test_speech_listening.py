"""`eightbit run` of the tasks of speech, with a recognizer that is told what to hear."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eightbit.errors import DataError, EightBitError, TaskError, UsageError
from eightbit.sequence_tasks._speech import listening
from eightbit.sequence_tasks._speech.listening import BATCH, in_batches, listen
from eightbit.sequence_tasks._speech.transcripts import Word
from eightbit.tasks import RunJob
from eightbit.train.events import wav_bytes

RATE = 8000
PIECE, GAP = 0.6, 0.8  # seconds


def beep(pitch: int) -> np.ndarray:
    time = np.arange(round(PIECE * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 100 * pitch * time)).astype(np.float32)


def sound(*pitches: int) -> np.ndarray:
    """A beep of 100, 200, ... Hz for each number, with silence around it."""
    gap = np.zeros(round(GAP * RATE), np.float32)
    parts = [part for pitch in pitches for part in (gap, beep(pitch))]
    return np.concatenate([*parts, gap])


class FakeRecognizer:
    """Says P1 to a beep of 100 Hz and so on, at its place; keeps the sizes of its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, pieces: list[np.ndarray], names: list[str]) -> list[list[Word]]:
        self.batches.append([len(piece) for piece in pieces])
        return [self._hear(piece) for piece in pieces]

    def _hear(self, piece: np.ndarray) -> list[Word]:
        loud = np.flatnonzero(np.abs(piece) > 0.05)
        pitch = np.argmax(np.abs(np.fft.rfft(piece))) * RATE / len(piece) / 100
        return [Word(f"P{round(pitch)}", loud[0] / RATE, loud[-1] / RATE, 0.875)]


def put(path: Path, *pitches: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(sound(*pitches), RATE))
    return str(path)


def heard(
    inputs: list[str], output: Path | None = None, recognize: Any = None, **how: Any
) -> list[str]:
    """The lines that were printed."""
    said: list[str] = []
    job = RunJob(inputs, output, None, said.append)
    listen(job, RATE, recognize or FakeRecognizer(), **how)
    return said


# ------------------------------------------------------------------------------------ transcripts


def test_a_recording_of_one_piece_is_one_line_and_of_several_a_line_each(tmp_path: Path) -> None:
    one, three = put(tmp_path / "a.wav", 4), put(tmp_path / "b.wav", 1, 2, 3)
    said = heard([one, three])
    assert said[0] == f"{one}: P4  (88%)"
    assert said[1] == f"{three}:" and len(said) == 5
    assert [line.split()[1] for line in said[2:]] == ["P1", "P2", "P3"]
    assert said[2].startswith("  0:00:00.") and said[4].startswith("  0:00:03.")


def test_times_of_words_count_from_the_beginning_of_the_sound(tmp_path: Path) -> None:
    heard([put(tmp_path / "b.wav", 1, 2, 3)], tmp_path / "out.json")
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row["seconds"] == pytest.approx(5.0) and row["text"] == "P1 P2 P3"
    for index, word in enumerate(row["words"]):
        begin = GAP + index * (GAP + PIECE)
        assert word["start"] == pytest.approx(begin, abs=0.01)
        assert word["end"] == pytest.approx(begin + PIECE, abs=0.01)
        assert word["confidence"] == 0.875


def test_batches_are_of_similar_length_and_answers_in_order(rng: np.random.Generator) -> None:
    lengths = [int(n) for n in rng.integers(RATE // 2, 15 * RATE, 60)]
    seen: list[list[int]] = []

    def recognize(pieces: list[np.ndarray], names: list[str]) -> list[list[Word]]:
        seen.append([len(piece) for piece in pieces])
        return [[Word(str(int(piece[0])), 0, 1, 1)] for piece in pieces]

    found = in_batches([np.full(n, k) for k, n in enumerate(lengths)], ["a"] * 60, recognize, RATE)
    assert [words[0].text for words in found] == [str(k) for k in range(60)]
    assert all(len(batch) * max(batch) <= BATCH * RATE for batch in seen)
    padded = sum(len(batch) * max(batch) for batch in seen)
    assert padded < 1.2 * sum(lengths) and len(seen) < 20
    assert in_batches([], [], recognize, RATE) == []
    too_long = np.zeros(90 * RATE)
    assert len(in_batches([too_long, too_long], ["a", "b"], recognize, RATE)) == 2


def test_many_short_sounds_are_recognised_together_and_told_in_order(tmp_path: Path) -> None:
    for index in range(12):
        put(tmp_path / f"{index:02}.wav", index + 1)
    recognize = FakeRecognizer()
    said = heard([str(tmp_path)], recognize=recognize)
    assert len(recognize.batches) == 1 and len(recognize.batches[0]) == 12
    assert said == [f"{tmp_path}/{k:02}.wav: P{k + 1}  (88%)" for k in range(12)]


def test_a_long_sound_is_told_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "POOL", 2.5)
    recognize = FakeRecognizer()
    said = heard(
        [put(tmp_path / "a.wav", *range(1, 9)), put(tmp_path / "b.wav", 1)],
        tmp_path / "out.txt",
        recognize,
    )
    assert [len(batch) for batch in recognize.batches] == [3, 3, 3]
    assert said[0] == f"{tmp_path}/a.wav:" and said[9] == f"{tmp_path}/b.wav: P1  (88%)"
    text = (tmp_path / "out.txt").read_text()
    assert text == "P1 P2 P3 P4 P5 P6 P7 P8\nP1\n"


# ---------------------------------------------------------------------------------------- outputs


def test_each_ending_and_format_is_written(tmp_path: Path) -> None:
    inputs = [put(tmp_path / "in" / "a.wav", 1, 2), put(tmp_path / "in" / "b.wav", 3)]
    for name, how in [("o.txt", "auto"), ("o.TXT", "auto"), ("o.log", "text"), ("o.txt", "json")]:
        said = heard([str(tmp_path / "in")], tmp_path / name, format=how)
        assert said[-1] == f"2 transcripts in {tmp_path / name}"
        content = (tmp_path / name).read_text()
        assert (content == "P1 P2\nP3\n") == (how != "json")
    heard(inputs, tmp_path / "new" / "o.csv")
    rows = list(csv.DictReader((tmp_path / "new" / "o.csv").read_text().splitlines()))
    assert [row["word"] for row in rows] == ["P1", "P2", "P3"] and rows[2]["file"] == inputs[1]


def test_subtitles_of_one_sound_are_a_file_and_of_several_a_folder_like_the_input(
    tmp_path: Path,
) -> None:
    one = put(tmp_path / "in" / "a.wav", 1, 2)
    put(tmp_path / "in" / "deep" / "a.v2.wav", 3)
    put(tmp_path / "in" / "deep" / "a.wav", 4)
    heard([one], tmp_path / "o.srt")
    assert (tmp_path / "o.srt").read_text().startswith("1\n00:00:00,8")
    out = tmp_path / "out"
    said = heard([str(tmp_path / "in")], out, format="srt")
    assert said[-1] == f"3 transcripts in {out}"
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.srt"))
    assert names == ["a.srt", "deep/a.srt", "deep/a.v2.srt"]
    assert "P4" in (out / "deep" / "a.srt").read_text()
    heard([one], out / "deep", format="srt")
    assert "P1" in (out / "deep" / "a.srt").read_text(), "one sound, and a folder that is there"


def test_without_an_output_a_format_is_printed_alone(tmp_path: Path) -> None:
    one = put(tmp_path / "a.wav", 1, 2)
    (content,) = heard([one], format="srt")
    assert content.startswith("1\n00:00:00,8") and content.endswith("\nP2")
    (content,) = heard([one], format="json")
    assert json.loads(content)[0]["text"] == "P1 P2"


@pytest.mark.parametrize(
    ("inputs", "output", "how", "sentence"),
    [
        ([], None, "auto", "on what. Name sound files or folders of them, - for standard inp"),
        (["a.wav"], "o.xml", "auto", r"o.xml ends in none of .txt, .json, .csv and .srt; choose"),
        (["a.wav"], "out", "auto", "out ends in none of"),
        (["a.wav", "b/a.wav"], "o.srt", "auto", "there are 2 sounds .* in the place of .*o.srt"),
        (["a.wav", "b/a.wav"], None, "srt", "name a folder for them with -o.$"),
        (["a.wav", "b/a.wav"], "out", "srt", r"of .*a.wav and of .*b/a.wav would both be .*a.srt"),
        (["b"], "out", "srt", "of .*b/a.mp3 and of .*b/a.wav would both be .*out/a.srt; write"),
        (["a.wav"], "b", "json", "b is a folder; name a file, like .*b/all.json"),
        (["b", "a.wav"], "a.wav", "text", "a.wav is one of the sounds; choose another name"),
    ],
)
def test_a_request_that_cannot_be_meant_so_is_refused_before_work(
    inputs: list[str], output: str | None, how: str, sentence: str, tmp_path: Path
) -> None:
    put(tmp_path / "a.wav", 1)
    put(tmp_path / "b" / "a.wav", 2)
    put(tmp_path / "b" / "a.mp3", 2)
    before = (tmp_path / "a.wav").read_bytes()
    recognize = FakeRecognizer()
    with pytest.raises(UsageError, match=sentence):
        heard(
            [str(tmp_path / one) for one in inputs],
            tmp_path / output if output else None,
            recognize,
            format=how,
        )
    with pytest.raises(UsageError, match="the longest piece is 0.9 s"):
        heard([str(tmp_path)], None, recognize, longest=0.9)
    assert not recognize.batches and (tmp_path / "a.wav").read_bytes() == before


# --------------------------------------------------------------------------------- bad sounds


def test_silent_and_clipped_sounds_are_notes_and_no_failures(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(np.zeros(RATE), RATE))
    (tmp_path / "b.wav").write_bytes(wav_bytes(20 * sound(2), RATE))
    (tmp_path / "c.wav").write_bytes(wav_bytes(20 * sound(2, 3), RATE))
    click = np.zeros(RATE)
    click[RATE // 2 : RATE // 2 + 20] = 0.5
    (tmp_path / "d.wav").write_bytes(wav_bytes(click, RATE))
    said = heard([str(tmp_path)], tmp_path / "out.json")
    assert said[0] == f"{tmp_path}/a.wav: [silent: its peak is zero]"
    assert said[1].startswith(f"{tmp_path}/b.wav: P2  (88%)  [clipped: ")
    assert said[5].startswith("  [clipped: ")
    assert said[6] == f"{tmp_path}/d.wav: [no speech was found]"
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [bool(row["notes"]) for row in rows] == [True] * 4
    nothing = heard([str(tmp_path / "b.wav")], recognize=lambda pieces, names: [[] for _ in pieces])
    assert nothing[0].endswith("stand at full scale; no word was recognised]")


def test_failures_are_listed_at_the_end_and_the_others_are_written(tmp_path: Path) -> None:
    put(tmp_path / "a.wav", 1)
    (tmp_path / "b.wav").write_bytes(b"")
    (tmp_path / "c.wav").write_bytes(wav_bytes(np.zeros(0), RATE))
    (tmp_path / "d.wav").write_text("no sound")
    put(tmp_path / "e.wav", 2)
    inputs = [str(tmp_path), str(tmp_path / "none.wav")]
    with pytest.raises(TaskError, match=r"4 of 6 failed: .*b.wav.*c.wav.*d.wav.*none.wav"):
        heard(inputs, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "P1\nP2\n"
    with pytest.raises(TaskError, match="4 of 6 failed"):
        heard(inputs, tmp_path / "out", format="srt")
    assert len(list((tmp_path / "out").iterdir())) == 2
    with pytest.raises(DataError, match=r"c.wav .*no sound"):
        heard([str(tmp_path / "c.wav")], tmp_path / "none.txt")
    assert not (tmp_path / "none.txt").exists()


def test_what_comes_before_a_damage_is_transcribed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, rate: int, seconds: float) -> Iterator[np.ndarray]:
        yield sound(1, 2)
        raise DataError(f"{path} is damaged from second 4.00 on.")

    monkeypatch.setattr(listening, "sound_blocks", broken)
    with pytest.raises(DataError, match="a.wav is damaged from second 4.00 on"):
        heard([put(tmp_path / "a.wav", 1)], tmp_path / "out.json")
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row["text"] == "P1 P2"
    assert row["notes"] == [f"{tmp_path}/a.wav is damaged from second 4.00 on."]


def test_a_recognizer_that_fails_once_does_not_hold_up_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "POOL", 0.5)
    works = FakeRecognizer()

    def recognize(pieces: list[np.ndarray], names: list[str]) -> list[list[Word]]:
        words = works(pieces, names)
        if words[0][0].text == "P2":
            raise EightBitError("there is no memory for this.")
        return words

    for index in (1, 2, 3):
        put(tmp_path / f"{index}.wav", index)
    with pytest.raises(TaskError, match="1 of 3 failed: there is no memory"):
        heard([str(tmp_path)], tmp_path / "out.txt", recognize)
    assert (tmp_path / "out.txt").read_text() == "P1\nP3\n"


def test_ctrl_c_keeps_what_was_heard_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = listening.sound_blocks

    def interrupted(path: Path, rate: int, seconds: float) -> Iterator[np.ndarray]:
        yield from real(path, rate, seconds)
        if path.name == "b.wav":
            raise KeyboardInterrupt

    monkeypatch.setattr(listening, "sound_blocks", interrupted)
    put(tmp_path / "a.wav", 1)
    put(tmp_path / "b.wav", 2)
    with pytest.raises(KeyboardInterrupt):
        heard([str(tmp_path)], tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "P1\n"


# ----------------------------------------------------------------- standard input, microphone


def stdin(content: bytes) -> Any:
    return SimpleNamespace(buffer=SimpleNamespace(read=lambda: content))


def test_standard_input_is_a_sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stdin", stdin(wav_bytes(sound(5), RATE)))
    assert heard(["-"], tmp_path, format="srt")[0] == "standard input: P5  (88%)"
    assert (tmp_path / "standard-input.srt").exists()
    monkeypatch.setattr("sys.stdin", stdin(b""))
    with pytest.raises(DataError, match="standard input"):
        heard(["-"])


def microphone(monkeypatch: pytest.MonkeyPatch, samples: np.ndarray, end: Exception | Any) -> None:
    def blocks(rate: int) -> Iterator[np.ndarray]:
        for at in range(0, len(samples), rate // 10):
            yield samples[at : at + rate // 10]
        raise end

    monkeypatch.setattr(listening, "microphone_blocks", blocks)


def test_the_microphone_is_told_piece_by_piece_until_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoken = sound(1, 2, 3)[: -round(GAP * RATE)]  # Ctrl-C comes in the third word
    microphone(monkeypatch, spoken, KeyboardInterrupt())
    recognize = FakeRecognizer()
    said = heard(["microphone"], tmp_path / "out.json", recognize)
    assert said[0] == "microphone: listening until Ctrl-C"
    assert [line.split()[1] for line in said[1:4]] == ["P1", "P2", "P3"]
    assert [len(batch) for batch in recognize.batches] == [1, 1, 1]
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row["file"] == "microphone" and row["text"] == "P1 P2 P3"


def test_ctrl_c_while_a_piece_is_recognised_keeps_the_ones_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    microphone(monkeypatch, sound(1, 2, 3), KeyboardInterrupt())
    works = FakeRecognizer()

    def recognize(pieces: list[np.ndarray], names: list[str]) -> list[list[Word]]:
        if len(works.batches) == 2:
            raise KeyboardInterrupt
        return works(pieces, names)

    heard(["microphone"], tmp_path / "out.txt", recognize)
    assert (tmp_path / "out.txt").read_text() == "P1 P2\n"


def test_a_missing_microphone_is_one_sentence_and_a_lost_one_keeps_the_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    microphone(monkeypatch, np.zeros(0), EightBitError("no microphone was found; connect one."))
    with pytest.raises(EightBitError, match="no microphone was found"):
        heard(["microphone"], tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()
    microphone(monkeypatch, sound(1), EightBitError("the microphone is gone."))
    with pytest.raises(EightBitError, match="is gone"):
        heard(["microphone"], tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "P1\n"
