"""Text files, folders and archives as one string."""

from __future__ import annotations

import zipfile

import pytest

from eightbit.datasets.texts import decode_text, read_text_file, read_texts
from eightbit.errors import DataError


def test_a_file_is_read_with_plain_line_ends_and_without_its_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree \xc3\xa9\n")
    found = read_texts(path)
    assert found.text == "one\ntwo\nthree é\n"
    assert (found.names, found.starts) == (("a.txt",), (0,))


def test_a_folder_is_read_in_order_with_the_places_of_its_files(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.c").write_text("int b;\n")
    (tmp_path / "a.c").write_text("int ä;")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\1")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "SOURCE.txt").write_text("where it comes from")
    (tmp_path / ".hidden").write_text("x")
    found = read_texts(tmp_path)
    assert found.text == "int ä;\nint b;\n"
    assert found.names == ("a.c", "b/two.c")
    assert [found.text[start:][:5] for start in found.starts] == ["int ä", "int b"]
    assert set(found.passed_over) == {"picture.png", "empty.txt"}


def test_a_zip_reads_like_the_folder(tmp_path):
    path = tmp_path / "texts.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/one.txt", "first")
        archive.writestr("x/two.txt", "second\n")
    found = read_texts(path)
    assert (found.text, found.starts) == ("first\nsecond\n", (0, 6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "missing.txt", "missing.txt does not exist"),
        (lambda folder: _file(folder, b""), "is empty; name a file with text"),
        (lambda folder: _file(folder, b"caf\xe9 au lait"), r"not UTF-8: byte 3 is 0xe9; convert"),
        (lambda folder: _file(folder, b"", in_folder=True), "holds no text"),
        (
            lambda folder: _file(folder, b"ok\xff", in_folder=True),
            r"x.txt in .*texts is not UTF-8: byte 2 is 0xff",
        ),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        read_texts(make(tmp_path))


def _file(folder, content, in_folder=False):
    place = folder / "texts"
    place.mkdir()
    (place / "x.txt").write_bytes(content)
    return place if in_folder else place / "x.txt"


def test_a_folder_is_no_text_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_text_file(tmp_path)


def test_bytes_are_named_by_the_name_given():
    with pytest.raises(DataError, match="standard input is not UTF-8: byte 0"):
        decode_text(b"\x80", "standard input")
