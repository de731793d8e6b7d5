"""Where the games of a run go, and what is said of it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gymnasium.vector import AutoresetMode

from eightbit.agents import AGENTS
from eightbit.envs.options import Protocol
from eightbit.envs.transitions import EnvStepper
from eightbit.errors import UsageError
from eightbit.train import games, session
from eightbit.train.session import RunRequest


class Made:
    """Notes how the environments are made."""

    def __init__(self, fails: str = ""):
        self.calls: list[dict[str, Any]] = []
        self.fails = fails

    def __call__(self, game: str, num_envs: int, *, device: str = "cpu", **options: Any) -> Any:
        self.calls.append({"game": game, "device": device, **options})
        if self.fails and device != "cpu":
            raise UsageError(self.fails)
        return SimpleNamespace(device=device)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """A machine with a GPU, as far as devices and environments are asked for."""
    made = Made()

    def device(name: str) -> torch.device:
        return torch.device("cuda" if name == "auto" else name)

    monkeypatch.setattr(games, "choose_device", device)
    monkeypatch.setattr(games, "make_vec", made)
    monkeypatch.setattr(games, "EnvStepper", lambda env: ("host", env.device))
    monkeypatch.setattr(games, "DeviceStepper", lambda env: ("device", env.device))
    return made


def placed(agent: str = "pqn", **request: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    asked = RunRequest(**{"game": "pong", "agent": agent, **request})
    options = next(iter(AGENTS[agent].presets.values()))
    return games.training_stepper(asked, options, 4, said.append), said


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "auto"])
@pytest.mark.parametrize("agent", ["pqn", "dqn", "rainbow"])
def test_games_go_to_the_gpu_of_the_network(made, agent, device):
    where = "cuda" if device == "auto" else device
    stepper, said = placed(agent, device=device)
    assert stepper == ("device", where)
    (call,) = made.calls
    assert call["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert said == [
        f"the games run on {where}, and everything that is learnt from them stays there."
    ]


def test_on_a_cpu_nothing_is_said(made):
    assert placed(device="cpu") == (("host", "cpu"), [])
    assert placed(device="mps") == (("host", "cpu"), [])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"agent": "r2d2"}, "r2d2 with these options learns from arrays there."),
        ({"game": "catch"}, "catch is made for it only."),
    ],
)
def test_games_that_a_gpu_cannot_serve_stay_on_the_cpu_and_why_is_said(made, request_, reason):
    stepper, said = placed(**{"device": "cuda", **request_})
    assert stepper == ("host", "cpu")
    assert said == [f"the games run on the CPU: {reason}"]


def test_what_a_gpu_lacks_is_refused_when_it_was_named_and_said_when_not(made):
    made.fails = "CuPy is not installed."
    stepper, said = placed(device="auto")
    assert stepper == ("host", "cpu")
    assert said == ["the games run on the CPU: CuPy is not installed."]
    with pytest.raises(UsageError, match="CuPy is not installed"):
        placed(device="cuda")


@pytest.mark.parametrize("fits", [True, False])
def test_memory_on_a_gpu_is_planned_there_where_it_fits(fits, monkeypatch):
    said: list[str] = []

    class Stepper:
        device = torch.device("cuda", 0)
        num_envs, frame_stack = 32, 4
        observation_space = EnvStepper(games.make_vec("catch", 1)).observation_space

    monkeypatch.setattr(session, "DeviceStepper", Stepper)
    monkeypatch.setattr(session, "fits", lambda device, needed: fits)
    monkeypatch.setattr(session, "available_memory", lambda: 20_000_000_000)
    options = dataclasses.replace(AGENTS["dqn"].presets["fast"], buffer_size=1_000_000)
    asked = RunRequest(game="pong", agent="dqn", protocol=Protocol.MNIH2015)
    needed = session._plan(asked, options, Stepper(), SimpleNamespace(say=said.append))
    assert needed == pytest.approx(7.1e9, rel=0.01)
    (line,) = said
    assert ("on cuda:0" in line) is fits
    assert ("are free" in line) is not fits
