"""Mixtures of Gaussians against NumPy, and training from a flat start."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from eightbit.datasets.lexicons import DIGITS, Lexicon
from eightbit.datasets.sounds import read_sound
from eightbit.errors import DataError
from eightbit.sequence_tasks._speech.features import (
    Framing,
    mel_filters,
    mfcc,
    normalised,
    power_spectrum,
    with_deltas,
)
from eightbit.sequence_tasks.speech_hybrid.flat_start import (
    Schedule,
    TrainedGMM,
    align,
    train_gmm,
)
from eightbit.sequence_tasks.speech_hybrid.gmm import DiagonalGMM, Occupied, Statistics
from eightbit.sequence_tasks.speech_hybrid.graphs import batch_graphs, utterance_graph
from eightbit.sequence_tasks.speech_hybrid.hmm import forward_backward

FSDD = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "fsdd"
needs_fsdd = pytest.mark.skipif(
    not FSDD.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds fsdd"
)
RAGGED = [3, 1, 4, 2]


def ragged(dims: int = 5, seed: int = 0) -> DiagonalGMM:
    """Four states with 3, 1, 4 and 2 Gaussians."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((4, 4))
    for state, count in enumerate(RAGGED):
        weights[state, :count] = rng.dirichlet(np.ones(count))
    means = rng.normal(size=(4, 4, dims))
    variances = rng.uniform(0.1, 2.0, (4, 4, dims))
    with np.errstate(divide="ignore"):
        parts = (np.log(weights), means, variances)
    return DiagonalGMM(*(torch.from_numpy(part).float() for part in parts))


def by_hand(gmm: DiagonalGMM, frames: np.ndarray) -> np.ndarray:
    """Logarithms of weight times density, (N, K, M) float64; the Gaussians' own formula."""
    weights, means, variances = (
        part.double().numpy() for part in (gmm.weights, gmm.means, gmm.variances)
    )
    off = frames[:, None, None].astype(np.float64) - means
    logs = -0.5 * (off**2 / variances + np.log(2 * np.pi * variances)).sum(-1)
    with np.errstate(divide="ignore"):
        return logs + np.log(weights)


@pytest.mark.parametrize("count", [1, 1500])
def test_log_likelihood_equals_the_formula(count: int) -> None:
    gmm = ragged()
    frames = np.random.default_rng(1).normal(size=(count, 5)).astype(np.float32) * 3
    wanted = np.logaddexp.reduce(by_hand(gmm, frames), axis=2)
    found = gmm.log_likelihood(torch.from_numpy(frames))
    assert found.shape == (count, 4) and found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-3)


def test_far_frames_have_finite_likelihoods() -> None:
    assert torch.isfinite(ragged().log_likelihood(torch.full((3, 5), 1e4))).all()


def test_statistics_and_update_equal_the_formula() -> None:
    gmm, rng = ragged(), np.random.default_rng(2)
    frames = rng.normal(size=(400, 5)).astype(np.float32)
    occupancies = rng.dirichlet(np.ones(4), 400).astype(np.float32)
    occupancies[:7, 0] = 1e-5  # too little to count
    occupied = Occupied.of(torch.from_numpy(occupancies), torch.arange(400))
    logs = by_hand(gmm, frames)
    shares = np.exp(logs - np.logaddexp.reduce(logs, axis=2)[..., None])
    shares *= np.where(occupancies < 1e-4, 0, occupancies)[..., None]
    found = gmm.statistics(torch.from_numpy(frames), occupied)
    counts = shares.sum(0)
    first = np.einsum("nkm,nd->kmd", shares, frames.astype(np.float64))
    second = np.einsum("nkm,nd->kmd", shares, frames.astype(np.float64) ** 2)
    for got, wanted in zip(found, (counts, first, second), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-3, atol=1e-3)
    floor = torch.full((5,), 0.5)
    new = gmm.updated(found, floor, least_count=0.0)
    used = np.isfinite(gmm.log_weights.numpy())
    means = first[used] / counts[used][:, None]
    variances = second[used] / counts[used][:, None] - means**2
    np.testing.assert_allclose(new.means.numpy()[used], means, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        new.variances.numpy()[used], np.maximum(variances, 0.5), rtol=2e-3, atol=2e-3
    )
    np.testing.assert_allclose(new.weights.sum(1).numpy(), 1, rtol=1e-5)
    assert (new.gaussians == gmm.gaussians).all()


def test_occupancies_of_parts_join_by_state() -> None:
    whole = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    whole[whole < 0.5] = 0
    frames = torch.arange(100, 130)
    once = Occupied.of(whole, frames)
    joined = Occupied.joined(
        [Occupied.of(whole[:11], frames[:11]), Occupied.of(whole[11:], frames[11:])]
    )
    assert once.sizes == joined.sizes == (whole > 0).sum(0).tolist()
    assert torch.equal(once.frames, joined.frames) and torch.equal(once.weights, joined.weights)
    assert torch.equal(once.weights, whole.T[whole.T > 0])


