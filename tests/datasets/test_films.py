"""Films keep their times and their sound; damaged ones give what is whole and say where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from eightbit.datasets.films import FilmReader, FilmWriter, open_camera
from eightbit.errors import DataError, EightBitError, UsageError

SECOND = 8_000
"""Samples of sound a second."""


def frame_of(index: int, width: int, height: int) -> np.ndarray:
    """A smooth picture that tells its index by its red, and up from down by its green."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = 40 + 2 * index
    rgb[: height // 2, :, 1] = 200
    rgb[:, : width // 2, 2] = 160
    return rgb


def make_film(
    path: Path,
    times: Sequence[Fraction],
    *,
    size: tuple[int, int] = (64, 48),
    sound: str | None = None,
    faststart: bool = False,
) -> Path:
    """A film of H.264 with a frame at each of `times`, and a tone where a codec is named."""
    options = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 12_800)
        stream.options = {"crf": "10", "g": "5"}
        if sound is not None:
            track = container.add_stream(sound, rate=SECOND, layout="mono")
            samples = int((times[-1] + Fraction(1, 25)) * SECOND)
            tone = np.sin(np.arange(samples) * 2 * np.pi * 440 / SECOND) * 8_000
            piece = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], "s16", "mono")
            piece.sample_rate, piece.pts = SECOND, 0
            container.mux(track.encode(piece))
            container.mux(track.encode(None))
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(frame_of(index, *size), format="rgb24")
            frame.pts, frame.time_base = round(time * 12_800), Fraction(1, 12_800)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def constant(count: int) -> list[Fraction]:
    return [Fraction(index, 25) for index in range(count)]


def copy(source: Path, target: Path) -> FilmReader:
    reader = FilmReader(source)
    with FilmWriter(target, reader) as writer:
        for time, rgb in reader.frames():
            writer.write(rgb, time)
    return FilmReader(target)


def sound_of(path: Path) -> tuple[str, np.ndarray]:
    """Codec of the sound track and its samples in [-1, 1]."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("s16", "mono", SECOND)
        pieces = [
            piece.to_ndarray()[0]
            for frame in [*container.decode(stream), None]
            for piece in resampler.resample(frame)
        ]
        return stream.codec_context.name, np.concatenate(pieces) / 32_768


def packets_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in container.demux(stream)
            if packet.pts is not None
        ]


def test_a_film_is_read_frame_by_frame_with_times(tmp_path: Path) -> None:
    reader = FilmReader(make_film(tmp_path / "film.mp4", constant(20)))
    assert (reader.width, reader.height, reader.rate) == (64, 48, 25)
    assert reader.duration == pytest.approx(0.8)
    assert not reader.has_sound
    for _ in range(2):  # as often as wanted
        read = list(reader.frames())
        assert [time for time, _ in read] == pytest.approx([i / 25 for i in range(20)])
        for index, (_, rgb) in enumerate(read):
            assert rgb.dtype == np.uint8
            assert np.abs(rgb.astype(int) - frame_of(index, 64, 48)).mean() < 4


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".m4v"])
def test_a_film_without_sound_keeps_its_frames_in_every_container(
    tmp_path: Path, suffix: str
) -> None:
    written = copy(make_film(tmp_path / "film.mp4", constant(12)), tmp_path / f"new{suffix}")
    read = list(written.frames())
    assert not written.has_sound
    assert [time for time, _ in read] == pytest.approx([i / 25 for i in range(12)], abs=0.001)
    assert np.abs(read[-1][1].astype(int) - frame_of(11, 64, 48)).mean() < 4
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"film.mp4", f"new{suffix}"})


@pytest.mark.parametrize(("coded", "suffix"), [("aac", ".mp4"), ("pcm_s16le", ".mkv")])
def test_sound_is_copied_bit_for_bit(tmp_path: Path, coded: str, suffix: str) -> None:
    source = make_film(tmp_path / f"film{suffix}", constant(30), sound=coded)
    written = copy(source, tmp_path / f"new{suffix}")
    assert written.has_sound
    before, after = packets_of(source), packets_of(written.path)
    assert [content for _, content in before] == [content for _, content in after]
    assert [time for time, _ in before] == pytest.approx([t for t, _ in after], abs=0.002)


def test_sound_that_a_container_does_not_take_is_coded_anew(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", constant(50), sound="pcm_u8")
    written = copy(source, tmp_path / "new.mp4")
    coded, after = sound_of(written.path)
    assert coded == "aac"
    _, before = sound_of(source)
    assert len(after) == pytest.approx(len(before), abs=SECOND // 10)
    tone = np.fft.rfft(after[2_000:10_000])  # a second of it
    assert np.abs(tone).argmax() == 440


def test_varying_times_are_kept(tmp_path: Path) -> None:
    times = [Fraction(n, 100) for n in (0, 4, 6, 30, 31, 50, 90, 91)]
    source = make_film(tmp_path / "film.mp4", times)
    written = copy(source, tmp_path / "new.mp4")
    assert [time for time, _ in written.frames()] == pytest.approx(list(map(float, times)))


def test_an_odd_side_is_made_even_by_its_last_line(tmp_path: Path) -> None:
    reader = FilmReader(make_film(tmp_path / "film.mp4", constant(3)))
    with FilmWriter(tmp_path / "new.mp4", reader, size=(33, 27)) as writer:
        for time, _ in reader.frames():
            writer.write(frame_of(5, 33, 27), time)
    (_, rgb), *_ = FilmReader(tmp_path / "new.mp4").frames()
    assert rgb.shape == (28, 34, 3)
    assert np.abs(rgb[:27, :33].astype(int) - frame_of(5, 33, 27)).mean() < 6


@pytest.mark.parametrize("height", [240, 720])
def test_colours_come_back_whatever_their_coding(tmp_path: Path, height: int) -> None:
    reader = FilmReader(make_film(tmp_path / "film.mp4", constant(2)))
    rgb = np.full((height, 320, 3), (200, 30, 60), np.uint8)
    rgb[:, 160:] = (20, 180, 90)
    with FilmWriter(tmp_path / "new.mp4", reader, size=(320, height), quality=5) as writer:
        for time, _ in reader.frames():
            writer.write(rgb, time)
    (_, back), *_ = FilmReader(tmp_path / "new.mp4").frames()
    assert np.abs(back[:, ::100].astype(int) - rgb[:, ::100]).max() <= 4


def turn_in_place(path: Path) -> None:
    """Writes a quarter turn into the matrix of an MP4's track header, as phones do."""
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd") + 4
    matrix = header + 4 + 20 + 16  # version 0: times, ids and duration; layer, volume and so on
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    assert content[matrix : matrix + 4] == one
    turned = [zero, one, zero, minus, zero, zero]
    content[matrix : matrix + 24] = b"".join(turned)
    path.write_bytes(content)


