"""ONNX files: written from a module, run by onnxruntime, compared, and only then put in place."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import EightBitError, UsageError

TOLERANCE = 1e-4  # of the largest value, or of 1 where that is less
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


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


def require_packages() -> None:
    """Raises UsageError that tells what to install where a package of ONNX is missing."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"exporting needs {' and '.join(missing)}: write pip install 'eightbit[onnx]'."
        )


@dataclass(frozen=True)
class OnnxParts:
    """What goes in and out of a file.

    Attributes:
        inputs: an example of each.
        input_names, output_names: in the file.
        dynamic_shapes: which axes may vary, as `torch.onnx.export` takes it.
    """

    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    dynamic_shapes: tuple[Any, ...]


def write_onnx(
    module: nn.Module,
    parts: OnnxParts,
    path: Path,
    *,
    metadata: Mapping[str, str],
    compare: Callable[[Path], Exported],
) -> Exported:
    """Writes a module as a file, compares both, and puts the file in place.

    Args:
        module: from `exportable`.
        parts: what goes in and out.
        path: what stands there is replaced only when the new file is right.
        metadata: text that goes into the file.
        compare: runs the file at the path it is given beside the module; raises where they differ.

    Raises:
        EightBitError: the exporter refuses the module, or the file computes something else.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.onnx")
    try:
        with _quietly():
            program = torch.onnx.export(
                module,
                parts.inputs,
                input_names=list(parts.input_names),
                output_names=list(parts.output_names),
                dynamic_shapes=parts.dynamic_shapes,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props.update(metadata)
            program.save(temporary, external_data=False)
        exported = compare(temporary)
        os.replace(temporary, path)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).split("\n")[0]
        raise EightBitError(f"torch cannot export this network to ONNX: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return dataclasses.replace(exported, path=path)


def refuse_difference(wanted: Tensor, got: np.ndarray) -> float:
    """The largest difference; raises EightBitError where it exceeds `TOLERANCE`."""
    difference = float(np.abs(wanted.numpy() - got).max())
    if not difference <= TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise EightBitError(
            f"the exported network differs from torch's by {difference:.2g}; nothing was written. "
            "Report the run's config.toml."
        )
    return difference


def exportable(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, on the CPU, in float32 and in operators that ONNX has."""
    copied = copy.deepcopy(network).cpu().float().eval()
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.AdaptiveMaxPool2d):
                size: Any = child.output_size
                height, width = (size, size) if isinstance(size, int) else size
                if height is None or width is None:
                    raise EightBitError("a pool that keeps one side's size cannot be exported.")
                setattr(module, name, _WindowMaxPool(height, width))
    return copied


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


def signature(nodes: list[Any]) -> tuple[str, ...]:
    """Names, types and shapes of a session's inputs or outputs, as `pictures uint8 (batch, 3)`."""
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
