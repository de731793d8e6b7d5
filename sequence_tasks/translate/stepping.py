"""What beam search needs of a network: a memory of the source, and one step at a time."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tensors = tuple[Tensor, ...]
BLOCK = 64
"""logits are computed for a multiple of this many tokens; those beyond the vocabulary never win"""
_NEVER = float("-inf")


class Stepper(Protocol):
    """A network that writes a token at a time."""

    def start(self, source: Tensor) -> tuple[Tensors, Tensors]:
        """Reads sources int64 (B, S).

        Returns a memory, tensors with first axis B, and the state before the first token, tensors
        with first axes (B, 1).
        """

    def advance(self, tokens: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """Writes one token.

        Args:
            tokens: int64 (B, K), the last token of each of K hypotheses.
            memory: of B sources.
            state: tensors with first axes (B, K).

        Returns:
            logits float32 (B, K, V), V the vocabulary rounded up to a multiple of `BLOCK`, and
            the next state.
        """


class Words:
    """The last layer: logits of vectors.

    Args:
        weight: (V, D).
        bias: (V,).
        dtype: in which it multiplies.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype):
        more = -len(weight) % BLOCK
        self.weight = F.pad(weight.detach(), (0, 0, 0, more)).to(dtype).contiguous()
        self.bias = F.pad(bias.detach(), (0, more), value=_NEVER)
        self.dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        """float32 (N, V) of (N, D)."""
        return F.linear(x.to(self.dtype), self.weight).float().add_(self.bias)


def linear(layer: nn.Linear, dtype: torch.dtype) -> nn.Linear:
    """A copy of a layer that computes in another number format."""
    copy = nn.Linear(
        layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta"
    )
    copy.weight = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
    if layer.bias is not None:
        copy.bias = nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
    return copy


def unfolded(tensors: Tensors, batch: int) -> Tensors:
    """Tensors (B * K, ...) as (B, K, ...)."""
    return tuple(t.reshape(batch, -1, *t.shape[1:]) for t in tensors)
