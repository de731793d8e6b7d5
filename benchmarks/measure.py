"""What the benchmarks share: the machine, its matmul rate, timing in turn, tables and records."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

SCHEMA = 1
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("eightbit", "torch", "numpy", "gymnasium", "ale-py", "stable-baselines3", "envpool")


@dataclass(frozen=True)
class Row:
    """One thing measured.

    Attributes:
        name: what it is, unique in its record.
        library: whose code it is.
        unit: of `value` and `repeats`.
        repeats: every measurement; `value` is their median.
        precision: "fp32", "bf16", or "" where nothing is multiplied.
        threads: threads that the measured code may use.
        num_envs, batch_size, replay_ratio: as set; None where there is no such thing.
        gflops: billions of floating point operations per second, None where not known.
        extra: further figures by name with unit, such as {"bytes per transition": 7071}.
    """

    name: str
    library: str
    unit: str
    repeats: list[float]
    threads: int
    precision: str = ""
    num_envs: int | None = None
    batch_size: int | None = None
    replay_ratio: float | None = None
    gflops: float | None = None
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.repeats)


@dataclass(frozen=True)
class Ratio:
    """Two rows compared, pair by pair.

    Attributes:
        name: what it says.
        numerator, denominator: names of rows.
        values: one ratio for each pair of measurements that followed one another.
        bar: what it should reach; None where there is no such aim.
    """

    name: str
    numerator: str
    denominator: str
    values: list[float]
    bar: float | None = None

    @property
    def median(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(self.values)


def compare(name: str, numerator: Row, denominator: Row, bar: float | None = None) -> Ratio:
    """The ratio of two rows whose repeats were taken in turn."""
    pairs = zip(numerator.repeats, denominator.repeats, strict=True)
    return Ratio(name, numerator.name, denominator.name, [a / b for a, b in pairs], bar)


def in_turn(measurements: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Takes every measurement once, then all of them again: never two at the same time.

    The order is reversed each time, so that a machine that slows down favours nobody.
    """
    taken: dict[str, list[float]] = {name: [] for name in measurements}
    for repeat in range(repeats):
        names = list(measurements) if repeat % 2 == 0 else list(reversed(measurements))
        for name in names:
            taken[name].append(measurements[name]())
    return taken


def rate(work: Callable[[], int], seconds: float) -> float:
    """Calls `work`, which returns how much it did, for at least `seconds`; amount per second."""
    done, start = 0, time.perf_counter()
    while True:
        done += work()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return done / elapsed


