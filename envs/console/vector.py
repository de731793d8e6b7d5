"""The console on the CPU as a Gymnasium vector environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ...errors import EightBitError, UsageError
from ..ale import check_actions, final_infos, refuse_ended, reset_rows
from ..games import game_facts
from ..options import EnvOptions, Picture, Rng
from . import require_built
from .cartridges import action_numbers, build_game

_MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)
_INT32 = ("lives", "frame_number", "episode_frame_number")
_FLAGS = ("terminated", "truncated", "life_lost")


def observation_space(games: Sequence[str], options: EnvOptions) -> Box:
    """Returns the space of one observation: (frame_stack, rows, columns), for RGB with 3 more."""
    rows = {options.screen_size or game_facts(game).height for game in games}
    if len(rows) > 1:
        raise UsageError("these games have screens of different heights; give a screen_size.")
    shape = (options.frame_stack, rows.pop(), options.screen_size or 160)
    return Box(0, 255, (*shape, 3) if options.picture == Picture.RGB else shape, np.uint8)


def action_space(games: Sequence[str], options: EnvOptions) -> Discrete:
    """Returns the actions of one environment; different games need the same ones."""
    numbers = {tuple(action_numbers(game_facts(game), options)) for game in games}
    if len(numbers) > 1:
        raise UsageError(
            "these games have different actions; give full_action_set=True for all 18."
            if not options.full_action_set
            else "these games have different actions; skiing and lost_luggage have no FIRE."
        )
    return Discrete(len(numbers.pop()))


def describe(
    env: Any,
    games: str | Sequence[str],
    num_envs: int,
    options: EnvOptions,
    autoreset_mode: AutoresetMode,
) -> list[str]:
    """Sets what every vector environment of consoles tells of itself: games, options, spaces.

    Returns:
        each game once, in the order in which they first come.

    Raises:
        UsageError: the games do not fit together, or their number does not fit `num_envs`.
    """
    env.games = row_games(games, num_envs)
    env.options = options
    env.num_envs = num_envs
    env.autoreset_mode = AutoresetMode(autoreset_mode)
    env.metadata = {"autoreset_mode": env.autoreset_mode, "render_modes": []}
    kinds = list(dict.fromkeys(env.games))
    env.game = "+".join(kinds)
    env.single_observation_space = observation_space(kinds, options)
    env.single_action_space = action_space(kinds, options)
    env.observation_space = batch_space(env.single_observation_space, num_envs)
    env.action_space = batch_space(env.single_action_space, num_envs)
    return kinds


class ConsoleVectorEnv(VectorEnv):
    """`num_envs` consoles of ours, stepped in C++ threads.

    The contract is that of `AleVectorEnv`: observations are
    `(num_envs, frame_stack, screen_size, screen_size)` uint8, newest screen last, rewards are raw
    float32, `terminated` is the end of the game and nothing else; a lost life is told by
    `infos["life_lost"]` (bool), the executed actions by `infos["executed_action"]` (int64). All
    infos are arrays of `num_envs` rows with a mask `_key`; with SAME_STEP `final_obs` and
    `final_info` tell about the rows that ended. With `options.rng="ale"` trajectories equal
    ALE's, too.

    Args:
        games: canonical name of the game, or several that share the rows evenly, in order.
        num_envs: number of consoles, 1 or more.
        options: the semantics.
        autoreset_mode: when a game that has ended begins anew.
        record_frames: whether `recorded` tells all frames of the last step; they are then drawn.
        true_colours: screens hold the console's colour numbers, from which `rgb_palette` makes
            pictures; else those of grey observations hold the luminance. Observations are the
            same.

    Raises:
        UsageError: an option does not fit the games, or the extension was not compiled.
    """

    returns_fresh_arrays = True
    game: str
    games: list[str]
    options: EnvOptions
    autoreset_mode: AutoresetMode

    def __init__(
        self,
        games: str | Sequence[str],
        num_envs: int,
        options: EnvOptions,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        record_frames: bool = False,
        true_colours: bool = False,
    ):
        require_built()
        from . import _console

        kinds = describe(self, games, num_envs, options, autoreset_mode)
        built = [
            build_game(kind, options, draw_all=record_frames, true_colours=true_colours)
            for kind in kinds
        ]
        self._engine: _console.Engine | None = _console.Engine(
            built,
            [kinds.index(game) for game in self.games],
            frame_stack=options.frame_stack,
            threads=min(options.num_threads or os.cpu_count() or 1, num_envs),
            autoreset=_MODES.index(self.autoreset_mode),
            ale_random=options.rng == Rng.ALE,
            shows_objects=options.picture == Picture.OBJECTS,
            records=record_frames,
        )
        self._arrays: dict[str, np.ndarray] = {}
        self._actions = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)
        self._was_reset = False
        self._sent = False

    @property
    def _console(self) -> Any:
        if self._engine is None:
            raise UsageError("this environment is closed; make a new one.")
        return self._engine

    def reset(
        self,
        *,
        seed: int | list[int | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins new games in all rows, or in those of `options["reset_mask"]`.

        Args:
            seed: row i gets `seed + i`; a list or array holds one seed for each row (None leaves
                a row's generators where they are). Same seeds and actions, same trajectories,
                whatever the number of threads.
            options: `{"reset_mask": (num_envs,) bool}` leaves the other rows as they are.
        """
        if self._sent:
            raise UsageError("reset() while a step is under way; call recv() first.")
        mask, seeds = reset_rows(seed, options, self.num_envs, self._was_reset)
        arrays = self._fresh_arrays()
        self._run("reset", mask.view(np.uint8), seeds, arrays)
        self._actions = np.where(mask, 0, self._actions)
        arrays["executed"][:] = self._actions
        self._ended &= ~mask
        self._was_reset = True
        return arrays["observations"], self._infos(arrays, mask)

    def send(self, actions: np.ndarray) -> None:
        """Starts a step with `(num_envs,)` integer actions and returns at once."""
        if self._sent:
            raise UsageError("send() twice without recv() between; call recv() first.")
        self._actions = self._check(actions)
        self._arrays = self._fresh_arrays()
        self._run("send", self._actions, self._arrays)
        self._sent = True

    def recv(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Waits for the step that `send` started; returns what `step` returns."""
        if not self._sent:
            raise UsageError("recv() without send(); call send(actions) first.")
        self._sent = False
        self._run("recv")
        return self._result(self._arrays)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Holds `(num_envs,)` integer actions for `frame_skip` frames.

        Returns:
            observations, rewards (float32, raw), terminated, truncated (bool), infos.
        """
        if self._sent:
            raise UsageError("step() while a step is under way; call recv() first.")
        self._actions = self._check(actions)
        arrays = self._fresh_arrays()
        self._run("step", self._actions, arrays)
        return self._result(arrays)

    def get_state(self) -> dict[str, Any]:
        """Returns all that the future depends on: for each row a state as `row_state` gives it."""
        self._check_idle()
        rows = [np.frombuffer(self.row_state(row), np.uint8) for row in range(self.num_envs)]
        return {
            "rows": np.concatenate(rows),
            "sizes": np.array([len(row) for row in rows], np.int64),
            "actions": self._actions.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Puts back what `get_state` returned; returns the observations to act on.

        Raises:
            EightBitError: it is damaged, or of other games or options.
        """
        self._check_idle()
        try:
            sizes = np.asarray(state["sizes"], np.int64).reshape(-1)
            rows = np.asarray(state["rows"], np.uint8).reshape(-1)
            actions = np.array(state["actions"], np.int64).reshape(self.num_envs)
        except (KeyError, TypeError, ValueError):
            raise EightBitError("this is no state of these games: parts are missing.") from None
        if len(sizes) != self.num_envs or sizes.min() < 0 or sizes.sum() != len(rows):
            raise EightBitError(
                f"the state is of {len(sizes)} environments, these are {self.num_envs}; "
                "make them as those were made."
            )
        begun, kept = self._was_reset, []
        try:
            for row, piece in enumerate(np.split(rows, np.cumsum(sizes)[:-1])):
                if begun:
                    kept.append(self.row_state(row))
                self.set_row_state(row, piece.tobytes())
        except EightBitError:
            for row, earlier in enumerate(kept):
                self.set_row_state(row, earlier)
            self._was_reset = begun
            raise
        self._actions = actions
        return self._observations()

    def row_state(self, row: int) -> bytes:
        """Returns one console's state: cheap, for search; `set_row_state` puts it into any row."""
        self._check_idle()
        if not self._was_reset:
            raise UsageError("the games have not begun; call reset() first.")
        return bytes(self._run("state", row))

    def set_row_state(self, row: int, state: bytes) -> np.ndarray:
        """Puts a console into an earlier state; returns its observation.

        Raises:
            EightBitError: it is damaged, or of another game or other options.
        """
        from . import _console

        self._check_idle()
        try:
            self._run("set_state", row, state)
        except _console.StateError as error:
            raise EightBitError(f"this is no state of these games: {error}.") from None
        self._ended[row] = self._run("report", row)[3]
        self._was_reset = True
        stack: np.ndarray = self._run("stack", row)
        return stack.reshape(self.single_observation_space.shape)

    def pieces(self, row: int) -> dict[str, np.ndarray]:
        """Returns copies of what a console holds: `ram` (128,), `cartridge_ram` (128,), `screen`
        (height, 160) of the last frame that was drawn, `sound` (6,), all uint8, and with
        `picture="objects"` the plane `objects` (height, 160)."""
        self._check_idle()
        return dict(self._run("pieces", row))

    def recorded(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what each frame of the last step or reset showed, (frames, height, 160) uint8,
        and its sound registers, (frames, 6) uint8; empty without `record_frames`."""
        self._check_idle()
        screens, sounds = self._run("recorded", row)
        return screens, sounds

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads."""
        self._engine = None  # which waits for a step that is under way

    def _check_idle(self) -> None:
        if self._sent:
            raise EightBitError("a step is under way; call recv() first.")

    def _check(self, actions: np.ndarray) -> np.ndarray:
        if not self._was_reset:
            raise UsageError("step before reset(); call reset() first.")
        refuse_ended(self.autoreset_mode, self._ended)
        return check_actions(actions, self.num_envs, int(self.single_action_space.n))  # type: ignore[attr-defined]  # Discrete

    def _run(self, verb: str, *arguments: Any) -> Any:
        from . import _console

        try:
            return getattr(self._console, verb)(*arguments)
        except _console.ModeError as error:
            raise EightBitError(f"{error}; is the ROM the right one?") from None
        except _console.BusyError as error:
            raise EightBitError(f"{error}; make some for each.") from None

    def _fresh_arrays(self) -> dict[str, np.ndarray]:
        n = self.num_envs
        arrays = {"observations": np.empty(self.observation_space.shape or (), np.uint8)}
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            arrays["finals"] = np.empty(self.observation_space.shape or (), np.uint8)
        arrays["rewards"] = np.empty(n, np.float32)
        arrays["executed"] = np.empty(n, np.int64)
        arrays.update(zip(_INT32, np.empty((len(_INT32), n), np.int32), strict=True))
        arrays.update(zip(_FLAGS, np.empty((len(_FLAGS), n), np.uint8), strict=True))
        return arrays

    def _observations(self) -> np.ndarray:
        rows = [self._run("stack", row) for row in range(self.num_envs)]
        return np.stack(rows).reshape(self.observation_space.shape or ())

    def _result(
        self, arrays: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        terminated, truncated = (arrays[name].view(np.bool_) for name in _FLAGS[:2])
        ended = terminated | truncated
        infos = self._infos(arrays, np.ones(self.num_envs, np.bool_))
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            if ended.any():
                infos |= final_infos(arrays["finals"], ended, arrays["executed"])
        else:
            self._ended = ended
        return arrays["observations"], arrays["rewards"], terminated, truncated, infos

    def _infos(self, arrays: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, Any]:
        infos: dict[str, Any] = {name: arrays[name] for name in _INT32}
        infos["life_lost"] = arrays["life_lost"].view(np.bool_)
        infos["executed_action"] = arrays["executed"]
        return {**infos, **dict.fromkeys([f"_{name}" for name in infos], mask.copy())}


def row_games(games: str | Sequence[str], num_envs: int) -> list[str]:
    """Returns the game of each row: all the same, or as many of each as the others, in order."""
    if num_envs < 1:
        raise UsageError(f"num_envs is {num_envs}; give 1 or more.")
    if isinstance(games, str):
        return [games] * num_envs
    if not games or num_envs % len(games):
        raise UsageError(f"num_envs is {num_envs}; give a multiple of the {len(games)} games.")
    return [game for game in games for _ in range(num_envs // len(games))]
