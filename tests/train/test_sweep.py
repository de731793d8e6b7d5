"""Sweeps: what is planned, what is refused, and that nothing is lost when one is stopped."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from eightbit.agents import AGENTS
from eightbit.errors import RunFolderError, UsageError
from eightbit.train import sweep as sweeps
from eightbit.train import sweep_jobs
from eightbit.train.runs import CONFIG, RunFolder, read_config
from eightbit.train.session import MAX_SEED, RunRequest
from eightbit.train.sweep import SWEEP, Sweep, SweepRun, SweepSettings, opened, planned_sweep
from eightbit.train.sweep_jobs import run_sweep
from eightbit.train.sweep_view import RunLine, SweepView, last_progress

from .conftest import TINY

OPTIONS = AGENTS["dqn"].presets["fast"]


def request_of(**told) -> RunRequest:
    return RunRequest(**{"game": "catch", "agent": "dqn", "frames": 240, **told})


def sweep_of(*games: str, seeds: int = 2, **told) -> Sweep:
    return Sweep(request_of(**told), OPTIONS, games or ("catch",), seeds)


def a_run(path: Path, finished_run: Path) -> None:
    """A run of 280 frames with checkpoints, as the sweep's own would be."""
    shutil.copytree(finished_run, path)


class Told:
    """A view that keeps what it says."""

    def __init__(self):
        self.text = io.StringIO()
        self.view = SweepView(Console(file=self.text, width=200, soft_wrap=True))

    @property
    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()


@pytest.fixture
def told() -> Told:
    return Told()


# ---------------------------------------------------------------------------------- plans


def test_every_game_has_every_seed_in_a_folder_that_tells_them(tmp_path):
    runs = sweep_of("pong", "breakout", seeds=2, seed=3).runs(tmp_path)
    assert [run.name for run in runs] == [
        "pong-dqn-fast-3",
        "breakout-dqn-fast-3",
        "pong-dqn-fast-4",
        "breakout-dqn-fast-4",
    ]
    assert runs[0].path == tmp_path / "pong-dqn-fast-3"
    (cart,) = sweep_of("gym:CartPole-v1", seeds=1).runs(tmp_path)
    assert cart.name == "CartPole-v1-dqn-fast-0" and cart.game == "gym:CartPole-v1"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sweep_of("pong", "pong"), "pong is named twice; --seeds gives"),
        (lambda: sweep_of("pong", "gym:CartPole-v1"), "in sweeps of their own"),
        (lambda: sweep_of("pong", seed=MAX_SEED), "end above 999,999,999"),
        (lambda: SweepSettings(seeds=0), "seeds is 0; it must be at least 1"),
        (lambda: SweepSettings(jobs=-1), "jobs is -1; it must be at least 1"),
        (lambda: SweepSettings(devices="cuda:0,cuda:0"), "name each device once"),
        (lambda: SweepSettings(devices="cuda:0,"), "name each device once"),
        (
            lambda: planned_sweep(
                request_of(device="cpu"), OPTIONS, ["pong"], 2, SweepSettings(devices="cuda:0")
            ),
            "--device cpu and --devices cuda:0 are both given",
        ),
    ],
)
def test_tables_that_make_no_sweep_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_run_begins_with_the_settings_of_the_sweep_and_a_seed_of_its_own(tmp_path):
    run = SweepRun("a", "pong", 7, tmp_path)
    assert run.standing(request_of()) == "missing"
    words = run.words(request_of(), "cuda:1")
    assert words[:4] == ["train", "pong", "--config", str(tmp_path / SWEEP)]
    assert words[4:] == f"--seed 7 --seeds 1 --out {tmp_path / 'a'} --device cuda:1".split()