def scored_run(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Metrics of a run of ours on its test split; one that is scored already is not made again.

    Args:
        words: of `eightbit train`, without the folder.
        folder: of the run. The program ends where one of the commands fails.
    """
    record = folder / "evaluation.json"
    if not record.is_file():
        _command(["train", *words, "--out", str(folder)])
        _command(["evaluate", str(folder)])
    metrics: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))["metrics"]
    return metrics


def _command(words: Sequence[str]) -> None:
    from eightbit.cli import main as eightbit

    print(f"$ {shlex.join(['eightbit', *words])}", flush=True)
    if (code := eightbit(list(words))) != 0:
        sys.exit(code)


def matmul_gflops(size: int = 4096, repeats: int = 3) -> dict[str, float]:
    """What the machine reaches in a product of two square matrices, by precision."""
    import torch

    rates = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left = torch.ones(size, size, dtype=dtype)
        best = float("inf")
        for _ in range(repeats + 1):
            start = time.perf_counter()
            left @ left
            best = min(best, time.perf_counter() - start)
        rates[precision] = 2 * size**3 / best / 1e9
    return rates


def processor_name() -> str:
    """The processor as its maker names it, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def machine() -> dict[str, Any]:
    """System, processor, cores, memory and load."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Versions of what was measured; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of the checkout, with "+" where files differ from it; "" without git."""
    root = Path(__file__).resolve().parents[1]
    try:
        git = ("git", "-C", str(root))
        head = subprocess.run((*git, "rev-parse", "HEAD"), capture_output=True, text=True)
        status = subprocess.run(
            (*git, "status", "--porcelain", "--untracked-files=no"), capture_output=True, text=True
        )
    except OSError:
        return ""
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


class Report:
    """Collects rows, prints them as a table and writes them as a record.

    Args:
        benchmark: its name, which is also the record's file name.
        settings: what the command line set.
        with_matmul: measure the machine's matmul rate first.
    """

    def __init__(self, benchmark: str, settings: dict[str, Any], *, with_matmul: bool):
        self.benchmark = benchmark
        self.settings = settings
        self.machine = machine()
        self.matmul = matmul_gflops() if with_matmul else {}
        self.rows: list[Row] = []
        self.ratios: list[Ratio] = []

    def record(self) -> dict[str, Any]:
        """The record as JSON takes it; `check_record` says what is in it."""
        rows = [
            {**asdict(row), "value": row.value, "matmul_share": self._share(row)}
            for row in self.rows
        ]
        ratios = [
            {
                **asdict(one),
                "median": one.median,
                "reached": None if one.bar is None else one.median >= one.bar,
            }
            for one in self.ratios
        ]
        script = f"benchmarks/{Path(sys.argv[0]).name}"
        return {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": shlex.join(["python", script, *sys.argv[1:]]),
            "commit": commit(),
            "machine": self.machine,
            "versions": versions(),
            "settings": self.settings,
            "matmul_gflops": self.matmul,
            "rows": rows,
            "ratios": ratios,
        }

    def _share(self, row: Row) -> float | None:
        if row.gflops is None or row.precision not in self.matmul:
            return None
        return row.gflops / self.matmul[row.precision]

    def finish(self, folder: Path) -> Path:
        """Prints the table and writes the record into `folder`; returns the record's path."""
        self._print()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        path.write_text(json.dumps(self.record(), indent=2) + "\n", encoding="utf-8")
        Console().print(f"written: {path}")
        return path

    def _cells(self, row: Row) -> dict[str, str]:
        """The row's line in the table, by column; "" where there is nothing to say."""

        def shown(value: float | None, form: str = "g") -> str:
            return "" if value is None else format(value, form)

        form = ",.4g" if row.value < 1000 else ",.0f"
        return {
            "what": row.name,
            "value": shown(row.value, form),
            "unit": row.unit,
            "spread": f"{shown(min(row.repeats), form)} to {shown(max(row.repeats), form)}",
            "threads": str(row.threads),
            "precision": row.precision,
            "envs": shown(row.num_envs),
            "batch": shown(row.batch_size),
            "replay ratio": shown(row.replay_ratio),
            "GFLOP/s": shown(row.gflops, ",.1f"),
            "of matmul": shown(self._share(row), ".0%"),
            "more": "; ".join(f"{name}: {value:,.4g}" for name, value in row.extra.items()),
        }

    def _print(self) -> None:
        console = Console()
        if not console.is_terminal:
            console.width = 160  # a log has no edge
        cores, processor = self.machine["cores"], self.machine["processor"]
        matmul = ", ".join(f"{name} {value:,.0f}" for name, value in self.matmul.items())
        caption = f"{cores} cores, {processor}"
        if matmul:
            caption += f"; matmul GFLOP/s: {matmul}"
        lines = [self._cells(row) for row in self.rows]
        table = Table(title=self.benchmark, caption=caption)
        filled = [name for name in lines[0] if any(line[name] for line in lines)]
        for name in filled:
            table.add_column(name, justify="left" if name in ("what", "unit", "more") else "right")
        for line in lines:
            table.add_row(*(line[name] for name in filled))
        console.print(table)
        for one in self.ratios:
            aim = ""
            if one.bar is not None:
                verdict = "reached" if one.median >= one.bar else "NOT reached"
                aim = f", bar {one.bar:g} {verdict}"
            low, high = min(one.values), max(one.values)
            console.print(f"{one.name}: {one.median:.2f} ({low:.2f} to {high:.2f}){aim}")


_TOP: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "benchmark": str,
    "date": str,
    "command": str,
    "commit": str,
    "machine": dict,
    "versions": dict,
    "settings": dict,
    "matmul_gflops": dict,
    "rows": list,
    "ratios": list,
}
_MACHINE = {"system": str, "processor": str, "cores": int, "memory_gb": (int, float)}
_OPTIONAL_NUMBER = (int, float, type(None))
_ROW: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "library": str,
    "unit": str,
    "value": (int, float),
    "repeats": list,
    "threads": int,
    "precision": str,
    "num_envs": (int, type(None)),
    "batch_size": (int, type(None)),
    "replay_ratio": _OPTIONAL_NUMBER,
    "gflops": _OPTIONAL_NUMBER,
    "matmul_share": _OPTIONAL_NUMBER,
    "extra": dict,
}
_RATIO: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "numerator": str,
    "denominator": str,
    "values": list,
    "median": (int, float),
    "bar": _OPTIONAL_NUMBER,
    "reached": (bool, type(None)),
}


