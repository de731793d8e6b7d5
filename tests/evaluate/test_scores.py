"""Scores: the interval, the human-normalised value, and what may be compared."""

import itertools
import json
import math
from importlib import resources

import numpy as np
import pytest

from eightbit.envs import list_games
from eightbit.envs.options import PROTOCOLS, EnvOptions, Protocol
from eightbit.errors import EightBitError, RunFolderError, UsageError
from eightbit.evaluate import records, scores
from eightbit.evaluate.evaluation import Evaluation
from eightbit.evaluate.training_log import (
    TrainingLog,
    read_training_log,
    returns_per_million,
    training_score,
)


def make(returns, protocol=Protocol.MNIH2015, game="pong"):
    return scores.make_score(game, protocol, returns, np.random.default_rng(0))


def test_bootstrap_agrees_with_all_possible_resamples():
    values = [3.0, -1.0, 4.0, 10.0]
    means = np.sort([np.mean(pick) for pick in itertools.product(values, repeat=4)])
    low, high = means[math.ceil(0.025 * 256) - 1], means[math.ceil(0.975 * 256) - 1]
    interval = scores.bootstrap_interval(values, np.random.default_rng(1), resamples=200_000)
    assert interval.low == pytest.approx(low, abs=1e-9)
    assert interval.high == pytest.approx(high, abs=1e-9)


def test_bootstrap_has_the_width_of_the_normal_interval_on_many_values():
    values = np.random.default_rng(2).normal(5.0, 2.0, size=400)
    interval = scores.bootstrap_interval(values, np.random.default_rng(3))
    expected = 2 * 1.96 * values.std() / math.sqrt(400)
    assert interval.width == pytest.approx(expected, rel=0.05)
    assert interval.low < values.mean() < interval.high


def test_same_generator_state_gives_the_same_interval():
    first, second = (
        scores.bootstrap_interval([1.0, 2.0, 7.0], np.random.default_rng(5)) for _ in range(2)
    )
    assert first == second


def test_one_episode_has_no_interval_and_none_at_all_is_refused():
    assert scores.bootstrap_interval([4.0], np.random.default_rng(0)) is None
    with pytest.raises(UsageError, match="at least one finished episode"):
        scores.bootstrap_interval([], np.random.default_rng(0))
    with pytest.raises(UsageError, match="not a finite number"):
        scores.bootstrap_interval([1.0, math.nan], np.random.default_rng(0))


def test_human_normalised_is_0_for_published_random_and_1_for_human():
    # Figures of Mnih et al. 2015 and the DQN Zoo table: Pong -20.7 random, 14.6 human.
    assert scores.published_scores("pong") == (-20.7, 14.6)
    assert scores.human_normalised("pong", -20.7) == 0.0
    assert scores.human_normalised("pong", 14.6) == 1.0
    assert scores.human_normalised("breakout", (1.7 + 30.5) / 2) == pytest.approx(0.5)
    assert len(scores._published_table()) == 57
    assert set(scores._published_table()) <= set(list_games())


def test_the_table_of_human_scores_tells_where_it_comes_from():
    first = (resources.files("eightbit.evaluate") / scores.TABLE_FILE).read_text().splitlines()[0]
    for words in ("57 games", "30 no-op starts", "108,000-frame cap"):
        assert words in first and words in scores.TABLE_SOURCE
    assert "google-deepmind/dqn_zoo" in first and "DQN Zoo" in scores.TABLE_SOURCE
    # Beside each human-normalised figure stands whose table it is by.
    assert "human-normalised 1.00 by the published table of DQN Zoo" in make([14.6]).describe()


def test_games_without_published_scores_have_no_human_normalised_score():
    assert scores.human_normalised("air_raid", 500.0) is None
    assert make([1.0, 0.0], game="catch").human_normalised is None
    assert "not in the table" in make([1.0, 0.0], game="catch").describe()


def test_scores_of_different_protocols_refuse_to_be_compared_and_name_both():
    first, second = make([1.0, 2.0]), make([1.0, 2.0], Protocol.DOPAMINE)
    for compare in (scores.difference, scores.beats):
        with pytest.raises(UsageError, match="mnih2015 and dopamine cannot be compared"):
            compare(first, second)


def test_scores_of_different_games_refuse_to_be_compared():
    with pytest.raises(UsageError, match="pong and boxing cannot be compared"):
        scores.difference(make([1.0]), make([1.0], game="boxing"))


def test_beating_needs_a_gap_wider_than_both_intervals():
    wide, narrow = make([0.0, 10.0] * 15), make([6.0, 7.0] * 15)
    assert wide.interval.width > 1.5 > narrow.interval.width
    assert not scores.beats(narrow, wide)
    assert scores.beats(make([20.0, 21.0] * 15), wide)
    assert not scores.beats(wide, make([20.0, 21.0] * 15))
    assert not scores.beats(make([5.0] * 9), make([5.0] * 9))
    with pytest.raises(UsageError, match="at least 2"):
        scores.beats(make([21.0]), wide)


