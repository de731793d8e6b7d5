"""How near predicted colours come to the true ones, picture by picture.

Conventions:

* `psnr_ab`: 10 log10(255^2 / MSE), the error taken over a* and b* in CIE units and all pixels of a
  picture; the mean over pictures. Predicted colours count as the model gives them, before they
  are brought into the gamut.
* `psnr_rgb`: the same of 8-bit sRGB, after the colours were brought into the gamut.
* `auc_raw`, Zhang 2016: the share of pixels whose a*b* distance to the truth is within a
  threshold, over all thresholds from 0 to 150: the area below that curve, in percent. It is
  computed exactly: a pixel at distance d adds 1 - d / 150.
* `auc_balanced`: the same with pixels weighed by 1 / p of the bin of their true colour, where p is
  the distribution of the bins over the true pictures that are scored, smoothed by a Gaussian of
  sigma 5.
* `chroma_ratio`: mean chroma of the coloured 8-bit pictures by that of the true ones.

A mean square error below 1/12, that of rounding to whole units, counts as 1/12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from .bins import nearest_bins, smoothed
from .lab import lab_to_bytes, rgb_to_lab

PEAK = 255.0
LEAST_ERROR = 1 / 12
FARTHEST = 150.0  # of Zhang's thresholds


@dataclass(frozen=True)
class PictureScores:
    """What the figures are made of; float64 (N,) each, one entry a picture.

    Attributes:
        psnr_ab, psnr_rgb: in dB.
        area: mean over pixels of 1 - distance / 150, at least 0.
        weighted_area: sum over pixels of that times the pixel's weight.
        weight: sum of those weights.
        chroma, true_chroma: mean over pixels.
    """

    psnr_ab: np.ndarray
    psnr_rgb: np.ndarray
    area: np.ndarray
    weighted_area: np.ndarray
    weight: np.ndarray
    chroma: np.ndarray
    true_chroma: np.ndarray


def score_pictures(lab: Tensor, ab: Tensor, weights: Tensor) -> PictureScores:
    """Scores predicted colours.

    Args:
        lab: true L*a*b* (B, 3, H, W).
        ab: predicted a*, b* (B, 2, H, W).
        weights: of the bins, (313,), see `balancing`.
    """
    ab = ab.float()
    difference = ab - lab[:, 1:]
    near = (1 - difference.square().sum(dim=1).sqrt() / FARTHEST).clamp_min(0)
    weight = weights.to(lab.device, torch.float32)[nearest_bins(lab[:, 1:])]
    coloured = lab_to_bytes(torch.cat((lab[:, :1], ab), dim=1))
    true = lab_to_bytes(lab)
    rgb_error = coloured.float() - true.float()
    per_picture = (
        _psnr(difference),
        _psnr(rgb_error),
        near.mean(dim=(1, 2)),
        (near * weight).sum(dim=(1, 2)),
        weight.sum(dim=(1, 2)),
        _chroma(rgb_to_lab(coloured)),
        _chroma(lab),
    )
    return PictureScores(*(values.double().cpu().numpy() for values in per_picture))


def joined(parts: Sequence[PictureScores]) -> PictureScores:
    """Scores of several batches as one."""
    return PictureScores(
        *(np.concatenate([getattr(p, one.name) for p in parts]) for one in fields(PictureScores))
    )


def balancing(counts: Tensor) -> Tensor:
    """Pixels nearest to each bin (313,) -> the weight 1 / p of each, with a mean of 1."""
    prior = smoothed(counts)
    return (1 / (len(prior) * prior.clamp_min(1e-12))).float()


def figures(scores: PictureScores) -> Mapping[str, Callable[[np.ndarray], float]]:
    """Each figure as a function of the pictures that count, by index with repetitions."""
    s = scores
    return {
        "auc_balanced": lambda i: 100 * float(s.weighted_area[i].sum() / s.weight[i].sum()),
        "auc_raw": lambda i: 100 * float(s.area[i].mean()),
        "psnr_ab": lambda i: float(s.psnr_ab[i].mean()),
        "psnr_rgb": lambda i: float(s.psnr_rgb[i].mean()),
        "chroma_ratio": lambda i: float(s.chroma[i].sum() / max(s.true_chroma[i].sum(), 1e-9)),
    }


def _psnr(difference: Tensor) -> Tensor:
    error = difference.square().mean(dim=(1, 2, 3)).clamp_min(LEAST_ERROR)
    return 10 * torch.log10(PEAK**2 / error)


def _chroma(lab: Tensor) -> Tensor:
    return lab[:, 1:].square().sum(dim=1).sqrt().mean(dim=(1, 2))
