"""Stepping environments: ours against ale-py's vectorizer, envpool and SB3's chain of wrappers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable

import numpy as np
from measure import Report, Row, arguments, compare, in_turn, numbers, rate, settings_of

from eightbit.envs import make_vec
from eightbit.envs.transitions import EnvStepper

FRAMES_PER_STEP = 4
Work = Callable[[], int]


def step_ours(game: str, num_envs: int, actions: np.ndarray) -> Work:
    """Records of real transitions with raw rewards, as learners get them."""
    stepper = EnvStepper(make_vec(game, num_envs))
    stepper.reset(seed=0)
    return _counted(stepper.step, num_envs, actions)


def step_ale(game: str, num_envs: int, actions: np.ndarray) -> Work:
    """ale_py.AtariVectorEnv as it comes, with the same preprocessing."""
    from ale_py import AtariVectorEnv

    env = AtariVectorEnv(game, num_envs=num_envs, reward_clipping=False)
    env.reset(seed=0)
    return _counted(env.step, num_envs, actions)


def step_envpool(game: str, num_envs: int, actions: np.ndarray) -> Work:
    """envpool with all environments in lockstep."""
    import envpool

    name = "".join(part.capitalize() for part in game.split("_"))
    env = envpool.make_gymnasium(f"{name}-v5", num_envs=num_envs, seed=0, reward_clip=False)
    env.reset()
    return _counted(env.step, num_envs, actions)


def step_sb3(game: str, num_envs: int, actions: np.ndarray) -> Work:
    """SB3's make_atari_env in one process, with its stack of four."""
    import ale_py
    import gymnasium
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    name = "".join(part.capitalize() for part in game.split("_"))
    env = VecFrameStack(make_atari_env(f"{name}NoFrameskip-v4", n_envs=num_envs, seed=0), 4)
    env.reset()
    return _counted(env.step, num_envs, actions)


def _counted(step: Callable[[np.ndarray], object], num_envs: int, actions: np.ndarray) -> Work:
    count = 0

    def work() -> int:
        nonlocal count
        step(actions[count % len(actions)])
        count += 1
        return num_envs * FRAMES_PER_STEP

    return work


def main() -> None:
    chosen = arguments(
        "Environment steps per second with random actions.",
        game="pong",
        num_envs="1,8,32",
        seconds=3.0,
        repeats=5,
    )
    report = Report("stepping", settings_of(chosen), with_matmul=False)
    backends = {"ours": ("eightbit", step_ours), "ale-py": ("ale-py", step_ale)}
    if importlib.util.find_spec("envpool"):
        backends["envpool"] = ("envpool", step_envpool)
    backends["SB3"] = ("stable-baselines3", step_sb3)
    for num_envs in numbers(chosen.num_envs):
        # Every backend of Pong has the same six actions.
        actions = np.random.default_rng(0).integers(6, size=(1024, num_envs))
        works = {name: make(chosen.game, num_envs, actions) for name, (_, make) in backends.items()}
        taken = in_turn(
            {name: lambda work=work: rate(work, chosen.seconds) for name, work in works.items()},
            chosen.repeats,
        )
        rows = {
            name: Row(
                f"{name}, {num_envs} environments",
                backends[name][0],
                "frames/s",
                repeats,
                threads=1 if name == "SB3" else min(num_envs, os.cpu_count() or 1),
                num_envs=num_envs,
            )
            for name, repeats in taken.items()
        }
        report.rows.extend(rows.values())
        for peer in rows:
            if peer != "ours":
                name = f"ours to {peer}, {num_envs} environments"
                report.ratios.append(compare(name, rows["ours"], rows[peer]))
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
