"""One `eightbit train TASK`: checks the request, makes data, model and folder, and trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..agents.device import choose_device
from ..backbones import load_weights
from ..errors import RunFolderError, UsageError
from ..tasks import Learning, Task, TaskData, load_task
from .checkpoints import Checkpoint
from .reporting import Reporter
from .runs import CONFIG, RunFolder, last_whole, new_folder, refuse_existing, write_config
from .session import MAX_SEED, decode_options, decode_table
from .supervised import Learner, Precision, choose_precision, make_fabric
from .task_card import write_task_card
from .task_log import draw_task_run
from .task_models import refuse_unfit_backbone
from .task_run import TaskResult, TaskSettings, train_task

_FIXED = ("preset", "seed", "data", "backbone_weights", "devices")  # of a run that goes on


@dataclass(frozen=True)
class TaskRequest:
    """What a task's run is to be: the table `run` of config.toml."""

    task: str = field(default="", metadata={"positional": True, "metavar": "TASK", "unset": ""})
    """what is learnt; 'eightbit list tasks' shows all"""
    data: str = field(default="", metadata={"metavar": "NAME|PATH"})
    """a data set of 'eightbit list data', or a folder or file of your own"""
    preset: str = ""
    """the settings to start from; 'eightbit list tasks' shows all"""
    seed: int = 0
    """of weights, order, augmentation and held-out examples"""
    minutes: float | None = field(default=None, metadata={"unset": "by --epochs"})
    """minutes of wall time that the learning rate's schedule is fitted to, over all resumes"""
    device: str = "auto"
    """where the network computes: auto, cpu, cuda, mps"""
    devices: int = 1
    """GPUs that share each step; each takes a batch of its own"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """number format; auto measures both at start"""
    backbone_weights: str | None = field(
        default=None, metadata={"metavar": "RUN|NAME", "unset": "from scratch"}
    )
    """a run, a weight file or a packaged trunk that the backbone starts from"""
    validate_minutes: float = 2.0
    """minutes between validations; more where one takes long"""
    checkpoint_minutes: float = 5.0
    """minutes between checkpoints; more where writing one takes long"""

    def __post_init__(self) -> None:
        """Refuses numbers that make no run; raises UsageError."""
        for name in ("minutes", "validate_minutes", "checkpoint_minutes", "devices"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} is {value}; it must be above 0.")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed is {self.seed}; it must lie between 0 and {MAX_SEED:,}.")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> TaskRequest:
        """Reads the table `run` of a config.toml; raises RunFolderError when it does not fit."""
        try:
            return cls(**decode_table(cls, table))
        except (TypeError, ValueError, UsageError) as error:
            reason = str(error).rstrip(".")
            raise RunFolderError(f"the table [run] of {CONFIG} does not fit: {reason}.") from None


@dataclass(frozen=True)
class TaskPlan:
    """A task's run before it starts.

    Attributes:
        request: what to run.
        options: of the task.
        learning: how its model is fitted.
    """

    request: TaskRequest
    options: Any
    learning: Learning


def read_plan(config: Mapping[str, Any]) -> TaskPlan:
    """The plan of a run's configuration; raises RunFolderError when it does not fit."""
    request = TaskRequest.from_table(config["run"])
    task = load_task(request.task)
    kind = type(next(iter(task.presets.values())).options)
    return TaskPlan(
        request,
        decode_options(kind, config["options"]),
        decode_options(Learning, config.get("learning", {}), "learning"),
    )


def start_task_run(
    plan: TaskPlan, *, out: str | Path | None = None, reporter: Reporter | None = None
) -> tuple[RunFolder, TaskResult]:
    """Starts a new run and trains it to its end.

    Args:
        plan: what to run.
        out: the run folder; by default a new one in `runs/`.
        reporter: prints; standard output by default.

    Raises:
        EightBitError: the request cannot be met (before anything is written), or training
            cannot go on.
    """
    reporter = reporter or Reporter()
    request = plan.request
    name = f"{request.task}-{Path(request.data).stem}"
    path = Path(out) if out else new_folder("runs", name, request.preset, request.seed, _now())
    refuse_existing(path)
    task = load_task(request.task)
    data = _say_data(task.build_data(plan.options, request.data, request.seed), reporter)
    model = _new_model(task, plan, data, reporter)
    precision = _precision(task, model, data, plan, reporter)
    fabric = make_fabric(_device(request), request.devices, precision)
    fabric.launch()
    plan = dataclasses.replace(plan, request=dataclasses.replace(request, precision=precision))
    folder = RunFolder(path, {})
    if fabric.is_global_zero:
        folder = RunFolder.create(path, _tables(plan))
        reporter.say(f"run folder: {path}")
    if task.begin is not None:
        task.begin(model, data)
    with folder.locked() if fabric.is_global_zero else nullcontext():
        learner = Learner(task, model, data, plan.learning, request.seed, fabric)
        return folder, _train(learner, folder, plan, None, reporter)


