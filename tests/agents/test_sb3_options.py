"""Options of the agents of Stable-Baselines3: what is refused, the presets, and their page.

`python tests/agents/test_sb3_options.py` writes the page's tables of PPO and A2C anew.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box

from eightbit.agents import AGENTS
from eightbit.agents.sb3_agents import Sb3Agent
from eightbit.agents.sb3_options import (
    A2C_PRESETS,
    PPO_PRESETS,
    QRDQN_PRESETS,
    SB3_OPTIONS,
    A2COptions,
    PPOOptions,
    QRDQNOptions,
)
from eightbit.errors import UsageError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "agents" / "sb3.md"


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (PPOOptions, {"batch_size": 100}, r"128 x 8 transitions does not divide into .* of 100"),
        (PPOOptions, {"n_steps": 0}, "n_steps is 0; it must be at least 1"),
        (PPOOptions, {"clip_range": 0.0}, "clip_range is 0.0; it must be above 0"),
        (PPOOptions, {"n_steps": 1, "num_envs": 1, "batch_size": 1}, "no deviation to normalize"),
        (A2COptions, {"ent_coef": -0.1}, "ent_coef is -0.1; it must be 0 or more"),
        (A2COptions, {"gae_lambda": 1.5}, "gae_lambda is 1.5; it must lie between 0 and 1"),
        (A2COptions, {"backbone_options": "[1]"}, "must be a JSON object"),
        (QRDQNOptions, {"buffer_size": 100}, "learning_starts .* exceeds buffer_size"),
        (QRDQNOptions, {"buffer_size": 8, "learning_starts": 4}, "batch of 32 does not fit"),
        (QRDQNOptions, {"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_settings_that_make_no_run_are_refused(kind, change, message):
    with pytest.raises(UsageError, match=message):
        kind(**change)


def test_backbones_that_cannot_be_had_are_refused():
    space = Box(0, 255, (4, 84, 84), np.uint8)
    with pytest.raises(UsageError, match="'lstm' is recurrent"):
        Sb3Agent(None, PPOOptions(backbone="lstm"), observation_space=space, num_actions=3)
    space = Box(0, 255, (84, 84, 3), np.uint8)
    with pytest.raises(UsageError, match="channels first"):
        Sb3Agent(None, PPOOptions(), observation_space=space, num_actions=3)


# ---- presets and the page


def test_presets_are_those_of_the_zoo():
    ppo, a2c, qrdqn = PPO_PRESETS["zoo"], A2C_PRESETS["zoo"], QRDQN_PRESETS["zoo"]
    assert (ppo.num_envs, ppo.n_steps, ppo.n_epochs, ppo.batch_size) == (8, 128, 4, 256)
    assert (ppo.learning_rate, ppo.clip_range, ppo.schedule_steps) == (2.5e-4, 0.1, 10_000_000)
    assert (ppo.vf_coef, ppo.ent_coef) == (0.5, 0.01)
    assert (a2c.num_envs, a2c.ent_coef, a2c.vf_coef, a2c.n_steps) == (16, 0.01, 0.25, 5)
    assert (a2c.optimizer, a2c.optimizer_eps) == ("rmsprop-tf", 1e-5)
    assert (qrdqn.learning_starts, qrdqn.epsilon_steps) == (50_000, 250_000)
    assert (qrdqn.learning_rate, qrdqn.batch_size, qrdqn.quantiles) == (5e-5, 32, 200)
    for name in SB3_OPTIONS:
        assert AGENTS[name].default_preset((4,)) == "vector"
        assert AGENTS[name].default_preset((4, 84, 84)) == "zoo"


def preset_table(agent):
    """Options of an agent's presets where they differ from the options' own defaults."""
    usual = dataclasses.asdict(SB3_OPTIONS[agent]())
    presets = {name: dataclasses.asdict(one) for name, one in AGENTS[agent].presets.items()}
    lines = [
        "| option | default | " + " | ".join(f"`{name}`" for name in presets) + " |",
        "|---" * (len(presets) + 2) + "|",
    ]
    for option, default in usual.items():
        values = [preset[option] for preset in presets.values()]
        if any(value != default for value in values):
            cells = ["" if value == default else f"{value}" for value in values]
            lines.append(f"| `{option}` | {default} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_tables(text):
    for agent in ("sb3-ppo", "sb3-a2c"):
        start, end = f"<!-- presets {agent} -->\n", f"<!-- /presets {agent} -->"
        table = f"{start}{preset_table(agent)}\n{end}"
        pattern = re.escape(start) + ".*?" + re.escape(end)
        text = re.sub(pattern, lambda _, table=table: table, text, flags=re.DOTALL)
    return text


def test_the_page_shows_the_presets_of_the_code():
    text = PAGE.read_text()
    assert text.count("<!-- presets sb3-") == 2
    assert text == with_tables(text), f"run {Path(__file__).name}"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(block, str(PAGE), "exec"), names)  # the page's own code
    assert names["agent"].num_updates > 0
    assert names["actions"].shape == (8,)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
