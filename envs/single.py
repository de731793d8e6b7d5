"""One Atari game as a Gymnasium environment, equal to a row of the vector environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import seeding

from ..errors import UsageError
from .ale import check_seed
from .games import game_facts, parse_game
from .machine import AleMachine
from .options import EnvOptions, Preprocessing, Protocol, change_options, env_options

_FIRE = 1  # in ALE's numbering of actions


class AtariEnv(gymnasium.Env):
    """One game. With the same seed, options and actions it gives what `AleVectorEnv` gives.

    Observations are `(frame_stack, screen_size, screen_size)` uint8, newest screen last; rewards
    are raw. `terminated` is the end of the game; `info["life_lost"]` tells of a lost life, and
    `info["executed_action"]` of the action that was played (FIRE replaces the given one on the
    step after a lost life when `options.fire` is on).

    With `preprocessing="sb3"` it is Stable-Baselines3's `AtariWrapper` to the letter: with
    `life_loss` the steps that SB3 plays unseen after a lost life are part of the step that lost
    it, their rewards are added to its reward, and the stack begins anew.

    Args:
        game: a name in any spelling.
        options: the semantics; default: those of `protocol`.
        render_mode: None or "rgb_array".
        record_frames: whether `last_frames` returns every emulated frame.
        protocol: used when `options` is not given.
        training: used with `protocol`; in evaluation a lost life never ends an episode.
        **changes: single fields of `EnvOptions` to set otherwise.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(
        self,
        game: str,
        options: EnvOptions | None = None,
        render_mode: str | None = None,
        record_frames: bool = False,
        protocol: Protocol | str = Protocol.MNIH2015,
        training: bool = True,
        **changes: Any,
    ):
        if render_mode not in (None, "rgb_array"):
            raise UsageError(f"render_mode is {render_mode!r}; give None or 'rgb_array'.")
        options = options or env_options(protocol, training=training)
        self.options = change_options(options, **changes)
        self.game = parse_game(game, self.options).name
        self.render_mode = render_mode
        self.frame_rate = game_facts(self.game).frame_rate
        steps_per_second = round(self.frame_rate / self.options.frame_skip)
        self.metadata = {**type(self).metadata, "render_fps": max(steps_per_second, 1)}
        self._sb3 = self.options.preprocessing == Preprocessing.SB3
        self._machine = AleMachine(self.game, self.options, record_frames)
        self._record = record_frames
        numbers = [action.value for action in self._machine.actions]
        self._fire = numbers.index(_FIRE) if self.options.fire and _FIRE in numbers else None
        size = self.options.screen_size
        self.observation_space = Box(0, 255, (self.options.frame_stack, size, size), np.uint8)
        self.action_space = Discrete(len(numbers))
        self._noops: np.random.MT19937 | None = None
        self._lives = 0
        self._life_lost = False
        self._executed = 0
        self._playing = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins a new game.

        Args:
            seed: seeds the no-ops and ALE's sticky actions; None goes on with both as they are.
            options: not used.

        Returns:
            the first observation (frame_stack, screen_size, screen_size) uint8, and the info.
        """
        super().reset(seed=seed)
        if seed is None and self._noops is None:
            seed = int(self.np_random.integers(2**31))
        if seed is not None:
            check_seed(seed)
            self._seed(seed)
        self._machine.step_frames = []
        self._machine.clear_stack()
        observation = self._begin_sb3() if self._sb3 else self._begin()
        self._lives = self._machine.ale.lives()
        self._life_lost = False
        self._executed = 0
        self._playing = True
        return observation, self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Holds an action for `frame_skip` frames.

        Args:
            action: index into the action space.

        Returns:
            observation, raw reward, terminated, truncated, info.
        """
        if not self._playing:
            raise UsageError("the game has not begun or has ended; call reset() first.")
        count = int(self.action_space.n)  # type: ignore[attr-defined]  # Discrete
        if not 0 <= int(action) < count:
            raise UsageError(f"action must be 0 to {count - 1}; got {action}.")
        forced = self._life_lost and self._fire is not None and not self._sb3
        self._executed = self._fire if forced and self._fire is not None else int(action)
        self._machine.step_frames = []
        reward = self._machine.hold(self._executed)
        observation = self._machine.observe()
        self._notice_life()
        if self._sb3 and self._life_lost and self.options.life_loss and not self._machine.truncated:
            hidden, observation = self._after_life_sb3()
            reward += hidden
        terminated, truncated = self._machine.over, self._machine.truncated
        truncated = truncated and not terminated
        self._playing = not (terminated or truncated)
        return observation, reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """Returns the raw screen (210 to 250, 160, 3) uint8, or None without a render mode."""
        if self.render_mode is None:
            return None
        return self._machine.ale.getScreenRGB()

    def last_frames(self) -> list[np.ndarray]:
        """Returns each emulated frame of the last step or reset, (height, 160, 3) uint8.

        Raises:
            UsageError: the environment was made without `record_frames=True`.
        """
        if not self._record:
            raise UsageError("frames are not kept; make the environment with record_frames=True.")
        return list(self._machine.step_frames)

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
            noops = int(self.np_random.integers(1, self.options.noop_max + 1))
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
