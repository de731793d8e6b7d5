"""RandAugment's operations (Cubuk et al. 2020) on batches: ten, each at a random strength."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Largest strengths: of turning in radians, of shear and shift as shares of the picture.
TURN, SHEAR, MOVE = np.pi / 6, 0.3, 0.3

Operation = Callable[[Tensor, Tensor], Tensor]
"""(float (B, 3, H, W) in 0..255, strengths (B,) in [-1, 1]) -> the same shape."""


def random_operations(
    x: Tensor, count: int, magnitude: float, generator: np.random.Generator
) -> Tensor:
    """Applies `count` operations to each picture, drawn with repetition.

    Args:
        x: uint8 (B, 3, H, W).
        count: how many after each other.
        magnitude: largest strength, 0 to 1.
        generator: of choices and strengths.

    Returns:
        uint8 (B, 3, H, W).
    """
    pixels = x.float()
    for _ in range(count):
        chosen = generator.integers(0, len(OPERATIONS), len(x))
        strengths = generator.uniform(-magnitude, magnitude, len(x)).astype(np.float32)
        for index, operation in enumerate(OPERATIONS):
            here = torch.from_numpy(np.flatnonzero(chosen == index))
            if len(here):
                changed = operation(pixels[here], torch.from_numpy(strengths)[here])
                pixels[here] = changed.clamp_(0, 255)
    return pixels.round_().to(torch.uint8)


def _warped(x: Tensor, entries: dict[tuple[int, int], Tensor]) -> Tensor:
    maps = torch.eye(2, 3).repeat(len(x), 1, 1)
    for (row, column), values in entries.items():
        maps[:, row, column] = values
    grid = F.affine_grid(maps, list(x.shape), False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _turned(x: Tensor, strength: Tensor) -> Tensor:
    angle = strength * TURN
    sine, cosine = angle.sin(), angle.cos()
    return _warped(x, {(0, 0): cosine, (0, 1): -sine, (1, 0): sine, (1, 1): cosine})


def _sheared(x: Tensor, strength: Tensor) -> Tensor:
    return _warped(x, {(0, 1): strength * SHEAR})


def _sheared_down(x: Tensor, strength: Tensor) -> Tensor:
    return _warped(x, {(1, 0): strength * SHEAR})


def _moved(x: Tensor, strength: Tensor) -> Tensor:
    return _warped(x, {(0, 2): 2 * MOVE * strength})


def _moved_down(x: Tensor, strength: Tensor) -> Tensor:
    return _warped(x, {(1, 2): 2 * MOVE * strength})


def _brighter(x: Tensor, strength: Tensor) -> Tensor:
    return x * (1 + strength)[:, None, None, None]


def _more_contrast(x: Tensor, strength: Tensor) -> Tensor:
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + strength)[:, None, None, None]


def _more_colour(x: Tensor, strength: Tensor) -> Tensor:
    grey = x.mean(dim=1, keepdim=True)
    return grey + (x - grey) * (1 + strength)[:, None, None, None]


def _sharper(x: Tensor, strength: Tensor) -> Tensor:
    smooth = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return smooth + (x - smooth) * (1 + strength)[:, None, None, None]


def _fewer_bits(x: Tensor, strength: Tensor) -> Tensor:
    step = 2.0 ** (4 * strength.abs()).round()[:, None, None, None]
    return torch.floor(x / step) * step


OPERATIONS: tuple[Operation, ...] = (
    _turned,
    _sheared,
    _sheared_down,
    _moved,
    _moved_down,
    _brighter,
    _more_contrast,
    _more_colour,
    _sharper,
    _fewer_bits,
)
