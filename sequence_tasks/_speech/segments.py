"""Cuts sound of any length into pieces of speech while it comes in, and tells what ails it.

Where speech is, is told by two thresholds on the level, as in Rabiner and Sambur (1975), "An
algorithm for determining the endpoints of isolated utterances"; here they follow the background,
which is the level that a tenth of the last eight seconds lies below.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ...errors import UsageError

PAUSE = 0.4
"""seconds of quiet that end a piece of speech, and so what a microphone's piece waits for"""
PAD = 0.2
"""seconds kept before and after the speech; twice this is at most `PAUSE`, so pieces never meet"""
SHORTEST = 0.1
"""seconds; what is shorter is a click"""
LONGEST = 15.0
"""seconds of a piece, unless told"""
SILENCE = 1e-3
"""largest sample, -60 dB below full scale, of a sound that counts as silent"""

_FRAME = 0.01  # seconds that a level is measured over
_MEMORY = 800  # frames that the background is estimated from
_SOFT, _LOUD = 6, 10  # dB above the background: belongs to speech; only speech is so loud
_LOUD_FRAMES = 5  # at least, in a piece: 50 ms
_LEAD = 50  # frames that soft sound, like an S, may come before the first loud one
_GAP = 5  # frames below the soft threshold that it may be broken for
_BOTTOM = -120  # dB of digital silence
_DEAD = -90  # dB; lower is no room's level: a gate, a cut or an encoder put zeros there
_QUIET_ROOM = -75  # dB that dead frames count as, and that is believed of the background at first
_PRIOR = 20  # frames of `_QUIET_ROOM` before the first one; they decide for 1.8 s
_BLOCK = 10  # seconds handled at once, however long the blocks are
_FULL_SCALE = 0.99  # of 1; the highest value of 8 bits is 127 / 128
_CLIPPED_NOTE = 1e-3  # share of clipped samples that is worth a note


@dataclass(frozen=True)
class Segment:
    """A piece of speech.

    Attributes:
        start, end: in seconds from the beginning of the sound; `end` is exclusive.
        samples: float32 (n,), n = (end - start) * rate.
    """

    start: float
    end: float
    samples: np.ndarray


def cut_at_silence(
    blocks: Iterable[np.ndarray],
    rate: int,
    longest: float = LONGEST,
    pause: float = PAUSE,
    pad: float = PAD,
) -> Iterator[Segment]:
    """The pieces of speech of a sound, in order; none where it is silent.

    A piece is given out as soon as `pause` seconds of quiet follow it. No more of the sound is
    held than a piece and a block of ten seconds. Where the blocks end has no influence.

    Args:
        blocks: float (n,) in [-1, 1], of any sizes, that follow each other.
        rate: samples a second.
        longest: seconds of a piece; a longer one is cut at the quietest place of its second half.
        pause: seconds of quiet that end a piece.
        pad: seconds kept on both sides of the speech; at most half of `pause`.

    Yields:
        Pieces that do not overlap. What is loud for less than 0.1 s is left out.

    Raises:
        UsageError: `longest` is below a second.
    """
    check_longest(longest)
    if not 0 <= 2 * pad <= pause:
        raise ValueError(f"a pad of {pad} s does not fit a pause of {pause} s twice")
    cutter = _Cutter(rate, longest, pause, pad)
    for block in blocks:
        for at in range(0, len(block), _BLOCK * rate):
            yield from cutter.add(block[at : at + _BLOCK * rate])
    yield from cutter.end()


def check_longest(seconds: float) -> None:
    """Refuses a longest piece that is too short for words; raises UsageError."""
    if not seconds >= 1:
        raise UsageError(f"the longest piece is {seconds:g} s; it must be 1 s or longer.")


