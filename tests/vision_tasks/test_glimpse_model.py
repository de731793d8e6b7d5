"""Retina, network, REINFORCE and costs against slow or independent ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from eightbit.errors import UsageError
from eightbit.tasks import Moment
from eightbit.vision_tasks.glimpse.cost import of_convolution, of_dense, of_glimpses
from eightbit.vision_tasks.glimpse.learning import build_model, loss
from eightbit.vision_tasks.glimpse.model import GlimpseNetwork
from eightbit.vision_tasks.glimpse.options import GlimpseOptions
from eightbit.vision_tasks.glimpse.reinforce import (
    log_density,
    others_mean,
    reinforce,
    returns_to_go,
)
from eightbit.vision_tasks.glimpse.retina import Retina
from eightbit.vision_tasks.glimpse.whole import WholeReader

FACTS = {"classes": list("0123456789")}
TINY = GlimpseOptions(glimpses=3, what=8, joint=12, hidden=10, copies=3)


def _patches(picture: np.ndarray, row: float, column: float, side: int, scales: int) -> np.ndarray:
    """Slowly: pixel by pixel, black outside, each block averaged."""
    size = len(picture)
    found = []
    for scale in range(scales):
        block = 2**scale
        top, left = (
            math.floor((v + 1) / 2 * (size - 1) + 0.5) - side * block // 2 for v in (row, column)
        )
        patch = np.zeros((side, side))
        for i in range(side * block):
            for j in range(side * block):
                y, x = top + i, left + j
                if 0 <= y < size and 0 <= x < size:
                    patch[i // block, j // block] += picture[y, x] / block**2
        found.append(patch.ravel())
    return np.concatenate(found)


@pytest.mark.parametrize(("side", "scales", "size"), [(4, 1, 13), (3, 3, 20), (6, 2, 9)])
def test_the_retina_sees_what_a_loop_over_pixels_sees(side, scales, size):
    rng = np.random.default_rng(0)
    pictures = rng.random((3, 1, size, size)).astype(np.float32)
    places = rng.uniform(-1, 1, (3, 5, 2)).astype(np.float32)
    places[0, :2] = [[-1, -1], [1, 1]]
    places[1, 0] = [-1, 1]
    retina = Retina(side, scales)
    found = retina(retina.prepare(torch.from_numpy(pictures)), torch.from_numpy(places))
    assert found.shape == (3, 5, retina.out_features)
    for i in range(3):
        for j in range(5):
            wanted = _patches(pictures[i, 0], *places[i, j], side, scales)
            np.testing.assert_allclose(found[i, j].numpy(), wanted, atol=1e-5)


def test_bytes_are_seen_as_shares_and_places_outside_as_the_rim():
    retina = Retina(4, 2)
    pictures = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    places = torch.tensor([[[1.0, -1.0], [7.0, -3.0]]])
    found = retina(retina.prepare(pictures), places)
    assert torch.equal(found[0, 0], found[0, 1])
    floats = retina(retina.prepare(pictures.float() / 255), places)
    assert torch.allclose(found, floats) and found.max() <= 1


def test_the_density_is_that_of_torch():
    torch.manual_seed(0)
    drawn, mean = torch.randn(4, 5, 2), torch.randn(4, 5, 2)
    wanted = torch.distributions.Normal(mean, 0.3).log_prob(drawn).sum(-1)
    assert torch.allclose(log_density(drawn, mean, 0.3), wanted, atol=1e-5)


def test_returns_and_the_other_copies_mean():
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0])
    assert returns_to_go(rewards).tolist() == pytest.approx([0.5, 1 / 3, 0.5, 1.0])
    values = torch.tensor([[1.0, 2.0, 6.0]])
    assert others_mean(values).tolist() == [[4.0, 3.5, 1.5]]


def _expected_reward(mean: Tensor, reward: nn.Module, deviation: float) -> float:
    """By quadrature over a fine grid of places."""
    axis = torch.linspace(-1.6, 1.6, 641, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    density = log_density(grid, mean, deviation).exp()
    return float((density * reward(grid)).sum() / density.sum())


class _Reward(nn.Module):
    """1 where the retina, at a place of a tiny picture, sees more than a threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.retina = Retina(2, 1)
        picture = torch.zeros(1, 1, 8, 8)
        picture[..., 1:4, 5:7] = 1
        self.maps = self.retina.prepare(picture)

    def forward(self, places: Tensor) -> Tensor:
        flat = places.clamp(-1, 1).reshape(1, -1, 2)
        return (self.retina(self.maps, flat).sum(-1) >= 2).to(places.dtype).view(places.shape[:-1])


