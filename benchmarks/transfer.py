"""Trunks from a game, from CIFAR-10 and from scratch, each used in three tasks for equal minutes.

    python benchmarks/transfer.py --game runs/pong-impala --pictures runs/classify-impala

The game's run is made by `eightbit train pong --backbone impala --backbone-options OPTIONS`, the
other by `eightbit train classify --backbone impala --backbone-options OPTIONS --size 64`, with the
OPTIONS below. Every cell is a run of its own, seed 0, scored on the test split.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import scored_run
from rich.console import Console
from rich.table import Table

from eightbit.train.runs import describe_machine, read_config

OPTIONS = '{"layer_norm": true, "adaptive_pool": 6, "hidden": 0}'
COMMON = ("--backbone", "impala", "--backbone-options", OPTIONS, "--seed", "0")
OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "transfer.json"


@dataclass(frozen=True)
class Use:
    """A task that a trunk is used in.

    Attributes:
        name: of the row.
        words: of `eightbit train`, the trunk's aside.
        metric: that is reported.
    """

    name: str
    words: tuple[str, ...]
    metric: str


USES = (
    Use(
        "digits (mnist_test), 64 px",
        ("classify", "--data", "mnist_test", "--preset", "resnet", "--size", "64"),
        "accuracy",
    ),
    Use("blood cells (bccd)", ("detect", "--data", "bccd"), "map50"),
    Use("colour of photographs (bsds500)", ("colorize", "--preset", "bsds500"), "auc_balanced"),
)


def cell(use: Use, trunk: str, weights: str | None, minutes: float, runs: Path) -> dict[str, Any]:
    """Trains and scores one use of one trunk; a run that is there is scored as it is."""
    folder = runs / f"{use.words[0]}-{trunk}"
    given = [] if weights is None else ["--backbone-weights", weights]
    words = [*use.words, *COMMON, *given, "--minutes", str(minutes)]
    found = scored_run(words, folder)[use.metric]
    return {
        "use": use.name,
        "trunk": trunk,
        "metric": use.metric,
        "value": found["value"],
        "interval": found["interval"],
        "trivial": found["controls"]["trivial"]["value"],
        "command": shlex.join(["eightbit", "train", *use.words, *COMMON]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", required=True, help="run folder of an agent with this trunk")
    parser.add_argument("--pictures", required=True, help="run folder of classify on cifar10")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each use")
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer"), help="folder of runs")
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    told = parser.parse_args()
    trunks = {"scratch": None, "game": told.game, "cifar10": told.pictures}
    rows = [
        cell(use, trunk, weights, told.minutes, told.runs)
        for use in USES
        for trunk, weights in trunks.items()
    ]
    sources = {
        name: read_config(Path(weights) / "config.toml")["run"]
        for name, weights in trunks.items()
        if weights is not None
    }
    record = {
        "command": f"python benchmarks/transfer.py --minutes {told.minutes:g}",
        "minutes": told.minutes,
        "rows": rows,
        "trunks": sources,
        **describe_machine(),
    }
    told.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    table = Table(title=f"{told.minutes:g} minutes each, seed 0, test splits")
    for head in ("use", "metric", *trunks):
        table.add_column(head)
    for use in USES:
        values = {row["trunk"]: f"{row['value']:.3f}" for row in rows if row["use"] == use.name}
        table.add_row(use.name, use.metric, *values.values())
    Console().print(table)


if __name__ == "__main__":
    main()
