"""The console against ale-py's vectorizer, game by game: frames per second, both with frame skip 4
and observations of 84x84 in grey, four of them stacked."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
from measure import Ratio, Report, Row, arguments, compare, in_turn, rate, settings_of

from eightbit.envs import list_games, make_vec
from eightbit.envs.console import _console

FRAMES_PER_STEP = 4
Work = Callable[[], int]
# The bars of the median and of the worst game.
BARS = {1: (3.0, 1.8), 2: (3.0, None)}


def works(game: str, num_envs: int, threads: int) -> dict[str, Work]:
    """What is timed: a step of all environments, ours and ale-py's, with the same actions."""
    from ale_py import ALEInterface, AtariVectorEnv, LoggerMode

    ALEInterface.setLoggerMode(LoggerMode.Error)
    ours = make_vec(game, num_envs, num_threads=threads, max_frames=108_000)
    theirs = AtariVectorEnv(game, num_envs, num_threads=threads, reward_clipping=False)
    count = int(ours.single_action_space.n)  # type: ignore[attr-defined]  # Discrete
    actions = np.random.default_rng(0).integers(count, size=(1024, num_envs))
    ours.reset(seed=0)
    theirs.reset(seed=0)
    return {"eightbit": _counted(ours.step, actions), "ale-py": _counted(theirs.step, actions)}


def _counted(step: Callable[[np.ndarray], object], actions: np.ndarray) -> Work:
    count = 0

    def work() -> int:
        nonlocal count
        step(actions[count % len(actions)])
        count += 1
        return len(actions[0]) * FRAMES_PER_STEP

    return work


def measure_game(
    report: Report, game: str, num_envs: int, threads: int, repeats: int, seconds: float
) -> Ratio:
    """Adds the rows of a game to the report; returns their ratio."""
    timed = works(game, num_envs, threads)
    for work in timed.values():
        rate(work, seconds / 4)  # the first steps of all games are alike
    taken = in_turn(
        {name: lambda w=work: rate(w, seconds) for name, work in timed.items()}, repeats
    )
    rows = {
        name: Row(
            f"{game}, {name}, {threads} threads",
            name,
            "frames/s",
            values,
            threads,
            num_envs=num_envs,
        )
        for name, values in taken.items()
    }
    report.rows.extend(rows.values())
    ratio = compare(f"{game}, {threads} threads", rows["eightbit"], rows["ale-py"])
    report.ratios.append(ratio)
    return ratio


def main() -> None:
    chosen = arguments(
        "Frames per second of the console and of ale-py's vectorizer, in every game.",
        games="all",
        num_envs=8,
        threads=1,
        seconds=0.4,
        repeats=3,
    )
    suffix = "" if chosen.threads == 1 else f"-{chosen.threads}-threads"
    report = Report("console" + suffix, settings_of(chosen), with_matmul=False)
    report.settings["instructions"] = _console.instructions
    games = list_games() if chosen.games == "all" else chosen.games.split(",")
    ratios = []
    for number, game in enumerate(games, 1):
        ratio = measure_game(
            report, game, chosen.num_envs, chosen.threads, chosen.repeats, chosen.seconds
        )
        ratios.append(ratio)
        print(f"{number}/{len(games)} {game}: {ratio.median:.2f}", flush=True)
    medians = sorted(ratio.median for ratio in ratios)
    bar, worst_bar = BARS.get(chosen.threads, (None, None))
    median, worst = statistics.median(medians), medians[0]
    report.finish(chosen.out)
    print(f"median {median:.2f} (bar {bar}), worst {worst:.2f} (bar {worst_bar})")


if __name__ == "__main__":
    main()
