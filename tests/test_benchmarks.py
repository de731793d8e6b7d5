"""Records of benchmarks are whole, and a record with something missing is refused."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = (
    "console",
    "memory",
    "priorities",
    "replay",
    "startup",
    "stepping",
    "training",
    "updates",
)
RECORDS = sorted((BENCHMARKS / "results").glob("*.json"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    return load("measure")


@pytest.fixture
def record(measure: ModuleType, tmp_path: Path) -> dict[str, Any]:
    """A small record as the program writes it, read back."""
    report = measure.Report("example", {"repeats": 3}, with_matmul=False)
    report.matmul = {"fp32": 100.0, "bf16": 400.0}
    ours = measure.Row(
        "ours", "eightbit", "steps/s", [300.0, 330.0, 270.0], 2, precision="bf16", gflops=100.0
    )
    peer = measure.Row("SB3", "stable-baselines3", "steps/s", [100.0, 100.0, 100.0], 2)
    report.rows += [ours, peer]
    report.ratios.append(measure.compare("ours to SB3", ours, peer, bar=2.5))
    path = report.finish(tmp_path)
    return json.loads(path.read_text())


def test_a_record_says_what_was_measured(measure: ModuleType, record: dict[str, Any]) -> None:
    measure.check_record(record)
    assert record["rows"][0]["value"] == 300.0
    assert record["rows"][0]["matmul_share"] == 0.25
    assert record["ratios"][0]["values"] == [3.0, 3.3, 2.7]
    assert record["ratios"][0]["median"] == 3.0
    assert record["ratios"][0]["reached"] is True
    assert record["machine"]["cores"] >= 1
    assert record["versions"]["torch"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 99),
        (("machine", "processor"), None),
        (("versions",), {}),
        (("rows",), []),
        (("rows", 0, "threads"), None),
        (("rows", 0, "value"), 1.0),
        (("rows", 0, "repeats"), []),
        (("rows", 0, "matmul_share"), None),
        (("rows", 1, "name"), "ours"),
        (("ratios", 0, "numerator"), "nobody"),
        (("ratios", 0, "reached"), None),
    ],
)
def test_a_record_that_lacks_something_is_refused(
    measure: ModuleType, record: dict[str, Any], path: tuple[Any, ...], value: Any
) -> None:
    broken = copy.deepcopy(record)
    inner = broken
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=r"record|machine|versions|row|ratio"):
        measure.check_record(broken)


@pytest.mark.parametrize("field", ["date", "command", "commit", "matmul_gflops", "settings"])
def test_a_record_without_a_field_is_refused(
    measure: ModuleType, record: dict[str, Any], field: str
) -> None:
    del record[field]
    with pytest.raises(ValueError, match=f"{field} is missing"):
        measure.check_record(record)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_every_record_in_the_repository_is_whole(measure: ModuleType, path: Path) -> None:
    record = json.loads(path.read_text())
    measure.check_record(record)
    assert record["benchmark"] == path.stem
    assert (ROOT / record["command"].split()[1]).exists()
    assert str(ROOT) not in path.read_text()


def test_measurements_are_taken_one_after_the_other_in_changing_order(measure: ModuleType) -> None:
    order: list[str] = []
    works = {name: lambda name=name: order.append(name) or 1.0 for name in ("a", "b")}
    taken = measure.in_turn(works, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert taken == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_a_rate_is_the_amount_by_the_seconds_it_took(measure: ModuleType) -> None:
    import time

    def work() -> int:
        time.sleep(0.01)
        return 5

    assert 0 < measure.rate(work, 0.1) <= 500


def test_make_bench_runs_every_benchmark() -> None:
    # They take an hour or more, measure nothing, or need a GPU, data or runs of tasks.
    other = {
        "measure",
        "cleanrl",
        "learning",
        "publish",
        "fidelity",
        "gpu",
        "gpu_training",
        "time_to_score",
        "film_flicker",
        "colour_accuracy",
        "transfer",
        "text_peers",
        "text_recipe",
        "text_speed",
        "translate_speed",
        "handwriting_scores",
        "digits",
        "speech_speed",
    }
    found = {path.stem for path in BENCHMARKS.glob("*.py")} - other
    assert found == set(SCRIPTS)
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"benchmarks/{name}.py" in makefile for name in SCRIPTS)


TINY = {
    "console": ("--games=pong", "--num-envs=2", "--seconds=0.02", "--repeats=2"),
    "priorities": ("--capacity=400", "--batch-size=8", "--seconds=0.01", "--repeats=2"),
    "replay": ("--capacity=200", "--large-capacity=400", "--seconds=0.01", "--repeats=2"),
    "stepping": ("--num-envs=2", "--seconds=0.05", "--repeats=2"),
    "startup": ("--repeats=1",),
    "updates": (
        "--agents=dqn",
        "--family=c51",
        "--seconds=0.01",
        "--repeats=2",
        "--threads=1",
    ),
    "training": (
        "--steps=40",
        "--preset-steps=64",
        "--warmup=300",
        "--buffer-size=400",
        "--repeats=2",
        "--threads=1",
    ),
    "memory": ("--frames=4000",),
}


@pytest.mark.long
@pytest.mark.parametrize("name", SCRIPTS)
def test_each_benchmark_runs_and_writes_a_whole_record(
    measure: ModuleType, name: str, tmp_path: Path
) -> None:
    script = BENCHMARKS / f"{name}.py"
    command = [sys.executable, str(script), *TINY[name], "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / f"{name}.json").read_text())
    measure.check_record(record)
    assert len(record["rows"]) >= 2


@pytest.mark.long
def test_the_learning_curve_of_sb3_is_logged_and_drawn_beside_ours(tmp_path: Path) -> None:
    columns = "minutes,agent_steps,frames,episodes,mean_return"
    (tmp_path / "ours.csv").write_text(f"{columns}\n0.1,100,400,100,-21\n0.2,200,800,200,21\n")
    command = [sys.executable, str(BENCHMARKS / "learning.py"), "--minutes", "0.3"]
    command += ["--ours", str(tmp_path / "ours.csv"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "EightBit, preset fast: mean training return" in done.stdout
    assert "reached 20 after 0.2 minutes" in done.stdout
    assert (tmp_path / "pong-sb3.png").stat().st_size > 10_000
    rows = (tmp_path / "pong-sb3.csv").read_text().splitlines()
    assert rows[1].startswith("minutes,agent_steps")
    assert len(rows) > 3


SCRIPT = """
import torch.nn as nn
import torch.optim as optim
import gymnasium as gym  # is not needed for updates
from dataclasses import dataclass
from torch.utils.tensorboard import SummaryWriter

