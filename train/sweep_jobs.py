"""Conducts a sweep: starts its runs, watches them, and stops them so that they can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from ..errors import EightBitError, RunFolderError
from .stopping import StopSignal
from .sweep import Sweep, SweepRun, SweepSettings, opened
from .sweep_view import RunLine, SweepView, last_progress

POLL_SECONDS = 0.2
_TAIL = 4096  # bytes of a log in which its last line is looked for


def run_sweep(
    sweep: Sweep,
    settings: SweepSettings,
    out: str | Path | None,
    *,
    view: SweepView | None = None,
) -> int:
    """Trains what is missing of a sweep, and goes on with what is half done.

    Args:
        sweep: the table of runs.
        settings: how many at once, and on which devices.
        out: folder of the sweep; by default a new one in `runs/`.
        view: prints; standard output by default.

    Returns:
        The exit code: 0, 1 where a run failed, or 128 and the signal that stopped the sweep.

    Raises:
        EightBitError: the folder cannot be used, or what is asked for contradicts it.
    """
    view = view or SweepView()
    with opened(sweep, out) as (path, going):
        view.say(f"sweep folder: {path}")
        jobs = _Jobs(going, settings, path, view)
        try:
            with StopSignal(lambda _: view.say("stopping: each run saves ...")).listening() as stop:
                jobs.conduct(stop)
        finally:
            jobs.end()
            view.close()
        return jobs.report(path, stop.number)


@dataclass
class _Child:
    """A run that goes on; `process` is None where another sweep's process trains it."""

    run: SweepRun
    process: subprocess.Popen[bytes] | None
    log: IO[bytes] | None = None
    device: str | None = None


class _Jobs:
    """The runs of one sweep and where they stand."""

    def __init__(self, sweep: Sweep, settings: SweepSettings, path: Path, view: SweepView):
        self.request, self.runs, self.view = sweep.request, sweep.runs(path), view
        self.devices = settings.device_names
        self.states = {run.name: self._first_state(run) for run in self.runs}
        self.reasons: dict[str, str] = {}
        self.children: list[_Child] = []
        self._asked = False  # whether the runs were asked to stop
        waiting = sum(state == "waiting" for state in self.states.values())
        self.jobs = min(settings.jobs or len(self.devices) or 1, max(waiting, 1))
        self._env = _environment(self.jobs, os.environ)
        done = len(self.runs) - waiting
        view.say(f"{len(self.runs)} runs, {done} done before, {self.jobs} at once")

    def conduct(self, stop: StopSignal) -> None:
        """Returns when every run has ended, or all that go on were stopped."""
        while self.children or (self._waiting() and not self._asked):
            if stop.number is not None and not self._asked:
                self._ask_to_stop()
            self._reap()
            while not self._asked and len(self.children) < self.jobs and self._waiting():
                self._start(self._waiting()[0])
            self.view.update(self._lines(), self._counts(), time.monotonic())
            time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Stops what still goes on, and waits for it."""
        self._ask_to_stop()
        for child in self.children:
            if child.process is not None:
                child.process.wait()
            if child.log is not None:
                child.log.close()
        self.children = []

    def report(self, path: Path, signalled: int | None) -> int:
        """Says how the sweep ended, and how to go on; returns the exit code."""
        self.view.say(f"sweep of {len(self.runs)} runs: {self._counts()}")
        for name, reason in self.reasons.items():
            self.view.say(f"failed: {name}: {reason}")
        if set(self.states.values()) <= {"done"}:
            self.view.say(f"next: eightbit evaluate {path}/RUN for each run, then")
            self.view.say(f"      eightbit evaluate {path} --table")
            return 0
        self.view.say(f"go on with: eightbit train --resume {path}")
        return 1 if signalled is None else 128 + signalled

    def _first_state(self, run: SweepRun) -> str:
        try:
            return "done" if run.standing(self.request) == "done" else "waiting"
        except RunFolderError:
            return "waiting"  # which fails when its turn comes, and says why

    def _waiting(self) -> list[SweepRun]:
        return [run for run in self.runs if self.states[run.name] == "waiting"]

    def _start(self, run: SweepRun) -> None:
        """Starts a run, or waits for the process that trains it already."""
        self.states[run.name] = "running"
        if run.in_use():
            self.view.say(f"{run.name} goes on in a process of before: waiting for it")
            self.children.append(_Child(run, None))
            return
        device = self._free_device()
        try:
            words = run.words(self.request, device)
            log = open(run.log, "ab")  # noqa: SIM115  # closed when the process has ended
        except (EightBitError, OSError) as error:
            self._failed(run, str(error))
            return
        log.write(f"$ eightbit {' '.join(words)}\n".encode())
        log.flush()
        self.children.append(_Child(run, _launch(words, log, self._env), log, device))
        self.view.say(f"{run.name} {'goes on' if '--resume' in words else 'begins'}")

    def _free_device(self) -> str | None:
        """The device with the fewest runs; None where none is named."""
        busy = [child.device for child in self.children]
        return min(self.devices, key=busy.count) if self.devices else None

    def _reap(self) -> None:
        """Takes note of the runs that have ended."""
        for child in list(self.children):
            run, process = child.run, child.process
            if process is None:
                if not run.in_use():
                    self.children.remove(child)
                    self.states[run.name] = self._first_state(run)
                continue
            code = process.poll()
            if code is None:
                continue
            if child.log is not None:
                child.log.close()
            self.children.remove(child)
            if code == 0:
                self.states[run.name] = "done"
                self.view.say(f"{run.name} is done")
            elif self._asked or code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
                self.states[run.name] = "stopped"
            else:
                self._failed(run, f"{_last_line(run.log) or f'exit code {code}'} ({run.log})")

    def _failed(self, run: SweepRun, reason: str) -> None:
        self.states[run.name] = "failed"
        self.reasons[run.name] = reason
        self.view.say(f"{run.name} failed: {reason}")

    def _ask_to_stop(self) -> None:
        self._asked = True
        for child in list(self.children):
            if child.process is None:  # not ours to stop
                self.children.remove(child)
                self.states[child.run.name] = "waiting"
            elif child.process.poll() is None and os.name != "nt":  # there Ctrl-C reaches all
                child.process.send_signal(signal.SIGINT)

    def _counts(self) -> str:
        states = list(self.states.values())
        known = ("done", "running", "waiting", "stopped", "failed")
        return ", ".join(f"{states.count(one)} {one}" for one in known if one in states)

    def _lines(self) -> list[RunLine]:
        return [
            RunLine(child.run.name, last_progress(child.run.path), child.run.saved())
            for child in self.children
        ]


def _launch(words: list[str], log: IO[bytes], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts `eightbit` with these words in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "eightbit", *words],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=env,
        # A terminal's Ctrl-C is the sweep's to pass on, once.
        start_new_session=os.name != "nt",
    )


def _environment(jobs: int, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a run that shares the cores with `jobs - 1` others."""
    threads = max(1, _cores() // jobs)
    told = given.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        threads = min(threads, int(told))
    return {**given, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count() or 1


def _last_line(log: Path) -> str:
    """The sentence with which a run failed, from its log."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = file.read().decode(errors="replace").strip().splitlines()
    said = [line.removeprefix("eightbit: ") for line in lines if line.startswith("eightbit: ")]
    return (said or lines or [""])[-1]
