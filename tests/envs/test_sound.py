"""Sound: pitches follow the formulas of the chip, waveforms are those recorded from a console."""

import json
from itertools import pairwise

import numpy as np
import pytest

from eightbit.envs.sound import SoundChip
from eightbit.errors import UsageError

NTSC, PAL = 3_579_545 / 114, 3_546_894 / 114
RATE = 44_100

# Periods in pulses, from the lengths of the counters: 15, 31 and 511 states; the two pulses that
# the 5-bit counter lets through in 31, or its 16 ones, meet 2, 6 or 15 states.
PERIODS = [1, 15, 465, 465, 2, 2, 31, 31, 511, 31, 31, 1, 6, 6, 93, 93]

# Recorded from a console at AUDC 1, 9 and (the first 105 of 511) 8, and the lengths of the runs
# at AUDC 15: Adam Wozniak, Stella mailing list, 17 November and 5 December 2003.
RECORDED = {
    1: "000011101100101",
    7: "1111011010011000001110010001010",
    9: "1111011010011000001110010001010",
    8: "11111111011110111001111011000110101"
    "01001111001000010110010001101110101"
    "11101010010110000001001101101101001",
}
RUNS_15 = [5, 6, 4, 5, 10, 5, 3, 7, 4, 10, 6, 3, 6, 4, 9, 6]


def rows(frames, control=(0, 0), divider=(0, 0), volume=(0, 0)):
    return np.tile(np.array([*control, *divider, *volume], np.uint8), (frames, 1))


def tone(control, divider, seconds=4, pal=False):
    """A voice alone at full volume; the first second, in which it finds its way, is left out."""
    chip = SoundChip(50.0 if pal else 60.0, pal=pal)
    frames = (seconds + 1) * (50 if pal else 60)
    return chip.render(rows(frames, (control, 0), (divider, 0), (15, 0)))[RATE:]


def heard(control, pulses):
    """The bits heard after each of `pulses` pulses, once the start is over."""
    skipped = 64
    length = int((skipped + pulses + 2) * 32 / NTSC * 60) + 1
    pcm = SoundChip(60.0).render(rows(length, (control, 0), (31, 0), (15, 0)))
    middles = (np.arange(skipped, skipped + pulses) * 32 + 16 + 31) / NTSC * RATE
    levels = pcm[middles.astype(int)]
    assert set(levels.tolist()) <= {0, 15_000}
    return (levels > 0).astype(int)


def period_of(bits):
    return next(n for n in range(1, len(bits)) if np.array_equal(bits[n:], bits[:-n]))


def runs_of(bits):
    """Lengths of equal bits in one period, which begins at a change."""
    period = period_of(bits)
    changes = np.flatnonzero(np.diff(bits)) + 1
    return [b - a for a, b in pairwise(changes[changes <= changes[0] + period].tolist())]


def is_rotation(found, expected):
    doubled = list(expected) * 2
    return len(found) == len(expected) and any(
        doubled[i : i + len(found)] == list(found) for i in range(len(expected))
    )


def strongest_frequency(pcm):
    """Of the spectrum's highest peak, in Hz, between the lines by a parabola."""
    spectrum = np.abs(np.fft.rfft((pcm - pcm.mean()) * np.hanning(len(pcm))))
    top = int(spectrum.argmax())
    before, at, after = np.log(spectrum[top - 1 : top + 2])
    return (top + 0.5 * (before - after) / (before - 2 * at + after)) * RATE / len(pcm)


class Gates:
    """One voice of the schematic, tick by tick, newest bits on the right."""

    def __init__(self):
        self.counter, self.five, self.four = 0, [0] * 5, [0] * 4

    def tick(self, control, divider):
        """Returns the bit heard during this tick."""
        pulse = self.counter == divider
        self.counter = 0 if pulse else (self.counter + 1) % 32
        if pulse:
            self.pulse(control)
        return self.four[0]

    def pulse(self, control):
        (a, _, b, c, d), (p, q, r, s) = self.five, self.four
        low, high = control % 4, control // 4
        empty = not any(self.five) and (low or not any(self.four))
        fed_back = 1 if control == 0 or empty else a ^ (b if low else p)
        # The ring has six states; the two others lead into it.
        ring = {0: 1, 1: 1, 3: 1, 7: 0, 6: 0, 4: 0, 2: 1, 5: 1}[q * 4 + r * 2 + s]
        sources = [1 if not any(self.four) else p ^ q, 1 - s, a, ring]
        shifted_in = 1 if control == 0 else sources[high]
        moves = {2: [self.five[1], b, c, d] == [1, 0, 0, 0], 3: a == 1}.get(low, True)
        self.five = [*self.five[1:], fed_back]
        if moves:
            self.four = [q, r, s, shifted_in]


