"""Pages: broken texts, laid out lines, SVG, pixels, films."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest

from eightbit.datasets.strokes import Writing, from_strokes
from eightbit.errors import EightBitError, UsageError
from eightbit.sequence_tasks.handwriting.drawing import (
    Ink,
    check_colour,
    frames,
    handles,
    path_data,
    picture,
    smooth,
    svg,
    write_film,
)
from eightbit.sequence_tasks.handwriting.layout import Layout, broken, levelled, place

SVG = "{http://www.w3.org/2000/svg}"
STEADY = Layout(size=10.0, line_height=4.0, margin=2.0, jitter=0.0)


def _line(length: float = 4.0) -> Writing:
    stroke = np.array([[0, 0], [length / 2, -1], [length, 0]], float)
    return Writing(from_strokes([stroke, np.array([[length, -2.0]])]), "ab")


def _page(count: int = 1):
    return place([_line()] * count, STEADY, np.random.default_rng(0))


def test_texts_break_at_spaces_and_keep_their_own_breaks() -> None:
    assert broken("to be or not to be", 8) == ["to be or", "not to", "be"]
    assert broken("a\n\n  b \tc\n\n", 8) == ["a", "", "b c"]
    assert broken("incomprehensible word", 5) == ["incomprehensible", "word"]
    assert broken(" \n ", 5) == []
    for longest in range(1, 30):
        lines = broken("the quick brown fox jumps over it", longest)
        assert " ".join(lines) == "the quick brown fox jumps over it"
        assert all(len(line) <= longest or " " not in line for line in lines)


def test_lines_stand_below_each_other_within_the_margins() -> None:
    page = place([_line(), None, _line()], STEADY, np.random.default_rng(0))
    assert len(page.strokes) == 4
    np.testing.assert_allclose(page.strokes[2] - page.strokes[0], [[0, 80.0]] * 3)
    every = np.concatenate(page.strokes)
    assert every.min() >= 20 and every[:, 0].max() <= page.width - 20
    assert every[:, 1].max() <= page.height - 20
    with pytest.raises(UsageError, match="nothing to write"):
        place([None], STEADY, np.random.default_rng(0))


def test_jitter_follows_the_generator_and_wide_lines_shrink() -> None:
    uneven = Layout(jitter=1.0)
    one, same, other = (
        place([_line()] * 3, uneven, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one.strokes, same.strokes, strict=True))
    assert not np.array_equal(one.strokes[0], other.strokes[0])
    narrow = place([_line(50.0)], Layout(size=1, jitter=0, page_width=20), np.random.default_rng(0))
    assert np.ptp(np.concatenate(narrow.strokes)[:, 0]) == pytest.approx(20)


def test_climbing_lines_are_levelled() -> None:
    t = np.linspace(0, 60, 600)
    wave = np.column_stack([t, np.sin(3 * t) - 0.1 * t])
    xy = levelled(from_strokes([wave]))
    assert abs(np.polyfit(xy[:, 0], xy[:, 1], 1)[0]) < 1e-6
    assert xy[:, 1].max() == pytest.approx(0, abs=0.1), "it stands on y = 0"


def test_curves_pass_through_every_point_smoothly() -> None:
    stroke = np.random.default_rng(0).normal(size=(6, 2))
    curves = handles(stroke)
    assert np.array_equal(curves[:, 0], stroke[:-1]) and np.array_equal(curves[:, 3], stroke[1:])
    np.testing.assert_allclose(curves[:-1, 3] - curves[:-1, 2], curves[1:, 1] - curves[1:, 0])
    np.testing.assert_allclose(smooth(stroke)[::6], stroke)
    straight = np.column_stack([np.arange(4.0), np.arange(4.0)])
    np.testing.assert_allclose(smooth(straight)[:, 0], smooth(straight)[:, 1])
    assert smooth(stroke[:1]).shape == (1, 2)


def test_svg_is_well_formed_and_holds_every_stroke() -> None:
    page = _page(2)
    root = ElementTree.fromstring(svg(page, Ink(colour="#ff0000", width=1.5)))
    paths = root.findall(f".//{SVG}path")
    assert len(paths) == len(page.strokes) == 4
    assert root.find(f"{SVG}g").get("stroke") == "#ff0000"  # type: ignore[union-attr]
    numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", paths[0].get("d") or "")]
    np.testing.assert_allclose(numbers[:2], page.strokes[0][0], atol=0.01)
    np.testing.assert_allclose(numbers[-2:], page.strokes[0][-1], atol=0.01)
    assert path_data(np.array([[1.0, 2.0]])) == "M1.00 2.00h0.01"
    assert root.find(f"{SVG}rect") is not None
    bare = ElementTree.fromstring(svg(page, Ink(paper="none")))
    assert bare.find(f"{SVG}rect") is None


def test_animated_strokes_follow_each_other() -> None:
    root = ElementTree.fromstring(svg(_page(2), Ink(), points_a_second=10.0))
    moves = root.findall(f".//{SVG}animate")
    assert len(moves) == 4
    ends = 0.0
    for move in moves:
        begin, lasts = (float((move.get(key) or "")[:-1]) for key in ("begin", "dur"))
        assert begin >= ends and lasts > 0
        ends = begin + lasts
    assert all(move.get("fill") == "freeze" for move in moves)


def test_pixels_show_ink_where_the_pen_was() -> None:
    page = _page()
    rgb = picture(page, Ink(colour="#000000", width=2.0))
    assert rgb.dtype == np.uint8 and rgb.shape[0] % 2 == rgb.shape[1] % 2 == 0
    assert rgb.shape[0] >= page.height and rgb[0, 0].tolist() == [255, 255, 255]
    for stroke in page.strokes:
        for x, y in stroke:
            assert rgb[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].min() < 90
    assert (rgb < 128).mean() < 0.05
    red = picture(page, Ink(colour="#ff0000", paper="#0000ff"))
    assert red[0, 0].tolist() == [0, 0, 255]
    large = place([_line()], Layout(size=6000.0), np.random.default_rng(0))
    with pytest.raises(UsageError, match="too large; the longer side may have 16,000"):
        picture(large, Ink())


def test_frames_fill_up_to_the_whole_picture() -> None:
    page, ink = _page(), Ink()
    shown = list(frames(page, ink, points_a_second=10.0))
    dark = [int((frame < 128).sum()) for frame in shown]
    assert dark[0] < dark[-1] and dark == sorted(dark)
    whole = picture(page, ink)
    assert np.abs(shown[-1].astype(int) - whole).mean() < 0.5


def test_a_film_can_be_decoded_and_failure_leaves_nothing(tmp_path: Path) -> None:
    page = _page()
    write_film(tmp_path / "a.mp4", page, Ink(), 20.0)
    count = len(list(frames(page, Ink(), 20.0)))
    with av.open(str(tmp_path / "a.mp4")) as film:
        decoded = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(decoded) == count
    assert np.abs(decoded[-1].astype(int) - picture(page, Ink())).mean() < 4
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(EightBitError, match="cannot be written"):
        write_film(tmp_path / "missing" / "a.mp4", page, Ink(), 20.0)


@pytest.mark.parametrize("colour", ["red", "#12345", "#gggggg", "none", ""])
def test_colours_are_read_strictly(colour: str) -> None:
    with pytest.raises(UsageError, match="write it as #rrggbb"):
        check_colour(colour)
    check_colour("#00FF7f")
    check_colour("none", may_be_none=True)
