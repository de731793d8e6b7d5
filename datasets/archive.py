"""One view on a folder, a zip and a tar of files: names and contents, nothing is unpacked."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from ..errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
_TEXT_SUFFIXES = (".txt", ".md", ".html", ".pdf")
_TABLE_SUFFIXES = (".csv", ".json", ".token")


def is_archive(path: Path) -> bool:
    """Whether a path's name is that of a zip or tar."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


class Archive:
    """Files below one root, wherever they are kept; reading is safe from several threads.

    Hidden files, `__MACOSX` and names that would leave the root are passed over. A folder that
    holds archives beside nothing but text, as a download leaves it, counts as one whose folders are
    those archives, called like them without their endings; tables beside them (.csv, .json, .token)
    count too.

    Attributes:
        path: what was opened.
        names: of all files, with "/" between folders, in order.
        folders: names of all folders, also empty ones, in order.
    """

    def __init__(self, path: Path, mounted: list[tuple[str, _Source]]):
        self.path = path
        self._sources = [source for _, source in mounted]
        self._members: dict[str, tuple[_Source, str]] = {}
        folders: set[str] = set()
        for prefix, source in mounted:
            for inner, is_folder in source.members():
                name = _clean(inner)
                if name is None:
                    continue
                name = prefix + name
                folders.update(str(parent) for parent in PurePosixPath(name).parents)
                if is_folder:
                    folders.add(name)
                else:
                    self._members[name] = (source, inner)
        self.names = tuple(sorted(self._members))
        self.folders = tuple(sorted(folders - {"."}))

    @staticmethod
    def open(path: Path | str) -> Archive:
        """Opens a folder, a .zip, a .tar or a .tar.gz (.tgz).

        Raises:
            DataError: it is missing, empty, damaged, or none of these.
        """
        path = Path(path)
        if not path.exists():
            raise DataError(f"{path} does not exist; check the path.")
        if not path.is_dir():
            return _not_empty(Archive(path, [("", _open_file(path))]))
        archive = Archive(path, [("", _Folder(path))])
        packed = [name for name in archive.names if "/" not in name and is_archive(Path(name))]
        others = [name for name in archive.names if name not in packed]
        tables = [name for name in others if name.lower().endswith(_TABLE_SUFFIXES)]
        texts = [name for name in others if name.lower().endswith(_TEXT_SUFFIXES)]
        if packed and len(tables) + len(texts) == len(others):
            mounted = [(_stem(name) + "/", _open_file(path / name)) for name in packed]
            archive = Archive(path, [("", _Folder(path)), *mounted] if tables else mounted)
        return _not_empty(archive)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; reading afterwards fails."""
        for source in self._sources:
            source.close()

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The content of one file; raises DataError where it is missing or damaged."""
        if name not in self._members:
            raise DataError(f"{self.path} holds no {name}.")
        source, inner = self._members[name]
        try:
            return source.read(inner)
        except (OSError, EOFError, RuntimeError, NotImplementedError, zlib.error) as error:
            raise DataError(f"{name} in {self.path} cannot be read: {error}.") from None
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise DataError(f"{name} in {self.path} is damaged: {error}.") from None

    def text(self, name: str) -> str:
        """The content of one UTF-8 file; raises DataError where it is none."""
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{name} in {self.path} is not UTF-8 text; convert it.") from None


class _Source(Protocol):
    """Where files are kept."""

    def members(self) -> list[tuple[str, bool]]:
        """(name, whether it is a folder) of all."""

    def read(self, name: str) -> bytes: ...

    def close(self) -> None: ...


class _Folder:
    def __init__(self, path: Path):
        self.path = path

    def members(self) -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = []
        seen: set[str] = set()
        for folder, folders, files in os.walk(self.path, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link back to a folder above
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(folder).relative_to(self.path).as_posix()
            start = "" if below == "." else below + "/"
            found += [(start + name, True) for name in folders]
            found += [(start + name, False) for name in files]
        return found

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def close(self) -> None:
        pass


class _Zip:
    def __init__(self, path: Path):
        self._file = zipfile.ZipFile(path)
        self._lock = threading.Lock()

    def members(self) -> list[tuple[str, bool]]:
        return [(info.filename, info.is_dir()) for info in self._file.infolist()]

    def read(self, name: str) -> bytes:
        with self._lock:
            return self._file.read(name)

    def close(self) -> None:
        self._file.close()


class _Tar:
    """A tar; a compressed one is expanded once into a nameless temporary file, to read anywhere."""

    def __init__(self, path: Path):
        self._lock = threading.Lock()
        self._file: IO[bytes] = path.open("rb")
        try:
            if self._file.read(2) == b"\x1f\x8b":
                expanded = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
                try:
                    with gzip.open(path) as packed:
                        shutil.copyfileobj(packed, expanded, 1 << 20)
                except BaseException:
                    expanded.close()
                    raise
                self._file.close()
                self._file = expanded
            self._file.seek(0)
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                infos = tar.getmembers()
        except BaseException:
            self._file.close()
            raise
        weakref.finalize(self, self._file.close)
        self._folders = [info.name for info in infos if info.isdir()]
        self._places = {i.name: (i.offset_data, i.size) for i in infos if i.isreg()}

    def members(self) -> list[tuple[str, bool]]:
        return [(name, True) for name in self._folders] + [(name, False) for name in self._places]

    def read(self, name: str) -> bytes:
        start, size = self._places[name]
        with self._lock:
            self._file.seek(start)
            content = self._file.read(size)
        if len(content) != size:
            raise EOFError("the archive ends too early")
        return content

    def close(self) -> None:
        self._file.close()


def _open_file(path: Path) -> _Source:
    if not is_archive(path):
        raise DataError(
            f"{path} is neither a folder nor an archive; give one of {', '.join(ARCHIVE_SUFFIXES)}."
        )
    try:
        return _Zip(path) if path.name.lower().endswith(".zip") else _Tar(path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path} is damaged or no archive; get it again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def _not_empty(archive: Archive) -> Archive:
    if not archive.names:
        archive.close()
        raise DataError(f"{archive.path} holds no files.")
    return archive


def _clean(name: str) -> str | None:
    """The name below the root with "/" between folders; None for what is passed over."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    strange = name.startswith("/") or ".." in parts or ":" in name.split("/")[0]
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return None if strange or hidden or not parts else "/".join(parts)


def _stem(name: str) -> str:
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