@pytest.mark.parametrize("copies", [False, True])
def test_reinforce_gives_the_gradient_of_the_expected_reward(copies):
    """One decision on a tiny picture: the mean gradient beside finite differences."""
    reward, deviation = _Reward(), 0.35
    weight = torch.tensor([[0.3, -0.5], [0.2, 0.1]], dtype=torch.float64)
    features = torch.tensor([0.7, -0.4], dtype=torch.float64)
    wanted = torch.zeros_like(weight)
    for i in range(2):
        for j in range(2):
            around = []
            for sign in (1, -1):
                moved = weight.clone()
                moved[i, j] += sign * 1e-3
                around.append(_expected_reward(torch.tanh(moved @ features), reward, deviation))
            wanted[i, j] = (around[0] - around[1]) / 2e-3
    assert wanted.abs().max() > 0.05
    weight.requires_grad_(True)
    mean = torch.tanh(weight @ features)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(60_000, 4, 1, 2, generator=generator, dtype=torch.float64)
    drawn = (mean + deviation * noise).detach()
    chances = log_density(drawn, mean.expand_as(drawn), deviation)
    guesses = torch.full_like(chances, 0.2)
    places, baseline = reinforce(chances, reward(drawn), guesses, copies=copies)
    (found,) = torch.autograd.grad(-places, weight)
    assert float(baseline) > 0
    assert torch.allclose(found, wanted, atol=0.01), (found, wanted)


@pytest.mark.parametrize("copies", [False, True])
def test_a_baseline_makes_the_gradient_vary_less(copies):
    reward, deviation = _Reward(), 0.35
    generator = torch.Generator().manual_seed(0)
    spread = {}
    for guess, others in ((0.0, False), (0.3, copies)):
        found = []
        for _ in range(200):
            mean = torch.tensor([-0.3, 0.3], requires_grad=True)
            noise = torch.randn(1, 8, 1, 2, generator=generator)
            drawn = (mean + deviation * noise).detach()
            chances = log_density(drawn, mean.expand_as(drawn), deviation)
            value, _ = reinforce(
                chances, reward(drawn), torch.full_like(chances, guess), copies=others
            )
            found.append(torch.autograd.grad(value, mean)[0])
        spread[guess] = torch.stack(found).var(0).sum()
    assert spread[0.3] < spread[0.0]


@pytest.mark.parametrize("core", ["lstm", "gru", "relu"])
def test_the_parts_of_the_network_learn_from_what_they_should(core):
    """Answers teach what sees; REINFORCE teaches the locator alone, the baseline itself alone."""
    torch.manual_seed(0)
    model = build_model(replace(TINY, core=core, deviation=0.3), FACTS)
    batch = {
        "pictures": torch.randint(0, 256, (16, 1, 28, 28), dtype=torch.uint8),
        "labels": torch.randint(0, 10, (16,)),
    }
    moment = Moment(0, 0.0, torch.Generator().manual_seed(0))
    found = loss(model, batch, moment)
    names = dict(model.named_parameters())
    taught = {}
    for part in ("answers", "places", "baseline"):
        grads = torch.autograd.grad(
            found[part], list(names.values()), retain_graph=True, allow_unused=True
        )
        taught[part] = {n for n, g in zip(names, grads, strict=True) if g is not None and g.any()}
    assert taught["places"] == {"locator.weight", "locator.bias", "path"}
    assert taught["baseline"] == {"guess.weight", "guess.bias"}
    assert taught["answers"] == set(names) - taught["places"] - taught["baseline"]


def test_places_narrow_while_the_network_learns():
    options = replace(TINY, deviation=0.3, last_deviation=0.1)
    assert [options.deviation_at(x) for x in (0.0, 0.5, 1.0)] == pytest.approx([0.3, 0.2, 0.1])
    assert replace(TINY, deviation=0.1, last_deviation=0.2).deviation_at(0.5) == 0.1
    torch.manual_seed(0)
    model = build_model(replace(options, first="random"), FACTS)
    batch = {"pictures": torch.rand(300, 1, 28, 28), "labels": torch.zeros(300, dtype=torch.int64)}
    kept: list[Tensor] = []
    model.register_forward_hook(lambda _, given, found: kept.extend([given[1], found]))
    loss(model, batch, Moment(0, 0.5, torch.Generator().manual_seed(0)))
    noise, looked = kept
    assert noise[:, :, 0].std() == pytest.approx(1, abs=0.06)  # the first place stays anywhere
    away = (looked.drawn - looked.means)[:, :, 1:]
    assert float(away.detach().std()) == pytest.approx(0.2, abs=0.02)


def test_a_step_is_counted_from_the_place_before():
    torch.manual_seed(0)
    model = build_model(replace(TINY, moves="relative", ring=0.0, deviation=1e-6), FACTS)
    model.locator.weight.detach().zero_()
    model.locator.bias.detach().copy_(torch.tensor([0.3, -0.9]).atanh())
    places = model(torch.rand(2, 1, 28, 28), torch.randn(2, 1, 3, 2)).places[0, 0]
    wanted = torch.tensor([[0.0, 0.0], [0.3, -0.9], [0.6, -1.0]])
    assert torch.allclose(places, wanted, atol=1e-4)


