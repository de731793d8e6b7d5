"""The `eightbit` command: it parses, looks up and calls. What is slow to import comes last."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from . import __version__
from .errors import EightBitError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    from .evaluate.player import Player
    from .train.agents import Evaluate
    from .train.session import RunRequest

USAGE = """\
usage: eightbit COMMAND ...

Deep Q-learning from pixels on Atari, and one registry of backbones.

  train GAME      learn a game from pixels, or any environment as gym:<id>
  evaluate RUN    score a run by a protocol of the literature
  watch RUN       let a run play: a video, or a window
  list KIND       games, agents, backbones, presets, tasks or data

  eightbit train pong
  eightbit train pong --minutes 60 --seed 1
  eightbit train --resume runs/RUN
  eightbit evaluate runs/RUN --controls
  eightbit watch runs/RUN -o pong.mp4

'eightbit COMMAND --help' shows every option with its default; 'eightbit --version' the version.
"""
INTERRUPTED = 130  # what shells give for a command that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 (failed), 2 (asked wrongly), 130 (Ctrl-C)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except EightBitError as error:
        print(f"eightbit: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("eightbit: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has gone
        sys.stderr.close()
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


# ------------------------------------------------------------------------------------ train


def _train(given: list[str]) -> int:
    from .agents import AGENTS
    from .train.runs import CONFIG, RunFolder, read_config
    from .train.session import RunRequest, resume_run, start_run

    told = _peek(given, "agent", "preset", "config", "resume")
    if "config" in told and "resume" in told:
        raise UsageError("--config starts a new run and --resume continues one: give one of them.")
    config: Mapping[str, Any] = {"run": {}, "options": {}}
    if "config" in told:
        config = read_config(told["config"])
    folder = RunFolder.open(told["resume"]) if "resume" in told else None
    if folder is not None:
        config = folder.config
    if config["run"] and told.get("preset", config["run"]["preset"]) != config["run"]["preset"]:
        raise UsageError(f"{CONFIG} holds all options already; leave --preset out.")
    agent = AGENTS[told.get("agent") or str(config["run"].get("agent", "dqn"))]
    defaults, options = _train_defaults(agent, config, told.get("preset"), given)
    command = dataclasses.make_dataclass(
        "TrainCommand",
        [
            ("run", RunRequest, field(default=defaults)),
            ("out", str | None, field(default=None)),
            ("resume", str | None, field(default=None)),
            ("config", str | None, field(default=None)),
            (agent.name, type(options), field(default=options)),
        ],
        namespace={"__doc__": _TRAIN_DOC},
    )
    tokens = _with_value(given, "--save-replay", yes="yes", no="no", known=("auto", "yes", "no"))
    parsed = _parse(command, tokens, "train")
    request, options = _named_game(parsed.run), getattr(parsed, agent.name)
    if folder is not None:
        result = resume_run(folder, request, options, evaluate=_evaluator(request))
    else:
        folder, result = start_run(request, options, out=parsed.out, evaluate=_evaluator(request))
    if result.reason == "stopped":
        return INTERRUPTED
    print(f"next: eightbit evaluate {folder.path}")
    print(f"      eightbit watch {folder.path} -o {folder.path / 'videos' / 'game.mp4'}")
    return 0


_TRAIN_DOC = """Learns a game and writes a run folder.

Args:
    out: the new run folder; runs/<game>-<preset>-<seed>-<time> unless told
    resume: go on from this run folder's last checkpoint
    config: repeat the run of this config.toml; options given beside it win
"""


def _train_defaults(
    agent: Any, config: Mapping[str, Any], preset: str | None, given: Sequence[str]
) -> tuple[RunRequest, Any]:
    """What the options are where the command line does not say: of a configuration, or a preset."""
    from .train.session import RunRequest, decode_options, observation_shape

    first = next(iter(agent.presets.values()))
    if config["run"]:
        return RunRequest.from_table(config["run"]), decode_options(type(first), config["options"])
    if preset is None:
        # The preset of a game of another kind of observation differs, so the name is needed first.
        game = next((token for token in given if token.startswith("gym:")), "pong")
        preset = agent.default_preset(observation_shape(game))
    if preset not in agent.presets:
        raise UnknownNameError("preset", preset, agent.presets, "eightbit list presets")
    return RunRequest(agent=agent.name, preset=preset), agent.presets[preset]


def _named_game(request: RunRequest) -> RunRequest:
    """The request with the game's canonical name; says what its spelling implied elsewhere."""
    from .train.session import canonical_game

    if not request.game:
        raise UsageError("which game? Write 'eightbit train pong'; 'eightbit list games' shows all")
    game, note = canonical_game(request.game, request.protocol)
    if note:
        print(note)
    return dataclasses.replace(request, game=game)


