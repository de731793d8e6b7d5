"""Networks that see the whole picture at once: what glimpses are compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...backbones import create_backbone
from ...errors import UsageError
from .cost import dense_width, of_glimpses, scaled_layers
from .options import GlimpseOptions


class WholeReader(nn.Module):
    """Two hidden layers, or convolutions with a hidden layer on top, as wide as the cost allows.

    Args:
        options: of the task; `reader` tells which.
        answers: how many classes.

    Attributes:
        backbone: the fully connected layers, of the registry.
    """

    def __init__(self, options: GlimpseOptions, answers: int):
        super().__init__()
        self.options = options
        budget = options.multiply_adds or of_glimpses(options, answers)
        size = options.size
        widths: tuple[int, ...]
        self.below = nn.Sequential()
        if options.reader == "dense":
            width = dense_width(size, budget, answers)
            features, widths = size**2, (width, width)
        else:
            layers = options.kernels()
            _check_fit(layers, size)
            before, side = 1, size
            for channels, kernel, stride in scaled_layers(
                size, layers, options.hidden, answers, budget
            ):
                self.below.append(nn.Conv2d(before, channels, kernel, stride))
                self.below.append(nn.ReLU())
                before, side = channels, (side - kernel) // stride + 1
            features, widths = before * side**2, (options.hidden,)
        self.backbone = create_backbone("mlp", (features,), hidden=widths)
        self.answer = nn.Linear(widths[-1], answers)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (B, classes) of (B, 1, S, S), uint8 in 0..255 or float in [0, 1]."""
        x = pictures.float() / (255 if pictures.dtype == torch.uint8 else 1)
        return self.answer(self.backbone(self.below(x).flatten(1)))


def _check_fit(layers: list[tuple[int, int, int]], size: int) -> None:
    side = size
    for _, kernel, stride in layers:
        if kernel > side:
            raise UsageError(
                f"--layers does not fit pictures of {size}: a kernel of {kernel} meets a map of "
                f"{side}; use smaller kernels or strides."
            )
        side = (side - kernel) // stride + 1
