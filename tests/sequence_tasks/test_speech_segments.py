"""Cutting at silences: against sounds whose speech is known, and as it comes in blocks."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.datasets.sounds import read_sound
from eightbit.errors import UsageError
from eightbit.sequence_tasks._speech.segments import (
    PAD,
    PAUSE,
    Gauge,
    Segment,
    SoundFacts,
    _Cutter,
    cut_at_silence,
)

RATE = 8000
DIGITS = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "fsdd" / "recordings.zip"


def sound_facts(samples: np.ndarray) -> SoundFacts:
    gauge = Gauge()
    gauge.add(samples)
    return gauge.facts()


def noise(rng: np.random.Generator, seconds: float, decibels: float) -> np.ndarray:
    size = round(seconds * RATE)
    return rng.normal(0, 10 ** (decibels / 20), size).astype(np.float32)


def voice(rng: np.random.Generator, seconds: float, decibels: float = -20) -> np.ndarray:
    """A tone with overtones whose loudness rises and falls four times a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 120 * k * time + k) / k for k in range(1, 9))
    swing = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time + 1)
    return (10 ** (decibels / 20) * tone * swing).astype(np.float32)


def scene(rng: np.random.Generator, parts: list[float], background: float = -60) -> np.ndarray:
    """Silence and voice in turn, for so many seconds each, before a noise."""
    sounds = [
        voice(rng, length) if index % 2 else np.zeros(round(length * RATE), np.float32)
        for index, length in enumerate(parts)
    ]
    whole = np.concatenate(sounds)
    return whole + noise(rng, len(whole) / RATE, background)[: len(whole)]


def pieces(sound: np.ndarray, size: int = 0, **how: float) -> list[Segment]:
    size = size or max(1, len(sound))
    blocks = [sound[at : at + size] for at in range(0, len(sound), size)]
    return list(cut_at_silence(blocks, RATE, **how))


# ------------------------------------------------------------------------------------ places


@pytest.mark.parametrize("background", [-110, -60, -45])
def test_speech_between_silences_is_found_with_its_pads(
    background: float, rng: np.random.Generator
) -> None:
    parts = [3.0, 1.0, 0.7, 2.0, 1.5, 0.4, 2.0]
    edges = np.cumsum(parts)
    found = pieces(scene(rng, parts, background))
    assert len(found) == 3
    for one, begin, end in zip(found, edges[0::2], edges[1::2], strict=False):
        assert begin - PAD - 0.12 < one.start < begin - PAD + 0.12
        assert end + PAD - 0.12 < one.end < end + PAD + 0.12
        assert one.samples.dtype == np.float32
        assert len(one.samples) == round((one.end - one.start) * RATE)


