"""Makes the games known to Gymnasium."""

from __future__ import annotations

from gymnasium.envs.registration import EnvSpec, registry

from .games import CATCH, game_facts, list_games


def register_games() -> None:
    """Registers `eightbit/<Game>-v5` for the 104 games, and `eightbit/Catch-v0`.

    Nothing that the ids stand for is loaded before an environment is made. Calling this again
    changes nothing.
    """
    ids = {f"eightbit/{game_facts(name).id}-v5": name for name in list_games()}
    for env_id, name in ids.items():
        registry[env_id] = EnvSpec(
            id=env_id,
            entry_point="eightbit.envs.single:AtariEnv",
            vector_entry_point="eightbit.envs.vector:make_registered",
            kwargs={"game": name},
        )
    registry["eightbit/Catch-v0"] = EnvSpec(
        id="eightbit/Catch-v0",
        entry_point="eightbit.envs.catch:make_catch",
        vector_entry_point="eightbit.envs.vector:make_registered",
        kwargs={"game": CATCH},
    )
