"""The sound of the Atari 2600: the audio half of its TIA chip, from six registers to PCM.

Facts, and where they stand:

- The audio clock ticks twice a scanline, once in 114 colour clocks. The colour clock is
  3,579,545 Hz on NTSC (the colour subcarrier) and 3,546,894 Hz on PAL consoles (E. Stolberg,
  Stella mailing list, November 2003), so there are 31,399.5 or 31,113.1 ticks a second; the
  Stella Programmer's Guide says "approximately 30 KHz".
- A voice counts ticks to AUDF, 0 to 31, then pulses and counts anew: it divides by AUDF + 1. The
  counter is compared for equality, so below its present value it first runs round to 32.
- A pulse moves a register of nine bits C0..C8 of which C8 is heard. C0..C4 is the 5-bit counter
  (x^5 + x^3 + 1) and C5..C8 the 4-bit one (x^4 + x^3 + 1), each with a way out of all zeros. Bits
  0-1 of AUDC say when the second part is clocked (always, always, in two of the 31 states of the
  first at distances of 13 and 18 pulses, while C4 is set), and 00 chains both to nine bits
  (x^9 + x^5 + 1); bits 2-3 say what is shifted in (4-bit counter, inverse of C5, C4, or a
  six-step ring). The equations are those of the schematic, as read in jigo2600's TIA_Sound.md.
- So AUDC (the Programmer's Guide's table; it calls 2 "div 15", half of 31) gives, in pulses:

      AUDC    waveform               period    AUDC    waveform               period
      0, 11   constant 1                  1    7, 9    5-bit noise                31
      1       4-bit noise                15    8       9-bit noise               511
      2       4-bit noise by div 31     465    12, 13  div 6, a square             6
      3       4-bit noise by 5-bit      465    14      div 6 by div 31            93
      4, 5    div 2, a square             2    15      div 6 by 5-bit             93
      6, 10   div 31, 13 to 18           31

- The waveforms 1, 7, 8, 9 and 15 equal those that A. Wozniak recorded from an Atari 7800, which
  holds the same chip (Stella mailing list, November and December 2003); the tests compare them.
- A voice is AUDV times the bit heard, 0 to 15, and the two are added. The chip itself mixes a
  little less than linearly when both voices are loud, which is left out. Like the chip's output,
  the PCM is never negative: 0 is silence.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import UsageError

_COLOUR_CLOCK_NTSC, _COLOUR_CLOCK_PAL = 3_579_545, 3_546_894  # Hz
_COLOUR_CLOCKS_PER_TICK = 114
_PCM_PER_VOLUME = 1000  # two voices at volume 15 are 30,000 of int16's 32,767
_HEARD = 8  # C8

_VOICES = 2


def _successors() -> np.ndarray:
    """The register C8..C0 after a pulse, (16 values of AUDC, 512 registers) uint16."""
    control, register = np.arange(16)[:, None], np.arange(512)[None, :]
    c = [(register >> place) & 1 for place in range(9)]
    five, four = register & 31, register >> 5
    clocking, shape = control & 3, control >> 2
    chained = clocking == 0
    feedback = np.where(chained, c[8], c[2]) ^ c[4]
    stuck = (five == 0) & (~chained | (four == 0))
    new_five = ((five << 1) & 31) | feedback | stuck | (control == 0)
    clocked = np.select([clocking == 2, clocking == 3], [(five & 15) == 8, c[4] == 1], True)
    shifted_in = np.select(
        [control == 0, shape == 0, shape == 1, shape == 2],
        [1, (c[7] ^ c[8]) | (four == 0), 1 - c[5], c[4]],
        (1 - c[7]) | ((four & 7) == 5),
    )
    new_four = np.where(clocked, ((four << 1) & 15) | shifted_in, four)
    return ((new_four << 5) | new_five).astype(np.uint16)


class SoundChip:
    """Turns the sound registers of each frame into PCM; what it renders joins without a seam.

    The registers of a row hold for its whole frame. All positions are whole numbers or fractions
    of them: rendering in pieces gives what rendering at once gives, on every machine.

    Attributes:
        sample_rate: samples per second.

    Args:
        frame_rate: frames per second at which the PCM is played, whatever the game's scanlines.
        sample_rate: samples per second.
        pal: the clock of a PAL console; NTSC otherwise.

    Raises:
        UsageError: a rate that is not above 0.
    """

    def __init__(self, frame_rate: float, sample_rate: int = 44_100, pal: bool = False):
        if not (frame_rate > 0 and sample_rate > 0):
            raise UsageError(
                f"sound at {frame_rate} frames and {sample_rate} samples per second is not "
                "possible: both rates must be above 0."
            )
        self.sample_rate = sample_rate
        colour_clock = _COLOUR_CLOCK_PAL if pal else _COLOUR_CLOCK_NTSC
        clock = Fraction(colour_clock, _COLOUR_CLOCKS_PER_TICK)
        self._ticks_per_frame = clock / Fraction(frame_rate)
        self._ticks_per_sample = clock / sample_rate
        self._samples_per_frame = sample_rate / Fraction(frame_rate)
        self._block = int(frame_rate) + 1  # frames that are rendered together: about a second
        # The registers 1, 2, 4, ... pulses later.
        self._jumps = [_successors()]
        while 2 ** len(self._jumps) <= self._ticks_per_frame + 1:
            last = self._jumps[-1]
            self._jumps.append(np.take_along_axis(last, last.astype(np.intp), axis=1))
        self._frames = 0
        self._counters = [0] * _VOICES
        self._registers = [0] * _VOICES
        self._rest = np.zeros(0, np.int64)  # levels of the ticks after the last whole sample

    def render(self, registers: np.ndarray) -> np.ndarray:
        """Plays frames.

        Args:
            registers: (frames, 6) uint8: AUDC0, AUDC1, AUDF0, AUDF1, AUDV0, AUDV1; bits that the
                chip lacks are ignored.

        Returns:
            (samples,) int16, mono, 0 to 30,000: after n frames in all, n * sample_rate /
            frame_rate samples, rounded down.

        Raises:
            UsageError: registers of another shape or type.
        """
        if registers.ndim != 2 or registers.shape[1] != 3 * _VOICES or registers.dtype != np.uint8:
            raise UsageError(
                f"sound registers are (frames, 6) uint8, not {registers.shape} {registers.dtype}."
            )
        starts = range(0, len(registers), self._block)
        pieces = [self._render_block(registers[start : start + self._block]) for start in starts]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)

    def get_state(self) -> dict[str, Any]:
        """Where the sound stands: whole numbers and lists of them, fit for JSON."""
        return {
            "frames": self._frames,
            "counters": list(self._counters),
            "registers": list(self._registers),
            "rest": self._rest.tolist(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` of a chip with the same rates returned."""
        self._frames = int(state["frames"])
        self._counters = [int(counter) for counter in state["counters"]]
        self._registers = [int(register) for register in state["registers"]]
        self._rest = np.array(state["rest"], np.int64)

    def _render_block(self, registers: np.ndarray) -> np.ndarray:
        """What `render` says, for so few frames that every tick fits into memory."""
        first_sample = _floor(self._frames * self._samples_per_frame)
        numbers = range(self._frames, self._frames + len(registers) + 1)
        # A tick that two frames share belongs to the first: no sample ends beyond its ticks.
        edges = [-_floor(-number * self._ticks_per_frame) for number in numbers]
        origin = edges[0] - len(self._rest)
        levels = np.zeros(edges[-1] - origin, np.int64)
        levels[: len(self._rest)] = self._rest
        masked = (registers & np.repeat(np.array([15, 31, 15], np.uint8), _VOICES)).tolist()
        for row, start, stop in zip(masked, edges[:-1], edges[1:], strict=True):
            for voice in range(_VOICES):
                self._play(voice, row[voice::_VOICES], levels[start - origin : stop - origin])
        self._frames += len(registers)
        count = _floor(self._frames * self._samples_per_frame) - first_sample
        return self._resample(levels, first_sample, count, origin)

    def _play(self, voice: int, settings: list[int], levels: np.ndarray) -> None:
        """Adds a voice to levels (ticks,) int64 and moves it on.

        Args:
            voice: 0 or 1.
            settings: AUDC, AUDF and AUDV.
            levels: 0 to 30 in units of the volume.
        """
        control, divider, volume = settings
        register, ticks, period = self._registers[voice], len(levels), divider + 1
        first = (divider - self._counters[voice]) & 31  # tick of the first pulse
        levels[:first] += volume * (register >> _HEARD)
        if first >= ticks:
            self._counters[voice] = (self._counters[voice] + ticks) & 31
            return
        pulses = 1 + (ticks - 1 - first) // period
        path = self._follow(control, register, pulses)
        if volume:
            heard = (path >> _HEARD) * np.uint16(volume)
            levels[first:] += np.repeat(heard, period)[: ticks - first]
        self._counters[voice] = (ticks - 1 - first) % period
        self._registers[voice] = int(path[-1])

    def _follow(self, control: int, register: int, pulses: int) -> np.ndarray:
        """The registers after each of `pulses` pulses, (pulses,) uint16."""
        path = np.empty(pulses, np.uint16)
        path[0] = self._jumps[0][control, register]
        known = 1
        for jump in self._jumps:
            path[known : 2 * known] = jump[control].take(path[: min(known, pulses - known)])
            known *= 2
            if known >= pulses:
                break
        return path

    def _resample(
        self, levels: np.ndarray, first_sample: int, count: int, origin: int
    ) -> np.ndarray:
        """The mean level over the time of each sample, (count,) int16; keeps the ticks after it.

        Args:
            levels: (ticks,) int64, from tick `origin` on.
            first_sample: number of the first sample.
            count: of samples.
            origin: number of the first tick.
        """
        # Exact whole numbers: time in 1/parts of a tick, `length` of them a sample.
        length, parts = self._ticks_per_sample.as_integer_ratio()
        edges = first_sample * length - origin * parts + length * np.arange(count + 1)
        ticks, beyond = edges // parts, edges % parts
        areas = np.concatenate([[0], np.cumsum(levels)])[ticks] * parts
        areas += np.append(levels, 0)[ticks] * beyond
        sums = np.diff(areas) * _PCM_PER_VOLUME
        self._rest = levels[ticks[-1] :].copy()
        return ((2 * sums + length) // (2 * length)).astype(np.int16)


def _floor(value: Fraction) -> int:
    return value.numerator // value.denominator