@pytest.mark.parametrize("core", ["lstm", "relu"])
def test_row_i_of_a_batch_does_not_depend_on_row_j(core):
    torch.manual_seed(0)
    model = build_model(replace(TINY, core=core), FACTS).eval()
    assert isinstance(model, GlimpseNetwork)
    pictures, noise = torch.rand(5, 1, 28, 28), torch.randn(5, 3, 3, 2)
    whole, part = model(pictures, noise), model(pictures[2:4], noise[2:4])
    for one, other in zip(whole, part, strict=True):
        assert torch.allclose(one[2:4], other, atol=1e-5)


def test_places_are_where_the_options_say():
    pictures, noise = torch.rand(200, 1, 28, 28), torch.randn(200, 2, 3, 2)
    torch.manual_seed(0)
    learned = build_model(TINY, FACTS)(pictures, noise)
    assert (learned.places[:, :, 0] == 0).all() and learned.places.abs().max() <= 1
    assert torch.allclose(learned.drawn[:, :, 1:], (learned.means + 0.15 * noise)[:, :, 1:])
    centre = build_model(replace(TINY, where="centre"), FACTS)(pictures, noise)
    assert not centre.places.any()
    anywhere = build_model(replace(TINY, where="random"), FACTS)(pictures, noise)
    counts = np.histogram(anywhere.places.numpy(), bins=10, range=(-1, 1))[0]
    assert counts.sum() == 2400 and ((counts - 240) ** 2 / 240).sum() < 27.9  # 9 degrees, 0.001
    begun = build_model(replace(TINY, first="random"), FACTS)(pictures, noise)
    assert begun.places[:, :, 0].std() > 0.5


@pytest.mark.parametrize("core", ["lstm", "gru", "relu"])
@pytest.mark.parametrize(
    ("scales", "sensor"), [(1, "dense"), (3, "dense"), (1, "convolution"), (3, "convolution")]
)
def test_multiply_adds_of_glimpses_are_those_that_torch_counts(core, scales, sensor):
    """Layers by torch's counter; of fused recurrent kernels, which it passes over, by their
    matrices. The averages of the wide patches come on top, answers before the last one do not."""
    options = replace(TINY, core=core, scales=scales, sensor=sensor)
    model = build_model(options, FACTS).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, 1, 28, 28), torch.randn(1, 1, 3, 2))
    kernels = sum(w.numel() for n, w in model.backbone.named_parameters() if w.ndim == 2)
    counted = counter.get_total_flops() // 2
    counted += 0 if core == "relu" or _counts_cell(core) else 3 * kernels
    unneeded = 3 * options.hidden + 2 * options.hidden * 10  # the baseline, two early answers
    averages = 3 * sum(64 * 4**scale for scale in range(1, scales))
    assert of_glimpses(options, 10) == counted - unneeded + averages


def _counts_cell(core: str) -> bool:
    """Whether torch's counter sees the products inside its recurrent kernels here."""
    layer = {"lstm": nn.LSTM, "gru": nn.GRU}[core](4, 4, batch_first=True)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(1, 1, 4))
    return counter.get_total_flops() > 0


@pytest.mark.parametrize("size", [28, 60])
@pytest.mark.parametrize("reader", ["dense", "convolution"])
@pytest.mark.parametrize("layers", ["[[1, 10, 5]]", "[[1, 5, 2], [2, 5, 2], [4, 3, 1]]"])
def test_whole_readers_cost_as_much_as_glimpses(size, reader, layers):
    task = "static" if size == 28 else "translated"
    options = GlimpseOptions(task=task, size=size, reader=reader, layers=layers)
    model = build_model(options, FACTS).eval()
    assert isinstance(model, WholeReader)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model(torch.zeros(1, 1, size, size)).shape == (1, 10)
    counted, budget = counter.get_total_flops() // 2, of_glimpses(options, 10)
    assert 0.9 * budget < counted <= budget
    channels = [m for m in model.below if isinstance(m, nn.Conv2d)]
    if reader == "dense":
        assert counted == of_dense(size, model.backbone.out_features, 10)
    else:
        built = [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in channels]
        assert counted == of_convolution(size, built, options.hidden, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"glimpses": 0}, "glimpses is 0"),
        ({"copies": 0}, "at least 1 copy"),
        ({"deviation": 0.0}, "above 0"),
        ({"validation": 1.0}, "lie in"),
        ({"size": 60}, "static digits have a size of 28"),
        ({"task": "translated", "size": 20}, "does not hold a digit"),
        ({"task": "catch", "size": 28}, "multiple of 12"),
        ({"task": "catch", "size": 24, "reader": "dense"}, "played by glimpses"),
        ({"layers": "[[1, 2]]"}, "JSON list like"),
        ({"layers": "x"}, "JSON list like"),
        ({"patch": 3}, "cannot be halved twice"),
        ({"turn": -1.0}, "must not be below 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        GlimpseOptions(**changes)


def test_convolutions_that_do_not_fit_are_refused():
    options = GlimpseOptions(reader="convolution", layers="[[1, 10, 5], [1, 5, 1]]")
    with pytest.raises(UsageError, match="a kernel of 5 meets a map of 4"):
        build_model(options, FACTS)
