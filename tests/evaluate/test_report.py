"""`evaluate` of a run: by which rules it scores, what it says, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from eightbit.envs.options import Protocol, env_options
from eightbit.errors import UsageError
from eightbit.evaluate import report
from eightbit.evaluate.evaluation import random_play
from eightbit.evaluate.player import Player
from eightbit.evaluate.report import EvaluationSettings, evaluate_run, print_controls
from eightbit.evaluate.scores import TABLE_SOURCE, make_score
from eightbit.train.runs import RunFolder


class Catcher:
    """Moves the paddle of Catch under the ball."""

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        cells = observations[:, -1, ::7, ::7]
        values = np.zeros((len(cells), 3), np.float32)
        for row, cell in enumerate(cells):
            ball = int(np.argwhere(cell == 255)[0, 1])
            paddle = int(np.argwhere(cell[-1] >= 160)[0, 0])
            values[row, 0 if paddle in (ball, ball - 1) else 1 if ball < paddle else 2] = 1.0
        return values


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Puts an agent into a run folder that was trained by a protocol."""

    def make(game: str, by: str, *, protocol: str | None = None, frames: int = 800) -> Path:
        chosen = Protocol(protocol or by)
        run = RunFolder(tmp_path, {"run": {"game": game, "protocol": by}})
        options = env_options(chosen, training=False)
        player = Player(Catcher(), game, chosen, options, run, "dqn fast", frames // 4, frames)
        monkeypatch.setattr(report, "load_player", lambda *args, **kwargs: player)
        return tmp_path

    return make


def write_log(folder: Path, returns: list[float]) -> None:
    rows = [f"{4_000 * (index + 1)},{value},9" for index, value in enumerate(returns)]
    (folder / "episodes.csv").write_text("\n".join(["frames,return,length", *rows]) + "\n")


def test_an_evaluation_plays_the_protocols_games_beside_the_controls(trained, capsys):
    run = trained("catch", "mnih2015")
    done = evaluate_run(run, EvaluationSettings(controls=True, seed=3))
    stored = json.loads((run / "evaluation.json").read_text())
    assert stored == done.record and stored["protocol"] == "mnih2015"
    assert (stored["episodes"], stored["epsilon"], stored["source"]) == (30, 0.05, "evaluation")
    assert stored["lengths"] == [11] * 30
    assert stored["mean"] > 0.5
    assert stored["interval"][0] <= stored["mean"] <= stored["interval"][1]
    players = [control["player"] for control in stored["controls"]]
    assert players[0] == "random play" and players[1].startswith("always ")
    assert [control["beaten"] for control in stored["controls"]] == [True, True]
    assert stored["human_normalised_source"] == TABLE_SOURCE
    assert "--protocol mnih2015" in stored["command"]
    out = capsys.readouterr().out
    assert "protocol mnih2015, from the evaluation" in out and "95 % interval" in out


def test_the_same_seed_gives_the_same_score(trained):
    run = trained("catch", "zoo")
    first, again, other = (
        evaluate_run(
            run, EvaluationSettings(seed=seed, episodes=5, epsilon=1.0), say=lambda _: None
        )
        for seed in (1, 1, 2)
    )
    assert first.score == again.score
    assert (first.score.returns, first.score.interval) != (
        other.score.returns,
        other.score.interval,
    )


@pytest.mark.parametrize("protocol", ["machado2018", "dopamine"])
def test_a_score_from_training_is_read_from_the_log_and_said_so(trained, protocol):
    run = trained("pong", protocol)
    write_log(run, [-21.0] * 60 + [14.0, 15.2] * 60)
    said: list[str] = []
    done = evaluate_run(run, say=said.append)
    assert f"protocol {protocol} plays no evaluation games" in said[0]
    assert "taken from the training log" in said[0] and "from the training log" in said[1]
    stored = json.loads((run / "evaluation.json").read_text())
    assert stored["source"] == "training log"
    assert stored["lengths"] is None and stored["epsilon"] is None
    expected = [14.0, 15.2] * 50 if protocol == "machado2018" else [-21.0] * 60 + [14.0, 15.2] * 60
    assert stored["returns"] == expected
    # The table's human of Pong is 14.6, and beside the figure stands whose table it is.
    if protocol == "machado2018":
        assert done.score.human_normalised == pytest.approx(1.0)
        assert "human-normalised 1.00 by the published table of DQN Zoo" in said[1]


@pytest.mark.parametrize(
    ("by", "protocol", "settings", "message"),
    [
        ("machado2018", None, {"episodes": 3}, "--episodes and --epsilon have no meaning"),
        ("dopamine", None, {"epsilon": 0.0}, "choose another --protocol"),
        ("mnih2015", "dopamine", {}, "was trained by mnih2015: train one with --protocol dopamine"),
    ],
)
def test_what_a_score_from_training_cannot_be_is_refused(trained, by, protocol, settings, message):
    run = trained("pong", by, protocol=protocol)
    write_log(run, [1.0])
    with pytest.raises(UsageError, match=message):
        evaluate_run(run, EvaluationSettings(**settings))
    assert not (run / "evaluation.json").exists()


def test_atari100k_is_of_400_000_frames_and_no_more(trained):
    settings = EvaluationSettings(episodes=2)
    run = trained("catch", "atari100k", frames=400_128)  # the last step of 32 environments
    assert evaluate_run(run, settings, say=lambda _: None).score.protocol is Protocol.ATARI100K
    run = trained("catch", "atari100k", frames=2_000_000)
    with pytest.raises(UsageError, match=r"at most 400,000 frames .* had 2,000,000"):
        evaluate_run(run, settings)


def test_the_table_of_controls_names_protocol_interval_and_the_human_table():
    generator = np.random.default_rng(0)
    score = make_score("pong", Protocol.MNIH2015, [10.0, 11.0], generator)
    control = make_score("pong", Protocol.MNIH2015, [-21.0, -20.0], generator)
    played = report.Evaluation(control, (9, 9), 1.0, 0, env_options("mnih2015", training=False))
    console = Console(record=True, width=120, force_terminal=False)
    print_controls(
        report.Report(
            score, (report.Evaluation(**{**vars(played), "player": "random play"}),), Path(), {}
        ),
        console,
    )
    text = " ".join(console.export_text().split())
    assert "protocol mnih2015, score from the evaluation" in text
    assert TABLE_SOURCE in text
    assert "human, published" in text and "14.6" in text
    assert "agent is above random play by more than both intervals (difference +31.00)" in text
    # (10.5 + 20.5) / (14.6 + 20.5)
    assert "agent is 88% of the way from this random play to the human" in text


def test_random_play_of_catch_scores_what_its_rules_make_likely():
    played = random_play("catch", episodes=300, seed=0)
    # The ball falls in one of 12 columns, wherever the paddle of two cells stands.
    assert played.score.mean == pytest.approx(2 * 2 / 12 - 1, abs=0.12)
