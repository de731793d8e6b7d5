"""Videos: what PyAV decodes again is what was written, with its sound; memory stays constant."""

import tracemalloc

import av
import cv2
import numpy as np
import pytest

from eightbit.errors import EightBitError, UsageError
from eightbit.evaluate import drawing
from eightbit.evaluate.video import (
    PIXEL,
    VideoWriter,
    enlarge,
    make_even,
    write_gif,
    write_strip,
)


def grey(value, size=(64, 48)):
    return np.full((size[1], size[0], 3), value, np.uint8)


def test_pixels_are_enlarged_without_new_colours():
    frame = np.random.default_rng(0).integers(0, 255, (21, 16, 3), dtype=np.uint8)
    large = enlarge(frame, PIXEL)
    assert large.shape == (21 * 3, 16 * 5, 3)
    assert np.array_equal(large, frame.repeat(3, axis=0).repeat(5, axis=1))


def test_odd_sides_get_one_black_row_or_column():
    assert make_even(grey(9, (5, 4))).shape == (4, 6, 3)
    assert make_even(grey(9, (5, 3)))[3:].max() == 0
    assert make_even(grey(9)).shape == (48, 64, 3)


@pytest.mark.parametrize("rate", [60, 50])
def test_an_mp4_decodes_to_the_frames_that_were_written(tmp_path, rate):
    values = [10, 60, 110, 160, 210]
    with VideoWriter(tmp_path / "new" / "video.mp4", (64, 48), rate) as video:
        for value in values:
            video.write(grey(value))
    with av.open(str(tmp_path / "new" / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == rate
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    assert [float(frame.mean()) for frame in frames] == pytest.approx(values, abs=3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["video.mp4"]


def sine(seconds, frequency=440, rate=44_100):
    times = np.arange(round(seconds * rate)) / rate
    return (15_000 * np.sin(2 * np.pi * frequency * times)).astype(np.int16)


def sound_of(path):
    """The sound track as decoded, (n,) int16 as floats, cut to the length that the file tells."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.layout.name) == ("aac", "mono")
        length = round(stream.duration * stream.time_base * stream.rate)
        pieces = [frame.to_ndarray()[0] for frame in container.decode(stream)]
        return stream.rate, np.concatenate(pieces)[:length] * 32_768


def pictures_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("rate", [60, 50])
def test_a_tone_goes_along_with_the_frames(tmp_path, rate):
    tone = sine(3.0)
    silent, loud = tmp_path / "silent.mp4", tmp_path / "loud.mp4"
    with (
        VideoWriter(silent, (64, 48), rate) as first,
        VideoWriter(loud, (64, 48), rate, sound_rate=44_100) as second,
    ):
        for step in range(3 * rate // 5):
            second.write_sound(tone[step * 5 * 44_100 // rate :][: 5 * 44_100 // rate])
            for frame in range(5):
                first.write(grey(step + frame))
                second.write(grey(step + frame))
    sound_rate, sound = sound_of(loud)
    assert sound_rate == 44_100
    assert len(sound) == 3 * 44_100
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    assert spectrum.argmax() / 3.0 == pytest.approx(440, abs=0.34)  # lines are 1/3 Hz apart
    # The same samples at the same time: no delay of the encoder is left in the file.
    assert np.abs(sound - tone)[2000:-2000].mean() < 150
    with av.open(str(loud)) as container:
        assert container.streams.video[0].average_rate == rate
        assert container.duration / av.time_base == pytest.approx(3.0, abs=1 / rate)
    assert np.array_equal(pictures_of(loud), pictures_of(silent))
    with av.open(str(silent)) as container:
        assert not container.streams.audio


def test_sound_is_as_long_as_the_frames_whatever_was_given(tmp_path):
    tone = sine(2.0)
    with VideoWriter(tmp_path / "long.mp4", (64, 48), 60, sound_rate=44_100) as video:
        video.write_sound(tone)  # two seconds before the frames, of which there is one second
        for _ in range(60):
            video.write(grey(1))
    with VideoWriter(tmp_path / "short.mp4", (64, 48), 60, sound_rate=44_100) as video:
        for _ in range(150):
            video.write(grey(1))
        video.write_sound(tone[:22_050])  # half a second after two and a half
    rate, long = sound_of(tmp_path / "long.mp4")
    assert len(long) == rate
    assert np.abs(long - tone[:rate])[2000:-2000].mean() < 150
    rate, short = sound_of(tmp_path / "short.mp4")
    assert len(short) == 2.5 * rate
    assert np.abs(short - np.pad(tone[:22_050], (0, 2 * rate)))[2000:-2000].mean() < 150
    assert np.abs(short[rate:]).max() < 10
    with VideoWriter(tmp_path / "none.mp4", (64, 48), 60, sound_rate=44_100) as video:
        video.write_sound(tone)
    assert not (tmp_path / "none.mp4").exists()


def test_sound_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UsageError, match="AAC has no 31400 samples per second: choose one of 7350"):
        VideoWriter(tmp_path / "a.mp4", (64, 48), 60, sound_rate=31_400)
    with (
        VideoWriter(tmp_path / "a.mp4", (64, 48), 60) as video,
        pytest.raises(UsageError, match="no sound track: give the writer a sound_rate"),
    ):
        video.write_sound(sine(0.1))
    with (
        VideoWriter(tmp_path / "a.mp4", (64, 48), 60, sound_rate=44_100) as video,
        pytest.raises(UsageError, match=r"sound is \(n,\) int16, not \(1, 4410\) int16"),
    ):
        video.write_sound(sine(0.1)[None])
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_no_half_video_and_an_interrupt_keeps_it(tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "a.mp4", (64, 48), 60) as video:
        video.write(grey(1))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "b.mp4", (64, 48), 60) as video:
        video.write(grey(1))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert len(list(container.decode(video=0))) == 1


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UsageError, match="63 x 48 pixels needs even sides"):
        VideoWriter(tmp_path / "a.mp4", (63, 48), 60)
    with (
        VideoWriter(tmp_path / "a.mp4", (64, 48), 60) as video,
        pytest.raises(UsageError, match=r"shape \(2, 2, 3\); this video needs \(48, 64, 3\)"),
    ):
        video.write(grey(0, (2, 2)))


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EightBitError, match="cannot be written"):
        VideoWriter(tmp_path / "file" / "a.mp4", (64, 48), 60)


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    hiss = np.random.default_rng(1).integers(-9000, 9000, 735).astype(np.int16)
    with VideoWriter(tmp_path / "a.mp4", (128, 96), 60, sound_rate=44_100) as video:
        for _ in range(50):
            video.write(noise)
            video.write_sound(hiss)
        tracemalloc.start()
        for _ in range(300):
            video.write(noise)
            video.write_sound(hiss)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert grown < 2 * noise.nbytes  # 300 kept frames would be 300 times this


def test_a_gif_keeps_every_colour_and_frame(tmp_path):
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 255, (100, 3), dtype=np.uint8)
    frames = [colours[generator.integers(0, 100, (30, 40))] for _ in range(4)]
    write_gif(tmp_path / "a.gif", frames, rate=20)
    with av.open(str(tmp_path / "a.gif")) as container:
        assert container.streams.video[0].average_rate == 20
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == 4
    for frame, back in zip(frames, decoded, strict=True):
        assert np.array_equal(frame, back)


def test_a_gif_refuses_rates_that_it_cannot_hold(tmp_path):
    with pytest.raises(UsageError, match="cannot play 60 frames per second"):
        write_gif(tmp_path / "a.gif", [grey(1)], rate=60)
    with pytest.raises(UsageError, match="at least one frame"):
        write_gif(tmp_path / "a.gif", [])


def test_a_strip_shows_the_frames_side_by_side(tmp_path):
    write_strip(tmp_path / "strip.png", [grey(10), grey(200)], gap=4)
    strip = cv2.imread(str(tmp_path / "strip.png"))
    assert strip.shape == (48, 64 + 4 + 64, 3)
    assert (strip[:, :64] == 10).all() and (strip[:, 68:] == 200).all()
    with pytest.raises(UsageError, match="at least one frame"):
        write_strip(tmp_path / "strip.png", [])


def test_text_is_drawn_where_it_should_stand():
    canvas = grey(0, (200, 40))
    drawing.draw_text(canvas, "8-bit", (10, 30), 20, (255, 255, 255))
    rows, columns = np.nonzero(canvas.max(axis=2))
    assert 10 <= columns.min() < 14
    assert columns.max() < 10 + drawing.text_width("8-bit", 20)
    assert rows.max() <= 30 and 12 <= rows.min() <= 17
    right = grey(0, (200, 40))
    drawing.draw_text(right, "8-bit", (190, 30), 20, (255, 255, 255), right=True)
    assert 185 <= np.nonzero(right.max(axis=2))[1].max() <= 190


def test_text_beyond_the_edge_is_cut_off():
    canvas = grey(0, (20, 20))
    drawing.draw_text(canvas, "WIDE TEXT", (-8, 12), 14, (255, 255, 255))
    assert canvas.any()
