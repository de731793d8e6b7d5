"""`evaluate --table`: many runs as the literature reports them, beside published curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from ..envs.options import Protocol
from ..errors import RunFolderError, UsageError
from ..train.runs import write_text
from .aggregate import AGGREGATES, Estimate, estimate, improvement_estimate
from .collect import (
    CollectedRun,
    SeedCurve,
    collect_runs,
    group_runs,
    of_one_protocol,
    point_width,
    seed_curve,
)
from .published import SOURCE as CURVES_SOURCE
from .published import PublishedCurve, published_curves
from .report import EvaluationSettings
from .scores import TABLE_SOURCE, Interval, bootstrap_interval, human_normalised
from .training_log import FRAMES_PER_POINT

FORMAT = 1
DEFAULT_FOLDER = "table"
AGGREGATE_NAMES = {name: name.replace("_", " ") for name in AGGREGATES}
_NAMES = ("game", "agent", "above")
_ONE_RUN_ONLY = ("episodes", "epsilon", "checkpoint", "device", "controls")

Grouped = Mapping[str, Mapping[str, Sequence[CollectedRun]]]
"""Label of an agent -> game -> runs."""


@dataclass(frozen=True)
class TableSettings:
    """A table of many runs instead of the score of one."""

    table: bool = False
    """make a table of all runs below the folder, from what they hold: no games are played"""
    against: Literal["dopamine", "none"] = "dopamine"
    """published learning curves that stand in the table's plots"""
    output: str = field(default="", metadata={"short": "-o", "metavar": "FOLDER"})
    """the folder that the table is written to; RUN/table by default"""


@dataclass(frozen=True)
class GameScore:
    """What one agent scores in one game.

    Attributes:
        agent: its label.
        game: canonical name.
        seeds: of the evaluated runs.
        returns: mean return of each of them, raw game points.
        interval: 95 % bootstrap interval of their mean; None for one run.
    """

    agent: str
    game: str
    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    interval: Interval | None

    @property
    def mean(self) -> float:
        """Over the seeds, raw game points."""
        return float(np.mean(self.returns))

    @property
    def human_normalised(self) -> float | None:
        """0 = published random play, 1 = published human; None where no human score is."""
        return human_normalised(self.game, self.mean)


@dataclass(frozen=True)
class RunTable:
    """Everything that a table holds.

    Attributes:
        protocol: of all scores.
        scores: one for each agent and game with an evaluated run.
        games: those that the aggregates are over.
        normalised: agent -> (runs, games) human-normalised scores.
        aggregates: agent -> name of the aggregate -> estimate.
        improvement: (first, second) -> probability that the first is above the second.
        widths: game -> frames of one point of its curves.
        curves: game -> agent -> training return.
        trained_by: protocols of the training, over all runs.
        notes: what a reader must know, one sentence each.
    """

    protocol: Protocol
    scores: list[GameScore]
    games: list[str]
    normalised: dict[str, np.ndarray]
    aggregates: dict[str, dict[str, Estimate]]
    improvement: dict[tuple[str, str], Estimate]
    widths: dict[str, int]
    curves: dict[str, dict[str, SeedCurve]]
    trained_by: list[Protocol]
    notes: list[str]

    @property
    def comparable(self) -> bool:
        """Whether the training was by the protocol of the published curves."""
        return self.trained_by == [Protocol.DOPAMINE]


