"""The model card that a run folder explains itself with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..envs.options import PROTOCOLS, Protocol
from .checkpoints import read_header
from .curves import FILE_NAME as CURVES
from .reporting import short
from .runs import RunFolder, write_text

_CARD = """---
library_name: eightbit
tags: [reinforcement-learning, {agent}, {game}]
---
# {agent} on {game}

{what} Written by `eightbit`; nothing here was typed by hand.

| | |
|---|---|
{facts}

{curves}## Use it

```sh
eightbit watch {path} -o {game_file}.mp4
eightbit evaluate {path}
eightbit train --resume {path}
eightbit train --config {path}/config.toml   # the same run again
```

```python
from eightbit.agents import AGENTS

agent = AGENTS["{agent}"].load_class().load("{path}/model.safetensors")
actions, _ = agent.predict(observations, deterministic=True)  # {shape}
```

## What the score means

{score} Scores of different protocols do not compare. {protocol}

## Options

| option | value |
|---|---|
{options}
"""


def write_card(folder: RunFolder) -> Path:
    """Writes README.md from the configuration, the last checkpoint and evaluation.json.

    Raises RunFolderError when the disk refuses.
    """
    run, options = folder.config["run"], folder.config["options"]
    game = str(run["game"])
    gym = game.startswith("gym:")
    protocol = Protocol(run["protocol"])
    versions = folder.config.get("versions", {})
    machine = folder.config.get("machine", {})
    facts = {
        "agent, preset, seed": f"{run['agent']}, {run['preset']}, {run['seed']}",
        **_progress(folder),
        "machine": f"{machine.get('processor', '')}, {machine.get('cores', '')} cores",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "commit": folder.config.get("origin", {}).get("git_commit", "none"),
    }
    text = _CARD.format(
        agent=run["agent"],
        game=game,
        what=f"An agent that learnt {game} by playing it.",
        facts=_rows(facts),
        path=folder.path.as_posix(),
        game_file=game.removeprefix("gym:").replace("/", "-"),
        shape="(n, *observation)" if gym else "(n, 4, 84, 84) uint8, newest frame last",
        curves=f"![learning curves]({CURVES})\n\n" if (folder.path / CURVES).is_file() else "",
        score=_score(folder),
        protocol="" if gym else f"`{protocol.value}`: {PROTOCOLS[protocol].description}.",
        options=_rows({f"`{name}`": value for name, value in options.items()}),
    )
    path = folder.path / "README.md"
    write_text(path, text)
    return path


def _progress(folder: RunFolder) -> dict[str, Any]:
    saved = folder.checkpoints.steps()
    if not saved:
        return {"training": "no checkpoint yet"}
    header = read_header(saved[-1].state)
    facts = {
        "agent steps": f"{int(header['agent_steps']):,}",
        "frames": f"{int(header['frames']):,}",
        "minutes": header["minutes"],
    }
    if header["score"] != "nan":
        facts["mean return of the last 100 training games"] = short(float(header["score"]))
    return facts


def _score(folder: RunFolder) -> str:
    path = folder.path / "evaluation.json"
    if not path.is_file():
        return f"Not evaluated yet: `eightbit evaluate {folder.path.as_posix()}`."
    record = json.loads(path.read_text(encoding="utf-8"))
    low_high = record["interval"]
    interval = f", 95 % interval {low_high[0]:.1f} to {low_high[1]:.1f}" if low_high else ""
    return (
        f"Mean return {record['mean']:.1f}{interval}, {record['episodes']} games, protocol "
        f"`{record['protocol']}` ([evaluation.json](evaluation.json))."
    )


def _rows(facts: dict[str, Any]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in facts.items())
