"""The vector checker passes what keeps the contract and finds what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from stable_baselines3.common.vec_env import DummyVecEnv

import eightbit  # noqa: F401  # registers the games
from eightbit.envs import VectorEnvFromSB3, check_vector_env, make_gym_vec, make_vec
from eightbit.envs.catch import CatchEnv
from eightbit.envs.checker import VectorContractError

MODES = list(AutoresetMode)
NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


class Walk(gymnasium.Env):
    """A random walk that ends after 3 to 6 steps, sometimes by its time limit."""

    observation_space = Box(-1e6, 1e6, (2,), np.float32)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=2).astype(np.float32)
        self.left = int(self.np_random.integers(3, 7))
        return self.place.copy(), {"left": self.left}

    def step(self, action: int) -> Any:
        self.place = self.place + np.float32(action) + np.float32(self.np_random.normal())
        self.left -= 1
        over, cut = self.left == 0, bool(self.np_random.integers(2))
        return (
            self.place.copy(),
            float(self.place[0]),
            over and not cut,
            over and cut,
            {"left": self.left},
        )


def walks(mode: AutoresetMode = NEXT, count: int = 3, **kwargs: Any) -> SyncVectorEnv:
    return SyncVectorEnv([Walk] * count, autoreset_mode=mode, **kwargs)


# ---- what keeps the contract


@pytest.mark.parametrize("mode", MODES)
def test_gymnasiums_own_vector_environments_pass(mode):
    check_vector_env(walks(mode))
    processes = mode == NEXT  # `AsyncVectorEnv` once
    check_vector_env(make_gym_vec("gym:CartPole-v1", 2, autoreset_mode=mode, processes=processes))


@pytest.mark.parametrize("mode", MODES)
def test_ours_pass(mode):
    check_vector_env(make_vec("catch", 3, sticky=0.25, autoreset_mode=mode))


@pytest.mark.parametrize("mode", [NEXT, SAME, pytest.param(DISABLED, marks=pytest.mark.long)])
def test_atari_through_gymnasiums_make_vec_passes(mode):
    env = gymnasium.make_vec("eightbit/Breakout-v5", num_envs=2, max_frames=40, autoreset_mode=mode)
    check_vector_env(env)


@pytest.mark.parametrize(
    "mode", [DISABLED, *(pytest.param(mode, marks=pytest.mark.long) for mode in (NEXT, SAME))]
)
def test_the_preprocessing_of_stable_baselines3_passes(mode):
    check_vector_env(
        make_vec("breakout", 2, preprocessing="sb3", max_frames=100, autoreset_mode=mode)
    )


def test_ours_pass_in_the_ways_of_gymnasium_and_stable_baselines3():
    check_vector_env(gymnasium.make_vec("eightbit/Catch-v0", num_envs=2, vectorization_mode="sync"))
    venv = DummyVecEnv([CatchEnv, CatchEnv])
    check_vector_env(VectorEnvFromSB3(venv), reset_masks=False)


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("game", ["pong", "seaquest", "freeway", "air_raid", "montezuma_revenge"])
def test_games_of_all_kinds_pass(mode, game):
    options = {"max_frames": 120, "sticky": 0.25, "full_action_set": True}
    check_vector_env(make_vec(game, 3, autoreset_mode=mode, **options))


# ---- what breaks it


class Broken(VectorWrapper):
    """Keeps the contract but for what `change_step` and `change_reset` do to what is returned."""

    def __init__(
        self,
        env: VectorEnv,
        change_step: Callable[..., Any] | None = None,
        change_reset: Callable[..., Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ):
        super().__init__(env)
        self.change_step, self.change_reset = change_step, change_reset
        if metadata is not None:
            self.metadata = metadata

    def step(self, actions: Any) -> Any:
        result = list(self.env.step(actions))
        return tuple(self.change_step(*result) if self.change_step else result)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        result = self.env.reset(seed=seed, options=options)
        return self.change_reset(*result) if self.change_reset else result


def on_step(change: Callable[..., Any], mode: AutoresetMode = NEXT) -> VectorEnv:
    return Broken(walks(mode), change_step=change)


def reused(position: int) -> VectorEnv:
    """Returns the same array again and again, with new values."""
    buffers: list[np.ndarray] = []

    def change(*result: Any) -> list[Any]:
        changed = list(result)
        if not buffers:
            buffers.append(changed[position].copy())
        buffers[0][...] = changed[position]
        changed[position] = buffers[0]
        return changed

    return on_step(change)


def dense_finals(obs: Any, rewards: Any, terminated: Any, truncated: Any, infos: Any) -> Any:
    """Has a last observation in every row, as ALE's vectorizer does."""
    if "final_obs" in infos:
        infos = {**infos, "final_obs": obs.copy()}
    return obs, rewards, terminated, truncated, infos


