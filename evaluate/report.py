"""`evaluate`: scores a run by its protocol, beside controls, into evaluation.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..envs.options import PROTOCOLS, Protocol
from ..errors import UsageError
from .evaluation import GYM_PREFIX, Evaluation, best_constant_action, evaluate_policy, random_play
from .player import Player, load_player
from .records import evaluation_record, write_record
from .scores import (
    TABLE_SOURCE,
    Interval,
    Score,
    beats,
    difference,
    human_normalised,
    published_scores,
)
from .training_log import FILE_NAME as TRAINING_LOG
from .training_log import read_training_log, training_score

EVALUATION_SEED = 1_000_000  # far from the seeds of training, so that its games are not replayed


@dataclass(frozen=True)
class EvaluationSettings:
    """How a run is scored."""

    protocol: Protocol | None = None
    """rules of the games and of the score; those that the run was trained by unless told"""
    episodes: int | None = None
    """games to play; the protocol's number unless told"""
    epsilon: float | None = None
    """share of random actions, 0 to 1; the protocol's unless told"""
    seed: int = EVALUATION_SEED
    """of the games, the random actions and the interval"""
    checkpoint: str = "last"
    """which weights: last, best, or a number of agent steps"""
    device: str = "auto"
    """where the network computes"""
    controls: bool = False
    """also let random play and the best constant action play, and print all in a table"""


@dataclass(frozen=True)
class Report:
    """What `evaluate_run` found.

    Attributes:
        score: of the agent.
        controls: other players under the same protocol; empty unless asked for.
        path: of evaluation.json.
        record: what it holds.
    """

    score: Score
    controls: tuple[Evaluation, ...]
    path: Path
    record: dict[str, Any]


def evaluate_run(
    run: str | Path,
    settings: EvaluationSettings = EvaluationSettings(),  # frozen
    *,
    command: str = "",
    say: Callable[[str], None] = print,
) -> Report:
    """Scores the agent of a run folder and writes RUN/evaluation.json.

    Where the protocol takes its score from training, no games are played: the score is read
    from RUN/episodes.csv, and `say` is told so.

    Args:
        run: the run folder.
        settings: by which rules, and how many games.
        command: what repeats this, for the record; made from the settings when empty.
        say: takes each line for the user.

    Raises:
        RunFolderError: the folder, its weights or its log are missing or damaged.
        UsageError: the settings do not fit the run.
    """
    player = load_player(
        run, protocol=settings.protocol, checkpoint=settings.checkpoint, device=settings.device
    )
    _check_training(player)
    # No protocol is about the games of `gym:`, so their scores come from games played.
    if PROTOCOLS[player.protocol].score_from_training and not player.game.startswith(GYM_PREFIX):
        played = _score_of_training(player, settings, say)
    else:
        played = evaluate_policy(
            player.start(),
            player.game,
            player.protocol,
            episodes=settings.episodes,
            seed=settings.seed,
            epsilon=settings.epsilon,
            options=player.options,
        )
    controls = play_controls(player, settings) if settings.controls else ()
    record = evaluation_record(
        played,
        command=command or _command(player, settings),
        controls=controls,
        trained_agent_steps=player.agent_steps,
        trained_frames=player.frames,
    )
    path = write_record(player.run.path, record)
    say(played.score.describe())
    return Report(played.score, controls, path, record)


def _check_training(player: Player) -> None:
    """Refuses an agent that saw more of the game than the protocol allows."""
    most = PROTOCOLS[player.protocol].train_frames
    # A run of many environments ends up to a step of all of them late.
    if most is not None and player.frames is not None and player.frames > 1.01 * most:
        raise UsageError(
            f"a score of {player.protocol.value} is of at most {most:,} frames of training and "
            f"this agent had {player.frames:,}: choose an earlier --checkpoint or another "
            "--protocol."
        )


