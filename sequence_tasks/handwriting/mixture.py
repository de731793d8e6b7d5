"""Densities of the next point: bivariate Gaussians for its offset, a Bernoulli for the pen.

Graves 2013, section 4.1. A point is (dx, dy, pen) with pen 1 where the pen is lifted after it.
Everything is computed in float32, whatever the network computes in.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST_CORRELATION = 0.99
SMALLEST_WIDTH = 0.01
"""least standard deviation of a Gaussian, in units of the data's; keeps the density bounded"""


class Mixture(NamedTuple):
    """A density for each place of `...`, in float32.

    Attributes:
        pen: (...), logit of a lifted pen.
        log_weights: (..., M), logarithms of weights that sum to 1.
        means: (..., M, 2).
        log_widths: (..., M, 2), logarithms of standard deviations.
        correlations: (..., M).
    """

    pen: Tensor
    log_weights: Tensor
    means: Tensor
    log_widths: Tensor
    correlations: Tensor


def outputs_of(components: int) -> int:
    """Numbers that a mixture of so many Gaussians and the pen need: 121 for 20."""
    return 6 * components + 1


def mixture_of(outputs: Tensor, bias: float = 0.0) -> Mixture:
    """The density that a network's outputs mean.

    Args:
        outputs: (..., 6M + 1): the pen, then M each of weights, two means, two widths, correlation.
        bias: towards likely points (Graves 2013, section 5.4): widths are multiplied by exp(-bias),
            weights raised to the power 1 + bias. 0 leaves the density alone.
    """
    outputs = outputs.float()
    parts = outputs[..., 1:].unflatten(-1, (6, -1))
    weights, correlation = parts[..., 0, :], parts[..., 5, :]
    log_widths = parts[..., 3:5, :].clamp(min=math.log(SMALLEST_WIDTH))
    return Mixture(
        outputs[..., 0],
        F.log_softmax(weights * (1 + bias), -1),
        parts[..., 1:3, :].transpose(-1, -2),
        log_widths.transpose(-1, -2) - bias,
        LARGEST_CORRELATION * torch.tanh(correlation),
    )


def log_density(mixture: Mixture, offsets: Tensor) -> Tensor:
    """Logarithm of the density of offsets (..., 2): (...), in nats."""
    off = (offsets.float()[..., None, :] - mixture.means) * torch.exp(-mixture.log_widths)
    across, down = off[..., 0], off[..., 1]
    rho = mixture.correlations
    spread = 1 - rho * rho
    squares = (across * across + down * down - 2 * rho * across * down) / spread
    normalizer = mixture.log_widths.sum(-1) + 0.5 * torch.log(spread) + math.log(2 * math.pi)
    return torch.logsumexp(mixture.log_weights - normalizer - 0.5 * squares, -1)


def nats(mixture: Mixture, points: Tensor) -> Tensor:
    """Negative logarithm of the likelihood of points (..., 3): (...)."""
    pen = points[..., 2].float()
    surprise = F.softplus(mixture.pen) - pen * mixture.pen
    return surprise - log_density(mixture, points[..., :2])


def draw(mixture: Mixture, uniform: Tensor, normal: Tensor) -> Tensor:
    """A point of each density, made of random numbers.

    Args:
        mixture: with one axis, B, before its components.
        uniform: (B, 2) in [0, 1): they choose the Gaussian and the pen.
        normal: (B, 2), standard normal.

    Returns:
        (B, 3).
    """
    sums = mixture.log_weights.exp().cumsum(-1)
    chosen = (uniform[:, :1] > sums).sum(-1, keepdim=True).clamp(max=sums.shape[-1] - 1)
    rho = mixture.correlations.gather(1, chosen)
    pair = chosen[..., None].expand(-1, 1, 2)
    means, log_widths = (x.gather(1, pair)[:, 0] for x in (mixture.means, mixture.log_widths))
    mixed = rho * normal[:, :1] + torch.sqrt(1 - rho * rho) * normal[:, 1:]
    offsets = means + log_widths.exp() * torch.cat([normal[:, :1], mixed], 1)
    pen = uniform[:, 1:] < torch.sigmoid(mixture.pen)[:, None]
    return torch.cat([offsets, pen.to(offsets.dtype)], 1)


def mean_of(mixture: Mixture) -> Tensor:
    """Expected offset (..., 2)."""
    return (mixture.log_weights.exp()[..., None] * mixture.means).sum(-2)
