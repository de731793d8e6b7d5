"""Non-maximum suppression: of boxes that overlap, the one with the highest score stays."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy suppression without classes.

    Goes through the boxes by falling score (of equals, the earlier first) and keeps each that
    overlaps none of those kept by more than the threshold.

    Args:
        boxes: (N, 4), x1 y1 x2 y2.
        scores: (N,).
        iou_threshold: in [0, 1].

    Returns:
        int64 indices of the boxes kept, by falling score.
    """
    return batched_nms(boxes, scores, torch.zeros(len(boxes)), iou_threshold, len(boxes))


def batched_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, max_det: int
) -> Tensor:
    """Greedy suppression in which a box suppresses those of its own class only.

    Args:
        boxes: (N, 4), x1 y1 x2 y2.
        scores: (N,).
        labels: (N,).
        iou_threshold: in [0, 1].
        max_det: how many boxes are kept at most.

    Returns:
        int64 indices of the boxes kept, by falling score, on the device of `boxes`.

    Raises:
        UsageError: the threshold or the number is out of range.
    """
    if not 0 <= iou_threshold <= 1:
        raise UsageError(f"iou_threshold is {iou_threshold}; it must lie between 0 and 1.")
    if max_det < 0:
        raise UsageError(f"max_det is {max_det}; it must not be below 0.")
    order = torch.argsort(scores.detach().float(), descending=True, stable=True).cpu().numpy()
    corners = np.ascontiguousarray(boxes.detach().double().cpu().numpy().T[:, order])
    classes = labels.detach().cpu().numpy()[order]
    kept: list[int] = []
    while len(order) and len(kept) < max_det:
        kept.append(int(order[0]))
        stays = (_overlaps_with_first(corners) <= iou_threshold) | (classes[1:] != classes[0])
        order, corners, classes = order[1:][stays], corners[:, 1:][:, stays], classes[1:][stays]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def _overlaps_with_first(corners: np.ndarray) -> np.ndarray:
    """IoU of box 0 with each after it; `corners` is (4, N), so that each row is contiguous."""
    x1, y1, x2, y2 = corners
    width = np.minimum(x2[0], x2[1:]) - np.maximum(x1[0], x1[1:])
    height = np.minimum(y2[0], y2[1:]) - np.maximum(y1[0], y1[1:])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    union = areas[0] + areas[1:] - shared
    return shared / np.maximum(union, 1e-9)
