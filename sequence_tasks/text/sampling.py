"""How a next token is drawn from scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """What is changed of a model's scores before a token is drawn.

    Attributes:
        temperature: scores are divided by it; 0 takes the likeliest token.
        top_k: only so many of the likeliest tokens are drawn; 0 for all.
        top_p: only the likeliest tokens that together have this probability (Holtzman 2019).
        penalty: scores of tokens among the latest ones are divided by it where they are positive
            and multiplied where negative (Keskar 2019); 1 for none.
        memory: how many of the latest tokens are penalised.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    penalty: float = 1.0
    memory: int = 64


def draw(
    scores: np.ndarray, sampling: Sampling, chances: np.ndarray, latest: np.ndarray | None = None
) -> np.ndarray:
    """Draws a token for each row.

    Args:
        scores: logits, float (B, V).
        sampling: how they are changed.
        chances: uniform random numbers in [0, 1), (B,), one a row.
        latest: ids of the latest tokens, (B, M), looked at where there is a penalty.

    Returns:
        Ids, int64 (B,).
    """
    if sampling.penalty != 1 and latest is not None and latest.size:
        scores = _penalised(scores, latest, sampling.penalty)
    if sampling.temperature == 0:
        return scores.argmax(axis=1)
    scores = scores * (1 / sampling.temperature)
    scores -= scores.max(axis=1, keepdims=True)
    if 0 < sampling.top_k < scores.shape[1]:
        least = np.partition(scores, -sampling.top_k, axis=1)[:, -sampling.top_k, None]
        scores = np.where(scores < least, -np.inf, scores)
    weights = np.exp(scores, dtype=np.float64)
    if sampling.top_p < 1:
        weights = _nucleus(weights, sampling.top_p)
    sums = weights.cumsum(axis=1)
    return (sums <= chances[:, None] * sums[:, -1:]).sum(axis=1).clip(max=scores.shape[1] - 1)


def _penalised(scores: np.ndarray, latest: np.ndarray, penalty: float) -> np.ndarray:
    rows = np.arange(len(scores))[:, None]
    hit = scores[rows, latest]
    changed = scores.copy()
    changed[rows, latest] = np.where(hit > 0, hit / penalty, hit * penalty)
    return changed


def _nucleus(weights: np.ndarray, share: float) -> np.ndarray:
    """Weights with those zeroed that are not among the likeliest with `share` of the sum."""
    order = np.argsort(-weights, axis=1, kind="stable")
    sorted_ = np.take_along_axis(weights, order, axis=1)
    before = sorted_.cumsum(axis=1) - sorted_
    sorted_[before >= share * sorted_.sum(axis=1, keepdims=True)] = 0  # the first always stays
    kept = np.empty_like(weights)
    np.put_along_axis(kept, order, sorted_, axis=1)
    return kept
