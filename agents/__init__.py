"""Learners: DQN with its options, replay memory and the loop that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..registry import Registry
from .options import DQNOptions
from .presets import DQN_PRESETS, PAPER_PRESETS, PQN_PRESETS
from .sb3_options import A2C_PRESETS, PPO_PRESETS, QRDQN_PRESETS, Sb3Options

if TYPE_CHECKING:
    from .dqn import DQN
    from .loop import LoopStep
    from .replay import FrameReplay
    from .sb3_agents import Sb3Agent

__all__ = ["AGENTS", "DQN", "AgentSpec", "DQNOptions", "FrameReplay", "LoopStep", "Sb3Agent"]

AgentOptions = DQNOptions | Sb3Options


@dataclass(frozen=True)
class AgentSpec:
    """An agent that `eightbit train --agent` can name.

    Attributes:
        name: its key in the registry.
        description: one line for `eightbit list agents`.
        presets: options by preset name; the first is the default for pixels, "vector" where
            there is one for vector observations.
        load_class: imports and returns the agent's class, so that listing needs no torch.
    """

    name: str
    description: str
    presets: Mapping[str, AgentOptions]
    load_class: Callable[[], Any]

    def default_preset(self, observation_shape: tuple[int, ...]) -> str:
        """The preset for observations of this shape: pixels are (C, H, W)."""
        vectors = len(observation_shape) != 3 and "vector" in self.presets
        return "vector" if vectors else next(iter(self.presets))


def _dqn() -> type[DQN]:
    from .dqn import DQN

    return DQN


def _sb3() -> type[Sb3Agent]:
    from .sb3_agents import Sb3Agent

    return Sb3Agent


AGENTS: Registry[AgentSpec] = Registry("agent", "eightbit list agents")
for _name, _description, _presets in (
    ("dqn", "Deep Q-network (Mnih 2013, 2015) and its options", DQN_PRESETS),
    ("pqn", "no replay, no target network, layer norm (Gallici 2025): the fastest", PQN_PRESETS),
    ("double", "Double DQN (van Hasselt 2016)", None),
    ("dueling", "value and advantage streams (Wang 2016)", None),
    ("prioritized", "replay by TD error (Schaul 2016)", None),
    ("n-step", "DQN with three steps of reward (Sutton 1988; Hessel 2018)", None),
    ("noisy", "NoisyNet-DQN: learnt noise explores (Fortunato 2018)", None),
    ("c51", "a categorical distribution of returns (Bellemare 2017)", None),
    ("qr-dqn", "quantiles of the return (Dabney 2018a)", None),
    ("iqn", "implicit quantiles (Dabney 2018b)", None),
    ("rainbow", "six extensions together (Hessel 2018)", None),
    ("m-iqn", "Munchausen-IQN (Vieillard 2020)", None),
    ("r2d2", "LSTM, stored states, burn-in (Kapturowski 2019)", None),
    ("btr", "Beyond the Rainbow (Clark 2025)", None),
):
    _all = _presets or {_name: PAPER_PRESETS[_name]}
    AGENTS.add(_name, AgentSpec(_name, _description, _all, _dqn))
AGENTS.add(
    "sb3-ppo", AgentSpec("sb3-ppo", "PPO of Stable-Baselines3 (Schulman 2017)", PPO_PRESETS, _sb3)
)
AGENTS.add(
    "sb3-a2c", AgentSpec("sb3-a2c", "A2C of Stable-Baselines3 (Mnih 2016)", A2C_PRESETS, _sb3)
)
AGENTS.add(
    "sb3-qrdqn", AgentSpec("sb3-qrdqn", "QR-DQN of sb3-contrib (Dabney 2018a)", QRDQN_PRESETS, _sb3)
)


def default_agent(observation_shape: tuple[int, ...]) -> str:
    """Who learns where nothing is said: PQN from pixels, DQN from vectors."""
    return "pqn" if len(observation_shape) == 3 else "dqn"


_LAZY = {"DQN": "dqn", "LoopStep": "loop", "FrameReplay": "replay", "Sb3Agent": "sb3_agents"}


def __getattr__(name: str) -> Any:
    """Imports what needs torch only when it is asked for."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
