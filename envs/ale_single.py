"""One game on ALE: for `AtariEnv` where the console is missing, or where SB3's way is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.utils import seeding

from ..errors import UsageError
from .machine import AleMachine
from .options import EnvOptions, Preprocessing

_FIRE = 1  # in ALE's numbering of actions


class AleRow:
    """One game, step by step; `AtariEnv` tells what its methods return.

    Args:
        game: canonical name.
        options: the semantics.
        record_frames: whether `frames` returns every emulated frame.
    """

    def __init__(self, game: str, options: EnvOptions, record_frames: bool):
        self.options = options
        self._sb3 = options.preprocessing == Preprocessing.SB3
        self._machine = AleMachine(game, options, record_frames)
        self.actions = [action.value for action in self._machine.actions]
        self._fire = self.actions.index(_FIRE) if options.fire and _FIRE in self.actions else None
        self._noops: np.random.MT19937 | None = None
        self._np_random = np.random.default_rng(0)
        self._lives = 0
        self._life_lost = False
        self._executed = 0

    def reset(self, seed: int | None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins a new game; a seed of None goes on with the generators as they are."""
        if seed is not None:
            self._seed(seed)
        self._machine.step_frames = []
        self._machine.clear_stack()
        observation = self._begin_sb3() if self._sb3 else self._begin()
        self._lives = self._machine.ale.lives()
        self._life_lost = False
        self._executed = 0
        return observation, self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Holds an action for `frame_skip` frames."""
        forced = self._life_lost and self._fire is not None and not self._sb3
        self._executed = self._fire if forced and self._fire is not None else action
        self._machine.step_frames = []
        reward = self._machine.hold(self._executed)
        observation = self._machine.observe()
        self._notice_life()
        if self._sb3 and self._life_lost and self.options.life_loss and not self._machine.truncated:
            hidden, observation = self._after_life_sb3()
            reward += hidden
        terminated, truncated = self._machine.over, self._machine.truncated
        return observation, reward, terminated, truncated and not terminated, self._info()

    def screen(self) -> np.ndarray:
        """Returns the raw screen (height, 160, 3) uint8."""
        return self._machine.ale.getScreenRGB()

    def frames(self) -> list[np.ndarray]:
        """Returns the frames of the last step or reset, (height, 160, 3) uint8."""
        return list(self._machine.step_frames)

    def sounds(self) -> np.ndarray | None:
        """Returns None: ALE does not tell the sound's registers."""
        return None

    def close(self) -> None:
        """Does nothing."""

    def _seed(self, seed: int) -> None:
        if not self._sb3:
            self._noops = _mt19937(seed)
            self._machine.load(seed)
            return
        # As ale_py's AtariEnv, from which SB3's wrappers take their generator.
        np_seed, ale_seed = np.random.SeedSequence(seed).generate_state(n_words=2)
        self._np_random, _ = seeding.np_random(int(np_seed))
        self._machine.load(int(np.int32(np.uint32(ale_seed).view(np.int32))))
        self._noops = _mt19937(seed)

    def _begin(self) -> np.ndarray:
        """ALE's vectorizer: FIRE for one frame, then a random number of no-ops in all."""
        machine = self._machine
        machine.begin()
        noops = _below(self._noops, self.options.noop_max + 1)
        if self._fire is not None:
            machine.act(self._fire)
            noops -= 1
        for _ in range(noops):
            machine.act(None)
            if machine.over:
                machine.begin()
        machine.look()
        return machine.observe()

    def _begin_sb3(self) -> np.ndarray:
        """SB3's AtariWrapper: no-ops of one frame, then whole steps of FIRE and of action 2."""
        machine = self._machine
        machine.begin()
        noops = 0
        if self.options.noop_max > 0:
            noops = int(self._np_random.integers(1, self.options.noop_max + 1))
        for _ in range(noops):
            machine.act(None)
            if machine.over or machine.truncated:
                machine.begin()
        if self._fire is None:
            return machine.observe(pooled=False)
        for action in (self._fire, 2):
            machine.hold(action)
            if machine.over or machine.truncated:
                machine.begin()
        return machine.observe()

    def _after_life_sb3(self) -> tuple[float, np.ndarray]:
        """SB3's steps after a lost life: NOOP, FIRE, action 2; returns reward and observation."""
        machine = self._machine
        reward = 0.0
        actions = (None,) if self._fire is None else (None, self._fire, 2)
        for action in actions:
            if not (machine.over or machine.truncated):
                reward += machine.hold(action)
        self._lives = machine.ale.lives()
        machine.clear_stack()
        return reward, machine.observe()

    def _notice_life(self) -> None:
        lives = self._machine.ale.lives()
        self._life_lost = 0 < lives < self._lives and not self._machine.over
        self._lives = lives

    def _info(self) -> dict[str, Any]:
        ale = self._machine.ale
        return {
            "lives": ale.lives(),
            "frame_number": ale.getFrameNumber(),
            "episode_frame_number": ale.getEpisodeFrameNumber(),
            "life_lost": self._life_lost,
            "executed_action": self._executed,
        }


def _mt19937(seed: int) -> np.random.MT19937:
    """Returns the generator that C++'s std::mt19937(seed) is; NumPy's own seeding differs."""
    key = [seed & 0xFFFFFFFF]
    for index in range(1, 624):
        key.append((1812433253 * (key[-1] ^ (key[-1] >> 30)) + index) & 0xFFFFFFFF)
    generator = np.random.MT19937()
    state: Any = {"key": np.array(key, np.uint32), "pos": 624}
    generator.state = {"bit_generator": "MT19937", "state": state}
    return generator


def _below(generator: np.random.MT19937 | None, bound: int) -> int:
    """Draws from 0 to bound - 1 as the C++ library does (Lemire's method)."""
    if generator is None:
        raise UsageError("step before reset(); call reset() first.")
    while True:
        product = int(generator.random_raw()) * bound
        if product % 2**32 >= 2**32 % bound:
            return product >> 32
