"""Wall time until an agent plays a game at a score, looks included.

Every so many agent steps, once the training return comes near, ten games are played with the
weights of that moment. The first such look that reaches the score is confirmed by thirty games of
other seeds; if those fall short, learning goes on. The clock runs through looks and confirmations,
and starts after imports, compilation and the building of network and games.

    python benchmarks/time_to_score.py pong --score 18 --minutes 30
    python benchmarks/time_to_score.py pong --score 18 --minutes 15 --set td_lambda=0.65
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import shlex
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import commit, machine, matmul_gflops

from eightbit.agents import AGENTS, default_agent
from eightbit.agents.options import DQNOptions
from eightbit.envs import EnvStepper, make_vec
from eightbit.envs.options import Protocol, env_options
from eightbit.evaluate.evaluation import Evaluation, evaluate_policy, start_playing

LOOK_EPISODES, CONFIRM_EPISODES = 10, 30
WINDOW = 30  # training games whose mean decides whether a look is worth its time
CONFIRM_SEED = 10_000  # far from the looks'


def play(agent: Any, game: str, protocol: Protocol, episodes: int, seed: int) -> Evaluation:
    """Greedy games with the protocol's share of random actions."""
    return evaluate_policy(start_playing(agent), game, protocol, episodes=episodes, seed=seed)


def run(chosen: argparse.Namespace, options: DQNOptions) -> dict[str, Any]:
    """Trains until the score is confirmed or the minutes are over."""
    protocol = Protocol(chosen.protocol)
    games = make_vec(chosen.game, options.num_envs, options=env_options(protocol, training=True))
    stepper = EnvStepper(games)
    agent = AGENTS[chosen.agent].load_class()(stepper, options, seed=chosen.seed, device="cpu")
    returns: deque[float] = deque(maxlen=WINDOW)
    curve: list[dict[str, Any]] = []
    started, look_at, looked_for = time.monotonic(), chosen.look_every, 0.0
    result: dict[str, Any] = {"reached": False}

    def minutes() -> float:
        return (time.monotonic() - started) / 60

    for step in agent.steps(1 << 60):
        returns.extend(episode.episode_return for episode in step.record.episodes)
        if minutes() >= chosen.minutes:
            break
        if step.num_timesteps < look_at:
            continue
        look_at += chosen.look_every
        mean = float(np.mean(returns)) if returns else float("nan")
        point = {"minutes": minutes(), "agent_steps": step.num_timesteps, "training_return": mean}
        curve.append(point)
        if mean >= chosen.score - chosen.margin:
            before = minutes()
            look = play(agent, chosen.game, protocol, LOOK_EPISODES, chosen.seed + 1)
            point["look"] = look.score.mean
            if look.score.mean >= chosen.score:
                final = play(agent, chosen.game, protocol, CONFIRM_EPISODES, CONFIRM_SEED)
                point["confirmation"] = final.score.mean
                result |= {"mean": final.score.mean, "interval": list(final.score.interval[:2])}
                result["returns"] = list(final.score.returns)
                result["reached"] = final.score.mean >= chosen.score
            looked_for += minutes() - before
        told = "  ".join(f"{name} {value:,.2f}" for name, value in point.items())
        print(told, flush=True)
        if result["reached"]:
            agent.save(Path(chosen.out).with_suffix(".safetensors"))
            break
    stepper.close()
    return {
        **result,
        "minutes": minutes(),
        "minutes_of_looks": looked_for,
        "agent_steps": agent.num_timesteps,
        "frames": agent.num_timesteps * stepper.frames_per_step,
        "updates": agent.num_updates,
        "precision": agent.precision,
        "curve": curve,
    }


def changed(options: DQNOptions, settings: list[str]) -> DQNOptions:
    """The options with `name=value` settings, values written as in JSON or as plain text."""
    values = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
        if isinstance(getattr(options, name), str):
            values[name] = text
    return dataclasses.replace(options, **values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game")
    parser.add_argument("--agent", default=default_agent((4, 84, 84)))
    parser.add_argument("--preset", default=None)
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--score", type=float, required=True)
    parser.add_argument("--margin", type=float, default=4.0, help="of the training return, to look")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--look-every", type=int, default=50_000, help="agent steps")
    parser.add_argument("--protocol", default="mnih2015")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="time_to_score.json")
    chosen = parser.parse_args()
    spec = AGENTS[chosen.agent]
    preset = chosen.preset or spec.default_preset((4, 84, 84))
    options = changed(spec.presets[preset], chosen.set)
    record = {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "game": chosen.game,
        "agent": chosen.agent,
        "preset": preset,
        "changed": chosen.set,
        "protocol": chosen.protocol,
        "seed": chosen.seed,
        "score": chosen.score,
        **run(chosen, options),
        "options": dataclasses.asdict(options),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "machine": {**machine(), "python": platform.python_version()},
        "matmul_gflops": matmul_gflops(),
    }
    Path(chosen.out).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{'reached' if record['reached'] else 'not reached'} after {record['minutes']:.1f} min")


if __name__ == "__main__":
    main()
