"""Fully connected layers, for inputs that are vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .base import register_backbone, require_positive
from .layers import QuickDropout

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


@register_backbone(kind="mlp", default_in_shape=(8,), paper="Rumelhart et al. 1986")
def mlp(
    in_shape: tuple[int, ...],
    hidden: Sequence[int] = (64, 64),
    layer_norm: bool = False,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Linear layers for vectors such as CartPole's.

    Args:
        hidden: length of each layer's output, the last one's is `out_features`.
        layer_norm: normalise before every activation.
        activation: "relu", "tanh" or "sigmoid".
        dropout: share of the outputs of every activation that is left out while training.
    """
    if not hidden:
        raise UsageError("mlp: hidden must name at least one layer, as in (64, 64).")
    require_positive("mlp", **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    if activation not in ACTIVATIONS:
        raise UsageError(f"mlp: activation is {' or '.join(ACTIVATIONS)}, not {activation!r}.")
    if not 0 <= dropout < 1:
        raise UsageError(f"mlp: dropout lies in [0, 1), not {dropout}.")
    layers: list[nn.Module] = []
    before = in_shape[0]
    for size in hidden:
        layers.append(nn.Linear(before, size))
        layers += [nn.LayerNorm(size)] if layer_norm else []
        layers.append(ACTIVATIONS[activation]())
        layers += [QuickDropout(dropout)] if dropout else []
        before = size
    return MLP(layers, before)


class MLP(nn.Module):
    """(B, F) numbers, uint8 in 0..255 taken as [0, 1] -> (B, out_features)."""

    def __init__(self, layers: Sequence[nn.Module], out_features: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        dtype = next(self.parameters()).dtype
        return self.layers(x.to(dtype) / 255 if x.dtype == torch.uint8 else x.to(dtype))
