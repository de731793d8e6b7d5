"""Contrastive divergence against enumerations of all states of tiny machines."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eightbit.backbones import create_backbone
from eightbit.errors import TrainingError, UsageError
from eightbit.sequence_tasks.speech_hybrid.rbm import (
    RBM,
    Pretraining,
    contrastive_divergence,
    new_rbm,
    pretrain,
    train_rbm,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(visible: int, hidden: int, gaussian: bool, seed: int = 0) -> RBM:
    parts = (torch.randn(shape, generator=seeded(seed)) for shape in ((hidden, visible), hidden))
    weight, bias = parts
    return RBM(weight, bias, torch.randn(visible, generator=seeded(seed + 1)), gaussian)


def states(units: int) -> np.ndarray:
    return np.array(list(itertools.product((0.0, 1.0), repeat=units)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def as_arrays(rbm: RBM) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = (rbm.weight, rbm.hidden_bias, rbm.visible_bias)
    weight, hidden, visible = (part.double().numpy() for part in parts)
    return weight, hidden, visible


@pytest.mark.parametrize("gaussian", [False, True])
def test_free_energy_and_probabilities_are_sums_over_all_hidden_states(gaussian: bool) -> None:
    rbm = drawn(4, 3, gaussian)
    w, b, a = as_arrays(rbm)
    v = states(4) if not gaussian else np.random.default_rng(0).normal(size=(9, 4))
    h = states(3)
    own = -v @ a if not gaussian else ((v - a) ** 2).sum(1) / 2
    energy = own[:, None] - h @ b - v @ w.T @ h.T
    total = np.exp(-energy).sum(1)
    found = torch.from_numpy(v).float()
    np.testing.assert_allclose(rbm.free_energy(found).numpy(), -np.log(total), rtol=1e-4, atol=1e-5)
    on = np.exp(-energy) @ h / total[:, None]
    np.testing.assert_allclose(rbm.hidden(found).numpy(), on, rtol=1e-4, atol=1e-6)
    if not gaussian:  # the other way round: visible units given the hidden ones
        chance = np.exp(-energy) / np.exp(-energy).sum(0)
        means = rbm.visible(torch.from_numpy(h).float()).numpy()
        np.testing.assert_allclose(means, chance.T @ v, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_mean_of_many_steps_is_the_expectation_over_all_hidden_states(gaussian: bool) -> None:
    rbm = drawn(3, 2, gaussian)
    w, b, a = as_arrays(rbm)
    v = np.array([0.3, -1.2, 0.8]) if gaussian else np.array([1.0, 0.0, 1.0])
    driven = sigmoid(w @ v + b)
    want = [np.outer(driven, v), driven.copy(), v.copy()]
    for h in states(2):
        chance = np.prod(np.where(h == 1, driven, 1 - driven))
        again = h @ w + a if gaussian else sigmoid(h @ w + a)
        answer = sigmoid(w @ again + b)
        for part, value in zip(want, (np.outer(answer, again), answer, again), strict=True):
            part -= chance * value
    many = torch.from_numpy(v).float().expand(200_000, -1)
    gradient, _ = contrastive_divergence(rbm, many, seeded(5))
    for part, value in zip(gradient, want, strict=True):
        np.testing.assert_allclose(part.numpy(), value, atol=0.01)


def test_the_direction_is_near_that_of_the_exact_likelihood() -> None:
    data = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1]])
    every = torch.from_numpy(states(4)).float()
    for seed in range(5):
        rbm = drawn(4, 3, False, seed)
        parameters = [rbm.weight, rbm.hidden_bias, rbm.visible_bias]
        for part in parameters:
            part.mul_(0.5).requires_grad_(True)
        normal = torch.logsumexp(-rbm.free_energy(every), 0)
        likelihood = (-rbm.free_energy(data) - normal).mean()
        exact = torch.cat([g.flatten() for g in torch.autograd.grad(likelihood, parameters)])
        for part in parameters:
            part.requires_grad_(False)
        gradient, _ = contrastive_divergence(rbm, data.repeat(5000, 1), seeded(seed))
        ours = torch.cat([g.flatten() for g in gradient])
        assert torch.cosine_similarity(exact, ours, dim=0) > 0.8


def patterns(step: int) -> Tensor:
    """Numbers with a mean near 0 and a variance near 1 that lie in a plane."""
    values = torch.randn(64, 2, generator=seeded(step))
    turn = torch.randn(2, 12, generator=seeded(-1 % 2**31))
    x = values @ turn
    return x / x.square().mean().sqrt()


def test_training_learns_the_data_layer_by_layer() -> None:
    network = create_backbone("mlp", (12,), hidden=(24, 16), activation="sigmoid", seed=0)
    layers = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
    settings = Pretraining(steps=200, first_steps=300, rate=0.2, first_rate=0.02)
    lines: list[str] = []
    first, second = pretrain(layers, patterns, settings, seeded(0), lines.append)
    assert (len(first), len(second)) == (300, 200)
    assert np.mean(first[-50:]) < 0.4 * np.mean(first[:5])
    assert np.mean(second[-50:]) < 0.8 * np.mean(second[:5])
    assert lines[0].startswith("layer 1 of 2: 300 steps, error of the reconstruction from")
    assert len(lines) == 2
    # The network computes what the machines do.
    x = patterns(3)
    below = RBM(layers[0].weight.data, layers[0].bias.data, torch.zeros(12), True)
    above = RBM(layers[1].weight.data, layers[1].bias.data, torch.zeros(24), False)
    with torch.no_grad():
        torch.testing.assert_close(network(x), above.hidden(below.hidden(x)))


def test_training_raises_the_exact_likelihood() -> None:
    data = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 1, 1, 1, 0]]).repeat(20, 1)
    every = torch.from_numpy(states(5)).float()
    rbm = new_rbm(5, 4, seeded(0))

    def likelihood() -> float:
        return float((-rbm.free_energy(data)).mean() - torch.logsumexp(-rbm.free_energy(every), 0))

    before = likelihood()
    train_rbm(rbm, lambda step: data, Pretraining(steps=600, rate=0.1), seeded(1))
    assert before == pytest.approx(5 * np.log(0.5), abs=0.05)
    assert likelihood() > -2.0  # nothing is above log(1/3)


def test_the_generator_alone_decides_the_result() -> None:
    found = []
    torch_state = torch.get_rng_state()
    for seed in (1, 1, 2):
        layers = [nn.Linear(12, 6), nn.Linear(6, 5)]
        pretrain(layers, patterns, Pretraining(steps=5, first_steps=5), seeded(seed))
        found.append(torch.cat([p.detach().flatten() for layer in layers for p in (layer.weight,)]))
        torch.set_rng_state(torch_state) if seed == 2 else None
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_momentum_and_decay_are_those_of_the_formula() -> None:
    """With one hidden state that is certain nothing is drawn: two steps by hand."""
    rbm = RBM(torch.zeros(1, 2), torch.full((1,), 90.0), torch.zeros(2), True)
    rbm.weight.fill_(0.1)
    settings = Pretraining(first_steps=2, first_rate=0.5, momentum=0.9, decay=0.01)
    train_rbm(rbm, lambda step: torch.tensor([[1.0, -1.0]]), settings, seeded(0))
    w, a, cw, ca = np.full(2, 0.1), np.zeros(2), np.zeros(2), np.zeros(2)
    v = np.array([1.0, -1.0])
    for step in range(2):
        m = 0.5 if step < 0.2 else 0.9
        difference = v - (w + a)
        cw, ca = m * cw + 0.5 * (difference - 0.01 * w), m * ca + 0.5 * difference
        w, a = w + cw, a + ca
    np.testing.assert_allclose(rbm.weight[0].numpy(), w, rtol=1e-5)
    np.testing.assert_allclose(rbm.visible_bias.numpy(), a, rtol=1e-5)


def test_a_rate_that_is_too_large_is_named() -> None:
    settings = Pretraining(steps=1, first_steps=500, first_rate=30.0)
    with pytest.raises(TrainingError, match="diverges at a learning rate of 30; take a smaller"):
        pretrain([nn.Linear(12, 30)], patterns, settings, seeded(0))


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([], "at least one layer"),
        (
            [nn.Linear(11, 4)],
            "layer 1 to pre-train must take 12 numbers and have biases; it takes 11",
        ),
        ([nn.Linear(12, 4), nn.Linear(5, 4)], "layer 2 to pre-train must take 4"),
        ([nn.Linear(12, 4, bias=False)], "it takes 12 and has none"),
    ],
)
def test_layers_that_do_not_fit(layers: list[nn.Linear], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        pretrain(layers, patterns, Pretraining(), seeded(0))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "at least one step"),
        ({"rate": 0.0}, "learning rates of pre-training must be above 0"),
        ({"momentum": 1.0}, "momentum is in 0..1, below 1"),
        ({"decay": -1.0}, "weight decay is 0 or more"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Pretraining(**settings)  # type: ignore[arg-type]
