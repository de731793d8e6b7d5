"""Copies what a run reached into docs/results: its score, its curve and its configuration.

python benchmarks/publish.py runs/RUN pong-fast --command "eightbit train pong --minutes 60"
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

from measure import machine, matmul_gflops

from eightbit.evaluate.records import read_record
from eightbit.train.checkpoints import read_header
from eightbit.train.curves import read_curve
from eightbit.train.runs import CONFIG, RunFolder

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
ROWS = 200  # of a published curve; a run logs every few seconds


def publish(run: Path, name: str, command: str, total_minutes: float | None, out: Path) -> None:
    """Writes NAME.json, NAME.csv and NAME.toml into `out`."""
    folder = RunFolder.open(run)
    header = read_header(folder.checkpoints.find("last").state)
    record = {
        **read_record(run),
        "training_command": command,
        "training_minutes": float(header["minutes"]),
        "total_minutes": total_minutes,
        "training_seed": folder.config["run"]["seed"],
        "machine": {**machine(), "python": platform.python_version()},
        "matmul_gflops": matmul_gflops(),
    }
    # What names a place on one machine helps nobody else.
    record["command"] = record["command"].replace(str(run), f"runs/{name}")
    (out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    lines = (run / "progress.csv").read_text(encoding="utf-8").splitlines()
    every = max(len(lines) // ROWS, 1)
    kept = [lines[0], *lines[every::every]]
    if kept[-1] != lines[-1]:
        kept.append(lines[-1])
    (out / f"{name}.csv").write_text("\n".join([f"# {command}", *kept]) + "\n", encoding="utf-8")
    read_curve(out / f"{name}.csv")  # what is published can be read
    config = (run / CONFIG).read_text(encoding="utf-8")
    (out / f"{name}.toml").write_text(config, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--command", required=True, help="what made the run")
    parser.add_argument("--total-minutes", type=float, help="of wall time, set-up and all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    publish(chosen.run, chosen.name, chosen.command, chosen.total_minutes, chosen.out)
    print(f"written: {chosen.out / chosen.name}.json, .csv and .toml")


if __name__ == "__main__":
    main()
