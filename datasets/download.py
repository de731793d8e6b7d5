"""Where a data set lies: a local folder, the cache, or its own address on the web."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, UsageError
from . import DATASETS, Kind, RemoteFile

Say = Callable[[str], None]
Place = Literal["local folder", "cache", "download", "generated", "missing"]


def say_on_stderr(line: str) -> None:
    """Prints a line where it does not mix with results."""
    print(line, file=sys.stderr)


def cache_folder() -> Path:
    """Where downloads are kept: $EIGHTBIT_CACHE, or ~/.cache/eightbit/data. It may not exist."""
    chosen = os.environ.get("EIGHTBIT_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "eightbit" / "data"


def local_folder(name: str) -> Path | None:
    """The data set's folder below $EIGHTBIT_DATA; None where there is none.

    A hyphen of the name may be a low line in the folder's.
    """
    root = os.environ.get("EIGHTBIT_DATA")
    if not root:
        return None
    folders = (Path(root) / spelled for spelled in (name, name.replace("-", "_")))
    return next((folder for folder in folders if folder.is_dir()), None)


def locate(name: str, say: Say = say_on_stderr) -> Path:
    """The folder of a data set known by name; it is downloaded where it is not there yet.

    Args:
        name: in `DATASETS`.
        say: is told what is downloaded and whether its address was ever tried.

    Raises:
        UnknownNameError: the name is not known; the message lists the nearest ones.
        DataError: it could not be downloaded, in one sentence; nothing half-done is left. Or it
            has no files because it is generated.
        UsageError: pooch, which downloads, is not installed.
    """
    data_set = DATASETS[name]
    if data_set.generated:
        raise DataError(
            f"{name} has no files, it is generated for some tasks; name other data for this one."
        )
    local = local_folder(name)
    if local is not None:
        return local
    if not data_set.files:
        raise DataError(
            f"{name} has no address to download it from; put it into the folder {name} of the "
            "folder that EIGHTBIT_DATA names."
        )
    folder = cache_folder() / name
    for file in data_set.files:
        if not (folder / file.file_name).exists():
            download(file, folder, say)
    return folder


def resolve(data: str, say: Say = say_on_stderr) -> Path:
    """The folder or archive that `--data` means: an existing path, else a data set's name.

    Raises:
        DataError: it looks like a path and does not exist, or a download failed.
        UnknownNameError: it is no known name.
    """
    path = Path(data).expanduser()
    if path.exists():
        return path
    if data not in DATASETS and ("/" in data or os.sep in data or path.suffix):
        raise DataError(f"{data} does not exist; check the path.")
    return locate(data, say)


@dataclass(frozen=True)
class Described:
    """A line of `eightbit list data`.

    Attributes:
        name, kind, description, licence: of the data set.
        place: where it would be taken from.
        address: that folder, or the address of its first file, or where it should be put; of what
            is generated, by which rules.
    """

    name: str
    kind: Kind
    description: str
    licence: str
    place: Place
    address: str


def describe_datasets() -> list[Described]:
    """All known data sets in order of their names; nothing is downloaded or created."""
    lines = []
    for name in DATASETS:
        known = DATASETS[name]
        local, cached = local_folder(name), cache_folder() / name
        place: Place
        if known.generated:
            place, address = "generated", known.origin
        elif local is not None:
            place, address = "local folder", str(local)
        elif not known.files:
            place, address = "missing", f"$EIGHTBIT_DATA/{name}"
        elif all((cached / file.file_name).exists() for file in known.files):
            place, address = "cache", str(cached)
        else:
            place, address = "download", known.files[0].url
        lines.append(Described(name, known.kind, known.description, known.licence, place, address))
    return lines


def source_facts(data: str, path: Path) -> dict[str, str]:
    """What a run records of where its data come from: `source` and `licence`.

    The text of a SOURCE.txt in the folder is the source; else the data set's publication.
    """
    note = path / "SOURCE.txt"
    known = DATASETS[data] if data in DATASETS and not Path(data).exists() else None
    if note.is_file():
        source = " ".join(note.read_text(encoding="utf-8", errors="replace").split())
    else:
        source = known.origin if known else data
    return {"source": source, "licence": known.licence if known else "not stated"}


def download(file: RemoteFile, folder: Path, say: Say = say_on_stderr) -> Path:
    """Fetches one file into `folder`, whole and checked, or leaves nothing.

    Raises:
        DataError: no connection, an error of the server, a wrong checksum, no space.
        UsageError: pooch is not installed.
    """
    try:
        import pooch
        import requests
    except ImportError:
        raise UsageError("downloads need pooch: pip install 'eightbit[tasks]'.") from None

    _say_before(file, say)
    target = folder / file.file_name
    pooch.get_logger().setLevel("WARNING")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder.parent) as unfinished:
            path = _fetched(file, unfinished)
            if file.checksum is None:
                say(f"{file.file_name} has sha256:{_sha256(path)}")
            folder.mkdir(exist_ok=True)
            os.replace(path, target)
    except requests.RequestException as error:
        raise DataError(
            f"{file.url} could not be downloaded: {_reason(error)}; try again later, or get it by "
            "other means and name its folder with --data."
        ) from None
    except ValueError:  # pooch's, of a checksum that differs
        raise DataError(
            f"{file.file_name} from {file.url} does not have the checksum {file.checksum} and was "
            "thrown away; try again, or get it by other means and name its folder with --data."
        ) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no space is left" if full else str(error.strerror or error)
        raise DataError(
            f"{file.file_name} could not be kept in {folder.parent}: {reason}; free some "
            "or choose another folder with EIGHTBIT_CACHE."
        ) from None
    return target


def _fetched(file: RemoteFile, folder: str) -> Path:
    """The file in `folder`, its checksum tested; raises what pooch and requests raise."""
    import pooch

    with _ProgressBar(file.file_name) as bar, ExitStack() as answers:

        def close_at_the_end(answer: Any, **_: object) -> None:  # pooch does not after a failure
            answers.callback(answer.close)

        hooks = {"response": close_at_the_end}
        fetch = pooch.HTTPDownloader(bar, chunk_size=1 << 18, hooks=hooks)
        return Path(
            pooch.retrieve(file.url, file.checksum, file.file_name, folder, downloader=fetch)
        )


def _say_before(file: RemoteFile, say: Say) -> None:
    line = f"downloading {file.url}"
    if not file.tried:
        what = "address is" if file.checksum is None else "address and its checksum are"
        line += f" (this {what} untried)"
    say(line)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _reason(error: Any) -> str:
    """A download's failure in some words."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke before the end"
    return "the server cannot be reached"


class _ProgressBar:
    """A bar on stderr with time left, by the protocol of pooch's progress bars."""

    def __init__(self, label: str):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(label, total=None)
        self._total = 0

    def __enter__(self) -> _ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def total(self) -> int:
        """Bytes of the whole file; 0 where the server does not say."""
        return self._total

    @total.setter
    def total(self, count: int) -> None:
        self._total = count
        self._progress.update(self._task, total=count or None)

    def update(self, count: int) -> None:
        """`count` more bytes are here."""
        self._progress.advance(self._task, count)

    def reset(self) -> None:
        """pooch sets the bar back at the end and fills it in one step."""
        self._progress.reset(self._task, total=self._total or None)

    def close(self) -> None:
        """The end; the bar is taken away when the context ends."""
