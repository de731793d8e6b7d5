"""Residual networks for small pictures."""

from __future__ import annotations

from torch import nn

from ..errors import UsageError
from .base import Stage, register_backbone, require_positive
from .layers import Block, ConvTrunk, PadShortcut, PixelConv2d

NORMS = ("batch", "group")


@register_backbone(
    default_in_shape=(3, 32, 32),
    paper="He et al. 2016, Deep Residual Learning for Image Recognition, section 4.2",
)
def resnet(
    in_shape: tuple[int, ...], depth: int = 20, width: int = 1, norm: str = "batch"
) -> nn.Module:
    """The CIFAR network of He 2016: depth 6n + 2, three stages, global average.

    Args:
        depth: layers with weights as the paper counts them, its classifier included: 8, 14, 20,
            32, 44, 56, 110.
        width: factor on the channels 16, 32, 64.
        norm: "batch" as in the paper, or "group" (8 channels a group), which treats every row
            alone and so suits reinforcement learning.
    """
    require_positive("resnet", width=width)
    if depth < 8 or (depth - 2) % 6:
        raise UsageError(f"resnet: depth is 6n + 2 (8, 14, 20, 32, 44, 56, ...), not {depth}.")
    if norm not in NORMS:
        raise UsageError(f"resnet: norm is {' or '.join(NORMS)}, not {norm!r}.")
    blocks = (depth - 2) // 6
    before = 16 * width
    stem = nn.Sequential(
        PixelConv2d(in_shape[0], before, 3, padding=1, bias=False),
        _norm(norm, before),
        nn.ReLU(inplace=True),
    )
    stages: list[nn.Module] = []
    info = []
    for index in range(3):
        channels, stride = 16 * width * 2**index, 1 if index == 0 else 2
        stage = [_block(before, channels, stride, norm)]
        stage += [_block(channels, channels, 1, norm) for _ in range(blocks - 1)]
        stages.append(nn.Sequential(*stage) if index else nn.Sequential(stem, *stage))
        info.append(Stage(f"features.{index}", channels, 2**index))
        before = channels
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trunk = ConvTrunk(in_shape, stages, info, head, before, any_size=True)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):  # He 2015, as the paper says
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trunk


def _norm(norm: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(channels // 8, channels)


def _block(before: int, channels: int, stride: int, norm: str) -> Block:
    branch = nn.Sequential(
        nn.Conv2d(before, channels, 3, stride, padding=1, bias=False),
        _norm(norm, channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        _norm(norm, channels),
    )
    shortcut = PadShortcut(channels - before, stride) if stride > 1 else None
    return Block(branch, shortcut, after=nn.ReLU(inplace=True))
