"""Maps of what on a picture spoke for a class, from the last map of the trunk."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from .model import Classifier

Method = Literal["gradcam", "cam"]


def heat_map(model: nn.Module, pictures: Tensor, labels: Tensor, method: Method) -> np.ndarray:
    """How much each place of the last map spoke for a class.

    - "gradcam" (Selvaraju et al. 2017): the map's channels, each weighted by the mean of the
      score's gradient in it; what speaks against the class is left out.
    - "cam" (Zhou et al. 2016): the last layer's weights of the class instead. It needs a network
      whose last layer follows the pooling of the map.

    Args:
        model: a `Classifier` in evaluation mode.
        pictures: uint8 (B, 3, H, W).
        labels: the classes that are explained, int64 (B,).
        method: which.

    Returns:
        float32 (B, H, W) in [0, 1], each map's largest value being 1 unless nothing spoke for it.

    Raises:
        UsageError: "cam" for a network with hidden layers behind its map.
    """
    assert isinstance(model, Classifier)
    if method == "cam":
        maps = _class_activation(model, pictures, labels)
    else:
        maps = _gradient_weighted(model, pictures, labels)
    maps = F.interpolate(
        maps.clamp_min(0)[:, None], pictures.shape[2:], mode="bilinear", align_corners=False
    )[:, 0]
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return (maps / largest.clamp_min(1e-12)).cpu().numpy()


def _class_activation(model: Classifier, pictures: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        features = _features(model, pictures).float()
        if any(True for _ in _behind_the_map(model).parameters()):
            raise UsageError(
                "CAM needs a network that classifies right after pooling; take gradcam."
            )
        weights = model.head.weight[labels].float()
        if weights.shape[1] != features.shape[1]:
            raise UsageError("CAM needs a network that pools its whole map; take gradcam.")
        return torch.einsum("bchw,bc->bhw", features, weights)


def _gradient_weighted(model: Classifier, pictures: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        features = _features(model, pictures).float()
    with torch.enable_grad():
        features.requires_grad_(True)
        scores = model.head(_behind_the_map(model)(features))
        chosen = scores.gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, features)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).detach()


def _features(model: Classifier, pictures: Tensor) -> Tensor:
    found = model.backbone.forward_features(pictures)  # type: ignore[operator]  # CNNs have it
    assert isinstance(found, Tensor)
    return found


def _behind_the_map(model: Classifier) -> nn.Module:
    hidden = model.backbone.hidden
    assert isinstance(hidden, nn.Module)
    return hidden


def overlay(rgb: np.ndarray, heat: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """Lays a map over a picture, from blue (nothing) to red.

    Args:
        rgb: uint8 (H, W, 3).
        heat: float (h, w) in [0, 1]; it is brought to the picture's size.
        strength: share of the map's colours.

    Returns:
        uint8 (H, W, 3).
    """
    heat = cv2.resize(heat, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
    shades = (np.clip(heat, 0, 1) * 255).astype(np.uint8)
    coloured = cv2.cvtColor(cv2.applyColorMap(shades, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(coloured, strength, rgb, 1 - strength, 0))
