"""The pages of the tasks: their tables of options are those of the code, and every task has a page.

`python tests/test_task_pages.py` writes the tables anew.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from eightbit import sequence_tasks, vision_tasks  # noqa: F401  # each registers its tasks
from eightbit.arguments import options_of
from eightbit.tasks import Learning, load_task, task_names
from eightbit.train.runs import read_config
from eightbit.train.task_session import TaskRequest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {
    "tasks": DOCS / "tasks.md",
    "results": DOCS / "results" / "README.md",
    **{name: DOCS / "tasks" / f"{name}.md" for name in task_names()},
}


def option_table(*defaults: Any) -> str:
    lines = ["| option | default | |", "|---|---|---|"]
    for option in (option for one in defaults for option in options_of(one) if option.flags):
        flags = " ".join([", ".join(option.flags), option.metavar]).strip()
        default = f"`{option.default}`" if option.default else ""
        cells = (f"`{flags}`", default, option.help)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def preset_table(name: str) -> str:
    """What each preset sets, beside the first."""
    presets = load_task(name).presets
    tables = {
        preset: {"data": one.data, **dataclasses.asdict(one.options), **vars(one.learning)}
        for preset, one in presets.items()
    }
    first = next(iter(tables.values()))
    changed = [key for key in first if len({str(table[key]) for table in tables.values()}) > 1]
    lines = [f"| | {' | '.join(tables)} |", f"|---|{'---|' * len(tables)}"]
    for key in changed:
        cells = (f"`{table[key]}`" if table[key] != "" else "" for table in tables.values())
        lines.append(f"| `{key}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def results_table() -> str:
    """Every record `docs/results/task-*.json`: its run, its figures and their controls."""
    lines = [
        "| run | minutes | metric | score | 95 % interval | trivial | shuffled | control run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted((DOCS / "results").glob("task-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        config = read_config(path.with_suffix(".toml"))
        run = config["run"]
        name = f"[{path.stem.removeprefix('task-')}](results/{path.name})"
        where = ", GPU" if run["device"] == "cuda" else ""
        epochs = f"{config['learning']['epochs']} epochs"
        long = epochs if run["minutes"] == "none" else f"{run['minutes']:g}"
        settings = f"[{long}{where}](results/{path.stem}.toml)"
        for metric, one in record["metrics"].items():
            low, high = (number(value) for value in one["interval"])
            controls = one["controls"]
            run_control = controls["run"]
            told = run_control if run_control == "not run" else number(run_control["value"])
            cells = (
                name,
                settings,
                f"`{metric}`",
                f"**{number(one['value'])}**",
                f"{low} to {high}",
                number(controls["trivial"]["value"]),
                number(controls["shuffled"]["value"]),
                told,
            )
            lines.append(f"| {' | '.join(cells)} |")
            name = settings = ""
    return "\n".join(lines)


def transfer_table() -> str:
    """What each trunk came to in each use, from `docs/results/transfer.json`."""
    path = DOCS / "results" / "transfer.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    trunks = list(dict.fromkeys(row["trunk"] for row in rows))
    lines = [
        f"| use | metric | {' | '.join(trunks)} | trivial |",
        f"|---|---|{'---|' * len(trunks)}---|",
    ]
    for use in dict.fromkeys(row["use"] for row in rows):
        found = {row["trunk"]: row for row in rows if row["use"] == use}
        first = next(iter(found.values()))
        cells = [
            f"{number(found[t]['value'])} ({number(found[t]['interval'][0])} to "
            f"{number(found[t]['interval'][1])})"
            for t in trunks
        ]
        cells = [use, f"`{first['metric']}`", *cells, number(first["trivial"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def parts(page: str) -> dict[str, str]:
    if page == "tasks":
        return {
            "learning": option_table(Learning()),
            "run": option_table(TaskRequest()),
            "results": results_table(),
        }
    if page == "results":
        return {"transfer": transfer_table()}
    task = load_task(page)
    return {
        "presets": preset_table(page),
        "options": option_table(next(iter(task.presets.values())).options),
        "use": option_table(task.run_options),
    }


def with_tables(page: str, text: str) -> str:
    for part, table in parts(page).items():
        found = re.search(rf"<!-- {part} -->\n(.*?)<!-- /{part} -->", text, re.DOTALL)
        assert found, f"{PAGES[page].name} has no place for the table {part}"
        text = text.replace(found[0], f"<!-- {part} -->\n{table}\n<!-- /{part} -->")
    return text


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_a_page_are_those_of_the_code(page):
    assert PAGES[page].is_file(), f"write {PAGES[page].name}"
    text = PAGES[page].read_text(encoding="utf-8")
    assert text == with_tables(page, text), "run python tests/test_task_pages.py"


@pytest.mark.parametrize("name", task_names())
def test_commands_on_a_page_exist(name):
    text = PAGES[name].read_text(encoding="utf-8")
    assert f"eightbit train {name}" in text and f"eightbit run {name}" in text
    task = load_task(name)
    known = [*options_of(TaskRequest()), *options_of(Learning()), *options_of(task.run_options)]
    known += options_of(next(iter(task.presets.values())).options)
    flags = {flag for option in known for part in option.flags for flag in part.split(", ")}
    flags |= {"--out", "--resume", "--control", "--config", "--device", "--help", "--split"}
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for flag in re.findall(r"(?<!\w)--[a-z0-9-]+", block):
            assert flag in flags, f"{flag} in {PAGES[name].name}"


if __name__ == "__main__":
    for page, path in PAGES.items():
        path.write_text(with_tables(page, path.read_text(encoding="utf-8")), encoding="utf-8")