def _evaluator(request: RunRequest) -> Evaluate | None:
    """Greedy play with the protocol's exploration, in environments of its own."""
    if request.eval_every is None:
        return None
    from .evaluate.evaluation import evaluate_policy

    gym = request.game.startswith("gym:")

    def evaluate(agent: Any) -> float:
        played = evaluate_policy(
            lambda observations: agent.q_values(observations).argmax(axis=1),
            request.game,
            request.protocol,
            episodes=request.eval_episodes,
            seed=request.seed + 1,
            epsilon=0.0 if gym else None,
        )
        return played.score.mean

    return evaluate


# ---------------------------------------------------------------------- evaluate and watch


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `eightbit evaluate`."""

    protocol: str | None = None
    """rules of the games; those of the training by default"""
    episodes: int | None = None
    """games to play; the protocol's number by default"""
    controls: bool = False
    """score random play and the best constant action beside it"""
    checkpoint: str = "last"
    """which weights: last, best, or a number of agent steps"""
    seed: int = 0
    """of the games, the exploration and the bootstrap"""
    device: str = "auto"
    """where the network computes: auto, cpu, cuda, mps"""


def _evaluate(given: list[str]) -> int:
    """Scores a run by a protocol of the literature and writes evaluation.json."""
    parsed = _parse_run(EvaluateOptions, given, "evaluate")
    options = parsed.options
    from .envs.options import PROTOCOLS
    from .evaluate.player import load_player

    player = load_player(
        parsed.run,
        protocol=options.protocol,
        checkpoint=options.checkpoint,
        device=options.device,
    )
    command = shlex.join(["eightbit", "evaluate", *given])
    if PROTOCOLS[player.protocol].score_from_training and not player.game.startswith("gym:"):
        record = _score_of_training(player, options, command)
    else:
        record = _score_of_games(player, options, command)
    from .evaluate.records import write_record
    from .train.card import write_card

    print(f"written to {write_record(player.run.path, record)}")
    write_card(player.run)
    return 0


def _score_of_games(player: Player, options: EvaluateOptions, command: str) -> dict[str, Any]:
    """Plays the protocol's games, and the controls where asked for; prints and records them."""
    from .evaluate.evaluation import best_constant_action, evaluate_policy, random_play
    from .evaluate.records import evaluation_record
    from .evaluate.scores import beats

    arguments: dict[str, Any] = {
        "episodes": options.episodes,
        "seed": options.seed,
        "options": player.options,
    }
    # A protocol's exploration keeps a console's games from repeating; others vary by themselves.
    epsilon = 0.0 if player.game.startswith("gym:") else None
    played = evaluate_policy(
        player.best_actions, player.game, player.protocol, epsilon=epsilon, **arguments
    )
    print(f"agent: {played.score.describe()}")
    record = evaluation_record(
        played.score,
        epsilon=played.epsilon,
        seed=options.seed,
        command=command,
        lengths=played.lengths,
        env_options=player.options,
        trained_agent_steps=player.agent_steps,
        trained_frames=player.frames,
    )
    controls = []
    for control in (random_play, best_constant_action) if options.controls else ():
        other = control(player.game, player.protocol, **arguments)
        verdict = "yes" if beats(played.score, other.score) else "no"
        print(f"{other.player}: {other.score.describe()}")
        print(f"    the agent is above it by more than both intervals: {verdict}")
        controls.append(
            {
                "player": other.player,
                "mean": other.score.mean,
                "interval": list(other.score.interval or ()) or None,
                "returns": list(other.score.returns),
                "beaten": verdict == "yes",
            }
        )
    return {**record, "controls": controls} if controls else record


def _score_of_training(player: Player, options: EvaluateOptions, command: str) -> dict[str, Any]:
    """The score that a protocol takes from the training log; prints and records it."""
    import numpy as np

    from .evaluate.records import evaluation_record
    from .evaluate.training_log import FILE_NAME, read_training_log, training_score

    name, trained_by = player.protocol.value, player.run.config["run"]["protocol"]
    if name != trained_by:
        raise UsageError(
            f"a score of {name} comes from training by {name}, and this run was trained by "
            f"{trained_by}: train one with --protocol {name}."
        )
    if options.episodes is not None or options.controls or options.checkpoint != "last":
        raise UsageError(
            f"the score of {name} comes from the training log: leave --episodes, --controls and "
            "--checkpoint out."
        )
    log = read_training_log(player.run.path / FILE_NAME)
    score = training_score(player.game, player.protocol, log, np.random.default_rng(options.seed))
    print(f"{name} takes its score from the training log, so no games are played.")
    print(f"agent: {score.describe()}")
    return evaluation_record(
        score,
        epsilon=None,
        seed=options.seed,
        command=command,
        env_options=None,
        trained_agent_steps=player.agent_steps,
        trained_frames=player.frames,
    )


def _watch(given: list[str]) -> int:
    """Lets a run play, into a video or a window."""
    from .evaluate.watch import WatchSettings, watch_run

    tokens = _with_value(given, "--window", yes="True", no="False", known=("True", "False", "None"))
    tokens = _with_value(
        tokens, "--saliency", yes="perturbation", no="None", known=("perturbation", "gradient")
    )
    parsed = _parse_run(WatchSettings, tokens, "watch", output="the video to write, *.mp4")
    path = watch_run(parsed.run, Path(parsed.output) if parsed.output else None, parsed.options)
    if path is not None:
        print(f"written to {path}")
    return 0


