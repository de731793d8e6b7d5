"""QR-DQN: quantiles of the return (Dabney et al. 2018a)."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ..heads import ActionHead, action_head
from ..networks import QNetwork
from ..options import DQNOptions
from ..replay import Batch
from ..targets import chosen, quantile_huber_loss, quantile_midpoints
from . import Loss, LossFunction


class QuantileHead(nn.Module):
    """The quantiles of the return at the midpoints of N equal shares, for each action."""

    midpoints: torch.Tensor

    def __init__(self, head: ActionHead):
        super().__init__()
        self.head = head
        self.register_buffer("midpoints", quantile_midpoints(head.outputs), persistent=False)

    def hidden_layers(self) -> list[nn.Module]:
        """See `networks.Head`."""
        return self.head.hidden_layers()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A, N) float32, theta_i(s, a) at the midpoint tau_i."""
        return self.head(features)

    def values(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A) float32, the mean of the quantiles."""
        return self(features).mean(dim=2)


def make_head(features: int, num_actions: int, options: DQNOptions) -> nn.Module:
    """See `methods.Method`."""
    return QuantileHead(action_head(features, num_actions, options.quantiles, options))


def make_loss(options: DQNOptions, generator: torch.Generator) -> LossFunction:
    """See `methods.Method`; nothing is drawn.

    A row's error is the mean |target quantile - own quantile| over all pairs.
    """

    def loss(online: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        head = cast(QuantileHead, online.head)
        with torch.no_grad():
            next_quantiles = target.head(target.backbone(batch.next_observations))
            if options.double:
                next_values = online(batch.next_observations)
            else:
                next_values = next_quantiles.mean(dim=2)
            best = chosen(next_quantiles, next_values.argmax(dim=1))
            targets = batch.returns.unsqueeze(1) + batch.discounts.unsqueeze(1) * best
        quantiles = chosen(head(online.backbone(batch.observations)), batch.actions)
        rows, errors = quantile_huber_loss(quantiles, targets, head.midpoints, options.kappa)
        return Loss(rows, errors, quantiles.detach().mean())

    return loss
