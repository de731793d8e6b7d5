"""Agent files: safetensors with JSON metadata. Reading one never runs code."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import WeightsError
from .options import DQNOptions
from .sb3_options import SB3_OPTIONS

FORMAT = "eightbit-agent-1"
OPTIONS: dict[str, type] = {"dqn": DQNOptions, **SB3_OPTIONS}
"""Kinds of agents that a file may hold, and the class of their options."""


@dataclass(frozen=True)
class SavedAgent:
    """What an agent file holds."""

    weights: dict[str, torch.Tensor]
    options: dict[str, Any]
    observation_space: Box
    num_actions: int
    frame_stack: int
    agent: str


def save_agent(
    path: Path,
    weights: dict[str, torch.Tensor],
    *,
    options: dict[str, Any],
    observation_space: Box,
    num_actions: int,
    frame_stack: int,
    backbone: torch.nn.Module | None = None,
    agent: str = "dqn",
) -> None:
    """Writes the file beside `path` and renames it, so that a crash leaves the old one whole.

    The same agent gives the same bytes. `agent` is a kind of `OPTIONS`.

    Raises OSError when the disk refuses.
    """
    shape = list(observation_space.shape)
    metadata = {
        "format": FORMAT,
        "agent": agent,
        "options": json.dumps(options),
        "num_actions": str(num_actions),
        "frame_stack": str(frame_stack),
        "observation_shape": json.dumps(shape),
        "observation_dtype": str(observation_space.dtype),
        "observation_low": json.dumps(float(np.min(observation_space.low))),
        "observation_high": json.dumps(float(np.max(observation_space.high))),
        # A trunk of this file can be loaded into a classifier by these.
        "backbone": options["backbone"],
        "in_shape": json.dumps(shape),
        "backbone_options": options["backbone_options"],
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(_with_metadata(save(tensors), metadata))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """A safetensors file with metadata in order; the library's own order is random."""
    start = 8 + int.from_bytes(content[:8], "little")
    checksum = f"{zlib.crc32(content[start:]):08x}"
    header = {"__metadata__": {**metadata, "crc32": checksum}, **json.loads(content[8:start])}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]


def _is_whole(path: Path, checksum: str | None) -> bool:
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return checksum is None or f"{zlib.crc32(content[start:]):08x}" == checksum


def load_agent(path: Path, agents: Iterable[str] = ("dqn",)) -> SavedAgent:
    """Reads what `save_agent` wrote.

    Args:
        path: the file.
        agents: the kinds that the caller can be.

    Raises:
        WeightsError: the file is missing, not safetensors, not an agent of ours, or one of
            another kind.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; give the model.safetensors of a run.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); pickled files are not read."
        ) from None
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} holds no agent of this version (format {metadata.get('format')!r}, "
            f"expected {FORMAT!r})."
        )
    if not _is_whole(path, metadata.get("crc32")):
        raise WeightsError(f"{path} is damaged: its checksum differs.")
    agent = metadata.get("agent", "dqn")
    if agent not in agents:
        raise WeightsError(
            f"{path} holds an agent of kind {agent!r}, not {' or '.join(agents)}; "
            "load it with its own class."
        )
    try:
        return _described(weights, metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} does not say what it holds ({error}).") from None


def _described(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> SavedAgent:
    dtype = np.dtype(metadata["observation_dtype"])
    options = json.loads(metadata["options"])
    agent = metadata.get("agent", "dqn")
    unknown = set(options) - {field.name for field in fields(OPTIONS[agent])}
    if unknown:
        raise ValueError(f"unknown option {min(unknown)!r}")
    space = Box(
        _bound(metadata["observation_low"], dtype),
        _bound(metadata["observation_high"], dtype),
        shape=tuple(json.loads(metadata["observation_shape"])),
        dtype=dtype.type,
    )
    return SavedAgent(
        weights, options, space, int(metadata["num_actions"]), int(metadata["frame_stack"]), agent
    )


def _bound(text: str, dtype: np.dtype) -> float | int:
    value = float(json.loads(text))
    return int(value) if dtype.kind in "iu" else value


def fit_weights(load: Callable[[dict[str, Any]], Any], saved: SavedAgent, path: Path) -> None:
    """Gives `load` the saved weights; raises WeightsError when they do not fit its network."""
    try:
        load(saved.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"the weights in {path} do not fit their network: {reason}") from None


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """The optimizer's running averages by the parameters' positions."""
    state = optimizer.state_dict()["state"]
    return {str(index): dict(values) for index, values in state.items()}


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, saved: dict[str, dict[str, Any]]
) -> None:
    """Restores running averages in each parameter's own memory layout.

    The fused kernels walk parameters and averages by raw position, so a contiguous average beside a
    channels-last parameter would be read in the wrong order.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {}
    for index, values in saved.items():
        parameter = parameters[int(index)]
        state[int(index)] = {
            name: torch.empty_like(parameter).copy_(value)
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape
            else value
            for name, value in values.items()
        }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