def make_table(
    folder: str | Path,
    settings: EvaluationSettings,
    tabled: TableSettings,
    *,
    command: str = "",
    console: Console | None = None,
) -> Path:
    """Collects the runs below a folder, prints their table, and writes it with plots.

    Args:
        folder: runs, a sweep, or one run.
        settings: the protocol, and the seed of the bootstrap; nothing else may be set.
        tabled: what stands beside the runs, and where the table is written.
        command: what repeats this, for the record.
        console: where to print; standard output by default.

    Returns:
        The folder of table.json, table.md, scores.csv and the plots.

    Raises:
        RunFolderError: there is no run that can be read, or the table cannot be written.
        UsageError: the scores are of several protocols, or a setting is about one run only.
    """
    _check_settings(settings)
    folder = Path(folder)
    table = tabulate(folder, settings.protocol, np.random.default_rng(settings.seed))
    out = Path(tabled.output) if tabled.output else folder / DEFAULT_FOLDER
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make {out}: {error.strerror}.") from None
    against = tabled.against == "dopamine"
    record = table_record(table, against=against, command=command)
    write_text(out / "table.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    write_text(out / "table.md", markdown(table, against=against, command=command))
    if table.games:
        write_text(out / "scores.csv", scores_csv(table))
    from .table_plots import draw_table  # matplotlib is slow to import

    draw_table(table, out, against=against, seed=settings.seed)
    print_table(table, console or Console(), against=against)
    return out


def _check_settings(settings: EvaluationSettings) -> None:
    usual = EvaluationSettings()
    for name in _ONE_RUN_ONLY:
        if getattr(settings, name) != getattr(usual, name):
            raise UsageError(
                f"--table plays no games, so --{name} has no meaning: leave it out, or evaluate "
                "each run with it first."
            )


def tabulate(folder: Path, protocol: Protocol | None, generator: np.random.Generator) -> RunTable:
    """The table of all runs in and below a folder; see `make_table` for what is raised."""
    found, notes = collect_runs(folder)
    runs, protocol, left_out = of_one_protocol(found, protocol)
    groups, more = group_runs(runs)
    notes += left_out + more + _state_of_evaluation(groups)
    scores = [
        _game_score(label, game, [run for run in some if run.record is not None], generator)
        for label, games in groups.items()
        for game, some in games.items()
        if any(run.record is not None for run in some)
    ]
    games, normalised, more = _normalised(scores)
    aggregates = {
        label: {name: estimate(matrix, of, generator) for name, of in AGGREGATES.items()}
        for label, matrix in normalised.items()
    }
    above = {
        (first, second): improvement_estimate(normalised[first], normalised[second], generator)
        for first, second in combinations(normalised, 2)
    }
    names = sorted({game for games_of in groups.values() for game in games_of})
    by_game = {
        game: {label: of[game] for label, of in groups.items() if game in of} for game in names
    }
    widths = {
        game: point_width(run for some in by_label.values() for run in some)
        for game, by_label in by_game.items()
    }
    curves = {
        game: {label: seed_curve(some, widths[game]) for label, some in by_label.items()}
        for game, by_label in by_game.items()
    }
    trained_by = sorted({run.trained_by for run in runs})
    return RunTable(
        protocol, scores, games, normalised, aggregates, above, widths, curves, trained_by,
        notes + more,
    )  # fmt: skip


def _state_of_evaluation(groups: Grouped) -> list[str]:
    runs = [run for games in groups.values() for some in games.values() for run in some]
    notes = []
    missing = [run.path.name for run in runs if run.record is None]
    if missing:
        notes.append(
            f"not evaluated, so in the learning curves alone: {', '.join(missing)}; score a run "
            "with 'eightbit evaluate RUN'."
        )
    for run in runs:
        scored = run.record["trained_frames"] if run.record is not None else None
        if scored is not None and run.frames > 1.01 * scored:
            notes.append(
                f"{run.path.name} was evaluated after {scored:,} frames of training and has had "
                f"{run.frames:,} since: evaluate it again."
            )
    return notes


def _game_score(
    label: str, game: str, runs: Sequence[CollectedRun], generator: np.random.Generator
) -> GameScore:
    returns = tuple(float(run.record["mean"]) for run in runs if run.record is not None)
    seeds = tuple(run.seed for run in runs)
    return GameScore(label, game, seeds, returns, bootstrap_interval(returns, generator))


def _normalised(
    scores: Sequence[GameScore],
) -> tuple[list[str], dict[str, np.ndarray], list[str]]:
    """The games that all agents have played, (runs, games) of each agent, and notes."""
    of_agent: dict[str, dict[str, GameScore]] = {}
    for score in scores:
        if score.human_normalised is not None:
            of_agent.setdefault(score.agent, {})[score.game] = score
    if not of_agent:
        return (
            [],
            {},
            ["no evaluated run is of a game with a human score: there are no aggregates."],
        )
    games = sorted(set.intersection(*(set(played) for played in of_agent.values())))
    if not games:
        return [], {}, ["no game was played by all agents, so that there are no aggregates."]
    notes = []
    more = sorted({score.game for score in scores} - set(games))
    if more:
        notes.append(
            f"the aggregates leave out {', '.join(more)}: not all agents have played them, or no "
            "human score is published."
        )
    matrices = {}
    for label, played in of_agent.items():
        counts = {len(played[game].returns) for game in games}
        runs = min(counts)
        if len(counts) > 1:
            notes.append(
                f"{label} has {runs} to {max(counts)} runs a game; the aggregates take the "
                f"{runs} of the lowest seeds of each."
            )
        columns = [
            [human_normalised(game, value) for value in played[game].returns[:runs]]
            for game in games
        ]
        matrices[label] = np.array(columns, dtype=np.float64).T
    return games, matrices, notes


# ----------------------------------------------------------------------------------- output


def compared_at(table: RunTable, game: str) -> int | None:
    """The last million of frames that all agents' curves of a game reach; None before the first."""
    if table.widths[game] != FRAMES_PER_POINT:
        return None
    reached = [
        int(curve.frames[-1]) if curve.frames.size else 0 for curve in table.curves[game].values()
    ]
    last = min(reached) // FRAMES_PER_POINT
    published = published_curves(game)
    return min(last, *(int(one.millions[-1]) for one in published)) if last and published else None


def warning(table: RunTable) -> str:
    """Why the published curves are no fair comparison; empty where they are."""
    if table.comparable:
        return ""
    names = ", ".join(one.value for one in table.trained_by)
    return (
        f"NOT the same protocol: these runs were trained by {names}, the published curves by "
        "dopamine (sticky actions, no end at a lost life); train with --protocol dopamine to "
        "compare."
    )


def _training_rows(table: RunTable) -> list[list[str]]:
    rows = []
    for game, of_agent in table.curves.items():
        million = compared_at(table, game)
        if million is None:
            continue
        for label, curve in of_agent.items():
            (at,) = np.nonzero(curve.frames == million * FRAMES_PER_POINT)
            if at.size:
                spread = _points(float(curve.mean[at[0]]), float(curve.std[at[0]]))
                rows.append([game, f"{million} M", label, str(curve.runs[at[0]]), spread])
        for one in published_curves(game):
            spread = _points(*one.at(million))
            rows.append([game, f"{million} M", f"{one.agent}, published", str(one.runs), spread])
    return rows


def _points(mean: float, std: float) -> str:
    return f"{mean:,.2f}" if np.isnan(std) else f"{mean:,.2f} ± {std:,.2f}"


def _parts(table: RunTable, against: bool) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and rows of every part of the table, for a terminal and for Markdown."""
    parts = [
        (
            f"Scores, protocol {table.protocol.value}; normalised: 0 random play, 1 the human",
            ["game", "agent", "seeds", "mean return", "95 % interval", "normalised"],
            [_score_row(score) for score in sorted(table.scores, key=lambda s: (s.game, s.agent))],
        ),
        (
            f"Human-normalised, over {', '.join(table.games)}",
            ["agent", "seeds", *AGGREGATE_NAMES.values()],
            [
                [label, str(len(table.normalised[label]))]
                + [_estimate_text(of[name]) for name in AGGREGATE_NAMES]
                for label, of in table.aggregates.items()
            ],
        ),
        (
            "Probability of improvement",
            ["agent", "above", "probability"],
            [[*pair, _estimate_text(value)] for pair, value in table.improvement.items()],
        ),
    ]
    if against:
        heads = ["game", "frames", "agent", "seeds", "mean ± std"]
        title = "Training return" if table.comparable else "Training return, NOT one protocol"
        parts.append((title, heads, _training_rows(table)))
    return [part for part in parts if part[2]]


def _score_row(score: GameScore) -> list[str]:
    spread = (
        "one seed"
        if score.interval is None
        else f"{score.interval.low:,.2f} to {score.interval.high:,.2f}"
    )
    human = "" if score.human_normalised is None else f"{score.human_normalised:.2f}"
    count = str(len(score.seeds))
    return [score.game, score.agent, count, f"{score.mean:,.2f}", spread, human]


def _estimate_text(value: Estimate) -> str:
    if value.interval is None:
        return f"{value.value:.2f}"
    return f"{value.value:.2f} ({value.interval.low:.2f} to {value.interval.high:.2f})"


def _remarks(table: RunTable, against: bool) -> list[str]:
    """Notes, with what the figures are."""
    shown = against and any(published_curves(game) for game in table.curves)
    remarks = [warning(table)] if shown and not table.comparable else []
    if table.aggregates:
        remarks.append(
            "intervals are 95 % of a stratified bootstrap over the seeds (Agarwal et al. 2021); "
            f"human-normalised by {TABLE_SOURCE}."
        )
    if shown:
        remarks.append(f"published curves: {CURVES_SOURCE}.")
    return remarks + table.notes


def print_table(table: RunTable, console: Console, *, against: bool) -> None:
    """Prints the parts of the table, and the notes below them."""
    for title, heads, rows in _parts(table, against):
        shown = RichTable(title=title, title_justify="left", box=SIMPLE_HEAD)
        for head in heads:
            side: Literal["left", "right"] = "left" if head in _NAMES else "right"
            longest = max(len(word) for word in head.split())
            shown.add_column(head, justify=side, min_width=longest)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
    for remark in _remarks(table, against):
        console.print(f"- {remark}", highlight=False, markup=False, soft_wrap=True)


def markdown(table: RunTable, *, against: bool, command: str) -> str:
    """The same as a page, with the plots."""
    lines = ["# Table of runs", ""]
    for title, heads, rows in _parts(table, against):
        lines += [f"## {title}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    lines += [f"- {remark}" for remark in _remarks(table, against)]
    pictures = ["curves.png", *(["aggregates.png", "profiles.png"] if table.games else [])]
    lines += ["", *(f"![{name}]({name})" for name in pictures), ""]
    return "\n".join([*lines, *([f"Made by `{command}`.", ""] if command else [])])


def scores_csv(table: RunTable) -> str:
    """Human-normalised scores, one line a run: agent, run, and a column for each game."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["agent", "run", *table.games])
    for label, matrix in table.normalised.items():
        for number, row in enumerate(matrix):
            writer.writerow([label, number, *(f"{value:.10g}" for value in row)])
    return text.getvalue()


def table_record(table: RunTable, *, against: bool, command: str) -> dict[str, Any]:
    """What table.json holds."""
    return {
        "format": FORMAT,
        "command": command,
        "protocol": table.protocol.value,
        "trained_by": [one.value for one in table.trained_by],
        "scores": [
            {
                "agent": score.agent,
                "game": score.game,
                "seeds": list(score.seeds),
                "returns": list(score.returns),
                "mean": score.mean,
                "interval": None if score.interval is None else list(score.interval),
                "human_normalised": score.human_normalised,
            }
            for score in table.scores
        ],
        "human_normalised_source": TABLE_SOURCE,
        "games": table.games,
        "aggregates": {
            label: {name: _estimate_record(value) for name, value in of.items()}
            for label, of in table.aggregates.items()
        },
        "improvement": [
            {"agent": first, "above": second, **_estimate_record(value)}
            for (first, second), value in table.improvement.items()
        ],
        "training": {game: _training_record(table, game, against) for game in table.curves},
        "published_source": CURVES_SOURCE if against else None,
        "notes": _remarks(table, against),
    }


def _estimate_record(value: Estimate) -> dict[str, Any]:
    ends = None if value.interval is None else list(value.interval)
    return {"value": value.value, "interval": ends}


def _training_record(table: RunTable, game: str, against: bool) -> dict[str, Any]:
    million = compared_at(table, game)
    published: Sequence[PublishedCurve] = published_curves(game) if against and million else ()
    return {
        "frames_per_point": table.widths[game],
        "curves": {
            label: {
                "frames": curve.frames.tolist(),
                "mean": curve.mean.tolist(),
                "std": [None if np.isnan(value) else value for value in curve.std.tolist()],
                "runs": curve.runs.tolist(),
            }
            for label, curve in table.curves[game].items()
        },
        "published": {
            one.agent: {
                "frames": (one.millions[:million] * FRAMES_PER_POINT).tolist(),
                "mean": one.mean[:million].tolist(),
                "std": one.std[:million].tolist(),
                "runs": one.runs,
            }
            for one in published
        },
    }
