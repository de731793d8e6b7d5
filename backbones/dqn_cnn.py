"""The two convolutional networks of deep Q-learning."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .base import Stage, register_backbone, require_positive
from .layers import ConvTrunk, PixelConv2d, map_size


@register_backbone(
    paper="Mnih et al. 2013, Playing Atari with Deep Reinforcement Learning",
)
def nips2013(in_shape: tuple[int, ...], hidden: int = 256) -> nn.Module:
    """Two convolutions and a linear layer: the network of the first DQN."""
    return _dqn_trunk("nips2013", in_shape, [(16, 8, 4), (32, 4, 2)], hidden)


@register_backbone(
    paper="Mnih et al. 2015, Human-level control through deep reinforcement learning",
)
def nature(in_shape: tuple[int, ...], hidden: int = 512) -> nn.Module:
    """Three convolutions and a linear layer: the network of DQN in Nature."""
    return _dqn_trunk("nature", in_shape, [(32, 8, 4), (64, 4, 2), (64, 3, 1)], hidden)


def _dqn_trunk(
    name: str, in_shape: tuple[int, ...], layers: Sequence[tuple[int, int, int]], hidden: int
) -> ConvTrunk:
    """Builds (channels, kernel, stride) convolutions with ReLU, then a linear layer with ReLU."""
    require_positive(name, hidden=hidden)
    height, width = map_size(in_shape, [(kernel, stride) for _, kernel, stride in layers], name)
    stages: list[nn.Module] = []
    info = []
    before, reduction = in_shape[0], 1
    for index, (channels, kernel, stride) in enumerate(layers):
        conv = PixelConv2d if index == 0 else nn.Conv2d
        stages.append(nn.Sequential(conv(before, channels, kernel, stride), nn.ReLU(inplace=True)))
        before, reduction = channels, reduction * stride
        info.append(Stage(f"features.{index}", channels, reduction))
    head = nn.Sequential(
        nn.Flatten(), nn.Linear(before * height * width, hidden), nn.ReLU(inplace=True)
    )
    return ConvTrunk(in_shape, stages, info, head, hidden)
