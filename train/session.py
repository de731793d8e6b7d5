"""One `eightbit train`: checks the request, makes environments, agent and folder, and trains."""

from __future__ import annotations

import dataclasses
import shutil
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import psutil

from ..agents import AGENTS
from ..agents.device_agent import fits
from ..backbones import BACKBONES
from ..envs import EnvStepper, parse_game
from ..envs.device_steps import DeviceStepper, Stepper
from ..envs.games import CATCH
from ..envs.options import EnvOptions, Protocol, env_options
from ..errors import EightBitError, MemoryBudgetError, RunFolderError, UsageError
from .agents import UNLIMITED, Evaluate, TrainResult, TrainSettings, train_agent
from .card import write_card
from .checkpoints import Checkpoint
from .curves import draw_run
from .games import GYM_PREFIX, training_stepper
from .logs import LogStyle
from .reporting import Reporter
from .runs import CONFIG, RunFolder, last_whole, new_folder, refuse_existing, write_config

T = TypeVar("T")

DEFAULT_FRAMES = 10_000_000  # of a game of the console; 1/50 of the 200 M of the literature
DEFAULT_STEPS = 200_000  # of any other environment
WORKING_BYTES = 1_000_000_000  # of a run besides its replay memory: torch, networks, games
REPLAY_ON_DISK = 2_000_000_000  # bytes up to which the replay memory is kept unless told
MAX_SEED = 999_999_999  # agent steps are added to it, and ALE takes 31 bits
_FIXED = ("agent", "preset", "seed", "protocol")  # what a resumed run cannot change