def test_where_a_run_stands_is_read_from_its_folder(tmp_path, finished_run):
    run = SweepRun("a", "catch", 0, tmp_path)
    a_run(run.path, finished_run)
    assert run.standing(request_of(frames=None)) == "done"  # the run's own length, 280
    assert run.standing(request_of(frames=280)) == "done"
    assert run.standing(request_of(frames=284)) == "half"
    assert run.standing(request_of(frames=None, minutes=1e-4)) == "done"
    words = run.words(request_of(frames=284, device="cpu"), None)
    assert words == ["train", "--resume", str(run.path), "--frames", "284"]
    shutil.rmtree(run.path / "checkpoints")
    assert run.standing(request_of()) == "begun"
    assert "--config" in run.words(request_of(), None) and not run.path.exists()


def test_a_resumed_run_is_told_what_has_changed_alone(tmp_path, finished_run):
    run = SweepRun("a", "catch", 0, tmp_path)
    a_run(run.path, finished_run)
    request = request_of(frames=300, minutes=9.0, checkpoint_minutes=2.0, log_style="both")
    wanted = "--frames 300 --minutes 9.0 --device cuda:0 --checkpoint-minutes 2.0 --log-style both"
    assert " ".join(run.words(request, "cuda:0")[3:]) == wanted


