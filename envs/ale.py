"""ALE's own C++ vectorizer as a Gymnasium vector environment that keeps the contract.

`ale_py.AtariVectorEnv` is fast, but its defaults clip rewards, its `final_obs` holds stale rows,
its infos have no masks, and it never presses FIRE after a lost life. Here it is the engine; the
meaning of every value is ours and the same as in all other backends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ..errors import UsageError
from .options import EnvOptions

_FIRE = 1  # FIRE in ALE's numbering of actions
_NO_LIMIT = 2**31 - 1


class AleVectorEnv(VectorEnv):
    """`num_envs` games of one kind, stepped in C++ threads.

    Observations are `(num_envs, frame_stack, screen_size, screen_size)` uint8, newest screen
    last; a new game begins with screens of zeros before its first one. Rewards are raw, float32.
    `terminated` is the end of the game and nothing else; a lost life is told by
    `infos["life_lost"]` (bool), the executed actions by `infos["executed_action"]` (int64): FIRE
    replaces the given action on the step after a lost life when `options.fire` is on. All infos
    are arrays of `num_envs` rows with a mask `_key`; with SAME_STEP `final_obs` and `final_info`
    tell about the rows that ended. The time limit is checked after whole steps. The last life,
    which ends the game, does not count as lost.

    Args:
        game: canonical name in snake_case.
        num_envs: number of games, 1 or more.
        options: the semantics.
        autoreset_mode: when a game that has ended begins anew.
    """

    returns_fresh_arrays = True

    def __init__(
        self,
        game: str,
        num_envs: int,
        options: EnvOptions,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    ):
        if num_envs < 1:
            raise UsageError(f"num_envs is {num_envs}; give 1 or more.")
        self.game = game
        self.options = options
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
        self._engine: AtariVectorEnv | None = AtariVectorEnv(
            game,
            num_envs,
            num_threads=options.num_threads,
            # The engine drops the frame on which it truncates, so that the last observation would
            # be wrong to bootstrap from; the limit is kept here instead.
            max_num_frames_per_episode=_NO_LIMIT,
            repeat_action_probability=options.sticky,
            full_action_space=options.full_action_set,
            # DISABLED is not known to the engine: NEXT_STEP resets by mask just as well.
            autoreset_mode=AutoresetMode.SAME_STEP if same_step else AutoresetMode.NEXT_STEP,
            img_height=options.screen_size,
            img_width=options.screen_size,
            stack_num=options.frame_stack,
            frameskip=options.frame_skip,
            maxpool=options.max_pool,
            # The engine draws from 0 to one less than this.
            noop_max=options.noop_max + 1,
            use_fire_reset=options.fire,
            reward_clipping=False,
        )
        self.single_observation_space = self._engine.single_observation_space
        self.single_action_space = self._engine.single_action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        actions = [action.value for action in self._engine.ale.get_action_set()]
        self._fire = actions.index(_FIRE) if options.fire and _FIRE in actions else None
        self._executed = np.zeros(num_envs, np.int64)
        self._lives = np.zeros(num_envs, np.int32)
        self._frames = np.zeros(num_envs, np.int64)
        self._fire_next = np.zeros(num_envs, np.bool_)
        # Rows that wait for their reset; of these, the ones that the engine believes in play.
        self._ended = np.zeros(num_envs, np.bool_)
        self._cut = np.zeros(num_envs, np.bool_)
        self._was_reset = False
        self._sent = False

    @property
    def _ale(self) -> AtariVectorEnv:
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
        observations, raw = self._begin(mask, seeds)
        self._executed = np.where(mask, 0, self._executed)
        self._was_reset = True
        return observations, self._infos(raw, mask, np.zeros(self.num_envs, np.bool_))

    def send(self, actions: np.ndarray) -> None:
        """Starts a step with `(num_envs,)` integer actions and returns at once."""
        if self._sent:
            raise UsageError("send() twice without recv() between; call recv() first.")
        if not self._was_reset:
            raise UsageError("step before reset(); call reset() first.")
        refuse_ended(self.autoreset_mode, self._ended)
        executed = check_actions(actions, self.num_envs, int(self.single_action_space.n))  # type: ignore[attr-defined]  # Discrete
        if self._fire is not None:
            executed[self._fire_next] = self._fire
        self._executed = executed
        self._ale.send(executed)
        self._sent = True

    def recv(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Waits for the step that `send` started; returns what `step` returns."""
        if not self._sent:
            raise UsageError("recv() without send(); call send(actions) first.")
        observations, rewards, terminated, _, raw = self._ale.recv()
        self._sent = False
        same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
        # With NEXT_STEP a game that has ended spends this step on its reset.
        began = self._ended
        if self._cut.any():
            observations, raw = self._begin(self._cut)
            rewards, terminated = np.where(began, 0, rewards), terminated & ~began
        self._frames = np.where(began, 0, self._frames + self.options.frame_skip)
        truncated = (self._frames >= self.options.max_frames) & ~terminated
        ended = terminated | truncated
        lives = raw["lives"]
        life_lost = (lives < self._lives) & (lives > 0) & ~(terminated | began)
        self._lives = lives.copy()
        self._fire_next = life_lost & ~ended
        finals: dict[str, Any] = {}
        if same_step and ended.any():
            last = raw["final_obs"] if terminated.any() else observations
            last = np.where(terminated[:, None, None, None], last, observations)
            finals = final_infos(last, ended, self._executed)
            self._frames = np.where(ended, 0, self._frames)
            if truncated.any():
                observations, raw = self._begin(truncated)
        elif not same_step:
            self._ended, self._cut = ended, truncated
        infos = self._infos(raw, np.ones(self.num_envs, np.bool_), life_lost)
        return observations, rewards.astype(np.float32), terminated, truncated, infos | finals

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Holds `(num_envs,)` integer actions for `frame_skip` frames.

        Returns:
            observations, rewards (float32, raw), terminated, truncated (bool), infos.
        """
        self.send(actions)
        return self.recv()

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads of the engine."""
        self._engine = None

    def _begin(
        self, mask: np.ndarray, seeds: np.ndarray | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Begins new games in the rows of `mask`; seeds are (num_envs,), -1 to go on."""
        seeds = row_seeds(None, self.num_envs) if seeds is None else seeds
        observations, raw = self._ale.reset(seed=seeds[mask], options={"reset_mask": mask})
        self._frames = np.where(mask, 0, self._frames)
        self._lives = np.where(mask, raw["lives"], self._lives)
        for name in ("_fire_next", "_ended", "_cut"):
            setattr(self, name, getattr(self, name) & ~mask)
        return observations, raw

    def _infos(
        self, raw: dict[str, np.ndarray], mask: np.ndarray, life_lost: np.ndarray
    ) -> dict[str, Any]:
        infos = {
            "lives": raw["lives"],
            "frame_number": raw["frame_number"],
            "episode_frame_number": raw["episode_frame_number"],
            "life_lost": life_lost,
            "executed_action": self._executed.copy(),
        }
        return {**infos, **{f"_{name}": mask.copy() for name in infos}}


def check_actions(actions: np.ndarray, num_envs: int, num_actions: int) -> np.ndarray:
    """Returns a copy as `(num_envs,)` int64; raises UsageError on another shape, type or range."""
    given = np.asarray(actions)
    if given.shape != (num_envs,) or not np.issubdtype(given.dtype, np.integer):
        raise UsageError(
            f"actions are {given.dtype} of shape {given.shape}; give {num_envs} integers."
        )
    if given.min() < 0 or given.max() >= num_actions:
        raise UsageError(f"actions must be 0 to {num_actions - 1}; got {given.tolist()}.")
    return given.astype(np.int64)


def reset_mask(options: dict[str, Any] | None, num_envs: int) -> np.ndarray:
    """Returns `options["reset_mask"]` as `(num_envs,)` bool, all True when there is none."""
    if options is None or options.get("reset_mask") is None:
        return np.ones(num_envs, np.bool_)
    mask = options["reset_mask"]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,):
        raise UsageError(f"reset_mask must be a bool array of shape ({num_envs},).")
    if not mask.any():
        raise UsageError("reset_mask selects no environment; set at least one entry to True.")
    return mask


def reset_rows(
    seed: int | list[int | None] | np.ndarray | None,
    options: dict[str, Any] | None,
    num_envs: int,
    was_reset: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """What a reset is about: its rows, (num_envs,) bool, and their seeds, see `row_seeds`.

    Args:
        seed, options: as `reset` got them.
        num_envs: of the environment.
        was_reset: whether it was reset before.

    Raises:
        UsageError: the mask or the seeds do not fit, or the first reset leaves rows out.
    """
    mask = reset_mask(options, num_envs)
    if not was_reset and not mask.all():
        raise UsageError("reset all environments once before a reset with a mask.")
    if seed is None and not was_reset:
        # Unseeded generators all begin alike; an unseeded user expects different games.
        seed = int(np.random.default_rng().integers(2**30))
    return mask, row_seeds(seed, num_envs)


def refuse_ended(autoreset_mode: AutoresetMode, ended: np.ndarray) -> None:
    """Raises UsageError where a step is asked of games (n,) bool that nobody begins anew."""
    if autoreset_mode == AutoresetMode.DISABLED and ended.any():
        rows = np.flatnonzero(ended).tolist()
        raise UsageError(f'games {rows} have ended; call reset(options={{"reset_mask": ...}}).')


def row_seeds(seed: int | list[int | None] | np.ndarray | None, num_envs: int) -> np.ndarray:
    """Returns `(num_envs,)` int64 seeds; -1 means that a row's generators go on as they are."""
    if seed is None:
        return np.full(num_envs, -1, np.int64)
    if isinstance(seed, int | np.integer):
        given: list[int | None] = [int(seed) + row for row in range(num_envs)]
    else:
        given = [None if value is None else int(value) for value in seed]
    if len(given) != num_envs:
        raise UsageError(f"{len(given)} seeds for {num_envs} environments; give one for each.")
    for value in given:
        if value is not None:
            check_seed(value)
    return np.array([-1 if value is None else value for value in given], np.int64)


def check_seed(seed: int) -> None:
    """Raises UsageError unless the emulator can take the seed of one environment."""
    if not 0 <= seed < 2**31:
        raise UsageError(f"an environment's seed is {seed}; give 0 to {2**31 - 1:,}.")


def final_infos(
    final_observations: np.ndarray, ended: np.ndarray, executed: np.ndarray
) -> dict[str, Any]:
    """Returns `final_obs` and `final_info` with masks as Gymnasium's SAME_STEP writes them.

    Args:
        final_observations: `(n, *obs)`; only the rows in `ended` are read and copied.
        ended: `(n,)` bool.
        executed: `(n,)` int64 actions of this step.
    """
    final_obs = np.full(len(ended), None, dtype=object)
    for row in np.flatnonzero(ended):
        final_obs[row] = final_observations[row].copy()
    actions = np.where(ended, executed, 0)
    return {
        "final_obs": final_obs,
        "_final_obs": ended.copy(),
        "final_info": {"executed_action": actions, "_executed_action": ended.copy()},
        "_final_info": ended.copy(),
    }
