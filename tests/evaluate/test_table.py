"""Tables of runs: what is put together, what is refused, and what is written."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from eightbit.agents import AGENTS
from eightbit.envs.games import list_games
from eightbit.envs.options import Protocol
from eightbit.errors import RunFolderError, UsageError
from eightbit.evaluate import aggregate, collect, table
from eightbit.evaluate.collect import group_runs, read_run, seed_curve
from eightbit.evaluate.evaluation import Evaluation, evaluation_options
from eightbit.evaluate.published import published_curves
from eightbit.evaluate.records import evaluation_record, write_record
from eightbit.evaluate.report import EvaluationSettings
from eightbit.evaluate.scores import human_normalised, make_score
from eightbit.evaluate.table import TableSettings, make_table, tabulate
from eightbit.evaluate.training_log import returns_per_million
from eightbit.train.runs import CONFIG, RunFolder, write_config
from eightbit.train.session import RunRequest

MILLION = 1_000_000


@pytest.fixture
def make_run(tmp_path):
    """Writes a run folder by hand: its config, logs and, where scores are given, evaluation."""

    def make(
        game: str,
        seed: int,
        returns: list[float] | None,
        *,
        agent: str = "dqn",
        protocol: Protocol = Protocol.DOPAMINE,
        frames: int = 3 * MILLION,
        **options: object,
    ) -> Path:
        path = tmp_path / "runs" / f"{game}-{agent}-fast-{seed}-{protocol.value}-{len(options)}"
        request = RunRequest(game=game, agent=agent, seed=seed, protocol=protocol)
        told = dataclasses.replace(AGENTS[agent].presets["fast"], **options)
        run = {**dataclasses.asdict(request), "protocol": protocol.value}
        RunFolder.create(path, {"run": run, "options": dataclasses.asdict(told)})
        ends = range(100_000, frames + 1, 100_000)
        lines = [f"{end},{float(seed + end // MILLION)}" for end in ends]
        (path / "episodes.csv").write_text("\n".join(["frames,return", *lines, ""]))
        head = "minutes,agent_steps,frames,episodes,mean_return"
        (path / "progress.csv").write_text(f"{head}\n1,{frames // 4},{frames},5,1\n")
        if returns is not None:
            generator = np.random.default_rng(0)
            score = make_score(game, protocol, returns, generator)
            played = Evaluation(score, (9,) * len(returns), 0.0, 0, evaluation_options(protocol))
            record = evaluation_record(played, command="none", trained_frames=frames)
            write_record(path, record)
        return path

    return make


def tabled(folder: Path, protocol: Protocol | None = None):
    return tabulate(folder, protocol, np.random.default_rng(0))


def written(folder: Path, **told) -> dict:
    settings = TableSettings(table=True, **told)
    with open(folder / "printed.txt", "w") as file:
        console = Console(width=200, file=file)
        out = make_table(folder, EvaluationSettings(), settings, command="X", console=console)
    return {path.name: path for path in out.iterdir()} | {"printed": folder / "printed.txt"}


# --------------------------------------------------------------------------- published curves


def test_every_published_curve_is_of_a_game_that_we_play():
    games = [game for game in list_games() if published_curves(game)]
    assert len(games) == 60
    for game in games:
        curves = published_curves(game)
        assert [one.agent for one in curves] == [
            "C51",
            "DQN",
            "DQN (Adam + MSE in JAX)",
            "IQN",
            "Quantile (JAX)",
            "Rainbow",
        ]
        for one in curves:
            assert one.millions.tolist() == list(range(1, 200)) and one.runs == 5
            assert one.mean.shape == one.std.shape == (199,)
            assert np.isfinite(one.mean).all() and (one.std >= 0).all()
    assert published_curves("catch") == ()


def test_published_figures_are_those_of_their_source():
    """Boxing at 5 million frames and Pong at the ends, as read in Dopamine's own files."""
    boxing = {one.agent: one for one in published_curves("boxing")}
    assert boxing["DQN (Adam + MSE in JAX)"].at(5)[0] == pytest.approx(24.05, abs=5e-3)
    pong = {one.agent: one for one in published_curves("pong")}
    # Mean and sample deviation of the five runs' values in iterations 0 and 198 of pong.json.
    first = [-20.5531914893617, -20.516014234875446, -20.4645390070922, -20.45, -20.489436619718308]
    last = [17.991071428571427, 19.748091603053435, 19.708661417322833, 19.908396946564885, 19.352]
    for million, values in ((1, first), (199, last)):
        wanted = (np.mean(values), np.std(values, ddof=1))
        assert pong["C51"].at(million) == pytest.approx(wanted, abs=6e-3)
    with pytest.raises(KeyError):
        pong["C51"].at(200)


