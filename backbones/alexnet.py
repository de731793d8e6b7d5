"""The network that won ILSVRC 2012, and the same for pictures of 32 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .base import Stage, register_backbone, require_positive
from .layers import ConvTrunk, PixelConv2d, compute_dtype

SMALL = 63  # pixels: smaller maps would vanish after a stride of four and three poolings
POOLED = (0, 1, 4)  # convolutions that are followed by pooling


@register_backbone(
    default_in_shape=(3, 32, 32),
    paper="Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Networks",
)
def alexnet(
    in_shape: tuple[int, ...],
    width: float = 1.0,
    hidden: int = 4096,
    dropout: float = 0.5,
    norm: str = "response",
) -> nn.Module:
    """AlexNet without its last layer: five convolutions, three overlapping poolings, two layers.

    Pictures of 63 pixels and more get the paper's network: an 11x11 convolution of stride 4
    first (224 pixels are padded by 2, which makes the paper's 55x55 map; 227 fit as they are).
    Smaller ones, as of CIFAR-10, get the same with a first convolution of 5x5 and stride 1, as the
    author's own networks for 32 pixels begin; the second convolution keeps its 5x5. Convolutions
    2, 4 and 5 see half of the channels each, as on the paper's two GPUs.

    Args:
        width: factor on the channels 96, 256, 384, 384, 256.
        hidden: length of the two fully connected layers.
        dropout: share of the entries of both that is left out while training.
        norm: "response" (the paper's) after the first two convolutions, "batch" after all five,
            or "none".
    """
    require_positive("alexnet", width=width, hidden=hidden)
    if not 0 <= dropout < 1:
        raise UsageError(f"alexnet: dropout lies in [0, 1), not {dropout}.")
    if norm not in ("response", "batch", "none"):
        raise UsageError(f"alexnet: norm is response, batch or none, not {norm!r}.")
    height, length = in_shape[1:]
    if min(height, length) < 15:
        raise UsageError(
            f"alexnet needs pictures of at least 15x15 pixels, not {height}x{length}; enlarge them."
        )
    small = min(height, length) < SMALL
    channels = [max(2, round(c * width / 2) * 2) for c in (96, 256, 384, 384, 256)]
    first = (5, 1, 2) if small else (11, 4, 0 if height % 4 == 3 and length % 4 == 3 else 2)
    convolutions: list[nn.Module] = [PixelConv2d(in_shape[0], channels[0], *first)]
    for index, (kernel, groups) in enumerate(((5, 2), (3, 1), (3, 2), (3, 2)), start=1):
        convolutions.append(
            nn.Conv2d(
                channels[index - 1], channels[index], kernel, padding=kernel // 2, groups=groups
            )
        )
    stages, info = [], []
    layers: list[nn.Module] = []
    reduction = first[1]
    sides = [(side + 2 * first[2] - first[0]) // first[1] + 1 for side in (height, length)]
    for index, conv in enumerate(convolutions):
        layers += [conv, *_norm_and_relu(norm, channels[index], response=index < 2)]
        if index in POOLED:
            layers.append(nn.MaxPool2d(3, 2))
            reduction *= 2
            sides = [(side - 3) // 2 + 1 for side in sides]
            stages.append(nn.Sequential(*layers))
            info.append(Stage(f"features.{len(stages) - 1}", channels[index], reduction))
            layers = []
    for conv in convolutions:
        _initialise(conv)
    head = _hidden_layers(channels[-1] * sides[0] * sides[1], hidden, dropout)
    return ConvTrunk(in_shape, stages, info, head, hidden)


class ResponseNorm(nn.Module):
    """Local response normalisation: x / (k + alpha * sum over `size` channels of x^2)^0.75.

    Equals `torch.nn.LocalResponseNorm`, whose alpha is divided by `size`; the sum is a product
    with a band matrix, which is many times faster on a CPU.
    """

    band: Tensor

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4, k: float = 2.0):
        super().__init__()
        distance = torch.arange(channels)[:, None] - torch.arange(channels)
        band = (distance.abs() <= size // 2).float() * alpha
        self.register_buffer("band", band[:, :, None, None], persistent=False)
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        dtype = compute_dtype(x, self.band)
        squares = torch.nn.functional.conv2d(x.to(dtype).square(), self.band.to(dtype))
        root = squares.add(self.k).rsqrt()
        return x * (root * root.sqrt())


def _norm_and_relu(norm: str, channels: int, response: bool) -> list[nn.Module]:
    relu = nn.ReLU(inplace=True)
    if norm == "batch":
        return [nn.BatchNorm2d(channels), relu]
    return [relu, ResponseNorm(channels)] if norm == "response" and response else [relu]


def _hidden_layers(size: int, hidden: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (size, hidden):
        linear = nn.Linear(inputs, hidden)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [nn.Dropout(dropout), linear, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _initialise(conv: nn.Module) -> None:
    """He's deviation instead of the paper's 0.01, which takes long to get going."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)
