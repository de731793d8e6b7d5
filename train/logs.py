"""What a run writes down: episodes and progress as CSV, and TensorBoard events."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..envs.transitions import Episode
from .events import EventFile

LogStyle = Literal["sb3", "cleanrl", "both"]
WINDOW = 100  # episodes that a mean return is taken over, as in Stable-Baselines3

EPISODE_COLUMNS = ("minutes", "agent_steps", "frames", "return", "length", "env", "truncated")
PROGRESS_COLUMNS = (
    "minutes",
    "agent_steps",
    "frames",
    "episodes",
    "mean_return",
    "mean_length",
    "loss",
    "q_mean",
    "epsilon",
    "updates",
    "fps",
    "eval_return",
)


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        minutes: of training so far, over all resumes.
        agent_steps: over all environments.
        frames: emulator frames, `agent_steps` times the frame skip.
        episodes: finished games.
        mean_return, mean_length: raw, of the last 100 games; None before the first one ends.
        loss, q_mean: means over the updates since the last report; None without any.
        epsilon: share of random actions.
        updates: gradient steps.
        fps: agent steps per second since the last report.
        learning_rate: of the optimizer.
    """

    minutes: float
    agent_steps: int
    frames: int
    episodes: int
    mean_return: float | None
    mean_length: float | None
    loss: float | None
    q_mean: float | None
    epsilon: float
    updates: int
    fps: float
    learning_rate: float


class CsvLog:
    """A CSV file that rows are appended to, and that a resumed run first cuts back.

    Args:
        path: the file; made with a header when missing.
        columns: names; one of them is `step_column`.
        keep_until: rows of later agent steps are dropped: a run that was killed had logged steps
            which its last checkpoint does not know, and makes them again.
        step_column: the column that counts steps.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        keep_until: int,
        *,
        step_column: str = "agent_steps",
    ):
        self.columns = tuple(columns)
        rows = _rows_until(path, keep_until, step_column) if path.is_file() else []
        temporary = path.with_name(f".{path.name}.tmp")
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115  # closed below
        self._writer = csv.DictWriter(self._file, self.columns, restval="")

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends a row; it is in the file after the next `flush`."""
        self._writer.writerow({name: _short(row.get(name)) for name in self.columns})

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class RunLog:
    """Writes the CSV files and TensorBoard events of one run; x is agent steps everywhere.

    Args:
        folder: the run folder.
        style: whose TensorBoard tags: Stable-Baselines3's, CleanRL's or both.
        first_step: agent steps made already; later entries of a killed run are dropped.
        frames_per_step: emulator frames of one agent step.
    """

    def __init__(self, folder: Path, style: LogStyle, first_step: int, frames_per_step: int):
        self._style = style
        self._frames_per_step = frames_per_step
        self._episodes = CsvLog(folder / "episodes.csv", EPISODE_COLUMNS, first_step)
        self._progress = CsvLog(folder / "progress.csv", PROGRESS_COLUMNS, first_step)
        self._events = EventFile(folder / "events", first_step)

    def episode(self, episode: Episode, agent_steps: int, minutes: float) -> None:
        """Writes down a finished game."""
        self._episodes.add(
            {
                "minutes": minutes,
                "agent_steps": agent_steps,
                "frames": agent_steps * self._frames_per_step,
                "return": episode.episode_return,
                "length": episode.length,
                "env": episode.env_index,
                "truncated": int(episode.truncated),
            }
        )
        if self._style != "sb3":
            self._scalar("charts/episodic_return", episode.episode_return, agent_steps)
            self._scalar("charts/episodic_length", episode.length, agent_steps)

    def progress(self, now: Progress) -> None:
        """Writes down where the run stands."""
        self._progress.add(vars(now))
        tags: dict[str, float | None] = {"time/frames": now.frames}
        if self._style != "cleanrl":
            tags |= {
                "rollout/ep_rew_mean": now.mean_return,
                "rollout/ep_len_mean": now.mean_length,
                "rollout/exploration_rate": now.epsilon,
                "time/fps": now.fps,
                "train/loss": now.loss,
                "train/learning_rate": now.learning_rate if now.updates else None,
            }
        if self._style != "sb3":
            tags |= {
                "charts/SPS": now.fps,
                "charts/epsilon": now.epsilon,
                "charts/learning_rate": now.learning_rate,
                "losses/td_loss": now.loss,
                "losses/q_values": now.q_mean,
            }
        for tag, value in tags.items():
            self._scalar(tag, value, now.agent_steps)
        self.flush()

    def evaluation(self, mean_return: float, now: Progress) -> None:
        """Writes down the mean return of an evaluation."""
        self._progress.add({**vars(now), "eval_return": mean_return})
        self._scalar("eval/mean_reward", mean_return, now.agent_steps)
        self.flush()

    def flush(self) -> None:
        """Hands all to the system, so that killing this process loses none of it."""
        self._episodes.flush()
        self._progress.flush()
        self._events.flush()

    def close(self) -> None:
        self._episodes.close()
        self._progress.close()
        self._events.close()

    def _scalar(self, tag: str, value: float | None, step: int) -> None:
        if value is not None:
            self._events.scalar(tag, value, step)


class EpisodeWindow:
    """Returns and lengths of the last games, and the number of all."""

    def __init__(self) -> None:
        self.returns: deque[float] = deque(maxlen=WINDOW)
        self.lengths: deque[int] = deque(maxlen=WINDOW)
        self.count = 0

    def add(self, episode: Episode) -> None:
        self.returns.append(episode.episode_return)
        self.lengths.append(episode.length)
        self.count += 1

    @property
    def mean_return(self) -> float | None:
        return sum(self.returns) / len(self.returns) if self.returns else None

    @property
    def mean_length(self) -> float | None:
        return sum(self.lengths) / len(self.lengths) if self.lengths else None

    def get_state(self) -> dict[str, Any]:
        returns, lengths = list(self.returns), list(self.lengths)
        return {"returns": returns, "lengths": lengths, "count": self.count}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.returns.extend(state["returns"])
        self.lengths.extend(state["lengths"])
        self.count = int(state["count"])


def _rows_until(path: Path, last_step: int, step_column: str) -> list[dict[str, Any]]:
    kept = []
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = row.get(step_column) or ""
            if not step.isdigit() or int(step) > last_step or None in row.values():
                break  # later steps, or the half line of a process that was killed
            kept.append(row)
    return kept


def _short(value: Any) -> Any:
    """Ten significant digits, enough for any score; None as an empty field."""
    return f"{value:.10g}" if isinstance(value, float) else value
