"""The residual network of IMPALA."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as normalise_spectrum

from ..errors import UsageError
from .base import Stage, register_backbone, require_positive
from .layers import Block, ConvTrunk, PixelConv2d


@register_backbone(
    paper="Espeholt et al. 2018, IMPALA: Scalable Distributed Deep-RL, figure 3 (large)",
)
def impala(
    in_shape: tuple[int, ...],
    width: int = 1,
    channels: Sequence[int] = (16, 32, 32),
    hidden: int = 256,
    layer_norm: bool = False,
    spectral_norm: bool = False,
    adaptive_pool: int = 0,
) -> nn.Module:
    """Fifteen convolutions in three residual stages and a linear layer.

    Args:
        width: factor on the channels of every stage.
        channels: channels of the stages before that factor.
        hidden: length of the output vector; 0 leaves the linear layer out.
        layer_norm: normalise over channels and pixels before every ReLU.
        spectral_norm: divide the kernels of the residual blocks by their largest singular value.
        adaptive_pool: side of the map that the last stage is max-pooled to, in pixels; 0 leaves
            it as it is. With it, weights fit pictures of every size.
    """
    require_positive("impala", width=width, **({"hidden": hidden} if hidden else {}))
    if not channels:
        raise UsageError("impala: channels must name at least one stage, as in (16, 32, 32).")
    require_positive("impala", **{f"channels[{i}]": c for i, c in enumerate(channels)})
    if adaptive_pool < 0:
        raise UsageError(f"impala: adaptive_pool is a side in pixels or 0, not {adaptive_pool}.")
    stages: list[nn.Module] = []
    info = []
    before = in_shape[0]
    height, length = in_shape[1:]
    for index, base in enumerate(channels):
        after = base * width
        conv = PixelConv2d if index == 0 else nn.Conv2d
        last = index == len(channels) - 1
        stages.append(
            nn.Sequential(
                conv(before, after, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                _residual(after, layer_norm, spectral_norm),
                _residual(after, layer_norm, spectral_norm),
                *(_norm_relu(after, layer_norm, inplace=True) if last else ()),
            )
        )
        before, height, length = after, (height + 1) // 2, (length + 1) // 2
        info.append(Stage(f"features.{index}", after, 2 ** (index + 1)))
    head: list[nn.Module] = []
    if adaptive_pool:
        head.append(nn.AdaptiveMaxPool2d(adaptive_pool))
        height = length = adaptive_pool
    size = before * height * length
    head.append(nn.Flatten())
    if hidden:
        head.append(nn.Linear(size, hidden))
        head += [nn.LayerNorm(hidden)] if layer_norm else []
        head.append(nn.ReLU(inplace=True))
    return ConvTrunk(
        in_shape, stages, info, nn.Sequential(*head), hidden or size, any_size=adaptive_pool > 0
    )


def _norm_relu(channels: int, layer_norm: bool, inplace: bool) -> list[nn.Module]:
    # One group is layer norm over (C, H, W) with a scale a channel, so it fits every map size.
    norm = [nn.GroupNorm(1, channels)] if layer_norm else []
    return [*norm, nn.ReLU(inplace=inplace or layer_norm)]


def _residual(channels: int, layer_norm: bool, spectral_norm: bool) -> Block:
    def conv() -> nn.Module:
        layer = nn.Conv2d(channels, channels, 3, padding=1)
        return normalise_spectrum(layer) if spectral_norm else layer

    # The first ReLU reads the block's input, which the sum still needs: not in place.
    return Block(
        nn.Sequential(
            *_norm_relu(channels, layer_norm, inplace=False),
            conv(),
            *_norm_relu(channels, layer_norm, inplace=True),
            conv(),
        )
    )
