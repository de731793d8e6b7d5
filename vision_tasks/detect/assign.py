"""Which place answers for which object: the task-aligned assignment of Feng et al. 2021 (TOOD)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .boxes import iou

TOP = 10
"""places that answer for an object"""
SCORE_POWER = 0.5
OVERLAP_POWER = 6.0


@dataclass(frozen=True)
class Assigned:
    """What each place should say.

    Attributes:
        matched: bool (B, P), whether a place answers for an object.
        boxes: (B, P, 4), that object's box; anything where none is.
        scores: (B, P, classes), the quality wanted: 0 where none is.
    """

    matched: Tensor
    boxes: Tensor
    scores: Tensor


def assign(
    scores: Tensor, boxes: Tensor, places: Tensor, true_boxes: Tensor, true_labels: Tensor
) -> Assigned:
    """Gives each object the places within it that find it best, by score and overlap.

    The alignment of a place with an object is score^0.5 * IoU^6. The TOP best places of each
    object whose middle lies in it are taken; a place that two objects want goes to the one that it
    overlaps more. The score wanted is the alignment, scaled for each object so that its best place
    should say that place's IoU.

    Args:
        scores: (B, P, classes) in [0, 1], as predicted.
        boxes: (B, P, 4), as predicted.
        places: (P, 3), x and y in pixels and the stride.
        true_boxes: (B, M, 4); anything where the label is -1.
        true_labels: int64 (B, M), -1 where there is no object.
    """
    batch, count = true_labels.shape
    if count == 0:
        none = torch.zeros(batch, len(places), dtype=torch.bool, device=scores.device)
        return Assigned(none, torch.zeros_like(boxes), torch.zeros_like(scores))
    real = true_labels >= 0
    labels = true_labels.clamp(min=0)
    x, y = places[:, 0], places[:, 1]
    corners = true_boxes[:, :, None]
    inside = (x > corners[..., 0]) & (y > corners[..., 1])
    inside &= (x < corners[..., 2]) & (y < corners[..., 3]) & real[:, :, None]
    said = scores.transpose(1, 2).gather(1, labels[:, :, None].expand(-1, -1, len(places)))
    overlaps = iou(boxes[:, None], corners) * inside
    alignment = said.pow(SCORE_POWER) * overlaps.pow(OVERLAP_POWER) * inside

    best = alignment.topk(min(TOP, len(places)), dim=-1).indices
    taken = torch.zeros_like(inside).scatter_(-1, best, True) & inside
    contested = taken.sum(1, keepdim=True) > 1
    preferred = torch.zeros_like(taken).scatter_(
        1, (overlaps * taken).argmax(1, keepdim=True), True
    )
    taken &= ~contested | preferred

    matched = taken.any(1)
    owner = taken.to(torch.uint8).argmax(1)
    wanted_boxes = true_boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    wanted_labels = labels.gather(1, owner)
    alignment = alignment * taken
    best_alignment = alignment.amax(-1, keepdim=True).clamp(min=1e-9)
    best_overlap = (overlaps * taken).amax(-1, keepdim=True)
    quality = (alignment / best_alignment * best_overlap).amax(1)
    wanted = torch.zeros_like(scores)
    wanted.scatter_(-1, wanted_labels[..., None], (quality * matched)[..., None])
    return Assigned(matched, wanted_boxes, wanted)