def resume_task_run(
    folder: RunFolder, plan: TaskPlan, *, reporter: Reporter | None = None
) -> TaskResult:
    """Goes on from a run's last whole checkpoint.

    Args:
        folder: the run.
        plan: as the run was, with other minutes, epochs, device or bookkeeping where wanted.
        reporter: prints; standard output by default.

    Raises:
        RunFolderError: the run is of another task, in use, or has no whole checkpoint.
        UsageError: something was changed that a resumed run cannot change, or it is over.
    """
    reporter = reporter or Reporter()
    _refuse_changes(folder, plan)
    request = plan.request
    with folder.locked():
        folder.checkpoints.clear_leftovers()
        checkpoint, state = last_whole(folder, Checkpoint.load_state, reporter.say)
        task = load_task(request.task)
        data = _say_data(task.build_data(plan.options, request.data, request.seed), reporter)
        model = _build(task, plan, data)
        precision = _precision(task, model, data, plan, reporter)
        fabric = make_fabric(_device(request), request.devices, precision)
        fabric.launch()
        learner = Learner(task, model, data, plan.learning, request.seed, fabric)
        try:
            learner.set_state(state["learner"])
        except (KeyError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise RunFolderError(f"{checkpoint.folder} does not fit this run: {reason}.") from None
        config = {**folder.config, **_tables(plan)}
        write_config(folder.path / CONFIG, config)
        reporter.say(f"going on from step {checkpoint.step:,}")
        return _train(learner, RunFolder(folder.path, config), plan, checkpoint, reporter)


def _train(
    learner: Learner,
    folder: RunFolder,
    plan: TaskPlan,
    resume_from: Checkpoint | None,
    reporter: Reporter,
) -> TaskResult:
    request = plan.request
    settings = TaskSettings(
        minutes=request.minutes,
        validate_minutes=request.validate_minutes,
        checkpoint_minutes=request.checkpoint_minutes,
        options=plan.options,
    )
    result = train_task(learner, folder, settings, resume_from=resume_from, reporter=reporter)
    if learner.fabric.is_global_zero:
        draw_task_run(folder.path, folder.path.name)
        write_task_card(folder)
    return result


def _now() -> datetime:
    return datetime.now()


def _device(request: TaskRequest) -> str:
    return str(choose_device(request.device))


def _build(task: Task, plan: TaskPlan, data: TaskData) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(plan.request.seed)
        return task.build_model(plan.options, data.facts)


def _new_model(task: Task, plan: TaskPlan, data: TaskData, reporter: Reporter) -> nn.Module:
    model = _build(task, plan, data)
    weights = plan.request.backbone_weights
    if weights is not None:
        report = load_weights(refuse_unfit_backbone(model, weights), weights)
        reporter.say(str(report))
    count = sum(parameter.numel() for parameter in model.parameters())
    reporter.say(f"model: {count:,} parameters")
    return model


def _say_data(data: TaskData, reporter: Reporter) -> TaskData:
    reporter.say(f"data: {data.examples:,} examples; {data.facts.get('split', 'no split named')}")
    return data


def _precision(
    task: Task, model: nn.Module, data: TaskData, plan: TaskPlan, reporter: Reporter
) -> Precision:
    wanted, device = plan.request.precision, _device(plan.request)
    if wanted == "auto":
        kind = torch.device(device).type
        if kind == "cpu":
            wanted = choose_precision(task, model, data, plan.learning)
        else:
            wanted = "bf16" if kind == "cuda" else "fp32"
        reporter.say(f"precision: {wanted}")
    return wanted


def _tables(plan: TaskPlan) -> dict[str, Any]:
    return {
        "run": dataclasses.asdict(plan.request),
        "options": dataclasses.asdict(plan.options),
        "learning": dataclasses.asdict(plan.learning),
    }


def _refuse_changes(folder: RunFolder, plan: TaskPlan) -> None:
    before = read_plan(folder.config)
    if plan.request.task != before.request.task:
        raise RunFolderError(
            f"{folder.path} is a run of {before.request.task}, not of {plan.request.task}; leave "
            "the task out to go on with it."
        )
    tables = ((plan.request, before.request), (plan.options, before.options))
    pairs = [(now, then, name) for now, then in tables for name in _compared(now)]
    pairs += [
        (plan.learning, before.learning, name)
        for name in dataclasses.asdict(plan.learning)
        if name != "epochs"
    ]
    for now, then, name in pairs:
        if getattr(now, name) != getattr(then, name):
            raise UsageError(
                f"{name} is {getattr(then, name)} in {folder.path} and cannot change when a run is "
                f"resumed; start a new one with --config {folder.path / CONFIG}."
            )


def _compared(table: Any) -> list[str]:
    return list(_FIXED) if isinstance(table, TaskRequest) else list(dataclasses.asdict(table))
