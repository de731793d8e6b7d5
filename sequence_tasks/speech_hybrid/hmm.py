"""Forward-backward and Viterbi passes over many utterances at once; Python loops over time only.

Everything is computed with logarithms, in the type of the emissions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .graphs import NEVER, GraphBatch

_NEGLIGIBLE = 30.0
"""exp(-30) is below the rounding of a sum that begins with 1; smaller terms may count as this."""


class Transitions(NamedTuple):
    """Of each state, the logarithms of the probabilities to stay and to go on, float32 (K,)."""

    stay: Tensor
    leave: Tensor

    @classmethod
    def of(cls, staying: Tensor) -> Transitions:
        """From the probabilities to stay, in (0, 1)."""
        return cls(staying.log(), (1 - staying).log())


def _log_add(left: Tensor, right: Tensor) -> Tensor:
    """log(exp(left) + exp(right)); several times faster than torch.logaddexp."""
    low = (left - right).abs_().clamp_(max=_NEGLIGIBLE).neg_().exp_().add_(1).log_()
    return low.add_(torch.maximum(left, right))


def _log_sum(values: Tensor) -> Tensor:
    """log of the sum of exp over axis 1."""
    top = values.amax(1, keepdim=True)
    total = (values - top).clamp_(min=-_NEGLIGIBLE).exp_().sum(1)
    return total.log_().add_(top[:, 0])


def _passed(scores: Tensor, again: Tensor, flow: tuple[Tensor, ...], best: bool) -> Tensor:
    """One pass over time.

    Args:
        scores: (T, R, S) of being in each position and leaving it.
        again: (R, S), of staying a frame longer instead.
        flow: source (R, S), joins (R, P, N), starts (R, S).
        best: maxima in the place of sums.

    Returns:
        (T, R, W): for every frame the score of all ways up to it that end in a position.
    """
    source, joins, starts = flow
    rows, many, count = joins.shape
    size = scores.shape[2]
    flat = joins.reshape(rows, many * count)
    lines = scores.new_full((len(scores), rows, size + count + 1), NEVER)
    lines[0, :, :size] = starts + scores[0]
    for time in range(1, len(scores)):
        line = lines[time - 1]
        meeting = line.gather(1, flat).view(rows, many, count)
        line[:, size:-1] = meeting.amax(1) if best else _log_sum(meeting)
        moved, stayed = line.gather(1, source), line[:, :size] + again
        here = torch.maximum(moved, stayed) if best else _log_add(moved, stayed)
        torch.add(here, scores[time], out=lines[time, :, :size])
    return lines


def _position_scores(
    emissions: Tensor, graphs: GraphBatch, transitions: Transitions, inside: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (T, B, S) of being in a position and leaving it, less each frame's greatest (T, B).

    Counting the leaving with the emission makes the forward and the backward pass alike.

    Returns:
        the scores, what was taken off, and what staying adds (B, S).
    """
    leave = transitions.leave.to(emissions.dtype)
    index = graphs.states.expand(emissions.shape[1], -1, -1)
    scores = (emissions + leave).transpose(0, 1).gather(2, index)
    real = (graphs.source[0] < graphs.starts.shape[2] + graphs.joins.shape[3])[None]
    top = scores.masked_fill(~real, NEVER).amax(2)
    scores -= top[:, :, None]
    again = (transitions.stay.to(emissions.dtype) - leave)[graphs.states]
    return scores, torch.where(inside, top, top.new_zeros(())), again


class Posterior(NamedTuple):
    """What a forward-backward pass tells.

    Attributes:
        log_likelihood: (B,) float64, of all ways together, every way through the words weighing
            the same; -inf where the utterance has fewer frames than its shortest way.
        occupancies: (B, T, K): how probable each state is in each frame; 0 after the end and
            where the likelihood is 0.
        stays: (K,) float64: how often a state was followed by itself, expected.
    """

    log_likelihood: Tensor
    occupancies: Tensor
    stays: Tensor


