"""Learners: DQN with its options, replay memory and the loop that runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..registry import Registry
from .options import PRESETS, DQNOptions

if TYPE_CHECKING:
    from .dqn import DQN
    from .loop import LoopStep
    from .replay import FrameReplay

__all__ = ["AGENTS", "DQN", "AgentSpec", "DQNOptions", "FrameReplay", "LoopStep"]


@dataclass(frozen=True)
class AgentSpec:
    """An agent that `eightbit train --agent` can name.

    Attributes:
        name: its key in the registry.
        description: one line for `eightbit list agents`.
        presets: options by preset name; the first is the default for pixels.
        vector_preset: the default for vector observations.
        load_class: imports and returns the agent's class, so that listing needs no torch.
    """

    name: str
    description: str
    presets: dict[str, DQNOptions]
    vector_preset: str
    load_class: Callable[[], Any]

    def default_preset(self, observation_shape: tuple[int, ...]) -> str:
        """The preset for observations of this shape: pixels are (C, H, W)."""
        return next(iter(self.presets)) if len(observation_shape) == 3 else self.vector_preset


def _dqn() -> type[DQN]:
    from .dqn import DQN

    return DQN


AGENTS: Registry[AgentSpec] = Registry("agent", "eightbit list agents")
AGENTS.add(
    "dqn",
    AgentSpec("dqn", "Deep Q-network (Mnih 2013, 2015) and its options", PRESETS, "vector", _dqn),
)

_LAZY = {"DQN": "dqn", "LoopStep": "loop", "FrameReplay": "replay"}


def __getattr__(name: str) -> Any:
    """Imports what needs torch only when it is asked for."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
