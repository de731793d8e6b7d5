"""What learning from pictures shares: how they are varied, and how a fresh trunk begins."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor, nn

from ...backbones import BACKBONES
from ...backbones.speedy import first_layer, is_whitening, whiten
from ...errors import UsageError

WHITENED = 2_000  # pictures that a whitening layer is computed from


class Pictures(Protocol):
    """Pictures that are asked for by number."""

    def __len__(self) -> int: ...

    def pictures(self, indices: np.ndarray) -> Tensor:
        """uint8 (N, 3, S, S)."""


def moved(pictures: np.ndarray, flip: bool, shift: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures (B, S, S, 3), half of them mirrored and each moved by up to `shift` pixels.

    What comes in at the rim is mirrored. Without `flip` none is mirrored.
    """
    count, size = pictures.shape[:2]
    if flip:
        mirrored = rng.integers(0, 2, count).astype(bool)
        pictures = np.where(mirrored[:, None, None, None], pictures[:, :, ::-1], pictures)
    if not shift:
        return pictures
    wide = np.pad(pictures, ((0, 0), (shift, shift), (shift, shift), (0, 0)), "reflect")
    corners = rng.integers(0, 2 * shift + 1, (2, count))
    rows, columns = (one[:, None] + np.arange(size) for one in corners)
    return wide[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None]]


def require_cnn(backbone: str) -> None:
    """Refuses a trunk that takes no pictures; raises UsageError."""
    if BACKBONES[backbone].kind != "cnn":
        raise UsageError(f"{backbone} takes no pictures; name a CNN, such as impala.")


def whiten_fresh(trunk: nn.Module, train: Pictures) -> None:
    """Fits a fresh whitening layer to the training pictures; other trunks stay as they are.

    A trunk is fresh as long as the biases of that layer are all zero.
    """
    layer = first_layer(trunk)
    if layer is None or layer.bias is None or layer.bias.any() or not is_whitening(trunk):
        return
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:WHITENED])
    whiten(trunk, train.pictures(chosen))
