"""The plots of a table of runs: learning curves, aggregates and performance profiles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RunFolderError
from ..train.checkpoints import write_atomically
from .aggregate import performance_profile
from .published import published_curves
from .table import AGGREGATE_NAMES, RunTable, warning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4  # panels side by side
_PUBLISHED = ("#7f7f7f", "#bcbd22", "#8c564b", "#17becf", "#e377c2", "#9467bd")
_FEW_POINTS = 30


def draw_table(table: RunTable, out: Path, *, against: bool, seed: int) -> list[Path]:
    """Draws curves.png, and aggregates.png and profiles.png where there are aggregates.

    Args:
        table: what to draw.
        out: an existing folder.
        against: whether published curves stand beside the runs.
        seed: of the bands of the profiles.

    Raises:
        RunFolderError: a picture cannot be written.
    """
    written = [_write(_curves(table, against), out / "curves.png")]
    if table.games:
        written.append(_write(_aggregates(table), out / "aggregates.png"))
        profiles = _profiles(table, np.random.default_rng(seed))
        written.append(_write(profiles, out / "profiles.png"))
    return written


def _curves(table: RunTable, against: bool) -> Figure:
    """A panel a game: training return over frames, mean and standard deviation over the seeds."""
    colours = _colours({label: None for of in table.curves.values() for label in of})
    columns = min(_COLUMNS, len(table.curves))
    rows = math.ceil(len(table.curves) / columns)
    figure = _new_figure(max(4.2 * columns, 6.0), 3.2 * rows + 1.0)
    handles: dict[str, Any] = {}
    for index, (game, of_agent) in enumerate(table.curves.items(), start=1):
        axes = figure.add_subplot(rows, columns, index)
        last = max((int(c.frames[-1]) for c in of_agent.values() if c.frames.size), default=0)
        published = published_curves(game) if against else ()
        for colour, one in zip(_PUBLISHED, published, strict=False):
            label = f"{one.agent} (published)"
            shown = one.millions * 1_000_000 <= last
            x, mean, std = one.millions[shown], one.mean[shown], one.std[shown]
            handles[label] = _band(axes, (x, mean, std), colour, dashed=True)
        for label, curve in of_agent.items():
            points = (curve.frames / 1e6, curve.mean, np.nan_to_num(curve.std))
            handles[label] = _band(axes, points, colours[label], dashed=False)
        axes.set_title(game, fontsize=10)
        axes.set_xlabel("million emulator frames")
        axes.set_ylabel("training return")
        _tidy(axes)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False
    )
    compared = against and any(published_curves(game) for game in table.curves)
    if compared and (text := warning(table)):
        figure.suptitle(text.split(";")[0], color="#b00020", fontsize=9, wrap=True)
    return figure


def _band(
    axes: Axes, points: tuple[np.ndarray, np.ndarray, np.ndarray], colour: str, *, dashed: bool
) -> Any:
    x, mean, std = points
    few = "o" if x.size <= _FEW_POINTS else ""
    width, style = (1.0, "--") if dashed else (2.0, "-")
    (line,) = axes.plot(
        x, mean, style, color=colour, linewidth=width, marker=few, markersize=1.5 * width
    )
    axes.fill_between(
        x, mean - std, mean + std, color=colour, alpha=0.08 if dashed else 0.2, linewidth=0
    )
    return line


def _aggregates(table: RunTable) -> Figure:
    """A panel an aggregate: its value and interval for each agent."""
    labels = list(table.aggregates)
    colours = _colours(dict.fromkeys(labels))
    figure = _new_figure(3.0 * len(AGGREGATE_NAMES) + 1.5, 1.6 + 0.4 * len(labels))
    for index, (name, title) in enumerate(AGGREGATE_NAMES.items(), start=1):
        axes = figure.add_subplot(1, len(AGGREGATE_NAMES), index)
        for place, label in enumerate(labels):
            value = table.aggregates[label][name]
            if value.interval is not None:
                low, high = value.interval
                axes.plot([low, high], [place, place], color=colours[label], linewidth=7, alpha=0.4)
            axes.plot([value.value], [place], "|", color=colours[label], markersize=16, mew=2.5)
        axes.set_yticks(range(len(labels)), labels if index == 1 else [""] * len(labels))
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_title(title, fontsize=10)
        _tidy(axes)
    figure.supxlabel("human-normalised score", fontsize=9)
    return figure


def _profiles(table: RunTable, generator: np.random.Generator) -> Figure:
    """The share of runs above a score, with pointwise intervals."""
    highest = max(float(matrix.max()) for matrix in table.normalised.values())
    lowest = min(float(matrix.min()) for matrix in table.normalised.values())
    thresholds = np.linspace(min(lowest, 0.0) - 0.05, max(highest, 1.0) * 1.02, 201)
    colours = _colours(dict.fromkeys(table.normalised))
    figure = _new_figure(6.5, 4.0)
    axes = figure.add_subplot()
    for label, matrix in table.normalised.items():
        profile = performance_profile(matrix, thresholds, generator)
        axes.plot(thresholds, profile.share, color=colours[label], linewidth=1.8, label=label)
        if profile.low is not None and profile.high is not None:
            axes.fill_between(
                thresholds, profile.low, profile.high, color=colours[label], alpha=0.2, linewidth=0
            )
    axes.set_xlabel("human-normalised score")
    axes.set_ylabel("share of runs above it")
    axes.legend(frameon=False)
    _tidy(axes)
    return figure


def _colours(labels: dict[str, None]) -> dict[str, str]:
    return {label: f"C{index % 10}" for index, label in enumerate(sorted(labels))}


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # slow to import; pyplot's global state is not needed

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _tidy(axes: Axes) -> None:
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