@pytest.mark.parametrize("divider", [3, 4, 11, 17, 31])
@pytest.mark.parametrize(
    ("control", "divided_by"), [(4, 2), (5, 2), (6, 31), (10, 31), (12, 6), (13, 6), (14, 93)]
)
def test_pure_tones_have_the_pitch_of_the_formula(control, divided_by, divider):
    expected = NTSC / divided_by / (divider + 1)
    assert strongest_frequency(tone(control, divider)) == pytest.approx(expected, rel=1e-3)


def test_the_highest_tone_and_a_pal_console_have_the_pitch_of_the_formula():
    assert strongest_frequency(tone(4, 0)) == pytest.approx(NTSC / 2, rel=1e-4)
    assert strongest_frequency(tone(12, 7, pal=True)) == pytest.approx(PAL / 6 / 8, rel=1e-4)


@pytest.mark.parametrize("control", [1, 2, 3, 7, 8, 9, 15])
@pytest.mark.parametrize("divider", [8, 31])
def test_noise_repeats_after_the_time_of_the_formula(control, divider):
    period = PERIODS[control] * (divider + 1) / NTSC * RATE  # in samples
    lag = period * max(round(8000 / period), 1)
    pcm = tone(control, divider).astype(float)
    width = round(lag * 0.005)
    lags = np.arange(round(lag) - width, round(lag) + width + 1)
    differences = [np.abs(pcm[lag:] - pcm[:-lag]).mean() for lag in lags.tolist()]
    assert lags[int(np.argmin(differences))] == pytest.approx(lag, abs=1)
    assert min(differences) < 0.2 * max(differences)


@pytest.mark.parametrize("control", range(16))
def test_every_waveform_has_its_period(control):
    assert period_of(heard(control, 1100)) == PERIODS[control]


