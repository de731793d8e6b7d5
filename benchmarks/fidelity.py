"""Whether the console equals ALE: every game beside it, frame by frame and as vectors.

    python benchmarks/fidelity.py                      all games, about half an hour with two jobs
    python benchmarks/fidelity.py pong --frames 600    one game, some seconds

Nothing is measured but equality: after each frame the RAM, every byte of the screen, reward, lives,
end of the game and both frame numbers; after each step of a vector all that it returns. The exit
status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ale_py
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from eightbit.envs import game_facts, list_games
from eightbit.envs.ale import AleVectorEnv
from eightbit.envs.console import _console
from eightbit.envs.console.cartridges import build_game
from eightbit.envs.console.vector import ConsoleVectorEnv
from eightbit.envs.games import parse_game
from eightbit.envs.options import EnvOptions

if __package__:  # python -m eightbit.benchmarks.fidelity
    from .measure import Report, Row
else:
    from measure import Report, Row

ACTIONS = 18
STICKY = 0.25  # Machado et al. 2018
STATE_HEADER = 16  # bytes of a console's state before the environment and the screens
NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


# ---- Frame by frame ----


class Pair:
    """ALE and a console of ours with the same ROM, switched on with the same seed.

    Args:
        game: canonical name.
        seed: of ALE's random numbers, 0 or more.
        sticky: probability with which a frame repeats the action before.
        rom: file with another ROM, named as ALE names the game's; '' takes ale-py's.
    """

    def __init__(self, game: str, seed: int = 1, sticky: float = 0.0, rom: str = ""):
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(rom or str(ale_py.roms.get_rom_path(game)))
        options = EnvOptions(picture="palette", screen_size=0, sticky=sticky, roms=rom)
        self.console = _console.Console(build_game(game, options, draw_all=True))
        self.console.load(seed)
        self.mode, self.difficulty = game_facts(game).modes[0], 0
        self._ram = np.empty(128, np.uint8)
        self._screen = np.empty(self.ale.getScreenDims(), np.uint8)

    def reset(self, mode: int | None = None, difficulty: int = 0) -> None:
        """Resets both; a mode, and its difficulty, stay chosen until others are."""
        if mode is not None:
            self.mode, self.difficulty = mode, difficulty
            self.ale.setMode(mode)
            self.ale.setDifficulty(difficulty)
        self.ale.reset_game()
        self.console.reset(self.mode, self.difficulty)

    def act(self, action: int, drawn: bool = True) -> str:
        """Plays a frame in both; returns what differs in their rewards, or ''."""
        theirs = self.ale.act(ale_py.Action(action))
        ours = self.console.act(action, drawn)
        return "" if ours == theirs else f"reward {ours}, ALE {theirs}"

    def difference(self) -> str:
        """Returns the first thing in which the two differ now, or ''."""
        pieces = self.console.pieces()
        return self.memory_difference(pieces) or _places(pieces["screen"], self.ale_screen())

    def ale_screen(self) -> np.ndarray:
        """Returns ALE's screen, (height, 160) uint8; the next call writes over it."""
        self.ale.getScreen(self._screen)
        return self._screen

    def memory_difference(self, pieces: dict[str, np.ndarray]) -> str:
        """The same without the screens."""
        self.ale.getRAM(self._ram)
        if not np.array_equal(self._ram, pieces["ram"]):
            at = int(np.flatnonzero(self._ram != pieces["ram"])[0])
            return f"RAM {0x80 + at:02X}: {pieces['ram'][at]:02X}, ALE {self._ram[at]:02X}"
        ours: tuple[Any, ...] = (self.console.lives, self.console.over)
        ours += (self.console.episode_frame_number, self.console.frame_number)
        theirs: tuple[Any, ...] = (self.ale.lives(), self.ale.game_over())
        theirs += (self.ale.getEpisodeFrameNumber(), self.ale.getFrameNumber())
        names = ("lives", "end", "frame of the episode", "frame number")
        for name, mine, other in zip(names, ours, theirs, strict=True):
            if mine != other:
                return f"{name} {mine}, ALE {other}"
        return ""


