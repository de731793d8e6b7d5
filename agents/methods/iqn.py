"""IQN: the return's quantile at any share tau (Dabney et al. 2018b), and Munchausen-IQN."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from ..heads import ActionHead, action_head
from ..networks import QNetwork
from ..options import DQNOptions
from ..replay import Batch
from ..targets import (
    chosen,
    munchausen_bonus,
    quantile_huber_loss,
    quantile_midpoints,
    soft_policy,
)
from . import Loss, LossFunction


class ImplicitQuantileHead(nn.Module):
    """Quantiles at the shares asked for: features, times an embedding of tau, through a head.

    The embedding is ReLU(sum over i of cos(pi i tau) w_i + b), i = 0 .. cosines - 1.

    Args:
        head: of one output an action.
        features: F.
        cosines: length of the description of a share.
        policy_taus: K, shares that values are means over. The paper draws them at each decision;
            here they are the midpoints of K equal shares, so that a state has one value and a game
            that is played again goes the same way.
    """

    multiples: torch.Tensor
    midpoints: torch.Tensor

    def __init__(self, head: ActionHead, features: int, cosines: int, policy_taus: int):
        super().__init__()
        self.head = head
        self.embedding = nn.Sequential(nn.Linear(cosines, features), nn.ReLU())
        self.register_buffer("multiples", math.pi * torch.arange(cosines), persistent=False)
        self.register_buffer("midpoints", quantile_midpoints(policy_taus), persistent=False)

    def hidden_layers(self) -> list[nn.Module]:
        """See `networks.Head`."""
        return [self.embedding, *self.head.hidden_layers()]

    def forward(self, features: torch.Tensor, taus: torch.Tensor) -> torch.Tensor:
        """Quantiles of each action.

        Args:
            features: (B, F).
            taus: (B, N) float32 in [0, 1], or (1, N) for the same shares in every row.

        Returns:
            (B, A, N) float32.
        """
        # bfloat16 could not tell the angles of neighbouring shares apart; their cosines it can.
        cosines = (taus.unsqueeze(2) * self.multiples).cos().to(features.dtype)
        joined = features.unsqueeze(1) * self.embedding(cosines)
        quantiles = self.head(joined.flatten(0, 1)).squeeze(2)
        return quantiles.view(*joined.shape[:2], -1).transpose(1, 2)

    def values(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A) float32, the mean over the midpoints."""
        return self(features, self.midpoints.unsqueeze(0)).mean(dim=2)


def make_head(features: int, num_actions: int, options: DQNOptions) -> nn.Module:
    """See `methods.Method`."""
    head = action_head(features, num_actions, 1, options)
    return ImplicitQuantileHead(head, features, options.cosines, options.policy_taus)


def make_loss(options: DQNOptions, generator: torch.Generator) -> LossFunction:
    """See `methods.Method`; the generator draws the shares of each update.

    A row's error is the mean |target quantile - own quantile| over all pairs.
    """

    def draw(count: int, like: torch.Tensor) -> torch.Tensor:
        shape = (len(like), count)
        return torch.rand(shape, generator=generator, device=generator.device).to(like.device)

    def loss(online: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        head = cast(ImplicitQuantileHead, online.head)
        with torch.no_grad():
            next_taus = draw(options.target_taus, batch.returns)
            targets = _targets(online, target, batch, next_taus, options)
        taus = draw(options.taus, batch.returns)
        z = chosen(head(online.backbone(batch.observations), taus), batch.actions)
        rows, errors = quantile_huber_loss(z, targets, taus, options.kappa)
        return Loss(rows, errors, z.detach().mean())

    return loss


def _targets(
    online: QNetwork, target: QNetwork, batch: Batch, taus: torch.Tensor, options: DQNOptions
) -> torch.Tensor:
    """(B, N') targets at the shares `taus`.

    r + discount * z(s', a*), Dabney et al. (2018b); with a temperature r + bonus + discount * sum
    over a of pi(a | s') (z(s', a) - tau log pi(a | s')), Vieillard et al. (2020).
    """
    head = cast(ImplicitQuantileHead, target.head)
    next_features = target.backbone(batch.next_observations)
    next_z = head(next_features, taus)
    returns = batch.returns
    if options.munchausen:
        values = target(batch.observations)
        returns = returns + munchausen_bonus(
            values, batch.actions, options.munchausen, options.temperature, options.munchausen_clip
        )
    if options.temperature:
        policy, log_policy = soft_policy(head.values(next_features), options.temperature)
        bootstrap = (policy.unsqueeze(2) * (next_z - log_policy.unsqueeze(2))).sum(dim=1)
    else:
        chooser = online(batch.next_observations) if options.double else head.values(next_features)
        bootstrap = chosen(next_z, chooser.argmax(dim=1))
    return returns.unsqueeze(1) + batch.discounts.unsqueeze(1) * bootstrap
