"""Digits as they are, translated on a larger canvas, and among clutter; drawn anew each time.

A drawing is a pure function of (seed, number): all its random choices come from a hash of the two,
so that a batch is drawn at once, without a generator for each picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from ..errors import UsageError
from .labelled import read_labelled

SIDE = 28
"""Side in pixels of a digit."""

_KNOTS = 5  # of the grid whose random shifts bend a digit, along each axis
_AFFINE, _BEND, _PLACE = 6, 2 * _KNOTS * _KNOTS, 2  # random numbers of a drawing, by use
_PATCH = 5  # random numbers of a piece of clutter


@dataclass(frozen=True)
class DigitSplit:
    """Digits of a split.

    Attributes:
        pictures: uint8 (N, 28, 28), ink bright on black.
        labels: int64 (N,), indices into the classes.
        names: of the digits in the data set.
    """

    pictures: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def take(self, indices: np.ndarray) -> DigitSplit:
        """The digits of these indices, in their order."""
        chosen = torch.from_numpy(indices)
        names = tuple(self.names[i] for i in indices.tolist())
        return DigitSplit(self.pictures[chosen], self.labels[chosen], names)


@dataclass(frozen=True)
class Digits:
    """A data set of digits.

    Attributes:
        classes: their names.
        splits: "train", "test", and "validation" where the data set names such a part.
        facts: JSON values: source, licence, split, counts.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, DigitSplit]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Canvas:
    """How digits are drawn.

    Attributes:
        size: S, side of the canvas in pixels, at least 28; a digit lies anywhere on it.
        clutter: pieces of other digits that are strewn over it.
        piece: side of such a piece in pixels.
    """

    size: int = SIDE
    clutter: int = 0
    piece: int = 8

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn; raises UsageError."""
        if self.size < SIDE:
            raise UsageError(f"a canvas of {self.size} pixels does not hold a digit of {SIDE}.")
        if self.clutter < 0 or not 1 <= self.piece <= SIDE:
            raise UsageError(
                f"{self.clutter} pieces of clutter of {self.piece} pixels cannot be drawn; give 0 "
                f"or more of 1 to {SIDE} pixels."
            )


@dataclass(frozen=True)
class Distortion:
    """Random changes of a digit, each drawn evenly between minus and plus the figure.

    Attributes:
        turn: degrees.
        stretch: share by which each axis grows or shrinks.
        slant: shear, columns a row.
        bend: pixels by which the knots of a coarse grid are moved, with cubic curves between.
        shift: pixels, on each axis.
    """

    turn: float = 0.0
    stretch: float = 0.0
    slant: float = 0.0
    bend: float = 0.0
    shift: float = 0.0

    def any(self) -> bool:
        """Whether anything changes."""
        return bool(self.turn or self.stretch or self.slant or self.bend or self.shift)


def read_digits(data: str, seed: int) -> Digits:
    """Reads grey pictures of 28 x 28: MNIST's idx files, or class folders of any pictures.

    Args:
        data: a registered name, a folder, or an archive.
        seed: of the split, where one is drawn.

    Raises:
        DataError: missing or damaged files, or fewer than two classes.
        MemoryBudgetError: the pictures do not fit the free memory.
        UnknownNameError: `data` is neither a path nor a known name.
    """
    read = read_labelled(data, SIDE, seed)
    parts = {"train": read.train, "validation": read.validation, "test": read.test}
    splits = {
        name: DigitSplit(grey(part.pictures), part.labels, part.names)
        for name, part in parts.items()
        if part is not None
    }
    return Digits(read.classes, splits, read.facts)


def grey(rgb: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) of RGB pictures uint8 (..., 3, H, W): uint8 (..., H, W)."""
    weights = torch.tensor([77, 150, 29], dtype=torch.int32)  # of 256
    mixed = (rgb.to(torch.int32) * weights[:, None, None]).sum(-3)
    return ((mixed + 128) >> 8).to(torch.uint8)


def uniform(seed: int, numbers: np.ndarray, count: int) -> np.ndarray:
    """Random numbers that follow from a seed and the number of what they are for.

    Args:
        seed: 0 or more.
        numbers: integers (N,), 0 or more.
        count: of random numbers for each.

    Returns:
        float64 (N, count) in [0, 1): SplitMix64 (Steele 2014) of seed, number and place.
    """
    begin = _mix(_mix(np.full(1, seed, np.uint64)) + np.asarray(numbers, np.uint64))
    places = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(begin[:, None] + places) >> np.uint64(11)) * 2.0**-53


