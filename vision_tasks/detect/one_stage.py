"""One network, one pass: every place of three maps says what is there and how far its sides are.

An anchor-free detector (Tian et al. 2019, FCOS) on a feature pyramid (Lin et al. 2017), whose
places are assigned to objects by how well they do (Feng et al. 2021, TOOD) and whose distances are
distributions (Li et al. 2020, Generalized Focal Loss).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import Stage, create_backbone
from ...backbones.darknet import conv_norm
from ...errors import UsageError
from .assign import assign
from .boxes import Detections, clip
from .losses import box_loss, distance_loss, score_loss
from .method import Method

if TYPE_CHECKING:
    from ...tasks import Batch, Moment
    from .options import DetectOptions

STRIDES = (8, 16, 32)
BINS = 16
"""a distance is at most this many strides, less one"""
_WEIGHTS = {"score": 1.0, "box": 7.5, "distance": 1.5}
_RARE = 0.01
"""the score of every class at every place before training"""


class OneStage(nn.Module):
    """Trunk, feature pyramid and head.

    Args:
        backbone: a trunk with `feature_info` that keeps a map of every size.
        channels: of the pyramid's maps and the head's.
        classes: how many classes there are.
        size: (height, width) of the input that the pictures are fitted into.

    `forward` takes uint8 (B, 3, H, W) and returns "scores", logits (B, P, classes), "sides", logits
    (B, P, 4, BINS) of the distances to left, top, right, bottom in strides, and "places" (P, 3): x,
    y in pixels and the stride. Height and width may be other than `size`.
    """

    method = "one-stage"

    def __init__(self, backbone: nn.Module, channels: int, classes: int, size: tuple[int, int]):
        super().__init__()
        self.backbone = backbone
        self.size = size
        self.pyramid = Pyramid(backbone, channels)
        self.head = Head(channels, classes)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        maps = self.pyramid(stage_maps(self.backbone, pictures))
        scores, sides = self.head(maps)
        places = [_places(m, stride) for m, stride in zip(maps, STRIDES, strict=True)]
        return {"scores": scores, "sides": sides, "places": torch.cat(places)}


def stage_maps(backbone: nn.Module, pictures: Tensor) -> list[Tensor]:
    """The maps of a trunk's stages, in order."""
    maps = []
    x = pictures
    for stage in backbone.features:  # type: ignore[union-attr]  # a ConvTrunk's stages
        x = stage(x)
        maps.append(x)
    return maps


def _places(feature_map: Tensor, stride: int) -> Tensor:
    """(h * w, 3): x and y in pixels of the middle of each cell, and the stride."""
    height, width = feature_map.shape[-2:]
    device = feature_map.device
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y, torch.full_like(grid_x, stride)], dim=-1).flatten(0, 1)


