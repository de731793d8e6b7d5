"""An agent that plays a frame at a time, so that a person may take over at any time."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from ..envs.console.cartridges import grey_palette
from ..envs.games import game_facts
from ..envs.options import Picture, Preprocessing
from ..errors import UsageError
from .cabinet import Cabinet
from .evaluation import action_names, default_epsilon, start_playing
from .player import Player


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
        self._playing, self._options = start_playing(player.agent), options
        facts = game_facts(player.game)
        self._grey = grey_palette(facts.frame_rate)
        self._names = action_names(player.game, options, player.agent.num_actions)
        by_protocol = default_epsilon(player.game, player.protocol)
        self._epsilon = by_protocol if epsilon is None else epsilon
        self._generator = np.random.default_rng(seed)
        self._pooled = options.max_pool and options.frame_skip > 1
        self._has_fire = options.fire and "FIRE" in self._names
        self._seen = 0  # frames of the present step

    def begin(self, cabinet: Cabinet) -> None:
        """A new game: before the first observation come FIRE and a random number of no-ops."""
        self._playing.begin()
        fire = ["FIRE"] if self._has_fire else []
        noops = int(self._generator.integers(self._options.noop_max + 1)) - len(fire)
        self._opening = deque([*fire, *["NOOP"] * noops])
        size = self._options.screen_size
        shape = (size, size) if size else cabinet.screen.shape
        self._stack = np.zeros((self._options.frame_stack, *shape), np.uint8)
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
        values = self._playing.values(self._stack[None])[0]
        random = bool(self._generator.random() < self._epsilon)
        index = int(self._generator.integers(len(values))) if random else int(values.argmax())
        # As in training: the step after a lost life presses FIRE.
        pressed = self._has_fire and 0 < lives < self._lives
        self._held = "FIRE" if pressed else self._names[index]
        self._lives = lives
