"""Detection as regression of object masks (Szegedy, Toshev and Erhan 2013).

A network sees windows of the picture, the whole of it and smaller ones, and draws for each class
five masks of 24 x 24 cells: where objects are, and where their left, right, upper and lower halves
are. Boxes are those that agree best with the five masks; each is looked at once more, enlarged, and
corrected.

Unlike the paper's, one network draws the masks of all classes, and its last layer is a convolution
over the cells instead of a full connection, which 300 pictures could not teach.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import create_backbone
from ...errors import UsageError
from .boxes import Detections, clip, from_centers, iou, to_centers
from .method import Method
from .multibox import cut
from .nms import batched_nms
from .one_stage import stage_maps

if TYPE_CHECKING:
    from ...tasks import Batch, Moment
    from .options import DetectOptions

CELLS = 24
"""cells of a mask along each side"""
PARTS = ("full", "left", "right", "top", "bottom")
VIEW = 96
"""side of the pictures that the trunk sees, in pixels"""
HEAD_CHANNELS = 64
ZERO_WEIGHT = 0.2
"""weight of a cell without object; of one that an object covers it is 1 more (lambda)"""
SCALES = (1.0, 0.5, 0.25)
"""sides of the windows as shares of the picture's"""
OVERLAP = 0.2
"""share of a window that the next one shows as well, at least"""
WINDOWS = 4
"""windows that are learnt from in a training picture"""
ENLARGED = 1.2
"""side of the window in which a box is corrected, against the box"""
FLOOR = 0.1
"""agreement below which a box is no candidate"""
CANDIDATES = 30
"""boxes that a class of a window may propose"""
CORRECTED = 60
"""boxes of a picture, the best, that are looked at once more"""