def test_samples_are_those_of_the_sound_at_the_piece_s_time(rng: np.random.Generator) -> None:
    sound = scene(rng, [1, 1, 1, 3, 1, 20, 1])
    for one in pieces(sound, 3001, longest=5):
        begin = round(one.start * RATE)
        assert np.array_equal(one.samples, sound[begin : begin + len(one.samples)])


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 99),
    parts=st.lists(st.floats(0.02, 2.0), min_size=1, max_size=5),
    cuts=st.lists(st.floats(0, 1), max_size=12),
    size=st.integers(37, 9000),
    longest=st.floats(1, 4),
)
def test_pieces_do_not_depend_on_the_blocks(
    seed: int, parts: list[float], cuts: list[float], size: int, longest: float
) -> None:
    sound = scene(np.random.default_rng(seed), parts)
    whole = pieces(sound, longest=longest)
    bounds = [0, *sorted(round(cut * len(sound)) for cut in cuts), len(sound)]
    uneven = [sound[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    for blocks in ([sound[at : at + size] for at in range(0, len(sound), size)], uneven):
        other = list(cut_at_silence(blocks, RATE, longest))
        assert [(one.start, one.end) for one in other] == [(one.start, one.end) for one in whole]
        for one, same in zip(other, whole, strict=True):
            assert np.array_equal(one.samples, same.samples)
    for before, after in zip(whole, whole[1:], strict=False):
        assert before.end <= after.start
    for one in whole:
        assert 0 <= one.start < one.end <= len(sound) / RATE
        assert one.end - one.start <= longest + 1e-9


def test_single_samples_are_blocks_too(rng: np.random.Generator) -> None:
    sound = scene(rng, [0.1, 0.3, 0.45, 0.2], -85)
    assert [one.start for one in pieces(sound, 1)] == [one.start for one in pieces(sound)]
    assert len(pieces(sound)) == 2


def test_what_is_longer_than_the_longest_is_cut_where_it_is_quiet(
    rng: np.random.Generator,
) -> None:
    lengths = [2.3, 2.9, 2.6, 2.4]
    sound = scene(rng, [1.0, lengths[0], 0.2, lengths[1], 0.2, lengths[2], 0.2, lengths[3], 1.0])
    found = pieces(sound, longest=3.5)
    assert len(found) == 4, "pauses of 0.2 s end no piece, but they are the quietest places"
    gaps = 1.0 + np.cumsum(lengths)[:3] + 0.2 * np.arange(3)
    for before, after, gap in zip(found, found[1:], gaps, strict=False):
        assert gap - 0.05 <= before.end <= after.start <= gap + 0.25
    covered = sum(one.end - one.start for one in found)
    assert covered > sum(lengths), "nothing that was said is lost"


def test_endless_noise_as_loud_as_speech_is_cut_without_a_gap(rng: np.random.Generator) -> None:
    sound = voice(rng, 20) + noise(rng, 20, -60)
    found = pieces(sound, longest=4)
    assert all(one.end == other.start for one, other in zip(found, found[1:], strict=False))
    assert found[0].start == 0 and found[-1].end == 20


def test_a_piece_comes_as_soon_as_the_pause_is_over(rng: np.random.Generator) -> None:
    parts = [2.5, 1.0, 3.0, 0.8, 3.0]
    sound = scene(rng, parts)
    fed = 0.0
    block = 80

    def live() -> Iterator[np.ndarray]:
        nonlocal fed
        for at in range(0, len(sound), block):
            fed = (at + block) / RATE
            yield sound[at : at + block]

    came = [(one.end - PAD, fed) for one in cut_at_silence(live(), RATE)]
    assert len(came) == 2
    for end, when in came:
        assert end + PAUSE - 0.021 <= when <= end + PAUSE + 0.021


# ------------------------------------------------------------------------------ what is left out


def test_silence_noise_clicks_and_faint_sound_give_no_piece(rng: np.random.Generator) -> None:
    assert pieces(np.zeros(0, np.float32)) == []
    assert pieces(np.zeros(5 * RATE, np.float32)) == []
    assert pieces(np.full(3 * RATE, 0.4, np.float32)) == [], "a constant is no sound"
    for level in (-70, -50, -30):
        assert pieces(noise(rng, 9, level)) == []
    click = noise(rng, 5, -60)
    click[3 * RATE : 3 * RATE + 300] += 0.8
    assert pieces(click) == [], "37 ms"
    faint = scene(rng, [2, 1, 2], -90) * 1e-3
    assert sound_facts(faint).silent and pieces(faint) == []


def test_a_recording_that_is_speech_from_end_to_end_is_one_piece(rng: np.random.Generator) -> None:
    for seconds in (0.15, 0.4, 3.0, 12.0):
        (one,) = pieces(voice(rng, seconds, -30))
        assert one.start == 0 and one.end == pytest.approx(seconds, abs=0.12)


def test_a_fan_that_starts_is_learnt_and_left_out(rng: np.random.Generator) -> None:
    quiet, loud = scene(rng, [2, 1, 3]), scene(rng, [14, 1, 3]) + noise(rng, 18, -42)
    found = pieces(np.concatenate([quiet, loud]))
    assert found[0].start == pytest.approx(1.8, abs=0.12)
    assert found[-1].start == pytest.approx(6 + 14 - PAD, abs=0.12)
    assert found[-1].end == pytest.approx(6 + 15 + PAD, abs=0.12)
    assert len(found) == 2, "the fan is no speech"


def test_an_offset_and_broken_samples_do_no_harm(rng: np.random.Generator) -> None:
    sound = scene(rng, [2, 1, 2])
    (one,) = pieces(sound)
    (same,) = pieces(sound + 0.3)
    assert (same.start, same.end) == (one.start, one.end)
    sound[100:110] = np.nan
    assert np.isfinite(np.concatenate([one.samples for one in pieces(sound)])).all()


def test_bad_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="the longest piece is 0.5 s; it must be 1 s or longer"):
        list(cut_at_silence([], RATE, longest=0.5))
    with pytest.raises(UsageError, match="the longest piece is nan s"):
        list(cut_at_silence([], RATE, longest=float("nan")))
    with pytest.raises(ValueError, match="does not fit"):
        list(cut_at_silence([], RATE, pause=0.2, pad=0.2))


def test_an_hours_long_sound_needs_no_more_memory(rng: np.random.Generator) -> None:
    cutter = _Cutter(RATE, 15.0, PAUSE, PAD)
    minute = scene(rng, [1, 40, 1, 3, 1, 2, 12])
    held = []
    for start in [*range(0, len(minute), RATE)] * 3:
        for _ in cutter.add(minute[start : start + RATE]):
            pass
        held.append(len(cutter._samples) / RATE)
    assert 14 < max(held) <= 16.5, "seconds: the longest piece and a block"
    assert max(held[60:120]) == max(held[120:])
    assert len(pieces(minute)) >= 5


# ----------------------------------------------------------------------------- real recordings


@pytest.fixture(scope="module")
def spoken() -> list[np.ndarray]:
    """Sixty digits of six speakers, cut tightly, as they come in the data set."""
    if not DIGITS.is_file():
        pytest.skip("set EIGHTBIT_DATA to a folder that holds fsdd")
    with zipfile.ZipFile(DIGITS) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".flac"))
        return [read_sound(archive.read(name), RATE).samples for name in names[7::50]]


