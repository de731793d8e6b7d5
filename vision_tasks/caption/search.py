"""Sentences of a decoder that writes a word at a time: by beam search, or drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .._telling.words import END, PAD, START, UNK

Tensors = tuple[Tensor, ...]
_NEVER = float("-inf")


class Writer(Protocol):
    """A network that writes a word at a time."""

    def begin(self, pictures: Tensor) -> tuple[Tensors, Tensors]:
        """Reads pictures (B, 3, H, W), uint8.

        Returns a memory, tensors with first axis B, and the state before the first word, tensors
        with first axes (B, 1).
        """

    def write(self, words: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """Writes one word.

        Args:
            words: int64 (B, K), the last word of each of K sentences.
            memory: of B pictures.
            state: tensors with first axes (B, K).

        Returns:
            log probabilities float32 (B, K, V) and the next state.
        """


@dataclass(frozen=True)
class Beam:
    """How sentences are searched for.

    Attributes:
        size: sentences that are followed at a time.
        n_best: how many are returned, `size` at most.
        length_penalty: exponent of the number of words, the end included, that log probabilities
            are divided by.
        longest: words at most; what has not ended then is cut off.
    """

    size: int = 3
    n_best: int = 1
    length_penalty: float = 0.0
    longest: int = 48


@dataclass(frozen=True)
class Written:
    """A sentence.

    Attributes:
        ids: its words, without start and end.
        log_probability: of all of them and the end, in nats.
        score: what sentences are ordered by.
    """

    ids: list[int]
    log_probability: float
    score: float


@torch.no_grad()
def beam_search(writer: Writer, pictures: Tensor, beam: Beam) -> list[list[Written]]:
    """The best sentences of each picture, the best first.

    Sentences that have ended keep their place in the beam until better ones push them out. The
    search is over when every sentence of the beam has ended, or, without a length penalty, when
    the best `n_best` have: no other can pass them, as log probabilities only fall.

    Args:
        writer: the network.
        pictures: uint8 (B, 3, H, W).
        beam: how to search.
    """
    memory, state = writer.begin(pictures)
    count, device = len(pictures), pictures.device
    words = torch.full((count, 1), START, device=device)
    total = torch.zeros(count, 1, device=device)
    history = torch.zeros(count, 1, 0, dtype=torch.int64, device=device)
    for _ in range(beam.longest):
        scores, state = writer.write(words, memory, state)
        scores = _allowed(scores, words)
        vocabulary = scores.shape[-1]
        sums = (total[..., None] + scores).flatten(1)
        total, place = sums.topk(min(beam.size, sums.shape[1]), -1)
        parent, words = place // vocabulary, place % vocabulary
        rows = torch.arange(count, device=device)[:, None]
        state = tuple(part[rows, parent] for part in state)
        history = torch.cat([history[rows, parent], words[..., None]], -1)
        over = (words == END) | (words == PAD) | (total == _NEVER)
        if not beam.length_penalty:
            over = over[:, : beam.n_best]
        if bool(over.all()):
            break
    return [
        _ordered(ids, sums, beam)
        for ids, sums in zip(history.tolist(), total.tolist(), strict=True)
    ]


def _allowed(scores: Tensor, words: Tensor) -> Tensor:
    """Scores without what is never written; nothing but padding follows an end."""
    scores = scores.clone()
    scores[..., (PAD, START, UNK)] = _NEVER
    ended = (words == END) | (words == PAD)
    scores = scores.masked_fill(ended[..., None], _NEVER)
    scores[..., PAD] = scores[..., PAD].masked_fill(ended, 0.0)
    return scores


def _ordered(rows: list[list[int]], totals: list[float], beam: Beam) -> list[Written]:
    found = []
    for row, total in zip(rows, totals, strict=True):
        if total == _NEVER:  # fewer sentences are possible than the beam is wide
            continue
        ids = _words_of(row)
        ended = END in row
        score = total / (len(ids) + ended) ** beam.length_penalty
        found.append(Written(ids, total, score))
    return sorted(found, key=lambda one: -one.score)[: beam.n_best]


def _words_of(row: list[int]) -> list[int]:
    return row[: row.index(END)] if END in row else row


@torch.no_grad()
def draw_sentences(
    writer: Writer,
    pictures: Tensor,
    temperature: float,
    count: int,
    longest: int,
    generator: torch.Generator,
) -> list[list[Written]]:
    """Sentences drawn word by word, the likeliest first.

    Args:
        writer: the network.
        pictures: uint8 (B, 3, H, W).
        temperature: above 0; log probabilities are divided by it before words are drawn.
        count: sentences for each picture.
        longest: words at most.
        generator: of the draws, on the CPU.

    Returns:
        for each picture `count` sentences, with their log probabilities at temperature 1.
    """
    memory, state = writer.begin(pictures)
    rows, device = len(pictures), pictures.device
    state = tuple(part.expand(rows, count, *part.shape[2:]).contiguous() for part in state)
    words = torch.full((rows, count), START, device=device)
    total = torch.zeros(rows, count, device=device)
    history = torch.zeros(rows, count, 0, dtype=torch.int64, device=device)
    for _ in range(longest):
        scores, state = writer.write(words, memory, state)
        scores = _allowed(scores, words)
        shares = (scores / temperature).softmax(-1).flatten(0, 1).cpu()
        words = torch.multinomial(shares, 1, generator=generator).view(rows, count).to(device)
        total = total + scores.gather(-1, words[..., None])[..., 0]
        history = torch.cat([history, words[..., None]], -1)
        if bool(((words == END) | (words == PAD)).all()):
            break
    beam = Beam(count, count)
    return [
        _ordered(ids, sums, beam)
        for ids, sums in zip(history.tolist(), total.tolist(), strict=True)
    ]
