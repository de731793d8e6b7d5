"""docs/backbones.md: its tables are the registry's, and its code runs.

`python tests/backbones/test_backbone_docs.py` writes the tables anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from eightbit.backbones import BACKBONES
from eightbit.backbones.table import markdown_options, markdown_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"


def _with_tables(text: str) -> str:
    for name, table in (("table", markdown_table()), ("options", markdown_options())):
        text = re.sub(
            rf"<!-- {name} -->.*?<!-- /{name} -->",
            lambda _, name=name, table=table: f"<!-- {name} -->\n{table}\n<!-- /{name} -->",
            text,
            flags=re.DOTALL,
        )
    return text


def test_the_tables_of_the_page_are_those_of_the_registry():
    assert PAGE.read_text() == _with_tables(PAGE.read_text()), f"run {Path(__file__).name}"


@pytest.fixture
def registry_as_it_was(monkeypatch):
    monkeypatch.setattr(BACKBONES, "_things", dict(BACKBONES._things))


@pytest.mark.usefixtures("registry_as_it_was")
def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # the page's own code
    assert names["agent"].num_updates > 0
    printed = capsys.readouterr().out.splitlines()[-1]
    assert f"`{printed}`" in PAGE.read_text()


if __name__ == "__main__":
    torch.set_num_threads(1)
    PAGE.write_text(_with_tables(PAGE.read_text()))
