"""Sweeps: a table of runs, each game with several seeds, every run in a process of its own.

runs/sweep-pqn-fast-0-20260101-120000/
    sweep.toml             what all runs have in common, the games, and the number of seeds
    pong-pqn-fast-0/       a run folder like any other
    pong-pqn-fast-1/
    logs/                  what each run printed

Where a sweep stands is read from its run folders alone, so that nothing is lost with the process
that conducts it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..backbones import BACKBONES
from ..errors import RunFolderError, UsageError
from .checkpoints import DamagedError, read_header
from .runs import (
    CONFIG,
    FORMAT,
    RunFolder,
    describe_machine,
    new_folder,
    read_config,
    write_config,
)
from .session import GYM_PREFIX, MAX_SEED, RunRequest, decode_options

SWEEP = "sweep.toml"
LOGS = "logs"
_MAY_CHANGE = (
    "frames",
    "minutes",
    "device",
    "eval_every",
    "eval_episodes",
    "save_replay",
    "checkpoint_minutes",
    "log_style",
)
_FIXED = tuple(
    one.name for one in dataclasses.fields(RunRequest) if one.name not in ("game", *_MAY_CHANGE)
)


@dataclass(frozen=True)
class SweepSettings:
    """Several runs in one command."""

    seeds: int | None = field(default=None, metadata={"unset": "1"})
    """runs of each game, with the seeds from --seed on"""
    jobs: int | None = field(default=None, metadata={"unset": "1; one a device with --devices"})
    """of several runs, how many go on at once; they share the cores"""
    devices: str = field(default="", metadata={"metavar": "cuda:0,cuda:1", "unset": "--device"})
    """devices that several runs are spread over, one process a run"""

    def __post_init__(self) -> None:
        """Refuses numbers below 1 and devices named twice; raises UsageError."""
        for name in ("seeds", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1.")
        named = self.device_names
        if len(set(named)) < len(named) or "" in named:
            raise UsageError(
                f"--devices is {self.devices!r}; name each device once, like cuda:0,cuda:1."
            )

    @property
    def device_names(self) -> tuple[str, ...]:
        """The devices apart from each other; empty where none is named."""
        return tuple(name.strip() for name in self.devices.split(",")) if self.devices else ()


@dataclass(frozen=True)
class Sweep:
    """What a sweep consists of.

    Attributes:
        request: of all runs; its seed is the first one, its game the first one.
        options: of the agent.
        games: canonical names or `gym:<id>`.
        seeds: how many runs each game has.
    """

    request: RunRequest
    options: Any
    games: tuple[str, ...]
    seeds: int

    def __post_init__(self) -> None:
        """Refuses tables that make no sweep; raises UsageError."""
        twice = [game for game in self.games if self.games.count(game) > 1]
        if twice:
            raise UsageError(f"{twice[0]} is named twice; --seeds gives a game several runs.")
        if len({game.startswith(GYM_PREFIX) for game in self.games}) > 1:
            raise UsageError(
                "games of the console and environments of Gymnasium are learnt with different "
                "presets; train them in sweeps of their own."
            )
        if self.request.seed + self.seeds - 1 > MAX_SEED:
            raise UsageError(
                f"{self.seeds} seeds from {self.request.seed} on end above {MAX_SEED:,}; begin "
                "lower with --seed."
            )

    def runs(self, folder: Path) -> list[SweepRun]:
        """The runs, the first seed of all games first, so that a table is soon complete."""
        said = (self.request.agent, self.request.preset)
        return [
            SweepRun("-".join([_file_name(game), *said, str(seed)]), game, seed, folder)
            for seed in range(self.request.seed, self.request.seed + self.seeds)
            for game in self.games
        ]


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: of its folder, `<game>-<agent>-<preset>-<seed>`.
        game, seed: what it learns, and from which seed.
        sweep: folder of the sweep.
    """

    name: str
    game: str
    seed: int
    sweep: Path

    @property
    def path(self) -> Path:
        return self.sweep / self.name

    @property
    def log(self) -> Path:
        return self.sweep / LOGS / f"{self.name}.log"

    def saved(self) -> RunRequest | None:
        """What its folder says it was asked for; None before it has begun."""
        if not (self.path / CONFIG).is_file():
            return None
        return RunRequest.from_table(RunFolder.open(self.path).config["run"])

    def standing(self, request: RunRequest) -> str:
        """`missing`, `begun` (without a checkpoint), `half` or `done`, by its checkpoints.

        Raises RunFolderError when its configuration is damaged.
        """
        saved = self.saved()
        if saved is None:
            return "missing"
        checkpoints = RunFolder.open(self.path).checkpoints.steps()
        if not checkpoints:
            return "begun"
        try:
            header = read_header(checkpoints[-1].state)
        except DamagedError:
            return "half"  # resuming takes the checkpoint before it
        frames = saved.frames if request.frames is None else request.frames
        minutes = saved.minutes if request.minutes is None else request.minutes
        made, spent = int(header["frames"]), float(header["minutes"]) + 0.005  # it is rounded
        over = (frames is not None and made >= frames) or (minutes is not None and spent >= minutes)
        return "done" if over else "half"

    def in_use(self) -> bool:
        """Whether another process trains it: one that outlived the sweep which started it."""
        if not os.access(self.path / ".lock", os.W_OK):
            return False
        try:
            with RunFolder(self.path, {}).locked():
                return False
        except RunFolderError:
            return True

    def words(self, request: RunRequest, device: str | None) -> list[str]:
        """The command line, after `eightbit`, that begins the run or goes on with it.

        A folder without a checkpoint holds nothing to go on from; it is removed.
        """
        saved, standing = self.saved(), self.standing(request)
        if standing == "begun":
            shutil.rmtree(self.path)
        if saved is None or standing == "begun":
            words = ["train", self.game, "--config", str(self.sweep / SWEEP)]
            words += ["--seed", str(self.seed), "--seeds", "1", "--out", str(self.path)]
            return [*words, "--device", device] if device else words
        words = ["train", "--resume", str(self.path)]
        wanted = dataclasses.replace(request, device=device or request.device)
        for name in _MAY_CHANGE:
            value = getattr(wanted, name)
            settled = value is None or (name == "save_replay" and value == "auto")
            if not settled and value != getattr(saved, name):
                words += [f"--{name.replace('_', '-')}", str(value)]
        return words


