"""What language models are compared with: a GPT by the recipe of nanoGPT for a CPU, a plain LSTM.

The recipe trains four layers of width 128 with four heads on contexts of 64 characters, 12 at a
time, 2,000 times, with AdamW (betas 0.9 and 0.99, weight decay 0.1), gradients clipped at 1 and a
learning rate that rises to 1e-3 in 100 steps and falls along a cosine to 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """The network and its training."""

    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 64
    batch: int = 12
    steps: int = 2000
    warmup: int = 100
    highest: float = 1e-3
    lowest: float = 1e-4

    def learning_rate(self, step: int) -> float:
        """Of a step, from 0."""
        if step < self.warmup:
            return self.highest * (step + 1) / (self.warmup + 1)
        share = min((step - self.warmup) / (self.steps - self.warmup), 1.0)
        return self.lowest + (self.highest - self.lowest) * 0.5 * (1 + math.cos(math.pi * share))


class Block(nn.Module):
    """Attention to what was before, then two linear layers; norms come first, biases nowhere."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.parts = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.wide = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        parts = self.parts(self.norms[0](x)).reshape(batch, steps, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, steps, width))
        return x + self.narrow(F.gelu(self.wide(self.norms[1](x))))


class Gpt(nn.Module):
    """Scores of the next token, (B, T) int64 -> (B, T, vocabulary)."""

    def __init__(self, vocabulary: int, recipe: Recipe):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, recipe.width)
        self.places = nn.Embedding(recipe.context, recipe.width)
        self.blocks = nn.Sequential(
            *(Block(recipe.width, recipe.heads) for _ in range(recipe.layers))
        )
        self.norm = nn.LayerNorm(recipe.width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                deep = name.endswith(("out.weight", "narrow.weight"))
                scale = (2 * recipe.layers) ** -0.5 if deep else 1.0
                nn.init.normal_(weight, std=0.02 * scale)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.blocks(self.tokens(ids) + self.places(places))
        return F.linear(self.norm(x), self.tokens.weight)


class PlainLstm(nn.Module):
    """torch's `nn.LSTM` between an embedding and a linear layer."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(ids))[0])


def gpt_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """As the recipe has it."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))


def learning_step(
    score: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, ids: Tensor
) -> float:
    """One step on ids (B, T + 1); returns the loss in nats."""
    scores = score(ids[:, :-1])
    loss = F.cross_entropy(scores.flatten(0, 1).float(), ids[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    return loss.item()


def crops(ids: Tensor, context: int, batch: int, generator: torch.Generator) -> Tensor:
    """Random pieces (batch, context + 1) of ids (N,)."""
    starts = torch.randint(0, len(ids) - context, (batch,), generator=generator)
    return ids[starts[:, None] + torch.arange(context + 1)]


@torch.no_grad()
def windowed_nats(model: nn.Module, ids: Tensor, context: int, stride: int) -> float:
    """Mean nats of a text (N,), read in windows that move on by `stride` tokens.

    With stride = context each window begins without context; with a smaller one each token but
    the first ones has at least `context - stride` before it.
    """
    total, count = 0.0, 0
    starts = torch.arange(0, len(ids) - 1 - context, stride)
    for chunk in starts.split(256):
        window = ids[chunk[:, None] + torch.arange(context + 1)]
        scores = model(window[:, :-1]).float()
        losses = F.cross_entropy(scores.transpose(1, 2), window[:, 1:], reduction="none")
        new = losses[:, context - stride :]
        if chunk[0] == 0:  # nothing was scored before the first window
            total, count = total + losses[0, : context - stride].sum().item(), context - stride
        total, count = total + new.sum().item(), count + new.numel()
    return total / count
