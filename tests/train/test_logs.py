"""What a run writes down and says: TensorBoard tags, CSV files, its card, and how it is stopped."""

from __future__ import annotations

import csv
import io
import signal

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eightbit import cli
from eightbit.envs.transitions import Episode
from eightbit.train import agents
from eightbit.train.logs import Progress, RunLog
from eightbit.train.reporting import Reporter, duration, progress_line, short
from eightbit.train.runs import RunFolder, new_folder

SB3 = {
    "rollout/ep_rew_mean",
    "rollout/ep_len_mean",
    "rollout/exploration_rate",
    "time/fps",
    "train/loss",
    "train/learning_rate",
}
CLEANRL = {
    "charts/episodic_return",
    "charts/episodic_length",
    "charts/SPS",
    "charts/epsilon",
    "charts/learning_rate",
    "losses/td_loss",
    "losses/q_values",
}


def curves(run):
    """What TensorBoard shows of a run: tag -> [(step, value)]."""
    events = EventAccumulator(str(run / "events")).Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("style", "tags"), [("sb3", SB3), ("cleanrl", CLEANRL), ("both", SB3 | CLEANRL)]
)
def test_tensorboard_shows_the_tags_that_were_asked_for(train, tmp_path, style, tags):
    run = tmp_path / "run"
    assert train("catch", "--frames", 160, "--log-style", style, "--out", run).code == 0
    shown, last = curves(run), rows(run / "progress.csv")[-1]
    assert set(shown) == tags | {"time/frames"}
    games = rows(run / "episodes.csv")
    if "rollout/ep_rew_mean" in tags:
        step, mean = shown["rollout/ep_rew_mean"][-1]
        assert step == 160 and mean == pytest.approx(float(last["mean_return"]))
        assert mean == pytest.approx(sum(float(g["return"]) for g in games) / len(games))
        assert shown["train/loss"][-1][1] == pytest.approx(float(last["loss"]))
    if "charts/episodic_return" in tags:
        ended = [(int(game["agent_steps"]), float(game["return"])) for game in games]
        assert shown["charts/episodic_return"] == ended and len(ended) == 12


def progress_at(step):
    return Progress(1.5, step, 4 * step, 2, 3.0, 4.0, None, None, 0.5, 0, 10.0, 1e-4)


def test_a_run_that_goes_on_drops_what_was_logged_after_its_checkpoint(tmp_path):
    first = RunLog(tmp_path, "both", 0, 4)
    for step in (100, 200):
        first.episode(Episode(0, 1.0, 9, False), step, 0.1)
        first.progress(progress_at(step))
    first.close()
    with open(tmp_path / "episodes.csv", "a") as file:
        file.write("0.2,2")  # the half line of a process that was killed
    second = RunLog(tmp_path, "both", 100, 4)
    second.progress(progress_at(150))
    second.close()
    assert [row["agent_steps"] for row in rows(tmp_path / "episodes.csv")] == ["100"]
    assert [row["agent_steps"] for row in rows(tmp_path / "progress.csv")] == ["100", "150"]
    shown = curves(tmp_path)
    assert [step for step, _ in shown["charts/epsilon"]] == [100, 150]
    assert [step for step, _ in shown["charts/episodic_return"]] == [100]
    assert len(list((tmp_path / "events").iterdir())) == 2


# --------------------------------------------------------------------------------- evaluation


def test_evaluating_while_training_changes_nothing_that_is_learnt(train, tmp_path):
    runs = [tmp_path / "with", tmp_path / "without"]
    answer = train(
        *("catch", "--frames", 200, "--eval-every", 80, "--eval-episodes", 2, "--out", runs[0])
    )
    assert train("catch", "--frames", 200, "--out", runs[1]).code == 0
    models = [(run / "model.safetensors").read_bytes() for run in runs]
    assert models[0] == models[1]
    shown = curves(runs[0])["eval/mean_reward"]
    assert [step for step, _ in shown] == [80, 160]
    assert all(-1 <= mean <= 1 for _, mean in shown)
    logged = [row for row in rows(runs[0] / "progress.csv") if row["eval_return"]]
    assert [float(row["eval_return"]) for row in logged] == [mean for _, mean in shown]
    assert f"step 80: evaluated at {short(shown[0][1])}" in answer.out
    assert "eval/mean_reward" not in curves(runs[1])


def test_the_best_evaluation_is_kept_over_a_resume(train, tmp_path, monkeypatch):
    scores = iter([1.0, 5.0, 3.0, 4.0, 6.0])
    monkeypatch.setattr(cli, "_evaluator", lambda request: lambda agent: next(scores))
    run = tmp_path / "run"

    def best():
        found = RunFolder.open(run).checkpoints.best()
        return found and found.step

    assert train("catch", "--frames", 120, "--eval-every", 40, "--out", run).code == 0
    assert best() == 80
    assert train("--resume", run, "--frames", 160).code == 0
    assert best() == 80  # 4 is less than the 5 of before
    assert train("--resume", run, "--frames", 200).code == 0
    assert best() == 200
    folder = RunFolder.open(run).checkpoints
    assert [one.step for one in folder.steps()] == [160, 200]
    assert folder.find("best").model.is_file() and not folder.find("best").has_replay


# ----------------------------------------------------------------------------------- stopping


def signals_at_step(monkeypatch, step, *numbers):
    monkeypatch.setattr(agents, "LOG_SECONDS", 0.0)
    report = Reporter.progress

    def progress(self, now, *rest):
        report(self, now, *rest)
        if now.agent_steps == step:
            for number in numbers:
                signal.raise_signal(number)

    monkeypatch.setattr(Reporter, "progress", progress)


