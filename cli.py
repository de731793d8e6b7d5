"""The `eightbit` command: it parses, looks up and calls. What is slow to import comes last."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, cli_tasks
from .arguments import parse, peek, with_value, words_apart
from .cli_tasks import WhichRun
from .errors import EightBitError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from .agents import AgentSpec
    from .train.agents import Evaluate
    from .train.session import RunRequest

USAGE = """\
usage: eightbit COMMAND ...

Deep Q-learning from pixels on Atari, and one registry of backbones.

  train GAME      learn a game from pixels, any environment as gym:<id>, or a task like classify
  run TASK        use what a task's run learnt on files
  evaluate RUN    score a run by a protocol of the literature, beside its controls
  watch RUN       let a run play: a video, or a window; samples of a task
  play GAME       play a game yourself, or beside a run
  export RUN      the network as an ONNX file
  check AGENT     whether an agent learns values that are known
  list KIND       games, agents, backbones, presets, tasks or data

  eightbit train pong
  eightbit train pong --minutes 60 --seed 1
  eightbit train --resume runs/RUN
  eightbit train pong breakout --seeds 5 --jobs 2
  eightbit evaluate runs/RUN --controls
  eightbit evaluate runs/SWEEP --table
  eightbit watch runs/RUN -o pong.mp4
  eightbit play pong
  eightbit train classify --minutes 15
  eightbit run classify runs/RUN photo.jpg

'eightbit COMMAND --help' shows every option with its default; 'eightbit --version' the version.
"""
EXTRAS = {"lightning_fabric": "tasks", "pooch": "tasks", "pycocotools": "tasks"}
INTERRUPTED = 130  # what shells give for a command that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    0 done, 1 failed, 2 asked wrongly, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(given)
        sys.stdout.flush()  # here, where a reader that has gone is no traceback
        return code
    except EightBitError as error:
        print(f"eightbit: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit:  # the parser's, after --help; it refuses by a UsageError
        return 0
    except KeyboardInterrupt:
        print("eightbit: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = EXTRAS[error.name]
        print(
            f"eightbit: {error.name} is missing; write pip install 'eightbit[{extra}]'.",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes the rest at exit
        return 1
    except OSError as error:  # of a disk, most likely: nothing of ours is open for long
        at = f" ({error.filename})" if error.filename else ""
        print(f"eightbit: the system refuses: {error.strerror or error}{at}.", file=sys.stderr)
        return 1


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE, end="", file=sys.stdout if given else sys.stderr)
        return 0 if given else 2
    if given[0] in ("-V", "--version"):
        print(f"eightbit {__version__}")
        return 0
    if given[0] not in COMMANDS:
        raise UnknownNameError("command", given[0], COMMANDS, "eightbit --help")
    return COMMANDS[given[0]](given[1:])


def _doc(command: Callable[[list[str]], int]) -> str:
    return command.__doc__ or ""


# ------------------------------------------------------------------------------------ train


@dataclass(frozen=True)
class TrainFolders:
    """Where a run is written, or what it goes on from."""

    out: str | None = None
    """the new run folder; runs/<game>-<preset>-<seed>-<time> unless told"""
    resume: str | None = field(default=None, metadata={"metavar": "RUN"})
    """go on from this run folder's last checkpoint"""
    config: str | None = field(default=None, metadata={"metavar": "RUN/config.toml"})
    """repeat the run of this file; options given beside it win"""


