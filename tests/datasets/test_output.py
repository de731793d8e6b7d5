"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eightbit.datasets.output import write_whole
from eightbit.errors import EightBitError


def test_text_and_bytes_are_written_and_folders_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.txt", "größe\n")
    write_whole(tmp_path / "new" / "b.bin", b"\0\1")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "größe\n".encode()
    assert (tmp_path / "new" / "b.bin").read_bytes() == b"\0\1"
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_what_stood_there_stands_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EightBitError, match=r"a.txt cannot be written \(No space left on device\)"):
        write_whole(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
