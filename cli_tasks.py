"""The `eightbit` commands where they are about a task: they parse, look up and call."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import sequence_tasks, vision_tasks  # noqa: F401  # each registers its tasks
from .arguments import parse, peek, words_apart
from .errors import UnknownNameError, UsageError
from .tasks import Learning, Preset, Task, load_task, task_names


@dataclass(frozen=True)
class TaskFolders:
    """Where a run is written, or what it goes on from."""

    out: str | None = None
    """the new run folder; runs/<task>-<data>-<preset>-<seed>-<time> unless told"""
    resume: str | None = field(default=None, metadata={"metavar": "RUN"})
    """go on from this run folder's last checkpoint"""
    config: str | None = field(default=None, metadata={"metavar": "RUN/config.toml"})
    """repeat the run of this file; options given beside it win"""


@dataclass(frozen=True)
class WhichOutput:
    """Where results go."""

    output: str = field(default="", metadata={"short": "-o", "metavar": "PATH"})
    """the file or folder to write; by default beside the inputs, or what the task says"""
    device: str = "auto"
    """where the network computes: auto, cpu, cuda, mps"""


@dataclass(frozen=True)
class WhichRun:
    """The run that a command is about."""

    run: str = field(default="", metadata={"positional": True, "metavar": "RUN", "unset": ""})
    """the folder of the run"""


@dataclass(frozen=True)
class WhichFolder:
    """Where samples go."""

    output: str = field(default="", metadata={"short": "-o", "metavar": "FOLDER"})
    """the folder to write to; RUN/samples by default"""


def named_task(given: Sequence[str]) -> str | None:
    """The task that a command line of `eightbit train` names, or None where it is about a game."""
    from .train.runs import RunFolder, read_config

    found = next((word for word in given if word in task_names()), None)
    told = peek(given, "resume", "config")
    if found is None and Path(told.get("config", "")).is_file():
        found = read_config(told["config"])["run"].get("task")
    if found is None and "resume" in told and Path(told["resume"], "config.toml").is_file():
        found = RunFolder.open(told["resume"]).task
    return found


def is_task_run(run: str) -> bool:
    """Whether a folder is a task's run; what is no run folder is left to others to refuse."""
    from .train.runs import RunFolder

    return Path(run, "config.toml").is_file() and RunFolder.open(run).task is not None


def train(name: str, given: list[str]) -> int:
    """Learns a task and writes a run folder."""
    from .train.runs import RunFolder, read_config
    from .train.task_session import (
        TaskPlan,
        TaskRequest,
        read_plan,
        resume_task_run,
        start_task_run,
    )

    task = load_task(name)
    told = peek(given, "preset", "resume", "config", "out")
    if "resume" in told and ("config" in told or "out" in told):
        raise UsageError("--resume goes on with a run in its own folder; leave --config and --out.")
    folder = RunFolder.open(told["resume"]) if "resume" in told else None
    if folder is not None or "config" in told:
        config = folder.config if folder is not None else read_config(told["config"])
        plan = read_plan(config)
    else:
        preset_name = told.get("preset", next(iter(task.presets)))
        preset = _preset(task, preset_name)
        request = TaskRequest(task=name, preset=preset_name, data=preset.data)
        plan = TaskPlan(request, preset.options, preset.learning)
    request, folders, options, learning = parse(
        given,
        "train",
        f"Learns a task and writes a run folder. {task.description}",
        plan.request,
        TaskFolders(),
        **{name.replace("-", "_"): plan.options, "learning": plan.learning},
    )
    plan = TaskPlan(dataclasses.replace(request, task=name), options, learning)
    if folder is not None:
        result = resume_task_run(folder, plan)
    else:
        folder, result = start_task_run(plan, out=folders.out)
    if result.signal is not None:
        return 128 + result.signal
    print(f"next: eightbit evaluate {folder.path}")
    print(f"      eightbit run {name} {folder.path} INPUT")
    return 0


def _preset(task: Task, name: str) -> Preset:
    if name not in task.presets:
        raise UnknownNameError("preset", name, task.presets, "eightbit list tasks")
    return task.presets[name]


def run(given: list[str]) -> int:
    """Uses a trained model on files: eightbit run TASK RUN INPUT..."""
    from .evaluate.task_use import run_task

    if not given or given[0].startswith("-"):
        print("usage: eightbit run TASK RUN INPUT... [-o PATH] [options]")
        print(f"tasks: {', '.join(task_names())}; 'eightbit run TASK --help' shows the options")
        return 0 if given else 2
    task = load_task(given[0])
    words, others = words_apart(given[1:], WhichOutput(), task.run_options)
    where, options = parse(
        others,
        f"run {task.name} RUN INPUT...",
        f"Uses a trained model on files. {task.description}",
        WhichOutput(),
        **{task.name.replace("-", "_"): task.run_options},
    )
    if not words:
        raise UsageError(f"which run? Write 'eightbit run {task.name} RUN INPUT'.")
    output = Path(where.output) if where.output else None
    run_task(task.name, words[0], words[1:], output, options, where.device)
    return 0


def evaluate(given: list[str]) -> int:
    """Scores a task's run beside its controls."""
    from .evaluate.task_scores import ScoreSettings, score_run

    which, settings = parse(given, "evaluate", evaluate.__doc__ or "", WhichRun(), ScoreSettings())
    command = shlex.join(["eightbit", "evaluate", *given])
    print(f"written to {score_run(which.run, settings, command=command)}")
    return 0


def watch(given: list[str]) -> int:
    """Writes samples of a task's run."""
    from .evaluate.task_use import SampleSettings, show_samples

    which, where, settings = parse(
        given, "watch", watch.__doc__ or "", WhichRun(), WhichFolder(), SampleSettings()
    )
    written = show_samples(which.run, Path(where.output) if where.output else None, settings)
    for path in written:
        print(f"written to {path}")
    return 0


def list_tasks() -> None:
    """Prints every task, and what each of its presets changes in the first one."""
    for name in task_names():
        task = load_task(name)
        print(f"{name}  {task.description}")
        first, *others = task.presets
        usual = _flat(task.presets[first])
        print(f"    --preset {first}: the default, from {usual['data']}")
        for preset in others:
            changed = {k: v for k, v in _flat(task.presets[preset]).items() if v != usual[k]}
            told = ", ".join(f"{option} = {value}" for option, value in changed.items())
            print(f"    --preset {preset}: {told}")


def _flat(preset: Preset) -> dict[str, Any]:
    learning: Learning = preset.learning
    return {"data": preset.data, **dataclasses.asdict(preset.options), **vars(learning)}


def list_data() -> None:
    """Prints every data set and where it would come from."""
    from .datasets.download import describe_datasets

    for one in describe_datasets():
        print(f"{one.name}  {one.description} ({one.kind}; licence: {one.licence})")
        print(f"    {one.place}: {one.address}")
