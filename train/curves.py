"""Learning curves as pictures: of one run, and of several in one picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import RunFolderError
from .checkpoints import write_atomically
from .logs import WINDOW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE_NAME = "curves.png"
Axis = Literal["minutes", "agent_steps", "frames"]
_AXIS_LABELS: dict[str, str] = {
    "minutes": "minutes of wall time",
    "agent_steps": "agent steps",
    "frames": "emulator frames",
}
_PANELS = (
    ("mean_return", f"mean return of {WINDOW} training games"),
    ("loss", "loss"),
    ("q_mean", "mean Q-value"),
    ("fps", "agent steps per second"),
)


@dataclass(frozen=True)
class Curve:
    """A run's progress.csv: equally long columns of float64, NaN where nothing was known."""

    columns: Mapping[str, np.ndarray]

    def points(self, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
        """The points (n,), (n,) at which both columns are known."""
        known = ~(np.isnan(self.columns[x]) | np.isnan(self.columns[y]))
        return self.columns[x][known], self.columns[y][known]

    def first_reaching(self, score: float, x: Axis = "minutes") -> float | None:
        """Where on `x` the mean training return first is `score` or higher; None if nowhere.

        Means of fewer games than a full window are left out: luck reaches anything in a few.
        """
        returns = np.where(self.columns["episodes"] < WINDOW, np.nan, self.columns["mean_return"])
        above = np.flatnonzero(returns >= score)
        return float(self.columns[x][above[0]]) if above.size else None

    def return_at(self, minutes: float) -> float:
        """The mean training return that was known at that time.

        Raises:
            ValueError: no game had ended by then.
        """
        when, returns = self.points("minutes", "mean_return")
        before = np.flatnonzero(when <= minutes)
        if not before.size:
            raise ValueError(f"no game had ended after {minutes:g} minutes")
        return float(returns[before[-1]])


def read_curve(path: Path) -> Curve:
    """Reads a progress.csv.

    Raises:
        RunFolderError: the file is missing, lacks a column that is drawn, or holds a bad row.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(line for line in file if not line.startswith("#"))
            names = list(reader.fieldnames or ())
            rows = list(reader)
        columns = {
            name: np.array([float("nan" if row[name] == "" else row[name]) for row in rows])
            for name in names
        }
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read ({error.strerror}): 'eightbit train' writes it."
        ) from error
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{path} holds a row that is not all numbers ({error}).") from error
    wanted = {"minutes", "agent_steps", "frames", "episodes", "mean_return"}
    missing = wanted - columns.keys()
    if missing:
        raise RunFolderError(f"{path} lacks the columns {', '.join(sorted(missing))}.")
    return Curve(columns)


def draw_run(folder: Path, title: str) -> Path | None:
    """Draws FOLDER/progress.csv into FOLDER/curves.png; None when there is nothing to draw yet.

    Raises:
        RunFolderError: the log cannot be read, or the picture not written.
    """
    curve = read_curve(folder / "progress.csv")
    if not curve.points("agent_steps", "mean_return")[0].size:
        return None
    figure = _new_figure(10.0, 6.0)
    for index, (column, label) in enumerate(_PANELS, start=1):
        axes = figure.add_subplot(2, 2, index)
        axes.plot(*curve.points("agent_steps", column), linewidth=1.2)
        if column == "mean_return" and "eval_return" in curve.columns:
            steps, scores = curve.points("agent_steps", "eval_return")
            if steps.size:
                axes.plot(steps, scores, "o", markersize=4, label="evaluation")
                axes.legend(frameon=False)
        _label(axes, "agent_steps", label)
    figure.suptitle(title)
    return _write(figure, folder / FILE_NAME)


def compare_curves(
    curves: Mapping[str, Curve], path: Path, *, title: str, axes_names: Sequence[Axis]
) -> Path:
    """Draws the mean training return of several runs into one picture.

    Args:
        curves: by the name that the legend shows.
        path: of the PNG.
        title: above it.
        axes_names: one panel for each, with that on its horizontal axis.

    Raises:
        RunFolderError: the picture cannot be written.
    """
    figure = _new_figure(5.5 * len(axes_names), 4.0)
    for index, name in enumerate(axes_names, start=1):
        axes = figure.add_subplot(1, len(axes_names), index)
        for label, curve in curves.items():
            axes.plot(*curve.points(name, "mean_return"), linewidth=1.4, label=label)
        _label(axes, name, f"mean return of {WINDOW} training games")
        if index == 1:
            axes.legend(frameon=False)
    figure.suptitle(title)
    return _write(figure, path)


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # slow to import; pyplot's global state is not needed

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(_AXIS_LABELS[x])
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _write(figure: Figure, path: Path) -> Path:
    try:
        write_atomically(path, lambda file: figure.savefig(file, format="png"))
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written ({error.strerror}): make room or choose another folder."
        ) from error
    return path
