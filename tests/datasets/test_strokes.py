"""Strokes: geometry against slow loops, files of users, the division by writer."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eightbit.datasets.stroke_files import (
    read_stroke_file,
    read_stroke_path,
    write_stroke_file,
)
from eightbit.datasets.strokes import (
    Writing,
    begins_second_line,
    core_height,
    from_strokes,
    lines_of,
    normalised,
    person,
    prepared,
    prepared_all,
    read_writings,
    resampled,
    split_by_writer,
    to_offsets,
    to_points,
    to_strokes,
    without_repeats,
)
from eightbit.errors import DataError

UNIPEN = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "unipen"
needs_unipen = pytest.mark.skipif(
    not UNIPEN.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds unipen"
)


def zigzag(height: float, waves: int, left: float = 0.0, top: float = 0.0) -> np.ndarray:
    """A stroke (2 * waves + 1, 2) that goes down and up."""
    x = left + 0.5 * height * np.arange(2 * waves + 1)
    return np.column_stack([x, top + height * (np.arange(2 * waves + 1) % 2)])


def scribble(rng: np.random.Generator) -> np.ndarray:
    sizes = rng.integers(1, 12, rng.integers(1, 6))
    return from_strokes([rng.normal(0, 30, (n, 2)).cumsum(0) for n in sizes])


def test_strokes_offsets_and_points_are_one_thing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = scribble(rng)
        assert np.array_equal(from_strokes(to_strokes(points)), points)
        moved = to_points(to_offsets(points))
        assert np.allclose(moved[:, :2], points[:, :2] - points[0, :2], atol=1e-2)
        assert np.array_equal(moved[:, 2], points[:, 2])


def test_repeated_points_go_and_lifts_stay() -> None:
    points = from_strokes([[[0, 0], [0, 0], [1, 0], [1, 0]], [[1, 0]], [[2, 2], [2, 2]]])
    kept = without_repeats(points)
    assert kept.tolist() == [[0, 0, 0], [1, 0, 1], [1, 0, 1], [2, 2, 1]]


def test_the_height_of_small_letters_ignores_slope_and_tall_letters() -> None:
    small = zigzag(10, 12)
    assert core_height(from_strokes([small])) == pytest.approx(10)
    tall = from_strokes([small, zigzag(25, 1, 130), zigzag(25, 1, 160)])
    assert core_height(tall) == pytest.approx(10)
    climbing = tall.copy()
    climbing[:, 1] -= 0.05 * climbing[:, 0]
    assert core_height(climbing) == pytest.approx(10, rel=0.1)
    assert core_height(from_strokes([[[0, 0], [40, 1]]])) == pytest.approx(20)  # a dash
    assert core_height(from_strokes([[[3, 3]]])) == 1


def test_normalised_writing_is_level_of_height_one_and_has_one_shape_at_every_scale() -> None:
    flat = from_strokes([zigzag(10, 20)])
    angle = np.radians(8)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    tilted = flat.copy()
    tilted[:, :2] = flat[:, :2] @ turn * 7 + 100
    found = normalised(tilted)
    assert found[0].tolist() == [0, 0, 0]
    assert np.abs(np.polyfit(found[:, 0], found[:, 1], 1)[0]) < 1e-3
    assert np.ptp(found[:, 1]) == pytest.approx(1, abs=0.2)
    again = tilted.copy()
    again[:, :2] *= 3
    assert np.allclose(normalised(again), found, atol=1e-3)


def slowly_resampled(points: np.ndarray, step: float, least: int) -> np.ndarray:
    made = []
    for stroke in to_strokes(points):
        way = [0.0]
        for a, b in zip(stroke[:-1], stroke[1:], strict=True):
            way.append(way[-1] + float(np.hypot(*(b - a))))
        pieces = max(int(np.ceil(way[-1] / step - 1e-6)), least - 1)
        places = [way[-1] * k / max(pieces, 1) for k in range(pieces + 1)]
        made.append(np.column_stack([np.interp(places, way, stroke[:, k]) for k in (0, 1)]))
    return from_strokes(made)


@pytest.mark.parametrize("least", [1, 4])
def test_resampling_equals_a_loop_over_strokes(least: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        points = without_repeats(scribble(rng))
        found = resampled(points, 5.0, least)
        assert np.allclose(found, slowly_resampled(points, 5.0, least), atol=1e-3)
        ways = [np.hypot(*np.diff(stroke, axis=0).T) for stroke in to_strokes(found)]
        assert all((way <= 5.01).all() for way in ways)


def test_many_writings_are_prepared_as_one_is() -> None:
    rng = np.random.default_rng(2)
    writings = [Writing(scribble(rng), str(index)) for index in range(30)]
    for one, many in zip(writings, prepared_all(writings, 0.3, 2), strict=True):
        alone = prepared(one, 0.3, 2)
        assert many.text == one.text
        assert alone.points.shape == many.points.shape
        assert np.allclose(alone.points, many.points, atol=1e-3)


def test_a_second_line_is_seen_and_cut_off_but_not_a_late_dot() -> None:
    words = [zigzag(10, 4), zigzag(10, 5, 70), zigzag(10, 3, 10, 30), zigzag(10, 4, 60, 32)]
    both = from_strokes(words)
    assert begins_second_line(both)
    assert [len(part) for part in lines_of(both)] == [9 + 11, 7 + 9]
    dotted = from_strokes([words[0], words[1], [[20, -8], [21, -8]], zigzag(10, 5, 160)])
    assert not begins_second_line(dotted)


def test_persons_are_known_by_their_names() -> None:
    assert person("apd/Eric_Behnke_2") == person("apb/Eric_Behnke_1") == "eric_behnke"
    assert person("scr/d1_ww000140") == person("scr/d2_ww000140")
    assert person("kar/mch_0005") != person("kar/mch_0006")


def test_writers_are_divided_whole_and_by_number_of_samples() -> None:
    rng = np.random.default_rng(3)
    writers = [f"s{k % 3}/w{k}" for k in range(60) for _ in range(int(rng.integers(1, 40)))]
    people = [person(name) for name in writers]
    places = split_by_writer(people, writers, 5)
    assert places == split_by_writer(people[::-1], writers[::-1], 5)
    assert places != split_by_writer(people, writers, 6)
    share = Counter(places[one] for one in people)
    assert share["test"] / len(people) == pytest.approx(0.15, abs=0.03)
    assert share["validation"] / len(people) == pytest.approx(0.07, abs=0.03)
    few = split_by_writer(["a", "a", "b", "c"], ["a", "a", "b", "c"], 0)
    assert sorted(few.values()) == ["test", "train", "validation"] and few["a"] == "train"


def test_json_goes_out_and_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    writings = [Writing(scribble(rng), f"déjà {k}", "anna") for k in range(3)]
    writings = [one for one in writings if len(one.points) > 1]
    for name in ("a.json", "b.jsonl"):
        write_stroke_file(tmp_path / name, writings)
        back = read_stroke_file(tmp_path / name)
        assert [one.text for one in back] == [one.text for one in writings]
        for ours, theirs in zip(back, writings, strict=True):
            shifted = theirs.points - np.append(theirs.points[0, :2], 0)
            assert np.allclose(ours.points, shifted, atol=1e-2) and ours.writer == "anna"
    assert len(read_stroke_path(tmp_path)) == 2 * len(writings)


def test_data_of_a_user_is_divided_line_by_line_where_nobody_is_named(tmp_path: Path) -> None:
    writings = [Writing(from_strokes([zigzag(10, 4 + k)]), f"line {k}") for k in range(20)]
    write_stroke_file(tmp_path / "own.json", writings)
    found = read_writings(str(tmp_path / "own.json"), 0)
    assert sum(found.facts["lines"].values()) == 20 and all(found.facts["lines"].values())
    assert "fewer than 3 writers" in found.facts["split"]
    write_stroke_file(tmp_path / "own.json", writings[:2])
    with pytest.raises(DataError, match="2 lines of text; at least 3"):
        read_writings(str(tmp_path / "own.json"), 0)


BAD = {
    "NaN": ('[{"text": "a", "strokes": [[[0, NaN], [1, 2]]]}]', "sample 1: a coordinate is not"),
    "one point": ('[{"text": "a", "strokes": [[[0, 1]]]}]', "sample 1: it has a single point"),
    "one place": ('[{"text": "a", "strokes": [[[3, 1], [3, 1]]]}]', "lie in one place"),
    "no text": ('[{"text": " ", "strokes": [[[0, 1], [2, 3]]]}]', "its text is empty"),
    "no strokes": ('[{"text": "a", "strokes": []}]', "sample 1: it needs strokes"),
    "empty stroke": ('[{"text": "a", "strokes": [[[0, 1], [1, 2]], []]}]', "it needs strokes"),
    "no pairs": ('[{"text": "a", "strokes": [[1, 2, 3]]}]', "must be two numbers"),
    "words": ('[{"text": "a", "strokes": [[["x", "y"], [1, 2]]]}]', "must be two numbers"),
    "flat text": ('[{"text": 3, "strokes": [[[0, 1], [2, 3]]]}]', "must be strings"),
    "no object": ("[3]", "it must be an object"),
    "no JSON": ("{text", "is not JSON"),
    "nothing": ("  ", "is empty"),
    "no samples": ("[]", "holds no samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_sample(name: str, tmp_path: Path) -> None:
    content, sentence = BAD[name]
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=sentence) as caught:
        read_stroke_file(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_stroke_file(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_stroke_file(tmp_path / "bytes.json")
    (tmp_path / "second.jsonl").write_text('{"text": "a", "strokes": [[[0, 1], [2, 3]]]}\n{')
    with pytest.raises(DataError, match="second.jsonl, line 2 is not JSON"):
        read_stroke_file(tmp_path / "second.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no .json"):
        read_stroke_path(tmp_path / "empty")


def test_damaged_arrays_are_named(tmp_path: Path) -> None:
    (tmp_path / "lines.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_writings(str(tmp_path), 0)


@needs_unipen
def test_unipen_is_divided_by_writer() -> None:
    found = read_writings("unipen", 0)
    people = {
        split: {person(one.writer) for one in found.lines[split] + found.words[split]}
        for split in ("train", "validation", "test")
    }
    assert not people["train"] & people["test"] and not people["train"] & people["validation"]
    assert not people["test"] & people["validation"]
    assert found.facts["writers"] == {split: len(names) for split, names in people.items()}
    lines = found.facts["lines"]
    assert 400 < lines["test"] < 550 and 150 < lines["validation"] < 300
    assert all(one.text and np.isfinite(one.points).all() for one in found.lines["test"])
    json.dumps(found.facts)