# ----------------------------------------------------------------------------- collecting


def test_scores_are_put_together_by_agent_game_and_seed(make_run, tmp_path):
    for seed in (0, 1, 2):
        make_run("pong", seed, [seed * 3.0, seed * 3.0 + 2])
        make_run("breakout", seed, [100.0 * (seed + 1)])
        make_run("pong", seed, [21.0], agent="pqn")
    found = tabled(tmp_path / "runs")
    scores = {(one.agent, one.game): one for one in found.scores}
    assert set(scores) == {("dqn fast", "pong"), ("dqn fast", "breakout"), ("pqn fast", "pong")}
    pong = scores["dqn fast", "pong"]
    assert pong.seeds == (0, 1, 2) and pong.returns == (1.0, 4.0, 7.0) and pong.mean == 4.0
    assert pong.human_normalised == human_normalised("pong", 4.0)
    assert pong.interval is not None and pong.interval.low < 4.0 < pong.interval.high
    # Both agents have played Pong alone, so the aggregates are over it.
    assert found.games == ["pong"] and "the aggregates leave out breakout" in found.notes[-1]
    column = [human_normalised("pong", value) for value in (1.0, 4.0, 7.0)]
    assert found.normalised["dqn fast"].tolist() == [[value] for value in column]
    assert found.aggregates["dqn fast"]["mean"].value == pytest.approx(np.mean(column))
    assert found.improvement["dqn fast", "pqn fast"].value == 0.0


def test_aggregates_are_those_of_the_matrix_of_scores(make_run, tmp_path):
    for seed in range(4):
        for game, mean in (("pong", 3.0), ("breakout", 50.0), ("qbert", 900.0)):
            make_run(game, seed, [mean * (seed + 1)])
    found = tabled(tmp_path / "runs")
    matrix = found.normalised["dqn fast"]
    assert found.games == ["breakout", "pong", "qbert"] and matrix.shape == (4, 3)
    assert matrix[2, 0] == human_normalised("breakout", 150.0)
    for name, statistic in aggregate.AGGREGATES.items():
        assert found.aggregates["dqn fast"][name].value == pytest.approx(float(statistic(matrix)))


def test_options_that_differ_make_agents_of_their_own(make_run, tmp_path):
    for seed in (0, 1):
        make_run("pong", seed, [1.0])
        make_run("pong", seed, [1.0], double=True)
        make_run("breakout", seed, [1.0])
    assert {one.agent for one in tabled(tmp_path / "runs").scores} == {
        "dqn fast, double=False",
        "dqn fast, double=True",
    }


def test_a_preset_may_differ_from_game_to_game_and_precision_is_no_difference(make_run):
    paths = [
        make_run("pong", 0, [1.0], gamma=0.9),
        make_run("breakout", 0, [1.0], gamma=0.99),
        make_run("pong", 1, [1.0], gamma=0.9, precision="bf16"),
    ]
    groups, notes = group_runs(read_run(path) for path in paths)
    assert list(groups) == ["dqn fast"] and notes == []
    assert [run.seed for run in groups["dqn fast"]["pong"]] == [0, 1]


def test_two_runs_of_one_seed_are_not_two_samples(make_run, tmp_path):
    first = make_run("pong", 0, [1.0])
    again = make_run("pong", 1, [5.0], frames=4 * MILLION)
    text = (again / CONFIG).read_text()
    (again / CONFIG).write_text(text.replace("seed = 1\n", "seed = 0\n"))
    found = tabled(tmp_path / "runs")
    assert found.scores[0].returns == (5.0,)
    assert any(f"{first} has the seed of {again}" in note for note in found.notes)


