"""Sound of every rate, type and container is read alike; what is none is refused in a sentence."""

from __future__ import annotations

import io
import struct
import sys
import types
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from scipy.signal import resample_poly

from eightbit.datasets.sounds import (
    list_sounds,
    microphone_blocks,
    read_sound,
    sound_blocks,
    sound_rate,
)
from eightbit.errors import DataError, EightBitError, UsageError


def tone(rate: int, seconds: float = 1.0, pitch: float = 440.0) -> np.ndarray:
    """A sine of amplitude 0.5, float64 (n,)."""
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)


def wav(samples: np.ndarray, rate: int, width: int = 2) -> bytes:
    """A WAV of floats (n,) or (n, channels) by the standard library, 8, 16, 24 or 32 bit."""
    whole = np.rint(samples * (2 ** (8 * width - 1) - 1)).astype("<i4")
    if width == 1:
        frames = (whole + 128).astype(np.uint8).tobytes()
    else:
        frames = whole.reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return content.getvalue()


def float_wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV of 32 bit floats, which the standard library does not write."""
    body = samples.astype("<f4").tobytes()
    kind = struct.pack("<IHHIIHH", 16, 3, 1, rate, 4 * rate, 4, 32)
    head = b"WAVEfmt " + kind + b"data" + struct.pack("<I", len(body))
    return b"RIFF" + struct.pack("<I", len(head) + len(body)) + head + body


def encoded(path: Path, codec: str, samples: np.ndarray, rate: int) -> Path:
    """A file of one channel in the container that the path's ending names."""
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=rate, layout="mono")
        add_sound(container, track, samples, rate)
        container.mux(track.encode(None))
    return path


