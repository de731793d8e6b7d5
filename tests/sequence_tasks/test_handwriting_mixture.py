"""The mixture density against one by hand, and against numerical integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eightbit.sequence_tasks.handwriting.blind import BlindMixture
from eightbit.sequence_tasks.handwriting.mixture import (
    LARGEST_CORRELATION,
    draw,
    log_density,
    mean_of,
    mixture_of,
    nats,
    outputs_of,
)


def _outputs(rows: int, components: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, outputs_of(components), generator=generator)


def _by_hand(row: np.ndarray, point: np.ndarray, components: int, bias: float = 0.0) -> float:
    """Graves 2013, equations 18 to 26, with a loop over the Gaussians."""
    pen = 1 / (1 + math.exp(-row[0]))
    raw, m1, m2, s1, s2, r = row[1:].reshape(6, components).astype(float)
    weights = np.exp(raw * (1 + bias)) / np.exp(raw * (1 + bias)).sum()
    density = 0.0
    for k in range(components):
        a, b = math.exp(s1[k] - bias), math.exp(s2[k] - bias)
        rho = LARGEST_CORRELATION * math.tanh(r[k])
        x, y = (point[0] - m1[k]) / a, (point[1] - m2[k]) / b
        z = x * x + y * y - 2 * rho * x * y
        scale = 2 * math.pi * a * b * math.sqrt(1 - rho * rho)
        density += weights[k] * math.exp(-z / (2 * (1 - rho * rho))) / scale
    return -math.log(density) - math.log(pen if point[2] else 1 - pen)


def test_there_are_121_outputs_for_twenty_gaussians() -> None:
    assert outputs_of(20) == 121


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_nats_equal_a_density_by_hand(bias: float) -> None:
    rows, components = 7, 5
    outputs = _outputs(rows, components)
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.normal(size=(rows, 2)), rng.integers(0, 2, rows)])
    found = nats(mixture_of(outputs, bias), torch.from_numpy(points).float())
    wanted = [
        _by_hand(row, point, components, bias)
        for row, point in zip(outputs.numpy(), points, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4)


def test_the_density_integrates_to_one() -> None:
    mixture = mixture_of(_outputs(1, 4, seed=3))
    side = torch.linspace(-16, 16, 901)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    expanded = type(mixture)(*(part.expand(len(grid), *part.shape[1:]) for part in mixture))
    cell = float(side[1] - side[0]) ** 2
    total = sum(
        float(
            log_density(type(mixture)(*(p[i : i + 500_000] for p in expanded)), piece).exp().sum()
        )
        for i in range(0, len(grid), 500_000)
        for piece in [grid[i : i + 500_000]]
    )
    assert total * cell == pytest.approx(1.0, abs=2e-3)


def test_extreme_outputs_give_finite_losses_and_gradients() -> None:
    for scale in (100.0, -100.0):
        outputs = (_outputs(4, 20, spread=scale)).requires_grad_()
        loss = nats(mixture_of(outputs), torch.tensor([[30.0, -30.0, 1.0]]).expand(4, 3)).sum()
        loss.backward()
        assert torch.isfinite(loss) and outputs.grad is not None
        assert torch.isfinite(outputs.grad).all()


def test_densities_are_float32_whatever_the_network_computes_in() -> None:
    points = torch.zeros(3, 3)
    outputs = _outputs(3, 2)
    low = nats(mixture_of(outputs.bfloat16()), points)
    assert low.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nats(mixture_of(outputs), points), nats(mixture_of(outputs), points))


def test_drawn_points_have_the_mixtures_moments() -> None:
    one = mixture_of(_outputs(1, 3, seed=5, spread=0.5))
    count = 200_000
    many = type(one)(*(part.expand(count, *part.shape[1:]) for part in one))
    generator = torch.Generator().manual_seed(0)
    points = draw(
        many, torch.rand(count, 2, generator=generator), torch.randn(count, 2, generator=generator)
    )
    assert points[:, :2].mean(0).numpy() == pytest.approx(mean_of(one)[0].numpy(), abs=0.02)
    assert float(points[:, 2].mean()) == pytest.approx(float(torch.sigmoid(one.pen)), abs=0.005)
    drawn = np.cov(points[:, :2].numpy().T)
    weights, means = one.log_weights[0].exp().numpy(), one.means[0].numpy()
    widths, rho = one.log_widths[0].exp().numpy(), one.correlations[0].numpy()
    second = sum(
        w * (np.outer(m, m) + [[s[0] ** 2, r * s[0] * s[1]], [r * s[0] * s[1], s[1] ** 2]])
        for w, m, s, r in zip(weights, means, widths, rho, strict=True)
    )
    mean = mean_of(one)[0].numpy()
    np.testing.assert_allclose(drawn, second - np.outer(mean, mean), atol=0.05)


def test_bias_narrows_and_sharpens() -> None:
    outputs = _outputs(2, 6)
    plain, neat = mixture_of(outputs), mixture_of(outputs, 1.0)
    torch.testing.assert_close(neat.log_widths, plain.log_widths - 1)
    ratio = neat.log_weights - 2 * plain.log_weights  # equal up to the normalizer
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


def test_the_blind_mixture_finds_two_clouds() -> None:
    rng = np.random.default_rng(0)
    clouds = np.concatenate([rng.normal((-3, 0), 0.1, (500, 2)), rng.normal((2, 1), 0.5, (500, 2))])
    numbers = np.column_stack([clouds, np.arange(1000) % 4 == 0])
    blind = BlindMixture(numbers, 2)
    order = np.argsort(blind.means[:, 0])
    np.testing.assert_allclose(blind.means[order], [[-3, 0], [2, 1]], atol=0.1)
    np.testing.assert_allclose(blind.weights, 0.5, atol=0.02)
    assert blind.lifted == pytest.approx(0.25)
    # The entropy of the two clouds and of the pen.
    entropy = 0.5 * (2 * math.log(0.1) + 2 * math.log(0.5)) + 1 + math.log(2 * math.pi)
    entropy += math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert blind.nats(numbers).mean() == pytest.approx(entropy, abs=0.1)
