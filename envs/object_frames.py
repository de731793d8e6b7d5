"""Frames of a game with the planes that tell which of the video chip's objects cover a pixel."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode

from .console.cartridges import ACTION_NAMES, action_numbers
from .console.vector import ConsoleVectorEnv
from .games import game_facts
from .options import EnvOptions, Picture


@dataclass(frozen=True)
class ObjectFrames:
    """The newest frame of each of several games that are played side by side.

    Attributes:
        screens: uint8 (rows, height, 160), the console's colour numbers.
        planes: uint8 (rows, height, 160), bits as `Picture.OBJECTS` tells.
    """

    screens: np.ndarray
    planes: np.ndarray


def play_objects(
    game: str, rows: int, seed: int, frame_skip: int, act: Callable[[ObjectFrames], np.ndarray]
) -> Generator[ObjectFrames, None, None]:
    """Plays games on and on, those that end anew, and gives their frames at each step.

    Args:
        game: canonical name.
        rows: games that are played.
        seed: of the first; the others have the next ones.
        frame_skip: frames that an action is held for.
        act: actions (rows,) of what is seen, indices into `object_actions`; called when the
            next frames are asked for.

    Raises:
        UsageError: the game's ROM cannot be read, or the console was not compiled.
    """
    env = ConsoleVectorEnv(
        game, rows, _options(frame_skip), AutoresetMode.NEXT_STEP, true_colours=True
    )
    try:
        planes, _ = env.reset(seed=seed)
        while True:
            screens = np.stack([env.pieces(row)["screen"] for row in range(rows)])
            frames = ObjectFrames(screens, planes[:, 0])
            yield frames
            planes = env.step(act(frames))[0]
    finally:
        env.close()


def object_actions(game: str) -> list[str]:
    """ALE's names of the actions in `play_objects`."""
    return [ACTION_NAMES[number] for number in action_numbers(game_facts(game), _options(1))]


def _options(frame_skip: int) -> EnvOptions:
    return EnvOptions(
        picture=Picture.OBJECTS,
        screen_size=0,
        frame_skip=frame_skip,
        frame_stack=1,
        max_pool=False,
        life_loss=False,
    )
