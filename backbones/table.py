"""Size, work and speed of every backbone at its default input."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .base import BACKBONES, BackboneSpec, create_backbone, list_backbones

MEASURED_SECONDS = 0.05  # how long each network is timed at least
SEQUENCE_STEPS = 16  # steps of the sequence that a recurrent network is measured on


@dataclass(frozen=True)
class BackboneRow:
    """One backbone at its default input and options.

    Attributes:
        flops: floating point operations of one forward pass of one input (of one step, when
            recurrent); a multiplication and an addition count as two. Convolutions and linear
            layers are counted.
        forward_ms: milliseconds of one forward pass of `batch` inputs in fp32 on the CPU,
            the fastest of some.
    """

    name: str
    kind: str
    in_shape: tuple[int, ...]
    out_features: int
    parameters: int
    flops: int
    forward_ms: float
    batch: int
    description: str


def backbone_table(names: Sequence[str] | None = None, batch: int = 32) -> list[BackboneRow]:
    """Measures backbones, all of them by default; takes about a tenth of a second each."""
    return [_measure(BACKBONES[name], batch) for name in names or list_backbones()]


def markdown_table() -> str:
    """The table of docs/backbones.md: what does not depend on the machine."""
    lines = [
        "| name | kind | input | output | parameters | MFLOPs | what it is | from |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in backbone_table(batch=1):
        size = "x".join(map(str, row.in_shape))
        lines.append(
            f"| `{row.name}` | {row.kind} | {size} | {row.out_features} | {row.parameters:,} | "
            f"{row.flops / 1e6:.2f} | {row.description} | {BACKBONES[row.name].paper} |"
        )
    return "\n".join(lines)


def markdown_options() -> str:
    """The options in docs/backbones.md: every backbone's, with their defaults."""
    lines = ["| name | options |", "| --- | --- |"]
    for name in list_backbones():
        options = ", ".join(f"`{key}={value!r}`" for key, value in BACKBONES[name].options.items())
        lines.append(f"| `{name}` | {options} |")
    return "\n".join(lines)


def example_input(
    spec: BackboneSpec, batch: int, generator: torch.Generator | None = None
) -> Tensor:
    """An input of the backbone's default shape: uint8 pictures, or float32 vectors or sequences.

    Returns:
        (batch, C, H, W) uint8, (batch, F) float32 or (batch, 16, F) float32.
    """
    if spec.kind == "cnn":
        shape = (batch, *spec.default_in_shape)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    steps = (SEQUENCE_STEPS,) if spec.kind == "recurrent" else ()
    return torch.randn(batch, *steps, *spec.default_in_shape, generator=generator)


def count_flops(module: nn.Module, x: Tensor) -> int:
    """Floating point operations of `module(x)` in convolutions and matrix products."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops()


def _measure(spec: BackboneSpec, batch: int) -> BackboneRow:
    module = create_backbone(spec.name, spec.default_in_shape, seed=0).eval()
    x = example_input(spec, batch, torch.Generator().manual_seed(0))
    times: list[float] = []
    with torch.no_grad():
        module(x)  # warms up
        while len(times) < 3 or sum(times) < MEASURED_SECONDS:
            start = time.perf_counter()
            module(x)
            times.append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in module.parameters())
    return BackboneRow(
        name=spec.name,
        kind=spec.kind,
        in_shape=spec.default_in_shape,
        out_features=int(module.out_features),  # type: ignore[arg-type]  # create_backbone checks
        parameters=parameters,
        flops=_recurrent_flops(module) if spec.kind == "recurrent" else count_flops(module, x[:1]),
        forward_ms=min(times) * 1e3,
        batch=batch,
        description=spec.description,
    )


def _recurrent_flops(module: nn.Module) -> int:
    # The counter does not look into fused recurrent kernels: each weight of a matrix takes part
    # in one multiplication and one addition a step.
    return 2 * sum(p.numel() for p in module.parameters() if p.ndim == 2)
