"""Attention against its equations, written with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eightbit.backbones.attention import Attention, create_attention
from eightbit.errors import UnknownNameError, UsageError

KINDS = ("general", "dot", "additive")


def _made(kind: str) -> Attention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_attention(kind, 6, 6 if kind == "dot" else 4, 5)


def _inputs(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = 6 if kind == "dot" else 4
    queries = torch.randn(2, 3, 6, generator=generator)
    memory = torch.randn(2, 7, size, generator=generator)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    return queries, memory, mask


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_reading_are_those_of_the_equations(kind: str) -> None:
    attention, (queries, memory, mask) = _made(kind), _inputs(kind)
    read, weights = attention(queries, attention.keys(memory), memory, mask)
    w = {name: p.detach().numpy() for name, p in attention.named_parameters()}
    q, m = queries.numpy(), memory.numpy()
    for b, length in enumerate((7, 4)):
        for t in range(3):
            if kind == "additive":
                hidden = np.tanh(
                    w["query.weight"] @ q[b, t] + m[b, :length] @ w["map.weight"].T + w["map.bias"]
                )
                scores = hidden @ w["score.weight"][0]
            elif kind == "general":
                scores = m[b, :length] @ w["map.weight"].T @ q[b, t]
            else:
                scores = m[b, :length] @ q[b, t] / np.sqrt(6)
            share = np.exp(scores - scores.max())
            share /= share.sum()
            found = weights[b, t].detach().numpy()
            np.testing.assert_allclose(found[:length], share, rtol=1e-4, atol=1e-6)
            assert (found[length:] == 0).all()
            np.testing.assert_allclose(
                read[b, t].detach(), share @ m[b, :length], rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_depends_on_no_other_one_and_on_nothing_masked(kind: str) -> None:
    attention, (queries, memory, mask) = _made(kind), _inputs(kind)
    read, _ = attention(queries, attention.keys(memory), memory, mask)
    memory[1, 4:] = 9.0
    alone, _ = attention(queries[1:, 1:2], attention.keys(memory[1:]), memory[1:], mask[1:])
    torch.testing.assert_close(alone[0, 0], read[1, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_part(kind: str) -> None:
    attention, (queries, memory, mask) = _made(kind), _inputs(kind)
    queries.requires_grad_()
    memory.requires_grad_()
    attention(queries, attention.keys(memory), memory, mask)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in attention.parameters())
    assert queries.grad is not None and memory.grad is not None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean general"):
        create_attention("generel", 4, 4, 4)
    with pytest.raises(UsageError, match="dot attention needs queries and memory of one size"):
        create_attention("dot", 4, 5, 4)
    with pytest.raises(UsageError, match="size must be above zero"):
        create_attention("additive", 4, 4, 0)
