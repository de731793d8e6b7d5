"""How sure each word is: the forward-backward algorithm over the graph of all words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .word_graph import WordGraph, side_by_side

_SMALLEST = 1e-280
_LARGEST = 700.0  # whose exponential is still finite


def word_posteriors(
    graph: WordGraph,
    emissions: Tensor,
    lengths: Tensor,
    spans: Sequence[Sequence[tuple[int, int, int]]],
) -> list[list[float]]:
    """Probabilities of words that were heard, given the whole utterance.

    A path has a probability in proportion to the exponential of its score. The confidence of a
    word is the probability that this word is being said, summed over all paths, in that one of
    its frames where it is highest (C_max of Wessel et al. 2001), so that it does not matter
    where exactly neighbours part.

    Args:
        graph: words and their chains.
        emissions: (T, K, B), scaled scores of states, each frame's best being 0.
        lengths: int64 (B,), frames of each utterance, 1 or more.
        spans: of each utterance its words: index, first frame, frame after the last.

    Returns:
        of each utterance the confidences of its words, in 0..1.
    """
    linear = _linear(graph)
    # Float64 still holds chances of e^-640 of the best.
    chances = torch.threshold_(emissions.double().exp_(), _SMALLEST, 0.0)
    passed = _forward(linear, chances, lengths)
    begins, ends = _backward(linear, chances, lengths, passed)
    found = []
    for b, words in enumerate(spans):
        one = []
        for word, start, end in words:
            # A word is being said when it has begun more often than it has ended.
            said = begins[:end, word, b].cumsum(0)
            said[1:] -= ends[: end - 1, word, b].cumsum(0)
            one.append(min(1.0, max(0.0, float(said[start:].max()))))
        found.append(one)
    return found


@dataclass(frozen=True)
class _Passed:
    """The forward pass, as far as words begin and end.

    Attributes:
        begins: float64 (T, V, B), sum of all paths whose word begins with the frame, without it.
        ends: float64 (T, V, B), of all paths whose word ends with the frame.
        scale: float64 (T + 1, B), logarithm of what `begins` of frame t is too large by in row
            t, and `ends` in row t + 1.
        total: float64 (B,), logarithm of the sum of all paths from beginning to end.
    """

    begins: Tensor
    ends: Tensor
    scale: Tensor
    total: Tensor


def _linear(graph: WordGraph) -> WordGraph:
    """The same graph with probabilities in the place of their logarithms."""
    return replace(
        graph,
        stay=graph.stay.double().exp(),
        leave=graph.leave.double().exp(),
        start=graph.start.double().exp(),
        end=graph.end.double().exp(),
        follow=None if graph.follow is None else graph.follow.double().exp(),
        empty=math.exp(graph.empty),
        silent=math.exp(graph.silent),
        direct=math.exp(graph.direct),
    )


def _forward(graph: WordGraph, chances: Tensor, lengths: Tensor) -> _Passed:
    frames, _, rows = chances.shape
    words, chains, size = len(graph.words), len(graph.chain_word), len(graph.states)
    passed = _Passed(
        torch.empty(frames, words, rows, dtype=torch.float64),
        torch.empty(frames, words, rows, dtype=torch.float64),
        torch.zeros(frames + 1, rows, dtype=torch.float64),
        torch.zeros(rows, dtype=torch.float64),
    )
    alpha, onward = (torch.zeros(size, rows, dtype=torch.float64) for _ in range(2))
    stay, leave = side_by_side(graph, rows)
    leave_word, leave_tail = leave[graph.ends], leave[graph.tails]
    entering = torch.zeros(len(graph.firsts), rows, dtype=torch.float64)
    entering[-2] = graph.silent
    entry = (graph.start * graph.direct).expand(words, rows)
    for t in range(frames):
        passed.begins[t] = entry
        torch.index_select(entry, 0, graph.chain_word, out=entering[:chains])
        torch.mul(alpha[:-1], leave[:-1], out=onward[1:])
        onward.index_copy_(0, graph.firsts, entering)
        alpha.mul_(stay).add_(onward)
        alpha *= chances[t].index_select(0, graph.states)
        passed.scale[t + 1] = passed.scale[t] + _normalise(alpha)

        going = alpha.index_select(0, graph.ends).mul_(leave_word)
        ended = going.view(words, -1, rows).sum(1)
        passed.ends[t] = ended
        exits = ended * graph.direct
        exits += alpha.index_select(0, graph.tails).mul_(leave_tail)
        silence = alpha[graph.lead] * graph.leave[graph.lead]
        whole = ((graph.end * exits).sum(0) + graph.empty * silence).log() + passed.scale[t + 1]
        torch.where(lengths == t + 1, whole, passed.total, out=passed.total)
        entry = graph.start * silence
        if graph.follow is not None:
            entry = entry + graph.follow.t() @ exits
        entering[chains:-2] = ended * graph.silent
        entering[-2] = 0
    return passed


def _backward(
    graph: WordGraph, chances: Tensor, lengths: Tensor, passed: _Passed
) -> tuple[Tensor, Tensor]:
    """Probabilities (T, V, B) that a word begins, and that it ends, with a frame.

    They take the place of what `passed` holds.
    """
    frames, _, rows = chances.shape
    words, chains, size = len(graph.words), len(graph.chain_word), len(graph.states)
    beta, onward = (torch.zeros(size, rows, dtype=torch.float64) for _ in range(2))
    scale = torch.zeros(rows, dtype=torch.float64)
    starting = torch.zeros(words, rows, dtype=torch.float64)  # a word with the next frame
    stay, leave = side_by_side(graph, rows)
    heads, tails = graph.firsts[:chains], graph.firsts[chains:-2]
    for t in reversed(range(frames)):
        final = lengths == t + 1
        beta[:, final], starting[:, final], scale[final] = 0, 0, 0
        after = torch.zeros_like(starting) if graph.follow is None else graph.follow @ starting
        after = torch.where(final, graph.end, after)
        first = torch.where(final, graph.empty, (graph.start * starting).sum(0))
        ended = graph.direct * after + graph.silent * beta.index_select(0, tails)
        passed.ends[t] *= ended
        passed.ends[t] *= _inverse(passed.total - passed.scale[t + 1] - scale)

        onward[:-1] = beta[1:]
        onward.index_copy_(0, graph.ends, ended.repeat_interleave(len(graph.ends) // words, 0))
        onward.index_copy_(0, graph.tails, after)
        onward[graph.lead] = first
        onward[-1] = 0
        beta.mul_(stay).add_(onward.mul_(leave))
        beta *= chances[t].index_select(0, graph.states)
        scale = scale + _normalise(beta)
        starting = torch.zeros_like(starting).index_add_(
            0, graph.chain_word, beta.index_select(0, heads)
        )
        passed.begins[t] *= starting
        passed.begins[t] *= _inverse(passed.total - passed.scale[t] - scale)
    return passed.begins, passed.ends


def _inverse(logarithm: Tensor) -> Tensor:
    return (-logarithm).clamp(max=_LARGEST).exp()


def _normalise(values: Tensor) -> Tensor:
    """Divides by each column's largest; returns its logarithm, 0 where all is 0.

    What is next to nothing becomes nothing: processors are slow with the smallest of numbers.
    """
    largest = values.amax(0)
    largest = torch.where(largest > 0, largest, 1.0)
    values *= 1 / largest  # many times faster than dividing
    torch.threshold_(values, _SMALLEST, 0.0)
    return largest.log()
