"""A game of the console, played a frame at a time: its picture, its sound and its score."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from ..envs.console.cartridges import ACTION_NAMES, action_numbers, rgb_palette
from ..envs.console.vector import ConsoleVectorEnv
from ..envs.games import game_facts
from ..envs.options import EnvOptions, Picture, Rng
from ..envs.sound import SoundChip

SILENCE = np.zeros(0, np.int16)
_NO_LIMIT = 10**9  # frames


class Cabinet:
    """One game on our console, played a frame at a time.

    Attributes:
        game: canonical name.
        rate: frames per second, 60 or 50.
        screen: (height, 160) uint8, the console's colour numbers of the newest frame.
        score: raw rewards of this game, summed.
        lives: that are left; None in a game that has had none so far.
        over: whether the game has ended.

    Args:
        game: canonical name.
        mode: in ALE's numbers; None for the first.
        difficulty: of the switches.
        sticky: probability (0 to 1) with which a frame repeats the action before.
        roms: folder of ROMs, as in `EnvOptions`.
        sound: whether sound is made.
    """

    def __init__(
        self,
        game: str,
        mode: int | None = None,
        difficulty: int = 0,
        *,
        sticky: float = 0.0,
        roms: str = "",
        sound: bool = True,
    ):
        options = EnvOptions(
            sticky=sticky,
            noop_max=0,
            life_loss=False,
            full_action_set=True,
            max_frames=_NO_LIMIT,
            frame_skip=1,
            frame_stack=1,
            screen_size=0,
            fire=False,
            num_threads=1,
            mode=mode,
            difficulty=difficulty,
            picture=Picture.PALETTE,
            rng=Rng.COUNTER,
            roms=roms,
        )
        facts = game_facts(game)
        self._env = ConsoleVectorEnv(game, 1, options, AutoresetMode.DISABLED, record_frames=True)
        legal = [ACTION_NAMES[number] for number in action_numbers(facts, options)]
        self._actions = {name: legal.index(_legal(name, legal)) for name in ACTION_NAMES}
        self._has_sound = sound
        self.game, self.rate, self.height = game, facts.frame_rate, facts.height
        self.lives: int | None = None
        self.begin(0)

    def begin(self, seed: int | None) -> None:
        """Begins a new game; without a seed the random numbers go on."""
        observations, infos = self._env.reset(seed=seed)
        self.screen = observations[0, 0]
        self.score, self.over, self.lives = 0.0, False, None
        self._count_lives(infos)
        self._chip = SoundChip(self.rate, pal=self.rate == 50)

    def play(self, action: str) -> np.ndarray:
        """Plays a frame with one of ALE's 18 actions; returns its sound, (samples,) int16."""
        step = self._env.step(np.array([self._actions[action]]))
        self.screen = step[0][0, 0]
        self.score += float(step[1][0])
        self.over = bool(step[2][0])
        self._count_lives(step[4])
        return self._chip.render(self._env.recorded(0)[1]) if self._has_sound else SILENCE

    @property
    def picture(self) -> np.ndarray:
        """The newest frame in colours, (height, 160, 3) uint8."""
        return rgb_palette(self.rate)[self.screen]

    def close(self) -> None:
        """Switches the console off."""
        self._env.close()

    def _count_lives(self, infos: dict[str, Any]) -> None:
        lives = int(infos["lives"][0])
        if lives > 0 or self.lives is not None:
            self.lives = lives


def _legal(name: str, legal: list[str]) -> str:
    """The action itself, or without the button where the game forbids it."""
    return name if name in legal else name.replace("FIRE", "") or "NOOP"
