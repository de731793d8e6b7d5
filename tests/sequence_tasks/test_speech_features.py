"""Features of sound equal those of python_speech_features."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from eightbit.sequence_tasks._speech.features import (
    Framing,
    log_mel,
    mel_filters,
    mfcc,
    normalised,
    power_spectrum,
    with_deltas,
)
from eightbit.sequence_tasks._speech.frontend import Frontend, Variation, padded

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import python_speech_features as peer


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("samples", [300, 5_003])
def test_features_equal_those_of_python_speech_features(rate: int, samples: int) -> None:
    sound = np.random.default_rng(0).normal(0, 1, samples)
    framing = Framing(rate)
    power = power_spectrum(torch.from_numpy(sound).float(), framing)
    how = {"samplerate": rate, "nfft": framing.fft, "winfunc": np.hamming}
    energies, _ = peer.fbank(sound, nfilt=40, **how)
    assert len(power) == framing.frames(samples) == len(energies)
    ours = log_mel(power, mel_filters(framing, 40)).numpy()
    assert np.allclose(ours, np.log(energies), atol=1e-3)
    cepstra = peer.mfcc(sound, nfilt=26, **how)
    assert np.allclose(mfcc(power, mel_filters(framing, 26)).numpy(), cepstra, atol=1e-3)
    slopes = with_deltas(torch.from_numpy(cepstra)).numpy()
    assert np.allclose(slopes[:, 13:26], peer.delta(cepstra, 2))
    assert np.allclose(slopes[:, 26:], peer.delta(peer.delta(cepstra, 2), 2))


def test_energies_do_not_lose_their_digits_under_autocast() -> None:
    sound = (np.random.default_rng(0).normal(0, 3_000, 8_000)).astype(np.int16)
    frontend = Frontend(Framing())
    plain = frontend.features(sound)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frontend.features(sound), plain)
    assert frontend.features(sound).mean(0).abs().max() < 1e-4
    assert torch.allclose(plain.std(0, correction=0), torch.ones(40), atol=1e-4)


@pytest.mark.parametrize("warp", [0.88, 0.95, 1.05, 1.12])
def test_a_warp_moves_all_filters_and_empties_none(warp: float) -> None:
    plain, warped = mel_filters(Framing(), 40), mel_filters(Framing(), 40, warp)
    assert (warped.sum(0) > 0).all()
    bins = torch.arange(len(plain), dtype=torch.float32)
    centres = [(one * bins[:, None]).sum(0) / one.sum(0) for one in (plain, warped)]
    moved = centres[1][10:28] / centres[0][10:28]
    assert torch.allclose(moved, torch.full_like(moved, warp), atol=0.02)


def test_silence_gives_numbers_and_a_variation_keeps_the_shape() -> None:
    assert torch.isfinite(Frontend(Framing()).features(np.zeros(4_000, np.int16))).all()
    sound = (np.random.default_rng(1).normal(0, 3_000, 16_000)).astype(np.int16)
    frontend = Frontend(Framing(), deltas=2)
    assert frontend.features(sound).shape == (99, 120)
    first, again, other = (
        frontend.features(sound, Variation(1.0, np.random.default_rng(seed))) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert first.shape[1] == 120 and 80 < len(first) < 125
    assert first.shape != other.shape or not torch.equal(first, other)
    batch, lengths = padded([first, other], 32)
    assert batch.shape[1] % 32 == 0 and lengths.tolist() == [len(first), len(other)]
    assert torch.equal(batch[0, : len(first)], first) and not batch[0, len(first) :].any()


def test_a_constant_feature_is_zero_when_normalised() -> None:
    assert not normalised(torch.full((9, 3), 4.0)).any()
