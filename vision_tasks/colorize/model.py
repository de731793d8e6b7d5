"""The network that sees lightness and tells colour: a trunk of the registry and a decoder."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.base import Stage
from ...errors import UsageError
from .bins import gamut_bins
from .learn_methods import METHODS, ColourModel
from .options import ColorizeOptions


class Colorizer(nn.Module):
    """Lightness to a description of colour, at a half of the picture's size unless told.

    Args:
        options: of the task.

    Attributes:
        backbone: the trunk, made by `create_backbone` for one channel: lightness / 100.
        bin_weights: buffer float32 (313,), the weight of each bin of colour in Zhang's loss.

    Raises:
        UsageError: the trunk has no stages, or none at the wanted stride.
    """

    bin_weights: Tensor

    def __init__(self, options: ColorizeOptions):
        super().__init__()
        self.options = options
        self.backbone = create_backbone(
            options.backbone, (1, options.size, options.size), **options.backbone_kwargs()
        )
        stages = cast("tuple[Stage, ...] | None", getattr(self.backbone, "feature_info", None))
        if not stages:
            raise UsageError(
                f"backbone {options.backbone!r} keeps no maps of a picture; "
                "take one of kind cnn ('eightbit list backbones' shows all)."
            )
        self.stages = stages
        outputs = METHODS[options.method].outputs
        build = HyperColumns if options.method == "larsson" else Decoder
        self.decoder = build(stages, options.decoder, outputs, options.stride)
        self.register_buffer("bin_weights", torch.ones(len(gamut_bins())))

    def forward(self, lightness: Tensor) -> Tensor:
        """L* float (B, 1, H, W) in [0, 100] -> raw (B, outputs, ceil(H / stride), ...)."""
        height, width = lightness.shape[-2:]
        stride = self.options.stride
        multiple = max(stride, *(stage.reduction for stage in self.stages))
        down, right = -height % multiple, -width % multiple
        x = lightness / 100
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        raw = self.decoder(self._maps(x))
        return cast(Tensor, raw)[..., : -(-height // stride), : -(-width // stride)]

    def _maps(self, x: Tensor) -> list[Tensor]:
        """The output of every stage of the trunk, the shallowest first."""
        maps: list[Tensor] = []
        hooks = [
            self.backbone.get_submodule(stage.name).register_forward_hook(
                lambda module, inputs, output: maps.append(output)
            )
            for stage in self.stages
        ]
        try:
            self.backbone.forward_features(x)  # type: ignore[operator]  # every CNN has it
        finally:
            for hook in hooks:
                hook.remove()
        return maps


class Decoder(nn.Module):
    """Goes from the deepest map up to the wanted stride, as a U-Net does.

    Each stage's map comes in through a 1x1 convolution and is added to the enlarged deeper one;
    a residual block follows. The mean over the deepest map tells every pixel of the whole scene.
    """

    def __init__(self, stages: tuple[Stage, ...], width: int, outputs: int, stride: int):
        super().__init__()
        used = [index for index, stage in enumerate(stages) if stage.reduction >= stride]
        if not used:
            raise UsageError(f"no stage of the trunk has a stride of {stride}; lower --stride.")
        self.used = used[::-1]
        self.stride = stride
        self.reductions = [stages[index].reduction for index in self.used]
        deepest = stages[self.used[0]].channels
        self.scene = nn.Linear(deepest, width)
        self.lateral = nn.ModuleList(
            nn.Conv2d(stages[index].channels, width, 1) for index in self.used
        )
        self.mix = nn.ModuleList(Refine(width) for _ in self.used)
        self.colour = nn.Conv2d(width, outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps of all stages -> (B, outputs, H / stride, W / stride)."""
        x: Tensor | None = None
        for index, lateral, mix in zip(self.used, self.lateral, self.mix, strict=True):
            here = lateral(maps[index])
            if x is None:
                here = here + self.scene(maps[index].mean(dim=(2, 3)))[:, :, None, None]
            elif x.shape[-1] != here.shape[-1]:
                here = here + F.interpolate(x, size=here.shape[-2:], mode="nearest")
            else:
                here = here + x
            x = mix(here)
        assert x is not None
        if self.reductions[-1] > self.stride:
            x = F.interpolate(
                x, scale_factor=self.reductions[-1] // self.stride, mode="bilinear"
            )
        return cast(Tensor, self.colour(x))


class Refine(nn.Module):
    """x + two 3x3 convolutions of it, then ReLU."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        return F.relu(x + self.branch(x))


class HyperColumns(nn.Module):
    """The maps of all stages, enlarged and put side by side at every pixel, and a layer on them.

    A linear layer over enlarged maps is the enlarged sum of linear layers over each map, which
    costs less and is what is computed.
    """

    def __init__(self, stages: tuple[Stage, ...], width: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.reductions = [stage.reduction for stage in stages]
        hidden = 4 * width
        self.columns = nn.ModuleList(
            nn.Conv2d(stage.channels, hidden, 1, bias=index == 0)
            for index, stage in enumerate(stages)
        )
        self.colour = nn.Conv2d(hidden, outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps of all stages -> (B, outputs, H / stride, W / stride)."""
        size = [side * self.reductions[0] // self.stride for side in maps[0].shape[-2:]]
        total: Tensor | None = None
        for column, found in zip(self.columns, maps, strict=True):
            here = column(found)
            if here.shape[-2] > size[0]:
                here = F.adaptive_avg_pool2d(here, size)
            elif here.shape[-2] < size[0]:
                here = F.interpolate(here, size=size, mode="bilinear", align_corners=False)
            total = here if total is None else total + here
        assert total is not None
        return cast(Tensor, self.colour(F.relu(total)))


def method_of(model: nn.Module) -> ColourModel:
    """The method that a `Colorizer`, or a wrapper that forwards attributes, was built for."""
    return METHODS[cast(ColorizeOptions, model.options).method]


def predict(model: nn.Module, lightness: Tensor, temperature: float | None = None) -> Tensor:
    """L* (B, 1, H, W) in [0, 100] -> a*, b* float32 (B, 2, H, W).

    Args:
        model: a `Colorizer`.
        temperature: of the distribution over colours; by default what the model's options say.
    """
    options = cast(ColorizeOptions, model.options)
    raw = model(lightness)
    ab = method_of(model).decode(raw, temperature or options.temperature)
    return F.interpolate(ab, size=lightness.shape[-2:], mode="bilinear", align_corners=False)


def distribution(
    model: nn.Module, lightness: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """L* (B, 1, H, W) -> probabilities (B, Q, H', W') of the colours float32 (Q, 2).

    H' and W' are the picture's sides divided by the options' stride.

    Raises:
        UsageError: a model of the method l2, which knows of one colour a pixel only.
    """
    method = method_of(model)
    if method.distribution is None:
        raise UsageError("an l2 model knows one colour a pixel only; take one of another method.")
    return method.distribution(model(lightness), temperature)
