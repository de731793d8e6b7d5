"""The network that sees lightness and tells colour: a trunk of the registry and a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import BACKBONES, create_backbone
from ...backbones.base import Stage
from ...errors import UsageError
from ...tasks import Batch, Moment
from .bins import gamut_bins
from .lab import lab_to_bytes, rgb_to_lab
from .learn_methods import METHODS, ColourModel
from .options import ColorizeOptions


class Colorizer(nn.Module):
    """Lightness to a description of colour, which is smaller than the picture by the stride.

    Args:
        options: of the task.

    Attributes:
        backbone: the trunk, made by `create_backbone` for one channel: lightness / 100.
        bin_weights: buffer float32 (313,), the weight of each bin of colour in Zhang's loss.

    Raises:
        UsageError: the trunk takes pictures of one size only, or has no map of the wanted stride.
    """

    bin_weights: Tensor

    def __init__(self, options: ColorizeOptions):
        super().__init__()
        self.options = options
        self.backbone = create_backbone(
            options.backbone, (1, options.size, options.size), **options.backbone_kwargs()
        )
        stages = cast("tuple[Stage, ...] | None", getattr(self.backbone, "feature_info", None))
        if not stages or not getattr(self.backbone, "any_size", False):
            raise UsageError(
                f"backbone {options.backbone!r} with these options takes pictures of one size "
                "only; take resnet, speedy, or impala with adaptive_pool."
            )
        self.stages = stages
        self.multiple = max(options.stride, *(stage.reduction for stage in stages))
        self.margin = self._find_margin()
        outputs = METHODS[options.method].outputs
        build = HyperColumns if options.method == "larsson" else Decoder
        self.decoder = build(stages, options.decoder, outputs, options.stride)
        self.register_buffer("bin_weights", torch.ones(len(gamut_bins())))

    def forward(self, lightness: Tensor) -> Tensor:
        """L* float (B, 1, H, W) in [0, 100] -> raw (B, outputs, ceil(H / stride), ...)."""
        height, width = lightness.shape[-2:]
        stride = self.options.stride
        down, right = -height % self.multiple, -width % self.multiple
        x = F.pad(
            lightness / 100, (0, right + self.margin, 0, down + self.margin), mode="replicate"
        )
        size = ((height + down) // stride, (width + right) // stride)
        raw = cast(Tensor, self.decoder(self._maps(x), size))
        return raw[..., : -(-height // stride), : -(-width // stride)]

    def _maps(self, x: Tensor) -> list[Tensor]:
        """The output of every stage of the trunk, the shallowest first."""
        maps = []
        for stage in self.stages:
            x = self.backbone.get_submodule(stage.name)(x)
            maps.append(x)
        return maps

    def _find_margin(self) -> int:
        """Pixels to add at the right and below, so that maps have picture size / reduction.

        A trunk with unpadded convolutions gives smaller maps. Where no margin up to a deepest
        pixel mends that, there is none, and the decoder stretches the maps.
        """
        side = 4 * self.multiple
        wanted = [side // stage.reduction for stage in self.stages]
        self.backbone.eval()
        with torch.no_grad():
            for margin in range(self.multiple):
                maps = self._maps(torch.zeros(1, 1, side + margin, side + margin))
                if [found.shape[-1] for found in maps] == wanted:
                    break
            else:
                margin = 0
        self.backbone.train()
        return margin


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
        deepest = stages[self.used[0]].channels
        self.scene = nn.Linear(deepest, width)
        self.lateral = nn.ModuleList(
            nn.Conv2d(stages[index].channels, width, 1) for index in self.used
        )
        self.mix = nn.ModuleList(Refine(width) for _ in self.used)
        self.colour = nn.Conv2d(width, outputs, 1)
        # Regression begins with grey, which it would else take long to come back to.
        nn.init.zeros_(self.colour.weight)
        nn.init.zeros_(cast(Tensor, self.colour.bias))

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps of all stages, and height and width of the result -> (B, outputs, *size)."""
        deepest = maps[self.used[0]]
        x = self.scene(deepest.mean(dim=(2, 3)))[:, :, None, None]
        for index, lateral, mix in zip(self.used, self.lateral, self.mix, strict=True):
            here = lateral(maps[index])
            if x.shape[-2:] != here.shape[-2:]:
                x = F.interpolate(x, size=here.shape[-2:], mode="nearest")
            x = mix(here + x)
        if tuple(x.shape[-2:]) != size:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
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
        hidden = 4 * width
        self.columns = nn.ModuleList(
            nn.Conv2d(stage.channels, hidden, 1, bias=index == 0)
            for index, stage in enumerate(stages)
        )
        self.colour = nn.Conv2d(hidden, outputs, 1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps of all stages, and height and width of the result -> (B, outputs, *size)."""
        parts = []
        for column, found in zip(self.columns, maps, strict=True):
            if found.shape[-2] > size[0]:  # before the layer, as there is less to compute then
                parts.append(column(F.adaptive_avg_pool2d(found, size)))
                continue
            here = column(found)
            if tuple(here.shape[-2:]) != size:
                here = F.interpolate(here, size=size, mode="bilinear", align_corners=False)
            parts.append(here)
        return cast(Tensor, self.colour(F.relu(torch.stack(parts).sum(dim=0))))


def method_of(model: nn.Module) -> ColourModel:
    """The method that a `Colorizer`, or a wrapper that forwards attributes, was built for."""
    return METHODS[cast(ColorizeOptions, model.options).method]


def predict(model: nn.Module, lightness: Tensor, temperature: float | None = None) -> Tensor:
    """L* (B, 1, H, W) in [0, 100] -> a*, b* float32 (B, 2, H, W).

    Args:
        model: a `Colorizer`.
        lightness: of the pictures, on the model's device.
        temperature: of the distribution over colours; by default what the model's options say.
    """
    options = cast(ColorizeOptions, model.options)
    raw = model(lightness)
    with torch.autocast(raw.device.type, enabled=False):
        ab = method_of(model).decode(raw.float(), temperature or options.temperature)
    return F.interpolate(ab, size=lightness.shape[-2:], mode="bilinear", align_corners=False)


def distribution(
    model: nn.Module, lightness: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """L* (B, 1, H, W) -> probabilities (B, Q, H', W') of the colours float32 (Q, 2).

    H' and W' are the picture's sides divided by the options' stride, rounded up.

    Raises:
        UsageError: a model of the method l2, which knows of one colour a pixel only.
    """
    method = method_of(model)
    if method.distribution is None:
        raise UsageError("an l2 model knows one colour a pixel only; take one of another method.")
    raw = model(lightness)
    with torch.autocast(raw.device.type, enabled=False):
        return method.distribution(raw.float(), temperature)


def recoloured(
    model: nn.Module, pictures: Tensor, temperature: float | None = None, chunk: int = 250
) -> Tensor:
    """Pictures with their colours replaced by the model's.

    Args:
        model: a `Colorizer` in evaluation mode.
        pictures: uint8 (N, 3, H, W); nothing but their lightness is used.
        temperature: as in `predict`.
        chunk: pictures at a time.

    Returns:
        uint8 (N, 3, H, W) of the same lightness, up to rounding and the gamut.
    """
    device = next(model.parameters()).device
    parts = []
    with torch.inference_mode():
        for part in pictures.split(chunk):
            lightness = rgb_to_lab(part.to(device))[:, :1]
            ab = predict(model, lightness, temperature)
            parts.append(lab_to_bytes(torch.cat((lightness, ab), dim=1)).cpu())
    return torch.cat(parts)


def build_model(options: ColorizeOptions, facts: Mapping[str, Any]) -> Colorizer:
    """A freshly initialised network; raises UsageError where the trunk does not fit."""
    if BACKBONES[options.backbone].kind != "cnn":
        raise UsageError(f"{options.backbone} takes no pictures; name a CNN, such as resnet.")
    return Colorizer(options)


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """What the options' method minimises.

    Args:
        model: a `Colorizer`, perhaps wrapped.
        batch: "lightness" float32 (B, 1, S, S) in [0, 100] and "ab" float32 (B, 2, S', S'), the
            mean colour of every square of `stride` pixels.
        moment: of training.
    """
    raw = model(batch["lightness"])
    with torch.autocast(raw.device.type, enabled=False):
        return method_of(model).loss(raw.float(), batch["ab"], cast(Tensor, model.bin_weights))
