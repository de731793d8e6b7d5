"""The command line refuses bad input in one sentence, with the right exit code; nothing is lost."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from eightbit.cli import main
from eightbit.train import session
from eightbit.train.runs import RunFolder

TINY = [
    *("--backbone", "nips2013", "--backbone-options", '{"hidden": 16}', "--device", "cpu"),
    *("--num-envs", "4", "--buffer-size", "400", "--learning-starts", "60", "--batch-size", "8"),
    *("--replay-ratio", "1", "--target-update", "100", "--precision", "fp32"),
]


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """The curves of a run take longer to draw than these runs take to learn."""
    monkeypatch.setattr(session, "draw_run", lambda *_: None)


@pytest.fixture
def eightbit(capsys, tmp_path, monkeypatch):
    """Runs `eightbit ...` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A run of Catch; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "draw_run", lambda *_: None)
        assert main(["train", "catch", *TINY, "--frames", "120", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of the finished run in the folder where `eightbit` runs, called RUN."""
    return Path(shutil.copytree(finished_run, tmp_path / "RUN"))


def refused(answer: Answer, code: int, message: str) -> None:
    """One sentence on standard error that matches, and no traceback."""
    assert answer.code == code, answer
    assert re.fullmatch(r"eightbit: [^\n]+[.?]\n", answer.err), answer.err
    assert re.search(message, answer.err), answer.err
    assert "Traceback" not in answer.out + answer.err


# ------------------------------------------------------------------------- wrong words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian pong", "unknown command 'trian': did you mean train?"),
        ("--hlep", "unknown command '--hlep'"),
        ("train", "which game[?] Write 'eightbit train pong'"),
        ("train pnog", "unknown game 'pnog': did you mean pong?"),
        ("train Combat", "combat cannot be played"),
        ("train gym:CartPol-v1", "unknown Gymnasium environment 'CartPol-v1': did you mean CartP"),
        ("train gym:Pendulum-v1", "choose one with discrete actions"),
        ("train gym:FrozenLake-v1", "DQN needs Box observations"),
        ("train pong breakout pong", "pong is named twice; --seeds gives a game several runs"),
        ("train pong --agent dqm", "unknown agent 'dqm': did you mean dqn?"),
        ("train pong --preset fsat", "unknown preset 'fsat': did you mean fast?"),
        ("train pong --backbone natur", "unknown backbone 'natur': did you mean nature?"),
        ("train catch --backbone mlp", r"mlp takes inputs \(features,\)"),
        ("train gym:CartPole-v1 --preset fast", "for inputs of shape .* there are gru, lstm, mlp"),
        ("train pong --backbone-options [1]", "must be a JSON object"),
        ("""train catch --backbone-options {"hiden":2}""", "unknown nips2013 option 'hiden'"),
        ("train catch --backbone-weights no", "unknown packaged weights 'no'"),
        ("train pong --lerning-rate 3", "unknown option '--lerning-rate': did you mean --learning"),
        ("train pong --frame 3", "unknown option '--frame': did you mean --frames"),
        ("train pong --protocol mnih", "--protocol is 'mnih'; choose one of mnih2015, machado2018"),
        ("train pong --loss hubr", "--loss is 'hubr'; choose one of huber, mse[.]"),
        ("train pong --frames", "--frames needs a value[.]"),
        ("train pong --agent", "--agent needs a value[.]"),
        ("train pong --frames abc", "--frames: 'abc' is no whole number; write it like 500000"),
        ("train pong --frames 1.5", "--frames: '1.5' is no whole number"),
        ("train pong --frames 0", "frames is 0; it must be above 0[.]"),
        ("train pong --minutes nan", "--minutes: 'nan' is no number; write it like 3, 0.25 or"),
        ("train pong --gamma 2", "gamma is 2.0; it must lie between 0 and 1[.]"),
        ("train pong --seed -1", "seed is -1; it must lie between 0 and 999,999,999[.]"),
        ("train pong --seed 99999999999999999999", "seed is 99999999999999999999; it must"),
        ("train pong --agent dqn --learning-starts 300k", r"exceeds buffer_size \(200,000\)"),
        ("train catch --device tpu", "device 'tpu' cannot be used"),
        ("train --config a --resume b", "leave --config and --out"),
        ("train --resume b --out a", "leave --config and --out"),
        ("evaluate", "which run[?] Write 'eightbit evaluate RUN'"),
        ("watch", "which run[?] Write 'eightbit watch RUN'"),
        ("play", "which game[?] Write 'eightbit play pong'"),
        ("play pong --mode x", "--mode: 'x' is no whole number"),
        ("list", "list one of: games, agents, backbones, presets, tasks, data[.]"),
        ("list gmes", "unknown list 'gmes': did you mean games"),
    ],
)
def test_wrong_words_are_answered_with_what_to_write_instead(eightbit, tmp_path, words, message):
    small = ["--buffer-size", "2000", "--learning-starts", "100", "--precision", "fp32"]
    measured = re.search(r"--(device|backbone|preset)|gym:", words)
    refused(eightbit(*words.split(), *(small if measured else [])), 2, message)
    assert not list(tmp_path.iterdir())


def test_an_unknown_backbone_is_refused_before_anything_is_made(eightbit):
    assert eightbit("train", "pong", "--backbone", "natur").out == ""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("evaluate RUN --protocol mnih", 2, "--protocol is 'mnih'; choose one of mnih2015, mach"),
        ("evaluate RUN --protocol machado2018", 2, "train one with --protocol machado2018"),
        ("evaluate RUN --checkpoint bst", 1, "RUN has no checkpoint 'bst': it has 120[.]"),
        ("evaluate RUN --epsilon 7", 2, "epsilon 7.0 is not a share"),
        ("evaluate RUN --episodes 0", 2, "at least one episode"),
        ("evaluate RUN --contrls", 2, "unknown option '--contrls': did you mean --controls"),
        ("evaluate RUN other", 2, "'other' is one word too many"),
        ("watch RUN -o x.avi", 2, "x.avi must end in .mp4"),
        ("watch RUN --episodes x", 2, "--episodes: 'x' is no whole number"),
        (
            "train breakout --resume RUN",
            1,
            "RUN is a run of catch, not of breakout; leave the game",
        ),
        ("train --resume RUN", 2, "the run has made its 120 frames; give more --frames[.]"),
        ("train --resume RUN --frames 9k --seed 3", 2, "seed is 0 in RUN and cannot change"),
        ("train --resume RUN --frames 9k --num-envs 8", 2, "num_envs is 4 in RUN and cannot chan"),
        ("train --resume RUN --frames 9k --preset zoo", 2, "holds all options already"),
        ("train catch --out RUN", 1, "RUN exists already: continue it with 'eightbit train --res"),
        ("train catch --out RUN/events", 1, "RUN/events exists already and is no run folder"),
    ],
)
def test_what_a_run_cannot_do_is_said_and_changes_nothing(eightbit, run, words, code, message):
    def contents():
        files = [path for path in run.rglob("*") if path.is_file() and path.name != ".lock"]
        return {path: path.read_bytes() for path in files}

    before = contents()
    refused(eightbit(*words.split()), code, message)
    assert contents() == before


# ------------------------------------------------------------------------- damaged runs


def nothing(run: Path) -> None:
    shutil.rmtree(run)


def an_empty_folder(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def no_checkpoint_yet(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "model.safetensors").unlink()


def change_config(old: str, new: str):
    def harm(run: Path) -> None:
        text = (run / "config.toml").read_text()
        assert text.count(old) == 1
        (run / "config.toml").write_text(text.replace(old, new))

    return harm


def half_a_config(run: Path) -> None:
    os.truncate(run / "config.toml", (run / "config.toml").stat().st_size // 3)


def a_config_that_ends_after_a_line(run: Path) -> None:
    lines = (run / "config.toml").read_text().splitlines(keepends=True)
    (run / "config.toml").write_text("".join(lines[: lines.index("[machine]\n")]))


def in_each_model(change):
    """Changes the weights of the checkpoints and of the run."""

    def harm(run: Path) -> None:
        for path in run.rglob("model.safetensors"):
            path.write_bytes(change(path.read_bytes()))

    return harm


def newer_state(run: Path) -> None:
    for path in run.rglob("state.safetensors"):
        content = path.read_bytes()
        assert content.count(b'"version": "1"') == 1
        path.write_bytes(content.replace(b'"version": "1"', b'"version": "2"'))


class Trap:
    """Unpickling this makes the file `sprung`."""

    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


GO_ON = "train --resume RUN --frames 200"
TRUNCATED = in_each_model(lambda content: content[: len(content) // 2])
BIT_FLIPPED = in_each_model(lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
PICKLED = in_each_model(lambda content: pickle.dumps(Trap()))
OTHER_FORMAT = in_each_model(lambda c: c.replace(b"eightbit-agent-1", b"eightbit-agent-2"))
OTHER_OPTION = in_each_model(lambda content: content.replace(b'\\"n_step\\"', b'\\"m_step\\"'))


@pytest.mark.parametrize(
    ("harm", "words", "message"),
    [
        (nothing, GO_ON, "there is no run folder RUN; 'eightbit train GAME --out RUN' makes one"),
        (nothing, "evaluate RUN", "there is no run folder RUN"),
        (nothing, "watch RUN", "there is no run folder RUN"),
        (an_empty_folder, GO_ON, "RUN is no run folder: it holds no config.toml"),
        (an_empty_folder, "evaluate RUN", "RUN is no run folder"),
        (no_checkpoint_yet, GO_ON, "ended before its first checkpoint; repeat it with 'eightbit t"),
        (no_checkpoint_yet, "evaluate RUN", "RUN has no weights yet"),
        (half_a_config, GO_ON, "RUN/config.toml is (damaged|no configuration)"),
        (half_a_config, "evaluate RUN", "RUN/config.toml is (damaged|no configuration)"),
        (a_config_that_ends_after_a_line, "evaluate RUN", "RUN/config.toml is damaged"),
        (change_config("format = 1", "format = 2"), GO_ON, "newer version of eightbit"),
        (change_config("format = 1", "format = 2"), "evaluate RUN", "upgrade with 'pip install -U"),
        (change_config("format = 1", "format = 2"), "watch RUN", "newer version of eightbit"),
        (newer_state, GO_ON, "written by a newer version of eightbit; upgrade with"),
        (newer_state, "evaluate RUN", "written by a newer version of eightbit"),
        (change_config('game = "catch"', ""), GO_ON, "is no configuration of a run"),
        (change_config('game = "catch"', ""), "watch RUN", "is no configuration of a run"),
        (change_config('game = "catch"', 'game = ""'), "evaluate RUN", "it names no game"),
        (change_config('game = "catch"', 'game = "pong"'), "evaluate RUN", "agent of another game"),
        (change_config("frame_stack = 4", "frame_stack = []"), "watch RUN", r"\[env\] .*_stack is"),
        (change_config('game = "catch"', 'game = "pong"'), f"{GO_ON}0", "does not fit this run"),
        (change_config("n_step = 1", 'n_step = "x"'), GO_ON, r"\[options\] .*: n_step is 'x'[.]"),
        (change_config('loss = "mse"', 'loss = "h"'), GO_ON, r"\[options\] .*: loss is 'h'[.]"),
        (change_config("n_step = 1", "new = 3"), GO_ON, "does not fit: unknown option 'new'"),
        (
            change_config('"mnih2015"', '"mnih2016"'),
            GO_ON,
            r"\[run\] .* not fit: 'mnih2016' is not",
        ),
        (TRUNCATED, "evaluate RUN", "model.safetensors is not a whole safetensors file"),
        (TRUNCATED, "watch RUN", "model.safetensors is not a whole safetensors file"),
        (BIT_FLIPPED, "evaluate RUN", "model.safetensors is damaged: its checksum differs"),
        (PICKLED, "evaluate RUN", "pickled files are not read"),
        (PICKLED, "watch RUN", "pickled files are not read"),
        (OTHER_FORMAT, "evaluate RUN", "holds no agent of this version"),
        (OTHER_OPTION, "evaluate RUN", "does not say what it holds .unknown option 'm_step'"),
    ],
)
def test_damaged_runs_are_refused_in_one_sentence(eightbit, run, harm, words, message):
    harm(run)
    refused(eightbit(*words.split()), 1, message)
    assert not Path("sprung").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pkl"])
def test_weights_to_start_from_are_never_unpickled(eightbit, tmp_path, suffix):
    (tmp_path / f"weights{suffix}").write_bytes(pickle.dumps(Trap()))
    options = [*TINY, "--backbone-weights", f"./weights{suffix}"]
    answer = eightbit("train", "catch", *options, "--out", "new")
    refused(answer, 1, f"weights{suffix} is")
    assert not Path("sprung").exists() and not Path("new").exists()
    pickle.loads((tmp_path / f"weights{suffix}").read_bytes())  # noqa: S301  # the trap works
    assert Path("sprung").exists()


# ------------------------------------------------------------------------- the machine


def test_more_memory_than_the_machine_has_is_said_before_the_start(eightbit, monkeypatch):
    monkeypatch.setattr(session, "available_memory", lambda: 3_000_000_000)
    answer = eightbit("train", "pong", "--agent", "dqn", "--buffer-size", "1M", "--num-envs", "4")
    message = "1,000,000 transitions needs 7.1 GB and the run 1.0 GB besides, but 3.0 GB are free"
    refused(answer, 1, message)
    assert "lower --buffer-size." in answer.err and not Path("runs").exists()


def test_a_second_process_on_a_run_folder_is_refused(eightbit, run):
    with RunFolder.open(run).locked():
        refused(eightbit(*GO_ON.split()), 1, f"RUN is in use by process {os.getpid()}: wait for it")
        assert eightbit("evaluate", "RUN", "--episodes", 1).code == 0  # reading is no harm
    assert eightbit(*GO_ON.split()).code == 0


def test_a_loss_that_is_no_number_stops_with_the_step_and_the_last_checkpoint(eightbit):
    told = ["--learning-rate", "1e30", "--checkpoint-minutes", "1e-9", "--out", "new"]
    answer = eightbit("train", "catch", *TINY, *told, "--frames", 400)
    where = (
        r"the loss is not a finite number at agent step \d+, update \d+; lower the learning rate"
    )
    last = RunFolder.open("new").checkpoints.steps()[-1]
    refused(answer, 1, where)
    assert f"the last checkpoint is of step {last.step}, to resume with 'eightbit" in answer.err


def test_a_loss_that_is_no_number_before_the_first_checkpoint(eightbit):
    told = ["--learning-rate", "1e30", "--out", "new"]
    answer = eightbit("train", "catch", *TINY, *told, "--frames", 400)
    refused(answer, 1, "no checkpoint was written before[.]")


def test_a_folder_that_cannot_be_written_is_said(eightbit, tmp_path):
    (tmp_path / "file").write_text("")
    answer = eightbit("train", "catch", *TINY, "--out", "file/run")
    refused(answer, 1, "cannot make file/run: Not a directory")


def test_what_the_system_refuses_elsewhere_is_one_sentence_too(eightbit, run, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "RUN/evaluation.json")

    monkeypatch.setattr("eightbit.evaluate.report.evaluate_run", refuse)
    refused(eightbit("evaluate", "RUN"), 1, "the system refuses: Permission denied .RUN/evaluation")


def test_ctrl_c_saves_the_run_and_says_how_to_go_on(eightbit, run):
    process = subprocess.Popen(
        [sys.executable, "-m", "eightbit", "train", "--resume", "RUN", "--frames", "10M"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list((run / "events").iterdir())) == 1:  # its own file is made when training begins
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "stopping: saving a checkpoint ...\n" in out
    assert out.endswith("go on with: eightbit train --resume RUN\n")
    step = RunFolder.open("RUN").checkpoints.steps()[-1].step
    assert step > 120 and f"stopped at step {step:,}" in out
    assert eightbit("train", "--resume", "RUN", "--frames", step + 20).code == 0


def test_ctrl_c_outside_of_training_ends_quietly(eightbit, run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("eightbit.evaluate.report.evaluate_run", interrupt)
    answer = eightbit("evaluate", "RUN")
    assert (answer.code, answer.err) == (130, "eightbit: interrupted.\n")