def _places(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Says how many bytes of two screens, (height, 160) uint8 each, differ, and where the first."""
    if ours.shape != theirs.shape:
        return f"screen of {ours.shape}, ALE {theirs.shape}"
    if np.array_equal(ours, theirs):
        return ""
    rows, columns = np.nonzero(ours != theirs)
    first = f"row {rows[0]}, column {columns[0]}"
    return f"screen: {len(rows)} pixels, first {first}"


@dataclass(frozen=True)
class Outcome:
    """What a comparison found: `count` frames or steps, the last of them with `difference`."""

    count: int
    difference: str = ""


def uniform_actions(seed: int) -> Iterator[int]:
    """Every frame another action."""
    generator = random.Random(seed)
    while True:
        yield generator.randrange(ACTIONS)


def held_actions(seed: int) -> Iterator[int]:
    """Each action in turn for one to five seconds."""
    generator = random.Random(seed)
    while True:
        for action in range(ACTIONS):
            for _ in range(generator.randrange(60, 301)):
                yield action


def noops() -> Iterator[int]:
    """Nobody plays."""
    while True:
        yield 0


def play(pair: Pair, actions: Iterator[int], frames: int) -> Outcome:
    """Plays on, with a reset at each end, until `frames` were compared or something differs."""
    found = pair.difference()
    for frame in range(frames):
        if found:
            return Outcome(frame, f"frame {frame}: {found}")
        found = pair.act(next(actions)) or pair.difference()
        if not found and pair.ale.game_over():
            pair.reset()
            found = pair.difference()
    return Outcome(frames, f"frame {frames}: {found}" if found else "")


def play_modes(game: str, frames: int) -> Outcome:
    """Plays every mode and difficulty that ALE offers, one after the other in one console."""
    facts = game_facts(game)
    pair, played = Pair(game), 0
    for mode in facts.modes:
        for difficulty in facts.difficulties:
            pair.reset(mode, difficulty)
            outcome = play(pair, uniform_actions(mode + difficulty), frames)
            played += outcome.count
            if outcome.difference:
                return Outcome(played, f"mode {mode} {difficulty}, {outcome.difference}")
    return Outcome(played)


def play_partly_drawn(pair: Pair, frames: int, seed: int = 0) -> Outcome:
    """Draws frames at random: that changes no RAM, and what a frame draws is what ALE shows."""
    generator, actions = random.Random(seed), uniform_actions(seed)
    for frame in range(frames):
        drawn = generator.random() < 0.5
        before, action = pair.console.state(), next(actions)
        found = pair.act(action, drawn)
        pieces = pair.console.pieces()
        found = found or pair.memory_difference(pieces)
        if drawn and not found:
            differs = pieces["screen"] != pair.ale_screen()
            if differs.any() and (differs & pixels_drawn(pair.console, before, action)).any():
                found = _places(pieces["screen"], pair.ale_screen())
        if found:
            return Outcome(frame, f"frame {frame}: {found}")
        if pair.ale.game_over():
            pair.reset()
    return Outcome(frames)


def pixels_drawn(console: _console.Console, before: bytes, action: int) -> np.ndarray:
    """Returns which pixels a frame drew, (height, 160) bool; a short frame does not reach all.

    Args:
        console: as it is now, and is again afterwards; without sticky actions.
        before: its state before the frame.
        action: of the frame.
    """
    now, screens_at = console.state(), STATE_HEADER + _console.env_bytes
    shown = []
    for fill in (b"\x00", b"\xff"):
        console.set_state(before[:screens_at] + fill * (len(before) - screens_at))
        console.act(action, True)
        shown.append(console.pieces()["screen"])
    console.set_state(now)
    return shown[0] == shown[1]


# ---- Vectors ----


@dataclass(frozen=True)
class Setting:
    """Options under which two vectors are compared.

    Attributes:
        mode: when a game that has ended begins anew.
        options: changes to `EnvOptions`.
        raw: against `ale_py.AtariVectorEnv` itself and not `AleVectorEnv`.
    """

    mode: AutoresetMode
    options: dict[str, Any] = field(default_factory=dict)
    raw: bool = False


SETTINGS = (
    Setting(NEXT),
    Setting(SAME, {"sticky": STICKY, "full_action_set": True}),
    Setting(DISABLED, {"noop_max": 0, "frame_stack": 3}),
    Setting(NEXT, {"frame_skip": 1, "screen_size": 64}),
    Setting(SAME, {"frame_skip": 2, "frame_stack": 2, "sticky": STICKY}),
    Setting(NEXT, {"frame_skip": 3, "max_pool": False, "screen_size": 96}),
    Setting(SAME, {"frame_skip": 5, "frame_stack": 1, "screen_size": 50, "noop_max": 0}),
    # With NEXT_STEP AleVectorEnv plays on in the step in which it begins a truncated game anew, and
    # what that leaves in RAM can be seen in the next game.
    Setting(DISABLED, {"max_frames": 100, "fire": False}),
    Setting(SAME, {"max_frames": 90, "screen_size": 160}),
    Setting(NEXT, raw=True),
    Setting(NEXT, {"picture": "rgb"}, raw=True),
    Setting(SAME, {"picture": "rgb", "sticky": STICKY, "screen_size": 61}, raw=True),
    Setting(NEXT, {"picture": "rgb", "max_pool": False, "frame_skip": 2}, raw=True),
)


def raw_vector(game: str, num_envs: int, options: EnvOptions, mode: AutoresetMode) -> VectorEnv:
    """Returns ALE's vectorizer with the meaning that our options have."""
    return AtariVectorEnv(
        game,
        num_envs,
        num_threads=1,
        repeat_action_probability=options.sticky,
        full_action_space=options.full_action_set,
        autoreset_mode=mode,
        img_height=options.screen_size,
        img_width=options.screen_size,
        grayscale=options.picture == "grey",
        stack_num=options.frame_stack,
        frameskip=options.frame_skip,
        maxpool=options.max_pool,
        noop_max=options.noop_max + 1,
        use_fire_reset=options.fire,
        reward_clipping=False,
    )


def play_vectors(game: str, setting: Setting, steps: int, seed: int = 5) -> Outcome:
    """Steps two rows of a game in both backends; `steps` is at least 1."""
    options = EnvOptions(**{"rng": "ale", "num_threads": 1, **setting.options})
    ours = ConsoleVectorEnv(game, 2, options, setting.mode)
    theirs = (raw_vector if setting.raw else AleVectorEnv)(game, 2, options, setting.mode)
    generator, actions = np.random.default_rng(seed), int(ours.single_action_space.n)
    found = _step_difference(theirs.reset(seed=seed), ours.reset(seed=seed))
    step = 0
    while not found and step < steps:
        step += 1
        mine = ours.step(generator.integers(actions, size=2))
        # FIRE after a lost life is ours; the raw vectorizer is told of it.
        other = theirs.step(mine[4]["executed_action"])
        found = _step_difference(other, mine)
        ended = mine[2] | mine[3]
        if setting.mode == DISABLED and ended.any() and not found:
            mask = {"reset_mask": ended}
            found = _step_difference(theirs.reset(options=mask), ours.reset(options=mask))
    ours.close()
    theirs.close()
    return Outcome(2 * step, f"step {step}: {found}" if found else "")


def _step_difference(theirs: tuple[Any, ...], ours: tuple[Any, ...]) -> str:
    """Compares what two resets or steps returned, and the infos that both tell."""
    names = ("observations", "rewards", "terminated", "truncated")
    for name, other, mine in zip(names, theirs[:-1], ours[:-1], strict=False):
        if not np.array_equal(other, mine):
            rows = [row for row in range(len(mine)) if not np.array_equal(other[row], mine[row])]
            count = int((np.asarray(other) != np.asarray(mine)).sum())
            return f"{name}: {count} values, rows {rows}"
    infos, other_infos = ours[-1], theirs[-1]
    for name in sorted(infos.keys() & other_infos.keys()):
        final = name.lstrip("_").startswith("final_")
        if not final and not np.array_equal(infos[name], other_infos[name]):
            return f"{name} {infos[name].tolist()}, ALE {other_infos[name].tolist()}"
    for row in np.flatnonzero(infos.get("_final_obs", ())):
        if not np.array_equal(infos["final_obs"][row], other_infos["final_obs"][row]):
            return f"final_obs of row {row}"
    return ""


# ---- All of it ----


@dataclass(frozen=True)
class Job:
    """A comparison of one game; `what` is its column in the table."""

    game: str
    what: str
    number: int  # which of its kind
    count: int  # frames, or steps of a vector


PLAYED: dict[str, Callable[[Job], Outcome]] = {
    "no-ops": lambda job: play(Pair(job.game), noops(), job.count),
    "random": lambda job: play(
        Pair(job.game, 1 + job.number), uniform_actions(job.number), job.count
    ),
    "held": lambda job: play(Pair(job.game), held_actions(job.number), job.count),
    "sticky": lambda job: play(
        Pair(job.game, 7 + job.number, STICKY), uniform_actions(job.number), job.count
    ),
    "partly drawn": lambda job: play_partly_drawn(Pair(job.game), job.count),
    "modes": lambda job: play_modes(job.game, job.count),
    "vectors": lambda job: play_vectors(job.game, SETTINGS[job.number], job.count),
}


def jobs_of(games: Sequence[str], chosen: argparse.Namespace) -> list[Job]:
    """Returns what is to be done, the longest first, so that no process is left over alone."""
    times = {"no-ops": 1, "random": 5, "held": 1, "sticky": 1, "partly drawn": 1, "modes": 1}
    times["vectors"] = len(SETTINGS)
    counts = dict.fromkeys(times, chosen.frames)
    counts["modes"], counts["vectors"] = chosen.mode_frames, chosen.steps
    jobs = [
        Job(game, what, number, counts[what])
        for game in games
        for what in PLAYED
        for number in range(times[what])
        if counts[what] > 0
    ]
    return sorted(jobs, key=lambda job: -_weight(job))


def _weight(job: Job) -> int:
    """About how many frames a job plays."""
    if job.what == "modes":
        facts = game_facts(job.game)
        return (300 + job.count) * len(facts.modes) * len(facts.difficulties)
    return 20 * job.count if job.what == "vectors" else job.count


def run_job(job: Job) -> Outcome:
    """Runs one comparison; where it ends in an error, that is the difference."""
    try:
        return PLAYED[job.what](job)
    except Exception as error:
        return Outcome(0, f"{type(error).__name__}: {error}")


def run_jobs(jobs: Sequence[Job], processes: int) -> dict[Job, Outcome]:
    """Runs all jobs and shows how far they are. The end of a process does not end the others."""
    outcomes: dict[Job, Outcome] = {}
    terminal = Terminal(stderr=True)
    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal) as progress:
        task = progress.add_task("", total=sum(_weight(job) for job in jobs))
        left = deque(jobs)
        while left:
            for job, outcome in _run_until_one_dies(left, processes):
                outcomes[job] = outcome
                progress.advance(task, _weight(job))
                if outcome.difference:
                    terminal.print(f"{job.game}, {job.what} {job.number}: {outcome.difference}")
    return outcomes