def _file_name(game: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", game.removeprefix(GYM_PREFIX))


# --------------------------------------------------------------------------------- its file


def is_sweep(folder: str | Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (Path(folder) / SWEEP).is_file()


def sweep_table(config: Mapping[str, Any]) -> tuple[list[str], int | None]:
    """The games and number of seeds that a configuration names; none where it is of one run.

    Raises RunFolderError when they make no sense.
    """
    table = config.get("sweep")
    if table is None:
        return [], None
    games, seeds = table.get("games"), table.get("seeds")
    named = isinstance(games, list) and games and all(isinstance(game, str) for game in games)
    if not named or not isinstance(seeds, int) or seeds < 1:
        raise RunFolderError(f"the table [sweep] of {SWEEP} does not fit: it names no runs.")
    return list(games), seeds


@contextmanager
def opened(sweep: Sweep, out: str | Path | None) -> Iterator[tuple[Path, Sweep]]:
    """Makes the folder of a sweep, or goes on with it, and holds it for this process.

    Args:
        sweep: what is asked for.
        out: the folder; by default a new one in `runs/`.

    Yields:
        The folder, and the sweep: a length that is not told anew is the one it had.

    Raises:
        RunFolderError: the folder is something else, in use, or cannot be made.
        UsageError: what is asked for contradicts what the folder holds; says which setting.
    """
    request = sweep.request
    what = (f"sweep-{request.agent}", request.preset, request.seed, datetime.now())
    path = Path(out) if out else new_folder("runs", *what)
    BACKBONES[sweep.options.backbone]  # an unknown one is refused before anything is made
    if path.exists() and not is_sweep(path) and not _is_bare(path):
        raise RunFolderError(f"{path} exists already and is no sweep; choose another --out.")
    try:
        (path / LOGS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make {path}: {error.strerror}.") from None
    with RunFolder(path, {}).locked():
        if is_sweep(path):
            sweep = _going_on(path, sweep)
        first = dataclasses.replace(sweep.request, game=sweep.games[0])
        tables = {
            "run": {**dataclasses.asdict(first), "protocol": first.protocol.value},
            "options": dataclasses.asdict(sweep.options),
            "sweep": {"games": list(sweep.games), "seeds": sweep.seeds},
        }
        write_config(path / SWEEP, {"format": FORMAT, **tables, **describe_machine()})
        yield path, sweep


def _is_bare(path: Path) -> bool:
    """Whether a folder holds no more than a sweep that was killed before its first file."""
    return path.is_dir() and {child.name for child in path.iterdir()} <= {LOGS, ".lock"}


def _going_on(path: Path, sweep: Sweep) -> Sweep:
    """The sweep as it goes on in its folder; raises UsageError where it would be another one."""
    config = read_config(path / SWEEP)
    before = RunRequest.from_table(config["run"])
    games, seeds = sweep_table(config)
    request = sweep.request
    if request.frames is None and request.minutes is None:
        request = dataclasses.replace(request, frames=before.frames, minutes=before.minutes)
        sweep = dataclasses.replace(sweep, request=request)
    if not any((child / CONFIG).is_file() for child in path.iterdir() if child.is_dir()):
        return sweep  # no run has begun yet
    for name in _FIXED:
        _refuse_change(path, name, getattr(before, name), getattr(request, name))
    # What another agent's options are is no question any more.
    saved = dataclasses.asdict(decode_options(type(sweep.options), config["options"]))
    for name, value in dataclasses.asdict(sweep.options).items():
        _refuse_change(path, name, saved[name], value)
    missing = [game for game in games if game not in sweep.games]
    if missing:
        raise UsageError(
            f"{path} is a sweep of {', '.join(games)}, and {missing[0]} is not among the games "
            "asked for; a sweep may get more games, not fewer."
        )
    for name, old, new in (
        ("seeds", seeds, sweep.seeds),
        ("frames", before.frames, request.frames),
        ("minutes", before.minutes, request.minutes),
    ):
        if old is not None and new is not None and new < old:
            raise UsageError(
                f"{name} is {old:,} in {path} and {new:,} is asked for; a sweep may get longer, "
                "not shorter."
            )
    return sweep


def _refuse_change(path: Path, name: str, old: Any, new: Any) -> None:
    if old != new:
        old, new = getattr(old, "value", old), getattr(new, "value", new)
        raise UsageError(
            f"{name} is {old} in {path} and {new} is asked for; it cannot change when a sweep "
            "goes on: start another one with --out."
        )


def planned_sweep(
    request: RunRequest, options: Any, games: Sequence[str], seeds: int, settings: SweepSettings
) -> Sweep:
    """The sweep of some games; raises UsageError where settings contradict each other."""
    if settings.devices and request.device != "auto":
        raise UsageError(
            f"--device {request.device} and --devices {settings.devices} are both given; leave "
            "one out."
        )
    return Sweep(request, options, tuple(games), seeds)
