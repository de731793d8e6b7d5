"""Layers that several trunks and tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from .base import Stage

Module = TypeVar("Module", bound=nn.Module)


def compute_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The type that a layer with `weight` computes in on `x`'s device, autocast included."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return weight.dtype


class PixelConv2d(nn.Conv2d):
    """The first convolution of a trunk: takes uint8 in 0..255 or float in [0, 1], (B, C, H, W).

    Whole numbers up to 255 are exact in bf16, so uint8 pictures are converted without
    scaling, and 1/255 is multiplied into the (small) kernel instead of into the pixels.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 4 or input.shape[1] != self.in_channels:
            raise UsageError(
                f"this network takes pictures (B, {self.in_channels}, height, width), not "
                f"{tuple(input.shape)}; channels come before height and width."
            )
        pixels = input.dtype == torch.uint8
        if not pixels and not input.is_floating_point():
            raise UsageError(f"pictures are uint8 in 0..255 or float in [0, 1], not {input.dtype}.")
        dtype = compute_dtype(input, self.weight)
        if pixels and input.is_contiguous():
            # Interleaving bytes and converting then is twice as fast as transposing floats.
            x = torch.stack(input.unbind(1), dim=3).to(dtype).permute(0, 3, 1, 2)
        else:
            x = input.to(dtype).contiguous(memory_format=torch.channels_last)
        weight = self.weight * (1 / 255) if pixels else self.weight
        return self._conv_forward(x, weight, self.bias)


def channels_last(model: Module) -> Module:
    """Lays kernels out as CPUs and tensor cores convolve fastest; values stay."""
    laid: Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return laid


class ConvTrunk(nn.Module):
    """Convolutional stages, then the layers that make a vector of the last map.

    Args:
        in_shape: (C, H, W) of one picture.
        stages: modules (B, C, H, W) -> (B, C', H', W'); the first begins with `PixelConv2d`.
        feature_info: one entry a stage.
        hidden: module (B, C', H', W') -> (B, out_features).
        any_size: whether `hidden` takes maps of every size.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        stages: Sequence[nn.Module],
        feature_info: Sequence[Stage],
        hidden: nn.Module,
        out_features: int,
        *,
        any_size: bool = False,
    ):
        super().__init__()
        self.in_shape = in_shape
        self.features = nn.Sequential(*stages)
        self.feature_info = tuple(feature_info)
        self.hidden = hidden
        self.out_features = out_features
        self.any_size = any_size

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W), uint8 in 0..255 or float in [0, 1] -> the last map (B, C', H', W')."""
        return self.features(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), uint8 in 0..255 or float in [0, 1] -> (B, out_features)."""
        if not self.any_size and tuple(x.shape[1:]) != self.in_shape:
            raise UsageError(
                f"this network was built for pictures (B, {', '.join(map(str, self.in_shape))}), "
                f"not {tuple(x.shape)}; build it with in_shape={tuple(x.shape[1:])}."
            )
        # Flattening follows the logical order (C, H, W), so memory formats give equal results.
        return self.hidden(self.forward_features(x))


def map_size(
    in_shape: tuple[int, ...], layers: Sequence[tuple[int, int]], backbone: str
) -> tuple[int, int]:
    """Height and width after unpadded convolutions of (kernel, stride).

    Raises:
        UsageError: the picture is too small; the message says which size is needed.
    """
    needed = 1
    for kernel, stride in reversed(layers):
        needed = (needed - 1) * stride + kernel
    height, width = in_shape[1:]
    if min(height, width) < needed:
        raise UsageError(
            f"{backbone} needs pictures of at least {needed}x{needed} pixels, not "
            f"{height}x{width}; enlarge them, or take impala or resnet."
        )
    for kernel, stride in layers:
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return height, width


class Block(nn.Module):
    """Residual sum: x + branch(x), with a shortcut where shapes differ, then `after`."""

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None
    ):
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.branch(x) + self.shortcut(x))


class PadShortcut(nn.Module):
    """Shortcut A of He 2016: takes every `stride`-th pixel, new channels are zero."""

    def __init__(self, new_channels: int, stride: int):
        super().__init__()
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def locked_dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """Dropout of (B, T, F) with one mask for all steps (Gal and Ghahramani 2016)."""
    if not training or not share:
        return x
    return x * F.dropout(torch.ones_like(x[:, :1]), share)


_LEVELS = 65_536


class QuickDropout(nn.Module):
    """Dropout with a quarter of the random numbers that `nn.Dropout` draws on a CPU.

    There drawing them takes longer than the layer that they are for: here 64 random bits decide
    on four values, so that the share is rounded to a multiple of 1 / 65,536.

    Args:
        share: dropped in training, in [0, 1).
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """(...) float -> the same shape; the others are scaled so that the mean stays."""
        if x.device.type != "cpu":
            return F.dropout(x, self.share, self.training)
        if not self.training or not self.share:
            return x
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        levels = draws.view(torch.int16)[: x.numel()].view(x.shape)
        least = round(self.share * _LEVELS) - _LEVELS // 2
        kept = _LEVELS // 2 - least
        return x * ((levels >= least).to(x.dtype) * (_LEVELS / kept))

    def extra_repr(self) -> str:
        return f"share={self.share}"
