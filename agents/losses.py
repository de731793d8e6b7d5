"""Targets and losses of Q-learning: pure functions of tensors."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def td_targets(
    returns: torch.Tensor,
    discounts: torch.Tensor,
    next_values: torch.Tensor,
    next_online_values: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = R + discount * Q(s', a*), the target of Mnih et al. (2015), Algorithm 1.

    Args:
        returns: (B,) n-step rewards, discounted and summed.
        discounts: (B,) gamma^n, 0 at terminal states.
        next_values: (B, A) of the target network at s'.
        next_online_values: (B, A) of the online network; when given it chooses a*, and the target
            network only values it: Double DQN, van Hasselt et al. (2016).

    Returns:
        (B,) targets.
    """
    chooser = next_values if next_online_values is None else next_online_values
    best = chooser.argmax(dim=1, keepdim=True)
    return returns + discounts * next_values.gather(1, best).squeeze(1)


def td_loss(
    values: torch.Tensor, actions: torch.Tensor, targets: torch.Tensor, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of the chosen actions' values, and their TD errors.

    Args:
        values: (B, A).
        actions: (B,) int64.
        targets: (B,).
        kind: "huber" (gradient clipped to [-1, 1], as Mnih et al. 2015 clip the error) or "mse"
            (half the squared error, so that both agree near zero).

    Returns:
        The mean loss, a scalar, and (B,) TD errors without gradient.
    """
    chosen = values.gather(1, actions.unsqueeze(1)).squeeze(1)
    errors = (targets - chosen).detach()
    if kind == "huber":
        return F.huber_loss(chosen, targets), errors
    return 0.5 * F.mse_loss(chosen, targets), errors
