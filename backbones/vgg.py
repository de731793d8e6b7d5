"""The very deep networks of Oxford's Visual Geometry Group."""

from __future__ import annotations

from torch import nn

from ..errors import UsageError
from .base import Stage, register_backbone, require_positive
from .layers import ConvTrunk, PixelConv2d

# Table 1 of the paper: 3x3 convolutions in each of five blocks.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@register_backbone(
    default_in_shape=(3, 32, 32),
    paper="Simonyan and Zisserman 2015, Very Deep Convolutional Networks, table 1 (A, B, D, E)",
)
def vgg(
    in_shape: tuple[int, ...],
    depth: int = 11,
    width: float = 1.0,
    norm: str = "batch",
    hidden: int = 0,
    dropout: float = 0.5,
) -> nn.Module:
    """VGG without its last layer: 3x3 convolutions in five blocks, each pooled by two.

    Args:
        depth: layers with weights as the paper counts them, three fully connected ones
            included: 11, 13, 16 or 19.
        width: factor on the channels 64, 128, 256, 512, 512.
        norm: "batch" before each ReLU, or "none" as in the paper.
        hidden: length of the two fully connected layers, the paper's 4096; 0 averages the last
            map instead, which suits small pictures and lets them have any size.
        dropout: share of the entries of these layers that is left out while training.
    """
    require_positive("vgg", width=width, **({"hidden": hidden} if hidden else {}))
    if depth not in CONVOLUTIONS:
        raise UsageError(f"vgg: depth is 11, 13, 16 or 19, not {depth}.")
    if norm not in ("batch", "none"):
        raise UsageError(f"vgg: norm is batch or none, not {norm!r}.")
    if not 0 <= dropout < 1:
        raise UsageError(f"vgg: dropout lies in [0, 1), not {dropout}.")
    if min(in_shape[1:]) < 32:
        raise UsageError(
            f"vgg needs pictures of at least 32x32 pixels, not {in_shape[1]}x{in_shape[2]}; "
            "enlarge them, or take resnet."
        )
    stages: list[nn.Module] = []
    info = []
    before = in_shape[0]
    for index, count in enumerate(CONVOLUTIONS[depth]):
        channels = max(1, round(width * min(64 * 2**index, 512)))
        layers: list[nn.Module] = []
        for _ in range(count):
            conv = PixelConv2d if index == 0 and not layers else nn.Conv2d
            layers.append(conv(before, channels, 3, padding=1, bias=norm == "none"))
            layers += [nn.BatchNorm2d(channels)] if norm == "batch" else []
            layers.append(nn.ReLU(inplace=True))
            before = channels
        stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        info.append(Stage(f"features.{index}", channels, 2 ** (index + 1)))
    if hidden:
        size = before * (in_shape[1] // 32) * (in_shape[2] // 32)
        head = _hidden_layers(size, hidden, dropout)
    else:
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trunk = ConvTrunk(in_shape, stages, info, head, hidden or before, any_size=not hidden)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return trunk


def _hidden_layers(size: int, hidden: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (size, hidden):
        layers += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