# ------------------------------------------------------------------------------------- list


def _list(given: list[str]) -> int:
    kinds: dict[str, Callable[[], None]] = {
        "games": _list_games,
        "agents": _list_agents,
        "backbones": _list_backbones,
        "presets": _list_presets,
        "tasks": lambda: print("there are no tasks yet: this version learns games."),
        "data": lambda: print("there are no data sets yet: this version learns from games alone."),
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


# ---------------------------------------------------------------------------------- parsing


def _peek(given: Sequence[str], *names: str) -> dict[str, str]:
    """The values of some options, before the defaults of all others can be known."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(f"--{name}")
    try:
        known, _ = parser.parse_known_args(list(given))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error}.") from None
    return {name: value for name, value in vars(known).items() if value is not None}


def _parse(command: type, given: Sequence[str], name: str) -> Any:
    """An instance of a dataclass made from the command line, of which its fields are the options.

    Raises:
        UnknownNameError: an option does not exist.
        UsageError: a value is missing or does not fit.
        SystemExit: after --help, with 0.
    """
    import tyro

    conf = (tyro.conf.OmitArgPrefixes, tyro.conf.EnumChoicesFromValues)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed, unknown = tyro.cli(
                command,
                args=list(given),
                prog=f"eightbit {name}",
                return_unknown_args=True,
                registry=_number_rules(),
                config=conf,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_sentence(complaint.getvalue(), name)) from None
    option = next((token for token in unknown if token.startswith("-")), None)
    if option is not None:
        known = [f"--{one.replace('_', '-')}" for one in _field_names(command)]
        written = option.partition("=")[0].replace("_", "-")
        raise UnknownNameError("option", written, known, f"eightbit {name} --help")
    if unknown:
        raise UsageError(f"{unknown[0]!r} is one word too many; 'eightbit {name} --help' helps.")
    return parsed


def _parse_run(options: type, given: Sequence[str], name: str, *, output: str = "") -> Any:
    """Parses `eightbit <name> RUN` with the fields of `options`, and -o where there is an output.

    Returns an object with `run`, `options` and, where asked for, `output`.
    """
    import tyro

    run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="the run folder")]
    fields: list[Any] = [("run", run, field(default=""))]
    if output:
        path = tyro.conf.arg(aliases=["-o"], metavar="FILE", help=output)
        fields.append(("output", Annotated[str, path], field(default="")))
    fields.append(("options", options, field(default=options())))
    doc = {"__doc__": COMMANDS[name].__doc__}
    parsed = _parse(dataclasses.make_dataclass("Command", fields, namespace=doc), given, name)
    if not parsed.run:
        raise UsageError(f"which run? Write 'eightbit {name} RUN' with the folder of a run.")
    return parsed


def _with_value(
    given: Sequence[str], option: str, *, yes: str, no: str, known: Sequence[str]
) -> list[str]:
    """Writes the flags --x and --no-x as the values of an option that has further ones."""
    tokens: list[str] = []
    for index, token in enumerate(given):
        following = given[index + 1] if index + 1 < len(given) else ""
        if token == f"--no-{option.removeprefix('--')}":
            tokens += [option, no]
        elif token == option and following not in known:
            tokens += [option, yes]
        else:
            tokens.append(token)
    return tokens


def _field_names(kind: Any) -> list[str]:
    names: list[str] = []
    for one in dataclasses.fields(kind):
        if dataclasses.is_dataclass(one.default):
            names += _field_names(one.default)
        else:
            names.append(one.name)
    return names


def _sentence(complaint: str, name: str) -> str:
    """tyro's framed complaint as one sentence."""
    lines = [line.strip("│ ").strip() for line in complaint.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("╭", "╰"))]
    rule = next((i for i, line in enumerate(lines) if line.startswith("─")), len(lines))
    text = " ".join(lines[:rule])
    if "Got errors:" in text:  # of each type that an option may have; the last is the telling one
        what = text.partition(":")[0]
        text = f"{what}: {re.split(r'- <[^>]*>: ', text)[-1]}"
    return f"{text.rstrip('.')}; 'eightbit {name} --help' shows what is possible."


def _number_rules() -> ConstructorRegistry:
    """Whole numbers may be written 500_000, 500k or 10M."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def whole_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: whole(words[0]),
            is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def whole(text: str) -> int:
    """10M, 500k, 2.5M or 1_000 as a whole number; raises ValueError for anything else."""
    match = re.fullmatch(r"([+-]?\d[\d_]*(?:\.\d+)?)([kKmM]?)", text)
    if match:
        number = float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]
        if number.is_integer():
            return int(number)
    raise ValueError(f"{text!r} is no whole number, written like 500000, 500k or 10M")


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "watch": _watch,
    "list": _list,
}
