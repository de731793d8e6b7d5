"""One game on the console: a row of the vector environment by itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from ..games import game_facts
from ..options import EnvOptions
from .cartridges import action_numbers, rgb_palette
from .vector import ConsoleVectorEnv


class ConsoleRow:
    """One game, step by step; `AtariEnv` tells what its methods return.

    Args:
        game: canonical name.
        options: the semantics.
        record_frames: whether `frames` and `sounds` tell of every emulated frame.
    """

    def __init__(self, game: str, options: EnvOptions, record_frames: bool):
        facts = game_facts(game)
        self.actions = action_numbers(facts, options)
        self._palette = rgb_palette(facts.frame_rate)
        self._env = ConsoleVectorEnv(
            game,
            1,
            dataclasses.replace(options, num_threads=1),
            AutoresetMode.DISABLED,
            record_frames=record_frames,
            true_colours=True,
        )

    def reset(self, seed: int | None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins a new game; a seed of None goes on with the generators as they are."""
        mask = np.ones(1, np.bool_)
        observations, infos = self._env.reset(seed=seed, options={"reset_mask": mask})
        return observations[0], _only_row(infos)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Holds an action for `frame_skip` frames."""
        result = self._env.step(np.array([action]))
        observations, rewards, terminated, truncated, infos = result
        ends = bool(terminated[0]), bool(truncated[0])
        return observations[0], float(rewards[0]), *ends, _only_row(infos)

    def screen(self) -> np.ndarray:
        """Returns the raw screen (height, 160, 3) uint8."""
        return self._palette[self._env.pieces(0)["screen"]]

    def frames(self) -> list[np.ndarray]:
        """Returns the frames of the last step or reset, (height, 160, 3) uint8."""
        return list(self._palette[self._env.recorded(0)[0]])

    def sounds(self) -> np.ndarray | None:
        """Returns the sound registers of the same frames, (frames, 6) uint8."""
        return self._env.recorded(0)[1]

    def close(self) -> None:
        """Ends the console."""
        self._env.close()


def _only_row(infos: dict[str, Any]) -> dict[str, Any]:
    return {name: values[0].item() for name, values in infos.items() if name[0] != "_"}
