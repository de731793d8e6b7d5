"""docs/atari-scenes.md: its table is made from the code, and its example runs.

`python tests/datasets/test_atari_page.py` writes the table anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from eightbit.datasets.atari_objects import ATARI_OBJECTS, PLAYERS, Rule

PAGE = Path(__file__).resolve().parents[2] / "docs" / "atari-scenes.md"
_HARDWARE = ("player 0", "player 1", "missile 0", "missile 1", "ball", "playfield")


def table() -> str:
    lines = ["| game | objects | drawn by | lines | least size |", "|---|---|---|---|---|"]
    for game, known in ATARI_OBJECTS.items():
        rows: dict[tuple[str, ...], list[Rule]] = {}
        for rule in known.rules:
            size = f"{rule.least[0]} x {rule.least[1]}"
            rows.setdefault((rule.noun, _drawn_by(rule.hardware), size), []).append(rule)
        for (noun, hardware, size), rules in rows.items():
            colours = [word for rule in rules if rule.coloured for word in rule.colours.values()]
            names = ", ".join(f"{word} {noun}" for word in colours) or noun
            top, bottom = min(r.lines[0] for r in rules), max(r.lines[1] for r in rules)
            lines.append(f"| {game} | {names} | {hardware} | {top} to {bottom - 1} | {size} |")
    return "\n".join(lines)


def _drawn_by(hardware: int) -> str:
    if hardware == PLAYERS:
        return "players"
    return ", ".join(name for bit, name in enumerate(_HARDWARE) if hardware >> bit & 1)


def written(text: str) -> str:
    return re.sub(r"(<!-- games -->\n).*?(<!-- /games -->)", rf"\1{table()}\n\2", text, flags=re.S)


def test_the_table_is_that_of_the_code():
    text = PAGE.read_text(encoding="utf-8")
    assert written(text) == text, "run python tests/datasets/test_atari_page.py"


def test_the_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    exec(compile(code, str(PAGE), "exec"), {})


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
