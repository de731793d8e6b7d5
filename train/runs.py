"""Run folders: everything about one training run, in one place that explains itself.

runs/pong-fast-0-20260101-120000/
    config.toml        all that repeats the run, with package versions and git commit
    README.md          the model card, written by the program
    model.safetensors  the newest weights, ready to play
    checkpoints/       the last two checkpoints and the best
    episodes.csv       one row for each finished training episode
    progress.csv       one row every few seconds
    events/            TensorBoard
    evaluation.json, videos/, curves   what `evaluate` and `watch` add
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import tomli_w

from .. import __version__
from ..errors import RunFolderError, TrainingError
from .checkpoints import Checkpoint, Checkpoints, DamagedError, write_atomically

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = 1
CONFIG = "config.toml"
_PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "stable-baselines3", "safetensors")


@dataclass(frozen=True)
class RunFolder:
    """An existing run folder and its configuration.

    Attributes:
        path: the folder.
        config: the tables of config.toml: `run`, `options`, `versions`, `machine`, `origin`.
    """

    path: Path
    config: dict[str, Any]

    @classmethod
    def create(cls, path: str | Path, tables: Mapping[str, Any]) -> RunFolder:
        """Makes the folder with its config.toml.

        Args:
            path: a new or empty folder.
            tables: what config.toml holds, without the tables that describe this machine.

        Raises:
            RunFolderError: the folder exists with something in it, or cannot be made.
        """
        path = Path(path)
        try:
            refuse_existing(path)
            path.mkdir(parents=True, exist_ok=True)
            config = {"format": FORMAT, **tables, **describe_machine()}
            write_config(path / CONFIG, config)
        except OSError as error:
            raise RunFolderError(f"cannot make {path}: {error.strerror}.") from None
        return cls(path, config)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Opens what `create` made.

        Raises:
            RunFolderError: there is no such folder, it is no run, it is damaged, or it is newer
                than this program.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunFolderError(
                f"there is no run folder {path}; 'eightbit train GAME --out {path}' makes one."
            )
        if not (path / CONFIG).is_file():
            raise RunFolderError(f"{path} is no run folder: it holds no {CONFIG}.")
        config = read_config(path / CONFIG)
        if "machine" not in config:  # it stands behind all that a run is repeated by
            raise RunFolderError(f"{path / CONFIG} is damaged: its end is missing.")
        return cls(path, config)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints")

    @property
    def model(self) -> Path:
        """The newest playable weights."""
        return self.path / "model.safetensors"

    @property
    def task(self) -> str | None:
        """The task that the run learns; None where it is a game's."""
        return self.config["run"].get("task")

    @property
    def game(self) -> str:
        """What the run plays: a game's canonical name or `gym:<id>`.

        Raises RunFolderError where it is a task's run.
        """
        if self.task is not None:
            raise RunFolderError(
                f"{self.path} is a run of the task {self.task}, not of a game; this is for games."
            )
        return str(self.config["run"]["game"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process; the system lets go of it however the process ends.

        Raises RunFolderError naming the process that has it.
        """
        try:
            file = open(self.path / ".lock", "a+b")  # noqa: SIM115  # closed below
        except OSError as error:
            raise RunFolderError(f"cannot write to {self.path}: {error.strerror}.") from None
        with file:
            if not _try_lock(file):
                file.seek(0)
                owner = file.read().decode(errors="replace").strip() or "another process"
                raise RunFolderError(
                    f"{self.path} is in use by process {owner}: wait for it or stop it, or train "
                    "in another folder."
                )
            file.truncate(0)
            file.write(str(os.getpid()).encode())
            file.flush()
            yield


def last_whole(
    folder: RunFolder,
    load: Callable[[Checkpoint], dict[str, Any]],
    say: Callable[[str], None],
) -> tuple[Checkpoint, dict[str, Any]]:
    """The newest checkpoint that `load` can read, with its state; damaged ones are set aside.

    Raises RunFolderError where there is none.
    """
    reasons = []
    for checkpoint in reversed(folder.checkpoints.steps()):
        try:
            return checkpoint, load(checkpoint)
        except DamagedError as error:
            reasons.append(str(error))
            say(f"{error} Taking the checkpoint before it.")
            folder.checkpoints.set_aside(checkpoint)
    if reasons:
        raise RunFolderError(f"{folder.path} has no whole checkpoint: {reasons[0]}")
    raise RunFolderError(
        f"{folder.path} ended before its first checkpoint; repeat it with "
        f"'eightbit train --config {folder.path / CONFIG}'."
    )


@contextmanager
def naming_last_checkpoint(folder: RunFolder) -> Iterator[None]:
    """Adds to what ends training in its block where the run can go on from.

    Raises TrainingError, also for an OSError of the disk; BrokenPipeError passes: nobody reads
    what is printed.
    """
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{str(error).rstrip('.')}; {_last_saved(folder)}.") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TrainingError(
            f"cannot write to {folder.path}: {error.strerror}; {_last_saved(folder)}."
        ) from None


def _last_saved(folder: RunFolder) -> str:
    saved = folder.checkpoints.steps()
    if not saved:
        return "no checkpoint was written before"
    return (
        f"the last checkpoint is of step {saved[-1].step:,}, to resume with "
        f"'eightbit train --resume {folder.path}'"
    )


def refuse_existing(path: Path) -> None:
    """Raises RunFolderError where a new run would meet something that is there already."""
    if (path / CONFIG).is_file():
        raise RunFolderError(
            f"{path} exists already: continue it with 'eightbit train --resume {path}' or choose "
            "another folder with --out."
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunFolderError(
            f"{path} exists already and is no run folder; choose another one with --out."
        )


def read_config(path: str | Path) -> dict[str, Any]:
    """Reads a config.toml of ours.

    Raises RunFolderError when it is missing, damaged or from a newer version.
    """
    try:
        with open(path, "rb") as file:
            config = tomllib.load(file)
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged: {error}.") from None
    number = config.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise RunFolderError(
            f"{path} was written by a newer version of eightbit (format {number}, this one knows "
            f"{FORMAT}); upgrade with 'pip install -U eightbit'."
        )
    tables = ("run", "options")
    whole = all(isinstance(config.get(name), dict) for name in tables)
    if number != FORMAT or not whole or not {"game", "task"} & set(config["run"]):
        raise RunFolderError(f"{path} is no configuration of a run.")
    return config


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Writes tables as TOML; None, which TOML lacks, is written as the text "none".

    Raises RunFolderError as `write_text` does.
    """
    write_text(path, tomli_w.dumps(_without_none(config)))


def write_text(path: Path, text: str) -> None:
    """Writes a whole file, or leaves what it held; raises RunFolderError when the disk refuses."""
    try:
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}.") from None


def new_folder(parent: str | Path, what: str, preset: str, seed: int, now: datetime) -> Path:
    """The path of a new run, `<what>-<preset>-<seed>-<time>` in `parent`; it is not made."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", what)
    base = Path(parent) / f"{name}-{preset}-{seed}-{now:%Y%m%d-%H%M%S}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def describe_machine() -> dict[str, Any]:
    """The tables `versions`, `machine` and `origin` of config.toml."""
    versions = {"eightbit": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": versions,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": psutil.cpu_count() or 1,
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        },
        "origin": {"git_commit": git_commit(Path(__file__).resolve().parents[1])},
    }


def git_commit(root: Path) -> str:
    """The commit of a checkout, with "-changed" where files differ from it; "none" outside one."""
    if not (root / ".git").exists():
        return "none"
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "none"
    return f"{commit}-changed" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return "none" if value is None else value


def _try_lock(file: BinaryIO) -> bool:
    """Takes an exclusive lock on an open file, which closing it gives back."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 20)  # beyond the process number, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # Windows
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
