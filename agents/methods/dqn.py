"""DQN: the mean of the return (Mnih et al. 2013, 2015), hard, double or soft targets."""

from __future__ import annotations

import torch
from torch import nn

from ..heads import ActionHead, action_head
from ..networks import QNetwork
from ..options import DQNOptions
from ..replay import Batch
from ..targets import (
    chosen,
    munchausen_bonus,
    rescale,
    soft_policy,
    td_loss,
    td_targets,
    unrescale,
)
from . import Loss, LossFunction


class MeanHead(nn.Module):
    """One value an action."""

    def __init__(self, head: ActionHead):
        super().__init__()
        self.head = head

    def hidden_layers(self) -> list[nn.Module]:
        """See `networks.Head`."""
        return self.head.hidden_layers()

    def values(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A) float32."""
        return self.head(features).squeeze(2)


def make_head(features: int, num_actions: int, options: DQNOptions) -> nn.Module:
    """See `methods.Method`."""
    return MeanHead(action_head(features, num_actions, 1, options))


def make_loss(options: DQNOptions, generator: torch.Generator) -> LossFunction:
    """See `methods.Method`; nothing is drawn."""

    def loss(online: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        with torch.no_grad():
            targets = _targets(online, target, batch, options)
        values = chosen(online(batch.observations), batch.actions)
        errors = targets - values
        return Loss(td_loss(errors, options.loss), errors.detach().abs(), values.detach().mean())

    return loss


def _targets(online: QNetwork, target: QNetwork, batch: Batch, options: DQNOptions) -> torch.Tensor:
    """(B,) targets: Algorithm 1 of Mnih et al. (2015), or Munchausen-DQN's."""
    returns, next_values = batch.returns, target(batch.next_observations)
    if options.value_rescaling:
        next_values = unrescale(next_values)
    if options.munchausen:
        values = target(batch.observations)
        if options.value_rescaling:
            values = unrescale(values)
        returns = returns + munchausen_bonus(
            values, batch.actions, options.munchausen, options.temperature, options.munchausen_clip
        )
    if options.temperature:
        policy, log_policy = soft_policy(next_values, options.temperature)
        targets = returns + batch.discounts * (policy * (next_values - log_policy)).sum(dim=1)
    else:
        next_online = online(batch.next_observations) if options.double else None
        targets = td_targets(returns, batch.discounts, next_values, next_online)
    return rescale(targets) if options.value_rescaling else targets