def add_sound(
    container: Any, track: Any, samples: np.ndarray, rate: int, begin: float = 0.0
) -> None:
    whole = np.rint(samples * 32767).astype(np.int16)
    for at in range(0, len(whole), 1000):
        frame = av.AudioFrame.from_ndarray(whole[None, at : at + 1000], "s16", "mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = at + round(begin * rate)
        container.mux(track.encode(frame))


def film(path: Path, *parts: tuple[float, float], rate: int = 16_000) -> Path:
    """4 seconds of black, with a tone at each (begin, length) in seconds."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        codec = "aac" if path.suffix == ".mp4" else "pcm_s16le"
        track = container.add_stream(codec, rate=rate, layout="mono") if parts else None
        for index in range(100):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        for begin, length in parts:
            add_sound(container, track, tone(rate, length), rate, begin)
        if track is not None:
            container.mux(track.encode(None))
    return path


# ------------------------------------------------------------------------ what can be read


@pytest.mark.parametrize(("width", "error"), [(1, 0.012), (2, 1e-4), (3, 1e-6), (4, 1e-6)])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_wav_of_any_depth_is_the_mean_of_its_channels(
    rng: np.random.Generator, width: int, error: float, channels: int
) -> None:
    samples = rng.uniform(-0.9, 0.9, (5_000, channels))
    sound = read_sound(wav(samples, 8_000, width))
    assert sound.rate == 8_000 and sound.seconds == 0.625
    assert sound.samples.dtype == np.float32
    assert np.abs(sound.samples - samples.mean(axis=1)).max() < error


def test_sixteen_bits_come_back_exactly(rng: np.random.Generator) -> None:
    whole = rng.integers(-32768, 32768, 3_000)
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(whole.astype("<i2").tobytes())
    assert np.array_equal(read_sound(content.getvalue()).samples * 32768, whole)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_is_converted_better_than_scipy_does(rate: int) -> None:
    """A sweep up to 0.8 of the lower Nyquist frequency, whose true values are known."""
    wanted = 16_000
    top = 0.8 * min(rate, wanted) / 2

    def sweep(at: np.ndarray) -> np.ndarray:
        rise = np.log(top / 50) / 2
        return 0.8 * np.sin(2 * np.pi * 50 * (np.exp(rise * at) - 1) / rise)

    samples = sweep(np.arange(2 * rate + 7) / rate)
    got = read_sound(wav(samples, rate, 3), wanted).samples
    assert len(got) == -(-len(samples) * wanted // rate)
    inner = slice(200, -200)
    true = sweep(np.arange(len(got)) / wanted)[inner]
    step = np.gcd(rate, wanted)
    peer = resample_poly(samples, wanted // step, rate // step)[inner]

    def noise(of: np.ndarray) -> float:
        return float(10 * np.log10(((of - true) ** 2).mean() / (true**2).mean()))

    assert noise(got[inner]) < -75
    assert noise(got[inner]) < noise(peer)


def test_what_the_lower_rate_cannot_hold_is_left_out() -> None:
    got = read_sound(wav(tone(48_000, pitch=9_500), 48_000), 16_000).samples
    assert np.abs(got[200:-200]).max() < 1e-3


@pytest.mark.parametrize(("rate", "wanted"), [(8_000, 16_000), (44_100, 16_000), (16_000, 8_000)])
@pytest.mark.parametrize("count", [1, 2, 30, 61, 1_000])
def test_the_shortest_sounds_keep_their_length(rate: int, wanted: int, count: int) -> None:
    got = read_sound(wav(np.full(count, 0.5), rate), wanted).samples
    assert len(got) == -(-count * wanted // rate)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.flac", "flac", 16_000),
        ("a.ogg", "libopus", 48_000),
        ("a.opus", "libopus", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.mkv", "libopus", 48_000),
        ("opus.mp4", "libopus", 48_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("low.mp3", "libmp3lame", 8_000),
        ("a.m4a", "aac", 44_100),
        ("a.aac", "aac", 16_000),
        ("a.aiff", "pcm_s24be", 11_025),
        ("a.au", "pcm_mulaw", 8_000),
    ],
)
def test_every_container_gives_the_same_sound_from_path_and_bytes(
    tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    path = encoded(tmp_path / name, codec, tone(rate, 2.0), rate)
    assert sound_rate(path) == sound_rate(path.read_bytes()) == rate
    sound = read_sound(path, 16_000)
    assert np.array_equal(sound.samples, read_sound(path.read_bytes(), 16_000).samples)
    assert sound.rate == 16_000
    assert sound.seconds == pytest.approx(2.0, abs=0.12)  # raw AAC keeps its coder's delay
    middle = sound.samples[8_000:24_000].astype(float)
    phase = 2 * np.pi * 440 * np.arange(16_000) / 16_000
    power = np.hypot(middle @ np.sin(phase), middle @ np.cos(phase)) / 8_000
    assert power == pytest.approx(0.5, abs=0.03)  # LAME makes all of it 5 % lower


def test_blocks_joined_are_the_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(rng.uniform(-1, 1, (44_100 * 5, 2)), 44_100))
    blocks = list(sound_blocks(path, 16_000, 0.7))
    assert {len(block) for block in blocks[:-1]} == {11_200}
    assert 0 < len(blocks[-1]) <= 11_200
    assert np.array_equal(np.concatenate(blocks), read_sound(path, 16_000).samples)


def test_blocks_come_before_the_file_was_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = wav(tone(8_000, 60), 8_000)
    path.write_bytes(content[: len(content) // 2])
    blocks = sound_blocks(path, 8_000, 1.0)
    assert len(next(blocks)) == 8_000
    with pytest.raises(DataError, match=r"a\.wav is damaged: 30\.00 of its 60\.00 seconds"):
        list(blocks)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_sound_of_a_film_keeps_the_film_s_time(tmp_path: Path, suffix: str) -> None:
    path = film(tmp_path / f"film{suffix}", (1.0, 1.0), (2.5, 1.0))
    sound = read_sound(path, 8_000)
    loud = np.abs(sound.samples[: 8 * 3_500].reshape(-1, 400)).max(axis=1) > 0.1  # 0.05 s each
    assert not loud[:19].any() and loud[20:40].all() and loud[51:70].all()
    assert not loud[41:49].any()
    assert np.array_equal(np.concatenate(list(sound_blocks(path, 8_000, 0.3))), sound.samples)


def test_silence_is_a_sound() -> None:
    assert not read_sound(wav(np.zeros(100), 8_000)).samples.any()


def test_a_header_without_a_length_is_read_to_the_end() -> None:
    """Programs that write into a pipe cannot know the length."""
    for unknown in (bytes(4), b"\xff" * 4):
        content = bytearray(wav(tone(8_000), 8_000))
        content[4:8] = content[40:44] = unknown
        assert read_sound(bytes(content)).seconds == 1


def test_floats_beyond_one_are_cut() -> None:
    got = read_sound(float_wav(np.array([0.25, 7, -7]), 8_000)).samples
    assert got.tolist() == [0.25, 1, -1]


def test_a_piece_out_of_a_stream_may_begin_and_end_within_a_packet(tmp_path: Path) -> None:
    content = encoded(tmp_path / "a.aac", "aac", tone(16_000, 3.0), 16_000).read_bytes()
    third = len(content) // 3
    assert read_sound(content[third + 31 : 2 * third + 31]).seconds == pytest.approx(1, abs=0.2)


# -------------------------------------------------------------------------- what cannot


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad is empty"),
        (b"this is a text\n" * 100, "bad is no sound that can be decoded"),
        (b"RIFF", "bad is no sound that can be decoded"),
        (wav(np.zeros(0), 8_000), "bad holds no sound: it is 0 seconds long"),
        (float_wav(np.full(50, np.nan), 8_000), "bad is damaged: it holds samples that are no num"),
    ],
)
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sound(content, 16_000, name="bad")
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message.replace("bad", r"bad\.wav", 1)):
        list(sound_blocks(path, 16_000))


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.wav does not exist"):
        read_sound(tmp_path / "no.wav")
    with pytest.raises(DataError, match="is a folder"):
        read_sound(tmp_path)


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"film\.mp4 has no sound track"):
        read_sound(film(tmp_path / "film.mp4"))


def zeros(content: bytes) -> bytes:
    middle, length = len(content) // 2, len(content) // 6
    return content[:middle] + bytes(length) + content[middle + length :]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("name", "codec", "spoil"),
    [
        ("a.flac", "flac", zeros),
        ("a.ogg", "libopus", zeros),
        ("a.mp3", "libmp3lame", zeros),
        ("a.m4a", "aac", zeros),
        ("a.wav", "pcm_s16le", cut),
        ("a.aiff", "pcm_s16be", cut),
        ("a.flac", "flac", cut),
        ("a.webm", "libopus", cut),
    ],
)
def test_damage_is_told_and_what_was_before_it_is_given(
    tmp_path: Path, rng: np.random.Generator, name: str, codec: str, spoil: Callable[[bytes], bytes]
) -> None:
    samples = tone(48_000, 4.0) + rng.normal(0, 0.02, 192_000)
    path = encoded(tmp_path / name, codec, samples, 48_000)
    whole = read_sound(path, 16_000).samples
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{name} is damaged(: \d| from second \d)"):
        read_sound(path)
    blocks = []
    with pytest.raises(DataError, match="is damaged"):
        for block in sound_blocks(path, 16_000, 0.5):
            blocks.append(block)
    got = np.concatenate(blocks)
    assert 16_000 <= len(got) < 40_000
    assert np.abs(got[:15_000] - whole[:15_000]).max() < 1e-3


def test_a_lost_frame_of_flac_is_noticed(tmp_path: Path, rng: np.random.Generator) -> None:
    path = encoded(tmp_path / "a.flac", "flac", rng.uniform(-0.5, 0.5, 96_000), 48_000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.flac is damaged"):
        read_sound(path)


# ------------------------------------------------------------------------------- lists


def test_sounds_of_a_folder_are_listed(tmp_path: Path) -> None:
    for name in ("b.WAV", "a.mp3", "notes.txt", "in/c.webm", ".hidden/d.wav", "in/.e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listed = [str(path.relative_to(tmp_path)) for path in list_sounds(tmp_path)]
    assert listed == ["a.mp3", "b.WAV", "in/c.webm"]
    assert list_sounds(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no sound file"):
        list_sounds(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        list_sounds(tmp_path / "nothing")


# -------------------------------------------------------------------------- microphone


class FakePortAudioError(Exception):
    pass


def fake_sounddevice(own_rate: int, blocks: int, *, missing: bool = False) -> types.ModuleType:
    """A microphone that hears a tone for some blocks and can do one rate alone."""
    module: Any = types.ModuleType("sounddevice")

    def check(samplerate: int, **_: object) -> None:
        if missing or samplerate != own_rate:
            raise FakePortAudioError("Invalid sample rate")

    def query(kind: str) -> dict[str, float]:
        if missing:
            raise FakePortAudioError("Error querying device -1")
        return {"default_samplerate": float(own_rate)}

    class InputStream:
        def __init__(self, samplerate: int, blocksize: int, callback: Any, **_: object):
            assert samplerate == own_rate
            self.size, self.callback = blocksize, callback

        def __enter__(self) -> None:
            buffer = np.empty((self.size, 1), np.float32)  # PortAudio's memory is used again
            heard = tone(own_rate, self.size * blocks / own_rate)
            for block in heard.reshape(blocks, -1):
                buffer[:, 0] = block
                self.callback(buffer, self.size, None, None)

        def __exit__(self, *_: object) -> None:
            self.size = 0

    module.PortAudioError = FakePortAudioError
    module.check_input_settings, module.query_devices = check, query
    module.InputStream = InputStream
    return module


@pytest.mark.parametrize("own_rate", [16_000, 44_100])
def test_a_microphone_gives_blocks_at_the_rate_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, own_rate: int
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(own_rate, 30))
    blocks = microphone_blocks(16_000, 0.1)
    heard = [next(blocks) for _ in range(25)]
    assert {(len(block), block.dtype) for block in heard} == {(1_600, np.dtype(np.float32))}
    assert np.abs(np.concatenate(heard)[200:] - tone(16_000, 2.5)[200:]).max() < 1e-3
    monkeypatch.setattr("eightbit.datasets.sounds._UNPLUGGED", 0.01)
    with pytest.raises(EightBitError, match="gives no sound any more"):
        list(blocks)


def test_a_missing_microphone_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(8_000, 1, missing=True))
    with pytest.raises(EightBitError, match="no microphone was found"):
        next(microphone_blocks(16_000))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UsageError, match=r"pip install 'eightbit\[microphone\]'"):
        next(microphone_blocks(16_000))