def check_record(record: dict[str, Any]) -> None:
    """Raises ValueError, naming the place, where a record is not as `Report` writes it."""
    _check_fields("record", record, _TOP)
    if record["schema"] != SCHEMA:
        raise ValueError(f"record: schema {record['schema']}, expected {SCHEMA}")
    datetime.fromisoformat(record["date"])
    _check_fields("machine", record["machine"], _MACHINE)
    if "eightbit" not in record["versions"]:
        raise ValueError("versions: eightbit is missing")
    names = set()
    for row in record["rows"]:
        where = f"row {row.get('name', '?')!r}"
        _check_fields(where, row, _ROW)
        if row["name"] in names:
            raise ValueError(f"{where}: the name stands twice")
        names.add(row["name"])
        if not row["repeats"] or min(row["repeats"]) <= 0:
            raise ValueError(f"{where}: repeats are missing or not above zero")
        if row["value"] != statistics.median(row["repeats"]):
            raise ValueError(f"{where}: value is not the median of the repeats")
        if row["precision"] not in ("", "fp32", "bf16"):
            raise ValueError(f"{where}: unknown precision {row['precision']!r}")
        if row["gflops"] is not None and row["matmul_share"] is None:
            raise ValueError(f"{where}: GFLOP/s without the machine's matmul rate")
    if not names:
        raise ValueError("record: no rows")
    for ratio in record["ratios"]:
        where = f"ratio {ratio.get('name', '?')!r}"
        _check_fields(where, ratio, _RATIO)
        if not {ratio["numerator"], ratio["denominator"]} <= names:
            raise ValueError(f"{where}: compares rows that are not there")
        if (ratio["bar"] is None) != (ratio["reached"] is None):
            raise ValueError(f"{where}: a bar and whether it was reached belong together")


def _check_fields(
    where: str, given: Any, wanted: dict[str, type | tuple[type, ...]] | dict[str, Any]
) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected an object, not {type(given).__name__}")
    for name, kind in wanted.items():
        if name not in given:
            raise ValueError(f"{where}: {name} is missing")
        if not isinstance(given[name], kind):
            raise ValueError(f"{where}: {name} is {given[name]!r}")


def arguments(description: str, **defaults: int | float | str) -> argparse.Namespace:
    """Command line options `--name value` of these names and defaults, and `--out FOLDER`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for name, default in defaults.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=type(default), default=default, help=" ")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record")
    return parser.parse_args()


def settings_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """The options as a record keeps them: without the folder, which is the user's."""
    return {name: value for name, value in vars(chosen).items() if name != "out"}


def numbers(text: str) -> Sequence[int]:
    """ "1,8,32" -> (1, 8, 32)."""
    return tuple(int(part) for part in text.split(","))
