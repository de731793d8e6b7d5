"""MultiBox (Erhan et al. 2014): one look at the picture gives a fixed number of boxes of no class.

Each of K boxes belongs to a prior, a centre of k-means over the training boxes. Objects are matched
to priors one to one at the least total distance; the loss is alpha times half the squared distance
of the matched boxes, as in the paper, plus the logistic loss of all confidences. A second, small
network then looks at what lies in the surest boxes and tells the class, or the background.

Unlike the paper's, the network predicts the difference to the prior in units of its spread over the
training boxes, and a trunk of today takes the place of AlexNet; the last layer is fully connected
to the whole map as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import create_backbone
from ...errors import DataError
from .boxes import Detections, clip, from_centers, iou, to_centers
from .method import Method
from .one_stage import stage_maps
from .priors import cluster, match

if TYPE_CHECKING:
    from ...tasks import Batch, Moment, TaskData
    from .options import DetectOptions

BOXES = 100
"""K, boxes predicted for a picture"""
ALPHA = 0.3
"""weight of the distance of boxes against their confidences"""
STRIDE = 16
"""pixels of the input for a cell of the map that the last layer sees"""
CELL_CHANNELS = 32
"""of that map"""
CROP = 32
"""side of the pictures that the second network sees"""
CONTEXT = 1.3
"""side of what it sees against the box"""
CROPS = 24
"""crops that it learns from in a training picture"""
CLASSIFIED = 100
"""boxes of a picture, the surest, that it looks at"""
CERTAIN, BACKGROUND = 0.5, 0.35
"""overlap with an object from which a crop shows it, and below which it does not"""


class MultiBox(nn.Module):
    """Trunk, the layer that predicts all boxes, and the classifier of crops.

    Args:
        backbone: a CNN trunk.
        classes: how many there are.
        size: (height, width) of the input.
        boxes: K.

    `forward` takes uint8 (B, 3, height, width) and returns "boxes" (B, N, 4) in pixels,
    "confidences" (B, N), logits, and "classes" (B, N, classes + 1), logits, the background last.
    Given `windows` (B, N', 4) in pixels, boxes and confidences are those of all K priors, in their
    order, and the classes are those of the windows; else N boxes are the surest and the classes are
    theirs.
    """

    method = "multibox"
    priors: Tensor
    spread: Tensor

    def __init__(self, backbone: nn.Module, classes: int, size: tuple[int, int], boxes: int):
        super().__init__()
        self.backbone = backbone
        self.size = size
        info = cast("tuple[Any, ...]", backbone.feature_info)
        self.level = max((i for i, s in enumerate(info) if s.reduction <= STRIDE), default=0)
        both = self.level < len(info) - 1
        channels = info[self.level].channels + (info[-1].channels if both else 0)
        cells = -(-size[0] // STRIDE), -(-size[1] // STRIDE)
        self.cells = nn.Sequential(
            *_conv(channels, 4 * CELL_CHANNELS, 3, max(1, STRIDE // info[self.level].reduction)),
            *_conv(4 * CELL_CHANNELS, CELL_CHANNELS, 1),
            nn.AdaptiveAvgPool2d(cells),
            nn.Flatten(),
        )
        self.predict = nn.Linear(CELL_CHANNELS * cells[0] * cells[1], boxes * 5)
        nn.init.normal_(self.predict.weight, std=0.003)
        nn.init.zeros_(self.predict.bias)
        with torch.no_grad():  # few of the priors have an object
            self.predict.bias.view(boxes, 5)[:, 4] = -3.0
        self.classifier = CropClassifier(classes)
        self.register_buffer("priors", torch.zeros(boxes, 4))
        self.register_buffer("spread", torch.ones(4))

    def forward(self, pictures: Tensor, windows: Tensor | None = None) -> dict[str, Tensor]:
        maps = stage_maps(self.backbone, pictures)
        seen = maps[self.level]
        if self.level < len(maps) - 1:
            coarse = F.interpolate(maps[-1], size=seen.shape[-2:], mode="nearest")
            seen = torch.cat([seen, coarse], dim=1)
        out = self.predict(self.cells(seen)).float().unflatten(1, (-1, 5))
        boxes = (self.priors + self.spread * out[..., :4]) * _sides(self.size, out.device)
        confidences = out[..., 4]
        if windows is None:
            count = min(CLASSIFIED, confidences.shape[1])
            best = confidences.topk(count, dim=1).indices
            boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4))
            confidences = confidences.gather(1, best)
            windows = boxes
        crops = cut(pictures, windows.detach(), CROP)
        classes = self.classifier(crops).float().unflatten(0, windows.shape[:2])
        return {"boxes": boxes, "confidences": confidences, "classes": classes}


class CropClassifier(nn.Module):
    """The second network: (N, 3, S, S) float in [0, 1] -> logits (N, classes + 1)."""

    def __init__(self, classes: int, width: int = 24):
        super().__init__()
        self.features = nn.Sequential(
            *_conv(3, width, 3),
            nn.MaxPool2d(2),
            *_conv(width, 2 * width, 3),
            nn.MaxPool2d(2),
            *_conv(2 * width, 4 * width, 3),
            nn.MaxPool2d(2),
            *_conv(4 * width, 4 * width, 3),
        )
        self.head = nn.Linear(4 * width, classes + 1)

    def forward(self, crops: Tensor) -> Tensor:
        return self.head(self.features(crops).mean((2, 3)))


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]


def _sides(size: tuple[int, int], device: torch.device) -> Tensor:
    """Width, height, width, height: shares of a picture times this are pixels."""
    return torch.tensor([size[1], size[0]] * 2, dtype=torch.float32, device=device)


def cut(pictures: Tensor, windows: Tensor, side: int, context: float = CONTEXT) -> Tensor:
    """Cuts windows out of pictures and scales them to squares; outside lies the border's colour.

    Args:
        pictures: uint8 (B, 3, H, W).
        windows: float (B, N, 4), x1 y1 x2 y2 in pixels.
        side: of the squares, in pixels.
        context: side of what is cut out against the window.

    Returns:
        float32 (B * N, 3, side, side) in [0, 1].
    """
    count, (height, width) = windows.shape[1], pictures.shape[-2:]
    x, y, long, high = (to_centers(windows) / _sides((height, width), windows.device)).unbind(-1)
    steps = (torch.arange(side, device=windows.device) + 0.5) / side * 2 - 1
    across = (2 * x - 1)[..., None] + long[..., None] * context * steps
    down = (2 * y - 1)[..., None] + high[..., None] * context * steps
    shape = (len(pictures), count, side, side)
    grid = torch.stack([across[..., None, :].expand(shape), down[..., None].expand(shape)], dim=-1)
    found = F.grid_sample(
        pictures.float() / 255,
        grid.flatten(1, 2),
        padding_mode="border",
        align_corners=False,
    )
    return found.unflatten(2, (count, side)).transpose(1, 2).flatten(0, 1)


def build(options: DetectOptions, facts: Mapping[str, Any]) -> MultiBox:
    """The network, without its priors: `begin` computes them, or they are loaded."""
    size = int(facts["height"]), int(facts["width"])
    trunk = create_backbone(options.backbone, (3, *size), **options.backbone_kwargs())
    return MultiBox(trunk, len(facts["classes"]), size, BOXES)


def begin(model: nn.Module, data: TaskData) -> None:
    """Computes the priors and their spread from the boxes of training batches.

    Raises:
        DataError: there are too few different boxes.
    """
    network = cast(MultiBox, model)
    found: list[np.ndarray] = []
    sides = _sides(network.size, torch.device("cpu"))
    wanted = 40 * len(network.priors)
    for step in range(64):
        batch = data.batch(step, 16)
        found.append((batch["boxes"] / sides)[batch["labels"] >= 0].numpy())
        if sum(map(len, found)) >= wanted:
            break
    boxes = np.concatenate(found)
    if not len(boxes):
        raise DataError("no training picture has a box; there is nothing to learn.")
    priors = cluster(boxes, len(network.priors), seed=0)
    distance = ((boxes[:, None] - priors[None]) ** 2).sum(2)
    spread = np.sqrt(((boxes - priors[distance.argmin(1)]) ** 2).mean(0))
    network.priors.copy_(torch.from_numpy(priors))
    network.spread.copy_(torch.from_numpy(np.maximum(spread, 1e-3)))


def loss(model: nn.Module, batch: Batch, moment: Moment) -> dict[str, Tensor]:
    """The paper's loss, "distance" and "confidence" an object, and the second network's, "class".

    Args:
        batch: "pictures" uint8 (B, 3, H, W), "boxes" float32 (B, M, 4) in pixels, "labels" int64
            (B, M), -1 where there is no object.
    """
    network = cast(MultiBox, model)
    background = network.classifier.head.out_features - 1
    windows, targets = sample_windows(batch["boxes"], batch["labels"], background, moment.generator)
    raw = model(batch["pictures"], windows)
    sides = _sides(network.size, windows.device)
    wanted, rows, columns, objects = matched(batch["boxes"] / sides, batch["labels"], network)
    away = (raw["boxes"][rows, columns] / sides - wanted) / network.spread
    distance = away.square().sum() / 2 / objects
    present = torch.zeros_like(raw["confidences"])
    present[rows, columns] = 1
    confidence = F.binary_cross_entropy_with_logits(raw["confidences"], present, reduction="sum")
    confidence = confidence / objects
    shown = targets >= 0
    logits = raw["classes"][shown]
    known = F.cross_entropy(logits, targets[shown]) if len(logits) else raw["classes"].sum() * 0
    total = ALPHA * distance + confidence + known
    return {"loss": total, "distance": distance, "confidence": confidence, "class": known}


def matched(boxes: Tensor, labels: Tensor, network: MultiBox) -> tuple[Tensor, Tensor, Tensor, int]:
    """Matches the objects of each picture with priors.

    Args:
        boxes: (B, M, 4) as shares of the picture.
        labels: (B, M), -1 where there is no object.

    Returns:
        The matched objects' boxes (P, 4), the pictures (P,) and the priors (P,) that they belong
        to, and the number of objects, at least 1.
    """
    priors = network.priors.cpu().numpy()
    wanted, rows, columns = [], [], []
    for row, (all_boxes, all_labels) in enumerate(zip(boxes, labels, strict=True)):
        own = all_boxes[all_labels >= 0]
        cost = ((own.cpu().numpy()[:, None] - priors[None]) ** 2).sum(2, dtype=np.float64)
        chosen, prior = (torch.from_numpy(index).to(boxes.device) for index in match(cost))
        wanted.append(own[chosen])
        rows.append(torch.full_like(prior, row))
        columns.append(prior)
    return torch.cat(wanted), torch.cat(rows), torch.cat(columns), max(1, int((labels >= 0).sum()))


def sample_windows(
    boxes: Tensor, labels: Tensor, background: int, generator: torch.Generator, count: int = CROPS
) -> tuple[Tensor, Tensor]:
    """Draws what the second network learns from: objects and places that they are not.

    Half of the windows lie about objects, a quarter are moved away from them, and a quarter are
    anywhere within the objects' surroundings.

    Args:
        boxes: float (B, M, 4) in pixels.
        labels: int64 (B, M), -1 where there is no object.
        background: its label.
        generator: on the CPU.
        count: windows for each picture.

    Returns:
        windows: float32 (B, count, 4).
        targets: int64 (B, count), a class, the background, or -1 where a window is neither.
    """
    device, own = boxes.device, labels.cpu() >= 0
    where = boxes.float().cpu()
    somewhere = torch.tensor([0.0, 0.0, CROP, CROP])
    if where.shape[1] == 0:
        where, own = somewhere.expand(len(where), 1, 4), torch.zeros(len(where), 1).bool()
    where = torch.where(own[..., None], where, somewhere)
    likely = torch.where(own.any(1, keepdim=True), own.float(), torch.ones(()))
    chosen = torch.multinomial(likely, count, replacement=True, generator=generator)
    base = to_centers(where.gather(1, chosen[..., None].expand(-1, -1, 4)))
    kind = torch.arange(count) * 4 // count
    move = torch.tensor([0.1, 0.1, 0.4, 1.5])[kind][None, :, None]
    grow = torch.tensor([0.1, 0.1, 0.25, 0.25])[kind][None, :, None]
    noise = torch.randn((*chosen.shape, 4), generator=generator)
    centers = base[..., :2] + noise[..., :2] * move * base[..., 2:]
    windows = from_centers(torch.cat([centers, base[..., 2:] * (noise[..., 2:] * grow).exp()], -1))
    overlap = iou(windows[:, :, None], where[:, None]) * own[:, None]
    best, which = overlap.max(dim=2)
    padded = labels.cpu() if labels.shape[1] else torch.full((len(labels), 1), -1)
    targets = torch.where(best >= CERTAIN, padded.gather(1, which), -1)
    targets = torch.where(best < BACKGROUND, background, targets)
    return windows.to(device), targets.to(device)


def decode(raw: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detections]:
    """Every box once for each class; its score is its confidence times the class's probability."""
    boxes = clip(raw["boxes"], *size)
    scores = raw["confidences"].sigmoid()[..., None] * raw["classes"].softmax(-1)[..., :-1]
    count, classes = scores.shape[1:]
    labels = torch.arange(classes, device=scores.device).repeat(count)
    return [
        Detections(own.repeat_interleave(classes, dim=0), score.flatten(), labels)
        for own, score in zip(boxes, scores, strict=True)
    ]


METHOD = Method(build, loss, decode, begin)