def finals_of_too_many(obs: Any, rewards: Any, terminated: Any, truncated: Any, infos: Any) -> Any:
    if "final_obs" in infos:
        infos = {**infos, "_final_obs": np.ones(3, np.bool_)}
    return obs, rewards, terminated, truncated, infos


def stale_finals(obs: Any, rewards: Any, terminated: Any, truncated: Any, infos: Any) -> Any:
    if "final_obs" in infos:
        finals = np.empty(3, object)
        finals[:] = list(obs)
        infos = {**infos, "final_obs": finals}
    return obs, rewards, terminated, truncated, infos


class IgnoresSeed(Walk):
    """Goes on with its own generator, whatever seed it is given."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(options=options)


class SeedsTheFirstResetOnly(Walk):
    """Ignores all seeds but the first."""

    seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        seed, self.seeded = (None if self.seeded else seed), True
        return super().reset(seed=seed, options=options)


class ResetsAll(SyncVectorEnv):
    """Knows no reset mask: resets every row."""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        seeds = seed if seed is None or isinstance(seed, int) else [s or 0 for s in seed]
        return super().reset(seed=seeds)


class ResetsNone(SyncVectorEnv):
    """Takes a reset mask and does nothing."""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        if options is None:
            return super().reset(seed=seed)
        return self._observations.copy(), {}


class ForgetsNothing(SyncVectorEnv):
    """After a reset by mask, the rows that had ended are reset once more by the next step."""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        pending = self._autoreset_envs.copy()
        result = super().reset(seed=seed, options=options)
        self._autoreset_envs = pending if options is not None or seed is None else pending & False
        return result


class PlaysOnAfterAnEnd(SyncVectorEnv):
    """Says NEXT_STEP, but the step after an end is already one of the new episode."""

    def step(self, actions: Any) -> Any:
        ended = self._autoreset_envs.copy()
        if ended.any():
            SyncVectorEnv.reset(self, options={"reset_mask": ended})
        obs, rewards, terminated, truncated, infos = super().step(actions)
        return obs, np.where(ended, 0.0, rewards), terminated, truncated, infos


class ClosesOnce(SyncVectorEnv):
    """Raises when it is closed a second time."""

    def close(self, **kwargs: Any) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        super().close(**kwargs)


class NeverClosed(SyncVectorEnv):
    """Does not say that it is closed."""

    def close(self, **kwargs: Any) -> None:
        pass


class ChangesActions(SyncVectorEnv):
    """Writes into the caller's actions."""

    def step(self, actions: Any) -> Any:
        result = super().step(actions)
        actions[:] = 0
        return result


