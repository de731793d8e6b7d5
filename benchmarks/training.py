"""Training speed: our DQN against Stable-Baselines3's, in turn, with the same network.

At SB3's own settings: one environment, batch 32, one update for every four steps; and our default
preset with its own. Both sides act epsilon-greedily with the same epsilon, and every timed window
makes updates. Each library brings its own environment, as its users run it.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from measure import Report, Row, arguments, compare, in_turn, settings_of
from torch.utils.flop_counter import FlopCounterMode

from eightbit.agents.dqn import DQN
from eightbit.agents.options import DQNOptions
from eightbit.agents.presets import DQN_PRESETS
from eightbit.envs import make_vec

BAR_FP32 = 1.5
BAR_BF16 = 2.5  # holds where bf16 multiplies three times as fast as fp32
BAR_PRESET = 4.0
EPSILON = 0.1
LEARNING_STARTS = 1_000

# What stable_baselines3.DQN sets by itself, written in our words.
SB3_SETTINGS = DQNOptions(
    backbone="nature",
    double=False,
    n_step=1,
    num_envs=1,
    batch_size=32,
    replay_ratio=8.0,
    learning_rate=1e-4,
    optimizer_eps=1e-8,
    target_update=10_000,
)


def timed(settings: DQNOptions, precision: str, buffer_size: int) -> DQNOptions:
    """The settings with a small buffer, an early start and a constant epsilon."""
    return dataclasses.replace(
        settings,
        precision=precision,
        buffer_size=buffer_size,
        learning_starts=min(LEARNING_STARTS, buffer_size // 2),
        epsilon_initial=EPSILON,
        epsilon_final=EPSILON,
    )


class OurTraining:
    """An agent of ours past its first updates.

    Args:
        game: what it plays.
        options: how it learns.
        warmup: agent steps before the first window.
    """

    def __init__(self, game: str, options: DQNOptions, warmup: int):
        self.agent = DQN(make_vec(game, options.num_envs), options, seed=0, device="cpu")
        self.run(warmup)
        if self.agent.num_updates == 0:
            raise SystemExit("no update was made before the timed window; raise --warmup")

    def run(self, steps: int) -> float:
        """Makes at least so many agent steps; steps per second."""
        agent = self.agent
        first, start = agent.num_timesteps, time.perf_counter()
        agent.learn(first + steps)
        return (agent.num_timesteps - first) / (time.perf_counter() - start)

    def flops_per_step(self) -> float:
        """Operations of the networks for one agent step, with its share of an update."""
        options, agent = self.agent.options, self.agent
        with FlopCounterMode(display=False) as counter:
            agent.update()
        update = counter.get_total_flops()
        observations = agent.begin()
        with FlopCounterMode(display=False) as counter:
            agent.q_values(observations)
        act = counter.get_total_flops() / len(observations)
        return update * options.replay_ratio / options.batch_size + act


class TheirTraining:
    """An agent of Stable-Baselines3 on its own chain of Atari wrappers, past its first updates."""

    def __init__(self, game: str, buffer_size: int, warmup: int):
        import ale_py
        import gymnasium
        import stable_baselines3
        from stable_baselines3.common.env_util import make_atari_env
        from stable_baselines3.common.vec_env import VecFrameStack

        gymnasium.register_envs(ale_py)
        name = "".join(part.capitalize() for part in game.split("_"))
        env = VecFrameStack(make_atari_env(f"{name}NoFrameskip-v4", n_envs=1, seed=0), 4)
        self.model = stable_baselines3.DQN(
            "CnnPolicy",
            env,
            buffer_size=buffer_size,
            learning_starts=min(LEARNING_STARTS, buffer_size // 2),
            exploration_initial_eps=EPSILON,
            exploration_final_eps=EPSILON,
            seed=0,
            device="cpu",
        )
        self.run(warmup)
        if self.model._n_updates == 0:
            raise SystemExit("SB3 made no update before the timed window; raise --warmup")

    def run(self, steps: int) -> float:
        """Makes at least so many agent steps; steps per second."""
        model = self.model
        first, start = model.num_timesteps, time.perf_counter()
        model.learn(steps, reset_num_timesteps=False)
        return (model.num_timesteps - first) / (time.perf_counter() - start)


def row(name: str, library: str, training: OurTraining, repeats: list[float], flops: float) -> Row:
    """The row of a training of ours, or of one with the same settings."""
    options = training.agent.options
    speed = statistics.median(repeats)
    return Row(
        name,
        library,
        "steps/s",
        repeats,
        threads=torch.get_num_threads(),
        precision=training.agent.precision,
        num_envs=options.num_envs,
        batch_size=options.batch_size,
        replay_ratio=options.replay_ratio,
        gflops=speed * flops / 1e9,
        extra={"updates/s": speed * options.replay_ratio / options.batch_size},
    )


def main() -> None:
    chosen = arguments(
        "Training speed against Stable-Baselines3's DQN.",
        game="pong",
        preset="fast",
        steps=1_000,
        preset_steps=8_000,
        warmup=2_000,
        buffer_size=20_000,
        threads=torch.get_num_threads(),
        repeats=7,
    )
    torch.set_num_threads(chosen.threads)
    report = Report("training", settings_of(chosen), with_matmul=True)
    game, size, warmup = chosen.game, chosen.buffer_size, chosen.warmup

    preset = timed(DQN_PRESETS[chosen.preset], "auto", max(size, 2 * LEARNING_STARTS))
    # With many environments the warm-up must fill the memory to its start as well.
    preset_warmup = max(warmup, LEARNING_STARTS + 8 * preset.num_envs)
    ours = {
        "ours, fp32": OurTraining(game, timed(SB3_SETTINGS, "fp32", size), warmup),
        "ours, bf16": OurTraining(game, timed(SB3_SETTINGS, "bf16", size), warmup),
        f"ours, preset {chosen.preset}": OurTraining(game, preset, preset_warmup),
    }
    theirs = TheirTraining(game, size, warmup)
    steps = dict(zip(ours, (chosen.steps, chosen.steps, chosen.preset_steps), strict=True))
    measurements: dict[str, Callable[[], float]] = {"SB3": lambda: theirs.run(chosen.steps)}
    for name, training in ours.items():
        measurements[name] = lambda name=name, training=training: training.run(steps[name])
    taken = in_turn(measurements, chosen.repeats)

    flops = {name: training.flops_per_step() for name, training in ours.items()}
    reference = ours["ours, fp32"]
    peer = row("SB3", "stable-baselines3", reference, taken["SB3"], flops["ours, fp32"])
    rows = {
        name: row(name, "eightbit", training, taken[name], flops[name])
        for name, training in ours.items()
    }
    report.rows.extend(itertools.chain([peer], rows.values()))
    bf16_is_fast = report.matmul["bf16"] >= 3 * report.matmul["fp32"]
    bars = (BAR_FP32, BAR_BF16 if bf16_is_fast else None, BAR_PRESET)
    for (name, mine), bar in zip(rows.items(), bars, strict=True):
        report.ratios.append(compare(f"{name}, to SB3", mine, peer, bar))
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
