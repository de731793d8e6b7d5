"""The contract between an application and the frame that trains, scores and runs it.

An application is one module (or folder) of `vision_tasks/` or `sequence_tasks/` that is called like
its task and defines `TASK`. The command line, the supervised loop, checkpoints, evaluation with
controls and samples need nothing else of it.
"""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import EightBitError, TaskError, UnknownNameError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

Batch = Mapping[str, "Tensor"]
"""Tensors of one step, by name; the first axis of each counts examples."""
Split = Literal["train", "validation", "test"]
Control = Literal["none", "trivial", "shuffled"]
"""What is scored: the model; a baseline that looks at no input; the model on inputs that were
exchanged among the examples."""


@dataclass(frozen=True)
class Learning:
    """How a task's model is fitted; the same for every task."""

    batch_size: int = 64
    """examples in a step"""
    accumulate: int = 1
    """parts that a batch is computed in, to save memory; the step is the same"""
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    """AdamW, SGD with Nesterov's momentum, or RMSprop in the form of Graves 2013 (centred)"""
    learning_rate: float = 1e-3
    """at its highest"""
    momentum: float = 0.9
    """of SGD and RMSprop; the first beta of AdamW"""
    weight_decay: float = 0.05
    """of weights with two axes or more, per step times the learning rate"""
    schedule: Literal["cosine", "linear", "constant", "halving"] = "cosine"
    """how the learning rate falls after its rise; halving: constant, in the last third halved
    five times (Sutskever 2014)"""
    warmup: float = 0.05
    """share of training in which the learning rate rises"""
    final: float = 0.0
    """last learning rate as a share of the highest"""
    epochs: float = 20.0
    """passes over the training data; with --minutes the schedule follows the time instead"""
    clip_norm: float = 0.0
    """largest norm of the gradient; 0 for any"""
    average: float = 0.0
    """decay of the running mean of the weights that is scored and kept; 0 for the last weights"""
    patience: int = 0
    """validations without a better score before training stops; 0 for none"""

    def __post_init__(self) -> None:
        """Refuses numbers that make no sense; raises UsageError."""
        for name in ("batch_size", "accumulate", "learning_rate", "epochs"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be above 0.")
        for name in ("weight_decay", "clip_norm", "patience"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must not be below 0.")
        for name in ("momentum", "warmup", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        if not 0 <= self.final <= 1:
            raise UsageError(f"final is {self.final}; it must lie between 0 and 1.")
        if self.batch_size % self.accumulate:
            raise UsageError(
                f"a batch of {self.batch_size} cannot be cut into {self.accumulate} equal parts; "
                "change --accumulate."
            )


@dataclass(frozen=True)
class Preset:
    """Settings that belong together.

    Attributes:
        options: of the task, a frozen dataclass; all presets of a task share its type.
        learning: how the model is fitted.
        data: a data set's name, taken where `--data` is not given.
    """

    options: Any
    learning: Learning
    data: str


@dataclass(frozen=True)
class Metric:
    """A figure that a task is judged by.

    Attributes:
        name: its key in evaluation.json, like `accuracy`.
        higher_is_better: its direction.
        standard: whose implementation computes it, or which one it equals in the tests.
        unit: for the printed table, like "%" or "dB"; values themselves are never scaled.
    """

    name: str
    higher_is_better: bool
    standard: str
    unit: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a model, or a control, did on one split.

    Attributes:
        values: by metric, a function of the units that count. It takes an integer array of indices
            (with repetitions, as the bootstrap draws them) and returns the metric over those.
        units: how many independent examples, or groups of them, there are.
        details: further results for evaluation.json, like a per-class table.
        pictures: by file name without ending, RGB uint8 (H, W, 3), written to the run folder.
    """

    values: Mapping[str, Callable[[np.ndarray], float]]
    units: int
    details: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Something of the model's work to look at, read or hear.

    Attributes:
        name: a file name without its ending.
        picture: RGB uint8 (H, W, 3).
        text: plain text.
        sound: float32 (samples,) in [-1, 1].
        rate: samples a second of `sound`.
    """

    name: str
    picture: np.ndarray | None = None
    text: str | None = None
    sound: np.ndarray | None = None
    rate: int = 16_000


@dataclass(frozen=True)
class TaskData:
    """The data of a run.

    Attributes:
        facts: JSON values: all that the model's shape and use depend on (names of classes, size of
            pictures) and what the reader should know (`source`, `licence`, `split`, counts).
        examples: training examples, an epoch.
        batch: (step, batch size) -> Batch, on the CPU. A pure function: the order of examples and
            every random choice follow from the run's seed and the step, so that a resumed run
            sees what it would have seen. It is called in helper threads.
        splits: the task's own objects by the name of the split, for `Task.measure`; "validation"
            may be missing.
    """

    facts: Mapping[str, Any]
    examples: int
    batch: Callable[[int, int], Batch]
    splits: Mapping[str, Any]


@dataclass(frozen=True)
class Moment:
    """Where training stands when a loss is computed.

    Attributes:
        step: optimizer steps made before.
        progress: share of training that is over, in [0, 1).
        generator: of random numbers, on the CPU, seeded by the run's seed and the step.
    """

    step: int
    progress: float
    generator: torch.Generator


def stream_to_terminal(piece: str) -> None:
    """Writes a piece of text to standard output at once, without ending the line."""
    print(piece, end="", flush=True)


def _no_other_run(path: str) -> Trained:
    raise TaskError(f"{path} cannot be opened from here; use 'eightbit run'.")


@dataclass(frozen=True)
class RunJob:
    """One `eightbit run`.

    Attributes:
        inputs: what was named: files, folders, or what the task defines (a camera as "camera:0").
        output: the file or folder to write; None where the user named none.
        options: of the task's `run_options` type.
        say: prints a line.
        stream: prints a piece of a line at once.
        load: opens another run of the same task, for ensembles.
    """

    inputs: Sequence[str]
    output: Path | None
    options: Any
    say: Callable[[str], None]
    stream: Callable[[str], None] = stream_to_terminal
    load: Callable[[str], Trained] = _no_other_run

    def each(self, items: Iterable[Any], work: Callable[[Any], None]) -> None:
        """Calls `work` on each item and goes on after a failure.

        Raises:
            TaskError: at the end, naming what failed and why; of a single item, its own error.
        """
        failed: list[str] = []
        count = 0
        for item in items:
            count += 1
            try:
                work(item)
            except EightBitError as error:
                failed.append(str(error))
                last = error
        if failed and count == 1:
            raise last
        if failed:
            raise TaskError(f"{len(failed)} of {count} failed: {' '.join(failed)}")


@dataclass(frozen=True)
class Trained:
    """A model that a run left, ready to use.

    Attributes:
        task: its task.
        model: in evaluation mode, on `device`.
        options: the task's options that it was built with.
        facts: of the data that it learnt from.
        device: where it computes.
        path: the run folder or file that it came from.
    """

    task: Task
    model: nn.Module
    options: Any
    facts: Mapping[str, Any]
    device: torch.device
    path: Path


@dataclass(frozen=True)
class Exported:
    """What `eightbit export` writes as ONNX.

    Attributes:
        module: takes `inputs` and returns a tensor or a tuple of them.
        inputs: an example, the first axis of each being the batch.
        input_names, output_names: in the file.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


def decayed_groups(model: nn.Module, learning: Learning) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: weight decay on weights, none on biases and norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": learning.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def weights_checksum(model: nn.Module) -> int:
    """CRC-32 of all parameters and buffers: what tells whether kept predictions still hold.

    Tensors' own counters of changes do not: some operations on a GPU leave them as they are.
    """
    import torch

    found = 0
    for tensor in model.state_dict().values():
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        found = zlib.crc32(content, found)
    return found


@dataclass(frozen=True)
class Task:
    """An application: how its data, model, loss and figures are made.

    Attributes:
        name: its key, the name of its module.
        description: one line for `eightbit list tasks`.
        presets: settings by name; the first is the default.
        metrics: figures of `measure`; training is judged by the first.
        build_data: (options, data, seed) -> TaskData; `data` is a data set's name or a path.
        build_model: (options, facts) -> a module, freshly initialised. Its trunk, made by
            `create_backbone`, is its attribute `backbone`, so that other runs can take it over.
        loss: (model, batch, moment) -> scalars by name; "loss" is minimised. The model is called
            as `model(...)` only, never by another method: it may be wrapped for several devices.
        measure: (model, data, split, control) -> Outcome, in evaluation mode without gradients.
        samples: (model, data, count) -> samples of the validation or test split.
        run_options: a frozen dataclass instance with the defaults of `run`'s options.
        run: (trained, job) does the work of `eightbit run`.
        parameter_groups: (model, learning) -> groups for the optimizer; a group's `lr`, where it
            has one, is a factor on the schedule's learning rate.
        begin: (model, data) before the first step of a new run, like whitening from the data.
        export: trained -> what is exported; None where there is no ONNX of it.
        needs_input: whether `eightbit run` must be given an input.
    """

    name: str
    description: str
    presets: Mapping[str, Preset]
    metrics: tuple[Metric, ...]
    build_data: Callable[[Any, str, int], TaskData]
    build_model: Callable[[Any, Mapping[str, Any]], nn.Module]
    loss: Callable[[nn.Module, Batch, Moment], Mapping[str, Tensor]]
    measure: Callable[[nn.Module, TaskData, Split, Control], Outcome]
    samples: Callable[[nn.Module, TaskData, int], Sequence[Sample]]
    run_options: Any
    run: Callable[[Trained, RunJob], None]
    parameter_groups: Callable[[nn.Module, Learning], list[dict[str, Any]]] = decayed_groups
    begin: Callable[[nn.Module, TaskData], None] | None = None
    export: Callable[[Trained], Exported] | None = None
    needs_input: bool = True


# ---------------------------------------------------------------------------------- registry

_MODULES: dict[str, str] = {}


def register_tasks(package: str, folder: Sequence[str]) -> None:
    """Makes every module of a package a task of that name; none is imported before it is used.

    Modules whose names begin with "_" are no tasks but what several tasks share.

    Args:
        package: the package's name, its `__name__`.
        folder: its `__path__`.
    """
    for module in pkgutil.iter_modules(folder):
        if module.name.startswith("_"):
            continue
        _MODULES[module.name.replace("_", "-")] = f"{package}.{module.name}"


def task_names() -> list[str]:
    """Names of all registered tasks, in order."""
    return sorted(_MODULES)


def load_task(name: str) -> Task:
    """Imports a task by its name; raises UnknownNameError with the nearest ones."""
    if name not in _MODULES:
        raise UnknownNameError("task", name, _MODULES, "eightbit list tasks")
    task = importlib.import_module(_MODULES[name]).TASK
    assert isinstance(task, Task)
    return task