class Masks(nn.Module):
    """Trunk and mask head.

    Args:
        backbone: a CNN trunk built for (3, VIEW, VIEW), one of whose maps has CELLS cells or more.
        classes: how many there are.
        size: (height, width) of the input.

    `forward` takes uint8 (B, 3, height, width). Given `windows` (B, N, 4) in pixels it returns
    "masks" (B, N, classes, 5, CELLS, CELLS). Without, it searches all scales and corrects what it
    finds: "boxes" (B, K, 4) in pixels, "scores" (B, K), 0 where a picture has fewer than K, and
    "labels" (B, K).
    """

    method = "masks"

    def __init__(self, backbone: nn.Module, classes: int, size: tuple[int, int]):
        super().__init__()
        self.backbone = backbone
        self.size = size
        self.classes = classes
        info = cast("tuple[Any, ...]", backbone.feature_info)
        self.levels = [i for i, s in enumerate(info) if s.reduction >= VIEW // CELLS]
        if not self.levels:
            raise UsageError(
                f"masks need a backbone that reduces pictures {VIEW // CELLS} times or more."
            )
        self.lateral = nn.ModuleList(
            nn.Conv2d(info[i].channels, HEAD_CHANNELS, 1, bias=False) for i in self.levels
        )
        self.head = nn.Sequential(
            nn.BatchNorm2d(HEAD_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(HEAD_CHANNELS, HEAD_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(HEAD_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(HEAD_CHANNELS, classes * len(PARTS), 1),
        )

    def forward(self, pictures: Tensor, windows: Tensor | None = None) -> dict[str, Tensor]:
        if windows is not None:
            return {"masks": self._draw(pictures, windows)}
        found = [self._search(picture[None]) for picture in pictures]
        most = max(len(one) for one in found)
        return {
            "boxes": torch.stack([F.pad(o.boxes, (0, 0, 0, most - len(o))) for o in found]),
            "scores": torch.stack([F.pad(o.scores, (0, most - len(o))) for o in found]),
            "labels": torch.stack([F.pad(o.labels, (0, most - len(o))) for o in found]),
        }

    def _draw(self, pictures: Tensor, windows: Tensor) -> Tensor:
        maps = stage_maps(self.backbone, cut(pictures, windows, VIEW, context=1.0))
        total: Tensor | None = None
        for lateral, level in zip(self.lateral, self.levels, strict=True):
            one = F.interpolate(
                lateral(maps[level]), size=(CELLS, CELLS), mode="bilinear", align_corners=False
            )
            total = one if total is None else total + one
        masks = self.head(total).float()
        return masks.unflatten(1, (self.classes, len(PARTS))).unflatten(0, windows.shape[:2])

    def _search(self, picture: Tensor) -> Detections:
        """Objects of one picture (1, 3, H, W): candidates of all windows, corrected."""
        windows = tiled_windows(*self.size).to(picture.device)
        drawn = self._draw(picture, windows[None])[0].clamp(0, 1)
        # Where hardly a cell is covered there is no object, and no search.
        pairs = (drawn[:, :, 0].amax((-2, -1)) > 2 * FLOOR).nonzero()
        where, labels = windows[pairs[:, 0]], pairs[:, 1]
        scores, cells = best_boxes(
            drawn[pairs[:, 0], pairs[:, 1]], _at_border(where, self.size), CANDIDATES
        )
        scores = scores.flatten()
        boxes = _in_picture(cells, where).flatten(0, 1)
        labels = labels.repeat_interleave(CANDIDATES)
        likely = scores > FLOOR
        scores, boxes, labels = scores[likely], boxes[likely], labels[likely]
        kept = batched_nms(boxes, scores, labels, 0.5, CORRECTED)
        return self._correct(picture, boxes[kept], labels[kept])

    def _correct(self, picture: Tensor, boxes: Tensor, labels: Tensor) -> Detections:
        """Looks at each box enlarged; takes the box that agrees best and still overlaps it."""
        if not len(boxes):
            return Detections(boxes, boxes.new_zeros(0), labels)
        windows = to_centers(boxes)
        windows = from_centers(torch.cat([windows[:, :2], windows[:, 2:] * ENLARGED], dim=1))
        drawn = self._draw(picture, windows[None])[0].clamp(0, 1)
        own = drawn[torch.arange(len(labels), device=labels.device), labels]
        margin = CELLS * (1 - 1 / ENLARGED) / 2
        before = torch.tensor([margin, margin, CELLS - margin, CELLS - margin])
        near = iou(all_boxes().float(), before) >= 0.4
        scores, cells = best_boxes(own, _at_border(windows, self.size), 1, near)
        found = clip(_in_picture(cells, windows)[:, 0], *self.size)
        return Detections(found, scores[:, 0].clamp(min=0), labels)


def build(options: DetectOptions, facts: Mapping[str, Any]) -> Masks:
    """The network of the options for data of these facts."""
    size = int(facts["height"]), int(facts["width"])
    trunk = create_backbone(options.backbone, (3, VIEW, VIEW), **options.backbone_kwargs())
    return Masks(trunk, len(facts["classes"]), size)


# ------------------------------------------------------------------------------------ learning


def parts_of(boxes: Tensor) -> Tensor:
    """(..., 4) -> (..., 5, 4): each box itself and its halves, in the order of PARTS."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    sides = [(x1, y1, x2, y2), (x1, y1, x, y2), (x, y1, x2, y2), (x1, y1, x2, y), (x1, y, x2, y2)]
    return torch.stack([torch.stack(side, dim=-1) for side in sides], dim=-2)


def target_masks(windows: Tensor, boxes: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The share of each cell that objects of a class, or their halves, cover.

    Where objects of a class overlap, the larger share counts.

    Args:
        windows: (B, N, 4), x1 y1 x2 y2 in pixels.
        boxes: (B, M, 4), in the same pixels.
        labels: (B, M), -1 where there is no object.

    Returns:
        float32 (B, N, classes, 5, CELLS, CELLS) in [0, 1].
    """
    steps = torch.arange(CELLS + 1, device=windows.device) / CELLS
    parts = parts_of(boxes)[:, None]  # (B, 1, M, 5, 4)
    covered = []
    for low, high in ((0, 2), (1, 3)):
        begin = windows[..., low, None]
        edges = begin + (windows[..., high, None] - begin) * steps  # (B, N, CELLS + 1)
        edges = edges[:, :, None, None]
        upper = torch.minimum(edges[..., 1:], parts[..., high, None])
        lower = torch.maximum(edges[..., :-1], parts[..., low, None])
        covered.append((upper - lower).clamp(min=0) / (edges[..., 1:] - edges[..., :-1]))
    across, down = covered
    shares = down[..., :, None] * across[..., None, :]  # (B, N, M, 5, CELLS, CELLS)
    masks = shares.new_zeros(*windows.shape[:2], classes, *shares.shape[3:])
    for label in range(classes):
        own = (labels == label)[:, None, :, None, None, None]
        if own.any():
            masks[:, :, label] = (shares * own).amax(dim=2)
    return masks


def sample_windows(
    boxes: Tensor, labels: Tensor, size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Windows to learn from: some of the picture at any scale, one about an object as corrected.

    Args:
        boxes, labels: as in a batch.
        size: (height, width) of the pictures.
        generator: on the CPU.

    Returns:
        float32 (B, WINDOWS, 4) in pixels.
    """
    count, device = len(boxes), boxes.device
    sides = torch.tensor([size[1], size[0]], dtype=torch.float32)
    draw = torch.rand((count, WINDOWS, 3), generator=generator)
    scale = min(SCALES) ** draw[..., :1]
    corner = draw[..., 1:] * (1 - scale) * sides
    windows = torch.cat([corner, corner + scale * sides], dim=-1)
    own = labels.cpu() >= 0
    rows = own.any(dim=1).nonzero()[:, 0]
    if len(rows):
        chosen = torch.multinomial(own[rows].float(), 1, generator=generator)[:, 0]
        base = to_centers(boxes.float().cpu()[rows, chosen])
        noise = torch.randn((len(rows), 4), generator=generator)
        centers = base[:, :2] + 0.08 * noise[:, :2] * base[:, 2:]
        long = base[:, 2:] * ENLARGED * (0.1 * noise[:, 2:]).exp()
        windows[rows, 0] = from_centers(torch.cat([centers, long], dim=1))
    return windows.to(device)


def weighted_error(drawn: Tensor, wanted: Tensor) -> Tensor:
    """The mean over cells of the squared error times (mask + ZERO_WEIGHT)."""
    return ((wanted + ZERO_WEIGHT) * (drawn - wanted).square()).mean()


def loss(model: nn.Module, batch: Batch, moment: Moment) -> dict[str, Tensor]:
    """The weighted squared error of all masks, a thousandth being 1.

    Args:
        batch: "pictures" uint8 (B, 3, H, W), "boxes" float32 (B, M, 4) in pixels, "labels" int64
            (B, M), -1 where there is no object.
    """
    network = cast(Masks, model)
    boxes, labels = batch["boxes"], batch["labels"]
    windows = sample_windows(boxes, labels, network.size, moment.generator)
    wanted = target_masks(windows, boxes, labels, network.classes)
    drawn = model(batch["pictures"], windows)["masks"]
    return {"loss": 1000 * weighted_error(drawn, wanted)}


# -------------------------------------------------------------------------------------- search


def tiled_windows(height: int, width: int) -> Tensor:
    """Windows of all SCALES over a picture: float32 (N, 4) in pixels."""
    windows = []
    for scale in SCALES:
        steps = 1 if scale == 1 else -(-(1 - scale) // (scale * (1 - OVERLAP))) + 1
        starts = torch.linspace(0, 1 - scale, int(steps)).tolist()
        windows += [(x, y, x + scale, y + scale) for y, x in itertools.product(starts, starts)]
    return torch.tensor(windows) * torch.tensor([width, height, width, height])


@lru_cache(maxsize=1)
def _sizes() -> tuple[tuple[int, int], ...]:
    """(height, width) of candidates in cells: even, so that halves are whole, and not too long."""
    even = range(2, CELLS + 1, 2)
    return tuple((h, w) for h in even for w in even if max(h, w) <= 2 * min(h, w) + 2)


@lru_cache(maxsize=1)
def all_boxes() -> Tensor:
    """All candidates, int64 (P, 4), x1 y1 x2 y2 in cells, in the order of `agreement`."""
    found = []
    for high, wide in _sizes():
        y, x = torch.meshgrid(
            torch.arange(CELLS - high + 1), torch.arange(CELLS - wide + 1), indexing="ij"
        )
        found.append(torch.stack([x, y, x + wide, y + high], dim=-1).flatten(0, 1))
    return torch.cat(found)


def agreement(masks: Tensor) -> Tensor:
    """How well each candidate agrees with the masks.

    For each half: the mean of its mask over that half of the box less its mean over the other half;
    for the whole: the mean over the box less the mean over a frame around it, a quarter of the box
    wide. Outside the window masks are zero.

    Args:
        masks: float (K, 5, CELLS, CELLS) in [0, 1].

    Returns:
        (K, P), a fifth of the five parts' sum, at most 1, for the P of `all_boxes`.
    """
    pad = CELLS // 4
    sums = F.pad(masks.cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    sums = F.pad(sums, (pad, pad, pad, pad), mode="replicate")
    scores = []
    for high, wide in _sizes():
        rows, columns = CELLS - high + 1, CELLS - wide + 1

        def total(part: int, top: int, left: int, bottom: int, right: int) -> Tensor:
            """Sum of a mask over a rectangle, by its place in the box."""

            def corner(down: int, across: int) -> Tensor:
                y, x = pad + down, pad + across
                return sums[:, part, y : y + rows, x : x + columns]  # noqa: B023  # used at once

            whole = corner(bottom, right) - corner(top, right)
            return whole - corner(bottom, left) + corner(top, left)

        inside = total(0, 0, 0, high, wide)
        y, x = max(1, high // 4), max(1, wide // 4)
        around = total(0, -y, -x, high + y, wide + x) - inside
        area = high * wide
        score = inside / area - around / ((high + 2 * y) * (wide + 2 * x) - area)
        for part, (top, left, bottom, right) in enumerate(
            [
                (0, 0, high, wide // 2),
                (0, wide // 2, high, wide),
                (0, 0, high // 2, wide),
                (high // 2, 0, high, wide),
            ],
            start=1,
        ):
            half = total(part, top, left, bottom, right)
            score = score + (2 * half - total(part, 0, 0, high, wide)) / (area / 2)
        scores.append(score.flatten(1) / len(PARTS))
    return torch.cat(scores, dim=1)


def best_boxes(
    masks: Tensor, at_border: Tensor, count: int, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The candidates that agree best with each window's masks.

    A box that touches a side of its window may go on beyond; it is no candidate unless the picture
    ends there.

    Args:
        masks: (K, 5, CELLS, CELLS).
        at_border: bool (K, 4), whether left, upper, right, lower side is the picture's.
        count: boxes for each.
        allowed: bool (P,), which candidates may be taken.

    Returns:
        scores (K, count), -1 where there was no candidate left, and boxes (K, count, 4) in cells.
    """
    boxes = all_boxes().to(masks.device)
    touches = boxes == torch.tensor([0, 0, CELLS, CELLS], device=masks.device)
    barred = (touches[None] & ~at_border[:, None]).any(dim=-1)
    if allowed is not None:
        barred |= ~allowed.to(masks.device)
    scores, indices = agreement(masks).masked_fill(barred, -1).topk(count, dim=1)
    return scores, boxes[indices]


def _at_border(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Which sides (K, 4) of windows lie at or beyond those of a picture (height, width)."""
    low = windows[:, :2] <= 0.5
    high = windows[:, 2:] >= windows.new_tensor([size[1], size[0]]) - 0.5
    return torch.cat([low, high], dim=1)


def _in_picture(cells: Tensor, windows: Tensor) -> Tensor:
    """Boxes (K, N, 4) in cells of windows (K, 4) -> in pixels of the picture."""
    corner, sides = windows[:, :2], windows[:, 2:] - windows[:, :2]
    shares = cells.to(windows.dtype) / CELLS
    return shares * sides.repeat(1, 2)[:, None] + corner.repeat(1, 2)[:, None]


def decode(raw: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
    """What `Masks.forward` found in each picture; `size` is the network's own."""
    columns = raw["boxes"], raw["scores"], raw["labels"]
    return [
        Detections(clip(boxes, *size), scores, labels)
        for boxes, scores, labels in zip(*columns, strict=True)
    ]


METHOD = Method(build, loss, decode)
