"""Losses of the one-stage detector, each a sum over places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .boxes import ciou


def score_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy with soft targets in [0, 1], both (B, P, classes)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def box_loss(boxes: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1 - CIoU of boxes and targets (N, 4), weighted by (N,)."""
    return ((1 - ciou(boxes, targets)) * weights).sum()


def distance_loss(logits: Tensor, targets: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of each side's distribution against the two bins around the true distance.

    Distribution focal loss (Li et al. 2020).

    Args:
        logits: (N, 4, bins), of the distances to left, top, right, bottom in strides.
        targets: true boxes (N, 4) in pixels.
        places: (N, 3), x and y in pixels and the stride.
        weights: (N,).
    """
    bins = logits.shape[-1]
    sides = torch.cat([places[:, :2] - targets[:, :2], targets[:, 2:] - places[:, :2]], dim=-1)
    distance = (sides / places[:, 2:]).clamp(0, bins - 1 - 0.01)
    below = distance.floor().long()
    above_share = distance - below
    flat = logits.float().flatten(0, 1)
    low = F.cross_entropy(flat, below.flatten(), reduction="none").view_as(distance)
    high = F.cross_entropy(flat, below.flatten() + 1, reduction="none").view_as(distance)
    return (((1 - above_share) * low + above_share * high).mean(-1) * weights).sum()