@pytest.mark.parametrize("background", [None, -70.0])
def test_digits_glued_with_silence_come_out_one_by_one(
    spoken: list[np.ndarray], background: float | None, rng: np.random.Generator
) -> None:
    parts, times, at = [], [], 0.0
    for index, digit in enumerate(spoken):
        gap = 0.7 + 0.1 * (index % 4)
        parts += [np.zeros(round(gap * RATE), np.float32), digit]
        times.append((at + gap, at + gap + len(digit) / RATE))
        at += (len(parts[-2]) + len(digit)) / RATE
    sound = np.concatenate([*parts, np.zeros(RATE, np.float32)])
    if background is not None:
        sound = sound + noise(rng, len(sound) / RATE + 1, background)[: len(sound)]
    found = pieces(sound, 4000)
    single = sum(
        sum(one.start < end and one.end > begin for one in found) == 1 for begin, end in times
    )
    assert single >= 0.98 * len(times) and abs(len(found) - len(times)) <= 1
    alone = [len(pieces(digit)) for digit in spoken]
    assert min(alone) == 1 and sum(alone) <= 61, "and each by itself is a piece"


# --------------------------------------------------------------------------------------- facts


def brute_clipped(samples: np.ndarray) -> float:
    runs = "".join("x" if abs(one) >= 0.99 else " " for one in samples).split()
    return sum(len(run) for run in runs if len(run) >= 3) / max(1, len(samples))


@settings(max_examples=60, deadline=None)
@given(
    full=st.lists(st.booleans(), max_size=40),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
)
def test_clipped_runs_are_counted_across_blocks(full: list[bool], sizes: list[int]) -> None:
    samples = np.where(full, -1.0, 0.5).astype(np.float32)
    gauge, at = Gauge(), 0
    for size in sizes * 40:
        gauge.add(samples[at : at + size])
        at += size
    assert gauge.facts().clipped == pytest.approx(brute_clipped(samples))
    assert gauge.facts() == sound_facts(samples)
    assert gauge.facts().samples == len(samples)


def test_clipped_and_silent_sound_have_notes_and_others_none(rng: np.random.Generator) -> None:
    fine = voice(rng, 2, -14)
    assert sound_facts(fine).notes() == () and sound_facts(fine / abs(fine).max()).notes() == ()
    (note,) = sound_facts(np.clip(fine * 9, -1, 1)).notes()
    assert note.startswith("clipped: ") and note.endswith("% of its samples stand at full scale")
    assert sound_facts(fine * 1e-4).notes()[0].startswith("silent: its peak is -")
    assert sound_facts(np.zeros(9, np.float32)).notes() == ("silent: its peak is zero",)
    assert sound_facts(np.zeros(0, np.float32)).samples == 0
    eight_bits = np.round(np.clip(fine * 9, -1, 127 / 128) * 128) / 128
    assert sound_facts(eight_bits).notes(), "the highest value of 8 bits"
