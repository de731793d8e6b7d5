"""The model card that a task's run folder explains itself with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..tasks import load_task
from .checkpoints import read_header
from .curves import FILE_NAME as CURVES
from .runs import RunFolder, write_text

_CARD = """---
library_name: eightbit
tags: [{task}]
---
# {task} from {data}

{what} Written by `eightbit`; nothing here was typed by hand.

| | |
|---|---|
{facts}

{curves}## Use it

```sh
eightbit run {task} {path} INPUT
eightbit evaluate {path}
eightbit watch {path}
eightbit train --resume {path}
eightbit train --config {path}/config.toml   # the same run again
```

## Scores

{scores}

## Data

{data_facts}

## Settings

| setting | value |
|---|---|
{settings}
"""


def write_task_card(folder: RunFolder) -> Path:
    """Writes README.md from the configuration, the last checkpoint and evaluation.json.

    Raises RunFolderError when the disk refuses.
    """
    from .task_models import load_facts

    run = folder.config["run"]
    machine, versions = folder.config.get("machine", {}), folder.config.get("versions", {})
    facts = {
        "preset, seed": f"{run['preset']}, {run['seed']}",
        **_progress(folder),
        "started from": run["backbone_weights"] if _told(run["backbone_weights"]) else "scratch",
        "precision": run["precision"],
        "machine": f"{machine.get('processor', '')}, {machine.get('cores', '')} cores",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "commit": folder.config.get("origin", {}).get("git_commit", "none"),
    }
    settings = {**folder.config["options"], **folder.config["learning"]}
    text = _CARD.format(
        task=run["task"],
        data=Path(run["data"]).name,
        what=f"A model for the task {run['task']}: {load_task(run['task']).description}.",
        facts=_rows(facts),
        path=folder.path.as_posix(),
        curves=f"![learning curves]({CURVES})\n\n" if (folder.path / CURVES).is_file() else "",
        scores=_scores(folder),
        data_facts="\n".join(
            f"- {key}: {_plain(v)}" for key, v in load_facts(folder.model).items()
        ),
        settings=_rows({f"`{name}`": value for name, value in settings.items()}),
    )
    path = folder.path / "README.md"
    write_text(path, text)
    return path


def _progress(folder: RunFolder) -> dict[str, Any]:
    saved = folder.checkpoints.steps()
    if not saved:
        return {"training": "no checkpoint yet"}
    header = read_header(saved[-1].state)
    return {"steps": f"{int(header['step']):,}", "minutes": header["minutes"]}


def _scores(folder: RunFolder) -> str:
    path = folder.path / "evaluation.json"
    if not path.is_file():
        return f"Not evaluated yet: `eightbit evaluate {folder.path.as_posix()}`."
    record = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        f"Split {record['split']}, {record['units']} units ([evaluation.json](evaluation.json)).",
        "",
        "| metric | score | 95 % interval | trivial | shuffled input |",
        "|---|---|---|---|---|",
    ]
    for name, one in record["metrics"].items():
        low, high = one["interval"]
        controls = [one["controls"][control]["value"] for control in ("trivial", "shuffled")]
        told = [_number(value) for value in (one["value"], low, high, *controls)]
        lines.append(f"| {name} | {told[0]} | {told[1]} to {told[2]} | {told[3]} | {told[4]} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def _told(value: Any) -> bool:
    return value not in (None, "none")


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _rows(facts: dict[str, Any]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items())
