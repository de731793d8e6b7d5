"""What the command line shows: help, lists, what it loads for them, and docs/command-line.md.

`python tests/test_cli_page.py` writes the page's tables of options anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eightbit import __version__
from eightbit.agents import AGENTS
from eightbit.agents.options import DQNOptions
from eightbit.agents.presets import PQN_PRESETS
from eightbit.arguments import options_of, peek, whole, with_value
from eightbit.backbones import list_backbones
from eightbit.cli import COMMANDS, TrainFolders, WhichExport, WhichVideo, main
from eightbit.datasets import DATASETS
from eightbit.envs.games import list_games
from eightbit.envs.options import Protocol
from eightbit.errors import UsageError
from eightbit.evaluate.check import CheckSettings
from eightbit.evaluate.export import ExportSettings
from eightbit.evaluate.keyboard import AGENT_HELP, HELP
from eightbit.evaluate.play import PlaySettings
from eightbit.evaluate.report import EvaluationSettings
from eightbit.evaluate.table import TableSettings
from eightbit.evaluate.watch import WatchSettings
from eightbit.tasks import task_names
from eightbit.train import session
from eightbit.train.session import RunRequest
from eightbit.train.sweep import SweepSettings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "command-line.md"
TABLES: dict[str, tuple[Any, ...]] = {
    "train": (RunRequest(), TrainFolders(), SweepSettings()),
    "pqn": (PQN_PRESETS["fast"],),
    "evaluate": (EvaluationSettings(), TableSettings()),
    "watch": (WhichVideo(), WatchSettings()),
    "play": (PlaySettings(),),
    "check": (CheckSettings(),),
    "export": (WhichExport(), ExportSettings()),
}


def option_table(*defaults: Any) -> str:
    lines = ["| option | default | |", "|---|---|---|"]
    for option in (option for one in defaults for option in options_of(one) if option.flags):
        flags = " ".join([", ".join(option.flags), option.metavar]).strip()
        default = f"`{option.default}`" if option.default else ""
        lines.append(f"| `{flags}` | {default} | {option.help.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def _part(name: str, text: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert found, name
    return found[1]


def _with_tables(text: str) -> str:
    for name, defaults in TABLES.items():
        table = option_table(*defaults)
        text = text.replace(
            f"<!-- {name} -->\n{_part(name, text)}", f"<!-- {name} -->\n{table}\n", 1
        )
    return text


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(session, "draw_run", lambda *_: None)


def shown(capsys, *words: str) -> str:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


# ------------------------------------------------------------------------------------- help


def words_of(text: str) -> str:
    """The words of a framed help text, whatever its width and frame."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize("command", ["train", "evaluate", "watch", "play", "check", "export"])
def test_help_shows_every_option_with_its_default(capsys, command):
    text = words_of(shown(capsys, command, "--help"))
    for name in [command, *(["pqn"] if command == "train" else [])]:
        for option in (option for one in TABLES[name] for option in options_of(one)):
            flags = option.flags if option.metavar else option.flags[:1]
            for flag in flags:
                assert f"{flag} {option.metavar}".strip() in text
            default = f" (default: {option.default})" if option.default else ""
            assert option.help + default in text


@pytest.mark.parametrize("command", ["train", "evaluate", "watch", "play", "check", "export"])
def test_help_speaks_to_users(capsys, command):
    text = shown(capsys, command, "--help")
    titles = re.findall(r"^\W*((?:\w+ )?(?:arguments|options))\W*$", text, re.MULTILINE)
    assert titles == ["positional arguments", "options"] + ["pqn options"] * (command == "train")
    assert "None" not in text and "default: ''" not in text
    assert "How a run is scored" not in text and "table `run`" not in text
    doc = COMMANDS[command].__doc__
    assert doc and doc in text


def test_help_of_an_agent_shows_the_chosen_preset(capsys):
    text = words_of(shown(capsys, "train", "--preset", "mnih2015", "--help"))
    assert "--num-envs INT environments that are stepped together (default: 1)" in text


def test_the_first_help_names_every_command_and_its_examples_exist(capsys):
    text = shown(capsys, "--help")
    assert shown(capsys, "-h") == shown(capsys, "help") == text
    assert re.findall(r"^  (\w+) [A-Z]+ ", text, re.MULTILINE) == list(COMMANDS)
    known = {
        flag for one in TABLES.values() for o in one for x in options_of(o) for flag in x.flags
    }
    used = set(re.findall(r"(?<= )--?\w[\w-]*", text.split("'eightbit COMMAND")[0]))
    assert used and used <= known
    assert main([]) == 2
    assert capsys.readouterr() == ("", text)


