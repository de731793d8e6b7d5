"""Checks a vector environment against Gymnasium's documented contract.

Gymnasium ships a checker for single environments only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from ..errors import EightBitError

_SEED = 11


class VectorContractError(EightBitError):
    """A vector environment breaks the contract; the message says where."""


def check_vector_env(env: VectorEnv, *, max_steps: int = 3000, reset_masks: bool = True) -> None:
    """Plays the environment, resets it in several ways, closes it, and checks what it returns.

    Checked are spaces, shapes and dtypes; that equal seeds and actions give equal trajectories,
    also when the reset comes right after an end; infos and their masks; the rules of the autoreset
    mode in the metadata; that arrays once returned, and the actions given, never change; resets by
    mask; and closing twice.

    Args:
        env: the environment, open; it is closed at the end.
        max_steps: of so many steps of random actions, two must end an episode, else the rules of
            autoreset were not seen at work; give an environment with a short time limit.
        reset_masks: whether `reset(options={"reset_mask": ...})` must work; with autoreset mode
            DISABLED it must in any case.

    Raises:
        VectorContractError: the environment breaks the contract.
    """
    _check_spaces(env)
    mode = env.metadata["autoreset_mode"]
    first = _play(env, mode, max_steps)
    # The first run stopped right after an end: nothing of it may reach into the second.
    second = _play(env, mode, max_steps)
    _require(
        len(first) == len(second) and all(map(_same, first, second)),
        "two runs with equal seeds and actions differ",
    )
    if mode == AutoresetMode.NEXT_STEP:
        _check_ignored_action(env, max_steps)
    if reset_masks or mode == AutoresetMode.DISABLED:
        _check_reset_mask(env, mode, max_steps)
    env.close()
    env.close()
    _require(env.closed, "closed is False after close()")


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise VectorContractError(f"vector environment: {message}.")


def _check_spaces(env: VectorEnv) -> None:
    _require(isinstance(env.num_envs, int) and env.num_envs >= 1, "num_envs is not an int >= 1")
    for name in ("observation_space", "action_space"):
        batched, single = getattr(env, name), getattr(env, f"single_{name}")
        _require(isinstance(single, Space), f"single_{name} is not a Space")
        _require(
            batched == batch_space(single, env.num_envs),
            f"{name} is not single_{name} batched {env.num_envs} times",
        )
    _require(
        isinstance(env.metadata.get("autoreset_mode"), AutoresetMode),
        'metadata["autoreset_mode"] is not an AutoresetMode',
    )


def _play(env: VectorEnv, mode: AutoresetMode, max_steps: int) -> list[Any]:
    """Plays to the second end and checks each step; returns all that was returned."""
    env.action_space.seed(_SEED)
    start = env.reset(seed=_SEED)
    _require(isinstance(start, tuple) and len(start) == 2, "reset() does not return 2 things")
    _check_observations(env, start[0])
    _check_infos(env, start[1])
    log: list[Any] = [start]
    copies = [_copy(start)]
    ended = np.zeros(env.num_envs, np.bool_)
    ends = 0
    for _ in range(max_steps):
        actions = env.action_space.sample()
        given = _copy(actions)
        if mode == AutoresetMode.DISABLED and ended.any():
            log.append(env.reset(options={"reset_mask": ended.copy()}))
            copies.append(_copy(log[-1]))
            _check_observations(env, log[-1][0])
        result = env.step(actions)
        _require(_same(actions, given), "step() changes the actions that it was given")
        _check_step(env, mode, result, ended)
        log.append(result)
        copies.append(_copy(result))
        ended = result[2] | result[3]
        ends += bool(ended.any())
        if ends >= 2:
            break
    _require(ends >= 2, f"of {max_steps} steps of random actions, fewer than two ended an episode")
    for returned, copy in zip(log, copies, strict=True):
        _require(_same(returned, copy), "an array changed after it was returned")
    return copies


def _check_step(env: VectorEnv, mode: AutoresetMode, result: Any, before: np.ndarray) -> None:
    _require(isinstance(result, tuple) and len(result) == 5, "step() does not return 5 things")
    observations, rewards, terminated, truncated, infos = result
    _check_observations(env, observations)
    for name, values in (
        ("rewards", rewards),
        ("terminated", terminated),
        ("truncated", truncated),
    ):
        _require(isinstance(values, np.ndarray), f"{name} is not an array")
        _require(values.shape == (env.num_envs,), f"{name} has shape {values.shape}")
    _require(np.issubdtype(rewards.dtype, np.number), "rewards are not numbers")
    _require(np.isfinite(rewards).all(), "rewards are not finite")
    for name, flags in (("terminated", terminated), ("truncated", truncated)):
        _require(flags.dtype == np.bool_, f"{name} is {flags.dtype}, not bool")
    _check_infos(env, infos)
    if mode == AutoresetMode.NEXT_STEP:
        quiet = (rewards[before] == 0).all() and not (terminated | truncated)[before].any()
        _require(quiet, "with NEXT_STEP, the step after an end has a reward or ends again")
    if mode == AutoresetMode.SAME_STEP:
        _check_finals(env, terminated | truncated, infos)
    else:
        _require("final_obs" not in infos, f"there is a final_obs although the mode is {mode.name}")


def _check_finals(env: VectorEnv, ended: np.ndarray, infos: dict[str, Any]) -> None:
    none = np.zeros(env.num_envs, np.bool_)
    for name in ("final_obs", "final_info"):
        mask = infos.get(f"_{name}", none)
        _require(
            np.array_equal(mask, ended),
            f"with SAME_STEP, _{name} does not mark the rows that ended",
        )
    if not ended.any():
        return
    _require("final_obs" in infos, "with SAME_STEP, an end has no final_obs")
    finals = infos["final_obs"]
    _require(
        isinstance(finals, np.ndarray) and finals.dtype == object and len(finals) == env.num_envs,
        "final_obs is not an object array with one entry for each environment",
    )
    for row in range(env.num_envs):
        if ended[row]:
            _require(finals[row] in env.single_observation_space, f"final_obs[{row}] is outside")
        else:
            _require(finals[row] is None, f"final_obs[{row}] is not None although it did not end")


def _check_observations(env: VectorEnv, observations: Any) -> None:
    _require(observations in env.observation_space, "observations are not in observation_space")
    rows = iterate(env.observation_space, observations)
    for row in rows:
        _require(row in env.single_observation_space, "a row is not in single_observation_space")


def _check_infos(env: VectorEnv, infos: Any) -> None:
    _require(isinstance(infos, dict), "infos are not a dict")
    for name, values in infos.items():
        if name.startswith("_"):
            continue
        mask = infos.get(f"_{name}")
        good = isinstance(mask, np.ndarray) and mask.dtype == np.bool_
        _require(
            good and mask.shape == (env.num_envs,), f"infos[{name!r}] has no bool mask _{name}"
        )
        if isinstance(values, np.ndarray):
            _require(len(values) == env.num_envs, f"infos[{name!r}] has {len(values)} rows")


def _check_ignored_action(env: VectorEnv, max_steps: int) -> None:
    """With NEXT_STEP the step after an end is the reset: which action it got plays no part."""
    results = []
    for other in (False, True):
        env.action_space.seed(_SEED)
        env.reset(seed=_SEED)
        ended = np.zeros(env.num_envs, np.bool_)
        for _ in range(max_steps):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            ended = terminated | truncated
            if ended.any():
                break
        actions = env.action_space.sample()
        if other and isinstance(actions, np.ndarray):
            different = env.action_space.sample()
            for _ in range(20):
                if (different[ended] != actions[ended]).all():
                    break
                different = env.action_space.sample()
            actions[ended] = different[ended]
        results.append(env.step(actions)[:4])
    _require(_same(*results), "with NEXT_STEP, the action given after an end changes what it does")


def _check_reset_mask(env: VectorEnv, mode: AutoresetMode, max_steps: int) -> None:
    """A reset by mask begins the marked rows anew and leaves the others as they are."""
    even = np.arange(env.num_envs) % 2 == 0
    for after_an_end in (False, True):
        env.action_space.seed(_SEED)
        start, _ = env.reset(seed=_SEED)
        opening = env.action_space.sample()
        first = env.step(opening)
        last, ended = first[0], first[2] | first[3]
        for _ in range(max_steps if after_an_end else 2):
            if ended.any():
                break
            last, _, terminated, truncated, _ = env.step(env.action_space.sample())
            ended = terminated | truncated
        mask = ended if after_an_end else even | ended
        seeds = [_SEED + row if mask[row] else None for row in range(env.num_envs)]
        begun, infos = env.reset(seed=seeds, options={"reset_mask": mask.copy()})  # type: ignore[arg-type]  # as SyncVectorEnv
        _check_observations(env, begun)
        _check_infos(env, infos)
        again = "a reset by mask and seed does not begin as before"
        _check_rows(env, mask, begun, start, again)
        _check_rows(env, ~mask, begun, last, "a reset by mask changes a row outside the mask")
        result = env.step(opening)
        _check_step(env, mode, result, np.zeros(env.num_envs, np.bool_))
        _check_rows(env, mask, result[0], first[0], again)


def _check_rows(env: VectorEnv, mask: np.ndarray, got: Any, wanted: Any, message: str) -> None:
    """Requires that the observations in the rows of `mask` are equal."""
    space = env.observation_space
    rows = zip(mask, iterate(space, got), iterate(space, wanted), strict=True)
    _require(all(_same(one, other) for marked, one, other in rows if marked), message)


def _copy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return value.copy()
        copies = np.empty(len(value), object)
        copies[:] = [_copy(entry) for entry in value]
        return copies
    if isinstance(value, dict):
        return {key: _copy(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_copy(entry) for entry in value)
    return value


def _same(one: Any, other: Any) -> bool:
    """Whether two trees of arrays are equal; NaN equals NaN."""
    if isinstance(one, dict):
        return isinstance(other, dict) and (
            one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
        )
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray) and one.dtype == object:
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        floats = np.issubdtype(one.dtype, np.floating)
        return bool(np.array_equal(one, other, equal_nan=bool(floats)))
    return bool(one == other)
