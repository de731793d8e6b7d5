"""Multiplicative trunks and the skip network against their definitions, written in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eightbit.backbones import create_backbone
from eightbit.backbones.multiplicative import _Mlstm, _Mrnn
from eightbit.errors import UsageError

BATCH, STEPS, FEATURES, HIDDEN, FACTORS = 3, 6, 4, 5, 7


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _inputs(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
    return x, rng.random((BATCH, STEPS)) < 0.3


def _weights(module):
    return {name: value.detach().numpy() for name, value in module.named_parameters()}


def _mrnn_by_hand(trunk, x, reset):
    p = _weights(trunk.layer)
    outputs = np.zeros((BATCH, STEPS, HIDDEN), np.float32)
    for row in range(BATCH):
        h = np.zeros(HIDDEN, np.float32)
        for t in range(STEPS):
            h = h * (not reset[row, t])
            factors = np.diag(p["input_factors"] @ x[row, t]) @ (p["state_factors"] @ h)
            h = np.tanh(p["factor_weight"] @ factors + p["input_weight"] @ x[row, t] + p["bias"])
            outputs[row, t] = h
    return outputs


def _mlstm_by_hand(trunk, x, reset):
    p = _weights(trunk.layer)
    outputs = np.zeros((BATCH, STEPS, HIDDEN), np.float32)
    for row in range(BATCH):
        h, c = np.zeros(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
        for t in range(STEPS):
            h, c = h * (not reset[row, t]), c * (not reset[row, t])
            m = (p["input_factors"] @ x[row, t]) * (p["state_factors"] @ h)
            z = p["factor_weight"] @ m + p["input_weight"] @ x[row, t] + p["bias"]
            i, f, g, o = np.split(z, 4)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
            outputs[row, t] = h
    return outputs


@pytest.mark.parametrize(("name", "by_hand"), [("mrnn", _mrnn_by_hand), ("mlstm", _mlstm_by_hand)])
@pytest.mark.parametrize("resets", [False, True])
def test_a_multiplicative_trunk_equals_its_definition(name, by_hand, resets):
    trunk = create_backbone(name, (FEATURES,), hidden=HIDDEN, factors=FACTORS, seed=0)
    x, reset = _inputs()
    reset = reset & resets
    got, _ = trunk(torch.from_numpy(x), None, torch.from_numpy(reset))
    np.testing.assert_allclose(got.detach(), by_hand(trunk, x, reset), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("resets", [False, True])
def test_gradients_are_those_of_finite_differences(resets):
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True)

    kept = (torch.rand(4, 2, 1, generator=generator) > 0.3).double() if resets else None
    state = drawn(2, 3), drawn(2, 3)
    assert torch.autograd.gradcheck(
        _Mrnn.apply, (drawn(4, 2, 5), drawn(4, 2, 3), drawn(5, 3), drawn(3, 5), kept, state[0])
    )
    assert torch.autograd.gradcheck(
        _Mlstm.apply, (drawn(4, 2, 5), drawn(4, 2, 12), drawn(5, 3), drawn(12, 5), kept, *state)
    )


@pytest.mark.parametrize("name", ["mrnn", "mlstm", "skip_lstm"])
def test_two_halves_with_the_state_between_equal_the_whole(name):
    trunk = create_backbone(name, (FEATURES,), hidden=HIDDEN, seed=0)
    x, reset = (torch.from_numpy(part) for part in _inputs(1))
    whole, end = trunk(x, None, reset)
    first, state = trunk(x[:, :2], None, reset[:, :2])
    second, state = trunk(x[:, 2:], state, reset[:, 2:])
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    for a, b, zero in zip(state, end, trunk.initial_state(BATCH), strict=True):
        torch.testing.assert_close(a, b)
        assert a.shape == zero.shape


def test_a_skip_network_equals_layers_that_are_joined_by_hand():
    trunk = create_backbone("skip_lstm", (FEATURES,), hidden=HIDDEN, layers=3, seed=0)
    assert trunk.out_features == 3 * HIDDEN
    x = torch.from_numpy(_inputs()[0])
    first, _ = trunk.stack[0](x)
    second, _ = trunk.stack[1](torch.cat([first, x], -1))
    third, (h, c) = trunk.stack[2](torch.cat([second, x], -1))
    out, state = trunk(x)
    torch.testing.assert_close(out, torch.cat([first, second, third], -1))
    torch.testing.assert_close(state[0][2], h[0])
    torch.testing.assert_close(state[1][2], c[0])


def test_a_skip_network_zeroes_its_state_at_resets():
    trunk = create_backbone("skip_lstm", (FEATURES,), hidden=HIDDEN, layers=2, seed=0)
    x = torch.from_numpy(_inputs()[0])
    reset = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    reset[1, 3] = True
    out, _ = trunk(x, None, reset)
    torch.testing.assert_close(out[1:2, 3:], trunk(x[1:2, 3:])[0])
    torch.testing.assert_close(out[0], trunk(x)[0][0])


@pytest.mark.parametrize("name", ["lstm", "skip_lstm"])
def test_dropout_keeps_one_mask_for_a_sequence_and_ends_with_training(name):
    trunk = create_backbone(name, (FEATURES,), hidden=64, layers=2, dropout=0.5, seed=0)
    entering = []
    trunk.stack[1].register_forward_pre_hook(lambda _, args: entering.append(args[0][..., :64]))
    x = torch.from_numpy(_inputs()[0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk.train()(x)
    zero = entering[0] == 0
    assert torch.equal(zero, zero[:, :1].expand_as(zero))
    assert 0.3 < zero.float().mean() < 0.7
    assert not torch.equal(zero[0], zero[1])
    trunk.eval()(x)
    below = trunk.stack[0](x)[0]
    torch.testing.assert_close(entering[1], below)
    kept = ~zero
    torch.testing.assert_close(entering[0][kept], 2 * below[kept])


@pytest.mark.parametrize("name", ["lstm", "skip_lstm", "mrnn", "mlstm"])
def test_weight_dropout_draws_anew_in_training_alone(name):
    trunk = create_backbone(name, (FEATURES,), hidden=HIDDEN, weight_dropout=0.5, seed=0)
    plain = create_backbone(name, (FEATURES,), hidden=HIDDEN, seed=0)
    x, reset = (torch.from_numpy(part) for part in _inputs())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = trunk.train()(x)[0], trunk(x, None, reset)[0]
        third = trunk(x)[0]
    assert not torch.allclose(first, third) and second.isfinite().all()
    torch.testing.assert_close(first[:, 0], plain(x)[0][:, 0])  # nothing is carried over yet
    torch.testing.assert_close(trunk.eval()(x)[0], plain(x)[0])
    third.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trunk.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"x": (2, 6)}, r"reads sequences \(B, T, 4\)"),
        ({"x": (2, 3, 4), "reset": (3, 2)}, r"reset is \(B, T\), here \(2, 3\)"),
        ({"x": (2, 3, 4), "state": (1, 3, 5)}, "as the last call returned it"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_with_a_sentence(call, message):
    trunk = create_backbone("mlstm", (FEATURES,), hidden=HIDDEN)
    x = torch.zeros(call["x"])
    reset = torch.zeros(call["reset"]) if "reset" in call else None
    state = (torch.zeros(call["state"]),) * 2 if "state" in call else None
    with pytest.raises(UsageError, match=message):
        trunk(x, state, reset)
