"""Networks as ONNX files: onnxruntime plays as torch does, and a wrong file is never left."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from gymnasium.spaces import Box

from eightbit.agents import AGENTS, DQN, DQNOptions
from eightbit.agents.heads import NoisyLinear, sample_noise
from eightbit.agents.sb3_agents import Sb3Agent
from eightbit.agents.sb3_options import A2COptions, PPOOptions, QRDQNOptions
from eightbit.cli import main
from eightbit.envs import make_vec
from eightbit.errors import EightBitError, UsageError
from eightbit.evaluate import export, onnx_files
from eightbit.evaluate.evaluation import start_playing
from eightbit.train import session

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
PIXELS = Box(0, 255, (4, 84, 84), np.uint8)
TINY = {"backbone": "nips2013", "backbone_options": '{"hidden": 16}'}
SMALL = {**TINY, "precision": "fp32"}
BTR = dataclasses.replace(
    AGENTS["btr"].presets["btr"],
    backbone_options=json.dumps(
        {**AGENTS["btr"].presets["btr"].backbone_kwargs(), "width": 1, "channels": [4, 8]}
    ),
    head_hidden=16,
    precision="fp32",
)
PLAYERS = {
    "dqn": DQNOptions(**SMALL),
    "dueling and noisy": DQNOptions(**SMALL, dueling=True, noisy=True, head_hidden=16),
    "c51": DQNOptions(**SMALL, method="c51", v_max=3.0),
    "qr-dqn": DQNOptions(**SMALL, method="qr-dqn", quantiles=11),
    "iqn": DQNOptions(**SMALL, method="iqn", policy_taus=4, cosines=8),
    "pqn": dataclasses.replace(AGENTS["pqn"].presets["pqn"], **SMALL),
    "btr": BTR,
    "sb3-ppo": PPOOptions(**TINY),
    "sb3-a2c": A2COptions(**TINY, share_backbone=False),
    "sb3-qrdqn": QRDQNOptions(**TINY, quantiles=7),
}


def player_of(options, space=PIXELS):
    """An agent that only plays, with weights that its seed gives."""
    kind = DQN if isinstance(options, DQNOptions) else Sb3Agent
    return kind(None, options, seed=1, device="cpu", observation_space=space, num_actions=5)


def run(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


FAST = ("dqn", "dueling and noisy", "c51", "iqn", "sb3-ppo")


def slow_ones(names, fast):
    return [name if name in fast else pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.mark.parametrize("name", slow_ones(PLAYERS, FAST))
def test_the_file_gives_what_the_agent_plays_by(name, tmp_path, rng):
    agent, path = player_of(PLAYERS[name]), tmp_path / "model.onnx"
    noisy = [m for m in agent.network.modules() if isinstance(m, NoisyLinear)]
    if noisy:  # noise that is drawn and learnt must not go into the file
        sample_noise(agent.network, torch.Generator().manual_seed(0))
    output = "log_probabilities" if name in ("sb3-ppo", "sb3-a2c") else "values"
    made = export.export_network(agent.network, PIXELS, path, output_name=output)
    assert made.path == path and 0 <= made.difference < 1e-5
    assert made.inputs == ("observations uint8 (batch, 4, 84, 84)",)
    assert made.outputs == (f"{output} float32 (batch, 5)",)
    for batch in (1, 7):
        seen = rng.integers(0, 256, (batch, 4, 84, 84), np.uint8)
        (values,) = run(path, observations=seen).values()
        expected = agent.q_values(seen)
        assert np.allclose(values, expected, atol=1e-5)
        assert np.ptp(expected, axis=1).min() > 1e-4  # or all networks would look alike
    assert list(tmp_path.iterdir()) == [path]
    assert agent.network.training  # it goes on as it was


@pytest.mark.parametrize("memory", slow_ones(["lstm", "gru"], ["gru"]))
def test_a_memory_goes_in_and_out(memory, tmp_path, rng):
    options = DQNOptions(
        **SMALL, memory=memory, memory_options='{"hidden": 8, "layers": 2}', sequence_length=8
    )
    agent, path = player_of(options), tmp_path / "model.onnx"
    made = export.export_network(agent.network, PIXELS, path)
    parts = {"lstm": 2, "gru": 1}[memory]
    assert made.inputs[1:] == tuple(f"state_{i} float32 (2, batch, 8)" for i in range(parts))
    assert made.outputs[1:] == tuple(f"next_state_{i} float32 (2, batch, 8)" for i in range(parts))
    playing = start_playing(agent)
    playing.begin()
    state = {f"state_{i}": np.zeros((2, 3, 8), np.float32) for i in range(parts)}
    first = None
    for _ in range(4):
        seen = np.repeat(rng.integers(0, 256, (1, 4, 84, 84), np.uint8), 3, axis=0)
        given = run(path, observations=seen, **state)
        assert np.allclose(given["values"], playing.values(seen), atol=1e-5)
        state = {name: given[f"next_{name}"] for name in state}
        first = run(path, observations=seen, **{k: np.zeros_like(v) for k, v in state.items()})
    assert not np.allclose(first["values"], given["values"], atol=1e-5)  # what was seen counts


def test_vectors_are_exported_too(tmp_path, rng):
    space = Box(-2.0, np.inf, (3,), np.float32)
    options = PPOOptions(backbone="mlp", backbone_options='{"hidden": [8]}')
    agent, path = player_of(options, space), tmp_path / "model.onnx"
    made = export.export_network(agent.network, space, path)
    assert made.inputs == ("observations float32 (batch, 3)",)
    seen = rng.normal(size=(4, 3)).astype(np.float32)
    assert np.allclose(run(path, observations=seen)["values"], agent.q_values(seen), atol=1e-5)


@pytest.mark.parametrize(("size", "count"), [(11, 6), (11, 8), (5, 5), (4, 7), (21, 6)])
def test_windows_are_those_of_torch(size, count):
    maps = torch.rand(2, 3, size, size + 1)
    pooled = onnx_files._WindowMaxPool(count, 2)(maps)
    assert torch.equal(pooled, torch.nn.AdaptiveMaxPool2d((count, 2))(maps))


# ---- what goes wrong


def test_a_file_that_computes_something_else_is_not_left(tmp_path, monkeypatch):
    agent, path = player_of(PLAYERS["dqn"]), tmp_path / "model.onnx"
    path.write_bytes(b"before")
    monkeypatch.setattr(onnx_files, "TOLERANCE", -1.0)
    with pytest.raises(EightBitError, match="differs from torch's by .*; nothing was written"):
        export.export_network(agent.network, PIXELS, path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_onnx_cannot_say_is_one_sentence(tmp_path):
    class Strange(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x.float()[:, 0, :4, :4]).real

    with pytest.raises(EightBitError, match="torch cannot export this network to ONNX: ") as told:
        export.export_network(Strange(), PIXELS, tmp_path / "model.onnx")
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_what_to_write(monkeypatch):
    found = onnx_files.find_spec
    monkeypatch.setattr(
        onnx_files, "find_spec", lambda name: None if name == "onnxruntime" else found(name)
    )
    with pytest.raises(UsageError, match=r"needs onnxruntime: write pip install 'eightbit\[onnx\]"):
        onnx_files.require_packages()


# ---- the command line


@pytest.fixture
def eightbit(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "draw_run", lambda *_: None)
    monkeypatch.chdir(tmp_path)

    def command(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return command


def test_a_run_is_exported_with_what_a_reader_must_know(eightbit, tmp_path):
    words = ["train", "catch", "--agent", "dqn", "--num-envs", 4, "--buffer-size", 400]
    words += ["--learning-starts", 60, "--batch-size", 8, "--precision", "fp32", "--device", "cpu"]
    words += ["--backbone", "nips2013", "--backbone-options", '{"hidden": 16}']
    assert eightbit(*words, "--frames", 240, "--out", "run")[0] == 0
    code, out, err = eightbit("export", "run")
    assert (code, err) == (0, "")
    assert "in: observations uint8 (batch, 4, 84, 84)\nout: values float32 (batch, 3)\n" in out
    told = re.search(r"largest difference between onnxruntime and torch: (\S+)\n", out)
    assert told and float(told[1]) < 1e-5
    path = tmp_path / "run" / "model.onnx"
    assert out.endswith("written to run/model.onnx\n")
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert facts["game"] == "catch" and facts["agent"].startswith("dqn ")
    assert facts["protocol"] == "mnih2015" and facts["agent_steps"] == "240"
    assert json.loads(facts["actions"]) == ["NOOP", "LEFT", "RIGHT"]
    shown = json.loads(facts["preprocessing"])
    assert (shown["frame_stack"], shown["screen_size"], shown["picture"]) == (4, 84, "grey")
    seen = make_vec("catch", 3).reset(seed=0)[0]
    values = DQN.load("run/model.safetensors", device="cpu").q_values(seen)
    assert np.allclose(run(path, observations=seen)["values"], values, atol=1e-5)
    code, out, _ = eightbit("export", "run", "-o", "best.onnx", "--checkpoint", "best")
    assert code == 0 and (tmp_path / "best.onnx").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("export", "which run? Write 'eightbit export RUN'"),
        ("export nothing", "there is no run folder nothing"),
        ("export nothing -o model.pt", "model.pt must end in .onnx."),
    ],
)
def test_wrong_requests_are_refused_with_a_sentence(eightbit, words, message):
    code, out, err = eightbit(*words.split())
    assert code in (1, 2) and out == "" and message in err and err.count("\n") == 1


def test_the_code_of_the_page_runs(eightbit, tmp_path):
    """The page's reader in plain NumPy and onnxruntime, on a file that is there."""
    export.export_network(
        player_of(PLAYERS["dqn"]).network,
        PIXELS,
        tmp_path / "pong.onnx",
        metadata={"actions": json.dumps(["NOOP", "FIRE", "UP", "DOWN", "LEFT"])},
    )
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(block, str(PAGE), "exec"), names)  # the page's own code
    assert names["pressed"] in ("NOOP", "FIRE", "UP", "DOWN", "LEFT")
    known = {"train", "export"}
    assert set(re.findall(r"^eightbit (\w+)", PAGE.read_text(), re.MULTILINE)) <= known