def test_several_protocols_are_refused_unless_one_is_chosen(make_run, tmp_path):
    make_run("pong", 0, [1.0])
    make_run("pong", 1, [1.0])
    make_run("pong", 2, [9.0], protocol=Protocol.ZOO)
    wanted = r"here are dopamine \(2 runs\), zoo \(1 run\): choose one with --protocol"
    with pytest.raises(UsageError, match=wanted):
        tabled(tmp_path / "runs")
    found = tabled(tmp_path / "runs", Protocol.ZOO)
    assert found.scores[0].returns == (9.0,) and "2 runs of other protocols" in found.notes[0]
    with pytest.raises(UsageError, match="no run here is of protocol mnih2015, only of dopamine"):
        tabled(tmp_path / "runs", Protocol.MNIH2015)


def test_a_run_that_was_not_evaluated_is_in_the_curves_alone(make_run, tmp_path):
    make_run("pong", 0, [1.0])
    path = make_run("pong", 1, None)
    found = tabled(tmp_path / "runs")
    assert found.scores[0].seeds == (0,) and found.scores[0].interval is None
    assert found.curves["pong"]["dqn fast"].runs.tolist() == [2, 2, 2]
    assert any(f"curves alone: {path.name}; score" in note for note in found.notes)


def test_a_score_that_training_has_left_behind_is_said(make_run, tmp_path):
    path = make_run("pong", 0, [1.0])
    log = (path / "progress.csv").read_text()
    (path / "progress.csv").write_text(log + f"2,1,{5 * MILLION},5,1\n")
    note = "was evaluated after 3,000,000 frames of training and has had 5,000,000"
    assert any(note in one for one in tabled(tmp_path / "runs").notes)


def test_unequal_numbers_of_seeds_are_said_and_the_lowest_are_taken(make_run, tmp_path):
    for seed in (3, 1, 2):
        make_run("pong", seed, [float(seed)])
    make_run("breakout", 5, [1.0])
    found = tabled(tmp_path / "runs")
    assert found.normalised["dqn fast"].tolist() == [
        [human_normalised("breakout", 1.0), human_normalised("pong", 1.0)]
    ]
    assert any("1 to 3 runs a game; the aggregates take the 1 of" in one for one in found.notes)


def test_what_cannot_be_read_is_said_and_left_out(make_run, tmp_path):
    make_run("pong", 0, [1.0])
    (make_run("pong", 1, [1.0]) / "evaluation.json").write_text("{")
    found = tabled(tmp_path / "runs")
    assert found.scores[0].seeds == (0,)
    assert any("evaluation.json is damaged" in note for note in found.notes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="empty holds no run; 'eightbit train' makes one"):
        tabled(tmp_path / "empty")
    with pytest.raises(RunFolderError, match="there is no folder"):
        tabled(tmp_path / "nowhere")
    write_config(tmp_path / "empty" / CONFIG, {"format": 99})
    with pytest.raises(RunFolderError, match="holds no run that can be read: .*newer version"):
        tabled(tmp_path / "empty")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"episodes": 3}, "--episodes has no meaning"), ({"controls": True}, "--controls has no")],
)
def test_settings_of_one_run_are_refused(make_run, tmp_path, change, message):
    make_run("pong", 0, [1.0])
    with pytest.raises(UsageError, match=message):
        make_table(tmp_path, EvaluationSettings(**change), TableSettings(table=True))


# --------------------------------------------------------------------------------- curves


def test_a_curve_is_the_mean_of_each_whole_million_over_the_seeds(make_run):
    runs = [read_run(make_run("pong", seed, None, frames=2_500_000)) for seed in (0, 1, 4)]
    assert collect.point_width(runs) == MILLION
    curve = seed_curve(runs, MILLION)
    # Nine games of 0 + seed and one of 1 + seed end in the first million: the last at its end.
    assert curve.frames.tolist() == [MILLION, 2 * MILLION]
    per_seed = np.array([[0.1, 1.1], [1.1, 2.1], [4.1, 5.1]])
    assert curve.mean == pytest.approx(per_seed.mean(axis=0))
    assert curve.std == pytest.approx(per_seed.std(axis=0, ddof=1))
    assert curve.runs.tolist() == [3, 3]
    alone = seed_curve(runs[:1], MILLION)
    assert np.isnan(alone.std).all()


