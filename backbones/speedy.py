"""A small network that learns fast: a whitening layer and three groups of wide convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from .base import Stage, register_backbone, require_positive
from .layers import ConvTrunk, PixelConv2d

WHITENED = 24  # channels of the whitening layer: twelve directions, each with both signs
WHITENING_EPS = 5e-4  # added to the variances before their roots, at unit variance of a pixel


@register_backbone(
    default_in_shape=(3, 32, 32),
    paper="Jordan 2024, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (airbench)",
)
def speedy(
    in_shape: tuple[int, ...], widths: Sequence[int] = (64, 256, 256), convs: int = 2
) -> nn.Module:
    """A fixed whitening of 2x2 patches, then three groups of 3x3 convolutions.

    The first layer is not trained but computed from pictures by `whiten`; before that it holds
    cosines over rows, columns and channels, which whiten natural pictures roughly. Its bias and
    all the rest is trained. The map after the last group is max-pooled to one vector (at 32
    pixels that is the paper's 3x3 pooling), so pictures may have any size from 18 pixels on.

    Args:
        widths: channels of the three groups.
        convs: convolutions of a group; from 3 on the first one's output is added to the last's.
    """
    if len(widths) != 3:
        raise UsageError(f"speedy: widths names the channels of three groups, not {widths!r}.")
    require_positive("speedy", **{f"widths[{i}]": width for i, width in enumerate(widths)})
    if convs < 1:
        raise UsageError(f"speedy: convs is at least 1, not {convs}.")
    if min(in_shape[1:]) < 9:
        raise UsageError(
            f"speedy needs pictures of at least 9x9 pixels, not {in_shape[1]}x{in_shape[2]}; "
            "enlarge them."
        )
    stages: list[nn.Module] = []
    info = []
    before = WHITENED
    for index, width in enumerate(widths):
        group = ConvGroup(before, width, convs)
        first = [_whitening_layer(in_shape[0]), nn.GELU()] if index == 0 else []
        stages.append(nn.Sequential(*first, group))
        info.append(Stage(f"features.{index}", width, 2 ** (index + 1)))
        before = width
    head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    return ConvTrunk(in_shape, stages, info, head, before, any_size=True)


class ShiftNorm(nn.Module):
    """Batch normalisation with a learnt shift and no scale.

    Args:
        channels: of its input (B, C, H, W).
        momentum: weight of the newest batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.4, eps: float = 1e-12):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.momentum = momentum
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            None,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )


class ConvGroup(nn.Module):
    """Convolution, pooling by two, norm, GELU; then further convolutions with norm and GELU."""

    def __init__(self, before: int, width: int, convs: int):
        super().__init__()
        self.convs = nn.ModuleList(
            _dirac_convolution(before if index == 0 else width, width) for index in range(convs)
        )
        self.norms = nn.ModuleList(ShiftNorm(width) for _ in range(convs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H // 2, W // 2)."""
        x = F.gelu(self.norms[0](F.max_pool2d(self.convs[0](x), 2)))
        first, last = x, len(self.convs) - 1
        for index in range(1, len(self.convs)):
            x = self.norms[index](self.convs[index](x))
            if index == last and last >= 2:
                x = x + first
            x = F.gelu(x)
        return x


def _dirac_convolution(before: int, width: int) -> nn.Conv2d:
    """A 3x3 convolution whose first filters hand their input on."""
    conv = nn.Conv2d(before, width, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[: min(before, width)])
    return conv


def _whitening_layer(channels: int) -> PixelConv2d:
    conv = PixelConv2d(channels, WHITENED, 2)
    del conv.weight  # trained by nobody, yet a part of the weight file
    conv.register_buffer("weight", _signed(_cosines(channels), channels))
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # it has one
    return conv


def _cosines(channels: int) -> Tensor:
    """An orthonormal basis of (channels, 2, 2) patches, (4 * channels, channels * 4): cosines."""
    position = torch.arange(channels) + 0.5
    over_channels = torch.cos(torch.pi / channels * torch.arange(channels)[:, None] * position)
    over_channels = over_channels / over_channels.norm(dim=1, keepdim=True)
    over_pixels = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5
    return torch.kron(over_channels, torch.kron(over_pixels, over_pixels))


def _signed(directions: Tensor, channels: int) -> Tensor:
    """(n, channels * 4), the most important first -> kernels (24, channels, 2, 2)."""
    chosen = torch.arange(WHITENED // 2) % len(directions)  # grey pictures have but four
    half = directions[chosen].reshape(-1, channels, 2, 2)
    return torch.cat([half, -half])


def is_whitening(trunk: nn.Module) -> bool:
    """Whether `whiten` can be called on a trunk."""
    layer = first_layer(trunk)
    return layer is not None and not isinstance(layer.weight, nn.Parameter)


def whiten(trunk: nn.Module, pictures: Tensor) -> None:
    """Computes the first layer of a `speedy` trunk from pictures.

    Its kernels become the principal directions of 2x2 patches, each divided by its standard
    deviation, with both signs; its bias takes the mean away.

    Args:
        trunk: made by `create_backbone("speedy", ...)`.
        pictures: uint8 (N, C, H, W), some thousands.
    """
    layer = first_layer(trunk)
    if layer is None or layer.bias is None or isinstance(layer.weight, nn.Parameter):
        raise UsageError("only a speedy trunk has a whitening layer.")
    pixels = pictures.double() / 255
    channels = pixels.shape[1]
    mean = pixels.mean(dim=(0, 2, 3))
    deviation = pixels.std(dim=(0, 2, 3)).clamp_min(1e-3)
    standard = (pixels - mean[:, None, None]) / deviation[:, None, None]
    patches = F.unfold(standard[:, :, : 2 * (standard.shape[2] // 2)], 2)
    patches = patches.transpose(1, 2).reshape(-1, channels * 4)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    scaled = (directions / (variances + WHITENING_EPS).sqrt()).T.flip(0)  # the largest first
    kernels = _signed(scaled, channels) / deviation[None, :, None, None]
    with torch.no_grad():
        layer.weight.copy_(kernels)
        layer.bias.copy_(-(kernels * mean[None, :, None, None]).sum(dim=(1, 2, 3)))


def first_layer(trunk: nn.Module) -> PixelConv2d | None:
    """The convolution that pictures meet first; None where a trunk has none of ours."""
    return next((m for m in trunk.modules() if isinstance(m, PixelConv2d)), None)
