"""A trunk of the registry with a linear layer, its loss and its parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import BACKBONES, create_backbone
from ...backbones.speedy import ShiftNorm, first_layer, is_whitening, whiten
from ...errors import UsageError
from ...tasks import Batch, Learning, Moment, TaskData
from .options import ClassifyOptions

WHITENED_PICTURES = 5_000  # that a whitening layer is computed from
STEEPEST = 0.2  # gradient that the sharpness learns from
SHARPNESS_RATES = {"sgd": 0.05, "adamw": 0.01}  # learning rates, whatever that of the rest is


class Classifier(nn.Module):
    """Scores of classes.

    The scores' temperature (Guo et al. 2017, On Calibration of Modern Neural Networks) is learnt
    beside the rest, on what the network says of its training batches before it learns from them;
    it changes no prediction, only how sure of it the model is.

    Args:
        backbone: a CNN of the registry.
        classes: how many.
        options: of the task.

    Attributes:
        backbone: the trunk.
        head: its linear layer; raw scores are its output times `scale`.
        sharpness: logarithm of the factor that makes calibrated scores of raw ones.
    """

    def __init__(self, backbone: nn.Module, classes: int, options: ClassifyOptions):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(
            int(backbone.out_features),  # type: ignore[arg-type]  # create_backbone checks it
            classes,
            bias=options.head_bias,
        )
        self.sharpness = nn.Parameter(torch.zeros(()))
        self.scale = options.head_scale
        self.shift_rate = options.shift_rate
        self.whitening_share = options.whitening_share

    def forward(self, pictures: Tensor, progress: float | None = None) -> Tensor:
        """Scores of a batch of pictures.

        Args:
            pictures: (B, 3, H, W), uint8 in 0..255 or float in [0, 1].
            progress: share of training that is over; None where nothing is learnt.

        Returns:
            Calibrated logits (B, classes); with a progress raw and calibrated ones
            (2, B, classes), of which the latter teach the sharpness alone.
        """
        if progress is None:
            return self._raw(pictures) * self.sharpness.exp()
        if progress >= self.whitening_share and is_whitening(self.backbone):
            # Nothing below the first convolution learns any more: no gradient goes there.
            layer = first_layer(self.backbone)
            assert layer is not None and layer.bias is not None
            layer.bias.requires_grad_(False)
        raw = self._raw(pictures).float()
        return torch.stack([raw, raw.detach() * self.sharpness.exp()])

    def _raw(self, pictures: Tensor) -> Tensor:
        return self.head(self.backbone(pictures)) * self.scale


def build_model(options: ClassifyOptions, facts: Mapping[str, Any]) -> Classifier:
    """A freshly initialised classifier for the classes of `facts`.

    Raises:
        UsageError: the backbone is unknown, no CNN, or does not fit the pictures' size.
    """
    if BACKBONES[options.backbone].kind != "cnn":
        raise UsageError(f"{options.backbone} takes no pictures; name a CNN, such as resnet.")
    shape = (3, options.seen, options.seen)
    backbone = create_backbone(options.backbone, shape, **options.backbone_kwargs())
    return Classifier(backbone, len(facts["classes"]), options)


def begin(model: nn.Module, data: TaskData) -> None:
    """Fits the first layer of a fresh trunk to the training pictures: whitens, or centres.

    A trunk is fresh as long as the biases of that layer are all zero; one that has learnt, or has
    no such biases, stays as it is.
    """
    trunk = model.backbone
    assert isinstance(trunk, nn.Module)
    layer = first_layer(trunk)
    if layer is None or layer.bias is None or layer.bias.any():
        return
    pictures = data.splits["train"].pictures
    chosen = np.random.default_rng(0).permutation(len(pictures))[:WHITENED_PICTURES]
    pictures = pictures[torch.from_numpy(np.sort(chosen))]
    if is_whitening(trunk):
        whiten(trunk, pictures)
        return
    mean = pictures.float().mean(dim=(0, 2, 3)) / 255
    with torch.no_grad():
        layer.bias.sub_((layer.weight * mean[None, :, None, None]).sum(dim=(1, 2, 3)))


def loss(model: nn.Module, batch: Batch, moment: Moment) -> dict[str, Tensor]:
    """Cross entropy of raw scores to the smoothed targets; the sharpness learns from plain ones.

    Args:
        model: a `Classifier`, perhaps wrapped.
        batch: "pictures" uint8 (B, 3, H, W); "targets" and "smoothed", float32 (B, classes), are
            probabilities.
        moment: of training.

    Returns:
        "loss", the former, a mean over the batch; "accuracy" on it as it was augmented (0 to 1).
    """
    raw, calibrated = model(batch["pictures"], moment.progress)
    targets = batch["targets"]
    found = F.cross_entropy(raw, batch["smoothed"]) + _teaching(calibrated, targets)
    right = raw.argmax(1) == targets.argmax(1)
    return {"loss": found, "accuracy": right.float().mean()}


def _teaching(calibrated: Tensor, targets: Tensor) -> Tensor:
    """Zero, with the gradient of the calibrated scores' cross entropy for the sharpness, clipped.

    Untrained networks may be wrong and very sure: one step of that gradient would blunt the
    scores so much that none of the later ones could sharpen them again.
    """
    with torch.no_grad():
        slope = ((calibrated.softmax(1) - targets) * calibrated).sum(1).mean()
        share = (STEEPEST / slope.abs().clamp_min(1e-12)).clamp_max(1.0)
    found = F.cross_entropy(calibrated, targets)
    return share * (found - found.detach())


def parameter_groups(model: nn.Module, learning: Learning) -> list[dict[str, Any]]:
    """Weights decay; biases and norms do not; shifts without scale learn `shift_rate` faster."""
    assert isinstance(model, Classifier)
    shifts = [m.bias for m in model.modules() if isinstance(m, ShiftNorm)]
    apart = {id(p) for p in (*shifts, model.sharpness)}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    rate = model.shift_rate
    sharpness_rate = SHARPNESS_RATES[learning.optimizer] / learning.learning_rate
    return [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": learning.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        # Divided, so that a step shrinks them as much as the weights.
        {"params": shifts, "weight_decay": learning.weight_decay / rate, "lr": rate},
        {"params": [model.sharpness], "weight_decay": 0.0, "lr": sharpness_rate},
    ]
