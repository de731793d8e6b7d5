"""Sentences in two languages, from files whose lines agree."""

from __future__ import annotations

import gzip
import os
import zipfile
from pathlib import Path

import pytest

from eightbit.datasets.parallel_texts import read_parallel
from eightbit.errors import DataError, UnknownNameError

MULTI30K = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "multi30k"
needs_multi30k = pytest.mark.skipif(
    not MULTI30K.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds multi30k"
)


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        raw = text.encode()
        (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = {"en": "one\ntwo\nthree\n", "de": "eins\nzwei\ndrei\n"}
    files = {f"train.{key}": text for key, text in lines.items()}
    files |= {"val.en": "four\n", "val.de": "vier\n", "test.en": "five\n", "test.de": "f\u00fcnf\n"}
    return _write(tmp_path, files)


def test_plain_files_are_read_in_both_directions(folder: Path) -> None:
    found = read_parallel(str(folder), "en", "de")
    assert list(zip(found.train.source, found.train.target, strict=True)) == [
        ("one", "eins"),
        ("two", "zwei"),
        ("three", "drei"),
    ]
    assert found.test.target == ["f\u00fcnf"] and found.validation.source == ["four"]
    assert found.facts["languages"] == ["en", "de"]
    assert found.facts["counts"] == {"train": 3, "validation": 1, "test": 1}
    back = read_parallel(str(folder), "de", "en")
    assert back.train.source == found.train.target and back.test.target == found.test.source


def test_packed_files_and_archives_are_read_alike(folder: Path, tmp_path: Path) -> None:
    plain = read_parallel(str(folder), "en", "de")
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "all.zip", "w") as archive:
        for path in folder.glob("*.??"):
            archive.writestr(f"corpus/{path.name}.gz", gzip.compress(path.read_bytes()))
    found = read_parallel(str(packed / "all.zip"), "en", "de")
    assert found.train == plain.train and found.test == plain.test


def test_where_test_and_validation_are_missing_some_are_held_out(tmp_path: Path) -> None:
    words = [f"sentence {i % 50}" for i in range(100)]
    _write(tmp_path, {"train.a": "\n".join(words), "train.b": "\n".join(w.upper() for w in words)})
    found, again = (read_parallel(str(tmp_path), "a", "b", seed=3) for _ in range(2))
    assert found == again and len(found.test) and len(found.validation)
    parts = [set(p.source) for p in (found.train, found.validation, found.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert all(s.upper() == t for s, t in zip(found.test.source, found.test.target, strict=True))
    assert "5 % of the training sentences" in found.facts["split"]


def test_another_test_set_is_named_behind_a_colon(folder: Path) -> None:
    _write(folder, {"hard.en": "six", "hard.de": "sechs"})
    assert read_parallel(f"{folder}:hard", "en", "de").test.target == ["sechs"]
    assert read_parallel(str(folder), "en", "de", test_set="hard").test.source == ["six"]
    with pytest.raises(DataError, match="holds no easy.en, easy.de; .* there are: test"):
        read_parallel(f"{folder}:easy", "en", "de")


def test_lines_with_an_empty_side_are_left_out_and_odd_line_ends_stay(tmp_path: Path) -> None:
    files = {"train.x": "a\r\n\r\nc\x0bd\r\n", "train.y": "A\nB\nCD"}
    _write(tmp_path, {**files, "val.x": "v", "val.y": "V", "test.x": "t", "test.y": "T"})
    found = read_parallel(str(tmp_path), "x", "y")
    assert found.train.source == ["a", "c\x0bd"] and found.train.target == ["A", "CD"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.de", "eins\nzwei\n", r"train.en has 3 lines and train.de has 2; line n of one"),
        ("train.de", "", r"train.de is empty"),
        ("val.de", " \n \n", r"val.de is empty"),
    ],
)
def test_files_that_do_not_agree_are_named(
    folder: Path, name: str, text: str, message: str
) -> None:
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_parallel(str(folder), "en", "de")


def test_bad_files_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no train.fr .*train files of: de, en"):
        read_parallel(str(folder), "en", "fr")
    with pytest.raises(DataError, match="name two languages"):
        read_parallel(str(folder), "en", "en")
    with pytest.raises(DataError, match="does not exist"):
        read_parallel(str(tmp_path / "nothing"), "en", "de")
    with pytest.raises(UnknownNameError, match="multi30k"):
        read_parallel("multi30", "en", "de")
    (folder / "train.de").write_bytes("eins\nzw\u00f6lf\ndrei".encode("latin-1"))
    with pytest.raises(DataError, match=r"train.de is not UTF-8 text \(line 2\)"):
        read_parallel(str(folder), "en", "de")
    (folder / "train.de").unlink()
    (folder / "train.de.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"train.de.gz is damaged"):
        read_parallel(str(folder), "en", "de")


@needs_multi30k
def test_multi30k_has_its_official_parts() -> None:
    found = read_parallel("multi30k", "en", "de")
    assert found.facts["counts"] == {"train": 29000, "validation": 1014, "test": 1000}
    assert found.facts["test_set"] == "test_2016_flickr"
    assert found.train.source[0] == "Two young, White males are outside near many bushes."
    other = read_parallel("multi30k:test_2017_mscoco", "en", "fr")
    assert len(other.test) == 461
    with pytest.raises(DataError, match="for these languages there are: test_2016_flickr"):
        read_parallel("multi30k:test_2017_flickr", "en", "cs")