def _run_until_one_dies(left: deque[Job], processes: int) -> Iterator[tuple[Job, Outcome]]:
    """Takes jobs out of `left` and yields their outcomes; ends when none is left or one crashed."""
    context = multiprocessing.get_context("spawn")
    running: dict[Future[Outcome], Job] = {}
    crashed = False
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        while running or (left and not crashed):
            while left and len(running) < processes and not crashed:
                job = left.popleft()
                running[pool.submit(run_job, job)] = job
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                failed = isinstance(done.exception(), BrokenProcessPool)
                crashed = crashed or failed
                yield running.pop(done), Outcome(0, "CRASH") if failed else done.result()


def print_table(games: Sequence[str], outcomes: dict[Job, Outcome]) -> None:
    """Prints for each game and kind of comparison "equal", or its first difference."""
    terminal = Terminal()
    if not terminal.is_terminal:
        terminal.width = 200  # a log has no edge
    table = Table("game", *PLAYED, title="the console beside ALE")
    for game in games:
        cells = []
        for what in PLAYED:
            mine = [one for job, one in outcomes.items() if (job.game, job.what) == (game, what)]
            bad = [one.difference for one in mine if one.difference]
            cells.append(bad[0] if bad else "equal" if mine else "")
        table.add_row(game, *cells)
    terminal.print(table)


