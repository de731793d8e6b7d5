"""Wall time to a score: SB3's DQN beside a run of ours, both curves in one picture.

SB3 trains with the settings that rl-zoo3 tunes for Atari, but begins to learn and to exploit as
early as our preset does: with the zoo's own 100,000 random steps it would learn nothing in an hour.

    eightbit train pong --minutes 60 --out runs/pong
    python benchmarks/learning.py --ours runs/pong/progress.csv --minutes 60
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np

from eightbit.agents.presets import DQN_PRESETS
from eightbit.train.curves import Curve, compare_curves, read_curve

COLUMNS = ("minutes", "agent_steps", "frames", "episodes", "mean_return", "updates", "fps")
LOG_SECONDS = 5.0
FRAME_SKIP = 4


def train_sb3(game: str, minutes: float, seed: int, path: Path) -> None:
    """Trains SB3's DQN on its own chain of wrappers for `minutes` and logs to the CSV `path`."""
    import ale_py
    import gymnasium
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    ours = DQN_PRESETS["fast"]
    horizon = 10_000_000
    name = "".join(part.capitalize() for part in game.split("_"))

    class Log(BaseCallback):
        """Writes a row every few seconds and stops when the time is over."""

        def __init__(self, file: Any):
            super().__init__()
            self.file = file
            self.writer = csv.writer(file)
            self.started = self.last = time.monotonic()
            self.last_steps = self.episodes = 0

        def _on_step(self) -> bool:
            self.episodes += sum("episode" in info for info in self.locals["infos"])
            now = time.monotonic()
            if now - self.last >= LOG_SECONDS:
                model, steps = self.model, self.num_timesteps
                returns = [episode["r"] for episode in model.ep_info_buffer or ()]
                mean = f"{np.mean(returns):.10g}" if returns else ""
                speed = (steps - self.last_steps) / (now - self.last)
                row = (f"{(now - self.started) / 60:.10g}", steps, steps * FRAME_SKIP)
                self.writer.writerow((*row, self.episodes, mean, model._n_updates, f"{speed:.10g}"))
                self.file.flush()
                self.last, self.last_steps = now, steps
            return now - self.started < minutes * 60

    env = VecFrameStack(make_atari_env(f"{name}NoFrameskip-v4", n_envs=1, seed=seed), 4)
    model = stable_baselines3.DQN(
        "CnnPolicy",
        env,
        buffer_size=100_000,
        learning_rate=1e-4,
        batch_size=32,
        learning_starts=ours.learning_starts,
        target_update_interval=1_000,
        train_freq=4,
        gradient_steps=1,
        exploration_fraction=ours.epsilon_steps / horizon,
        exploration_final_eps=0.01,
        optimize_memory_usage=False,
        seed=seed,
        device="cpu",
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# stable-baselines3 {stable_baselines3.__version__} DQN, seed {seed}\n")
        csv.writer(file).writerow(COLUMNS)
        model.learn(horizon, callback=Log(file))
    env.close()


def summary(curves: dict[str, Curve], scores: tuple[float, ...] = (-18, -10, 0, 10, 20)) -> str:
    """What each run had reached when the shorter one ended, and when it reached these scores."""
    end = min(float(curve.columns["minutes"][-1]) for curve in curves.values())
    lines = []
    for name, curve in curves.items():
        when, returns = curve.points("minutes", "mean_return")
        known = f"{curve.return_at(end):.2f}" if when.size and when[0] <= end else "not known"
        lines.append(f"{name}: mean training return {known} after {end:.1f} minutes")
        for score in scores:
            at = curve.first_reaching(score)
            if at is not None:
                lines.append(f"    reached {score:g} after {at:.1f} minutes")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ours", type=Path, required=True, help="progress.csv of a run of ours")
    parser.add_argument("--theirs", type=Path, help="SB3's curve, where it was trained before")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--minutes", type=float, default=60.0, help="that SB3 trains")
    parser.add_argument("--seed", type=int, default=0, help="of SB3's run")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    theirs = chosen.theirs
    if theirs is None:
        theirs = chosen.out / f"{chosen.game}-sb3.csv"
        train_sb3(chosen.game, chosen.minutes, chosen.seed, theirs)
    curves = {
        "EightBit, preset fast": read_curve(chosen.ours),
        "Stable-Baselines3 DQN": read_curve(theirs),
    }
    picture = chosen.out / f"{chosen.game}-sb3.png"
    title = f"DQN on {chosen.game}, the same machine, one after the other"
    compare_curves(curves, picture, title=title, axes_names=("minutes", "agent_steps"))
    print(summary(curves))
    print(f"written: {picture}")


if __name__ == "__main__":
    main()
