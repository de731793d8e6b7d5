"""Recurrent trunks: resets, states and options against a loop of single steps."""

from __future__ import annotations

import pytest
import torch

from eightbit.backbones import create_backbone
from eightbit.errors import UsageError

# torch says once per process that projections miss its fused CPU kernel; results are the same.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

OPTIONS = [
    ("lstm", {}),
    ("lstm", {"layers": 2, "projection": 5}),
    ("lstm", {"layers": 2, "layer_norm": True}),
    ("gru", {}),
    ("gru", {"layers": 2, "layer_norm": True}),
]
BATCH, STEPS, FEATURES = 4, 9, 6


def _sequences(seed: int = 0, resets: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, STEPS, FEATURES, generator=generator)
    return x, torch.rand(BATCH, STEPS, generator=generator) < resets


def _random_state(trunk: torch.nn.Module) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(p.shape, generator=generator) for p in trunk.initial_state(BATCH))


def _step_by_step(trunk, x, state, reset):
    """The definition: one step at a time, one sequence at a time, zeroing the state by hand."""
    outputs, ends = torch.zeros(BATCH, STEPS, trunk.out_features), []
    for row in range(BATCH):
        now = tuple(part[:, row : row + 1] for part in state)
        for t in range(STEPS):
            if reset[row, t]:
                now = tuple(torch.zeros_like(part) for part in now)
            out, now = trunk(x[row : row + 1, t : t + 1], now)
            outputs[row, t] = out[0, 0]
        ends.append(now)
    return outputs, tuple(torch.cat(parts, dim=1) for parts in zip(*ends, strict=True))


@pytest.mark.parametrize(("name", "options"), OPTIONS)
@pytest.mark.parametrize("resets", [0.0, 0.3, 1.0])
def test_fused_reading_equals_single_steps(name, options, resets):
    trunk = create_backbone(name, (FEATURES,), hidden=8, seed=0, **options)
    x, reset = _sequences(resets=resets)
    state = _random_state(trunk)
    got, got_state = trunk(x, state, reset)
    want, want_state = _step_by_step(trunk, x, state, reset)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    for a, b in zip(got_state, want_state, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_gradients_of_fused_reading_equal_those_of_single_steps(name, options):
    trunk = create_backbone(name, (FEATURES,), hidden=8, seed=0, **options)
    x, reset = _sequences(seed=3)
    gradients = []
    for run in (trunk, lambda *a: _step_by_step(trunk, *a)):
        trunk.zero_grad()
        out, _ = run(x, _random_state(trunk), reset)
        out.square().sum().backward()
        gradients.append([p.grad.clone() for p in trunk.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_two_halves_with_the_state_between_equal_the_whole(name):
    trunk = create_backbone(name, (FEATURES,), hidden=8, layers=2, seed=0)
    x, reset = _sequences(seed=5)
    whole, end = trunk(x, None, reset)
    first, state = trunk(x[:, :4], None, reset[:, :4])
    second, state = trunk(x[:, 4:], state, reset[:, 4:])
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    for a, b in zip(state, end, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_nothing_passes_a_reset_in_either_direction(name):
    trunk = create_backbone(name, (FEATURES,), hidden=8, bidirectional=True, seed=0)
    assert trunk.out_features == 16
    x, _ = _sequences()
    reset = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    reset[:, 5] = True
    out, state = trunk(x, None, reset)
    assert state == ()
    torch.testing.assert_close(out[:, :5], trunk(x[:, :5])[0])
    torch.testing.assert_close(out[:, 5:], trunk(x[:, 5:])[0])
    assert not torch.allclose(out[:, :5], trunk(x)[0][:, :5])  # the control: it does read back


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_bf16_with_resets_is_close_to_fp32(name, options, autocast):
    trunk = create_backbone(name, (FEATURES,), hidden=8, seed=0, **options)
    x, reset = _sequences()
    want, _ = trunk(x, None, reset)
    if not autocast:
        trunk = trunk.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got, state = trunk(x, None, reset)
        trunk(x, state, None)
    torch.testing.assert_close(got.float(), want, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("build", "call", "message"),
    [
        ({}, {"x": (2, 6)}, r"reads sequences \(B, T, 6\)"),
        ({}, {"x": (2, 3, 5)}, r"reads sequences \(B, T, 6\)"),
        ({}, {"x": (2, 0, 6)}, "T of at least 1"),
        ({}, {"x": (2, 3, 6), "reset": (3, 2)}, r"reset is \(B, T\), here \(2, 3\)"),
        ({}, {"x": (2, 3, 6), "state": (1, 3, 8)}, "as the last call returned it"),
        ({"bidirectional": True}, {"x": (2, 3, 6), "state": (2, 2, 8)}, "leave out state"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_with_a_sentence(build, call, message):
    trunk = create_backbone("lstm", (6,), hidden=8, **build)
    x = torch.zeros(call["x"])
    reset = torch.zeros(call["reset"]) if "reset" in call else None
    state = (torch.zeros(call["state"]),) * 2 if "state" in call else None
    with pytest.raises(UsageError, match=message):
        trunk(x, state, reset)
