"""docs/agents/dqn.md: its table of presets is that of the code, and its code runs.

`python tests/agents/test_dqn_docs.py` writes the table anew.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from eightbit.agents.options import DQNOptions
from eightbit.agents.presets import DQN_PRESETS
from eightbit.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "agents" / "dqn.md"


def preset_table() -> str:
    usual = dataclasses.asdict(DQN_PRESETS["fast"])
    others = {name: dataclasses.asdict(preset) for name, preset in DQN_PRESETS.items()}
    lines = [
        "| option | " + " | ".join(f"`{name}`" for name in others) + " |",
        "|---" * (len(others) + 1) + "|",
    ]
    for option in usual:
        if any(preset[option] != usual[option] for preset in others.values()):
            cells = [
                str(p[option]) if name == "fast" or p[option] != usual[option] else ""
                for name, p in others.items()
            ]
            lines.append(f"| `{option}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_table(text: str) -> str:
    table = f"<!-- presets -->\n{preset_table()}\n<!-- /presets -->"
    return re.sub(r"<!-- presets -->.*?<!-- /presets -->", lambda _: table, text, flags=re.DOTALL)


def test_the_table_of_presets_is_that_of_the_code():
    assert PAGE.read_text() == _with_table(PAGE.read_text()), f"run {Path(__file__).name}"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(block, str(PAGE), "exec"), names)  # the page's own code
    assert names["agent"].num_updates > 0
    assert names["actions"].shape == (4,)


def test_every_option_that_the_page_names_exists(capsys):
    known = {field.name for field in dataclasses.fields(DQNOptions)}
    commands = re.findall(r"^eightbit train (.*?)(?:\s+#.*)?$", PAGE.read_text(), re.MULTILINE)
    assert len(commands) == 3
    flags = {word[2:].replace("-", "_") for line in commands for word in re.findall(r"--\S+", line)}
    assert flags - {"preset"} <= known
    assert main(["list", "presets"]) == 0
    assert "mnih2015" in capsys.readouterr().out


if __name__ == "__main__":
    PAGE.write_text(_with_table(PAGE.read_text()))
