"""`make_vec`: one call for every backend."""

from __future__ import annotations

import warnings
from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

from ..errors import UsageError
from .adapters import GYM_PREFIX, make_gym_vec
from .games import CATCH, parse_game
from .options import EnvOptions, Preprocessing, Protocol, change_options, env_options


def make_vec(
    game: str,
    num_envs: int,
    *,
    device: str = "cpu",
    options: EnvOptions | None = None,
    protocol: Protocol | str = Protocol.MNIH2015,
    training: bool = True,
    autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    **changes: Any,
) -> VectorEnv:
    """Makes `num_envs` copies of a game that step together.

    Args:
        game: a name in any spelling; "catch" is our own small game; "gym:<id>" any registered
            environment with discrete actions, for which no option holds.
        num_envs: number of copies, 1 or more.
        device: where they run; "cpu" is ALE's vectorizer.
        options: the semantics; default: those of `protocol`.
        protocol: used when `options` is not given.
        training: used with `protocol`; in evaluation a lost life never ends an episode.
        autoreset_mode: when an environment whose game has ended begins anew.
        **changes: single fields of `EnvOptions` to set otherwise.

    Returns:
        A vector environment with observations (num_envs, frame_stack, screen_size, screen_size)
        uint8, newest screen last, and raw float32 rewards.

    Raises:
        UnknownNameError: no such game.
        UsageError: an option, the device or the number of environments is not possible.
    """
    if device != "cpu":
        raise UsageError(f"games run on device 'cpu' only in this version, not on {device!r}.")
    if game.startswith(GYM_PREFIX):
        if options is not None or changes:
            raise UsageError(f"{game} is no Atari game; leave the options of Atari out.")
        return make_gym_vec(game, num_envs, autoreset_mode=autoreset_mode)
    if options is None:
        options = env_options(protocol, training=training)
    options = change_options(options, **changes)
    found = parse_game(game, options)
    if found.note:
        warnings.warn(found.note, stacklevel=2)
    if found.name == CATCH:
        from .catch import CatchVectorEnv

        return CatchVectorEnv(num_envs, options, autoreset_mode)
    if options.preprocessing == Preprocessing.SB3:
        from .sb3_atari import Sb3AtariVectorEnv

        return Sb3AtariVectorEnv(found.name, num_envs, options, autoreset_mode)
    from .ale import AleVectorEnv

    return AleVectorEnv(found.name, num_envs, options, autoreset_mode)


def make_registered(
    num_envs: int = 1, *, game: str, render_mode: str | None = None, **kwargs: Any
) -> VectorEnv:
    """What `gymnasium.make_vec("eightbit/...")` calls; `kwargs` are those of `make_vec`."""
    if render_mode is not None:
        raise UsageError("vector environments do not render; make a single one for pictures.")
    return make_vec(game, num_envs, **kwargs)
