"""What scoring, samples and `eightbit run` share: pictures in, sentences and similarities out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .._telling.drawing import cell_places, spread
from .._telling.words import END, PAD, START
from .model import CaptionNetwork
from .search import Beam, Written, beam_search

BATCH = 64
"""pictures that go through a network together"""


def device_of(network: CaptionNetwork) -> torch.device:
    """Where it computes."""
    return network.bias.device


def parts(count: int, size: int = BATCH) -> Iterator[np.ndarray]:
    """Indices 0 to `count` in blocks."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def tell(network: CaptionNetwork, pictures: Tensor, beam: Beam) -> list[list[Written]]:
    """The best sentences of each picture uint8 (N, 3, S, S) on the CPU, the best first."""
    device = device_of(network)
    found: list[list[Written]] = []
    for rows in parts(len(pictures)):
        found += beam_search(network, pictures[torch.from_numpy(rows)].to(device), beam)
    return found


def padded(sentences: Sequence[Sequence[int]]) -> Tensor:
    """int64 (N, T): words between start and end, `PAD` behind the short ones."""
    longest = max(len(one) for one in sentences) + 2
    table = np.full((len(sentences), longest), PAD, np.int64)
    for row, one in zip(table, sentences, strict=True):
        row[: len(one) + 2] = [START, *one, END]
    return torch.from_numpy(table)


def encoded(network: CaptionNetwork, sentence: str) -> list[int]:
    """The ids of a sentence's words, cut at the longest that the network learnt."""
    return network.words.encode(sentence)[: network.options.longest]


@torch.no_grad()
def attention_of(network: CaptionNetwork, picture: Tensor, ids: Sequence[int]) -> np.ndarray:
    """What each word of a sentence, and its end, was read from.

    Args:
        network: one that attends.
        picture: uint8 (3, S, S).
        ids: T words.

    Returns:
        float32 (T + 1, S, S), the weights of the cells spread over the picture's pixels.
    """
    device = device_of(network)
    vector, cells = network.look(picture[None].to(device))
    _, weights = network.decode(vector, cells, padded([ids])[:, :-1].to(device))
    maps = weights[0].float().cpu().numpy().reshape(-1, *network.grid)
    places = cell_places(network.backbone)
    return np.stack([spread(one, network.options.size, *places) for one in maps])


@torch.no_grad()
def word_region_scores(network: CaptionNetwork, picture: Tensor, ids: Sequence[int]) -> np.ndarray:
    """Products of words and regions of a network that learnt the alignment.

    Args:
        network: one whose ranking is an `Alignment`.
        picture: uint8 (3, S, S).
        ids: T words.

    Returns:
        float32 (T, h * w + 1); the last column is the whole picture.
    """
    device = device_of(network)
    assert network.ranking is not None
    words = torch.tensor([list(ids)], device=device)
    told = network.ranking.sentences(network.vectors(words), words != PAD)
    regions = network.ranking.pictures(*network.look(picture[None].to(device)))
    return (told[0] @ regions[0].t()).float().cpu().numpy()


@torch.no_grad()
def similarities(
    network: CaptionNetwork, pictures: Tensor, sentences: Sequence[Sequence[int]]
) -> np.ndarray:
    """How well sentences fit pictures.

    It is what the network's ranking learnt; without one, the log probability of the sentence
    given the picture (Mao 2014), less its mean over the pictures, so that sentences compare.

    Args:
        network: in evaluation mode.
        pictures: uint8 (N, 3, S, S), on the CPU.
        sentences: ids of words.

    Returns:
        float32 (N, sentences).
    """
    device = device_of(network)
    told = padded(sentences).to(device)
    if network.ranking is None:
        told_of = [_log_probabilities(network, picture.to(device), told) for picture in pictures]
        table = torch.stack(told_of)
        return (table - table.mean(0) if len(table) > 1 else table).cpu().numpy()
    words = told[:, 1:]
    mask = words != PAD
    vectors = network.ranking.sentences(network.vectors(words), mask)
    found = []
    for rows in parts(len(pictures), 16):
        vector, cells = network.look(pictures[torch.from_numpy(rows)].to(device))
        seen = network.ranking.pictures(vector, cells)
        found.append(network.ranking.similarity(seen, vectors, mask).float().cpu())
    return torch.cat(found).numpy()


def _log_probabilities(network: CaptionNetwork, picture: Tensor, told: Tensor) -> Tensor:
    """Of sentences (N, T) given one picture: float32 (N,)."""
    vector, cells = network.look(picture[None])
    found = []
    for some in told.split(BATCH):
        many = len(some)
        logits, _ = network.decode(
            vector.expand(many, -1), cells.expand(many, -1, -1), some[:, :-1]
        )
        chosen = logits.float().log_softmax(-1).gather(-1, some[:, 1:, None])[..., 0]
        found.append((chosen * (some[:, 1:] != PAD)).sum(1))
    return torch.cat(found)