class WrongSpace(SyncVectorEnv):
    """Its batched space is for another number of environments."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.observation_space = Box(-1e6, 1e6, (4, 2), np.float32)


def made(kind: type[SyncVectorEnv], mode: AutoresetMode = NEXT, env: Any = Walk) -> VectorEnv:
    return kind([env] * 3, autoreset_mode=mode)


def changed(position: int, value: Callable[[Any], Any], mode: AutoresetMode = NEXT) -> VectorEnv:
    def change(*result: Any) -> list[Any]:
        return [*result[:position], value(result[position]), *result[position + 1 :]]

    return on_step(change, mode)


def with_info(**entries: Any) -> VectorEnv:
    return changed(4, lambda infos: {**infos, **entries})


BROKEN: dict[str, tuple[Callable[[], VectorEnv], str]] = {
    "a dtype that is not the space's": (
        lambda: changed(0, lambda obs: obs.astype(np.float64)),
        "not in observation_space",
    ),
    "a value outside the space": (
        lambda: changed(0, lambda obs: obs + np.float32(1e7)),
        "not in observation_space",
    ),
    "a first observation of another shape": (
        lambda: Broken(walks(), change_reset=lambda obs, infos: (obs[:2], infos)),
        "not in observation_space",
    ),
    "a reset without infos": (
        lambda: Broken(walks(), change_reset=lambda obs, infos: obs),
        "does not return 2 things",
    ),
    "a step of old Gym": (lambda: on_step(lambda *r: r[:2] + r[3:]), "does not return 5 things"),
    "a batched space of another size": (lambda: made(WrongSpace), "batched 3 times"),
    "rewards of another shape": (lambda: changed(1, lambda r: r[:, None]), "rewards has shape"),
    "rewards as a list": (lambda: changed(1, list), "rewards is not an array"),
    "rewards that are not finite": (lambda: changed(1, lambda r: r * np.nan), "not finite"),
    "terminated as integers": (lambda: changed(2, lambda t: t.astype(np.int8)), "not bool"),
    "truncated as numbers": (lambda: changed(3, lambda t: t * 1.0), "not bool"),
    "observations that change later": (lambda: reused(0), "changed after it was returned"),
    "rewards that change later": (lambda: reused(1), "changed after it was returned"),
    "flags that change later": (lambda: reused(2), "changed after it was returned"),
    "observations of one buffer": (lambda: walks(copy=False), "changed after it was returned"),
    "actions written to": (lambda: made(ChangesActions), "changes the actions"),
    "a seed that is ignored": (lambda: made(SyncVectorEnv, env=IgnoresSeed), "runs .* differ"),
    "a seed that counts once": (
        lambda: made(SyncVectorEnv, env=SeedsTheFirstResetOnly),
        "runs .* differ",
    ),
    "no autoreset mode": (lambda: Broken(walks(), metadata={}), "not an AutoresetMode"),
    "an autoreset mode as text": (
        lambda: Broken(walks(), metadata={"autoreset_mode": "NextStep"}),
        "not an AutoresetMode",
    ),
    "NEXT_STEP that is SAME_STEP": (
        lambda: Broken(walks(SAME), metadata={"autoreset_mode": NEXT}),
        "final_obs although",
    ),
    "DISABLED that is SAME_STEP": (
        lambda: Broken(walks(SAME), metadata={"autoreset_mode": DISABLED}),
        "final_obs although",
    ),
    "SAME_STEP that is NEXT_STEP": (
        lambda: Broken(walks(NEXT), metadata={"autoreset_mode": SAME}),
        "does not mark the rows that ended",
    ),
    "a reward on the reset of NEXT_STEP": (
        lambda: changed(1, lambda rewards: rewards + 1.0),
        "has a reward or ends again",
    ),
    "a reset of NEXT_STEP that heeds the action": (
        lambda: made(PlaysOnAfterAnEnd),
        "the action given after an end",
    ),
    "final observations without a mask": (
        lambda: changed(4, lambda i: {k: v for k, v in i.items() if k != "_final_obs"}, SAME),
        "final_obs.* has no bool mask|does not mark",
    ),
    "final observations in every row": (
        lambda: on_step(dense_finals, SAME),
        "not an object array",
    ),
    "stale final observations": (lambda: on_step(stale_finals, SAME), "is not None although"),
    "final observations of too many rows": (
        lambda: on_step(finals_of_too_many, SAME),
        "does not mark the rows that ended",
    ),
    "an info without a mask": (lambda: with_info(score=np.zeros(3)), "no bool mask _score"),
    "an info with a mask of numbers": (
        lambda: with_info(score=np.zeros(3), _score=np.ones(3)),
        "no bool mask _score",
    ),
    "an info of too few rows": (
        lambda: with_info(score=np.zeros(2), _score=np.ones(3, np.bool_)),
        "has 2 rows",
    ),
    "infos as a list": (lambda: changed(4, lambda infos: [{}] * 3), "infos are not a dict"),
    "a reset mask that resets all": (lambda: made(ResetsAll), "outside the mask"),
    "a reset mask that resets none": (lambda: made(ResetsNone), "does not begin as before"),
    "a reset by mask that is made twice": (
        lambda: made(ForgetsNothing),
        "runs .* differ|does not begin as before|has a reward",
    ),
    "no end": (
        lambda: on_step(lambda o, r, t, u, i: (o, r, t & False, u & False, i)),
        "fewer than two ended an episode",
    ),
    "closed stays False": (lambda: made(NeverClosed), "closed is False"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_contract_is_found(name):
    make, message = BROKEN[name]
    with pytest.raises(VectorContractError, match=message):
        check_vector_env(make(), max_steps=60)


def test_what_cannot_be_closed_twice_is_found():
    with pytest.raises(RuntimeError, match="closed already"):
        check_vector_env(made(ClosesOnce))


@pytest.mark.parametrize("mode", [NEXT, SAME])
def test_ales_own_vectorizer_does_not_pass(mode):
    env = AtariVectorEnv("breakout", 1, max_num_frames_per_episode=80, autoreset_mode=mode)
    with pytest.raises(VectorContractError, match="has no bool mask"):
        check_vector_env(env)