def _train(given: list[str]) -> int:
    """Learns a game and writes a run folder; several games or seeds, a sweep."""
    if task := cli_tasks.named_task(given):
        return cli_tasks.train(task, given)
    from .agents import AGENTS
    from .train.runs import CONFIG, RunFolder, read_config
    from .train.session import RunRequest, decode_options, resume_run, start_run
    from .train.sweep import SWEEP, SweepSettings, is_sweep, planned_sweep, sweep_table
    from .train.sweep_jobs import run_sweep

    told = peek(given, "agent", "preset", "config", "resume", "out", "ray")
    if "resume" in told and ("config" in told or "out" in told):
        raise UsageError("--resume goes on with a run in its own folder; leave --config and --out.")
    swept = "resume" in told and is_sweep(told["resume"])
    folder = RunFolder.open(told["resume"]) if "resume" in told and not swept else None
    config: dict[str, Any] = {}
    if folder is None and not swept and "config" not in told:
        # What plays elsewhere is learnt from by replay.
        name = told.get("agent", "dqn" if "ray" in told else None)
        agent, defaults, options = _train_defaults(name, told.get("preset"), given)
    else:
        file = Path(told["resume"], SWEEP) if swept else told.get("config", "")
        config = folder.config if folder is not None else read_config(file)
        defaults = RunRequest.from_table(config["run"])
        if told.get("preset", defaults.preset) != defaults.preset:
            raise UsageError(f"{CONFIG} holds all options already; leave --preset out.")
        agent = AGENTS[told.get("agent", defaults.agent)]
        options = decode_options(type(next(iter(agent.presets.values()))), config["options"])
    tokens = with_value(given, "--save-replay", yes="yes", no="no", known=("auto", "yes", "no"))
    main = (defaults, TrainFolders(), SweepSettings())
    games, others = words_apart(tokens, *main, options)
    request, folders, table, options = parse(
        [*games[:1], *others],
        "train",
        _doc(_train),
        *main,
        **{agent.name.replace("-", "_"): options},
    )
    before, seeds = sweep_table(config)
    games = games or before or [request.game]
    requests = [_named_game(dataclasses.replace(request, game=game)) for game in games]
    names, seeds = [one.game for one in requests], table.seeds or seeds or 1
    if swept or len(names) * seeds > 1:
        if folder is not None:
            raise UsageError(f"{folder.path} is one run: leave other games and --seeds out.")
        sweep = planned_sweep(request, options, names, seeds, table)
        return run_sweep(sweep, table, told["resume"] if swept else folders.out)
    if table.devices:
        raise UsageError("--devices is for several runs; give one run its --device.")
    (request,) = requests
    if folder is not None:
        result = resume_run(folder, request, options, evaluate=_evaluator(request))
    else:
        folder, result = start_run(request, options, out=folders.out, evaluate=_evaluator(request))
    if result.signal is not None:
        return 128 + result.signal
    print(f"next: eightbit evaluate {folder.path}")
    print(f"      eightbit watch {folder.path} -o {folder.path / 'videos' / 'game.mp4'}")
    return 0


def _train_defaults(
    agent_name: str | None, preset: str | None, given: Sequence[str]
) -> tuple[AgentSpec, RunRequest, Any]:
    """What the options are where the command line does not say: those of a preset."""
    from .agents import AGENTS, default_agent
    from .train.session import RunRequest, observation_shape

    # Who learns, and the preset, depend on the kind of observation, so the game is needed first.
    game = next((token for token in given if token.startswith("gym:")), "pong")
    shape = observation_shape(game) if agent_name is None or preset is None else ()
    if agent_name is None:
        agent_name = default_agent(shape)
        if preset is not None and preset not in AGENTS[agent_name].presets:  # whose else?
            agent_name = next((n for n in AGENTS if preset in AGENTS[n].presets), agent_name)
    agent = AGENTS[agent_name]
    preset = agent.default_preset(shape) if preset is None else preset
    if preset not in agent.presets:
        raise UnknownNameError("preset", preset, agent.presets, "eightbit list presets")
    return agent, RunRequest(agent=agent.name, preset=preset), agent.presets[preset]


def _named_game(request: RunRequest) -> RunRequest:
    """The request with the game's canonical name; says what its spelling implied elsewhere."""
    from .train.session import canonical_game

    if not request.game:
        raise UsageError(
            "which game? Write 'eightbit train pong'; 'eightbit list games' shows all."
        )
    game, note = canonical_game(request.game, request.protocol)
    if note:
        print(note)
    return dataclasses.replace(request, game=game)


