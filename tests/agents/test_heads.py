"""ActionHead and NoisyLinear: shapes, streams, gradients, and the statistics of learnt noise."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from eightbit.agents.heads import ActionHead, NoisyLinear, action_head, sample_noise
from eightbit.agents.methods import find_method
from eightbit.agents.methods.dqn import MeanHead
from eightbit.agents.networks import QNetwork, Twin
from eightbit.agents.options import METHODS, DQNOptions
from eightbit.agents.parts import build_network
from eightbit.agents.replay import Batch
from eightbit.agents.update import gradient_step

SIZES = [(0, False, 0.0), (16, False, 0.5), (0, True, 0.5), (16, True, 0.0), (16, True, 0.5)]


@pytest.fixture(autouse=True)
def weights_repeat():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("outputs", [1, 7])
@pytest.mark.parametrize(("hidden", "dueling", "sigma"), SIZES)
def test_head_gives_k_numbers_an_action_and_gradients_reach_every_weight(
    hidden, dueling, sigma, outputs
):
    head = ActionHead(12, 5, outputs, hidden=hidden, dueling=dueling, noisy_sigma=sigma)
    sample_noise(head, generator())
    out = head(torch.randn(9, 12))
    assert out.shape == (9, 5, outputs) and out.dtype == torch.float32
    (out * torch.randn(out.shape)).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("hidden", "dueling", "sigma"), SIZES)
def test_a_row_does_not_depend_on_the_others(hidden, dueling, sigma):
    head = ActionHead(12, 5, 3, hidden=hidden, dueling=dueling, noisy_sigma=sigma)
    sample_noise(head, generator())
    features = torch.randn(9, 12)
    others = torch.cat([features[:1], torch.randn(8, 12)])
    torch.testing.assert_close(head(features)[0], head(others)[0], rtol=1e-5, atol=1e-6)


def test_options_choose_the_head():
    plain = action_head(8, 3, 2, DQNOptions())
    assert not any(isinstance(layer, NoisyLinear) for layer in plain.modules())
    assert plain.value is None and len(list(plain.parameters())) == 2
    options = DQNOptions(head_hidden=16, dueling=True, noisy=True, noisy_sigma=0.3)
    full = action_head(8, 3, 2, options)
    noisy = [layer for layer in full.modules() if isinstance(layer, NoisyLinear)]
    assert len(noisy) == 4 and not any(isinstance(m, torch.nn.Linear) for m in full.modules())
    assert full.advantage.weight_sigma[0, 0].item() == pytest.approx(0.3 / 4)


def test_hidden_layers_compute_in_bfloat16_and_the_last_in_float32():
    head = ActionHead(64, 4, 3, hidden=32, dueling=True, noisy_sigma=0.5)
    twin = Twin(QNetwork(torch.nn.Identity(), MeanHead(head)), "bf16")
    low = twin.module.head.head
    assert {p.dtype for body in low.hidden_layers() for p in body.parameters()} == {torch.bfloat16}
    assert low.advantage.weight.dtype == low.value.weight.dtype == torch.float32
    features = torch.randn(32, 64)
    for module in (head, low):
        sample_noise(module, generator(3))
    rounded, exact = low(features.bfloat16()), head(features)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.03)
    assert not torch.equal(rounded, exact)


def test_noisy_layer_equals_numpys_with_the_noisy_matrix_written_out():
    layer = NoisyLinear(6, 4)
    layer.weight_sigma.data.uniform_(0.1, 1.0)
    layer.bias_sigma.data.uniform_(0.1, 1.0)
    layer.sample_noise(generator(5))
    draws = generator(5)
    e_in, e_out = (torch.randn(n, generator=draws).numpy().astype(np.float64) for n in (6, 4))
    e_in, e_out = (np.sign(e) * np.sqrt(np.abs(e)) for e in (e_in, e_out))
    w, b, w_sigma, b_sigma = (p.detach().numpy() for p in layer.parameters())
    x = torch.randn(3, 6)
    expected = np.empty((3, 4))
    for row in range(3):
        for unit in range(4):
            expected[row, unit] = b[unit] + b_sigma[unit] * e_out[unit]
            for j in range(6):
                weight = w[unit, j] + w_sigma[unit, j] * e_out[unit] * e_in[j]
                expected[row, unit] += weight * x[row, j].item()
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_noise_has_the_mean_and_variance_of_the_factorised_gaussian():
    layer, draws, x = NoisyLinear(50, 40), generator(1), torch.randn(1, 50)
    with torch.no_grad():
        noisy = []
        for _ in range(2_000):
            layer.sample_noise(draws)
            noisy.append(layer(x)[0])
        clean = layer.eval()(x)[0]
    y = torch.stack(noisy) - clean
    c = math.sqrt(2 / math.pi)  # E f(e)^2 for f(e) = sign(e) sqrt(|e|)
    variance = c * (c * x.square().sum().item() + 1) * 0.5**2 / 50
    assert y.mean().abs().item() < 0.02 * math.sqrt(variance)
    assert y.var().item() == pytest.approx(variance, rel=0.05)
    assert (y.var(dim=0) - variance).abs().max() < 0.3 * variance, "every unit has its own noise"


def test_initial_weights_are_those_of_the_paper():
    layer = NoisyLinear(100, 80, sigma=0.5)
    assert 0.09 < layer.weight.abs().max() <= 0.1 and 0.09 < layer.bias.abs().max() <= 0.1
    for sigma in (layer.weight_sigma, layer.bias_sigma):
        torch.testing.assert_close(sigma.data, torch.full_like(sigma, 0.05))


def test_evaluation_is_without_noise_and_so_is_training_before_it_was_drawn():
    layer, x = NoisyLinear(6, 4), torch.randn(3, 6)
    plain = torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), plain)
    sample_noise(layer, generator())
    assert not torch.allclose(layer(x), plain, atol=1e-3)
    assert torch.equal(layer.eval()(x), plain)
    layer.train()
    sample_noise(layer, generator(), "none")
    assert torch.equal(layer(x), plain)


def test_noise_comes_from_the_generator_alone_and_stays_until_drawn_again():
    head = ActionHead(6, 3, hidden=8, dueling=True, noisy_sigma=0.5)
    x, before = torch.randn(4, 6), torch.get_rng_state()
    draws = generator(7)
    sample_noise(head, draws)
    first = head(x)
    assert torch.equal(head(x), first)
    sample_noise(head, draws)
    assert not torch.equal(head(x), first)
    sample_noise(head, generator(7))
    assert torch.equal(head(x), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any("epsilon" in name for name in head.state_dict()), "noise is no weight"


@pytest.mark.parametrize("method", METHODS)
def test_bf16_twin_of_a_method_is_close_to_fp32(method):
    options = DQNOptions(
        method=method,
        backbone="mlp",
        backbone_options='{"hidden": [64]}',
        head_hidden=32,
        dueling=True,
        noisy=True,
        taus=8,
    )
    network = build_network((6,), 4, options)
    batch = Batch(
        torch.randn(12, 6),
        torch.arange(12) % 4,
        torch.randn(12) * 2,
        torch.randn(12, 6),
        torch.tensor([0.0, 0.97, 0.99]).repeat(4),
    )
    gradients, costs, values = [], [], []
    for precision in ("fp32", "bf16"):
        online, target = (Twin(copy.deepcopy(network), precision) for _ in range(2))
        for module in (online.module, target.module):
            sample_noise(module, generator(2))
        values.append(online.module(batch.observations).detach())
        loss = find_method(method).make_loss(options, generator(1))
        still = torch.optim.SGD(online.master.parameters(), lr=0.0)
        costs.append(gradient_step(online, target, still, loss, batch, 0.0)[0].rows.detach())
        flat = [p.grad.flatten().float() for p in online.master.parameters()]
        gradients.append(torch.cat(flat))
    assert costs[1].dtype == values[1].dtype == torch.float32
    torch.testing.assert_close(costs[1], costs[0], rtol=0.05, atol=0.03)
    torch.testing.assert_close(values[1], values[0], rtol=0.05, atol=0.03)
    assert not torch.equal(values[1], values[0]), "the twin computes in bfloat16"
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99
