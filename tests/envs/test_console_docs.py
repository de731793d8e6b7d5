"""docs/console.md: its code runs, and its table is what was measured.

`python tests/envs/test_console_docs.py` writes the table anew from the benchmarks' records.
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "console.md"
RECORDS = ROOT / "benchmarks" / "results"
SHOWN = (
    "pong",
    "breakout",
    "space_invaders",
    "seaquest",
    "montezuma_revenge",
    "ms_pacman",
    "qbert",
)


def record(name: str) -> dict[str, Any]:
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def by_game(found: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Game to frames per second of ALE's vectorizer and of the console, and their ratio."""
    values = {row["name"]: row["value"] for row in found["rows"]}
    return {
        ratio["name"].split(",")[0]: (
            values[ratio["denominator"]],
            values[ratio["numerator"]],
            ratio["median"],
        )
        for ratio in found["ratios"]
    }


def generated(page: str) -> str:
    lines = ["## Measured", ""]
    for name in ("console", "console-2-threads"):
        found = record(name)
        games = by_game(found)
        ratios = sorted((ratio, game) for game, (_, _, ratio) in games.items())
        settings, machine = found["settings"], found["machine"]
        threads = f"{settings['threads']} thread" + "s" * (settings["threads"] > 1)
        (worst, slowest), (best, fastest) = ratios[0], ratios[-1]
        median = statistics.median(ratio for ratio, _ in ratios)
        lines += [
            f"`{found['command']}` on {machine['cores']} cores of an {machine['processor']}, "
            f"{settings['num_envs']} environments, {threads}, frame skip 4, four screens of 84x84 "
            f"in grey, compiled for this processor ({settings['instructions']}): in "
            f"{len(games)} games the console steps {median:.2f} times as many frames a second as "
            f"`ale_py.AtariVectorEnv` (median; worst {worst:.2f} in `{slowest}`, best {best:.2f} "
            f"in `{fastest}`).",
            "",
            "| game | ale-py, frames/s | console, frames/s | ratio |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{game}` | {games[game][0]:,.0f} | {games[game][1]:,.0f} | {games[game][2]:.2f} |"
            for game in SHOWN
        ]
        lines.append("")
    lines.append("All games: [one thread](../benchmarks/results/console.json), ")
    lines[-1] += "[two threads](../benchmarks/results/console-2-threads.json)."
    text = "\n".join(lines)
    return re.sub(
        r"<!-- measured -->.*<!-- /measured -->",
        f"<!-- measured -->\n{text}\n<!-- /measured -->",
        page,
        flags=re.DOTALL,
    )


def test_the_table_of_the_page_is_what_was_measured():
    assert PAGE.read_text() == generated(PAGE.read_text()), f"run {Path(__file__).name}"


def test_the_code_of_the_page_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # the page's own code
    assert names["ball"].sum() > 0
    # The same moment and different actions: the rows differ by now, at most in what they show.
    assert names["observations"].shape == (4, 4, 84, 84)


def test_every_header_is_named_on_the_page():
    folder = ROOT / "envs" / "console"
    named = set(re.findall(r"`(\w+\.(?:h|cu))`", PAGE.read_text()))
    assert {path.name for path in folder.iterdir() if path.suffix in (".h", ".cu")} <= named | {
        "core.h",
        "game_ram.h",
    }


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text()))
