"""Residual network with cross-stage partial connections, for finding things in pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Stage, register_backbone, require_positive
from .layers import Block, ConvTrunk, PixelConv2d


@register_backbone(
    default_in_shape=(3, 64, 64),
    paper="Redmon & Farhadi 2018, YOLOv3; Wang et al. 2020, CSPNet",
)
def darknet(in_shape: tuple[int, ...], width: int = 16, depth: int = 1) -> nn.Module:
    """Darknet in five halving stages, each with a partial bypass, for pictures of any size.

    Args:
        width: channels of the first stage; the others have 2, 4, 8 and 8 times as many.
        depth: factor on the residual blocks 1, 2, 2, 1 of the second to fifth stage.
    """
    require_positive("darknet", width=width, depth=depth)
    channels = [width * factor for factor in (1, 2, 4, 8, 8)]
    stages: list[nn.Module] = [conv_norm(in_shape[0], width, 3, 2, PixelConv2d)]
    for before, after, blocks in zip(channels, channels[1:], (1, 2, 2, 1), strict=False):
        stages.append(
            nn.Sequential(conv_norm(before, after, 3, 2), PartialStage(after, blocks * depth))
        )
    info = [Stage(f"features.{i}", c, 2 ** (i + 1)) for i, c in enumerate(channels)]
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return ConvTrunk(in_shape, stages, info, pool, channels[-1], any_size=True)


def conv_norm(
    before: int, after: int, kernel: int, stride: int = 1, conv: type[nn.Conv2d] = nn.Conv2d
) -> nn.Sequential:
    """Convolution, batch norm, SiLU; the map keeps its size but for the stride."""
    return nn.Sequential(
        conv(before, after, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.SiLU(inplace=True),
    )


class PartialStage(nn.Module):
    """Half of the channels pass residual blocks, the other half goes past them; (B, C, H, W).

    What each block puts out is kept and all of it merged by the last convolution.
    """

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        half = channels // 2
        self.split = conv_norm(channels, 2 * half, 1)
        self.blocks = nn.ModuleList(
            Block(nn.Sequential(conv_norm(half, half, 3), conv_norm(half, half, 3)))
            for _ in range(blocks)
        )
        self.merge = conv_norm((2 + blocks) * half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.split(x).chunk(2, dim=1))
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return self.merge(torch.cat(maps, dim=1))
