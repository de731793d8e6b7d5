"""Networks that detect, by method, and how they are applied to pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from . import one_stage
from .boxes import Detections, box_areas
from .letterbox import letterbox, to_original
from .method import Method
from .nms import batched_nms

if TYPE_CHECKING:
    from ...tasks import Batch, Moment
    from .options import DetectOptions

METHODS: dict[str, Method] = {"one-stage": one_stage.METHOD}
MOST_CANDIDATES = 3000


def build_model(options: DetectOptions, facts: Mapping[str, Any]) -> nn.Module:
    """The network of the method that the options name."""
    return METHODS[options.method].build(options, facts)


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """The loss of the model's method."""
    return METHODS[cast(str, model.method)].loss(model, batch, moment)


def select(
    candidates: Detections, score_threshold: float, iou_threshold: float, max_det: int
) -> Detections:
    """Candidates with a score above the threshold, less those that a better one overlaps."""
    found = candidates[candidates.scores > score_threshold]
    found = found[box_areas(found.boxes) > 0]
    if len(found) > MOST_CANDIDATES:
        found = found[found.scores.topk(MOST_CANDIDATES).indices]
    return found[batched_nms(found.boxes, found.scores, found.labels, iou_threshold, max_det)]


@torch.no_grad()
def detect_pictures(
    model: nn.Module,
    pictures: Sequence[np.ndarray],
    score_threshold: float = 0.3,
    iou_threshold: float = 0.6,
    max_det: int = 100,
) -> list[Detections]:
    """Finds objects; all pictures go through the network together.

    Args:
        model: a detector in evaluation mode, on the device that shall compute.
        pictures: RGB uint8 (H, W, 3) of any sizes.
        score_threshold: candidates that score at most this are dropped.
        iou_threshold: of non-maximum suppression within a class.
        max_det: most detections in a picture.

    Returns:
        On the CPU, for each picture: by falling score, boxes in the picture's own pixels.
    """
    if not pictures:
        return []
    size = cast("tuple[int, int]", model.size)
    fitted = [letterbox(picture, size) for picture in pictures]
    device = next(model.parameters()).device
    stacked = np.stack([canvas for canvas, _ in fitted]).transpose(0, 3, 1, 2)
    inputs = torch.from_numpy(stacked).to(device)
    candidates = METHODS[cast(str, model.method)].decode(model(inputs), size)
    results = []
    for found, picture, (_, place) in zip(candidates, pictures, fitted, strict=True):
        kept = select(found, score_threshold, iou_threshold, max_det)
        kept = Detections(kept.boxes.cpu(), kept.scores.cpu(), kept.labels.cpu())
        results.append(to_original(kept, place, *picture.shape[:2]))
    return results
