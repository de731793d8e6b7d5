"""What becomes of strokes before the network reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from eightbit.datasets.stroke_files import write_stroke_file
from eightbit.datasets.strokes import Writing, from_strokes
from eightbit.errors import DataError, UsageError
from eightbit.sequence_tasks.handwriting.data import build_data
from eightbit.sequence_tasks.handwriting.options import HandwritingOptions
from eightbit.sequence_tasks.handwriting.paths import baseline, from_baseline, paced
from eightbit.sequence_tasks.handwriting.pieces import cut
from eightbit.sequence_tasks.handwriting.styles import choose_styles, style_writing
from eightbit.sequence_tasks.handwriting.text import alphabet_of, check_characters, encode

SMALL = HandwritingOptions(hidden=8, longest=200)


def letter(x: float, rng: np.random.Generator) -> np.ndarray:
    """A loop of height and width 1 that stands on y = 0."""
    t = np.linspace(0, 2 * np.pi, 40)
    size = rng.uniform(0.45, 0.5)
    return np.column_stack([x + 0.5 - size * np.sin(t), -0.5 - 0.5 * np.cos(t)])


def line_of(text: str, writer: str = "anna", scale: float = 1.0, seed: int = 0) -> Writing:
    """Loops for letters, spaces twice as wide as a letter."""
    rng = np.random.default_rng(seed)
    strokes, x = [], 0.0
    for character in text:
        if character == " ":
            x += 1.2
        else:
            strokes.append(letter(x, rng))
            x += 1.15
    points = from_strokes(strokes)
    points[:, :2] *= scale
    return Writing(points.astype(np.float32), text, writer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """Forty lines by eight writers."""
    path = tmp_path_factory.mktemp("strokes") / "lines.jsonl"
    words = ["one", "two", "three", "four", "five"]
    lines = [
        line_of(" ".join(np.random.default_rng(i).permutation(words)), f"w{i % 8}", 30.0, i)
        for i in range(40)
    ]
    write_stroke_file(path, lines)
    return path


def test_pacing_forgets_scale_and_place_and_keeps_strokes() -> None:
    small, large = line_of("some words"), line_of("some words", scale=137.0)
    moved = Writing(large.points + [1000, -500, 0], large.text)
    few = paced([small, large, moved], 2.8)
    for other in few[1:]:
        np.testing.assert_allclose(other.points, few[0].points, atol=0.02)
    assert few[0].points[:, 2].sum() == small.points[:, 2].sum() == 9
    assert len(few[0].points) < len(small.points) / 2
    assert few[0].points[0, 0] == 0
    assert abs(baseline(few[0].points)) < 0.1  # letters stand on y = 0
    assert [one.text for one in few] == ["some words"] * 3


def test_points_lie_closer_where_the_path_bends() -> None:
    straight = np.column_stack([np.linspace(0, 10, 200), np.zeros(200)])
    t = np.linspace(-np.pi / 2, 1.5 * np.pi, 100)
    circle = np.column_stack([10 + 0.5 * np.cos(t), 0.5 + 0.5 * np.sin(t)])
    loops = [letter(12 + 1.15 * i, np.random.default_rng(i)) for i in range(8)]
    points = from_strokes([np.concatenate([straight, circle]), *loops])
    path = paced([Writing(points)], 2.8)[0].points
    end = int(np.flatnonzero(path[:, 2])[0])
    steps = np.hypot(*np.diff(path[: end + 1, :2], axis=0).T)
    assert np.median(steps[: end // 2]) > 1.3 * steps[-4:].mean()


def test_a_dot_stays_one_point_and_offsets_add_up() -> None:
    dotted = from_strokes([letter(0, np.random.default_rng(0)), np.array([[0.5, -2.0]])])
    path = paced([Writing(dotted)], 2.8)[0].points
    assert path[-2:, 2].tolist() == [1, 1]
    summed = np.cumsum(from_baseline(path)[:, :2], axis=0)
    np.testing.assert_allclose(summed, path[:, :2], atol=1e-5)


def test_long_lines_are_cut_at_their_spaces() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    whole = paced([line_of(text)], 2.8)[0]
    pieces = cut(whole, 110)
    assert " ".join(piece.text for piece in pieces) == text and len(pieces) > 2
    for piece in pieces:
        assert len(piece.points) <= 110 and piece.points[0, 0] == 0
        assert piece.points[:, 2].sum() == len(piece.text.replace(" ", ""))
    assert cut(whole, 10_000) == [whole]


def test_lines_whose_spaces_are_not_plain_give_nothing() -> None:
    apart = line_of("theq uickbrow nfo xj umps")
    wrong = Writing(apart.points, "the quick brown fox jumps")
    assert cut(paced([wrong], 2.8)[0], 60) == []


def test_batches_are_pure_and_padded(folder) -> None:
    data = build_data(SMALL, str(folder), 0)
    json.dumps(dict(data.facts))
    batch, again = data.batch(3, 8), data.batch(3, 8)
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    points, lengths, text = (batch[key] for key in ("points", "lengths", "text"))
    assert points.shape[1] % 32 == 0 and int(lengths.max()) <= points.shape[1]
    for row, length, code in zip(points, lengths.tolist(), text, strict=True):
        assert not row[length:].any() and row[length - 1, 2] == 1
        real = code[code >= 0]
        assert real[-1] == len(data.facts["alphabet"]) and int(real[:-1].max()) < int(real[-1])
        letters = int((real[:-1] != data.facts["alphabet"].index(" ")).sum())
        assert int(row[:, 2].sum()) == letters  # each letter is one stroke
    seen = {int(data.batch(step, 8)["lengths"].sum()) for step in range(20)}
    assert len(seen) > 3


def test_several_writings_of_one_writer_follow_each_other(folder) -> None:
    options = HandwritingOptions(hidden=8, longest=2000, joined=1.0, stretch=0.0)
    data = build_data(options, str(folder), 0)
    batch = data.batch(0, 4)
    space = data.facts["alphabet"].index(" ")
    assert ((batch["text"] == space).sum(1) > 4).any(), "five words have four spaces"
    path = batch["points"][0, : int(batch["lengths"][0])].numpy().astype(np.float64)
    height = np.cumsum(path[:, 1]) * data.facts["scale"]
    assert height.min() > -1.6 and height.max() < 0.6, "all stand on one line"
    along = np.cumsum(path[:, 0]) * data.facts["scale"]
    starts = np.concatenate([[0], np.flatnonzero(path[:-1, 2]) + 1])
    assert (np.diff(along[starts]) > 0).all(), "each is right of the one before"


def test_the_alphabet_leaves_out_what_is_rare() -> None:
    assert alphabet_of(["ab" * 10, "c" * 9]) == " ab"
    assert encode("ba", " ab").tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text is empty"),
        ("  ", "text is empty"),
        ("añbü", "never learnt to write 'ñ', 'ü'"),
    ],
)
def test_texts_that_cannot_be_written(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_characters([text], {"alphabet": " ab"})


def test_styles_are_kept_to_two_hundredths_of_a_letter() -> None:
    lines = paced([line_of("one two three four", f"w{i}", seed=i) for i in range(3)], 2.8)
    styles = choose_styles(lines)
    facts = {"styles": styles}
    assert len(styles) == 3
    found = style_writing(facts, 1)
    same = [one.points for one in lines if one.points.shape == found.points.shape]
    closest = min(np.abs(found.points - points).max() for points in same)
    assert closest <= 0.0026 and found.text == "one two three four"
    for number in (0, 4):
        with pytest.raises(UsageError, match=f"no style {number}; styles are numbered from 1 to 3"):
            style_writing(facts, number)
    with pytest.raises(UsageError, match="holds no styles"):
        style_writing({"styles": []}, 1)


def test_data_without_usable_lines_are_refused(tmp_path) -> None:
    path = tmp_path / "few.jsonl"
    write_stroke_file(path, [line_of("ab cd", f"w{i}") for i in range(3)])
    with pytest.raises(DataError, match="occur often enough"):
        build_data(SMALL, str(path), 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": 0}, "hidden is 0; it must be 1 or more"),
        ({"layers": 1}, "layers is 1; it must be 2 or more"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"joined": 2.0}, "joined is 2.0"),
        ({"stretch": 0.9}, "stretch is 0.9"),
        ({"density": 0.1}, "density is 0.1"),
        ({"longest": 8}, "longest is 8"),
        ({"backbone_options": "["}, "backbone_options"),
    ],
)
def test_options_that_make_no_sense(wrong, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HandwritingOptions(**wrong)
