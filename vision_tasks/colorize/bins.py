"""Quantised colour: the bins of Zhang 2016, soft targets, rebalancing and ways to decode."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .lab import rgb_to_lab_array

GRID = 10  # spacing of the bins in a* and b*
NEIGHBOURS = 5
SIGMA = 5.0  # of the Gaussian that soft targets weigh neighbours by, and of the smoothed prior
_LOWEST, _SIDE = -128, 256  # of the table of nearest bins, a step of 1 in a* and b*


class SoftTarget(NamedTuple):
    """A distribution over bins, by its few entries that are not zero.

    Attributes:
        bins: int64 (B, 5, H, W), the nearest bins, the nearest first.
        shares: float32 (B, 5, H, W), summing to 1 over the second axis.
    """

    bins: Tensor
    shares: Tensor


@cache
def gamut_bins() -> np.ndarray:
    """Centres of the 313 bins of Zhang 2016: float32 (313, 2), a* and b*, in ascending order.

    A bin is a multiple of 10 in a* and b*. The rule that gives the published 313: the bin's open
    square of side 20 (what bilinear interpolation between bins reaches) meets the convex hull of
    all a*, b* that sRGB can show.
    """
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    shown = rgb_to_lab_array(cube)[:, 1:].astype(np.float64)
    steps = np.arange(-11, 12) * GRID
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    # Two convex sets miss each other if some direction separates them.
    angles = np.deg2rad(np.arange(360))
    directions = np.stack((np.cos(angles), np.sin(angles)))
    reach = (shown @ directions).max(axis=0)
    nearest = grid @ directions - GRID * np.abs(directions).sum(axis=0)
    return np.asarray(grid[(nearest < reach).all(axis=1)], dtype=np.float32)


@cache
def bin_centres(device: torch.device) -> Tensor:
    """`gamut_bins` as float32 (313, 2) on a device; not to be written to."""
    return torch.from_numpy(gamut_bins()).to(device)


@cache
def _nearest_bins(device: torch.device) -> Tensor:
    """int64 (65536, 5): the nearest bins of every whole a*, b*, the nearest first."""
    steps = torch.arange(_SIDE, dtype=torch.float32) + _LOWEST
    whole = torch.cartesian_prod(steps, steps)
    centres = torch.from_numpy(gamut_bins())
    parts = [
        (part[:, None] - centres).square().sum(-1).topk(NEIGHBOURS, largest=False).indices
        for part in whole.split(8192)
    ]
    return torch.cat(parts).to(device)


def soft_targets(ab: Tensor) -> SoftTarget:
    """a*, b* float32 (B, 2, H, W) -> its 5 nearest bins, weighed by a Gaussian of sigma 5.

    Which bins are nearest is decided at the nearest whole a*, b*; their distances are exact.
    """
    with torch.no_grad():
        whole = (ab.round() - _LOWEST).clamp(0, _SIDE - 1).long()
        bins = _nearest_bins(ab.device)[whole[:, 0] * _SIDE + whole[:, 1]]  # (B, H, W, 5)
        offsets = bin_centres(ab.device)[bins] - ab.permute(0, 2, 3, 1).unsqueeze(3)
        shares = torch.softmax(offsets.square().sum(-1) / (-2 * SIGMA**2), dim=-1)
        # A neighbour that is nearer than the table's first must still be named first.
        shares, order = shares.sort(dim=-1, descending=True)
        bins = bins.gather(-1, order)
    return SoftTarget(bins.permute(0, 3, 1, 2), shares.permute(0, 3, 1, 2))


def nearest_bins(ab: Tensor) -> Tensor:
    """a*, b* float32 (B, 2, H, W) -> int64 (B, H, W), the bin nearest to the whole a*, b*."""
    whole = (ab.round() - _LOWEST).clamp(0, _SIDE - 1).long()
    return _nearest_bins(ab.device)[whole[:, 0] * _SIDE + whole[:, 1], 0]


def bin_counts(ab: Tensor) -> Tensor:
    """a*, b* float32 (B, 2, H, W) -> float64 (313,): how many pixels are nearest to each bin."""
    return torch.bincount(nearest_bins(ab).flatten(), minlength=len(gamut_bins())).double()


def smoothed(counts: Tensor) -> Tensor:
    """Counts of bins (313,) -> probabilities float64, smoothed by a Gaussian of sigma 5."""
    centres = bin_centres(counts.device).double()
    kernel = torch.exp(torch.cdist(centres, centres).square() / (-2 * SIGMA**2))
    spread = (kernel / kernel.sum(dim=1, keepdim=True)).T @ counts.double()
    return spread / spread.sum()


def rebalancing(prior: Tensor, uniform: float) -> Tensor:
    """The weight of each bin in the loss of Zhang 2016.

    Args:
        prior: smoothed probabilities of the bins, (313,).
        uniform: share of a uniform distribution that the prior is mixed with: 1/2 in the paper; 1
            weighs all bins alike.

    Returns:
        float32 (313,), inverse to the mixture and with an expected value of 1 under the prior.
    """
    weights = 1 / ((1 - uniform) * prior + uniform / len(prior))
    return (weights / (prior * weights).sum()).float()


def annealed_mean(logits: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """Zhang's annealed mean: (B, Q, H, W) and (Q, 2) -> a*, b* float32 (B, 2, H, W).

    The distribution is raised to 1 / temperature before its mean is taken: 1 gives the mean,
    towards 0 the mode.
    """
    shares = torch.softmax(logits.float() / temperature, dim=1)
    return torch.einsum("bqhw,qc->bchw", shares, centres)