class _Background:
    """The level of what goes on behind the speech, in whole dB."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque([_QUIET_ROOM] * _PRIOR)
        self._counts = [0] * (1 - _BOTTOM)  # by level, from _BOTTOM to 0
        self._counts[_QUIET_ROOM - _BOTTOM] = _PRIOR
        self._heard = 0
        self.level = _QUIET_ROOM

    def add(self, level: int) -> None:
        """Takes a frame's level in."""
        if level < _DEAD:
            level = _QUIET_ROOM
        self._recent.append(level)
        self._counts[level - _BOTTOM] += 1
        if len(self._recent) > _MEMORY:
            self._counts[self._recent.popleft() - _BOTTOM] -= 1
        self._heard += 1
        if self._heard % 10 == 0:
            cumulated = accumulate(self._counts)
            wanted = len(self._recent) / 10
            self.level = next(k for k, below in enumerate(cumulated, _BOTTOM) if below >= wanted)


class _Cutter:
    """The state between two frames; all positions count frames, or samples where they say so."""

    def __init__(self, rate: int, longest: float, pause: float, pad: float) -> None:
        self._rate = rate
        self._frame = max(1, round(rate * _FRAME))
        self._longest = math.floor(longest * rate / self._frame)
        self._pause = math.ceil(pause * rate / self._frame)
        self._pad = math.floor(pad * rate / self._frame)
        self._shortest = math.ceil(SHORTEST * rate / self._frame)
        self._background = _Background()
        self._samples = np.zeros(0, np.float32)  # held; the first is sample `_held`
        self._held = 0
        self._parts: list[np.ndarray] = []  # not yet a frame
        self._now = 0  # the next frame
        self._free = 0  # where the next piece may begin at the earliest
        self._soft_since = self._soft_last = -_GAP - 1
        self._begin: int | None = None  # of the piece that is being spoken
        self._levels: list[int] = []  # since `_begin`

    def add(self, block: np.ndarray) -> Iterator[Segment]:
        """Hears a block."""
        self._parts.append(np.nan_to_num(np.asarray(block, np.float32), posinf=1.0, neginf=-1.0))
        waiting = sum(map(len, self._parts))
        if waiting < self._frame:
            return
        fresh = np.concatenate(self._parts)
        whole = waiting // self._frame * self._frame
        self._parts = [fresh[whole:]]
        self._samples = np.concatenate([self._samples, fresh[:whole]])
        for level in _levels(fresh[:whole].reshape(-1, self._frame)):
            piece = self._hear(level)
            if piece is not None:
                yield piece
        begin = self._now - _LEAD if self._begin is None else self._begin
        keep = max(begin - self._pad, self._free) * self._frame - self._held
        if keep > 0:
            self._samples = self._samples[keep:].copy()
            self._held += keep

    def end(self) -> Iterator[Segment]:
        """The sound is over."""
        rest = np.concatenate([*self._parts, np.zeros(0, np.float32)])
        if len(rest):
            self._samples = np.concatenate([self._samples, rest])
            last = self._hear(_levels(rest[None])[0])
            if last is not None:
                yield last
        if self._begin is not None:
            last = self._give(self._now)
            if last is not None:
                yield last

    def _hear(self, level: int) -> Segment | None:
        """Takes the next frame's level in; the piece that it ends."""
        now = self._now
        self._now += 1
        background = self._background
        background.add(level)
        soft = level > background.level + _SOFT
        if soft:
            if now - self._soft_last > _GAP:
                self._soft_since = now
            self._soft_last = now
        if self._begin is None:
            if level <= background.level + _LOUD:
                return None
            self._begin = max(self._soft_since, now - _LEAD, self._free)
            # What came before the first loud frame was soft; the gaps in it make no difference.
            self._levels = [background.level + _SOFT + 1] * (now - self._begin)
        self._levels.append(level)
        if now - self._soft_last >= self._pause:
            piece = self._give(self._now)
            self._begin = None
            return piece
        if self._now - max(self._begin - self._pad, self._free) >= self._longest:
            return self._cut()
        return None

    def _cut(self) -> Segment | None:
        """Gives out the piece up to its quietest place and goes on after that."""
        assert self._begin is not None
        half = len(self._levels) // 2
        near = np.convolve(self._levels, np.ones(2 * _GAP + 1), "same")[half:-_GAP]
        at = half + int(np.argmin(near)) if len(near) else len(self._levels)
        cut, after = self._begin + at, self._levels[at:]
        piece = self._give(cut)
        self._free = cut
        self._soft_since = max(self._soft_since, cut)
        if any(level > self._background.level + _LOUD for level in after):
            self._begin, self._levels = cut, after
        else:
            self._begin = None
        return piece

    def _give(self, limit: int) -> Segment | None:
        """The piece that is being spoken, up to frame `limit`, if speech is in it."""
        assert self._begin is not None
        background = self._background.level
        levels = np.array(self._levels[: limit - self._begin])
        soft = np.flatnonzero(levels > background + _SOFT)
        loud = np.count_nonzero(levels > background + _LOUD)
        if loud < _LOUD_FRAMES or soft[-1] + 1 - soft[0] < self._shortest:
            return None
        first = max(self._begin + int(soft[0]) - self._pad, self._free)
        end = min(self._begin + int(soft[-1]) + 1 + self._pad, limit)
        start = first * self._frame
        samples = self._samples[start - self._held : end * self._frame - self._held]
        if np.abs(samples).max() < SILENCE:
            return None
        self._free = end
        stop = start + len(samples)
        return Segment(start / self._rate, stop / self._rate, samples.copy())


