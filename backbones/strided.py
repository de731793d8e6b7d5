"""The convolutions of the relation network: cheap, and normalised."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import UsageError
from .base import Stage, register_backbone, require_positive
from .layers import ConvTrunk, PixelConv2d

NORMS = ("batch", "layer")


@register_backbone(
    default_in_shape=(3, 75, 75),
    paper="Santoro et al. 2017, A Simple Neural Network Module for Relational Reasoning",
)
def strided(
    in_shape: tuple[int, ...], channels: Sequence[int] = (24, 24, 24, 24), norm: str = "batch"
) -> nn.Module:
    """3x3 convolutions that halve the map, each with a norm and a ReLU.

    Four of 24 kernels make 5x5 cells of 75x75 pixels. The vector is the strongest of each channel
    in the last map, so pictures may have any size.

    Args:
        channels: of each convolution.
        norm: "batch" as in the paper, or "layer" over channels and pixels, which treats every
            row alone.
    """
    if not channels:
        raise UsageError("strided: channels must name at least one layer, as in (24, 24).")
    require_positive("strided", **{f"channels[{i}]": c for i, c in enumerate(channels)})
    if norm not in NORMS:
        raise UsageError(f"strided: norm is {' or '.join(NORMS)}, not {norm!r}.")
    stages: list[nn.Module] = []
    info = []
    before = in_shape[0]
    for index, after in enumerate(channels):
        conv = PixelConv2d if index == 0 else nn.Conv2d
        layer = nn.BatchNorm2d(after) if norm == "batch" else nn.GroupNorm(1, after)
        stages.append(
            nn.Sequential(
                conv(before, after, 3, stride=2, padding=1, bias=False),
                layer,
                nn.ReLU(inplace=True),
            )
        )
        info.append(Stage(f"features.{index}", after, 2 ** (index + 1)))
        before = after
    head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    return ConvTrunk(in_shape, stages, info, head, before, any_size=True)
