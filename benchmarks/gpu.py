"""The console on an NVIDIA GPU: frames per second without learning, what they are spent on, memory.

A row is one game and one number of machines. Its rate is that of whole steps: actions that lie on
the GPU in, observations that stay there out. "processor" is the share of the machines' time with
nothing drawn (collisions are found nevertheless), "drawing" is what pixels add to it, "observation"
pools, resizes and stacks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from measure import Report, Row, arguments, in_turn, numbers, rate, settings_of

from eightbit.envs import EnvOptions
from eightbit.envs.console import _console
from eightbit.envs.console.cartridges import build_game
from eightbit.envs.console.gpu import ConsoleGpuVectorEnv
from eightbit.envs.console.gpu_kernels import CudaKernels, Kernels, Work
from eightbit.errors import UsageError

STORAGES = ("local", "shared")
STEPS = 4  # between two looks at the clock
WARM_UP = 100  # the first steps of all games are alike


def works(env: ConsoleGpuVectorEnv, kernels: Kernels) -> dict[str, Callable[[], int]]:
    """What is timed: whole steps, and their parts by themselves."""
    generator = torch.Generator(device=env.device).manual_seed(0)
    count = int(env.single_action_space.n)  # type: ignore[attr-defined]  # Discrete
    shape = (64, env.num_envs)
    actions = torch.randint(count, shape, generator=generator, device=env.device)
    results = torch.zeros(64 * env.num_envs, dtype=torch.uint8, device=env.device)
    observations, _ = env.reset(seed=0)
    for step in range(WARM_UP):
        env.step(actions[step % 64])
    calls = 0

    def given() -> torch.Tensor:
        nonlocal calls
        calls += 1
        return actions[calls % 64]

    def play(draws: bool) -> None:
        address = given().data_ptr()
        env.batch.play(Work.STEP, actions=address, results=results.data_ptr(), draws=draws)

    def timed(part: Callable[[], object]) -> Callable[[], int]:
        def work() -> int:
            for _ in range(STEPS):
                part()
            kernels.wait()
            return STEPS * env.num_envs * env.options.frame_skip

        return work

    return {
        "step": timed(lambda: env.step(given())),
        "machines": timed(lambda: play(True)),
        "undrawn": timed(lambda: play(False)),
        "observation": timed(lambda: env.batch.observe(observations)),
    }


def measure_game(
    kernels: Kernels, name: str, game: str, num_envs: int, lanes: int, chosen: Any
) -> Row:
    """Times one game; the row's extras are the shares and the memory."""
    env = ConsoleGpuVectorEnv(game, num_envs, EnvOptions(), kernels=kernels, lanes=lanes)
    parts = works(env, kernels)
    taken = in_turn(
        {part: lambda work=work: rate(work, chosen.seconds) for part, work in parts.items()},
        chosen.repeats,
    )
    seconds = {part: 1 / sorted(rates)[len(rates) // 2] for part, rates in taken.items()}
    whole = seconds["machines"] + seconds["observation"]
    undrawn = min(seconds["undrawn"], seconds["machines"])
    memory = env.memory
    extra = {
        "machines a warp": float(env.lanes),
        "processor": undrawn / whole,
        "drawing": (seconds["machines"] - undrawn) / whole,
        "observation": seconds["observation"] / whole,
        "bytes of a machine": float(memory["machine"]),
        "bytes of its screens and stack": float(memory["screens"] + memory["frame stack"]),
        "MB of the game": memory["all games"] / 1e6,
    }
    env.close()
    return Row(name, "eightbit", "frames/s", taken["step"], 1, num_envs=num_envs, extra=extra)


def cuda_kernels(device: str) -> dict[str, CudaKernels]:
    """The kernels with the machines in local memory and in shared memory."""
    setup_bytes = len(build_game("pong", EnvOptions()).setup_bytes())
    return {
        storage: CudaKernels(
            device, _console.env_bytes, setup_bytes, shared_envs=storage == "shared"
        )
        for storage in STORAGES
    }


def main() -> None:
    chosen = arguments(
        "Frames per second of the console on an NVIDIA GPU.",
        games="pong,breakout,space_invaders,seaquest,montezuma_revenge",
        num_envs="4096,16384,32768",
        device="cuda",
        tuning_num_envs=16384,
        tuning_lanes="4,8,16,32",
        seconds=2.0,
        repeats=3,
    )
    try:
        kernels = cuda_kernels(chosen.device)
    except UsageError as error:
        print(f"nothing measured: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    report = Report("gpu", settings_of(chosen), with_matmul=False)
    report.settings["gpu"] = torch.cuda.get_device_name(kernels["local"].device)
    games = chosen.games.split(",")
    for game in games:
        for num_envs in numbers(chosen.num_envs):
            name = f"{game}, {num_envs:,} machines"
            report.rows.append(measure_game(kernels["local"], name, game, num_envs, 0, chosen))
            print(f"{name}: {report.rows[-1].value:,.0f} frames/s", flush=True)
    for storage, each in kernels.items():
        for lanes in numbers(chosen.tuning_lanes):
            number = chosen.tuning_num_envs
            name = f"{games[0]}, {number:,} machines, {lanes} a warp, in {storage} memory"
            row = measure_game(each, name, games[0], number, lanes, chosen)
            row.extra["registers"] = float(each.registers)
            row.extra["compile or load, s"] = each.compile_seconds
            report.rows.append(row)
            print(f"{name}: {row.value:,.0f} frames/s", flush=True)
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
