"""What a person sees of a sweep: a table that changes, or a few lines now and then in a log."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .reporting import PLAIN_SECONDS, duration, short
from .session import RunRequest

_TAIL = 2048  # bytes of progress.csv in which its last row is looked for
REFRESH_SECONDS = 1.0


@dataclass(frozen=True)
class RunLine:
    """A run that goes on.

    Attributes:
        name: of its folder.
        progress: the last row of its progress.csv; empty before the first.
        request: what it was asked for; None before it has begun.
    """

    name: str
    progress: Mapping[str, str]
    request: RunRequest | None

    def cells(self) -> list[str]:
        """Name, frames, share, return, frames a second and the time that is left."""
        now = {key: float(value) for key, value in self.progress.items() if value}
        if "frames" not in now or not now.get("agent_steps"):
            return [self.name, "begins", "", "", "", ""]
        speed = now.get("fps", 0.0) * now["frames"] / now["agent_steps"]
        share, left = self._ahead(now, speed)
        return [
            self.name,
            f"{now['frames']:,.0f}",
            f"{share:.0%}",
            short(now["mean_return"]) if "mean_return" in now else "-",
            f"{speed:,.0f}",
            duration(left),
        ]

    def _ahead(self, now: Mapping[str, float], speed: float) -> tuple[float, float | None]:
        """The share that is done, and the seconds that are left where they are known."""
        share, left = 0.0, None
        if self.request is not None and self.request.frames:
            share = now["frames"] / self.request.frames
            left = max(self.request.frames - now["frames"], 0.0) / speed if speed else None
        if self.request is not None and self.request.minutes:
            share = max(share, now["minutes"] / self.request.minutes)
            until = max(self.request.minutes - now["minutes"], 0.0) * 60
            left = until if left is None else min(left, until)
        return min(share, 1.0), left


class SweepView:
    """Prints messages, and the runs that go on.

    Args:
        console: where to print; standard output by default.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._shown_at: float | None = None

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        self.console.print(line, markup=False)

    def update(self, lines: Sequence[RunLine], counts: str, seconds: float) -> None:
        """Shows the runs that go on.

        Args:
            lines: of these runs.
            counts: how many runs stand how.
            seconds: a clock; a table changes once a second, plain lines come every 30.
        """
        live = self.console.is_terminal
        pause = REFRESH_SECONDS if live else PLAIN_SECONDS
        if self._shown_at is None:
            self._shown_at = seconds - (pause if live else 0.0)  # the first lines can wait
        if seconds - self._shown_at < pause:
            return
        self._shown_at = seconds
        if live:
            if self._live is None:
                self._live = Live(console=self.console, auto_refresh=False)
                self._live.start()
            self._live.update(_table(lines, counts), refresh=True)
            return
        for line in lines:
            name, frames, share, mean, speed, left = line.cells()
            self.say(
                f"{name}  {frames} frames  {share}  return {mean}  {speed} frames/s  {left} left"
                if share
                else f"{name}  {frames}"
            )
        self.say(counts)

    def close(self) -> None:
        """Leaves the last table standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _table(lines: Sequence[RunLine], counts: str) -> Table:
    table = Table(caption=counts, caption_justify="left", box=None)
    for index, head in enumerate(("run", "frames", "done", "return", "frames/s", "left")):
        table.add_column(head, justify="right" if index else "left", no_wrap=True)
    for line in lines:
        table.add_row(*line.cells())
    return table


def last_progress(run: Path) -> dict[str, str]:
    """The last whole row of a run's progress.csv, by column; empty where there is none yet."""
    path = run / "progress.csv"
    if not path.is_file():
        return {}
    with open(path, "rb") as file:
        head = file.readline().decode()
        start = file.tell()
        file.seek(max(start, path.stat().st_size - _TAIL))
        tail = file.read().decode(errors="replace")
    whole = tail[: tail.rfind("\n") + 1].splitlines()
    if not whole:
        return {}
    (names, values) = csv.reader(io.StringIO(f"{head}{whole[-1]}\n"))
    return dict(zip(names, values, strict=False)) if len(values) == len(names) else {}
