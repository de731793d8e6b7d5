"""Attention: which parts of a memory a query reads."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..errors import UnknownNameError, UsageError
from .base import require_positive


def create_attention(kind: str, query_size: int, memory_size: int, size: int) -> Attention:
    """An attention whose `keys(memory)` and `forward(queries, keys, memory, mask)` fit each other.

    Args:
        kind: "general" (a bilinear form, Luong 2015), "dot" (the plain product, which needs equal
            sizes; scaled by their square root) or "additive" (Bahdanau 2015).
        query_size: length of a query.
        memory_size: length of a vector of the memory.
        size: length of the layer inside; used by additive only.

    Raises:
        UnknownNameError: there is no such attention.
        UsageError: sizes that do not fit.
    """
    if kind == "additive":
        return AdditiveAttention(query_size, memory_size, size)
    if kind not in ("general", "dot"):
        raise UnknownNameError("attention", kind, ("general", "dot", "additive"))
    return ProductAttention(query_size, memory_size, learnt=kind == "general")


class ProductAttention(nn.Module):
    """Scores are products of queries and keys (Luong 2015).

    Args:
        query_size: length of a query.
        memory_size: length of a vector of the memory.
        learnt: keys are a linear map of the memory ("general"); else the memory itself ("dot").
    """

    def __init__(self, query_size: int, memory_size: int, learnt: bool = True):
        super().__init__()
        require_positive("attention", query_size=query_size, memory_size=memory_size)
        if not learnt and query_size != memory_size:
            raise UsageError(
                f"dot attention needs queries and memory of one size, not {query_size} and "
                f"{memory_size}; choose general or additive."
            )
        self.map = nn.Linear(memory_size, query_size, bias=False) if learnt else nn.Identity()
        self.scale = 1.0 if learnt else query_size**-0.5

    def keys(self, memory: Tensor) -> Tensor:
        """What queries (B, T, Q) are compared with: (B, S, Q) of a memory (B, S, M)."""
        keys: Tensor = self.map(memory)
        return keys

    def forward(
        self, queries: Tensor, keys: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Reads the memory.

        Args:
            queries: (B, T, Q).
            keys: (B, S, Q), of `keys`.
            memory: (B, S, M).
            mask: bool (B, S), True where there is something to read.

        Returns:
            what was read (B, T, M), and the weights (B, T, S), which sum to 1 over S.
        """
        scores = torch.bmm(queries, keys.transpose(1, 2)) * self.scale
        weights = masked_softmax(scores, mask)
        return torch.bmm(weights.to(memory.dtype), memory), weights


class AdditiveAttention(nn.Module):
    """Scores come from a small network over query and memory (Bahdanau 2015).

    Args:
        query_size: length of a query.
        memory_size: length of a vector of the memory.
        size: length of the hidden layer.
    """

    def __init__(self, query_size: int, memory_size: int, size: int):
        super().__init__()
        require_positive("attention", query_size=query_size, memory_size=memory_size, size=size)
        self.map = nn.Linear(memory_size, size)
        self.query = nn.Linear(query_size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """The memory's part of the hidden layer: (B, S, size) of a memory (B, S, M)."""
        return self.map(memory)

    def forward(
        self, queries: Tensor, keys: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Reads the memory; shapes are those of `ProductAttention.forward`."""
        hidden = torch.tanh(self.query(queries)[:, :, None] + keys[:, None])
        weights = masked_softmax(self.score(hidden)[..., 0], mask)
        return torch.bmm(weights.to(memory.dtype), memory), weights


Attention: TypeAlias = ProductAttention | AdditiveAttention


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax float32 over the last axis of scores (B, T, S), 0 where `mask` (B, S) is False."""
    return scores.float().masked_fill(~mask[:, None], float("-inf")).softmax(-1)
