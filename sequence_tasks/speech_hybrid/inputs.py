"""What the acoustic models see: MFCC for the GMM, windows of log-mel for the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from .._speech.features import Framing, mel_filters, mfcc, power_spectrum, with_deltas
from .._speech.frontend import Frontend, waveform

CEPSTRA = 13
GMM_FEATURES = 3 * CEPSTRA
_GMM_MELS = 26
_QUIET = 5.0
"""nats of energy below the loudest frame of an utterance, from which on it counts as silence"""
_PRIOR_FRAMES = 100.0
"""frames of the training data's statistics that a speaker's begin with"""


def frontend_of(rate: int) -> Frontend:
    """The network's features: 40 log-mel energies with slopes and the slopes of these."""
    return Frontend(Framing(rate), deltas=2)


def cepstra_of(samples: np.ndarray, rate: int) -> Tensor:
    """13 MFCC, not normalised, float32 (T, 13), of int16 or float32 samples (n,)."""
    framing = Framing(rate)
    power = power_spectrum(waveform(samples), framing)
    return mfcc(power, mel_filters(framing, _GMM_MELS), CEPSTRA)


def gmm_features(cepstra: Tensor) -> Tensor:
    """Normalised MFCC with slopes and the slopes of these: float32 (T, 39)."""
    return with_deltas(cepstra)


def windows_of(features: Tensor, window: int) -> Tensor:
    """Each frame of (T, F) with those around it, the ends repeated outwards: (T, window * F)."""
    reach = window // 2
    around = torch.arange(-reach, reach + 1, device=features.device)
    places = torch.arange(len(features), device=features.device)[:, None] + around
    return features[places.clamp(0, len(features) - 1)].flatten(1)


class Speakers:
    """Mean and deviation of features by speaker, over all that was heard of each so far.

    A single short word says little of a voice and a room: its mean is that of its sounds. Over
    many words these differ no longer, and what is left is the speaker.

    Args:
        mean, variance: (D,), of all training frames; what an unknown speaker begins with.
    """

    def __init__(self, mean: Tensor, variance: Tensor):
        mean, variance = mean.double().cpu(), variance.double().cpu()
        count = torch.ones(1, dtype=torch.float64)
        self._prior = _PRIOR_FRAMES * torch.cat([count, mean, mean.square() + variance])
        self._sums: dict[str, Tensor] = {}

    def hear(self, speaker: str, features: Tensor) -> None:
        """Takes features (T, D) of a speaker into account."""
        rows = loud(features).double().cpu()
        count = torch.full((1,), float(len(rows)), dtype=torch.float64)
        found = torch.cat([count, rows.sum(0), rows.square().sum(0)])
        self._sums[speaker] = self._sums.get(speaker, self._prior) + found

    def heard(self, speakers: Sequence[str], features: Sequence[Tensor]) -> list[Tensor]:
        """Takes all features (T, D) into account, then gives each normalised by its speaker."""
        for speaker, one in zip(speakers, features, strict=True):
            self.hear(speaker, one)
        return [
            self.normalised(speaker, one) for speaker, one in zip(speakers, features, strict=True)
        ]

    def normalised(self, speaker: str, features: Tensor) -> Tensor:
        """Features (T, D) less the speaker's mean, in units of the speaker's deviation."""
        sums = self._sums.get(speaker, self._prior)
        size = features.shape[1]
        mean = sums[1 : 1 + size] / sums[0]
        spread = (sums[1 + size :] / sums[0] - mean.square()).clamp(min=1e-6).sqrt()
        return (features - mean.float()) / spread.float()


def loud(features: Tensor) -> Tensor:
    """The frames of an utterance (T, D) that are speech for sure: the louder ones.

    How much silence a recording has must not move the mean of its speaker's features.
    """
    level = features[:, 0] if features.shape[1] == CEPSTRA else features.logsumexp(1)
    return features[level > level.max() - _QUIET]


def moments(features: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance (D,) float32 of all frames of features (T, D)."""
    rows = torch.cat([loud(one) for one in features]).double()
    return rows.mean(0).float(), rows.var(0, correction=0).float()
