"""One Atari game as a Gymnasium environment, equal to a row of the vector environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from ..errors import UsageError
from .ale import check_seed
from .games import game_facts, parse_game
from .options import EnvOptions, Picture, Preprocessing, Protocol, change_options, env_options
from .vector import Backend, choose_backend


class AtariEnv(gymnasium.Env):
    """One game. With the same seed, options and actions it gives what a row of `make_vec` gives.

    Observations are `(frame_stack, screen_size, screen_size)` uint8, newest screen last; rewards
    are raw. `terminated` is the end of the game; `info["life_lost"]` tells of a lost life, and
    `info["executed_action"]` of the action that was played (FIRE replaces the given one on the
    step after a lost life when `options.fire` is on).

    With `preprocessing="sb3"` it is Stable-Baselines3's `AtariWrapper` to the letter, on ALE: with
    `life_loss` the steps that SB3 plays unseen after a lost life are part of the step that lost
    it, their rewards are added to its reward, and the stack begins anew.

    Args:
        game: a name in any spelling.
        options: the semantics; default: those of `protocol`.
        render_mode: None or "rgb_array".
        record_frames: whether `last_frames` returns every emulated frame.
        protocol: used when `options` is not given.
        training: used with `protocol`; in evaluation a lost life never ends an episode.
        backend: "console" or "ale"; None takes the console where it was compiled.
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
        backend: Backend | str | None = None,
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
        self._record = record_frames
        self._row: Any = _make_row(self.game, self.options, record_frames, backend)
        self.action_space = Discrete(len(self._row.actions))
        self.observation_space = _observation_space(self.game, self.options)
        self._seeded = False
        self._playing = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins a new game.

        Args:
            seed: seeds the no-ops and the sticky actions; None goes on with both as they are.
            options: not used.

        Returns:
            the first observation (frame_stack, screen_size, screen_size) uint8, and the info.
        """
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        if seed is not None:
            check_seed(seed)
        observation, info = self._row.reset(seed)
        self._seeded = self._playing = True
        return observation, info

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
        observation, reward, terminated, truncated, info = self._row.step(int(action))
        self._playing = not (terminated or truncated)
        return observation, reward, terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Returns the raw screen (210 to 250, 160, 3) uint8, or None without a render mode."""
        if self.render_mode is None:
            return None
        screen: np.ndarray = self._row.screen()
        return screen

    def last_frames(self) -> list[np.ndarray]:
        """Returns each emulated frame of the last step or reset, (height, 160, 3) uint8.

        Raises:
            UsageError: the environment was made without `record_frames=True`.
        """
        self._check_recorded()
        frames: list[np.ndarray] = self._row.frames()
        return frames

    def last_sounds(self) -> np.ndarray | None:
        """Returns the sound registers of the same frames, (frames, 6) uint8, as `SoundChip` takes
        them; None on ALE, which does not tell them.

        Raises:
            UsageError: the environment was made without `record_frames=True`.
        """
        self._check_recorded()
        sounds: np.ndarray | None = self._row.sounds()
        return sounds

    def close(self) -> None:
        """Ends the console."""
        self._row.close()

    def _check_recorded(self) -> None:
        if not self._record:
            raise UsageError("frames are not kept; make the environment with record_frames=True.")


def _make_row(
    game: str, options: EnvOptions, record_frames: bool, backend: Backend | str | None
) -> Any:
    sb3 = options.preprocessing == Preprocessing.SB3
    chosen = choose_backend(Backend.ALE if sb3 else backend, "cpu", options)
    if chosen == Backend.ALE:
        from .ale_single import AleRow

        return AleRow(game, options, record_frames)
    from .console.single import ConsoleRow

    return ConsoleRow(game, options, record_frames)


def _observation_space(game: str, options: EnvOptions) -> Box:
    rows, columns = options.screen_size or game_facts(game).height, options.screen_size or 160
    shape: tuple[int, ...] = (options.frame_stack, rows, columns)
    return Box(0, 255, (*shape, 3) if options.picture == Picture.RGB else shape, np.uint8)
