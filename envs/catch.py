"""Catch: a small pixel game of ours, learnable in seconds and restorable bit for bit.

A ball falls straight down a board of 12 x 12 cells; the paddle on the lowest row, two cells
wide, must stand under it. Reward +1 when the ball is caught, -1 when it is missed; either ends
the game after 11 steps. The screen and the stack are like those of the Atari games.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ..errors import UsageError
from .ale import check_actions, final_infos, refuse_ended, reset_rows
from .options import EnvOptions, Protocol, change_options, env_options

_CELLS = 12
_PADDLE = 2
_MOVES = np.array([0, -1, 1])  # NOOP, LEFT, RIGHT
_STATE = ("random", "ball_x", "ball_y", "paddle", "last_action", "steps", "ended", "screens")


class CatchVectorEnv(VectorEnv):
    """`num_envs` games of Catch in NumPy.

    Observations are `(num_envs, frame_stack, screen_size, screen_size)` uint8, newest screen
    last; actions are 0 (stay), 1 (left), 2 (right). Row i depends on its own seed and actions
    only. Of the options it honours `sticky`, `max_frames`, `frame_stack` and `screen_size`; a
    step is one frame, and there are no lives, no-ops or FIRE: `options` tells what holds.

    Args:
        num_envs: number of games, 1 or more.
        options: the semantics; `screen_size` must be a multiple of 12.
        autoreset_mode: when a game that has ended begins anew.
    """

    returns_fresh_arrays = True

    def __init__(
        self,
        num_envs: int,
        options: EnvOptions | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    ):
        options = options or EnvOptions()
        if num_envs < 1:
            raise UsageError(f"num_envs is {num_envs}; give 1 or more.")
        if options.screen_size % _CELLS:
            raise UsageError(f"catch needs a screen_size that is a multiple of {_CELLS}.")
        self.options = dataclasses.replace(
            options, frame_skip=1, noop_max=0, life_loss=False, fire=False, max_pool=False
        )
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        size = options.screen_size
        self.single_observation_space = Box(0, 255, (options.frame_stack, size, size), np.uint8)
        self.single_action_space = Discrete(len(_MOVES))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._random = np.zeros(num_envs, np.uint64)
        self._ball_x = np.zeros(num_envs, np.int64)
        self._ball_y = np.zeros(num_envs, np.int64)
        self._paddle = np.zeros(num_envs, np.int64)
        self._last_action = np.zeros(num_envs, np.int64)
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)
        self._screens = np.zeros((num_envs, *self.single_observation_space.shape), np.uint8)
        self._was_reset = False

    def reset(
        self,
        *,
        seed: int | list[int | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins new games in all rows, or in those of `options["reset_mask"]` (bool).

        Args:
            seed: row i gets `seed + i`; a list holds one for each row, None to go on as it is.
            options: `{"reset_mask": (num_envs,) bool}` leaves the other rows as they are.
        """
        mask, seeds = reset_rows(seed, options, self.num_envs, self._was_reset)
        seeded = mask & (seeds >= 0)
        # Spread the seeds: neighbours must not share a sequence shifted by one.
        self._random = np.where(seeded, _mix(seeds.astype(np.uint64)), self._random)
        self._was_reset = True
        self._begin(mask)
        return self._screens.copy(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes `(num_envs,)` integer actions; every ball falls by one cell.

        Returns:
            observations, rewards (float32: -1, 0 or 1), terminated, truncated (bool), infos.
        """
        if not self._was_reset:
            raise UsageError("step before reset(); call reset() first.")
        refuse_ended(self.autoreset_mode, self._ended)
        given = check_actions(actions, self.num_envs, len(_MOVES))
        # With NEXT_STEP a game that has ended spends this step on its reset.
        playing = ~self._ended
        resetting = self._ended
        self._move(given, playing)
        terminated = playing & (self._ball_y == _CELLS - 1)
        truncated = playing & ~terminated & (self._steps >= self.options.max_frames)
        offset = self._ball_x - self._paddle
        caught = (offset >= 0) & (offset < _PADDLE)
        rewards = np.where(terminated, np.where(caught, 1.0, -1.0), 0.0).astype(np.float32)
        self._show(playing)
        self._ended = terminated | truncated
        infos: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            infos = final_infos(self._screens, self._ended, given)
            self._begin(self._ended)
        elif resetting.any():
            self._begin(resetting)
        return self._screens.copy(), rewards, terminated, truncated, infos

    def get_state(self) -> dict[str, Any]:
        """Returns all that the future depends on, as a dict of arrays."""
        return {name: getattr(self, f"_{name}").copy() for name in _STATE}

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Puts back what `get_state` returned; returns the observations to act on."""
        for name in _STATE:
            current = getattr(self, f"_{name}")
            value = np.array(state[name], current.dtype)
            if value.shape != current.shape:
                raise UsageError(
                    f"the state's {name} has shape {value.shape}, this environment's "
                    f"{current.shape}; make it with the same num_envs and options."
                )
            setattr(self, f"_{name}", value)
        self._was_reset = True
        return self._screens.copy()

    def _move(self, actions: np.ndarray, playing: np.ndarray) -> None:
        if self.options.sticky > 0.0:
            sticks = self._uniform(playing) < self.options.sticky
            actions = np.where(sticks, self._last_action, actions)
        self._last_action = np.where(playing, actions, self._last_action)
        paddle = np.clip(self._paddle + _MOVES[actions], 0, _CELLS - _PADDLE)
        self._paddle = np.where(playing, paddle, self._paddle)
        self._ball_y = self._ball_y + playing
        self._steps = self._steps + playing

    def _begin(self, mask: np.ndarray) -> None:
        column = (self._uniform(mask) * _CELLS).astype(np.int64)
        self._ball_x = np.where(mask, column, self._ball_x)
        self._ball_y = np.where(mask, 0, self._ball_y)
        self._paddle = np.where(mask, (_CELLS - _PADDLE) // 2, self._paddle)
        self._last_action = np.where(mask, 0, self._last_action)
        self._steps = np.where(mask, 0, self._steps)
        self._ended = self._ended & ~mask
        self._screens[mask] = 0
        self._show(mask)

    def _show(self, mask: np.ndarray) -> None:
        """Draws a screen in the rows of `mask` and puts it last in their stacks."""
        rows = np.arange(self.num_envs)
        cells = np.zeros((self.num_envs, _CELLS, _CELLS), np.uint8)
        for part in range(_PADDLE):
            cells[rows, _CELLS - 1, self._paddle + part] = 160
        cells[rows, self._ball_y, self._ball_x] = 255
        scale = self.options.screen_size // _CELLS
        screens = cells.repeat(scale, axis=1).repeat(scale, axis=2)
        stacks = np.concatenate([self._screens[:, 1:], screens[:, None]], axis=1)
        self._screens = np.where(mask[:, None, None, None], stacks, self._screens)

    def _uniform(self, mask: np.ndarray) -> np.ndarray:
        """Draws (num_envs,) float64 in [0, 1); only the generators of `mask` go on."""
        advanced = self._random + np.uint64(0x9E3779B97F4A7C15)
        self._random = np.where(mask, advanced, self._random)
        return (_mix(advanced) >> np.uint64(11)) * 2.0**-53


class CatchEnv(gymnasium.Env):
    """One game of Catch as a Gymnasium environment; see `CatchVectorEnv`.

    Args:
        options: the semantics.
        render_mode: None or "rgb_array", which gives (screen_size, screen_size, 3) uint8.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, options: EnvOptions | None = None, render_mode: str | None = None):
        if render_mode not in (None, "rgb_array"):
            raise UsageError(f"render_mode is {render_mode!r}; give None or 'rgb_array'.")
        self.render_mode = render_mode
        self._games = CatchVectorEnv(1, options, AutoresetMode.DISABLED)
        self.options = self._games.options
        self.observation_space = self._games.single_observation_space
        self.action_space = self._games.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins a new game; returns its observation (frame_stack, size, size) uint8."""
        super().reset(seed=seed)
        observations, _ = self._games.reset(seed=seed)
        return observations[0], {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes action 0 (stay), 1 (left) or 2 (right)."""
        observations, rewards, terminated, truncated, _ = self._games.step(np.array([action]))
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> np.ndarray | None:
        """Returns the screen as (screen_size, screen_size, 3) uint8, or None without a mode."""
        if self.render_mode is None:
            return None
        screen = self._games.get_state()["screens"][0, -1]
        return np.repeat(screen[:, :, None], 3, axis=2)


def make_catch(
    game: str = "catch",
    options: EnvOptions | None = None,
    render_mode: str | None = None,
    protocol: Protocol | str = Protocol.MNIH2015,
    training: bool = True,
    **changes: Any,
) -> CatchEnv:
    """What `gymnasium.make("eightbit/Catch-v0")` calls; its arguments are those of `AtariEnv`."""
    options = options or env_options(protocol, training=training)
    return CatchEnv(change_options(options, **changes), render_mode)


def _mix(values: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 on uint64: neighbouring inputs give unrelated outputs."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