class Pyramid(nn.Module):
    """Maps of one width at the strides 8, 16 and 32: coarse ones enrich fine ones, then back.

    Strides that the trunk lacks at its end are made by halving; one that ends before 8 is halved
    until it fits. UsageError where a trunk has no stage that leads to stride 8.
    """

    def __init__(self, backbone: nn.Module, channels: int):
        super().__init__()
        info = cast("tuple[Stage, ...]", backbone.feature_info)
        stages = {stage.reduction: index for index, stage in enumerate(info)}
        first = max((stride for stride in (1, 2, 4, 8) if stride in stages), default=0)
        if not first:
            raise UsageError(
                "this backbone has no map of 8 pixels a cell or finer; take darknet or resnet."
            )
        halvings = int(math.log2(STRIDES[0] // first))
        self.sources: list[int | None] = [stages[first]]
        self.enter = nn.ModuleList()
        before = info[stages[first]].channels
        self.enter.append(
            nn.Sequential(
                conv_norm(before, channels, 1),
                *(conv_norm(channels, channels, 3, 2) for _ in range(halvings)),
            )
        )
        for stride in STRIDES[1:]:
            source = stages.get(stride)
            self.sources.append(source)
            self.enter.append(
                conv_norm(channels, channels, 3, 2)
                if source is None
                else conv_norm(info[source].channels, channels, 1)
            )
        self.down = nn.ModuleList(conv_norm(2 * channels, channels, 3) for _ in STRIDES[1:])
        self.halve = nn.ModuleList(conv_norm(channels, channels, 3, 2) for _ in STRIDES[1:])
        self.up = nn.ModuleList(conv_norm(2 * channels, channels, 3) for _ in STRIDES[1:])

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        maps: list[Tensor] = []
        for source, enter in zip(self.sources, self.enter, strict=True):
            maps.append(enter(maps[-1] if source is None else stages[source]))
        for level in (1, 0):
            coarse = F.interpolate(maps[level + 1], size=maps[level].shape[-2:], mode="nearest")
            maps[level] = self.down[level](torch.cat([maps[level], coarse], dim=1))
        for level in (0, 1):
            fine = self.halve[level](maps[level])
            maps[level + 1] = self.up[level](torch.cat([maps[level + 1], fine], dim=1))
        return maps


class Head(nn.Module):
    """Two towers of convolutions that all strides share, each stride with norms of its own."""

    def __init__(self, channels: int, classes: int, depth: int = 2):
        super().__init__()
        self.classes = classes
        self.towers = nn.ModuleList(Tower(channels, depth) for _ in range(2))
        self.scores = nn.Conv2d(channels, classes, 1)
        self.sides = nn.Conv2d(channels, 4 * BINS, 1)
        nn.init.constant_(self.scores.bias, -math.log((1 - _RARE) / _RARE))  # type: ignore[arg-type]
        nn.init.zeros_(self.sides.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        scores, sides = [], []
        for level, x in enumerate(maps):
            seen, measured = (tower(x, level) for tower in self.towers)
            with _in_float32(x.device.type):
                scores.append(_rows(self.scores(seen.float())))
                sides.append(_rows(self.sides(measured.float())))
        return torch.cat(scores, dim=1), torch.cat(sides, dim=1).unflatten(2, (4, BINS))


class Tower(nn.Module):
    """`depth` convolutions, each followed by the batch norm of the map's stride and SiLU."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(depth)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(channels) for _ in STRIDES) for _ in range(depth)
        )

    def forward(self, x: Tensor, level: int) -> Tensor:
        for conv, norms in zip(self.convs, self.norms, strict=True):
            x = F.silu(cast(nn.ModuleList, norms)[level](conv(x)), inplace=True)
        return x


def _in_float32(device: str) -> AbstractContextManager:
    """bf16 keeps three digits of a logit; distances need more. (ONNX knows no autocast.)"""
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def boxes_of(sides: Tensor, places: Tensor) -> Tensor:
    """Logits of distances (B, P, 4, BINS) at places (P, 3) -> boxes (B, P, 4) in pixels."""
    # Sums in float32: a product of matrices would be rounded to bf16 under autocast.
    bins = torch.arange(BINS, device=sides.device, dtype=torch.float32)
    distances = (sides.float().softmax(-1) * bins).sum(-1) * places[:, 2:]
    return torch.cat([places[:, :2] - distances[..., :2], places[:, :2] + distances[..., 2:]], -1)


def decode(raw: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
    """Every class at every place is a candidate; boxes are cut at the borders of `size`."""
    boxes = clip(boxes_of(raw["sides"], raw["places"]), *size)
    scores = raw["scores"].float().sigmoid()
    places, classes = scores.shape[1:]
    labels = torch.arange(classes, device=scores.device).repeat(places)
    return [
        Detections(box.repeat_interleave(classes, dim=0), score.flatten(), labels)
        for box, score in zip(boxes, scores, strict=True)
    ]


def loss(model: nn.Module, batch: Batch, moment: Moment) -> dict[str, Tensor]:
    """Binary cross-entropy of the scores against the quality of the box, CIoU, and the bins.

    Args:
        model: a `OneStage`.
        batch: "pictures" uint8 (B, 3, H, W), "boxes" (B, M, 4), "labels" (B, M), -1 for none.
        moment: is not looked at.
    """
    raw = model(batch["pictures"])
    places, scores = raw["places"], raw["scores"].float()
    boxes = boxes_of(raw["sides"], places)
    with torch.no_grad():
        target = assign(scores.sigmoid(), boxes, places, batch["boxes"], batch["labels"])
    total = target.scores.sum().clamp(min=1)
    chosen = target.matched
    weights = target.scores.sum(-1)[chosen]
    wanted = target.boxes[chosen]
    places_chosen = places.expand(len(scores), -1, -1)[chosen]
    parts = {
        "score": score_loss(scores, target.scores) / total,
        "box": box_loss(boxes[chosen], wanted, weights) / total,
        "distance": distance_loss(raw["sides"][chosen], wanted, places_chosen, weights) / total,
    }
    return {"loss": sum_of(parts), **{name: part.detach() for name, part in parts.items()}}


def sum_of(parts: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum that is minimised."""
    return torch.stack([_WEIGHTS[name] * part for name, part in parts.items()]).sum()


def build(options: DetectOptions, facts: Mapping[str, Any]) -> OneStage:
    """A new detector for the data's classes and size; UsageError where the trunk does not fit."""
    size = (int(facts["height"]), int(facts["width"]))
    backbone = create_backbone(options.backbone, (3, *size), **options.backbone_kwargs())
    _refuse_unfit(backbone, options.backbone, size)
    return OneStage(backbone, options.channels, len(facts["classes"]), size)


def _refuse_unfit(backbone: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Raises UsageError unless the trunk takes any size and its maps lie evenly on the picture."""
    fits = bool(getattr(backbone, "any_size", False))
    if fits:
        backbone.eval()
        with torch.no_grad():
            maps = stage_maps(backbone, torch.zeros(1, 3, *size, dtype=torch.uint8))
        backbone.train()
        for stage, feature_map in zip(backbone.feature_info, maps, strict=True):  # type: ignore[arg-type]
            exact = [side / stage.reduction for side in size]
            fits &= all(abs(a - b) < 1 for a, b in zip(exact, feature_map.shape[2:], strict=True))
    if not fits:
        raise UsageError(
            f"the backbone {name} does not keep the places of things at {size[1]}x{size[0]} "
            "pixels, which a detector needs; take darknet or resnet."
        )


METHOD = Method(build, loss, decode)
