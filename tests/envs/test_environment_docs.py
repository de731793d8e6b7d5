"""docs/environments.md: its tables are the code's, its code runs, its figures are measured.

`python tests/envs/test_environment_docs.py` writes the generated parts anew; with `--drift` it
measures docs/preprocessing_drift.csv first, which takes a minute or two.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import inspect
import re
import sys
from pathlib import Path

import ale_py
import gymnasium
import numpy as np
import pytest
import stable_baselines3
from gymnasium.envs.registration import registry

from eightbit.envs import EnvOptions, StepRecord, game_facts, list_games
from eightbit.envs.single import AtariEnv

PAGE = Path(__file__).resolve().parents[2] / "docs" / "environments.md"
DRIFT = PAGE.with_name("preprocessing_drift.csv")
COMMAND = "python tests/envs/test_environment_docs.py --drift"
STEPS = 150
COLUMNS = ["game", "screens", "pixels_that_differ", "mean_difference", "largest_difference"]
MOST = 6  # games in the page's table


def documented(kind: type) -> list[tuple[str, str]]:
    """Each field of a dataclass with the docstring below it, as one line."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    rows = []
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            rows.append((ast.unparse(field.target), " ".join(ast.literal_eval(text.value).split())))
    assert [name for name, _ in rows] == [field.name for field in dataclasses.fields(kind)]
    return rows


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def options() -> str:
    defaults = dataclasses.asdict(EnvOptions())
    rows = []
    for name, text in documented(EnvOptions):
        default = getattr(defaults[name], "value", defaults[name])
        rows.append([f"`{name}`", f"`{default}`", text])
    return table(["option", "default", "meaning"], rows)


def record() -> str:
    return table(
        ["field", "of a step of n rows"],
        [[f"`{name}`", text] for name, text in documented(StepRecord)],
    )


def games() -> str:
    names = list_games()
    return f"{len(names)} games: {', '.join(f'`{name}`' for name in names)}."


def drift(game: str, seed: int = 0) -> dict[str, str]:
    """How the newest screens of both kinds of preprocessing differ, with the same actions."""
    plain = {"noop_max": 0, "fire": False, "life_loss": False}
    one, other = (AtariEnv(game, preprocessing=kind, **plain) for kind in ("ale", "sb3"))
    one.reset(seed=seed)
    other.reset(seed=seed)
    rng = np.random.default_rng(seed)
    gaps = []
    for _ in range(STEPS):
        action = int(rng.integers(one.action_space.n))
        ours, sb3 = one.step(action), other.step(action)
        assert ours[1:4] == sb3[1:4], game
        if ours[2] or ours[3]:
            break
        gaps.append(np.abs(ours[0][-1].astype(int) - sb3[0][-1]))
    gap = np.stack(gaps)
    differing = gap[gap > 0]
    values = [
        *(game, len(gaps), f"{(gap > 0).mean():.5f}"),
        *(f"{differing.mean() if differing.size else 0:.1f}", gap.max()),
    ]
    return {name: str(value) for name, value in zip(COLUMNS, values, strict=True)}


def measured() -> list[dict[str, str]]:
    lines = DRIFT.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def measure_all() -> None:
    gymnasium.register_envs(ale_py)
    known = [name for name in list_games() if f"{game_facts(name).id}NoFrameskip-v4" in registry]
    versions = f"ale-py {ale_py.__version__}, stable-baselines3 {stable_baselines3.__version__}"
    what = "newest screen of preprocessing ale against sb3, equal random actions, up to 150 steps"
    with DRIFT.open("w", newline="") as file:
        file.write(f"# {what}; {versions}; {COMMAND}\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(drift(name) for name in known)


def drift_table() -> str:
    rows = sorted(measured(), key=lambda row: -float(row["pixels_that_differ"]))
    cells = [
        [
            f"`{row['game']}`",
            f"{float(row['pixels_that_differ']):.2%}",
            row["mean_difference"],
            row["largest_difference"],
        ]
        for row in rows[:MOST]
    ]
    heads = ["game", "pixels that differ", "by, on the mean", "at most, of 255"]
    rest = float(rows[MOST]["pixels_that_differ"])
    equal = sum(float(row["pixels_that_differ"]) == 0 for row in rows)
    return (
        f"{table(heads, cells)}\n\nIn each of the other {len(rows) - MOST} games at most "
        f"{rest:.2%} of the pixels differ; {equal} of them show no difference at all."
    )


def generated(text: str) -> str:
    parts = {"games": games, "options": options, "record": record, "drift": drift_table}
    for name, make in parts.items():
        text, count = re.subn(
            rf"<!-- {name} -->.*?<!-- /{name} -->",
            lambda _, name=name, make=make: f"<!-- {name} -->\n{make()}\n<!-- /{name} -->",
            text,
            flags=re.DOTALL,
        )
        assert count == 1, name
    return text


def test_the_tables_of_the_page_are_those_of_the_code():
    assert PAGE.read_text() == generated(PAGE.read_text()), f"run {Path(__file__).name}"


@pytest.mark.parametrize("game", ["robotank"])
def test_the_drift_is_what_was_measured(game):
    (row,) = [row for row in measured() if row["game"] == game]
    assert drift(game) == row


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 10
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # the page's own code
    assert len(names["record"].episodes) == 0 and names["mean"] >= 0


if __name__ == "__main__":
    if "--drift" in sys.argv:
        measure_all()
    PAGE.write_text(generated(PAGE.read_text()))