def draw(
    digits: DigitSplit,
    chosen: np.ndarray,
    numbers: np.ndarray,
    seed: int,
    canvas: Canvas,
    distortion: Distortion | None = None,
) -> Tensor:
    """Draws a batch: picture i shows digit chosen[i] and depends on seed and numbers[i] alone.

    Where the canvas is larger than a digit, the digit's place is drawn evenly. Of clutter each
    piece is cut from a digit of the split at random and laid anywhere; of what overlaps the
    brighter one is seen.

    Args:
        digits: of one split.
        chosen: integers (B,), indices into it.
        numbers: integers (B,), 0 or more.
        seed: 0 or more.
        canvas: what is drawn on.
        distortion: how digits are changed first; None for not at all.

    Returns:
        uint8 (B, 1, S, S).
    """
    drawn = uniform(seed, numbers, _AFFINE + _BEND + _PLACE + _PATCH * canvas.clutter)
    shapes, drawn = drawn[:, : _AFFINE + _BEND], drawn[:, _AFFINE + _BEND :]
    ink = digits.pictures[torch.from_numpy(np.asarray(chosen, np.int64))]
    if distortion is not None and distortion.any():
        ink = _distorted(ink, torch.from_numpy(2 * shapes - 1).float(), distortion)
    if canvas.size == SIDE and not canvas.clutter:
        return ink[:, None].contiguous()
    size = canvas.size
    page = np.zeros((len(ink), size, size), np.uint8)
    corner = (drawn[:, :2] * (size - SIDE + 1)).astype(np.int64)
    _lay(page, ink.numpy(), corner)
    for index in range(canvas.clutter):
        piece = drawn[:, _PLACE + _PATCH * index : _PLACE + _PATCH * (index + 1)]
        _strew(page, digits.pictures.numpy(), piece, canvas.piece)
    return torch.from_numpy(page)[:, None]


def _strew(page: np.ndarray, sources: np.ndarray, drawn: np.ndarray, side: int) -> None:
    """Lays a piece of some digit on each page; `drawn` are five random numbers for each."""
    owner = (drawn[:, 0] * len(sources)).astype(np.int64)
    cut = (drawn[:, 1:3] * (SIDE - side + 1)).astype(np.int64)
    pieces = sliding_window_view(sources, (side, side), axis=(1, 2))[owner, cut[:, 0], cut[:, 1]]
    _lay(page, pieces, (drawn[:, 3:5] * (page.shape[1] - side + 1)).astype(np.int64))


def _lay(page: np.ndarray, ink: np.ndarray, corner: np.ndarray) -> None:
    """Draws (B, h, h) with its corners (row, column) on pages (B, S, S), in place."""
    windows = sliding_window_view(page, ink.shape[1:], axis=(1, 2), writeable=True)
    place = np.arange(len(page)), corner[:, 0], corner[:, 1]
    windows[place] = np.maximum(windows[place], ink)


def _distorted(ink: Tensor, drawn: Tensor, distortion: Distortion) -> Tensor:
    """Digits uint8 (B, 28, 28) seen through a random affine map and a bent grid.

    Args:
        ink: the digits.
        drawn: (B, 6 + 2 * knots^2) in [-1, 1).
        distortion: how much.
    """
    pixel = 2 / SIDE  # in the units of grid_sample, in which the picture is 2 wide
    angle = drawn[:, 0] * distortion.turn * torch.pi / 180
    scale = torch.exp(-drawn[:, 1:3] * distortion.stretch)
    slant = drawn[:, 3] * distortion.slant
    cosine, sine = angle.cos(), angle.sin()
    rows = [
        torch.stack([scale[:, 0] * cosine, scale[:, 0] * (slant * cosine - sine)], 1),
        torch.stack([scale[:, 1] * sine, scale[:, 1] * (slant * sine + cosine)], 1),
    ]
    knots = drawn[:, _AFFINE:].reshape(-1, 2, _KNOTS, _KNOTS)
    moved = drawn[:, 4:6] * (distortion.shift * pixel)
    theta = torch.cat([torch.stack(rows, 1), moved[:, :, None]], 2)
    grid = F.affine_grid(theta, [len(ink), 1, SIDE, SIDE], align_corners=False)
    if distortion.bend:
        curve = _curves()
        bent = curve @ knots @ curve.T
        grid = grid + bent.permute(0, 2, 3, 1) * (distortion.bend * pixel)
    seen = F.grid_sample(ink[:, None].float(), grid, align_corners=False)
    return seen[:, 0].round().clamp(0, 255).to(torch.uint8)


@cache
def _curves() -> Tensor:
    """(28, knots): cubic curves through knots along an axis, as a matrix.

    A product with it on both sides is bicubic interpolation, at a fraction of its time.
    """
    knots = torch.eye(_KNOTS)[None, None]
    curves = F.interpolate(knots, (SIDE, _KNOTS), mode="bicubic", align_corners=True)
    return curves[0, 0]


def _mix(values: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 on uint64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
