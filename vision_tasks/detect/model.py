"""Networks that detect, by method, and how they are applied to pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import UsageError
from ...tasks import Exported
from . import masks, multibox, one_stage
from .boxes import Detections, box_areas
from .letterbox import letterbox, to_original
from .method import Method
from .nms import batched_nms

if TYPE_CHECKING:
    from ...tasks import Batch, Moment, TaskData, Trained
    from .options import DetectOptions

METHODS: dict[str, Method] = {
    "one-stage": one_stage.METHOD,
    "multibox": multibox.METHOD,
    "masks": masks.METHOD,
}
MOST_CANDIDATES = 3000


def build_model(options: DetectOptions, facts: Mapping[str, Any]) -> nn.Module:
    """The network of the method that the options name; they stay on it as `options`."""
    model = METHODS[options.method].build(options, facts)
    model.__dict__["options"] = options
    return model


def begin(model: nn.Module, data: TaskData) -> None:
    """What the model's method does before the first step."""
    work = method_of(model).begin
    if work is not None:
        work(model, data)


def method_of(model: nn.Module) -> Method:
    """The method that a network belongs to."""
    return METHODS[cast(str, model.method)]


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """The loss of the model's method."""
    return method_of(model).loss(model, batch, moment)


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
    candidates = method_of(model).decode(model(inputs), size)
    results = []
    for found, picture, (_, place) in zip(candidates, pictures, fitted, strict=True):
        kept = select(found, score_threshold, iou_threshold, max_det)
        kept = Detections(kept.boxes.cpu(), kept.scores.cpu(), kept.labels.cpu())
        results.append(to_original(kept, place, *picture.shape[:2]))
    return results


class Predictions(nn.Module):
    """What is exported: uint8 (B, 3, H, W) -> boxes (B, P, 4) in pixels, scores (B, P, classes).

    Non-maximum suppression is left to the program that uses it.
    """

    def __init__(self, model: one_stage.OneStage):
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.model(pictures)
        return one_stage.boxes_of(raw["sides"], raw["places"]), raw["scores"].sigmoid()


def export(trained: Trained) -> Exported:
    """See `Task.export`; UsageError for a method whose boxes are not a tensor."""
    model = trained.model
    if not isinstance(model, one_stage.OneStage):
        raise UsageError(
            f"a detector of the method {trained.options.method} cannot be written as ONNX; one of "
            "the method one-stage can."
        )
    pictures = torch.zeros(1, 3, *model.size, dtype=torch.uint8)
    return Exported(Predictions(model), (pictures,), ("pictures",), ("boxes", "scores"))
