"""What the acoustic models see: MFCC for the GMM, windows of log-mel for the network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .._speech.features import Framing, mel_filters, mfcc, normalised, power_spectrum, with_deltas
from .._speech.frontend import Frontend

GMM_FEATURES = 39
_GMM_MELS = 26


def frontend_of(rate: int) -> Frontend:
    """The network's features: 40 log-mel energies with slopes and the slopes of these."""
    return Frontend(Framing(rate), deltas=2)


def gmm_features(samples: np.ndarray, rate: int) -> Tensor:
    """13 MFCC with slopes and the slopes of these, normalised over the utterance.

    Args:
        samples: int16 (n,), or float32 in [-1, 1].
        rate: samples a second.

    Returns:
        float32 (T, 39).
    """
    framing = Framing(rate)
    x = torch.from_numpy(np.asarray(samples, np.float32))
    power = power_spectrum(x / 32_768 if samples.dtype == np.int16 else x, framing)
    cepstra = mfcc(power, mel_filters(framing, _GMM_MELS))
    return normalised(with_deltas(cepstra))


def windows_of(features: Tensor, window: int) -> Tensor:
    """Each frame of (T, F) with those around it, the ends repeated outwards: (T, window * F)."""
    reach = window // 2
    around = torch.arange(-reach, reach + 1, device=features.device)
    places = torch.arange(len(features), device=features.device)[:, None] + around
    return features[places.clamp(0, len(features) - 1)].flatten(1)