def test_threads_are_divided_among_the_jobs(monkeypatch):
    monkeypatch.setattr(sweep_jobs, "_cores", lambda: 8)
    assert sweep_jobs._environment(2, {})["OMP_NUM_THREADS"] == "4"
    assert sweep_jobs._environment(16, {})["OMP_NUM_THREADS"] == "1"
    assert sweep_jobs._environment(2, {"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "3"
    assert sweep_jobs._environment(2, {"OMP_NUM_THREADS": "64", "A": "b"})["A"] == "b"
    assert sweep_jobs._environment(2, {"OMP_NUM_THREADS": "64"})["OMP_NUM_THREADS"] == "4"


# ------------------------------------------------------------------------------ going on


def begun(tmp_path: Path, finished_run: Path, sweep: Sweep) -> Path:
    """The folder of a sweep of which one run has begun."""
    with opened(sweep, tmp_path / "S") as (path, _):
        a_run(path / "catch-dqn-fast-0", finished_run)
    return path


def test_a_sweep_goes_on_with_the_length_it_had(tmp_path, finished_run):
    path = begun(tmp_path, finished_run, sweep_of())
    with opened(sweep_of(frames=None), path) as (_, going):
        assert going.request.frames == 240
    with opened(sweep_of("catch", "pong", seeds=4, frames=500), path):
        table = read_config(path / SWEEP)
    assert table["sweep"] == {"games": ["catch", "pong"], "seeds": 4}
    assert table["run"]["frames"] == 500


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (sweep_of(seed=1), "seed is 0 in .*S and 1 is asked for; it cannot change when a sweep"),
        (sweep_of(preset="demo"), "preset is fast in .*S and demo is asked for"),
        (sweep_of(protocol=sweeps.RunRequest(protocol="zoo").protocol), "protocol is mnih2015"),
        (
            Sweep(request_of(), AGENTS["dqn"].presets["demo"], ("catch",), 2),
            "backbone is nature in .*S and nips2013 is asked for",
        ),
        (sweep_of("pong"), "catch is not among the games asked for; a sweep may get more games"),
        (sweep_of(seeds=1), "seeds is 2 in .*S and 1 is asked for; a sweep may get longer"),
        (sweep_of(frames=100), "frames is 240 in .*S and 100 is asked for"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, finished_run, other, message):
    path = begun(tmp_path, finished_run, sweep_of())
    before = (path / SWEEP).read_bytes()
    with pytest.raises(UsageError, match=message), opened(other, path):
        pass
    assert (path / SWEEP).read_bytes() == before


def test_settings_may_change_while_no_run_has_begun(tmp_path):
    with opened(sweep_of(), tmp_path / "S"):
        pass
    with opened(sweep_of("pong", seed=5), tmp_path / "S") as (path, _):
        assert read_config(path / SWEEP)["run"]["seed"] == 5


def test_a_folder_of_something_else_or_in_use_is_refused(tmp_path, finished_run):
    a_run(tmp_path / "run", finished_run)
    message = "run exists already and is no sweep"
    with pytest.raises(RunFolderError, match=message), opened(sweep_of(), tmp_path / "run"):
        pass
    with opened(sweep_of(), tmp_path / "S"):
        message = f"S is in use by process {os.getpid()}: wait for it"
        with pytest.raises(RunFolderError, match=message), opened(sweep_of(), tmp_path / "S"):
            pass


# ---------------------------------------------------------------- processes, real and not


class Script:
    """Stands in for the runs: what each process does is a few lines of Python."""

    def __init__(self, monkeypatch, lines: str):
        self.started: list[list[str]] = []
        self.most_at_once = 0
        running: list[subprocess.Popen] = []

        def launch(words, log, env):
            self.started.append(words)
            told = [sys.executable, "-S", "-c", lines, *words]
            process = subprocess.Popen(told, stdout=log, stderr=log, env=env)
            running[:] = [one for one in running if one.poll() is None] + [process]
            self.most_at_once = max(self.most_at_once, len(running))
            return process

        monkeypatch.setattr(sweep_jobs, "_launch", launch)
        monkeypatch.setattr(sweep_jobs, "POLL_SECONDS", 0.02)


def test_no_more_runs_go_on_at_once_than_are_asked_for(tmp_path, told, monkeypatch):
    script = Script(monkeypatch, "import time; time.sleep(0.1)")
    code = run_sweep(sweep_of(seeds=5), SweepSettings(jobs=2), tmp_path / "S", view=told.view)
    assert code == 0 and len(script.started) == 5 and script.most_at_once == 2
    assert told.lines[-3:-1] == [
        "sweep of 5 runs: 5 done",
        f"next: eightbit evaluate {tmp_path / 'S'}/RUN for each run, then",
    ]


def test_runs_are_spread_over_the_devices(tmp_path, told, monkeypatch):
    script = Script(monkeypatch, "import time; time.sleep(0.1)")
    settings = SweepSettings(devices="cuda:0,cuda:1")
    run_sweep(sweep_of(seeds=4), settings, tmp_path / "S", view=told.view)
    assert script.most_at_once == 2
    used = [words[words.index("--device") + 1] for words in script.started]
    assert sorted(used) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"] and used[0] != used[1]


def test_a_run_that_fails_is_named_with_its_reason_and_the_others_go_on(
    tmp_path, told, monkeypatch
):
    line = (
        "import sys; bad = '--seed 1 ' in ' '.join(sys.argv)\n"
        "if bad: print('noise'); print('eightbit: the loss is no number.'); print('more')\n"
        "sys.exit(bad)"
    )
    script = Script(monkeypatch, line)
    code = run_sweep(sweep_of(seeds=3), SweepSettings(), tmp_path / "S", view=told.view)
    assert code == 1 and len(script.started) == 3
    log = tmp_path / "S" / "logs" / "catch-dqn-fast-1.log"
    assert told.lines[-3:] == [
        "sweep of 3 runs: 2 done, 1 failed",
        f"failed: catch-dqn-fast-1: the loss is no number. ({log})",
        f"go on with: eightbit train --resume {tmp_path / 'S'}",
    ]
    assert log.read_text().startswith("$ eightbit train catch --config ")


HOLD = """
import fcntl, sys, time
with open(sys.argv[1], "a+b") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(0.5)
"""


def test_a_run_that_another_process_trains_is_waited_for(tmp_path, told, finished_run, monkeypatch):
    """Of a sweep that was killed, the runs go on; here the one still needs 20 frames."""
    sweep = sweep_of(seeds=1, frames=300)
    path = begun(tmp_path, finished_run, sweep)
    script = Script(monkeypatch, "")
    lock = path / "catch-dqn-fast-0" / ".lock"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLD, lock], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        began = time.monotonic()
        assert run_sweep(sweep, SweepSettings(), path, view=told.view) == 0
        assert time.monotonic() - began > 0.3
    assert "catch-dqn-fast-0 goes on in a process of before: waiting for it" in told.lines
    assert [words[:2] for words in script.started] == [["train", "--resume"]]


def test_a_sweep_that_is_interrupted_goes_on_where_it_stood(eightbit, tmp_path):
    """Ctrl-C in the midst of the first of two runs; then the same command again."""
    folder = tmp_path / "S"
    words = ["train", "catch", "--seeds", "2", *TINY, "--out", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "eightbit", *words, "--frames", "10M"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    first, second = (folder / f"catch-dqn-fast-{seed}" for seed in (0, 1))
    while not (first / "events").is_dir():  # made when training begins
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "stopping: each run saves ...\nsweep of 2 runs: 1 waiting, 1 stopped\n" in out
    assert out.endswith(f"go on with: eightbit train --resume {folder}\n")
    step = RunFolder.open(first).checkpoints.steps()[-1].step
    assert step > 0 and not second.exists()

    refused = eightbit("train", "--resume", folder, "--n-step", 2)
    assert refused.code == 2
    assert re.search(r"n_step is 3 in \S+ and 2 is asked for", refused.err)
    for file in (folder / SWEEP, first / CONFIG):  # as though the goal had been near
        text = file.read_text()
        file.write_text(text.replace("frames = 10000000\n", f"frames = {step + 40}\n"))
    answer = eightbit(*words, "--frames", step + 40, "--jobs", 2)
    assert (answer.code, answer.err) == (0, "")
    assert f"{first.name} goes on\n" in answer.out and f"{second.name} begins\n" in answer.out
    for run in (first, second):
        assert RunFolder.open(run).checkpoints.steps()[-1].step == step + 40
    again = eightbit("train", "--resume", folder)
    assert again.code == 0 and "2 runs, 2 done before" in again.out


# ------------------------------------------------------------------------- the command


@pytest.fixture
def conducted(monkeypatch):
    """The sweeps that a command would conduct."""
    seen: list[tuple[Sweep, SweepSettings, str | None]] = []

    def run_sweep(sweep, settings, out):
        seen.append((sweep, settings, out))
        return 0

    monkeypatch.setattr(sweep_jobs, "run_sweep", run_sweep)
    return seen


def test_several_games_or_seeds_make_a_sweep(eightbit, conducted):
    told = "Pong --frames 2M ALE/Breakout-v5 --double --seeds 5 qbert --jobs 2 --agent dqn --out S"
    assert eightbit("train", *told.split()).code == 0
    sweep, settings, out = conducted[0]
    assert sweep.games == ("pong", "breakout", "qbert") and sweep.seeds == 5
    assert (sweep.request.frames, sweep.request.agent) == (2_000_000, "dqn")
    assert (sweep.options.double, settings.jobs, out) == (True, 2, "S")
    assert eightbit("train", "pong", "breakout").code == 0 and conducted[1][0].seeds == 1
    assert eightbit("train", "pong", "--seeds", 3).code == 0
    assert (conducted[2][0].games, conducted[2][0].seeds) == (("pong",), 3)


def test_a_sweep_is_repeated_from_its_file(eightbit, conducted, tmp_path):
    with opened(sweep_of("pong", "qbert", seeds=3, seed=4), tmp_path / "S") as (path, _):
        pass
    assert eightbit("train", "--config", path / SWEEP, "--out", "T").code == 0
    assert eightbit("train", "--resume", path, "--jobs", 2).code == 0
    for sweep, _, out in conducted:
        assert (sweep.games, sweep.seeds, sweep.request.seed) == (("pong", "qbert"), 3, 4)
        assert out in ("T", str(path))


def test_one_game_with_one_seed_is_a_run(train, conducted, tmp_path):
    answer = train("catch", "--seeds", 1, "--jobs", 4, "--frames", 80, "--out", tmp_path / "run")
    assert answer.code == 0 and not conducted
    assert (tmp_path / "run" / CONFIG).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pong pnog", "unknown game 'pnog': did you mean pong"),
        ("pong --seeds 0", "seeds is 0; it must be at least 1"),
        ("pong --devices cuda:0,cuda:1", "--devices is for several runs; give one run its"),
        ("pong breakout --lerning-rate 3", "unknown option '--lerning-rate'"),
        ("pong breakout --frames", "--frames needs a value"),
    ],
)
def test_wrong_words_of_a_sweep_are_answered(eightbit, conducted, words, message):
    answer = eightbit("train", *words.split())
    assert answer.code == 2 and re.search(message, answer.err), answer
    assert not conducted


