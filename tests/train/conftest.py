"""What the tests of training share: the command line in this process, and a short run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from eightbit.cli import main
from eightbit.train import session

TINY = [
    *("--agent", "dqn"),
    *("--backbone", "nips2013", "--backbone-options", '{"hidden": 16}', "--device", "cpu"),
    *("--num-envs", "4", "--buffer-size", "400", "--learning-starts", "60", "--batch-size", "8"),
    *("--replay-ratio", "1", "--target-update", "100", "--epsilon-steps", "300"),
    *("--precision", "fp32"),
]
"""Options with which a run learns within a second: every part is used, nothing is learnt well."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def eightbit(capsys):
    """Runs `eightbit ...` in this process."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def train(eightbit, monkeypatch):
    """Runs `eightbit train ...` with tiny options; a run that goes on brings its own.

    The picture of the curves, which takes longer than the run, is left out.
    """
    monkeypatch.setattr(session, "draw_run", lambda *_: None)

    def run(*words):
        told = [] if {"--resume", "--config"} & set(words) else TINY
        return eightbit("train", *told, *words)

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A run of Catch with checkpoints of steps 240 and 280 and a best one; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "draw_run", lambda *_: None)
        assert main(["train", "catch", *TINY, "--frames", "240", "--out", str(folder)]) == 0
        assert main(["train", "--resume", str(folder), "--frames", "280"]) == 0
    return folder


@pytest.fixture
def run_folder(finished_run, tmp_path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
