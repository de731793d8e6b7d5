"""A trained network as an ONNX file, which other programs run without torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import nn

from .. import __version__
from ..errors import UsageError
from .evaluation import GYM_PREFIX, action_names
from .onnx_files import (
    Exported,
    OnnxParts,
    exportable,
    refuse_difference,
    require_packages,
    signature,
    write_onnx,
)
from .player import Player, load_player

OBSERVATIONS = "observations"
_CHECKED_STEPS = 3  # in a row, of a network with memory


@dataclass(frozen=True)
class ExportSettings:
    """What is exported."""

    checkpoint: str = "last"
    """which weights: last, best, or a number of agent steps"""


def export_run(
    run: str | Path,
    output: Path | None = None,
    settings: ExportSettings = ExportSettings(),  # frozen, so sharing it is safe
) -> Exported:
    """Writes the network that a run plays with, in float32 and without its noise.

    Args:
        run: the run folder.
        output: the file to write, .onnx; RUN/model.onnx by default.
        settings: which weights.

    Raises:
        RunFolderError: the folder is missing, damaged, without weights, or lacks the checkpoint.
        UsageError: `output` is not .onnx or in no folder, or a package is missing.
        EightBitError: the network cannot be exported, or its file computes something else.
    """
    path = Path(run) / "model.onnx" if output is None else output
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path} must end in .onnx.")
    require_packages()
    player = load_player(run, checkpoint=settings.checkpoint, device="cpu")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; make it first.")
    agent = player.agent
    return export_network(
        agent.network,
        agent.observation_space,
        path,
        output_name=getattr(agent.network, "output_name", "values"),
        metadata=describe(player),
    )


def describe(player: Player) -> dict[str, str]:
    """What the file says of itself: whose network it is, its actions, and what it must be shown."""
    names = action_names(player.game, player.options, player.agent.num_actions)
    facts = {
        "game": player.game,
        "agent": player.label,
        "protocol": player.protocol.value,
        "actions": json.dumps(names),
        "agent_steps": "" if player.agent_steps is None else str(player.agent_steps),
        "eightbit": __version__,
    }
    if not player.game.startswith(GYM_PREFIX):
        shown = ("preprocessing", "picture", "screen_size", "frame_stack", "frame_skip", "max_pool")
        options = dataclasses.asdict(player.options)
        facts["preprocessing"] = json.dumps({name: options[name] for name in shown})
    return facts


def export_network(
    network: nn.Module,
    space: Box,
    path: Path,
    *,
    output_name: str = "values",
    metadata: Mapping[str, str] = {},
    seed: int = 0,
) -> Exported:
    """Writes a network, runs the file by onnxruntime and compares.

    Args:
        network: (B, *observation) -> (B, A), with `memory` None or a recurrent backbone. With
            memory its state goes in and out: `state_0` .. and `next_state_0` .., each (layers, B,
            size) float32, zeros at the beginning of a game.
        space: of one observation.
        path: what stands there is replaced only when the new file is right.
        output_name: of the numbers for each action.
        metadata: text that goes into the file.
        seed: of the observations that are compared.

    Raises:
        UsageError: a package is missing.
        EightBitError: the exporter refuses the network, or the file computes something else.
    """
    require_packages()
    network = _exportable(network)
    generator = np.random.default_rng(seed)
    example = _inputs(network, space, 2, generator)
    state = [name for name in example if name != OBSERVATIONS]
    shapes: tuple[Any, ...] = ({0: "batch"},)
    if state:
        shapes += (tuple({1: "batch"} for _ in state),)
    return write_onnx(
        network,
        OnnxParts(
            tuple(example.values()),
            tuple(example),
            (output_name, *(f"next_{name}" for name in state)),
            shapes,
        ),
        path,
        metadata=metadata,
        compare=lambda file: _compare(network, space, file, generator),
    )


class _Step(nn.Module):
    """A network whose state, where it has one, goes in and out as tensors."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.memory = getattr(network, "memory", None)

    def forward(
        self, observations: torch.Tensor, *state: torch.Tensor
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """(B, *observation) and the state -> (B, A) and the state after it."""
        if self.memory is None:
            return self.network(observations)
        values, after = self.network.advance(observations, state)  # type: ignore[operator]  # QNetwork
        return (values, *after)


def _exportable(network: nn.Module) -> _Step:
    return _Step(exportable(network)).eval()


def _inputs(
    network: _Step, space: Box, batch: int, generator: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Random observations, and the state of games that begin."""
    shape, dtype = (batch, *space.shape), np.dtype(space.dtype)
    low, high = float(np.min(space.low)), float(np.max(space.high))
    if dtype.kind in "iu":
        drawn = generator.integers(int(low), int(high), size=shape, dtype=dtype, endpoint=True)
    else:
        drawn = np.clip(generator.standard_normal(shape), low, high).astype(dtype)
    inputs = {OBSERVATIONS: torch.from_numpy(drawn)}
    if network.memory is not None:
        parts = network.memory.initial_state(batch)
        inputs.update({f"state_{i}": part for i, part in enumerate(parts)})
    return inputs


def _compare(network: _Step, space: Box, path: Path, generator: np.random.Generator) -> Exported:
    """Runs the file and the network side by side on batches of several sizes, some steps on.

    Raises EightBitError where they differ by more than `TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 3):
        inputs = _inputs(network, space, batch, generator)
        for _ in range(_CHECKED_STEPS):
            with torch.no_grad():
                made = network(*inputs.values())
            expected = made if isinstance(made, tuple) else (made,)
            results = session.run(None, {name: x.numpy() for name, x in inputs.items()})
            for wanted, got in zip(expected, results, strict=True):
                worst = max(worst, refuse_difference(wanted, got))
            names = [name for name in inputs if name != OBSERVATIONS]
            inputs = {
                OBSERVATIONS: _inputs(network, space, batch, generator)[OBSERVATIONS],
                **dict(zip(names, expected[1:], strict=True)),
            }
    return Exported(path, worst, signature(session.get_inputs()), signature(session.get_outputs()))
