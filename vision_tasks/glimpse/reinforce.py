"""The hybrid loss of Mnih 2014: answers by cross entropy, places by REINFORCE (Williams 1992)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def log_density(drawn: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Of a normal distribution with equal deviations on all axes.

    Args:
        drawn: (..., D); no gradient goes to it.
        mean: (..., D).
        deviation: above 0.

    Returns:
        (...), the logarithm of the density.
    """
    squares = ((drawn.detach() - mean) / deviation).square().sum(-1)
    return -0.5 * squares - drawn.shape[-1] * math.log(deviation * math.sqrt(2 * math.pi))


def returns_to_go(rewards: Tensor) -> Tensor:
    """Mean of the rewards from each step on: (..., T) -> (..., T).

    A mean, not a sum: the earlier choices of a path do not weigh more than the later ones.
    """
    steps = rewards.shape[-1]
    left = torch.arange(steps, 0, -1, device=rewards.device, dtype=rewards.dtype)
    return rewards.flip(-1).cumsum(-1).flip(-1) / left


def others_mean(values: Tensor) -> Tensor:
    """The mean over the other copies: (B, M, ...) -> (B, M, ...), M at least 2."""
    return (values.sum(1, keepdim=True) - values) / (values.shape[1] - 1)


def reinforce(
    log_probabilities: Tensor, returns: Tensor, guesses: Tensor, *, copies: bool
) -> tuple[Tensor, Tensor]:
    """The loss whose gradient is REINFORCE's, and that of the baseline.

    Args:
        log_probabilities: (B, M, T) of what was chosen.
        returns: (B, M, T), what followed; no gradient goes to it.
        guesses: (B, M, T), the learnt baseline.
        copies: whether what is left is compared with the other copies' as well, which biases
            nothing: they are independent. With one copy nothing changes.

    Returns:
        Scalars: minus the mean of log probability times advantage; the mean square of return minus
        guess.
    """
    returns = returns.detach()
    advantage = returns - guesses.detach()
    if copies and advantage.shape[1] > 1:
        advantage = advantage - others_mean(advantage)
    return -(log_probabilities * advantage).mean(), F.mse_loss(guesses, returns)