def test_a_run_does_not_become_a_sweep(eightbit, run_folder):
    answer = eightbit("train", "--resume", run_folder, "--seeds", 2)
    assert answer.code == 2 and "is one run: leave other games and --seeds out" in answer.err


# ------------------------------------------------------------------------- what is shown


def test_the_last_whole_row_tells_where_a_run_stands(tmp_path):
    assert last_progress(tmp_path) == {}
    head = "minutes,agent_steps,frames,mean_return,fps\n"
    (tmp_path / "progress.csv").write_text(head)
    assert last_progress(tmp_path) == {}
    rows = "".join(f"1,{step},{4 * step},,100\n" for step in range(100, 3000))
    (tmp_path / "progress.csv").write_text(f"{head}{rows}2,5000,20000,1.5,100\n9,99")
    now = last_progress(tmp_path)
    assert (now["frames"], now["mean_return"]) == ("20000", "1.5")
    cells = RunLine("a", now, request_of(frames=40_000)).cells()
    assert cells == ["a", "20,000", "50%", "1.50", "400", "50 s"]
    until = RunLine("a", now, request_of(frames=None, minutes=8.0)).cells()
    assert until[2] == "25%" and until[5] == "6 min"
    assert RunLine("a", {}, None).cells()[1] == "begins"