def test_a_curve_has_the_points_that_a_dopamine_score_has(rng):
    frames = np.sort(rng.choice(np.arange(1, 3 * MILLION, 7), 500, replace=False))
    log = collect.TrainingLog(frames, rng.normal(size=500))
    run = collect.CollectedRun(
        Path(), "dqn", "fast", "pong", 0, Protocol.DOPAMINE, {}, None, log, 3 * MILLION
    )
    curve = seed_curve([run], MILLION)
    wanted = returns_per_million(log)
    assert list(zip(curve.frames.tolist(), curve.mean.tolist(), strict=True)) == [
        (end, pytest.approx(value)) for end, value in wanted
    ]


def test_short_runs_have_finer_points(make_run):
    run = read_run(make_run("pong", 0, None, frames=400_000))
    assert collect.point_width([run]) == 20_000
    assert seed_curve([run], 20_000).frames.tolist() == [100_000, 200_000, 300_000, 400_000]


# -------------------------------------------------------------------------------- writing


def test_the_folder_holds_the_table_in_every_form(make_run, tmp_path):
    for seed in (0, 1):
        for game in ("pong", "breakout"):
            make_run(game, seed, [float(seed)])
            make_run(game, seed, [float(seed) + 5], agent="pqn")
    files = written(tmp_path / "runs")
    names = {"table.json", "table.md", "scores.csv", "curves.png", "aggregates.png", "profiles.png"}
    assert names == set(files) - {"printed"}
    record = json.loads(files["table.json"].read_text())
    assert record["protocol"] == "dopamine" and record["games"] == ["breakout", "pong"]
    assert record["command"] == "X"
    at = record["training"]["pong"]
    assert at["frames_per_point"] == MILLION
    assert at["curves"]["dqn fast"]["mean"] == pytest.approx([0.6, 1.6, 2.6])
    assert at["published"]["DQN"]["frames"] == at["curves"]["dqn fast"]["frames"]
    assert (
        at["published"]["Rainbow"]["mean"]
        == [one.mean[:3].tolist() for one in published_curves("pong") if one.agent == "Rainbow"][0]
    )
    with open(files["scores.csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    by_agent = {
        label: np.array(
            [[float(r[g]) for g in record["games"]] for r in rows if r["agent"] == label]
        )
        for label in ("dqn fast", "pqn fast")
    }
    assert by_agent["pqn fast"][1] == pytest.approx(
        [human_normalised("breakout", 6.0), human_normalised("pong", 6.0)]
    )
    for name, statistic in aggregate.AGGREGATES.items():
        value = record["aggregates"]["dqn fast"][name]["value"]
        assert value == pytest.approx(float(statistic(np.array(by_agent["dqn fast"]))))
    page, printed = files["table.md"].read_text(), files["printed"].read_text()
    for text in (page, printed):
        for part in ("interquartile mean", "Probability of improvement", "Rainbow, published"):
            assert part in text
        assert "NOT" not in text
    assert "| pong | 3 M | dqn fast | 2 | 2.60 ± 0.71 |" in page
    assert all(files[name].stat().st_size > 5_000 for name in names if name.endswith("png"))


def test_published_curves_of_another_protocol_are_called_that(make_run, tmp_path):
    make_run("pong", 0, [1.0], protocol=Protocol.MNIH2015)
    files = written(tmp_path / "runs", output=str(tmp_path / "elsewhere"))
    assert files["table.json"].parent == tmp_path / "elsewhere"
    warning = "NOT the same protocol: these runs were trained by mnih2015"
    assert warning in files["table.md"].read_text() and warning in files["printed"].read_text()
    assert json.loads(files["table.json"].read_text())["notes"][0].startswith(warning)


def test_nothing_published_stands_beside_where_none_is_asked_for(make_run, tmp_path):
    make_run("pong", 0, [1.0], protocol=Protocol.MNIH2015)
    files = written(tmp_path / "runs", against="none")
    text = files["table.md"].read_text()
    assert "published" not in text.replace("published random", "") and "NOT" not in text
    record = json.loads(files["table.json"].read_text())
    assert record["training"]["pong"]["published"] == {} and record["published_source"] is None


def test_games_without_a_human_score_have_no_aggregates(make_run, tmp_path):
    make_run("catch", 0, [0.5, 1.0], frames=1000)
    files = written(tmp_path / "runs")
    assert {"scores.csv", "profiles.png"}.isdisjoint(files) and "curves.png" in files
    assert "there are no aggregates" in files["table.md"].read_text()
    assert table.tabulate(tmp_path / "runs", None, np.random.default_rng(0)).games == []
