"""What a person sees while a run goes on: one live line, or a line now and then in a log."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .logs import Progress

PLAIN_SECONDS = 30.0


class Reporter:
    """Prints messages and progress; on a terminal the progress is one line that changes.

    Args:
        console: where to print; standard output by default.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._printed_at: float | None = None

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        self.console.print(line, markup=False)

    def progress(self, now: Progress, seconds_left: float | None, seconds: float) -> None:
        """Shows where an agent's run stands.

        Args:
            now: the figures.
            seconds_left: None while unknown.
            seconds: a clock; plain lines come at most every 30 of them.
        """
        self.live(progress_line(now, seconds_left), seconds)

    def live(self, line: str, seconds: float) -> None:
        """Shows a line that the next one replaces; in a log, one at most every 30 seconds."""
        if self.console.is_terminal:
            if self._live is None:
                self._live = Live(console=self.console, auto_refresh=False)
                self._live.start()
            self._live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
        elif self._printed_at is None or seconds - self._printed_at >= PLAIN_SECONDS:
            self._printed_at = seconds
            self.say(line)

    def close(self) -> None:
        """Leaves the last progress line standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def progress_line(now: Progress, seconds_left: float | None) -> str:
    """Frames, speed, return of the last 100 games, loss, epsilon and time left, in one line."""
    frames_per_second = now.fps * now.frames / max(now.agent_steps, 1)
    mean = "-" if now.mean_return is None else short(now.mean_return)
    loss = "-" if now.loss is None else f"{now.loss:.4f}"
    parts = (
        f"{now.frames:,} frames",
        f"{frames_per_second:,.0f} frames/s",
        f"return {mean} ({now.episodes:,} games)",
        f"loss {loss}",
        f"epsilon {now.epsilon:.2f}",
        f"{duration(seconds_left)} left",
    )
    return "  ".join(parts)


def short(score: float) -> str:
    """A mean score with as many digits as tell something."""
    return f"{score:.1f}" if abs(score) >= 10 else f"{score:.2f}"


def duration(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3 h 05 min`; a dash when unknown."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