@pytest.mark.parametrize("control", sorted(RECORDED))
def test_noise_is_the_one_recorded_from_a_console(control):
    recorded = np.array([int(bit) for bit in RECORDED[control]])
    bits = heard(control, 1100)
    windows = np.lib.stride_tricks.sliding_window_view(bits, len(recorded))
    same = (windows == recorded).all(axis=1) | (windows == 1 - recorded).all(axis=1)
    assert same.sum() in (1100 // PERIODS[control], 1100 // PERIODS[control] - 1)


def test_mode_15_has_the_runs_recorded_from_a_console():
    assert is_rotation(runs_of(heard(15, 400)), RUNS_15)


def test_the_divided_waveforms_follow_from_the_recorded_counters():
    assert runs_of(heard(4, 100)) == [1, 1]
    assert runs_of(heard(12, 100)) == [3, 3]
    for control in (6, 10):
        assert is_rotation(runs_of(heard(control, 100)), [13, 18])
    assert is_rotation(runs_of(heard(14, 400)), [13 + 18 + 13, 18 + 13 + 18])
    four = [int(bit) for bit in RECORDED[1]] * 32
    by_div_31 = np.repeat(four[:30], [13, 18] * 15)
    # The console inverts what is heard: the 4-bit counter moves where the recording is 0.
    moves = np.cumsum([1 - int(bit) for bit in RECORDED[9]] * 15)
    by_five = np.array([*four, *four])[moves]
    for control, expected in ((2, by_div_31), (3, by_five)):
        bits = heard(control, 465).tolist()
        assert is_rotation(bits, expected) or is_rotation(bits, 1 - expected)


def test_volume_0_is_silent_and_the_constant_waveforms_are_flat():
    assert not SoundChip(60.0).render(rows(60, (4, 8), (3, 0), (0, 0))).any()
    for control in (0, 11):
        assert set(tone(control, 5, seconds=1).tolist()) == {15_000}


def test_volumes_are_linear_and_the_voices_add():
    first = SoundChip(60.0).render(rows(60, (4, 0), (9, 0), (15, 0))).astype(int)
    second = SoundChip(60.0).render(rows(60, (0, 8), (0, 2), (0, 15))).astype(int)
    mixed = SoundChip(60.0).render(rows(60, (4, 8), (9, 2), (15, 15))).astype(int)
    third = SoundChip(60.0).render(rows(60, (4, 0), (9, 0), (5, 0))).astype(int)
    assert np.abs(mixed - first - second).max() <= 1
    assert np.abs(3 * third - first).max() <= 2
    assert mixed.max() == 30_000 and mixed.min() == 0


def test_bits_that_the_chip_lacks_are_ignored():
    plain = SoundChip(60.0).render(rows(9, (4, 12), (9, 2), (15, 7)))
    wide = SoundChip(60.0).render(rows(9, (0xF4, 0x1C), (0xE9, 0x22), (0x1F, 0xF7)))
    assert np.array_equal(plain, wide)


@pytest.mark.parametrize(
    ("frame_rate", "sample_rate"), [(60.0, 44_100), (50.0, 44_100), (59.92, 48_000), (60.0, 8000)]
)
def test_pieces_join_to_what_is_rendered_at_once(frame_rate, sample_rate):
    registers = np.random.default_rng(0).integers(0, 256, (300, 6), dtype=np.uint8)
    whole = SoundChip(frame_rate, sample_rate).render(registers)
    chip, pieces, start = SoundChip(frame_rate, sample_rate), [], 0
    for frames in [1, 0, 2, 4, 4, 150, 3, 7, 1, 128]:
        pieces.append(chip.render(registers[start : start + frames]))
        start += frames
        assert sum(map(len, pieces)) == int(start * sample_rate / frame_rate + 1e-9)
    assert start == 300
    assert np.array_equal(np.concatenate(pieces), whole)
    assert whole.dtype == np.int16


def test_a_tone_goes_on_without_a_seam_between_frames():
    pcm = SoundChip(60.0).render(rows(600, (4, 0), (15, 0), (15, 0)))[RATE // 10 :]
    distances = np.diff(np.flatnonzero(np.diff((pcm > 7500).astype(int))))
    expected = 16 / NTSC * RATE  # half a period
    assert set(distances.tolist()) <= {int(expected), int(expected) + 1}


def test_a_state_brings_the_sound_back_where_it_was():
    registers = np.random.default_rng(1).integers(0, 256, (80, 6), dtype=np.uint8)
    chip = SoundChip(60.0, 48_000, pal=True)
    chip.render(registers[:37])
    state = json.loads(json.dumps(chip.get_state()))
    expected = chip.render(registers[37:])
    other = SoundChip(60.0, 48_000, pal=True)
    other.render(registers[:5])
    other.set_state(state)
    assert np.array_equal(other.render(registers[37:]), expected)


def test_a_divider_below_the_counter_waits_for_it_to_run_round():
    # After 24 of 32 ticks the divider becomes 4: 8 ticks to the wrap, then 5 to the pulse.
    chip = SoundChip(NTSC / 24, 31_400)
    chip.render(rows(1, divider=(31, 0), volume=(15, 0)))
    pcm = chip.render(rows(2, divider=(4, 0), volume=(15, 0)))
    chip = SoundChip(NTSC / 24, 31_400)
    even = chip.render(rows(3, divider=(4, 0), volume=(15, 0)))
    # AUDC 0 fills the nine bits with ones: C8 is heard after the fourth pulse.
    assert np.flatnonzero(pcm)[0] == pytest.approx(8 + 4 + 3 * 5, abs=1)
    assert np.flatnonzero(even)[0] == pytest.approx(4 + 3 * 5, abs=1)


def test_changing_registers_sound_as_the_gates_move_tick_by_tick():
    frames, rate = 4000, 1500  # about 21 ticks a frame: a counter also passes its divider unmet
    registers = np.random.default_rng(2).integers(0, 256, (frames, 6), dtype=np.uint8)
    registers[::2, :4] = registers[1::2, :4]
    registers[1::4, 2:4] = registers[::4, 2:4] >> 2  # changes of one register alone, too
    edges = np.ceil(np.arange(frames + 1) * NTSC / rate).astype(int)
    voices, levels = (Gates(), Gates()), np.zeros(edges[-1])
    for row, start, stop in zip(registers.tolist(), edges[:-1], edges[1:], strict=True):
        for voice, gates in enumerate(voices):
            control, divider, volume = row[voice] & 15, row[2 + voice] & 31, row[4 + voice] & 15
            for tick in range(start, stop):
                levels[tick] += volume * gates.tick(control, divider)
    samples = np.arange(int(frames * RATE / rate) + 1) / RATE * NTSC
    areas = np.interp(samples, np.arange(len(levels) + 1), np.append(0, np.cumsum(levels)))
    expected = np.diff(areas) / (NTSC / RATE) * 1000
    found = SoundChip(rate).render(registers)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


def test_wrong_registers_and_rates_are_refused():
    with pytest.raises(UsageError, match=r"\(frames, 6\) uint8, not \(4, 5\) uint8"):
        SoundChip(60.0).render(np.zeros((4, 5), np.uint8))
    with pytest.raises(UsageError, match=r"not \(4, 6\) int64"):
        SoundChip(60.0).render(np.zeros((4, 6), np.int64))
    with pytest.raises(UsageError, match="both rates must be above 0"):
        SoundChip(0.0)
