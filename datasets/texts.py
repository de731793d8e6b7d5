"""Plain text: a UTF-8 file, a folder of them or an archive, read into one string."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .archive import Archive, is_archive

_NOTES = ("SOURCE.txt",)
"""where data come from; not data themselves"""


@dataclass(frozen=True)
class Texts:
    """Text of one or more files.

    Attributes:
        text: of all files behind each other, in the order of their names. Line ends are "\\n"; a
            file that does not end in one, before another, gets one; byte order marks are dropped.
        names: of the files, with "/" between folders.
        starts: where each file begins, in characters of `text`.
        passed_over: files of a folder or archive that are empty, or hold a zero byte and so are
            no text.
    """

    text: str
    names: tuple[str, ...]
    starts: tuple[int, ...]
    passed_over: tuple[str, ...] = ()


def decode_text(content: bytes, name: str) -> str:
    """UTF-8 bytes as a string with "\\n" as line ends.

    Raises:
        DataError: it is no UTF-8; the message names the first wrong byte and its place.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8: byte {error.start:,} is 0x{content[error.start]:02x}; convert "
            f"it, with 'iconv -f latin1 -t utf-8' for instance."
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_text_file(path: Path | str) -> str:
    """The text of one UTF-8 file.

    Raises:
        DataError: it is missing, empty, unreadable or no UTF-8.
    """
    path = Path(path)
    try:
        text = decode_text(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not text:
        raise DataError(f"{path} is empty; name a file with text.")
    return text


def read_texts(path: Path | str) -> Texts:
    """Reads a text file, or all text files of a folder, a zip or a tar.

    Raises:
        DataError: something is missing, damaged or no UTF-8, or there is no text.
    """
    path = Path(path)
    if not path.is_dir() and not is_archive(path):
        return Texts(read_text_file(path), (path.name,), (0,))
    with Archive.open(path) as archive:
        names = [name for name in archive.names if name not in _NOTES]
        return _joined(path, names, archive.read)


def _joined(path: Path, names: list[str], read: Callable[[str], bytes]) -> Texts:
    parts: list[str] = []
    kept: list[str] = []
    starts: list[int] = []
    passed_over: list[str] = []
    end = 0
    for name in names:
        content = read(name)
        if not content or b"\0" in content:
            passed_over.append(name)
            continue
        if parts and not parts[-1].endswith("\n"):
            parts[-1] += "\n"
            end += 1
        kept.append(name)
        starts.append(end)
        parts.append(decode_text(content, f"{name} in {path}"))
        end += len(parts[-1])
    if not end:
        raise DataError(f"{path} holds no text; put UTF-8 files into it.")
    return Texts("".join(parts), tuple(kept), tuple(starts), tuple(passed_over))