def test_a_turned_film_is_read_upright(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", constant(3))
    turn_in_place(path)
    reader = FilmReader(path)
    assert (reader.width, reader.height) == (48, 64)
    (_, rgb), *_ = reader.frames()
    clockwise = np.rot90(frame_of(0, 64, 48), -1)
    assert np.abs(rgb.astype(int) - clockwise).mean() < 4
    written = copy(path, tmp_path / "new.mp4")
    (_, rgb), *_ = written.frames()
    assert np.abs(rgb.astype(int) - clockwise).mean() < 4


def test_a_film_that_is_broken_in_the_middle_gives_its_beginning(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mp4", constant(100), sound="aac", faststart=True)
    content = bytearray(source.read_bytes())
    begin = content.index(b"mdat")
    middle = (begin + len(content)) // 2
    content[middle:] = bytes(len(content) - middle)
    source.write_bytes(content)
    reader = FilmReader(source)
    read = []
    sentence = r"film.mp4 is damaged from second \d+\.\d\d on"
    target = tmp_path / "new.mp4"
    with pytest.raises(DataError, match=sentence), FilmWriter(target, reader) as writer:
        for time, rgb in reader.frames():
            read.append(rgb)
            writer.write(rgb, time)
    assert 5 < len(read) < 100
    kept = FilmReader(target)
    assert len(list(kept.frames())) == len(read)
    assert kept.has_sound


def test_a_film_that_was_cut_off_says_where(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mp4", constant(100), faststart=True)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(DataError, match="is damaged from second"):
        list(FilmReader(source).frames())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"no film at all" * 100, "is no film"),
    ],
)
def test_what_is_no_film_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        FilmReader(path)


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        track = container.add_stream("aac", rate=SECOND, layout="mono")
        piece = av.AudioFrame.from_ndarray(np.zeros((1, SECOND), np.int16), "s16", "mono")
        piece.sample_rate = SECOND
        container.mux(track.encode(piece))
        container.mux(track.encode(None))
    with pytest.raises(DataError, match="has no picture track"):
        FilmReader(tmp_path / "sound.mp4")


def test_an_error_leaves_no_half_film(tmp_path: Path) -> None:
    reader = FilmReader(make_film(tmp_path / "film.mp4", constant(5), sound="aac"))
    with pytest.raises(ZeroDivisionError), FilmWriter(tmp_path / "new.mp4", reader) as writer:
        writer.write(frame_of(0, 64, 48), 0.0)
        raise ZeroDivisionError
    with FilmWriter(tmp_path / "none.mp4", reader):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    reader = FilmReader(make_film(tmp_path / "film.mp4", constant(2)))
    with pytest.raises(UsageError, match=r"let it end in one of \.m4v, \.mkv"):
        FilmWriter(tmp_path / "film.gif", reader)
    with pytest.raises(UsageError, match="is the film that is read"):
        FilmWriter(tmp_path / "film.mp4", reader)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EightBitError, match="cannot be written"):
        FilmWriter(tmp_path / "file" / "new.mp4", reader)
    with (
        pytest.raises(UsageError, match="shape"),
        FilmWriter(tmp_path / "new.mp4", reader) as writer,
    ):
        writer.write(frame_of(0, 32, 48), 0.0)


def test_a_camera_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(EightBitError, match="camera 97 was not found"):
        next(open_camera(97))
