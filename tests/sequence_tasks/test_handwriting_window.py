"""The layer with the soft window against automatic differentiation, and the network around it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from eightbit.sequence_tasks.handwriting.model import (
    WriterState,
    WritingNetwork,
    before,
    joined,
    letters_of,
    loss,
)
from eightbit.sequence_tasks.handwriting.options import HandwritingOptions
from eightbit.sequence_tasks.handwriting.window import WindowLSTM
from eightbit.tasks import Moment

T, B, U, C, H, K = 9, 3, 6, 4, 7, 2
MOMENT = Moment(0, 0.0, torch.Generator())


def _layer() -> tuple[WindowLSTM, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = WindowLSTM(3, C, H, K, 0.3).double()
        x = torch.randn(T, B, 3, dtype=torch.double)
        codes = torch.randint(C, (B, U))
    codes[1, 4:] = -1
    return layer, x, letters_of(codes, C).double()


def _plainly(layer: WindowLSTM, x: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Graves 2013, equations 46 to 51, step by step, with torch's own gradients."""
    h, c, kappa, w = layer.initial_state(x.shape[1])
    places = torch.arange(1, text.shape[1] + 1, dtype=x.dtype)
    hs, ws, phis = [], [], []
    for row in x:
        gates = layer.read(row) + torch.cat([h, w], 1) @ layer.recurrent.t()
        let_in, keep, let_out, new = gates.chunk(4, 1)
        c = keep.sigmoid() * c + let_in.sigmoid() * new.tanh()
        h = let_out.sigmoid() * c.tanh()
        alpha, beta, moved = layer.window(h).exp().chunk(3, 1)
        kappa = kappa + moved
        away = kappa[:, :, None] - places
        phi = (alpha[:, :, None] * torch.exp(-beta[:, :, None] * away**2)).sum(1)
        w = (phi[:, :, None] * text).sum(1)
        hs.append(h)
        ws.append(w)
        phis.append(phi)
    return torch.stack(hs), torch.stack(ws), torch.stack(phis)


def test_outputs_and_gradients_equal_those_of_a_plain_loop() -> None:
    layer, x, text = _layer()
    generator = torch.Generator().manual_seed(1)
    for_h = torch.randn(T, B, H, generator=generator, dtype=torch.double)
    for_w = torch.randn(T, B, C, generator=generator, dtype=torch.double)
    results = []
    for run in (layer.__call__, lambda a, b: _plainly(layer, a, b)):
        layer.zero_grad()
        points = x.clone().requires_grad_()
        h, w, phi = run(points, text)
        ((h * for_h).sum() + (w * for_w).sum()).backward()
        results.append((h, w, phi, points.grad, *(p.grad for p in layer.parameters())))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


def test_gradients_of_gates_are_bounded() -> None:
    layer, x, text = _layer()
    points = x.clone().requires_grad_()
    bound = torch.tensor(1e-3, dtype=torch.double)
    h, _, _ = layer(points, text, bound)
    (1e6 * h).sum().backward()
    assert points.grad is not None
    limit = bound * layer.read.weight.abs().sum(0)
    assert (points.grad.abs() <= limit + 1e-12).all() and points.grad.abs().max() > 0


def test_the_window_moves_forward_only_and_padding_weighs_nothing() -> None:
    layer, x, text = _layer()
    state, places = layer.initial_state(B), []
    for row in x:
        _, w, _, state = layer.advance(row[None], text, state)
        places.append(state.kappa)
    kappa = torch.stack(places)
    assert (kappa[1:] > kappa[:-1]).all()
    text[:, -1] = 0
    _, w, phi = layer(x, text)
    torch.testing.assert_close(w.sum(-1), (phi * text.sum(-1)).sum(-1))


@pytest.mark.parametrize("method", ["synthesis", "prediction"])
def test_going_on_from_a_state_equals_reading_at_once(method: str) -> None:
    network = _network(method)
    points, text, lengths = _example()
    with torch.no_grad():
        whole = network(points, text, lengths)
        state = network.initial_state(len(points))
        letters = letters_of(text, 5)
        with torch.autocast("cpu", torch.bfloat16):  # writing is exact wherever it happens
            first, _, state = network.advance(points[:, :4], letters, state)
        rest, phi, state = network.advance(points[:, 4:], letters, state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, rtol=1e-4, atol=1e-5)
    assert (phi is None) == (method == "prediction")
    parts = [state.chosen(torch.tensor([row])) for row in range(len(points))]
    both = joined(parts)
    assert isinstance(both, WriterState)
    for ours, theirs in zip(both.trunk, state.trunk, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("method", ["synthesis", "prediction"])
def test_the_loss_counts_real_points_only_and_reaches_every_weight(method: str) -> None:
    network = _network(method)
    points, text, lengths = _example()
    batch = {"points": points, "text": text, "lengths": lengths}
    value = loss(network, batch, MOMENT)["loss"]
    value.backward()
    assert all(p.grad is not None for p in network.parameters())
    changed = points.clone()
    changed[0, int(lengths[0]) :] = 7.0
    again = loss(network, {**batch, "points": changed}, MOMENT)["loss"]
    torch.testing.assert_close(again, value)
    start = before(points)
    assert start[0, 0].tolist() == [0, 0, 1] and torch.equal(start[:, 1:], points[:, :-1])


def test_autocast_leaves_the_loss_close() -> None:
    network = _network("synthesis")
    points, text, lengths = _example()
    batch = {"points": points, "text": text, "lengths": lengths}
    with torch.no_grad():
        exact = loss(network, batch, MOMENT)["loss"]
        with torch.autocast("cpu", torch.bfloat16):
            low = loss(network, batch, MOMENT)["loss"]
    assert low.dtype == torch.float32 and float(low) == pytest.approx(float(exact), rel=0.02)


def test_only_the_text_tells_the_synthesis_network_what_to_write() -> None:
    points, text, lengths = _example()
    other = text.flip(0)
    for method, same in (("prediction", True), ("synthesis", False)):
        network = _network(method)
        with torch.no_grad():
            a, b = network(points, text, lengths), network(points, other, lengths)
        assert torch.equal(a, b) == same


def _network(method: str) -> WritingNetwork:
    options = HandwritingOptions(method=method, hidden=12, mixtures=3, window=2, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return WritingNetwork(options, 5, 0.2)


def _example() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(2, 10, 3, generator=generator)
    points[..., 2] = (points[..., 2] > 1).float()
    lengths = torch.tensor([6, 10])
    points[0, 6:] = 0
    text = torch.tensor([[0, 1, 4, -1], [3, 2, 1, 4]])
    return points, text, lengths


def test_the_window_starts_slowly() -> None:
    layer = WindowLSTM(3, C, 64, 10, 0.09)
    state = layer.initial_state(1)
    for _ in range(10):
        *_, state = layer.advance(torch.zeros(1, 1, 3), torch.zeros(1, U, C), state)
    assert float(state.kappa.mean()) == pytest.approx(0.9, rel=0.3)
    assert math.isfinite(float(state.h.sum()))