def test_the_version_is_that_of_the_package(capsys):
    assert shown(capsys, "--version") == shown(capsys, "-V") == f"eightbit {__version__}\n"


# ------------------------------------------------------------------------------------ lists


def test_lists_name_everything_that_is_registered(capsys):
    games = shown(capsys, "list", "games").splitlines()
    assert games[:104] == list_games() and games[104].startswith("catch")
    agents = shown(capsys, "list", "agents")
    presets = shown(capsys, "list", "presets")
    for name in AGENTS:
        assert name in agents
        for preset in AGENTS[name].presets:
            assert preset in agents and f"{name} --preset {preset}\n" in presets
    assert "    learning_rate = 0.00025  (0.0002 in fast)\n" in presets
    tasks, data = shown(capsys, "list", "tasks"), shown(capsys, "list", "data")
    assert all(f"\n{name}  " in f"\n{tasks}" for name in task_names())
    assert all(f"\n{name}  " in f"\n{data}" for name in DATASETS)
    assert "    --preset alexnet: " in tasks
    assert "{games,agents,backbones,presets,tasks,data}" in shown(capsys, "list", "--help")


def test_the_list_of_backbones_has_parameters_flops_and_time(capsys):
    head, *rows = shown(capsys, "list", "backbones").splitlines()
    assert head.split()[:7] == ["name", "kind", "input", "features", "parameters", "MFLOPs", "ms"]
    assert [row.split()[0] for row in rows] == list(list_backbones())
    nature = next(row for row in rows if row.startswith("nature")).split()
    assert nature[1:6] == ["cnn", "4x84x84", "512", "1,684,128", "18.7"] and float(nature[6]) > 0


HEAVY = ("torch", "stable_baselines3", "matplotlib", "cv2", "ale_py", "tyro", "tensorboard", "av")


def test_help_and_lists_load_nothing_heavy():
    code = (
        "import sys\n"
        "from eightbit.cli import main\n"
        "for words in (['--help'], ['--version'], ['list', 'games'], ['list', 'agents'],\n"
        "              ['list', 'presets'], ['list', 'data'], ['list', 'nothing']):\n"
        "    main(words)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_runs_as_the_command_does():
    done = subprocess.run(
        [sys.executable, "-m", "eightbit", "list", "gmes"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "eightbit: unknown list 'gmes': did you mean games or agents?\n"


def test_a_reader_that_leaves_early_is_no_traceback():
    buffered = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-m", "eightbit", "list", "games"],
        env=buffered,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 1


# -------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500", 500),
        ("500_000", 500_000),
        ("500k", 500_000),
        ("10M", 10_000_000),
        ("2.5m", 2_500_000),
        ("0.0004M", 400),
        ("-3", -3),
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_whole_numbers_are_written_in_several_ways(text, number):
    assert whole(text) == number


@pytest.mark.parametrize("text", ["", "k", "1.5", "1e6", "0.0001k", "10 M", "ten", "1,000"])
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(ValueError, match="is no whole number; write it like 500000, 500k or 10M"):
        whole(text)


def test_some_options_are_read_before_the_others():
    given = ["pong", "--frames", "10M", "--preset=zoo", "--seed", "3", "--agents", "x"]
    assert peek(given, "agent", "preset") == {"preset": "zoo"}
    with pytest.raises(UsageError, match="--agent needs a value"):
        peek(["--agent"], "agent")


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ("RUN --x", "RUN --x yes"),
        ("--x RUN", "--x yes RUN"),
        ("--no-x RUN", "--x no RUN"),
        ("--x auto RUN", "--x auto RUN"),
        ("--x=auto", "--x=auto"),
    ],
)
def test_a_switch_may_have_further_values(given, tokens):
    known = ("auto", "yes", "no")
    assert with_value(given.split(), "--x", yes="yes", no="no", known=known) == tokens.split()


def test_options_know_their_flags_help_and_defaults():
    options = {one.name: one for one in (*options_of(RunRequest()), *options_of(WatchSettings()))}
    assert options["game"].flags == () and options["game"].metavar == "GAME"
    assert options["protocol"].metavar == f"{{{','.join(p.value for p in Protocol)}}}"
    assert options["minutes"].default == "no limit" and options["minutes"].metavar == "FLOAT"
    assert options["window"].flags == ("--window", "--no-window")
    assert options["saliency"].metavar == "{perturbation,gradient}"
    dqn = {one.name: one for one in options_of(DQNOptions(buffer_size=1_000_000, double=True))}
    assert (dqn["buffer_size"].default, dqn["double"].default) == ("1_000_000", "yes")
    assert dqn["double"].flags == ("--double", "--no-double")


# --------------------------------------------------------------------------------- the page


def test_the_tables_of_options_are_those_of_the_code():
    assert PAGE.read_text() == _with_tables(PAGE.read_text()), f"run {Path(__file__).name}"


def commands_of_the_page() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines]


