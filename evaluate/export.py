"""A trained network as an ONNX file, which other programs run without torch."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import nn

from .. import __version__
from ..errors import EightBitError, UsageError
from .evaluation import GYM_PREFIX, action_names
from .player import Player, load_player

OBSERVATIONS = "observations"
TOLERANCE = 1e-4  # of the largest value, or of 1 where that is less
_CHECKED_STEPS = 3  # in a row, of a network with memory
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportSettings:
    """What is exported."""

    checkpoint: str = "last"
    """which weights: last, best, or a number of agent steps"""


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was checked.

    Attributes:
        path: the file.
        difference: the largest absolute one between its outputs and torch's.
        inputs, outputs: names and shapes, as in `observations uint8 (batch, 4, 84, 84)`.
    """

    path: Path
    difference: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


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


def require_packages() -> None:
    """Raises UsageError that tells what to install where a package of ONNX is missing."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"exporting needs {' and '.join(missing)}: write pip install 'eightbit[onnx]'."
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
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.onnx")
    try:
        with _quietly():
            program = torch.onnx.export(
                network,
                tuple(example.values()),
                input_names=list(example),
                output_names=[output_name, *(f"next_{name}" for name in state)],
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props.update(metadata)
            program.save(temporary, external_data=False)
        exported = _compare(network, space, temporary, generator)
        os.replace(temporary, path)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).split("\n")[0]
        raise EightBitError(f"torch cannot export this network to ONNX: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return dataclasses.replace(exported, path=path)


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


class _WindowMaxPool(nn.Module):
    """`nn.AdaptiveMaxPool2d` by slices, which ONNX has an operator for."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, height, width)."""
        rows, columns = _windows(maps.shape[2], self.height), _windows(maps.shape[3], self.width)
        maps = torch.stack([maps[:, :, a:b].amax(dim=2) for a, b in rows], dim=2)
        return torch.stack([maps[..., a:b].amax(dim=3) for a, b in columns], dim=3)


def _windows(size: int, count: int) -> list[tuple[int, int]]:
    """Where each of `count` windows over `size` cells begins and ends, as torch lays them."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _exportable(network: nn.Module) -> _Step:
    """A copy in evaluation mode, in operators that ONNX has."""
    copied = copy.deepcopy(network).cpu().float().eval()
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.AdaptiveMaxPool2d):
                size: Any = child.output_size
                height, width = (size, size) if isinstance(size, int) else size
                if height is None or width is None:
                    raise EightBitError("a pool that keeps one side's size cannot be exported.")
                setattr(module, name, _WindowMaxPool(height, width))
    return _Step(copied).eval()


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
                difference = float(np.abs(wanted.numpy() - got).max())
                if not difference <= TOLERANCE * max(1.0, float(wanted.abs().max())):
                    raise EightBitError(
                        f"the exported network differs from torch's by {difference:.2g}; nothing "
                        "was written. Report the agent and its options."
                    )
                worst = max(worst, difference)
            names = [name for name in inputs if name != OBSERVATIONS]
            inputs = {
                OBSERVATIONS: _inputs(network, space, batch, generator)[OBSERVATIONS],
                **dict(zip(names, expected[1:], strict=True)),
            }
    return Exported(
        path, worst, _signature(session.get_inputs()), _signature(session.get_outputs())
    )


def _signature(nodes: list[Any]) -> tuple[str, ...]:
    kinds = {"tensor(float)": "float32", "tensor(double)": "float64"}
    return tuple(
        f"{node.name} {kinds.get(node.type, node.type[len('tensor(') : -1])} "
        f"({', '.join(map(str, node.shape))})"
        for node in nodes
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Leaves out what the exporter says of its own parts; what it refuses is raised."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
