"""Arithmetic of boxes: areas, overlaps, changes of form. Boxes are x1, y1, x2, y2 in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of that picture.
        scores: float32 (N,) in [0, 1].
        labels: int64 (N,), indices of classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, chosen: Tensor) -> Detections:
        """Those that an index or a mask (N,) chooses."""
        return Detections(self.boxes[chosen], self.scores[chosen], self.labels[chosen])


def box_areas(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...); a box whose corners are swapped has area 0."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    return shared, box_areas(a) + box_areas(b) - shared


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """Width and height (..., 2) of the smallest box around both."""
    low, high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    return (high - low).clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) and (..., 4), which broadcast; 0 where empty."""
    shared, union = _intersection_and_union(a, b)
    return shared / union.clamp(min=_TINY)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) in (-1, 1]: IoU less the hull's empty share."""
    shared, union = _intersection_and_union(a, b)
    hull = _hull(a, b).prod(-1)
    return shared / union.clamp(min=_TINY) - (hull - union) / hull.clamp(min=_TINY)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU (Zheng et al. 2020): IoU less the centres' distance and the unlike shapes.

    No gradient flows through the weight of the shapes' term, as in the paper.
    """
    overlap = iou(a, b)
    diagonal = _hull(a, b).square().sum(-1)
    between = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]).square().sum(-1) / 4
    sizes_a = (a[..., 2:] - a[..., :2]).clamp(min=_TINY)
    sizes_b = (b[..., 2:] - b[..., :2]).clamp(min=_TINY)
    angles = torch.atan2(sizes_a[..., 0], sizes_a[..., 1])
    angles = angles - torch.atan2(sizes_b[..., 0], sizes_b[..., 1])
    unlike = 4 / math.pi**2 * angles.square()
    with torch.no_grad():
        weight = unlike / (1 - overlap + unlike).clamp(min=_TINY)
    return overlap - between / diagonal.clamp(min=_TINY) - weight * unlike


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of `a` (N, 4) with every one of `b` (M, 4): (N, M)."""
    return iou(a[:, None], b[None])


def giou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of all pairs: (N, 4), (M, 4) -> (N, M)."""
    return giou(a[:, None], b[None])


def ciou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU of all pairs: (N, 4), (M, 4) -> (N, M)."""
    return ciou(a[:, None], b[None])


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes (..., 4) cut at the borders of a picture."""
    most = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), most)


def to_centers(boxes: Tensor) -> Tensor:
    """x1 y1 x2 y2 (..., 4) -> centre x, centre y, width, height (..., 4)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def from_centers(boxes: Tensor) -> Tensor:
    """Centre x, centre y, width, height (..., 4) -> x1 y1 x2 y2 (..., 4)."""
    centers, sizes = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centers - sizes / 2, centers + sizes / 2], dim=-1)
