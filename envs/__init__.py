"""Environments: the games, their protocols, and the one way to step them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .games import GameFacts, GameName, game_facts, list_games, parse_game
from .options import PROTOCOLS, EnvOptions, Preprocessing, Protocol, ProtocolSpec, env_options

if TYPE_CHECKING:
    from .adapters import VectorEnvFromSB3, make_gym_vec
    from .checker import check_vector_env
    from .sb3_vec import SB3VecEnv
    from .transitions import EnvStepper, Episode, StepRecord
    from .vector import make_vec

__all__ = [
    "PROTOCOLS",
    "EnvOptions",
    "EnvStepper",
    "Episode",
    "GameFacts",
    "GameName",
    "Preprocessing",
    "Protocol",
    "ProtocolSpec",
    "SB3VecEnv",
    "StepRecord",
    "VectorEnvFromSB3",
    "check_vector_env",
    "env_options",
    "game_facts",
    "list_games",
    "make_gym_vec",
    "make_vec",
    "parse_game",
]

# Loaded when first asked for: Gymnasium and ALE cost more than the tables of games and protocols.
_LAZY = {
    "EnvStepper": "transitions",
    "Episode": "transitions",
    "StepRecord": "transitions",
    "SB3VecEnv": "sb3_vec",
    "VectorEnvFromSB3": "adapters",
    "make_gym_vec": "adapters",
    "check_vector_env": "checker",
    "make_vec": "vector",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