def test_a_terminal_shows_a_table_and_a_log_a_line_every_half_minute():
    now = {"minutes": "1", "agent_steps": "10", "frames": "40", "fps": "5"}
    lines = [RunLine("one", now, request_of(frames=80)), RunLine("two", {}, None)]
    text = io.StringIO()
    view = SweepView(Console(file=text, width=100, soft_wrap=True))
    for second in range(0, 65):
        view.update(lines, "2 running", float(second))
    assert text.getvalue().count("one  40 frames  50%  return -  20 frames/s  2 s left") == 2
    assert text.getvalue().count("two  begins\n") == 2
    shown = io.StringIO()
    view = SweepView(Console(file=shown, width=100, force_terminal=True))
    view.update(lines, "2 running", 0.0)
    view.close()
    assert "frames/s" in shown.getvalue() and "2 running" in shown.getvalue()


# -------------------------------------------------------------------------------- the page


def test_the_commands_of_the_page_are_understood(eightbit, conducted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "docs" / "sweeps.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    commands = [line.split()[1:] for block in blocks for line in block.splitlines()]
    trained = [words for words in commands if words[0] == "train"]
    assert len(commands) == 6 and len(trained) == 4
    for words in trained:
        if not Path("runs/three", SWEEP).is_file():
            assert eightbit(*words).code == 0
            with opened(conducted[0][0], conducted[0][2]):
                pass  # the folder that the other commands are about
        assert eightbit(*words).code == 0, words
    assert {out for _, _, out in conducted} == {"runs/three", "runs/again"}
    for sweep, _, _ in conducted:
        assert sweep.games == ("pong", "breakout", "qbert") and sweep.seeds == 5
        assert sweep.runs(Path("runs/three"))[0].name == "pong-pqn-fast-0"
    for words in commands:
        if words[0] == "evaluate":
            answer = eightbit(*words)
            assert answer.code == 1 and re.search("no run", answer.err)