def test_the_likelihood_never_falls_under_updates() -> None:
    rng = np.random.default_rng(3)
    frames = torch.from_numpy(rng.normal(size=(500, 5)) * rng.uniform(0.3, 2, (500, 1))).float()
    whole = Occupied(torch.arange(500), torch.ones(500), [0, 0, 500, 0])
    gmm, scores = ragged(), []
    for _ in range(12):
        scores.append(float(gmm.log_likelihood(frames)[:, 2].sum()))
        gmm = gmm.updated(gmm.statistics(frames, whole), torch.full((5,), 1e-4), 0.0)
    assert (np.diff(scores) > -1e-2).all() and scores[-1] > scores[0] + 50


def test_light_gaussians_are_left_out_and_unseen_states_stay() -> None:
    gmm = ragged()
    counts = torch.zeros(4, 4, dtype=torch.float64)
    counts[0, :3] = torch.tensor([50.0, 0.5, 30.0])
    counts[2, :4] = torch.tensor([0.9, 0.8, 0.7, 0.7])  # 3.1 in all: the heaviest one remains
    sums = counts[..., None] * gmm.means.double()
    squares = counts[..., None] * (gmm.means.double() ** 2 + gmm.variances)
    new = gmm.updated(Statistics(counts, sums, squares), torch.full((5,), 1e-3))
    assert new.gaussians.tolist() == [2, 1, 4, 2]  # state 2 has 0.9 < 3 frames: as it was
    torch.testing.assert_close(new.weights[0, :2], torch.tensor([50 / 80, 30 / 80]))
    torch.testing.assert_close(new.means[0, :2], gmm.means[0, [0, 2]])
    for state in (1, 2, 3):
        torch.testing.assert_close(
            new.means[state, : RAGGED[state]], gmm.means[state, : RAGGED[state]]
        )


def test_splitting_keeps_weight_and_mean_and_takes_the_heaviest() -> None:
    gmm = ragged()
    counts = gmm.weights.double() * 1000
    wide = gmm.split(torch.tensor([6, 2, 8, 2]), counts)
    assert wide.gaussians.tolist() == [6, 2, 8, 2]
    torch.testing.assert_close(wide.weights.sum(1), torch.ones(4))
    mean = (gmm.weights[..., None] * gmm.means).sum(1)
    torch.testing.assert_close((wide.weights[..., None] * wide.means).sum(1), mean)
    two = gmm.split(torch.tensor([3, 2, 4, 2]), counts)
    apart = (two.means[1, 1] - two.means[1, 0]) / gmm.variances[1, 0].sqrt()
    torch.testing.assert_close(apart, torch.full((5,), 0.4))
    few = gmm.split(torch.full((4,), 4), torch.where(counts > 0, 39.0, 0.0).double())
    assert few.gaussians.tolist() == RAGGED


WORDS = Lexicon({"ON": (("A", "B"),), "OFF": (("B", "C"), ("C",)), "UP": (("C", "A"),)})


def spoken(count: int, seed: int) -> tuple[list[np.ndarray], list[list[str]], list[np.ndarray]]:
    """Words spoken by a machine: features (T, 6), words, and the phone of every frame."""
    rng = np.random.default_rng(seed)
    names = ["A", "B", "C", "SIL"]
    means = dict(zip(names, np.random.default_rng(0).normal(size=(4, 6)) * 3, strict=True))
    features, texts, phones = [], [], []
    for _ in range(count):
        said = [str(word) for word in rng.choice(["ON", "OFF", "UP"], rng.integers(1, 5))]
        order = ["SIL"]
        for word in said:
            ways = WORDS.pronunciations[word]
            order += [*ways[rng.integers(len(ways))], *(["SIL"] if rng.random() < 0.3 else [])]
        order += ["SIL"]
        frames = [phone for phone in order for _ in range(rng.integers(4, 11))]
        noise = rng.normal(size=(len(frames), 6))
        features.append((np.array([means[p] for p in frames]) + noise).astype(np.float32))
        texts.append(said)
        phones.append(np.array(frames))
    return features, texts, phones


QUICK = Schedule(gaussians=2, silence_gaussians=4, flat_passes=3, passes=3, last_passes=3)


def phone_accuracy(model: TrainedGMM, features: list, words: list, phones: list) -> float:
    found = align(model, features, words)
    names = np.array([name.split(".")[0] for name in model.topology.state_names])
    return float(np.mean(np.concatenate([names[f] for f in found]) == np.concatenate(phones)))