@dataclass(frozen=True)
class RunRequest:
    """What a run is to be: the options of `eightbit train`, the table `run` of config.toml."""

    game: str = field(default="", metadata={"positional": True, "metavar": "GAME", "unset": ""})
    """a game in any spelling, catch, or gym:<id> for any other environment with discrete
    actions"""
    agent: str = "pqn"
    """who learns; 'eightbit list agents' shows all. From vectors it is dqn unless told"""
    preset: str = "fast"
    """the agent's options to start from; 'eightbit list presets' shows all"""
    seed: int = 0
    """of weights, exploration, replay memory and environments"""
    protocol: Protocol = Protocol.MNIH2015
    """rules of the games and of their scores"""
    frames: int | None = field(
        default=None, metadata={"unset": "10M; 200k where the game is not an Atari's"}
    )
    """emulator frames to reach over all resumes, like 10M; none with --minutes"""
    minutes: float | None = field(default=None, metadata={"unset": "no limit"})
    """minutes of wall time to stop after, over all resumes"""
    device: str = "auto"
    """where the network computes: auto, cpu, cuda, mps"""
    eval_every: int | None = field(default=None, metadata={"unset": "never"})
    """agent steps between evaluations in environments of their own, like 250k"""
    eval_episodes: int = 10
    """games in each of these evaluations"""
    save_replay: Literal["auto", "yes", "no"] = "auto"
    """keep the replay memory in checkpoints; auto does while it takes at most 2 GB. Also written
    --save-replay and --no-save-replay"""
    checkpoint_minutes: float = 5.0
    """minutes between checkpoints; more where writing one takes long"""
    log_style: LogStyle = "sb3"
    """whose TensorBoard tags: Stable-Baselines3's, CleanRL's, or both"""
    ray: str | None = field(default=None, metadata={"metavar": "ADDRESS", "unset": "one process"})
    """play on Ray and learn here: local starts a cluster on this machine, HOST:PORT joins one"""
    actors: int = 1
    """with --ray: processes that play, one core each; they share num_envs"""
    replay_shards: int = 1
    """with --ray: processes that hold the replay memory"""

    def __post_init__(self) -> None:
        """Refuses numbers that make no run; raises UsageError."""
        for name in ("frames", "minutes", "eval_every", "eval_episodes", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} is {value}; it must be above 0.")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed is {self.seed}; it must lie between 0 and {MAX_SEED:,}.")
        for name in ("actors", "replay_shards"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1.")
            if value > 1 and self.ray is None:
                raise UsageError(
                    f"{name} is {value}, but without --ray one process does all; write --ray "
                    f"local, or --{name.replace('_', '-')} 1."
                )

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> RunRequest:
        """Reads the table `run` of a config.toml; raises RunFolderError when it does not fit."""
        try:
            request = cls(**decode_table(cls, table))
            if not request.game:
                raise ValueError("it names no game")
        except (TypeError, ValueError, UsageError) as error:
            raise RunFolderError(_unfit("run", error)) from None
        return request


def decode_table(kind: type, table: Mapping[str, Any]) -> dict[str, Any]:
    """Turns the text "none" of config.toml back into None, and names into members of an enum.

    Raises TypeError or ValueError when the table holds a name that `kind` has no field for, or a
    value that its field cannot have.
    """
    kinds = typing.get_type_hints(kind)
    decoded = dict(table)
    for name, value in table.items():
        if name not in kinds:
            raise TypeError(f"unknown option {name!r}")
        if value == "none" and types.NoneType in typing.get_args(kinds[name]):
            decoded[name] = None
        elif isinstance(kinds[name], type) and issubclass(kinds[name], Enum):
            decoded[name] = kinds[name](value)
        elif not _is_of(value, kinds[name]):
            raise TypeError(f"{name} is {value!r}")
    return decoded


def _is_of(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) in (Union, types.UnionType):
        return any(_is_of(value, one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _unfit(table: str, error: Exception) -> str:
    return f"the table [{table}] of {CONFIG} does not fit: {str(error).rstrip('.')}."


def decode_options(kind: type[T], table: Mapping[str, Any], name: str = "options") -> T:
    """Options of an agent or an environment from the table `name` of a config.toml.

    Raises RunFolderError when the table does not fit.
    """
    try:
        return kind(**decode_table(kind, table))
    except (TypeError, ValueError, UsageError) as error:
        raise RunFolderError(_unfit(name, error)) from None


def canonical_game(text: str, protocol: Protocol = Protocol.MNIH2015) -> tuple[str, str]:
    """The game's name (or `gym:<id>` unchanged), and a line on what its spelling implied or ''.

    Raises UnknownNameError or UsageError when there is no such game.
    """
    if text.startswith(GYM_PREFIX):
        return text, ""
    found = parse_game(text, env_options(protocol, training=True))
    return found.name, found.note


def observation_shape(game: str) -> tuple[int, ...]:
    """Shape of one observation of a game, before its environments are made."""
    if not game.startswith(GYM_PREFIX):
        options = EnvOptions()
        return (options.frame_stack, options.screen_size, options.screen_size)
    from ..envs import make_gym_vec

    env = make_gym_vec(game, 1)
    shape = env.single_observation_space.shape or ()
    env.close()
    return tuple(shape)


def start_run(
    request: RunRequest,
    options: Any,
    *,
    out: str | Path | None = None,
    evaluate: Evaluate | None = None,
    reporter: Reporter | None = None,
) -> tuple[RunFolder, TrainResult]:
    """Starts a new run and trains it to its end.

    Args:
        request: what to run.
        options: of the agent.
        out: the run folder; by default a new one in `runs/`.
        evaluate: plays the agent in environments of its own.
        reporter: prints; standard output by default.

    Raises:
        EightBitError: the request cannot be met (before anything is written), or training
            cannot go on.
    """
    reporter = reporter or Reporter()
    path = Path(out) if out else new_folder("runs", *_name(request), datetime.now())
    refuse_existing(path)
    BACKBONES[options.backbone]  # an unknown one is refused before anything is made
    options = _distributed(request, options, reporter)
    stepper = training_stepper(request, options, _num_envs(request, options), reporter.say)
    agent: Any = None
    try:
        if request.frames is None and request.minutes is None:
            request = dataclasses.replace(request, frames=_default_frames(request.game))
        replay_bytes = _plan(request, options, stepper, reporter)
        request = _settle_replay(request, replay_bytes, path, reporter)
        agent = _make_agent(request, options, stepper, reporter)
        folder = RunFolder.create(path, _tables(request, agent.options))
        reporter.say(f"run folder: {path}")
        with folder.locked():
            return folder, _train(agent, folder, request, evaluate, None, reporter)
    finally:
        _close(agent, request)
        stepper.close()


def resume_run(
    folder: RunFolder,
    request: RunRequest,
    options: Any,
    *,
    evaluate: Evaluate | None = None,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Goes on from a run's last whole checkpoint.

    Args:
        folder: the run.
        request: as the run was, with another length, device or bookkeeping where wanted.
        options: of the agent, as they were.
        evaluate: plays the agent in environments of its own.
        reporter: prints; standard output by default.

    Raises:
        RunFolderError: the run is of another game, in use, or has no whole checkpoint.
        UsageError: something was changed that a resumed run cannot change.
    """
    reporter = reporter or Reporter()
    _refuse_changes(folder, request, options)
    with folder.locked():
        folder.checkpoints.clear_leftovers()
        checkpoint, state = last_whole(folder, _load_whole, reporter.say)
        stepper = training_stepper(request, options, _num_envs(request, options), reporter.say)
        agent: Any = None
        try:
            _refuse_finished(checkpoint.step * stepper.frames_per_step, state, request)
            replay_bytes = _plan(request, options, stepper, reporter)
            request = _settle_replay(request, replay_bytes, folder.path, reporter)
            # The number format was measured when the run began; another one would change results.
            exact = dataclasses.replace(options, precision=state["agent"]["precision"])
            agent = _make_agent(request, exact, stepper, reporter)
            if request.ray is not None:
                state["agent"]["replay"] = None  # the shards begin empty
            _give_state(agent, state["agent"], checkpoint)
            config = {**folder.config, "run": _tables(request, options)["run"]}
            write_config(folder.path / CONFIG, config)
            _say_what_resumes(checkpoint, state["agent"], agent, reporter)
            folder = RunFolder(folder.path, config)
            del state  # its arrays are mapped from the checkpoint and would stay in memory
            return _train(agent, folder, request, evaluate, checkpoint, reporter)
        finally:
            _close(agent, request)
            stepper.close()


def _train(
    agent: Any,
    folder: RunFolder,
    request: RunRequest,
    evaluate: Evaluate | None,
    resume_from: Checkpoint | None,
    reporter: Reporter,
) -> TrainResult:
    per_step = agent.stepper.frames_per_step
    settings = TrainSettings(
        total_steps=UNLIMITED if request.frames is None else -(-request.frames // per_step),
        minutes=request.minutes,
        checkpoint_minutes=request.checkpoint_minutes,
        save_replay=request.save_replay == "yes",
        eval_every=request.eval_every,
        log_style=request.log_style,
        learning_rate=agent.options.learning_rate,
    )
    result = train_agent(
        agent, folder, settings, evaluate=evaluate, resume_from=resume_from, reporter=reporter
    )
    draw_run(folder.path, folder.path.name)
    write_card(folder)
    return result


def _distributed(request: RunRequest, options: Any, reporter: Reporter) -> Any:
    """The options of a new run with its actors' exploration; refuses what Ray is no use for."""
    if request.ray is None:
        return options
    from .distributed import refuse_undistributable

    refuse_undistributable(options, request.actors, request.replay_shards)
    if options.noisy or options.epsilon_ladder:
        return options
    reporter.say("actors explore by a ladder of epsilons, as in Ape-X: epsilon_ladder is on.")
    return dataclasses.replace(options, epsilon_ladder=True)


def _num_envs(request: RunRequest, options: Any) -> int:
    """Environments of this process; with Ray one that only shows what the actors' are like."""
    return options.num_envs if request.ray is None else 1


def _close(agent: Any, request: RunRequest) -> None:
    if request.ray is not None and agent is not None:
        agent.close()


def _make_agent(request: RunRequest, options: Any, stepper: Stepper, reporter: Reporter) -> Any:
    if request.ray is not None:
        from .distributed import DistributedDQN, Distribution

        where = Distribution(
            request.ray, request.actors, request.replay_shards, request.game, request.protocol
        )
        assert isinstance(stepper, EnvStepper), "with Ray the games are on the CPU"
        return DistributedDQN(
            stepper, options, where, seed=request.seed, device=request.device, say=reporter.say
        )
    agent_class = AGENTS[request.agent].load_class()
    return agent_class(stepper, options, seed=request.seed, device=request.device)


def _tables(request: RunRequest, options: Any) -> dict[str, Any]:
    run = {**dataclasses.asdict(request), "protocol": request.protocol.value}
    tables = {"run": run, "options": dataclasses.asdict(options)}
    if not request.game.startswith(GYM_PREFIX):
        tables["env"] = dataclasses.asdict(env_options(request.protocol, training=True))
    return tables


def _name(request: RunRequest) -> tuple[str, str, int]:
    return request.game.removeprefix(GYM_PREFIX), request.preset, request.seed


def _default_frames(game: str) -> int:
    small = game == CATCH or game.startswith(GYM_PREFIX)
    return DEFAULT_STEPS if small else DEFAULT_FRAMES


def _plan(request: RunRequest, options: Any, stepper: Stepper, reporter: Reporter) -> int:
    """Says what the replay memory takes; raises MemoryBudgetError when that is too much."""
    agent_class = AGENTS[request.agent].load_class()
    needed = agent_class.plan_memory(
        options, stepper.observation_space, stepper.num_envs, stepper.frame_stack
    )
    if isinstance(stepper, DeviceStepper) and fits(stepper.device, needed):
        reporter.say(f"replay memory: {_gb(needed)} on {stepper.device}")
        return int(needed)
    free = available_memory()
    if request.ray not in (None, "local"):
        reporter.say(
            f"replay memory: {options.buffer_size:,} transitions in {_gb(needed)} in "
            f"{request.replay_shards} of the cluster's processes"
        )
        return int(needed)
    if needed + WORKING_BYTES > free:
        raise MemoryBudgetError(
            f"the replay memory of {options.buffer_size:,} transitions needs {_gb(needed)} and the "
            f"run {_gb(WORKING_BYTES)} besides, but {_gb(free)} are free; lower --buffer-size."
        )
    what, count = "replay memory", options.buffer_size
    if rollout_steps := getattr(options, "rollout_steps", 0):
        what, count = "rollout", rollout_steps * options.num_envs
    reporter.say(f"{what}: {count:,} transitions in {_gb(needed)} ({_gb(free)} are free)")
    return int(needed)


def available_memory() -> int:
    """Bytes that this process may still take: the machine's, or its control group's if less."""
    free = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
        free = min(free, max(int(text) - int(used.read_text()), 0))
    return free


def _settle_replay(
    request: RunRequest, replay_bytes: int, path: Path, reporter: Reporter
) -> RunRequest:
    """Decides whether checkpoints keep the replay memory; two stand on the disk, a third grows."""
    told = request.save_replay
    if request.ray is not None:
        if told == "yes":
            raise UsageError(
                "checkpoints of a run on Ray do not hold the replay memory, which is elsewhere; "
                "write --no-save-replay."
            )
        return dataclasses.replace(request, save_replay="no")
    keep = replay_bytes <= REPLAY_ON_DISK if told == "auto" else told == "yes"
    above = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(above).free
    if keep and 3 * replay_bytes > free:
        reason = f"checkpoints with the replay memory need {_gb(3 * replay_bytes)} of disk"
        if told == "yes":
            raise UsageError(f"{reason}, but {_gb(free)} are free; write --no-save-replay.")
        reporter.say(f"{reason} and {_gb(free)} are free: the replay memory is not kept.")
        keep = False
    return dataclasses.replace(request, save_replay="yes" if keep else "no")


def _refuse_changes(folder: RunFolder, request: RunRequest, options: Any) -> None:
    before = RunRequest.from_table(folder.config["run"])
    if request.game != before.game:
        raise RunFolderError(
            f"{folder.path} is a run of {before.game}, not of {request.game}; leave the game out "
            "to go on with it."
        )
    for name in _FIXED:
        if getattr(request, name) != getattr(before, name):
            raise UsageError(_fixed_message(folder, name, getattr(before, name)))
    saved = dataclasses.asdict(decode_options(type(options), folder.config["options"]))
    for name, value in dataclasses.asdict(options).items():
        if saved[name] != value:
            raise UsageError(_fixed_message(folder, name, saved[name]))


def _fixed_message(folder: RunFolder, name: str, value: Any) -> str:
    return (
        f"{name} is {getattr(value, 'value', value)} in {folder.path} and cannot change when a run "
        f"is resumed; start a new one with --config {folder.path / CONFIG}."
    )


def _refuse_finished(frames: int, state: Mapping[str, Any], request: RunRequest) -> None:
    minutes = float(state["run"]["minutes"])
    if request.frames is not None and frames >= request.frames:
        raise UsageError(f"the run has made its {request.frames:,} frames; give more --frames.")
    if request.minutes is not None and minutes >= request.minutes:
        raise UsageError(f"the run has had its {request.minutes:g} minutes; give more --minutes.")


def _load_whole(checkpoint: Checkpoint) -> dict[str, Any]:
    state = checkpoint.load_state()
    state["agent"]["replay"] = checkpoint.load_replay()
    return state


def _give_state(agent: Any, state: dict[str, Any], checkpoint: Checkpoint) -> None:
    try:
        agent.set_state(state)
    except EightBitError:
        raise
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RunFolderError(f"{checkpoint.folder} does not fit this run: {reason}.") from None


def _say_what_resumes(
    checkpoint: Checkpoint, state: Mapping[str, Any], agent: Any, reporter: Reporter
) -> None:
    reporter.say(f"going on from step {checkpoint.step:,}")
    if state["replay"] is None:
        reporter.say(
            "the replay memory was not kept: it is filled with "
            f"{agent.options.learning_starts:,} transitions before learning goes on."
        )
    if state["env"] is None or state["replay"] is None:
        reporter.say("the games cannot be taken up where they stood: new episodes begin.")


def _gb(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.0f} MB"