SMALL = {
    "train": [
        *("--num-envs", "4", "--buffer-size", "400", "--learning-starts", "60", "--batch-size"),
        *("8", "--replay-ratio", "1", "--precision", "fp32", "--eval-episodes", "1"),
    ],
    "evaluate": ["--episodes", "1"],
    "watch": ["--max-frames", "4"],
    "play": [],
    "check": [],
    "export": [],
    "list": [],
}
PIXELS = ["--backbone", "nips2013", "--backbone-options", '{"hidden": 16}']


def made_small(words: list[str], frames: int) -> list[str]:
    """A command of the page with the small game for a large one, and little to do."""
    command, *rest = words
    rest = ["catch" if word in ("pong", "ALE/Breakout-v5") else word for word in rest]
    rest = ["40" if word == "250k" else word for word in rest]
    small = [] if "--resume" in rest or command != "train" else SMALL["train"]
    if command == "train":
        vector = any(word.startswith("gym:") for word in rest)
        small = [*small, *([] if vector or "--resume" in rest else PIXELS)]
        return [command, *rest, *small, "--frames", str(frames)]
    return [command, *rest, *SMALL[command]]


@pytest.fixture(scope="module")
def page_commands_run(tmp_path_factory):
    """The folder in which all commands of the page were run, in their order, made small."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("eightbit.evaluate.play.play_game", lambda _: None)  # needs a display
        patch.setattr("eightbit.evaluate.check.check_agents", lambda _: [])  # has a test of its own
        for number, (program, *words) in enumerate(commands_of_the_page()):
            assert program == "eightbit"
            assert main(made_small(words, 100 + 4 * number)) == 0, words
            patch.setattr(session, "draw_run", lambda *_: None)  # once is enough, and slow
    return folder


def test_the_commands_of_the_page_run(page_commands_run):
    commands = [" ".join(words[:2]) for words in commands_of_the_page()]
    of_games = {f"eightbit {name}" for name in COMMANDS if name != "run"}  # for tasks alone
    assert of_games == set(commands) and len(commands) >= 15
    assert (page_commands_run / "pong.mp4").stat().st_size > 0
    runs = {path.name.rstrip("0123456789-") for path in (page_commands_run / "runs").iterdir()}
    assert {"pong", "again", "other", "CartPole-v1-vector", "catch-fast", "catch-mnih"} <= runs


def test_the_page_names_every_file_of_a_run_folder(page_commands_run):
    assert main(["watch", str(page_commands_run / "runs" / "pong"), "--max-frames", "4"]) == 0
    named = re.findall(r"^\| `(.*?)/?` \|", _part("folder", PAGE.read_text()), re.MULTILINE)
    there = {p.name for p in (page_commands_run / "runs" / "pong").iterdir()} - {".lock"}
    assert set(named) == there


def test_the_page_names_every_tensorboard_tag(page_commands_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    both = [
        config.parent
        for config in (page_commands_run / "runs").glob("*/config.toml")
        if 'log_style = "both"' in config.read_text()
    ]
    events = EventAccumulator(str(both[0] / "events")).Reload()
    table = _part("tags", PAGE.read_text())
    assert set(re.findall(r"`(\w+/\w+)`", table)) == set(events.Tags()["scalars"])


def test_the_keys_of_the_page_are_those_that_play():
    keys = re.findall(r"^\| (.+) \| (.+) \|$", _part("keys", PAGE.read_text()), re.MULTILINE)
    assert keys == [*HELP, *AGENT_HELP]


def test_the_exit_codes_of_the_page_are_those_of_the_program():
    from eightbit import errors

    codes = [int(code) for code in re.findall(r"^\| (\d+)[ ,]", PAGE.read_text(), re.MULTILINE)]
    assert codes == [0, errors.EightBitError.exit_code, errors.UsageError.exit_code, 130]


def test_what_evaluate_wrote_names_the_command(page_commands_run):
    record = json.loads((page_commands_run / "runs" / "pong" / "evaluation.json").read_text())
    assert record["command"].startswith("eightbit evaluate runs/pong --controls")
    assert [control["player"] for control in record["controls"]]


if __name__ == "__main__":
    PAGE.write_text(_with_tables(PAGE.read_text()))