def forward_backward(
    emissions: Tensor, graphs: GraphBatch, lengths: Tensor, transitions: Transitions
) -> Posterior:
    """Sums over all ways through the graphs (Rabiner 1989, section III).

    Args:
        emissions: (B, T, K) log-likelihoods of the frames in each state, float32 or float64;
            after an utterance's end any finite numbers.
        graphs: of the B utterances.
        lengths: (B,) integers in 1 .. T.
        transitions: of the K states.
    """
    times, many = emissions.shape[1], len(lengths)
    clock, rows = torch.arange(times)[:, None], torch.arange(many)
    inside = clock < lengths
    scores, top, again = _position_scores(emissions, graphs, transitions, inside)
    mirror = torch.where(inside, lengths - 1 - clock, clock)
    size = scores.shape[2]
    flow = (graphs.source.flatten(0, 1), graphs.joins.flatten(0, 1), graphs.starts.flatten(0, 1))
    both = _passed(
        torch.cat([scores, scores[mirror, rows]], 1), torch.cat([again, again]), flow, best=False
    )
    forward, backward = both[:, :many, :size], both[mirror, rows + many, :size]
    ended = _log_sum(forward[lengths - 1, rows] + graphs.starts[1])
    possible = ended > NEVER / 2
    log_likelihood = ended.double() + top.double().sum(0)
    stayed = forward[:-1] + backward[1:] + again
    visits = backward.add_(forward).sub_(scores)
    peak = visits.amax(2, keepdim=True)
    visits = visits.sub_(peak).clamp_(min=-2 * _NEGLIGIBLE).exp_()
    scale = (inside & possible)[:, :, None] / visits.sum(2, keepdim=True)
    # The upper bound matters after an utterance's end only, where the numbers mean nothing.
    stayed = stayed.sub_(peak[1:]).clamp_(-2 * _NEGLIGIBLE, 1).exp_().mul_(scale[1:])
    stays = torch.zeros(emissions.shape[2], dtype=torch.float64)
    stays.index_add_(0, graphs.states.flatten(), stayed.sum(0, dtype=torch.float64).flatten())
    occupancies = emissions.new_zeros(times, many, emissions.shape[2])
    occupancies.scatter_add_(2, graphs.states.expand(times, -1, -1), visits.mul_(scale))
    log_likelihood = log_likelihood.masked_fill(~possible, -torch.inf)
    return Posterior(log_likelihood, occupancies.transpose(0, 1), stays)


def viterbi(
    emissions: Tensor, graphs: GraphBatch, lengths: Tensor, transitions: Transitions
) -> tuple[Tensor, Tensor]:
    """The best way through each graph.

    Args:
        emissions, graphs, lengths, transitions: as for `forward_backward`.

    Returns:
        states (B, T) integers, -1 after the end and where no way is short enough; and its
        logarithmic score (B,) float64, -inf where there is none.
    """
    times, many = emissions.shape[1], len(lengths)
    clock, rows = torch.arange(times)[:, None], torch.arange(many)
    scores, top, again = _position_scores(emissions, graphs, transitions, clock < lengths)
    source, joins, starts = graphs.source[0], graphs.joins[0], graphs.starts[0]
    lines = _passed(scores, again, (source, joins, starts), best=True)
    size = scores.shape[2]
    end = lines[lengths - 1, rows, :size] + graphs.starts[1]
    score, position = end.max(1)
    possible = score > NEVER / 2
    through = (source - size).clamp(0, joins.shape[2] - 1)
    states = torch.full((times, many), -1)
    for time in range(times - 1, -1, -1):
        inside = possible & (time < lengths)
        states[time] = torch.where(inside, graphs.states[rows, position], -1)
        if time == 0:
            break
        entered = source[rows, position]
        met = joins[rows, :, through[rows, position]]
        alone = torch.full_like(met, lines.shape[2] - 1)
        alone[:, 0] = entered
        candidates = torch.cat(
            [position[:, None], torch.where((entered < size)[:, None], alone, met)], 1
        )
        values = lines[time - 1].gather(1, candidates)
        values[:, 0] += again[rows, position]
        earlier = candidates[rows, values.argmax(1)]
        position = torch.where(inside, earlier, position)
    total = (score.double() + top.double().sum(0)).masked_fill(~possible, -torch.inf)
    return states.T, total