def _evaluator(request: RunRequest) -> Evaluate | None:
    """Greedy play with the protocol's exploration, in environments of its own."""
    if request.eval_every is None:
        return None
    from .evaluate.evaluation import evaluate_policy, start_playing

    gym = request.game.startswith("gym:")

    def evaluate(agent: Any) -> float:
        played = evaluate_policy(
            start_playing(agent),
            request.game,
            request.protocol,
            episodes=request.eval_episodes,
            seed=request.seed + 1,
            epsilon=0.0 if gym else None,
        )
        return played.score.mean

    return evaluate


# ---------------------------------------------------------------- evaluate, watch and play


@dataclass(frozen=True)
class WhichVideo:
    """The file that a video goes to."""

    output: str = field(default="", metadata={"short": "-o", "metavar": "FILE"})
    """the video to write, .mp4, or .gif for its beginning; by default one in RUN/videos, or
    a window where there is a display"""


def _evaluate(given: list[str]) -> int:
    """Scores a run by a protocol of the literature; --table puts many together."""
    if any(cli_tasks.is_task_run(word) for word in given):
        return cli_tasks.evaluate(given)
    from .evaluate.report import EvaluationSettings, evaluate_run, print_controls
    from .evaluate.table import TableSettings, make_table
    from .train.card import write_card
    from .train.runs import RunFolder

    which, settings, tabled = parse(
        given, "evaluate", _doc(_evaluate), WhichRun(), EvaluationSettings(), TableSettings()
    )
    run = _named_run(which, "evaluate")
    command = shlex.join(["eightbit", "evaluate", *given])
    if tabled.table:
        print(f"written to {make_table(run, settings, tabled, command=command)}")
        return 0
    if tabled != TableSettings():
        raise UsageError("--against and --output are of a table of runs: add --table.")
    report = evaluate_run(run, settings, command=command)
    if report.controls:
        print_controls(report)
    write_card(RunFolder.open(run))
    print(f"written to {report.path}")
    return 0


def _watch(given: list[str]) -> int:
    """Lets a run play, into a video or a window."""
    pairs = zip(["", *given], given, strict=False)
    # Those behind these options are runs of tasks, too, but the game is another's.
    words = [word for before, word in pairs if before not in ("--seen", "--told")]
    if any(cli_tasks.is_task_run(word) for word in words):
        return cli_tasks.watch(given)
    from .evaluate.watch import WatchSettings, watch_run

    tokens = with_value(given, "--window", yes="True", no="False", known=("True", "False"))
    tokens = with_value(
        tokens, "--saliency", yes="perturbation", no="None", known=("perturbation", "gradient")
    )
    which, video, settings = parse(
        tokens, "watch", _doc(_watch), WhichRun(), WhichVideo(), WatchSettings()
    )
    run = _named_run(which, "watch")
    path = watch_run(run, Path(video.output) if video.output else None, settings)
    if path is not None:
        print(f"written to {path}")
    return 0


def _play(given: list[str]) -> int:
    """Opens a window to play in, alone or beside an agent; F1 shows the keys."""
    from .evaluate.play import PlaySettings, play_game

    (settings,) = parse(given, "play", _doc(_play), PlaySettings())
    path = play_game(settings)
    if path is not None:
        print(f"written to {path}")
    return 0


@dataclass(frozen=True)
class WhichExport:
    """The file that a network goes to."""

    output: str = field(default="", metadata={"short": "-o", "metavar": "FILE"})
    """the file to write, .onnx; by default RUN/model.onnx"""


