"""`make_vec`: one call for every backend."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from enum import Enum
from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

from ..errors import UsageError
from .adapters import GYM_PREFIX, make_gym_vec
from .console import is_built
from .games import CATCH, parse_game
from .options import EnvOptions, Preprocessing, Protocol, change_options, env_options


class Backend(str, Enum):
    """Who emulates the games."""

    CONSOLE = "console"
    """Our own console, on the CPU or a GPU."""
    ALE = "ale"
    """ALE's vectorizer, on the CPU."""


def make_vec(
    game: str | Sequence[str],
    num_envs: int,
    *,
    device: str = "cpu",
    backend: Backend | str | None = None,
    options: EnvOptions | None = None,
    protocol: Protocol | str = Protocol.MNIH2015,
    training: bool = True,
    autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    **changes: Any,
) -> VectorEnv:
    """Makes `num_envs` copies of a game that step together.

    Args:
        game: a name in any spelling; "catch" is our own small game; "gym:<id>" any registered
            environment with discrete actions, for which no option holds. Several games share
            the rows evenly, in order, if their actions are the same.
        num_envs: number of copies, 1 or more.
        device: where they run: "cpu", or "cuda" (also "cuda:1") for consoles on a GPU, whose
            observations, rewards, flags and infos are torch tensors there.
        backend: "console" or "ale"; None takes the console where it was compiled.
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
    if isinstance(game, str) and game.startswith(GYM_PREFIX):
        if options is not None or changes or device != "cpu":
            raise UsageError(f"{game} is no Atari game; leave the options of Atari out.")
        return make_gym_vec(game, num_envs, autoreset_mode=autoreset_mode)
    if options is None:
        options = env_options(protocol, training=training)
    options = change_options(options, **changes)
    names = [_canonical(one, options) for one in ([game] if isinstance(game, str) else game)]
    if CATCH in names or options.preprocessing == Preprocessing.SB3:
        return _make_special(names, num_envs, device, options, autoreset_mode)
    chosen = choose_backend(backend, device, options)
    if device != "cpu":
        from .console.gpu import ConsoleGpuVectorEnv

        return ConsoleGpuVectorEnv(names, num_envs, options, autoreset_mode, device=device)
    if chosen == Backend.CONSOLE:
        from .console.vector import ConsoleVectorEnv

        return ConsoleVectorEnv(names, num_envs, options, autoreset_mode)
    if len(names) > 1:
        raise UsageError("ALE plays one game in a vector; leave backend='ale' out for several.")
    from .ale import AleVectorEnv

    return AleVectorEnv(names[0], num_envs, options, autoreset_mode)


def choose_backend(backend: Backend | str | None, device: str, options: EnvOptions) -> Backend:
    """Returns who emulates; warns when that is ALE only because the console is not there.

    Raises:
        UsageError: the backend is unknown, or cannot do what the options or the device ask for.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"games run on device 'cpu' or 'cuda', not on {device!r}.")
    try:
        wanted = None if backend is None else Backend(backend)
    except ValueError:
        raise UsageError(f"unknown backend {backend!r}: known are console and ale.") from None
    if wanted is None:
        wanted = Backend.CONSOLE if is_built() or device != "cpu" else Backend.ALE
        if wanted == Backend.ALE:
            warnings.warn(
                "the console was not compiled when eightbit was installed; ALE plays instead.",
                stacklevel=3,
            )
    if wanted == Backend.ALE:
        if device != "cpu":
            raise UsageError("ALE runs on the CPU; leave backend='ale' out for a GPU.")
        _refuse_for_ale(options)
    return wanted


def _refuse_for_ale(options: EnvOptions) -> None:
    """Raises UsageError for what only the console has."""
    known = EnvOptions()
    for name in ("mode", "difficulty", "picture", "roms"):
        if getattr(options, name) != getattr(known, name):
            raise UsageError(f"the option {name} needs the console; backend='ale' has it not.")
    if options.screen_size == 0:
        raise UsageError("screen_size=0 needs the console; backend='ale' has it not.")


def _canonical(game: str, options: EnvOptions) -> str:
    if game.startswith(GYM_PREFIX):
        raise UsageError(f"{game} cannot share a vector with other games.")
    found = parse_game(game, options)
    if found.note:
        warnings.warn(found.note, stacklevel=3)
    return found.name


def _make_special(
    names: list[str],
    num_envs: int,
    device: str,
    options: EnvOptions,
    autoreset_mode: AutoresetMode,
) -> VectorEnv:
    """Makes what is neither the console nor ALE's vectorizer: catch, or SB3's preprocessing."""
    if device != "cpu":
        what = "catch" if CATCH in names else "preprocessing 'sb3'"
        raise UsageError(f"{what} runs on device 'cpu' only, not on {device!r}.")
    if len(names) > 1:
        raise UsageError("catch and preprocessing 'sb3' take one game in a vector.")
    if names[0] == CATCH:
        from .catch import CatchVectorEnv

        return CatchVectorEnv(num_envs, options, autoreset_mode)
    from .sb3_atari import Sb3AtariVectorEnv

    return Sb3AtariVectorEnv(names[0], num_envs, options, autoreset_mode)


def make_registered(
    num_envs: int = 1, *, game: str, render_mode: str | None = None, **kwargs: Any
) -> VectorEnv:
    """What `gymnasium.make_vec("eightbit/...")` calls; `kwargs` are those of `make_vec`."""
    if render_mode is not None:
        raise UsageError("vector environments do not render; make a single one for pictures.")
    return make_vec(game, num_envs, **kwargs)
