"""Downloads against a server on this machine: whole and checked, or nothing at all."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eightbit.datasets import DATASETS, DataSet, RemoteFile
from eightbit.datasets import download as module
from eightbit.datasets.download import (
    cache_folder,
    describe_datasets,
    download,
    locate,
    resolve,
    source_facts,
)
from eightbit.errors import DataError, UnknownNameError

CONTENT = bytes(range(256)) * 4096
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // (2 if self.path == "/broken" else 1)])

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that has CONTENT."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    _Handler.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that does not exist yet; no local data."""
    monkeypatch.setenv("EIGHTBIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EIGHTBIT_DATA", raising=False)
    return tmp_path / "cache"


def remote(url: str, checksum: str | None = MD5, tried: bool = True) -> RemoteFile:
    return RemoteFile(url, "file.bin", checksum, tried)


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_a_good_file_is_kept_whole(address: str, tmp_path: Path) -> None:
    lines: list[str] = []
    path = download(remote(address + "/good"), tmp_path / "cache" / "set", lines.append)
    assert path == tmp_path / "cache" / "set" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert lines == [f"downloading {address}/good"]
    assert left_in(tmp_path) == [path]


def test_what_is_untried_or_without_checksum_is_said(address: str, tmp_path: Path) -> None:
    lines: list[str] = []
    download(remote(address + "/good", tried=False), tmp_path / "set", lines.append)
    assert lines == [f"downloading {address}/good (this address and its checksum are untried)"]
    lines.clear()
    download(remote(address + "/good", None, tried=False), tmp_path / "set", lines.append)
    assert lines[0].endswith("(this address is untried)")
    assert lines[1] == f"file.bin has sha256:{SHA256}"


@pytest.mark.parametrize(
    ("path", "checksum", "said"),
    [
        ("/good", "md5:" + "0" * 32, "does not have the checksum"),
        ("/good", "sha256:" + "0" * 64, "does not have the checksum"),
        ("/missing", MD5, "the server answers 404"),
        ("/broken", MD5, "the connection broke"),
        ("/broken", None, "the connection broke"),
    ],
)
def test_a_failure_is_one_sentence_and_leaves_nothing(
    path: str, checksum: str | None, said: str, address: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        download(remote(address + path, checksum), tmp_path / "set", lambda line: None)
    assert "\n" not in str(caught.value) and "--data" in str(caught.value)
    assert left_in(tmp_path) == [] and not (tmp_path / "set").exists()


def test_a_server_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    port = server.server_address[1]
    server.server_close()
    with pytest.raises(DataError, match="the server cannot be reached"):
        download(remote(f"http://127.0.0.1:{port}/good"), tmp_path / "set", lambda line: None)
    assert left_in(tmp_path) == []


def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: object, count: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module._ProgressBar, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            download(remote(address + "/good"), tmp_path / "set", lambda line: None)
    assert left_in(tmp_path) == []
    path = download(remote(address + "/good"), tmp_path / "set", lambda line: None)
    assert path.read_bytes() == CONTENT


def test_no_space_left_is_said(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, *_: object) -> None:
            pass

        def write(self, content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr("pooch.downloaders.open", Full, raising=False)
    with pytest.raises(DataError, match="could not be kept in .*: no space is left"):
        download(remote(address + "/good"), tmp_path / "set", lambda line: None)
    assert left_in(tmp_path) == []


@pytest.fixture
def tiny(address: str, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """A registered data set of two files on the server."""
    files = tuple(RemoteFile(f"{address}/{n}", n, MD5, True) for n in ("one.bin", "two.bin"))
    tiny = DataSet("tiny", "pictures", "two files", "CC0", "Nobody, 2020", files)
    monkeypatch.setitem(DATASETS._things, "tiny", tiny)
    return tiny


def test_a_set_is_taken_from_the_local_folder_then_the_cache_then_the_web(
    tiny: DataSet, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place() -> str:
        (line,) = (line for line in describe_datasets() if line.name == "tiny")
        return line.place

    assert place() == "download" and not cache.exists(), "nothing is made by looking"
    assert locate("tiny", lambda line: None) == cache / "tiny"
    assert _Handler.asked == ["/one.bin", "/two.bin"] and place() == "cache"
    locate("tiny", lambda line: None)
    assert len(_Handler.asked) == 2, "nothing is fetched twice"
    (cache / "tiny" / "two.bin").unlink()
    assert place() == "download"
    resolve("tiny", lambda line: None)
    assert _Handler.asked[2:] == ["/two.bin"], "only what is missing"
    (tmp_path / "own" / "tiny").mkdir(parents=True)
    monkeypatch.setenv("EIGHTBIT_DATA", str(tmp_path / "own"))
    assert locate("tiny") == tmp_path / "own" / "tiny" and place() == "local folder"
    monkeypatch.setitem(DATASETS._things, "tiny-one", tiny)
    (tmp_path / "own" / "tiny_one").mkdir()
    assert locate("tiny-one") == tmp_path / "own" / "tiny_one", "a low line may be a hyphen"


def test_a_path_comes_before_a_name_and_unknown_words_get_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    assert resolve("cifar10") == Path("cifar10")
    assert resolve(str(tmp_path)) == tmp_path
    with pytest.raises(UnknownNameError, match="did you mean bccd"):
        resolve("bcd")
    for path in ("my/pictures", "pictures.zip"):
        with pytest.raises(DataError, match="does not exist"):
            resolve(path)


def test_the_cache_is_below_home_unless_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EIGHTBIT_CACHE", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "eightbit" / "data"


def test_every_known_set_is_described(cache: Path) -> None:
    lines = describe_datasets()
    assert [line.name for line in lines] == list(DATASETS)
    assert {"bccd", "bsds500", "cifar10", "lfw_faces", "mnist"} <= {line.name for line in lines}
    for line in lines:
        known = DATASETS[line.name]
        assert known.licence and known.origin
        if known.generated:
            assert line.place == "generated" and line.address == known.origin and not known.files
            with pytest.raises(DataError, match=f"{line.name} has no files, it is generated"):
                locate(line.name)
            continue
        if not known.files:
            assert line.place == "missing" and line.address == f"$EIGHTBIT_DATA/{line.name}"
            with pytest.raises(DataError, match=f"{line.name} has no address .* EIGHTBIT_DATA"):
                locate(line.name)
            continue
        assert line.place == "download" and line.address.startswith("http")
        for file in known.files:
            algorithm, _, digits = (file.checksum or "sha256:" + "0" * 64).partition(":")
            assert len(digits) == {"md5": 32, "sha256": 64}[algorithm]


def test_the_source_is_the_note_in_the_folder_or_the_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bare = source_facts("cifar10", tmp_path)
    assert "Krizhevsky" in bare["source"] and bare["licence"] == DATASETS["cifar10"].licence
    (tmp_path / "SOURCE.txt").write_text("Coded\nagain.")
    assert source_facts("cifar10", tmp_path)["source"] == "Coded again."
    (tmp_path / "SOURCE.txt").unlink()
    assert source_facts("./own", tmp_path) == {"source": "./own", "licence": "not stated"}


def test_the_room_is_cheap_to_import() -> None:
    script = (
        "import sys, eightbit\nbefore = set(sys.modules)\n"
        "import eightbit.datasets, eightbit.datasets.download\n"
        "print(sorted({'torch', 'cv2', 'pooch', 'requests', 'PIL'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
