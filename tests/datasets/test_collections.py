"""Pictures alone: official splits, splits by person, and a user's own folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightbit.datasets.collections import PictureCollection, read_collection
from eightbit.datasets.splits import common_top, divided_by_group, split_called
from eightbit.errors import DataError

DATA = os.environ.get("EIGHTBIT_DATA")


def needs(name: str) -> pytest.MarkDecorator:
    there = DATA and (Path(DATA) / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"needs {name} in EIGHTBIT_DATA")


def made(root: Path, names: list[str]) -> Path:
    """Small pictures; the first pixel counts them."""
    for value, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        content = cv2.imencode(".png", np.full((4, 6, 3), value, np.uint8))[1].tobytes()
        (root / name).write_bytes(content)
    return root


def names_of(found: PictureCollection) -> dict[str, list[str]]:
    parts = {"train": found.train, "validation": found.validation, "test": found.test}
    return {split: [e.name for e in part] for split, part in parts.items() if part is not None}


def test_berkeleys_own_archive(tmp_path: Path) -> None:
    base = "BSR/BSDS500/data/images"
    names = [f"{base}/{s}/{i}.png" for s in ("train", "val", "test") for i in "12"]
    made(tmp_path / "made", [*names, "BSR/bench/data/images/1.png"])
    shutil.make_archive(str(tmp_path / "BSR_bsds500"), "gztar", tmp_path / "made", "BSR")
    found = read_collection(str(tmp_path / "BSR_bsds500.tar.gz"), 0)
    assert names_of(found) == {
        "train": [f"{base}/train/1.png", f"{base}/train/2.png"],
        "validation": [f"{base}/val/1.png", f"{base}/val/2.png"],
        "test": [f"{base}/test/1.png", f"{base}/test/2.png"],
    }
    assert (found.test[0].read() == 4).all() and found.test[0].read().shape == (4, 6, 3)
    assert found.facts["counts"] == {"train": 2, "validation": 2, "test": 2}
    assert found.facts["split"].endswith("1 pictures outside are left out")


def test_lfws_own_archive_is_split_by_person(tmp_path: Path) -> None:
    people = [f"Person_{i:02d}" for i in range(20)]
    names = [f"lfw_funneled/{p}/{p}_{k:04d}.png" for p in people for k in range(1, 4)]
    made(tmp_path / "made", names)
    (tmp_path / "made" / "lfw_funneled" / "pairs.txt").write_text("10 300")
    shutil.make_archive(str(tmp_path / "lfw"), "gztar", tmp_path / "made", "lfw_funneled")
    found = read_collection(str(tmp_path / "lfw.tar.gz"), 3)
    groups = [{e.group for e in part} for part in (found.train, found.validation or [], found.test)]
    assert [len(group) for group in groups] == [16, 2, 2]
    assert set.union(*groups) == set(people) and len(found.test) == 6
    assert "10 % of the 20 folders" in found.facts["split"]
    assert names_of(read_collection(str(tmp_path / "made"), 3)) == names_of(found)
    assert names_of(read_collection(str(tmp_path / "made"), 4)) != names_of(found)


def test_few_folders_are_split_by_picture(tmp_path: Path) -> None:
    made(tmp_path, [f"{place}/{i}.png" for place in ("sea", "hills") for i in range(15)])
    found = read_collection(str(tmp_path), 0)
    assert found.facts["counts"] == {"train": 24, "validation": 3, "test": 3}
    assert found.facts["split"].startswith("10 % of the pictures")


def test_a_plain_folder_and_a_folder_with_train_and_test(tmp_path: Path) -> None:
    made(tmp_path / "plain", ["a.png", "b.png", "c.png"])
    assert read_collection(str(tmp_path / "plain"), 0).facts["counts"] == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    made(tmp_path / "divided", ["train/x/a.png", "train/y/b.png", "test/c.png"])
    found = read_collection(str(tmp_path / "divided"), 0)
    assert [e.group for e in found.train] == ["x", "y"] and found.validation is None
    made(tmp_path / "val", ["train/a.png", "val/b.png"])
    found = read_collection(str(tmp_path / "val"), 0)
    assert names_of(found) == {"train": ["train/a.png"], "test": ["val/b.png"]}


def test_cifars_own_files_are_a_collection(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    records = rng.integers(0, 2, (5, 3073), dtype=np.uint8)
    for name in ("data_batch_1", "test_batch"):
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    found = read_collection(str(tmp_path), 0)
    expected = records[2, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(found.test[2].read(), expected)
    assert found.train[0].group == ("cat", "dog")[records[0, 0]]


def test_too_few_none_and_damaged_pictures_are_said(tmp_path: Path) -> None:
    made(tmp_path / "two", ["a.png", "b.png"])
    with pytest.raises(DataError, match="at least 3"):
        read_collection(str(tmp_path / "two"), 0)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").write_text("x")
    with pytest.raises(DataError, match="holds no pictures"):
        read_collection(str(tmp_path / "none"), 0)
    made(tmp_path / "half", ["train/a.png", "train/b.png"])
    (tmp_path / "half" / "train" / "a.png").write_bytes(b"")
    found = read_collection(str(made(tmp_path / "half", ["test/c.png"])), 0)
    with pytest.raises(DataError, match="a.png is empty"):
        found.train[0].read()


@given(st.lists(st.integers(0, 30).map(str), min_size=3, max_size=80), st.integers(0, 5))
def test_no_group_is_in_two_splits(groups: list[str], seed: int) -> None:
    splits = divided_by_group(groups, (("test", 0.1), ("validation", 0.1)), seed)
    place: dict[str, str] = {}
    for group, split in zip(groups, splits, strict=True):
        assert place.setdefault(group, split) == split
    assert "train" in place.values()
    if len(place) >= 3:
        assert set(place.values()) == {"train", "validation", "test"}
    counts = [list(place.values()).count(split) for split in ("test", "validation")]
    assert max(counts) <= max(1, round(0.1 * len(place)))


def test_names_of_splits_and_the_common_folder() -> None:
    assert [split_called(n) for n in ("Train", "VAL", "testing", "cat")] == [
        "train",
        "validation",
        "test",
        None,
    ]
    assert common_top(["a/b/1", "a/b/2"]) == "a/b/"
    assert common_top(["a/b/1", "a/c/2"]) == "a/"
    assert common_top(["a/b/1", "x"]) == ""
    assert common_top(["a/b/c/1", "a/d/1"], "a/b/") == "a/b/c/"
    assert common_top([]) == ""


@needs("bsds500")
def test_bsds500() -> None:
    found = read_collection("bsds500", 0)
    assert found.facts["counts"] == {"train": 200, "validation": 100, "test": 200}
    assert {min(e.read().shape[:2]) for e in found.test[:10]} == {256}


@needs("lfw_faces")
def test_lfw_faces() -> None:
    found = read_collection("lfw_faces", 0)
    counts = found.facts["counts"]
    assert sum(counts.values()) == 7701
    parts = (found.train, found.validation or [], found.test)
    people = [{entry.group for entry in part} for part in parts]
    assert [len(one) for one in people] == [3425, 428, 428]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
    assert found.test[0].read().shape == (96, 96, 3)
