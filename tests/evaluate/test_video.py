"""Videos: what PyAV decodes again is what was written; pixels stay sharp; memory stays constant."""

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
    with VideoWriter(tmp_path / "a.mp4", (128, 96), 60) as video:
        for _ in range(50):
            video.write(noise)
        tracemalloc.start()
        for _ in range(300):
            video.write(noise)
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