@pytest.mark.parametrize(
    ("numbers", "code"),
    [((signal.SIGINT,), 130), ((signal.SIGTERM,), 143), ((signal.SIGINT, signal.SIGINT), 130)],
)
def test_a_signal_saves_the_run_and_says_how_to_go_on(train, tmp_path, monkeypatch, numbers, code):
    run = tmp_path / "run"
    signals_at_step(monkeypatch, 100, *numbers)
    answer = train("catch", "--frames", "10M", "--out", run)
    assert (answer.code, answer.err) == (code, "")
    assert "stopping: saving a checkpoint ...\n" in answer.out
    assert ("stopping already" in answer.out) == (len(numbers) == 2)
    assert f"go on with: eightbit train --resume {run}\n" in answer.out
    assert "stopped at step 100 after" in answer.out
    assert RunFolder.open(run).checkpoints.steps()[-1].step == 100
    assert train("--resume", run, "--frames", 120).code == 0


def test_a_signal_ends_an_evaluation_at_once(train, tmp_path, monkeypatch):
    ended = []

    def evaluate(agent):
        signal.raise_signal(signal.SIGINT)
        ended.append("too late")

    monkeypatch.setattr(cli, "_evaluator", lambda request: evaluate)
    run = tmp_path / "run"
    answer = train("catch", "--frames", 400, "--eval-every", 80, "--out", run)
    assert answer.code == 130 and ended == []
    assert RunFolder.open(run).checkpoints.steps()[-1].step == 80


def test_signals_do_what_they_did_before_after_a_run(train, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert train("catch", "--frames", 40, "--out", tmp_path / "run").code == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# ------------------------------------------------------------------------- card, lines, names


def test_the_model_card_tells_the_run_and_then_its_score(train, eightbit, tmp_path):
    run = tmp_path / "run"
    assert train("catch", "--frames", 240, "--seed", 3, "--out", run).code == 0
    card = (run / "README.md").read_text()
    mean = rows(run / "progress.csv")[-1]["mean_return"]
    for line in (
        "# dqn on catch",
        "| agent, preset, seed | dqn, fast, 3 |",
        "| agent steps | 240 |",
        f"| mean return of the last 100 training games | {short(float(mean))} |",
        f"Not evaluated yet: `eightbit evaluate {run}`.",
        "| `num_envs` | 4 |",
        f"eightbit train --config {run}/config.toml",
    ):
        assert line in card
    assert eightbit("evaluate", run, "--episodes", 4).code == 0
    assert (
        "4 games, protocol `mnih2015` ([evaluation.json](evaluation.json))"
        in (run / "README.md").read_text()
    )


def test_the_code_of_the_model_card_runs(train, tmp_path):
    from eightbit.envs import make_vec

    run = tmp_path / "run"
    assert train("catch", "--frames", 40, "--out", run).code == 0
    code = (run / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {"observations": make_vec("catch", 3).reset(seed=0)[0]}
    exec(code, names)  # the card's own code
    assert names["actions"].shape == (3,)


def test_a_run_ends_with_a_picture_of_its_curves(eightbit, finished_run, tmp_path):
    config = ("--config", finished_run / "config.toml", "--out", tmp_path / "run")
    assert eightbit("train", *config, "--frames", 120).code == 0
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1_000
    assert "(curves.png)" in (tmp_path / "run" / "README.md").read_text()


def test_a_card_shows_no_picture_before_there_is_one(train, tmp_path):
    assert train("catch", "--frames", 40, "--out", tmp_path / "run").code == 0
    assert "curves.png" not in (tmp_path / "run" / "README.md").read_text()


def test_the_progress_line_shows_what_was_promised():
    now = Progress(1.0, 5_000, 20_000, 12, -3.456, 90.0, 0.01234, 0.2, 0.55, 9, 250.0, 1e-4)
    assert progress_line(now, 150.0) == (
        "20,000 frames  1,000 frames/s  return -3.46 (12 games)  loss 0.0123  epsilon 0.55  "
        "2 min left"
    )
    early = Progress(0.0, 4, 16, 0, None, None, None, None, 1.0, 0, 4.0, 1e-4)
    assert progress_line(early, None) == (
        "16 frames  16 frames/s  return - (0 games)  loss -  epsilon 1.00  - left"
    )
    assert [duration(s) for s in (45, 720, 11_100)] == ["45 s", "12 min", "3 h 05 min"]


def reported(terminal):
    """What forty seconds look like: 400 frames at the first one, 4 more in each."""
    out = io.StringIO()
    reporter = Reporter(Console(file=out, force_terminal=terminal, width=200, highlight=False))
    for second in range(0, 40, 5):
        reporter.progress(progress_at(100 + second), None, float(second))
    reporter.say("a message")
    reporter.close()
    return out.getvalue()


def test_progress_is_a_line_every_half_minute_in_a_log():
    lines = reported(terminal=False).splitlines()
    assert [line.split()[0] for line in lines] == ["400", "520", "a"]


def test_progress_is_one_line_that_changes_on_a_terminal():
    text = reported(terminal=True)
    assert all(f"{4 * (100 + second)} frames" in text for second in range(0, 40, 5))
    assert "a message" in text and text.count("\n") == 2


def test_a_new_run_never_takes_the_folder_of_another(tmp_path):
    from datetime import datetime

    now = datetime(2026, 1, 2, 3, 4, 5)
    path = new_folder(tmp_path, "ALE/Pong v5", "fast", 7, now)
    assert path.name == "ALE-Pong-v5-fast-7-20260102-030405"
    path.mkdir()
    assert new_folder(tmp_path, "ALE/Pong v5", "fast", 7, now).name.endswith("-030405-2")
