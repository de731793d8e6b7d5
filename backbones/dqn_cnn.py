"""The two convolutional networks of deep Q-learning."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .base import Stage, register_backbone, require_positive
from .layers import ConvTrunk, PixelConv2d, map_size


@register_backbone(
    paper="Mnih et al. 2013, Playing Atari with Deep Reinforcement Learning",
)
def nips2013(in_shape: tuple[int, ...], hidden: int = 256, layer_norm: bool = False) -> nn.Module:
    """Two convolutions and a linear layer: the network of the first DQN.

    Args:
        hidden: length of the output vector; 0 leaves the linear layer out.
        layer_norm: normalise over channels and pixels before every ReLU.
    """
    return _dqn_trunk("nips2013", in_shape, [(16, 8, 4), (32, 4, 2)], hidden, layer_norm)


@register_backbone(
    paper="Mnih et al. 2015, Human-level control through deep reinforcement learning",
)
def nature(in_shape: tuple[int, ...], hidden: int = 512, layer_norm: bool = False) -> nn.Module:
    """Three convolutions and a linear layer: the network of DQN in Nature.

    Args:
        hidden: length of the output vector; 0 leaves the linear layer out.
        layer_norm: normalise over channels and pixels before every ReLU.
    """
    layers = [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
    return _dqn_trunk("nature", in_shape, layers, hidden, layer_norm)


def _dqn_trunk(
    name: str,
    in_shape: tuple[int, ...],
    layers: Sequence[tuple[int, int, int]],
    hidden: int,
    layer_norm: bool,
) -> ConvTrunk:
    """Builds (channels, kernel, stride) convolutions with ReLU, then a linear layer with ReLU."""
    if hidden:
        require_positive(name, hidden=hidden)
    height, width = map_size(in_shape, [(kernel, stride) for _, kernel, stride in layers], name)
    stages: list[nn.Module] = []
    info = []
    before, reduction = in_shape[0], 1
    for index, (channels, kernel, stride) in enumerate(layers):
        conv = PixelConv2d if index == 0 else nn.Conv2d
        # One group is layer norm over (C, H, W) with a scale a channel.
        norm: list[nn.Module] = [nn.GroupNorm(1, channels)] if layer_norm else []
        layer = conv(before, channels, kernel, stride)
        stages.append(nn.Sequential(layer, *norm, nn.ReLU(inplace=True)))
        before, reduction = channels, reduction * stride
        info.append(Stage(f"features.{index}", channels, reduction))
    size = before * height * width
    head: list[nn.Module] = [nn.Flatten()]
    if hidden:
        norm = [nn.LayerNorm(hidden)] if layer_norm else []
        head += [nn.Linear(size, hidden), *norm, nn.ReLU(inplace=True)]
    return ConvTrunk(in_shape, stages, info, nn.Sequential(*head), hidden or size)
