"""Dropout by few random numbers drops the share that is asked for, alike for equal seeds."""

from __future__ import annotations

import pytest
import torch

from eightbit.backbones.layers import QuickDropout


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_is_dropped_and_the_mean_stays(share: float, dtype: torch.dtype) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = QuickDropout(share)(torch.ones(501, 999, dtype=dtype)).float()
    assert float((found == 0).float().mean()) == pytest.approx(share, abs=0.003)
    assert float(found.max()) == pytest.approx(1 / (1 - share), rel=0.01)
    rows = (found == 0).float()
    assert float(rows.mean(0).std()) < 2 * (share * (1 - share) / 501) ** 0.5, "no column favoured"


def test_gradients_pass_where_values_do_and_seeds_repeat_it() -> None:
    x = torch.randn(7, 13, requires_grad=True)
    layer = QuickDropout(0.3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        one = layer(x)
        torch.manual_seed(3)
        other = layer(x)
    assert torch.equal(one, other)
    one.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad * x, one)


def test_in_evaluation_nothing_changes() -> None:
    x = torch.randn(4, 5)
    assert QuickDropout(0.5).eval()(x) is x
    assert QuickDropout(0.0)(x) is x
