"""What the three methods predict for a pixel, how that is learnt, and how it becomes a colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .bins import annealed_mean, bin_centres, gamut_bins, soft_targets
from .options import Method

AB_SCALE = 110.0  # regression predicts a* and b* in units of it
HISTOGRAM = 32  # bins of hue, and as many of chroma, of Larsson 2016
HIGHEST_CHROMA = 128.0
HUE_WEIGHT = 5.0  # of the hue's loss, times the chroma as a share of the highest
FADING = 0.03  # hues that agree less than this lose chroma in proportion


@dataclass(frozen=True)
class ColourModel:
    """One method. `raw` is what the network gives, (B, outputs, H, W).

    Attributes:
        outputs: channels that the network gives.
        loss: (raw, a*b* (B, 2, H, W), weights of the bins (313,)) -> scalars; "loss" is minimised.
        decode: (raw, temperature) -> a*, b* float32 (B, 2, H, W).
        distribution: (raw, temperature) -> probabilities (B, Q, H, W) of colours (Q, 2); None
            where the method knows of one colour only.
    """

    outputs: int
    loss: Callable[[Tensor, Tensor, Tensor], Mapping[str, Tensor]]
    decode: Callable[[Tensor, float], Tensor]
    distribution: Callable[[Tensor, float], tuple[Tensor, Tensor]] | None


def _zhang_loss(raw: Tensor, ab: Tensor, weights: Tensor) -> dict[str, Tensor]:
    target = soft_targets(ab)
    logits = raw.float()
    # Cross entropy with few non-zero targets: log sum exp less the logits that they choose.
    chosen = (logits.gather(1, target.bins) * target.shares).sum(dim=1)
    entropy = logits.logsumexp(dim=1) - chosen
    weighed = entropy * weights[target.bins[:, 0]]
    return {"loss": weighed.mean(), "cross_entropy": entropy.mean().detach()}


def _zhang_decode(raw: Tensor, temperature: float) -> Tensor:
    return annealed_mean(raw, bin_centres(raw.device), temperature)


def _zhang_distribution(raw: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return torch.softmax(raw.float() / temperature, dim=1), bin_centres(raw.device)


def _l2_loss(raw: Tensor, ab: Tensor, weights: Tensor) -> dict[str, Tensor]:
    return {"loss": F.mse_loss(raw.float(), ab / AB_SCALE)}


def _l2_decode(raw: Tensor, temperature: float) -> Tensor:
    return raw.float() * AB_SCALE


@cache
def _hues(device: torch.device) -> Tensor:
    """Angles in the middle of the bins of hue, float32 (32,)."""
    return ((torch.arange(HISTOGRAM) + 0.5) * (2 * math.pi / HISTOGRAM)).to(device)


@cache
def _chromas(device: torch.device) -> Tensor:
    """Chroma in the middle of its bins, float32 (32,)."""
    return ((torch.arange(HISTOGRAM) + 0.5) * (HIGHEST_CHROMA / HISTOGRAM)).to(device)


def _spread(place: Tensor, circular: bool) -> tuple[Tensor, Tensor]:
    """The two bins beside each place (in units of bins, from the first's middle), and shares."""
    below = place.floor()
    share = place - below
    bins = torch.stack((below, below + 1), dim=1).long()
    bins = bins % HISTOGRAM if circular else bins.clamp(0, HISTOGRAM - 1)
    return bins, torch.stack((1 - share, share), dim=1)


def _cross_entropy(logits: Tensor, bins: Tensor, shares: Tensor) -> Tensor:
    return logits.logsumexp(dim=1) - (logits.gather(1, bins) * shares).sum(dim=1)


def _larsson_loss(raw: Tensor, ab: Tensor, weights: Tensor) -> dict[str, Tensor]:
    hue_logits, chroma_logits = raw.float().chunk(2, dim=1)
    chroma = ab.square().sum(dim=1).sqrt().clamp_max(HIGHEST_CHROMA - 1e-3)
    angle = torch.atan2(ab[:, 1], ab[:, 0]) % (2 * math.pi)
    hue = _cross_entropy(
        hue_logits, *_spread(angle * (HISTOGRAM / (2 * math.pi)) - 0.5, circular=True)
    )
    amount = _cross_entropy(
        chroma_logits, *_spread(chroma * (HISTOGRAM / HIGHEST_CHROMA) - 0.5, circular=False)
    )
    # The hue of a grey pixel means nothing, so it counts by the chroma.
    share = chroma / HIGHEST_CHROMA
    return {
        "loss": (HUE_WEIGHT * share * hue + amount).mean(),
        "hue": hue.mean().detach(),
        "chroma": amount.mean().detach(),
    }


def _larsson_decode(raw: Tensor, temperature: float) -> Tensor:
    """Median chroma and mean hue, with chromatic fading where the hues disagree."""
    hue_logits, chroma_logits = raw.float().chunk(2, dim=1)
    hues = torch.softmax(hue_logits / temperature, dim=1)
    angles = _hues(raw.device)
    direction = torch.einsum("bqhw,qc->bchw", hues, torch.stack((angles.cos(), angles.sin()), 1))
    agreement = direction.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
    chroma = _median(torch.softmax(chroma_logits, dim=1)).unsqueeze(1)
    return direction / agreement * chroma * (agreement / FADING).clamp_max(1)


def _median(shares: Tensor) -> Tensor:
    """The median chroma of histograms (B, 32, H, W), linear within its bin: (B, H, W)."""
    below = shares.cumsum(dim=1)
    index = (below < 0.5).sum(dim=1, keepdim=True).clamp_max(HISTOGRAM - 1)
    inside = shares.gather(1, index).clamp_min(1e-9)
    before = below.gather(1, index) - inside
    part = ((0.5 - before) / inside).clamp(0, 1)
    return ((index + part) * (HIGHEST_CHROMA / HISTOGRAM)).squeeze(1)


def _larsson_distribution(raw: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Hue and chroma taken as independent: 1,024 colours."""
    hue_logits, chroma_logits = raw.float().chunk(2, dim=1)
    hue = torch.softmax(hue_logits / temperature, dim=1)
    chroma = torch.softmax(chroma_logits / temperature, dim=1)
    angles, radii = _hues(raw.device), _chromas(raw.device)
    circle = torch.stack((angles.cos(), angles.sin()), dim=1)
    return (
        (hue.unsqueeze(2) * chroma.unsqueeze(1)).flatten(1, 2),
        (circle.unsqueeze(1) * radii[None, :, None]).flatten(0, 1),
    )


METHODS: Mapping[Method, ColourModel] = {
    "zhang": ColourModel(len(gamut_bins()), _zhang_loss, _zhang_decode, _zhang_distribution),
    "larsson": ColourModel(2 * HISTOGRAM, _larsson_loss, _larsson_decode, _larsson_distribution),
    "l2": ColourModel(2, _l2_loss, _l2_decode, None),
}