def record(chosen: argparse.Namespace, outcomes: dict[Job, Outcome]) -> dict[str, Any]:
    """Returns the record as the other benchmarks write theirs, and each game's differences."""
    settings = {name: value for name, value in vars(chosen).items() if name != "out"}
    report = Report("fidelity", settings, with_matmul=False)
    for what in dict.fromkeys(job.what for job in outcomes):
        mine = {job: one for job, one in outcomes.items() if job.what == what}
        unequal = {job.game for job, one in mine.items() if one.difference}
        games = {job.game for job in mine}
        unit = "steps of environments" if what == "vectors" else "frames"
        compared = float(max(1, sum(one.count for one in mine.values())))
        counts = {"games": float(len(games)), "games equal": float(len(games - unequal))}
        report.rows.append(Row(what, "eightbit", unit, [compared], chosen.jobs, extra=counts))
    differences = [
        {"game": job.game, "what": job.what, "number": job.number, "difference": one.difference}
        for job, one in outcomes.items()
        if one.difference
    ]
    return {**report.record(), "differences": differences}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Plays every game beside ALE and tells where the console differs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("games", nargs="*", help="games to play; none for all")
    parser.add_argument("--frames", type=int, default=10_000, help="of each of nine runs a game")
    parser.add_argument("--mode-frames", type=int, default=600, help="of each mode and difficulty")
    parser.add_argument("--steps", type=int, default=100, help="of each setting of the vectors")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=None, help="file of the record (JSON)")
    chosen = parser.parse_args(arguments)
    chosen.games = [parse_game(game).name for game in chosen.games]
    return chosen


def main() -> int:
    """Compares, prints and records; returns the exit status."""
    chosen = parse()
    games = chosen.games or list_games()
    start = time.perf_counter()
    outcomes = run_jobs(jobs_of(games, chosen), chosen.jobs)
    print_table(games, outcomes)
    unequal = {job.game for job, one in outcomes.items() if one.difference}
    minutes = (time.perf_counter() - start) / 60
    print(f"{len(games) - len(unequal)} of {len(games)} games equal ALE ({minutes:.1f} minutes)")
    if chosen.out is not None:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record(chosen, outcomes), indent=2) + "\n"
        chosen.out.write_text(text, encoding="utf-8")
        print(f"written: {chosen.out}")
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())