def _score_of_training(
    player: Player, settings: EvaluationSettings, say: Callable[[str], None]
) -> Evaluation:
    protocol = player.protocol
    if settings.episodes is not None or settings.epsilon is not None:
        raise UsageError(
            f"protocol {protocol.value} takes its score from the training log, so --episodes and "
            "--epsilon have no meaning: leave them out, or choose another --protocol."
        )
    trained_by = str(player.run.config["run"]["protocol"])
    if trained_by != protocol.value:
        raise UsageError(
            f"a score of {protocol.value} comes from training by it, and this run was trained by "
            f"{trained_by}: train one with --protocol {protocol.value}."
        )
    log = read_training_log(player.run.path / TRAINING_LOG)
    generator = np.random.default_rng(settings.seed)
    score = training_score(player.game, protocol, log, generator)
    say(
        f"protocol {protocol.value} plays no evaluation games: its score is taken from the "
        f"training log ({PROTOCOLS[protocol].description})."
    )
    epsilon = PROTOCOLS[protocol].eval_epsilon
    return Evaluation(score, (), epsilon, settings.seed, player.options)


def play_controls(player: Player, settings: EvaluationSettings) -> tuple[Evaluation, ...]:
    """Random play and the best constant action, in the environments of the agent's evaluation."""
    shared: dict[str, Any] = {
        "episodes": settings.episodes,
        "seed": settings.seed,
        "options": player.options,
    }
    return (
        random_play(player.game, player.protocol, **shared),
        best_constant_action(player.game, player.protocol, **shared),
    )


def _command(player: Player, settings: EvaluationSettings) -> str:
    parts = ["eightbit evaluate", player.run.path.as_posix(), f"--seed {settings.seed}"]
    parts += [f"--protocol {player.protocol.value}", f"--checkpoint {settings.checkpoint}"]
    if settings.episodes is not None:
        parts.append(f"--episodes {settings.episodes}")
    if settings.epsilon is not None:
        parts.append(f"--epsilon {settings.epsilon:g}")
    return " ".join([*parts, "--controls"] if settings.controls else parts)


def share_of_the_way_to_human(score: Score, random: Score) -> float | None:
    """0 for a score as good as the random play measured here, 1 for the published human.

    None where no human score is published.

    Raises:
        UsageError: the two scores are of different protocols or games.
    """
    published = published_scores(score.game)
    if published is None:
        return None
    return difference(score, random) / (published.human - random.mean)


def controls_table(score: Score, controls: Sequence[Evaluation]) -> Table:
    """The agent beside its controls and the published scores, for a terminal."""
    table = Table(
        title=f"{score.game}, protocol {score.protocol.value}, score from the {score.source.value}"
    )
    table.add_column("player")
    for heading in ("mean return", "95 % interval", "games", "human-normalised"):
        table.add_column(heading, justify="right")
    table.add_row("agent", *_cells(score))
    for control in controls:
        table.add_row(control.player, *_cells(control.score))
    published = published_scores(score.game)
    if published is not None:
        table.add_section()
        table.add_row("random, published", f"{published.random:,.1f}", "", "", "0.00")
        table.add_row("human, published", f"{published.human:,.1f}", "", "", "1.00")
        table.caption = f"human-normalised by {TABLE_SOURCE}"
    return table


def verdicts(score: Score, controls: Sequence[Evaluation]) -> list[str]:
    """One sentence a control: whether the agent is above it by more than both intervals."""
    lines = []
    for control in controls:
        above = beats(score, control.score)
        gap = difference(score, control.score)
        lines.append(
            f"agent {'is' if above else 'is NOT'} above {control.player} by more than both "
            f"intervals (difference {gap:+.2f})"
        )
        way = share_of_the_way_to_human(score, control.score)
        if control.player == "random play" and way is not None:
            lines.append(f"agent is {way:.0%} of the way from this random play to the human")
    return lines


def print_controls(report: Report, console: Console | None = None) -> None:
    """Prints the table of controls and the verdicts."""
    console = console or Console()
    console.print(controls_table(report.score, report.controls))
    known = report.score.interval is not None
    for line in verdicts(report.score, report.controls) if known else ():
        console.print(line, highlight=False)


def _cells(score: Score) -> tuple[str, str, str, str]:
    human = human_normalised(score.game, score.mean)
    return (
        f"{score.mean:,.2f}",
        _interval_text(score.interval),
        str(len(score.returns)),
        "" if human is None else f"{human:.2f}",
    )


def _interval_text(interval: Interval | None) -> str:
    return "one game" if interval is None else f"{interval.low:,.2f} to {interval.high:,.2f}"
