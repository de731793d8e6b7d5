"""Folders, zips and tars look the same, and what is damaged or strange says so."""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.datasets.archive import Archive
from eightbit.errors import DataError

FORMS = ("folder", "zip", "tar", "tar.gz", "tgz")
FILES = {"a/b/c.txt": b"first", "a/d.bin": bytes(range(256)) * 40, "e.txt": b""}


def stored(files: dict[str, bytes], form: str, root: Path) -> Path:
    """Keeps files as a folder, a zip or a tar."""
    path = root / ("data" if form == "folder" else f"data.{form}")
    if form == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if form in ("tar.gz", "tgz") else "w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same(form: str, tmp_path: Path) -> None:
    with Archive.open(stored(FILES, form, tmp_path)) as archive:
        assert archive.names == ("a/b/c.txt", "a/d.bin", "e.txt")
        assert archive.folders == ("a", "a/b")
        assert {name: archive.read(name) for name in archive.names} == FILES
        assert archive.text("a/b/c.txt") == "first"
        assert "e.txt" in archive and "a" not in archive
        with pytest.raises(DataError, match="holds no a/x"):
            archive.read("a/x")


NAMES = st.text("abcXYZ019_- é", min_size=1, max_size=6).filter(lambda s: s.strip() == s)


@settings(max_examples=12, deadline=None)
@given(files=st.dictionaries(NAMES.map(lambda s: f"top/{s}"), st.binary(max_size=300), min_size=1))
def test_any_files_come_back(files: dict[str, bytes]) -> None:
    for form in ("folder", "zip", "tar", "tar.gz"):
        with (
            tempfile.TemporaryDirectory() as root,
            Archive.open(stored(files, form, Path(root))) as archive,
        ):
            assert {name: archive.read(name) for name in archive.names} == files


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_reading_in_threads_gives_each_its_own(form: str, tmp_path: Path) -> None:
    files = {f"{i:03d}": bytes([i % 251]) * (100 + 37 * i) for i in range(300)}
    with Archive.open(stored(files, form, tmp_path)) as archive, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(archive.read, files)) == list(files.values())


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_that_leave_the_root_and_hidden_ones_are_passed_over(
    form: str, tmp_path: Path
) -> None:
    strange = ["../out.txt", "/etc/out.txt", "a/../../out.txt", "C:/out.txt", ".hidden/x"]
    strange += ["__MACOSX/a.jpg", "a/.DS_Store"]
    files = dict.fromkeys(strange, b"x") | {"a\\back.txt": b"y", "./dot.txt": b"z"}
    with Archive.open(stored(files, form, tmp_path)) as archive:
        assert archive.names == ("a/back.txt", "dot.txt")
        assert archive.read("a/back.txt") == b"y"
    assert [path.name for path in tmp_path.iterdir()] == [f"data.{form}"]


def test_a_folder_of_archives_and_text_is_read_as_its_archives(tmp_path: Path) -> None:
    for name in ("train.zip", "test.tar.gz"):
        stored({"cat/1.jpg": name.encode()}, name.partition(".")[2], tmp_path)
        next(tmp_path.glob("data.*")).rename(tmp_path / name)
    (tmp_path / "SOURCE.txt").write_text("from somewhere")
    with Archive.open(tmp_path) as archive:
        assert archive.names == ("test/cat/1.jpg", "train/cat/1.jpg")
        assert archive.read("test/cat/1.jpg") == b"test.tar.gz"
    (tmp_path / "own.jpg").write_bytes(b"x")  # now the archives are files like others
    with Archive.open(tmp_path) as archive:
        assert "train.zip" in archive.names and "own.jpg" in archive.names


def test_empty_folders_are_known(tmp_path: Path) -> None:
    (tmp_path / "data" / "empty").mkdir(parents=True)
    (tmp_path / "data" / "x").write_bytes(b"1")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        packed.writestr("empty/", b"")
        packed.writestr("x", b"1")
    for path in (tmp_path / "data", tmp_path / "data.zip"):
        with Archive.open(path) as archive:
            assert archive.folders == ("empty",) and archive.names == ("x",)


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    with Archive.open(tmp_path) as archive:
        assert archive.names == ("a/x",)


def test_missing_empty_and_foreign_files_say_so(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "some.rar").write_bytes(b"Rar!")
    (tmp_path / "zero.zip").write_bytes(b"")
    (tmp_path / "zero.tar.gz").write_bytes(b"")
    for name, said in (
        ("nowhere", "does not exist"),
        ("none", "holds no files"),
        ("some.rar", "neither a folder nor an archive"),
        ("zero.zip", "damaged or no archive"),
        ("zero.tar.gz", "damaged or no archive"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            Archive.open(tmp_path / name)
        assert str(caught.value).count(". ") == 0, "one sentence"


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_a_truncated_archive_is_refused(form: str, tmp_path: Path) -> None:
    path = stored({f"{i}": bytes([i]) * 5000 for i in range(50)}, form, tmp_path)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(DataError, match="damaged or no archive"):
        Archive.open(path)


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("good", b"good" * 100)
        packed.writestr("bad", b"first" * 100)
    content = bytearray(path.read_bytes())
    content[content.index(b"firstfirst")] ^= 1
    path.write_bytes(bytes(content))
    with Archive.open(path) as archive:
        assert archive.read("good") == b"good" * 100
        with pytest.raises(DataError, match="bad in .* is damaged"):
            archive.read("bad")


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = stored({"a.txt": "Köln".encode("latin-1")}, "folder", tmp_path)
    with (
        Archive.open(path) as archive,
        pytest.raises(DataError, match="a.txt in .* is not UTF-8"),
    ):
        archive.text("a.txt")