def _export(given: list[str]) -> int:
    """Writes the network of a run as an ONNX file, and compares both on random observations."""
    from .evaluate.export import ExportSettings, export_run
    from .evaluate.export_task import export_task_run

    which, file, settings = parse(
        given, "export", _doc(_export), WhichRun(), WhichExport(), ExportSettings()
    )
    run = _named_run(which, "export")
    export = export_task_run if cli_tasks.is_task_run(run) else export_run
    exported = export(run, Path(file.output) if file.output else None, settings)
    for what, nodes in (("in", exported.inputs), ("out", exported.outputs)):
        for node in nodes:
            print(f"{what}: {node}")
    print(f"largest difference between onnxruntime and torch: {exported.difference:.2g}")
    print(f"written to {exported.path}")
    return 0


def _check(given: list[str]) -> int:
    """Trains an agent in two tiny environments with known values and says whether its are right."""
    from .evaluate.check import CheckSettings, check_agents

    (settings,) = parse(given, "check", _doc(_check), CheckSettings())
    return 0 if all(one.right for one in check_agents(settings)) else 1


def _named_run(which: WhichRun, command: str) -> str:
    if not which.run:
        raise UsageError(f"which run? Write 'eightbit {command} RUN' with the folder of a run.")
    return which.run


# ------------------------------------------------------------------------------------- list


def _list(given: list[str]) -> int:
    kinds: dict[str, Callable[[], None]] = {
        "games": _list_games,
        "agents": _list_agents,
        "backbones": _list_backbones,
        "presets": _list_presets,
        "tasks": cli_tasks.list_tasks,
        "data": cli_tasks.list_data,
    }
    if len(given) == 1 and given[0] in ("-h", "--help"):
        print(f"usage: eightbit list {{{','.join(kinds)}}}")
        return 0
    if len(given) != 1:
        raise UsageError(f"list one of: {', '.join(kinds)}.")
    if given[0] not in kinds:
        raise UnknownNameError("list", given[0], kinds)
    kinds[given[0]]()
    return 0


def _list_games() -> None:
    from .envs.games import CATCH, list_games

    for name in list_games():
        print(name)
    print(f"{CATCH}  (ours: small, learnt in seconds)")
    print("gym:<id>  (any environment of Gymnasium with discrete actions, like gym:CartPole-v1)")


def _list_agents() -> None:
    from .agents import AGENTS

    for name in AGENTS:
        print(f"{name}  {AGENTS[name].description}; presets {', '.join(AGENTS[name].presets)}")


def _list_presets() -> None:
    from .agents import AGENTS

    for name in AGENTS:
        presets = AGENTS[name].presets
        first, usual = next(iter(presets.items()))
        for preset, options in presets.items():
            print(f"{name} --preset {preset}")
            if preset == first:
                print("    the default: 'eightbit train --help' shows all options")
                continue
            before = dataclasses.asdict(usual)
            changed = {k: v for k, v in dataclasses.asdict(options).items() if v != before[k]}
            for option, value in changed.items():
                print(f"    {option} = {value}  ({before[option]} in {first})")


def _list_backbones() -> None:
    from .backbones import backbone_table

    heads = ("name", "kind", "input", "features", "parameters", "MFLOPs", "ms for 32", "what it is")
    rows = [
        (
            row.name,
            row.kind,
            "x".join(map(str, row.in_shape)),
            str(row.out_features),
            f"{row.parameters:,}",
            f"{row.flops / 1e6:.1f}",
            f"{row.forward_ms:.1f}",
            row.description,
        )
        for row in backbone_table()
    ]
    widths = [max(len(line[i]) for line in [heads, *rows]) for i in range(len(heads) - 1)]
    for line in [heads, *rows]:
        cells = [f"{cell:{width}}" for cell, width in zip(line[:-1], widths, strict=True)]
        print("  ".join([*cells, line[-1]]))


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "run": cli_tasks.run,
    "evaluate": _evaluate,
    "watch": _watch,
    "play": _play,
    "export": _export,
    "check": _check,
    "list": _list,
}
