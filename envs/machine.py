"""One emulated console: frames in, observations out."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from ale_py import Action, ALEInterface, LoggerMode, roms

from ..errors import UsageError
from .options import EnvOptions, Preprocessing


class AleMachine:
    """Holds actions on ALE and makes observations of its frames as the options say.

    Frames become screens exactly as in ALE's vectorizer (grey by luminance, maximum of the last
    two frames of a step, INTER_AREA), or as in Stable-Baselines3 (maximum in RGB, then grey).

    Attributes:
        ale: the emulator.
        actions: ALE's actions in the order of the action space.
        step_frames: frames (height, 160, 3) uint8 of the last step when they are recorded.

    Args:
        game: canonical name in snake_case.
        options: the semantics.
        record_frames: whether every emulated frame is kept until the next step.
    """

    def __init__(self, game: str, options: EnvOptions, record_frames: bool = False):
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", options.sticky)
        rom = roms.get_rom_path(game)
        if rom is None:
            raise UsageError(f"ale-py has no ROM of {game}: write 'pip install -U ale-py'.")
        self._rom = rom
        self._options = options
        self._sb3 = options.preprocessing == Preprocessing.SB3
        if self._sb3:
            self.ale.setInt("max_num_frames_per_episode", options.max_frames)
        self._record = record_frames
        self.step_frames: list[np.ndarray] = []
        self.load(0)
        full = options.full_action_set
        self.actions = self.ale.getLegalActionSet() if full else self.ale.getMinimalActionSet()
        self._grab: Callable[[], np.ndarray] = (
            self.ale.getScreenRGB if self._sb3 else self.ale.getScreenGrayscale
        )
        self._newest = np.zeros_like(self._grab())
        self._before = np.zeros_like(self._newest)
        size = options.screen_size
        self._stack = np.zeros((options.frame_stack, size, size), np.uint8)
        self._frames = 0

    def load(self, seed: int) -> None:
        """Switches the console off and on, with the random generator of ALE seeded anew."""
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(self._rom)

    def begin(self) -> None:
        """Begins a new game; its frames count from here."""
        self.ale.reset_game()
        self._frames = 0

    def act(self, action: int | None) -> float:
        """Plays one frame with an index into the action space, None for NOOP; returns the raw
        reward. Two games have no NOOP among their minimal actions."""
        reward = float(self.ale.act(Action.NOOP if action is None else self.actions[action]))
        if self._record:
            self.step_frames.append(self.ale.getScreenRGB())
        return reward

    def hold(self, action: int | None) -> float:
        """Plays the frames of one step, up to the end of the game; see `act`."""
        reward = 0.0
        skip = self._options.frame_skip
        for frame in range(skip):
            reward += self.act(action)
            self._frames += 1
            over = self.over
            # SB3 keeps the frame that ends the game, ALE's vectorizer drops it.
            if self._sb3 or not over:
                if frame == skip - 2 and (self._sb3 or self._options.max_pool):
                    self._before = self._grab()
                if frame == skip - 1:
                    self._newest = self._grab()
            if over or (self._sb3 and self.truncated):
                break
        return reward

    @property
    def over(self) -> bool:
        """Whether the game has ended by itself."""
        return bool(self.ale.game_over(with_truncation=False))

    @property
    def truncated(self) -> bool:
        """Whether the time limit is reached."""
        if self._sb3:
            return bool(self.ale.game_truncated())
        return self._frames >= self._options.max_frames

    def clear_stack(self) -> None:
        """Fills the stack with zeros, as before the first screen of a game."""
        self._stack = np.zeros_like(self._stack)

    def look(self) -> None:
        """Takes the present frame alone for the next screen."""
        if not self._sb3:
            self._before = np.zeros_like(self._newest)
            self._newest = self._grab()

    def observe(self, pooled: bool = True) -> np.ndarray:
        """Puts a screen on the stack; returns (frame_stack, size, size) uint8, newest last.

        Args:
            pooled: False shows the present frame in place of the last step's (SB3's first one).
        """
        if self._sb3:
            picture = np.maximum(self._before, self._newest) if pooled else self._grab()
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        else:
            self._newest = picture = np.maximum(self._before, self._newest)
        size = self._options.screen_size
        screen = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        self._stack = np.concatenate([self._stack[1:], screen[None]])
        return self._stack.copy()