def test_a_flat_start_finds_the_phones() -> None:
    features, words, phones = spoken(120, seed=1)
    lines: list[str] = []
    model = train_gmm(features, words, WORDS, QUICK, lines.append)
    assert len(lines) == 4 and "nats a frame" in lines[0]
    scores = [float(line.split(": ")[1].split()[0]) for line in lines]
    assert scores == sorted(scores)
    assert phone_accuracy(model, *spoken(30, seed=2)) > 0.97
    assert model.gmm.gaussians.max() <= 4
    # A phone lasts 7 frames, so its three states are left 3 times in 7.
    seen = model.topology.chain(["A", "B", "C"])
    assert float(model.staying[seen].mean()) == pytest.approx(4 / 7, abs=0.08)


def test_training_is_repeatable_and_every_number_is_kept() -> None:
    features, words, _ = spoken(25, seed=3)
    one, two = (train_gmm(features, words, WORDS, QUICK) for _ in range(2))
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, two.tensors()[name])
    again = TrainedGMM.from_tensors(one.tensors(), Lexicon.from_told(WORDS.told()))
    frames = torch.from_numpy(features[0])
    assert torch.equal(again.log_likelihood(frames), one.log_likelihood(frames))
    for old, new in zip(align(one, features, words), align(again, features, words), strict=True):
        np.testing.assert_array_equal(old, new)


def test_short_utterances_are_left_out_and_have_no_alignment() -> None:
    features, words, _ = spoken(25, seed=4)
    lines: list[str] = []
    short = [*features, features[0][:5]], [*words, ["ON"]]
    model = train_gmm(*short, WORDS, QUICK, lines.append)
    assert lines[0] == "1 utterances too short for their words are left out"
    found = align(model, *short)
    assert (found[-1] == -1).all() and all((one >= 0).all() for one in found[:-1])
    assert found[0].dtype == np.int16 and len(found[0]) == len(features[0])


def test_unknown_words_and_only_short_utterances_are_refused() -> None:
    features, words, _ = spoken(3, seed=5)
    with pytest.raises(DataError, match="lacks IN"):
        train_gmm(features, [["IN"], *words[1:]], WORDS, QUICK)
    with pytest.raises(DataError, match="no utterance has the three frames a phone"):
        train_gmm([one[:4] for one in features], words, WORDS, QUICK)


def test_phones_that_nobody_says_leave_numbers_finite() -> None:
    features, words, _ = spoken(25, seed=6)
    rich = Lexicon({**WORDS.pronunciations, "ZOO": (("Z", "OO"),)})
    model = train_gmm(features, words, rich, QUICK)
    assert all(torch.isfinite(part).all() for part in (model.gmm.means, model.staying))
    assert torch.isfinite(model.log_likelihood(torch.from_numpy(features[0]))).all()


def test_a_frame_of_constant_features_does_no_harm() -> None:
    """Digital silence has no variance at all."""
    features, words, _ = spoken(25, seed=7)
    for one in features:
        one[:4] = 0.0
        one[:, 5] = 1.0
    model = train_gmm(features, words, WORDS, QUICK)
    assert math.isfinite(float(model.log_likelihood(torch.from_numpy(features[0])).sum()))


def digits(indices: range) -> tuple[list[np.ndarray], list[int]]:
    """MFCC with deltas, and the digit, of recordings of one speaker."""
    framing, features, said = Framing(8000), [], []
    with zipfile.ZipFile(FSDD / "recordings.zip") as archive:
        names = {Path(name).stem: name for name in archive.namelist()}
        for digit in range(10):
            for index in indices:
                sound = read_sound(archive.read(names[f"{digit}_jackson_{index}"]), 8000)
                power = power_spectrum(torch.from_numpy(sound.samples), framing)
                coefficients = mfcc(power, mel_filters(framing, 26))
                features.append(normalised(with_deltas(coefficients)).numpy())
                said.append(digit)
    return features, said


@needs_fsdd
def test_real_digits_are_told_apart_by_their_likelihoods() -> None:
    names = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
    features, said = digits(range(5, 20))
    model = train_gmm(features, [[names[digit]] for digit in said], DIGITS, QUICK)
    tried, true = digits(range(5))
    graphs = [utterance_graph(model.topology, [DIGITS.pronunciations[name]]) for name in names]
    right = 0
    for one, digit in zip(tried, true, strict=True):
        emissions = model.log_likelihood(torch.from_numpy(one)).expand(10, -1, -1)
        lengths = torch.full((10,), len(one))
        found = forward_backward(emissions, batch_graphs(graphs), lengths, model.transitions)
        right += int(found.log_likelihood.argmax()) == digit
    assert right >= 45  # chance is 5 of 50
