"""A game of the console a frame at a time, and an agent that plays it so, beside a person."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from gymnasium.vector import AutoresetMode

from ..envs.console.cartridges import ACTION_NAMES, action_numbers, grey_palette, rgb_palette
from ..envs.console.vector import ConsoleVectorEnv
from ..envs.games import game_facts
from ..envs.options import EnvOptions, Picture, Preprocessing, Rng
from ..envs.sound import SoundChip
from ..errors import UsageError
from .evaluation import action_names, default_epsilon
from .player import Player

SILENCE = np.zeros(0, np.int16)
_NO_LIMIT = 10**9  # frames


class Cabinet:
    """One game on our console, played a frame at a time.

    Attributes:
        game: canonical name.
        rate: frames per second, 60 or 50.
        screen: (height, 160) uint8, the console's colour numbers of the newest frame.
        score: raw rewards of this game, summed.
        lives: that are left; None in a game without lives.
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
        self.begin(0)

    def begin(self, seed: int | None) -> None:
        """Begins a new game; without a seed the random numbers go on."""
        observations, infos = self._env.reset(seed=seed)
        self.screen = observations[0, 0]
        self.score, self.over = 0.0, False
        lives = int(infos["lives"][0])
        self.lives = lives if lives > 0 else None
        self._chip = SoundChip(self.rate, pal=self.rate == 50)

    def play(self, action: str) -> np.ndarray:
        """Plays a frame with one of ALE's 18 actions; returns its sound, (samples,) int16."""
        step = self._env.step(np.array([self._actions[action]]))
        self.screen = step[0][0, 0]
        self.score += float(step[1][0])
        self.over = bool(step[2][0])
        if self.lives is not None:
            self.lives = int(step[4]["lives"][0])
        return self._chip.render(self._env.recorded(0)[1]) if self._has_sound else SILENCE

    @property
    def picture(self) -> np.ndarray:
        """The newest frame in colours, (height, 160, 3) uint8."""
        return rgb_palette(self.rate)[self.screen]

    def close(self) -> None:
        """Switches the console off."""
        self._env.close()


def _legal(name: str, legal: list[str]) -> str:
    """The action itself, or without the button where the game forbids it."""
    return name if name in legal else name.replace("FIRE", "") or "NOOP"


class Pilot:
    """An agent at the controls, which sees the frames that people see.

    Of them it makes the observations that it was trained with: grey, the maximum of the last two
    frames of its step, INTER_AREA, a stack. It decides at the end of each of its steps, whoever
    played the frames, so a person may take over and hand back at any time.

    Args:
        player: the agent with its options; it sees ALE's grey screens.
        seed: of its no-ops and random actions.
        epsilon: share of random actions, 0 to 1; the protocol's by default.

    Raises:
        UsageError: the agent sees something else.
    """

    def __init__(self, player: Player, seed: int = 0, epsilon: float | None = None):
        options = player.options
        if options.preprocessing != Preprocessing.ALE or options.picture != Picture.GREY:
            raise UsageError(
                "this agent does not see grey screens as ALE makes them, and only such agents "
                f"play beside a person: write 'eightbit watch {player.run.path}'."
            )
        self._agent, self._options = player.agent, options
        facts = game_facts(player.game)
        self._grey = grey_palette(facts.frame_rate)
        self._names = action_names(player.game, options, player.agent.num_actions)
        self._epsilon = default_epsilon(player.game, player.protocol)
        self._epsilon = self._epsilon if epsilon is None else epsilon
        self._generator = np.random.default_rng(seed)
        self._pooled = options.max_pool and options.frame_skip > 1
        self._has_fire = options.fire and "FIRE" in self._names

    def begin(self, cabinet: Cabinet) -> None:
        """A new game: before the first observation come FIRE and a random number of no-ops."""
        fire = ["FIRE"] if self._has_fire else []
        noops = int(self._generator.integers(self._options.noop_max + 1)) - len(fire)
        self._opening = deque([*fire, *["NOOP"] * noops])
        rows, columns = (
            self._options.screen_size or cabinet.height,
            self._options.screen_size or 160,
        )
        self._stack = np.zeros((self._options.frame_stack, rows, columns), np.uint8)
        self._held = "NOOP"
        if not self._opening:
            self._begin_steps(cabinet)

    @property
    def action(self) -> str:
        """What it holds in the next frame."""
        return self._opening[0] if self._opening else self._held

    def see(self, cabinet: Cabinet) -> None:
        """Takes in a frame that was played, and decides when its step is over."""
        if self._opening:
            self._opening.popleft()
            if not self._opening:
                self._begin_steps(cabinet)
            return
        self._seen += 1
        if self._seen == self._options.frame_skip - 1:
            self._before = self._grey[cabinet.screen]
        elif self._seen == self._options.frame_skip:
            self._seen = 0
            newest = self._grey[cabinet.screen]
            pooled = np.maximum(self._before, newest) if self._pooled else newest
            self._decide(pooled, cabinet.lives or 0)

    def _begin_steps(self, cabinet: Cabinet) -> None:
        self._seen, self._lives = 0, cabinet.lives or 0
        self._before = self._grey[cabinet.screen]
        self._decide(self._before, self._lives)

    def _decide(self, screen: np.ndarray, lives: int) -> None:
        """Puts a screen (height, 160) uint8 on the stack and chooses epsilon-greedily."""
        size = self._options.screen_size
        if size:
            screen = cv2.resize(screen, (size, size), interpolation=cv2.INTER_AREA)
        self._stack = np.concatenate([self._stack[1:], screen[None]])
        values = np.asarray(self._agent.q_values(self._stack[None])[0])
        random = bool(self._generator.random() < self._epsilon)
        index = int(self._generator.integers(len(values))) if random else int(values.argmax())
        # As in training: the step after a lost life presses FIRE.
        pressed = self._has_fire and 0 < lives < self._lives
        self._held = "FIRE" if pressed else self._names[index]
        self._lives = lives