@dataclass
class Args:
    batch_size: int = 3
    train_frequency: int = 4

class Wrapped(gym.Wrapper):
    pass

class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.layer = nn.Linear(8, env.single_action_space.n)

    def forward(self, x):
        return self.layer(x.flatten(1) / 255.0)

if __name__ == "__main__":
    args = None
    writer = SummaryWriter("nowhere")
    q_network = QNetwork(envs).to(device)
    optimizer = optim.SGD(q_network.parameters(), lr=0.1)
    for global_step in range(10):
        if global_step % args.train_frequency == 0:
            data = rb.sample(args.batch_size)
            loss = q_network(data.observations).gather(1, data.actions).mean()
            if global_step % 100 == 0:
                writer.add_scalar("loss", loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
"""


def test_the_update_of_a_cleanrl_script_runs_as_its_file_has_it(tmp_path: Path) -> None:
    import numpy as np
    import torch

    from eightbit.agents.replay import Batch

    peer = load("cleanrl")
    path = tmp_path / "tiny_atari.py"
    path.write_text(SCRIPT)
    pictures = torch.full((3, 2, 2, 2), 255, dtype=torch.uint8)
    actions, zeros = torch.tensor([0, 0, 1]), torch.zeros(3)
    batch = Batch(pictures, actions, zeros, pictures, zeros, zeros, np.arange(3))
    theirs = peer.Theirs(path, [batch], (2, 2, 2), 4)
    assert theirs.batch_size == 3
    weights = theirs._space["q_network"].layer.weight.detach().clone()
    assert theirs() + theirs() == 2
    moved = weights - theirs._space["q_network"].layer.weight.detach()
    expected = torch.tensor([2 / 3, 1 / 3, 0.0, 0.0]) * 0.1 * 2
    torch.testing.assert_close(moved, expected.unsqueeze(1).expand(4, 8))


def test_what_is_no_script_of_cleanrls_is_refused(tmp_path: Path) -> None:
    peer = load("cleanrl")
    with pytest.raises(SystemExit, match="is no script of CleanRL's"):
        peer.Theirs(tmp_path / "absent.py", [], (4, 84, 84), 6)
    (tmp_path / "other.py").write_text("print(1)")
    with pytest.raises(SystemExit, match="no update was found"):
        peer.Theirs(tmp_path / "other.py", [], (4, 84, 84), 6)