def _levels(frames: np.ndarray) -> list[int]:
    """Level of each frame (n, samples) in dB below full scale, without a constant offset."""
    power = frames.astype(np.float64).var(axis=1)
    decibels = 10 * np.log10(np.maximum(power, 10 ** (_BOTTOM / 10)))
    return np.clip(np.floor(decibels), _BOTTOM, 0).astype(int).tolist()


# ------------------------------------------------------------------------------------- facts


@dataclass(frozen=True)
class SoundFacts:
    """What is known of a sound beside its words.

    Attributes:
        samples: how many it has.
        peak: its largest absolute sample.
        clipped: share of its samples in [0, 1] that stand at full scale, three or more in a row.
    """

    samples: int
    peak: float
    clipped: float

    @property
    def silent(self) -> bool:
        """Whether its peak is more than 60 dB below full scale."""
        return self.peak < SILENCE

    def notes(self) -> tuple[str, ...]:
        """What a reader of its transcript should know; nothing where the sound is fine."""
        if self.silent:
            peak = f"{20 * math.log10(self.peak):.0f} dB" if self.peak > 0 else "zero"
            return (f"silent: its peak is {peak}",)
        if self.clipped >= _CLIPPED_NOTE:
            return (f"clipped: {self.clipped:.1%} of its samples stand at full scale",)
        return ()


class Gauge:
    """Measures a sound that comes in blocks."""

    def __init__(self) -> None:
        self._samples = self._clipped = self._run = 0
        self._peak = 0.0

    def add(self, block: np.ndarray) -> None:
        """Takes float samples (n,) in."""
        if not len(block):
            return
        size = np.abs(np.nan_to_num(block, posinf=1.0, neginf=-1.0))
        self._samples += len(size)
        self._peak = max(self._peak, float(size.max()))
        full = np.concatenate([[False], size >= _FULL_SCALE, [False]])
        edges = np.flatnonzero(full[1:] != full[:-1]).reshape(-1, 2)
        runs = edges[:, 1] - edges[:, 0]
        if not full[1]:
            self._run = 0
        elif self._run >= 3:  # the run's beginning was counted with the block before
            self._clipped += int(runs[0]) if runs[0] < 3 else 0
        elif self._run + runs[0] >= 3:
            self._clipped += self._run + (int(runs[0]) if runs[0] < 3 else 0)
        self._clipped += int(runs[runs >= 3].sum())
        whole = len(runs) and runs[-1] == len(size)
        self._run = (self._run if whole else 0) + (int(runs[-1]) if full[-2] else 0)

    def facts(self) -> SoundFacts:
        """What was found up to here."""
        return SoundFacts(self._samples, self._peak, self._clipped / max(1, self._samples))
