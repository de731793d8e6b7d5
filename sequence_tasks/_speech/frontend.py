"""What a network sees of an utterance, and how that is varied while it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .features import Framing, log_mel, mel_filters, normalised, power_spectrum, with_deltas

_FULL_SCALE = 32_768.0


@dataclass(frozen=True)
class Frontend:
    """The way from samples to features.

    Attributes:
        framing: how sound is cut.
        kind: log energies behind mel filters, or the logarithm of every bin of the spectrum.
        mels: filters of "mel".
        deltas: how many orders of slopes stand beside the features.
    """

    framing: Framing
    kind: Literal["mel", "spectrogram"] = "mel"
    mels: int = 40
    deltas: int = 0

    @property
    def size(self) -> int:
        """Features of a frame."""
        plain = self.mels if self.kind == "mel" else self.framing.fft // 2 + 1
        return plain * (1 + self.deltas)

    def features(self, samples: np.ndarray, variation: Variation | None = None) -> Tensor:
        """Features of one utterance, each with mean 0 and standard deviation 1 over it.

        Args:
            samples: int16, or float32 in [-1, 1], (n,) with n of at least 1.
            variation: how they are changed; None for as they are.

        Returns:
            float32 (T, size).
        """
        return self.finished(normalised(self.energies(samples, variation)), variation)

    def energies(self, samples: np.ndarray, variation: Variation | None = None) -> Tensor:
        """Log energies float32 (T, size without deltas), before they are normalised."""
        x = waveform(samples)
        step, warp = 0, 1.0
        if variation is not None:
            step, warp = variation.spacing(self.framing), variation.warp
            x = x + torch.from_numpy(variation.noise(len(samples))) * x.std(correction=0)
        power = power_spectrum(x, self.framing, step=step)
        if self.kind == "mel":
            return log_mel(power, mel_filters(self.framing, self.mels, warp))
        return torch.log(power.clamp(min=1e-12))

    def finished(self, normal: Tensor, variation: Variation | None = None) -> Tensor:
        """Normalised energies with what is hidden hidden, and with their slopes."""
        if variation is not None:
            normal = variation.hidden(normal)
        return with_deltas(normal, self.deltas) if self.deltas else normal


def waveform(samples: np.ndarray) -> Tensor:
    """int16 or float32 samples as float32 in [-1, 1]."""
    x = torch.from_numpy(np.asarray(samples, np.float32))
    return x / _FULL_SCALE if samples.dtype == np.int16 else x


class Variation:
    """One random change of an utterance: tempo, vocal tract, noise, hidden bands and spans.

    The vocal tract's length is changed as by Jaitly and Hinton 2013, bands of frequency and
    spans of time are hidden as in SpecAugment (Park 2019).

    Attributes:
        tempo: factor on the time between two frames.
        warp: factor on frequencies.

    Args:
        strength: of all of it; 0 for none, 1 for much.
        rng: draws it.
    """

    def __init__(self, strength: float, rng: np.random.Generator):
        self._rng = rng
        self._strength = strength
        self.tempo = float(rng.uniform(1 - 0.15 * strength, 1 + 0.15 * strength))
        # Few different values, so that their filters need not be made anew each time.
        self.warp = round(float(rng.uniform(1 - 0.12 * strength, 1 + 0.12 * strength)), 2)

    def spacing(self, framing: Framing) -> int:
        """Samples between two frames."""
        return round(framing.step * self.tempo)

    def level(self) -> float:
        """Change of the log energies by a louder or softer voice, in nats."""
        return float(self._rng.uniform(-1.5, 1.5)) * self._strength

    def noise(self, samples: int) -> np.ndarray:
        """White noise (samples,) float32, in units of the sound's own strength; often none."""
        if self._rng.random() >= 0.4 * self._strength:
            return np.zeros(samples, np.float32)
        level = 10 ** (-self._rng.uniform(5, 30) / 20)
        return self._rng.normal(0, level, samples).astype(np.float32)

    def hidden(self, features: Tensor) -> Tensor:
        """Features (T, D) with two bands, and a span in each second, set to their mean, 0."""
        features = features.clone()
        length, size = features.shape
        for _ in range(2):
            width = int(self._rng.integers(0, int(0.2 * size * self._strength) + 1))
            start = int(self._rng.integers(0, max(1, size - width)))
            features[:, start : start + width] = 0
        for _ in range(max(1, length // 100)):
            width = int(self._rng.integers(0, int(12 * self._strength) + 1))
            start = int(self._rng.integers(0, max(1, length - width)))
            features[start : start + width] = 0
        return features


def padded(features: Sequence[Tensor], multiple: int) -> tuple[Tensor, Tensor]:
    """Features (T_i, D) as one tensor (B, T, D), T a multiple, and their lengths int64 (B,)."""
    lengths = torch.tensor([len(one) for one in features])
    steps = -(-int(lengths.max()) // multiple) * multiple
    rows = torch.zeros(len(features), steps, features[0].shape[1])
    for row, one in enumerate(features):
        rows[row, : len(one)] = one
    return rows, lengths
