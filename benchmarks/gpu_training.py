"""Training on an NVIDIA GPU: frames per second of the games, of acting, of learning and of it all.

A row is one part of one agent. "learning" counts the frames that its updates stand for, so that the
seconds per frame of the parts add up to about those of "all of it". From that follows how long
200 M frames of one game take, the length of a run in the literature.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from gymnasium.vector import AutoresetMode
from measure import Report, Row, arguments, numbers, rate, settings_of

from eightbit.agents.dqn import DQN
from eightbit.agents.loop import LoopStep
from eightbit.agents.options import DQNOptions
from eightbit.agents.presets import DQN_PRESETS, PQN_PRESETS
from eightbit.envs import env_options, make_vec
from eightbit.envs.device_steps import DeviceStepper
from eightbit.errors import UsageError

FRAMES = 200_000_000
PARTS = ("games", "acting", "learning", "all of it")


def options_of(agent: str, num_envs: int, batch_size: int) -> DQNOptions:
    """The agent's options with so many environments; PQN makes 32 updates an epoch."""
    if agent == "dqn":
        starts = max(20 * num_envs, 2 * batch_size)
        fast = replace(DQN_PRESETS["fast"], learning_starts=starts, epsilon_steps=0)
        return replace(fast, num_envs=num_envs, batch_size=batch_size)
    pqn = PQN_PRESETS["pqn"]
    batch_size = pqn.rollout_steps * num_envs // 32
    return replace(pqn, num_envs=num_envs, batch_size=batch_size, epsilon_steps=0)


class Parts:
    """The parts of one agent's loop, each as work that says how many frames it was worth.

    Args:
        learner: with environments on a device.
        calls: of each part between two looks at the clock.
    """

    def __init__(self, learner: DQN, calls: int):
        assert isinstance(learner.stepper, DeviceStepper) and learner._side is not None
        self.learner, self.stepper, self.calls = learner, learner.stepper, calls
        self._side = learner._side
        self._steps: Iterator[LoopStep] = learner.steps(1 << 62)
        while not learner.num_updates:
            next(self._steps)
        self.frames = self.stepper.num_envs * self.stepper.frames_per_step
        options = learner.options
        epochs = options.rollout_epochs if options.rollout_steps else options.replay_ratio
        self.frames_an_update = options.batch_size / epochs * self.stepper.frames_per_step

    def work(self, part: str) -> Callable[[], int]:
        """The work of a part; the parts are to be measured in the order of PARTS."""
        if part == "games":
            shape = (self.stepper.num_envs,)
            actions = torch.randint(self.stepper.num_actions, shape, device=self.stepper.device)
            return self._timed(lambda: self.stepper.step(actions), self.frames)
        if part == "acting":
            self._run_until(full=False)
            observations = self.learner.begin()
            return self._timed(lambda: self._side.act(observations, 0.01), self.frames)
        if part == "learning":
            self._run_until(full=True)
            self._side.act(self.learner.begin(), 0.01)  # completes a rollout
            return self._timed(self.learner.update, self.frames_an_update)
        return self._timed(lambda: next(self._steps), self.frames)

    def _run_until(self, full: bool) -> None:
        """Goes on until a rollout is full or not; a replay memory is always right."""
        memory = self._side.memory
        while getattr(memory, "full", full) is not full:
            next(self._steps)

    def _timed(self, work: Callable[[], object], frames: float) -> Callable[[], int]:
        def several() -> int:
            for _ in range(self.calls):
                work()
            if self.stepper.device.type == "cuda":
                torch.cuda.synchronize(self.stepper.device)
            return int(self.calls * frames)

        return several


def measure_agent(
    name: str, learner: DQN, *, seconds: float, repeats: int, calls: int
) -> list[Row]:
    """The rows of one agent."""
    parts, options, rows = Parts(learner, calls), learner.options, []
    for part in PARTS:
        work = parts.work(part)
        work()
        taken = [rate(work, seconds) for _ in range(repeats)]
        row = Row(f"{name}: {part}", "eightbit", "frames/s", taken, 1, learner.precision)
        row = replace(row, num_envs=options.num_envs, batch_size=options.batch_size)
        if part == "all of it":
            captured = parts._side._captured
            row.extra["minutes for 200 M frames"] = FRAMES / row.value / 60
            row.extra["updates as a graph"] = float(bool(captured and captured.captured))
            row.extra["MB of the memory"] = learner.memory_bytes / 1e6
        rows.append(row)
        print(f"{row.name}: {row.value:,.0f} frames/s", flush=True)
    return rows


def main() -> None:
    chosen = arguments(
        "Frames per second of training on an NVIDIA GPU.",
        game="pong",
        dqn_num_envs="64,256",
        dqn_batch_size=256,
        pqn_num_envs="128,1024,4096",
        device="cuda",
        seconds=5.0,
        repeats=3,
    )
    rules, same_step = env_options("mnih2015", training=True), AutoresetMode.SAME_STEP
    report = None
    for agent in ("dqn", "pqn"):
        for num_envs in numbers(getattr(chosen, f"{agent}_num_envs")):
            try:
                env = make_vec(
                    *(chosen.game, num_envs),
                    device=chosen.device,
                    options=rules,
                    autoreset_mode=same_step,
                )
            except UsageError as error:
                print(f"nothing measured: {error}", file=sys.stderr)
                raise SystemExit(error.exit_code) from None
            report = report or Report("gpu_training", settings_of(chosen), with_matmul=False)
            options = options_of(agent, num_envs, chosen.dqn_batch_size)
            learner = DQN(DeviceStepper(env), options, device=chosen.device)
            report.rows += measure_agent(
                f"{agent}, {num_envs:,} games",
                learner,
                seconds=chosen.seconds,
                repeats=chosen.repeats,
                calls=64,
            )
            learner.stepper.close()
    assert report is not None
    report.settings["gpu"] = torch.cuda.get_device_name(chosen.device)
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
