"""From samples to what an acoustic model sees: power spectra, log-mel energies, MFCC, deltas."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

PREEMPHASIS = 0.97
LIFTER = 22
_FLOOR = float(torch.finfo(torch.float64).eps)
"""stands for an energy of zero before a logarithm, as in python_speech_features"""


@dataclass(frozen=True)
class Framing:
    """How sound is cut into frames; frame t begins at sample t * `step`.

    Attributes:
        rate: samples a second.
        window: seconds of a frame.
        hop: seconds between the beginnings of two frames.
        points: of the Fourier transform; 0 for twice the power of two that holds a frame: the
            zeros behind it make bins narrow enough for the lowest of 40 mel filters.
    """

    rate: int = 16_000
    window: float = 0.025
    hop: float = 0.010
    points: int = 0

    @property
    def width(self) -> int:
        """Samples of a frame."""
        return round(self.window * self.rate)

    @property
    def step(self) -> int:
        """Samples between the beginnings of two frames."""
        return round(self.hop * self.rate)

    @property
    def fft(self) -> int:
        """Points of the Fourier transform."""
        return self.points or 2 << (self.width - 1).bit_length()

    def frames(self, samples: int) -> int:
        """Frames of a sound; what is left of the last one is filled with zeros."""
        return 1 + max(0, -(-(samples - self.width) // self.step))


def power_spectrum(
    samples: Tensor, framing: Framing, *, preemphasis: float = PREEMPHASIS, step: int = 0
) -> Tensor:
    """Power of each frame, windowed by Hamming's.

    Args:
        samples: float32 (..., n), n of at least 1.
        framing: how it is cut.
        preemphasis: share of the sample before that is taken off each sample.
        step: samples between two frames in the place of the framing's, for a change of tempo.

    Returns:
        float32 (..., T, fft / 2 + 1): |X|^2 / fft.
    """
    step = step or framing.step
    emphasised = torch.cat(
        [samples[..., :1], samples[..., 1:] - preemphasis * samples[..., :-1]], dim=-1
    )
    frames = 1 + max(0, -(-(samples.shape[-1] - framing.width) // step))
    missing = (frames - 1) * step + framing.width - samples.shape[-1]
    cut = F.pad(emphasised, (0, max(0, missing))).unfold(-1, framing.width, step)
    window = torch.hamming_window(framing.width, periodic=False)
    spectrum = torch.fft.rfft(cut[..., :frames, :] * window, framing.fft)
    return (spectrum.real.square() + spectrum.imag.square()) / framing.fft


@lru_cache(maxsize=512)
def mel_filters(framing: Framing, count: int = 40, warp: float = 1.0) -> Tensor:
    """Triangles that are equally wide on the mel scale.

    Args:
        framing: of the spectrum.
        count: of filters, between 0 Hz and half of the rate.
        warp: factor on frequencies, of a longer or shorter vocal tract (Jaitly and Hinton 2013);
            above 80 % of the band the map bends so that its end stays.

    Returns:
        float32 (fft / 2 + 1, count).
    """
    highest = framing.rate / 2
    mels = torch.linspace(0, 2595 * math.log10(1 + highest / 700), count + 2, dtype=torch.float64)
    hertz = 700 * (10 ** (mels / 2595) - 1)
    knee = 0.8 * highest * min(1.0, 1 / warp)
    bent = highest - (highest - warp * knee) / (highest - knee) * (highest - hertz)
    hertz = torch.where(hertz <= knee, warp * hertz, bent)
    edges = torch.floor((framing.fft + 1) * hertz / framing.rate)
    low, centre, high = (edges[i : count + i, None] for i in range(3))
    bins = torch.arange(framing.fft // 2 + 1, dtype=torch.float64)
    rise = (bins - low) / (centre - low).clamp(min=1)
    fall = (high - bins) / (high - centre).clamp(min=1)
    inside = (bins >= low) & (bins < high)
    return torch.where(inside, torch.where(bins < centre, rise, fall), 0.0).float().T.contiguous()


def log_mel(power: Tensor, filters: Tensor) -> Tensor:
    """Log energies (..., T, count) of a power spectrum (..., T, bins) behind filters."""
    with full_precision(power):
        return torch.log((power @ filters).clamp(min=_FLOOR))


def full_precision(like: Tensor) -> AbstractContextManager:
    """Switches off autocast: the energies of a spectrum span more than bf16 tells apart."""
    return torch.autocast(like.device.type, enabled=False)


def mfcc(power: Tensor, filters: Tensor, count: int = 13) -> Tensor:
    """Mel-frequency cepstral coefficients (Davis and Mermelstein 1980).

    The first one is replaced by the log of the frame's energy.

    Args:
        power: float32 (..., T, bins).
        filters: float32 (bins, M).
        count: coefficients kept.

    Returns:
        float32 (..., T, count).
    """
    size = filters.shape[1]
    places = torch.arange(size, dtype=torch.float64)
    orders = torch.arange(count, dtype=torch.float64)[:, None]
    cosines = torch.cos(math.pi / size * (places + 0.5) * orders) * math.sqrt(2 / size)
    cosines[0] /= math.sqrt(2)
    lifter = 1 + LIFTER / 2 * torch.sin(math.pi * orders / LIFTER)
    with full_precision(power):
        coefficients = log_mel(power, filters) @ (cosines * lifter).float().T
    energy = torch.log(power.sum(-1).clamp(min=_FLOOR))
    return torch.cat([energy[..., None], coefficients[..., 1:]], dim=-1)


def with_deltas(features: Tensor, orders: int = 2, reach: int = 2) -> Tensor:
    """Features (..., T, D) beside their slopes and the slopes of these: (..., T, D * (1 + orders)).

    A slope is that of the line through 2 * `reach` + 1 frames; the ends are repeated outwards.
    """
    parts = [features]
    length = features.shape[-2]
    weight = 2 * sum(n * n for n in range(1, reach + 1))
    for _ in range(orders):
        last = parts[-1]
        places = torch.arange(-reach, length + reach).clamp(0, length - 1)
        wide = last[..., places, :]
        shifted = [wide[..., start : start + length, :] for start in range(2 * reach + 1)]
        parts.append(
            torch.stack(
                [n * (shifted[reach + n] - shifted[reach - n]) for n in range(1, reach + 1)]
            ).sum(0)
            / weight
        )
    return torch.cat(parts, dim=-1)


def normalised(features: Tensor) -> Tensor:
    """Features (T, D) of one utterance with mean 0 and standard deviation 1 in each dimension."""
    mean = features.mean(-2, keepdim=True)
    spread = (features - mean).square().mean(-2, keepdim=True).sqrt()
    return (features - mean) / spread.clamp(min=1e-3)