def played(score, player="agent"):
    return Evaluation(score, (900, 901), 0.05, 3, EnvOptions(), player)


def record(**changes):
    arguments = {"command": "eightbit evaluate RUN", **changes}
    return records.evaluation_record(played(make([20.0, 21.0])), **arguments)


def test_evaluation_json_names_the_protocol_and_each_of_its_fields(tmp_path):
    records.write_record(tmp_path, record(trained_agent_steps=10, trained_frames=40))
    stored = json.loads((tmp_path / "evaluation.json").read_text())
    assert stored["protocol"] == "mnih2015"
    assert stored["protocol_fields"]["max_frames"] == 18_000
    assert set(stored["protocol_fields"]) == set(vars(PROTOCOLS[Protocol.MNIH2015]))
    assert stored["returns"] == [20.0, 21.0] and stored["mean"] == 20.5
    assert stored["trained_frames"] == 40 and stored["source"] == "evaluation"
    assert records.read_record(tmp_path) == stored
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def test_controls_are_stored_with_whether_they_are_beaten():
    controls = [
        played(make([-21.0, -20.0]), "random play"),
        played(make([20.0, 21.5]), "always UP"),
        played(make([3.0]), "once"),
    ]
    stored = record(controls=controls)["controls"]
    assert [(one["player"], one["beaten"]) for one in stored] == [
        ("random play", True),
        ("always UP", False),
        ("once", None),
    ]


@pytest.mark.parametrize("field", sorted(records.EVALUATION_SCHEMA["required"]))
def test_a_record_without_a_field_is_refused(field, tmp_path):
    broken = record()
    del broken[field]
    with pytest.raises(EightBitError, match=f"lacks {field}"):
        records.check_schema(broken, records.EVALUATION_SCHEMA)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("mean", "high", "mean is str; it must be number"),
        ("episodes", True, "episodes is bool; it must be integer"),
        ("protocol", "mine", "protocol is 'mine'; it must be one of"),
        ("returns", [], "returns has 0 items; 1 are needed"),
        ("returns", [1.0, None], r"returns\[1\] is NoneType"),
    ],
)
def test_a_record_with_a_wrong_value_is_refused(field, value, said):
    with pytest.raises(EightBitError, match=said):
        records.check_schema({**record(), field: value}, records.EVALUATION_SCHEMA)


def test_a_half_written_record_is_said_to_be_damaged(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"format": 1, "ga')
    with pytest.raises(RunFolderError, match="damaged"):
        records.read_record(tmp_path)
    with pytest.raises(RunFolderError, match="eightbit evaluate RUN"):
        records.read_record(tmp_path / "absent")


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    records.write_record(tmp_path, record())
    before = (tmp_path / "evaluation.json").read_bytes()
    with pytest.raises(RunFolderError, match="cannot be written"):
        records.write_record(tmp_path / "absent", record())
    assert (tmp_path / "evaluation.json").read_bytes() == before


def write_log(path, rows):
    lines = ["frames,return,length", *(f"{frames},{value},9" for frames, value in rows)]
    path.write_text("\n".join(lines) + "\n")
    return read_training_log(path)


def test_machado2018_scores_the_last_100_training_episodes(tmp_path):
    log = write_log(tmp_path / "episodes.csv", [(1000 * i, float(i)) for i in range(250)])
    score = training_score("pong", Protocol.MACHADO2018, log, np.random.default_rng(0))
    assert score.source is scores.Source.TRAINING_LOG
    assert score.returns == tuple(float(i) for i in range(150, 250))
    assert "from the training log" in score.describe()


def test_dopamine_scores_the_last_million_frames_and_gives_a_point_per_million(tmp_path):
    rows = [(500_000, 1.0), (900_000, 3.0), (1_200_000, 10.0), (2_000_100, 20.0)]
    log = write_log(tmp_path / "episodes.csv", rows)
    assert returns_per_million(log) == [(1_000_000, 2.0), (2_000_000, 10.0), (3_000_000, 20.0)]
    score = training_score("pong", Protocol.DOPAMINE, log, np.random.default_rng(0))
    assert score.returns == (10.0, 20.0)


def test_protocols_that_evaluate_take_nothing_from_the_training_log():
    log = TrainingLog(np.array([4]), np.array([1.0]))
    with pytest.raises(UsageError, match="plays evaluation episodes"):
        training_score("pong", Protocol.MNIH2015, log, np.random.default_rng(0))


def test_training_logs_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_training_log(tmp_path / "episodes.csv")
    (tmp_path / "episodes.csv").write_text("step,reward\n1,2\n")
    with pytest.raises(RunFolderError, match="lacks the columns frames and return"):
        read_training_log(tmp_path / "episodes.csv")
    with pytest.raises(RunFolderError, match="not two numbers"):
        write_log(tmp_path / "episodes.csv", [("x", 1.0)])
    empty = write_log(tmp_path / "episodes.csv", [])
    with pytest.raises(UsageError, match="no training episode has ended"):
        training_score("pong", Protocol.MACHADO2018, empty, np.random.default_rng(0))
