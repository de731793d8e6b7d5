"""docs/agents: a page for every agent, its table of presets is that of the code, its code runs.

`python tests/agents/test_agent_docs.py` writes the tables anew.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from eightbit.agents import AGENTS
from eightbit.cli import main

PAGES = Path(__file__).resolve().parents[2] / "docs" / "agents"
SHARED = {"sb3-ppo": "sb3", "sb3-a2c": "sb3", "sb3-qrdqn": "sb3"}
"""Agents that are described together."""


def page_of(agent: str) -> Path:
    return PAGES / f"{SHARED.get(agent, agent)}.md"


def preset_table(agents: list[str]) -> str:
    """Options of these agents' presets where they differ from the options' own defaults."""
    prefix = len(agents) > 1
    presets = {
        f"{agent} {name}" if prefix else name: one
        for agent in agents
        for name, one in AGENTS[agent].presets.items()
    }
    usual = {f.name: f.default for one in presets.values() for f in dataclasses.fields(one)}
    told = {name: dataclasses.asdict(preset) for name, preset in presets.items()}
    lines = [
        "| option | default | " + " | ".join(f"`{name}`" for name in presets) + " |",
        "|---" * (len(presets) + 2) + "|",
    ]
    for option, default in usual.items():
        values = [options.get(option, default) for options in told.values()]
        if any(value != default for value in values):
            cells = ["" if value == default else f"{value}" for value in values]
            lines.append(f"| `{option}` | {default} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_table(text: str, agents: list[str]) -> str:
    table = f"<!-- presets -->\n{preset_table(agents)}\n<!-- /presets -->"
    return re.sub(r"<!-- presets -->.*?<!-- /presets -->", lambda _: table, text, flags=re.DOTALL)


def _agents_of(page: Path) -> list[str]:
    return [agent for agent in AGENTS if page_of(agent) == page]


@pytest.mark.parametrize("agent", list(AGENTS))
def test_every_agent_has_a_page_with_its_presets(agent):
    page = page_of(agent)
    text = page.read_text()
    assert "<!-- presets -->" in text
    assert text == _with_table(text, _agents_of(page)), f"run {Path(__file__).name}"


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_every_option_that_a_page_names_exists(page, capsys):
    commands = re.findall(r"^eightbit train (.*?)(?:\s+#.*)?$", page.read_text(), re.MULTILINE)
    assert commands
    for agent in _agents_of(page):
        assert main(["train", "--agent", agent, "--help"]) == 0
        shown = capsys.readouterr().out
        for line in commands:
            if f"--agent {agent}" in line or len(_agents_of(page)) == 1:
                for flag in re.findall(r"--[a-z][a-z0-9-]+", line):
                    assert flag in shown, (page.name, flag)


def test_the_code_of_the_page_on_dqn_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PAGES / "dqn.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(block, str(page), "exec"), names)  # the page's own code
    assert names["agent"].num_updates > 0
    assert names["actions"].shape == (4,)


if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(_with_table(path.read_text(), _agents_of(path)))
