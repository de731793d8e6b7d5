"""Model files of tasks: safetensors that say which task, options and data they belong to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .. import sequence_tasks, vision_tasks  # noqa: F401  # each registers its tasks
from ..backbones import BackboneConfig, channels_last, config_of
from ..errors import RunFolderError, TaskError, UsageError, WeightsError
from ..tasks import Task, Trained, load_task
from .session import decode_options

FORMAT = "eightbit-task-1"


def save_model(
    path: Path, task: Task, model: nn.Module, options: Any, facts: Mapping[str, Any]
) -> None:
    """Writes a model with all that rebuilds it; its trunk can be taken out by `load_weights`.

    Raises OSError or SafetensorError when the disk refuses.
    """
    metadata = {
        "format": FORMAT,
        "task": task.name,
        "options": json.dumps(dataclasses.asdict(options)),
        "facts": json.dumps(facts),
        **_trunk(model),
    }
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    # Tensors in another memory format, or shared, cannot be written as they are.
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, metadata
    )


def _trunk(model: nn.Module) -> dict[str, str]:
    trunk = getattr(model, "backbone", None)
    if not isinstance(trunk, nn.Module):
        return {}
    config: BackboneConfig = config_of(trunk)
    return {
        "backbone": config.name,
        "in_shape": json.dumps(config.in_shape),
        "backbone_options": json.dumps(config.options),
    }


def load_trained(path: str | Path, device: torch.device | None = None) -> Trained:
    """Rebuilds the model of a run folder or of its model.safetensors.

    Args:
        path: the folder or the file.
        device: where the model shall compute; the CPU unless told.

    Raises:
        RunFolderError: there is no such folder, or it holds no model yet.
        TaskError: the file is of a game, not of a task.
        WeightsError: the file is damaged, or does not fit this version.
    """
    path, device = Path(path), device or torch.device("cpu")
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        what = "holds no model yet" if path.is_dir() else "is missing; check the path"
        raise RunFolderError(f"{path} {what}.")
    try:
        with safe_open(str(file), framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file} is no whole safetensors file ({error}); take a checkpoint's model.safetensors."
        ) from None
    if metadata.get("format") != FORMAT:
        raise TaskError(
            f"{path} is not of a task; agents play with 'eightbit watch' and 'eightbit evaluate'."
        )
    task = load_task(metadata["task"])
    kind = type(next(iter(task.presets.values())).options)
    options = decode_options(kind, _undone(json.loads(metadata["options"])), "options")
    facts = json.loads(metadata["facts"])
    with torch.random.fork_rng([]):
        model = task.build_model(options, facts)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{file} does not fit the task {task.name}: {reason}.") from None
    model = channels_last(model.to(device)).eval().requires_grad_(False)
    return Trained(task, model, options, facts, device, path)


def load_facts(file: Path) -> dict[str, Any]:
    """What a model file says of the data that it learnt from.

    Raises WeightsError when it is damaged or missing.
    """
    try:
        with safe_open(str(file), framework="pt") as opened:
            facts = json.loads((opened.metadata() or {})["facts"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{file} is no whole model of a task ({error}).") from None
    assert isinstance(facts, dict)
    return facts


def trained_for(name: str, path: str | Path, device: torch.device | None = None) -> Trained:
    """`load_trained`, refusing a run of another task with TaskError."""
    trained = load_trained(path, device)
    if trained.task.name != name:
        raise TaskError(
            f"{path} is a run of {trained.task.name}, not of {name}; write 'eightbit run "
            f"{trained.task.name} {path} ...'."
        )
    return trained


def _undone(options: dict[str, Any]) -> dict[str, Any]:
    return {name: "none" if value is None else value for name, value in options.items()}


def refuse_unfit_backbone(model: nn.Module, weights: str) -> nn.Module:
    """The model's trunk; UsageError where the task has none that weights could go to."""
    trunk = getattr(model, "backbone", None)
    if not isinstance(trunk, nn.Module):
        raise UsageError(
            f"this task has no trunk of the registry that {weights} could be loaded into; leave "
            "--backbone-weights out."
        )
    return trunk
