"""Beam search over many sentences at once, by one network or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .data import BEGIN, END, PAD
from .stepping import BLOCK, Stepper, Tensors

_LENGTH_BASE = 5.0


@dataclass(frozen=True)
class Beam:
    """How translations are searched for.

    Attributes:
        size: hypotheses that are followed at a time.
        n_best: how many are returned.
        length_penalty: exponent a; scores are log probabilities over ((5 + length) / 6)^a, the
            length counting the end (Wu 2016).
        more: tokens that a translation may have beyond `ratio` times its source's.
        ratio: see `more`.
    """

    size: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    more: int = 10
    ratio: float = 2.0


@dataclass(frozen=True)
class Hypothesis:
    """A translation.

    Attributes:
        ids: its tokens, without begin and end.
        log_probability: of all of them and the end, in nats.
        score: what hypotheses are ordered by.
    """

    ids: list[int]
    log_probability: float
    score: float


def penalty(length: int, exponent: float) -> float:
    """What the log probability of `length` tokens, the end included, is divided by."""
    return float(((_LENGTH_BASE + length) / (_LENGTH_BASE + 1)) ** exponent)


@dataclass
class _Sentence:
    """What is found for one source."""

    limit: int
    ended: list[Hypothesis] = field(default_factory=list)


@dataclass
class _Live:
    """All hypotheses that go on, of the sentences that are not done.

    Attributes:
        rows: (B,) place of each sentence in the call.
        tokens: int64 (B, K), the last ones.
        total: float32 (B, K), log probabilities.
        history: int64 (B, K, T), all tokens after the begin.
        memories, states: by network.
    """

    rows: list[int]
    tokens: Tensor
    total: Tensor
    history: Tensor
    memories: list[Tensors]
    states: list[Tensors]


@torch.no_grad()
def beam_search(
    steppers: Sequence[Stepper], sources: Sequence[Tensor], beam: Beam
) -> list[list[Hypothesis]]:
    """Translates a batch of sentences.

    Hypotheses that end leave the beam; a sentence is done when as many as the beam is wide have
    ended, when those that go on cannot pass the best any more, or at its limit, where all must
    end. Several networks vote by the mean of their probabilities (Sutskever 2014).

    Args:
        steppers: one or more networks over the same tokens.
        sources: int64 (B, S) for each of them.
        beam: how to search.

    Returns:
        for each sentence its best hypotheses, the best first.
    """
    lengths = (sources[0] != PAD).sum(1).tolist()
    sentences = [_Sentence(int(beam.ratio * length) + beam.more) for length in lengths]
    live = _start(steppers, sources)
    step = 0
    while live.rows:
        step += 1
        values, parents, tokens = _candidates(steppers, live, 2 * beam.size)
        done = _end(sentences, live, (values, parents, tokens), beam, step)
        live = _go_on(live, (values, parents, tokens), beam.size, done)
    return [sorted(one.ended, key=lambda found: -found.score)[: beam.n_best] for one in sentences]


def _start(steppers: Sequence[Stepper], sources: Sequence[Tensor]) -> _Live:
    began = [one.start(source) for one, source in zip(steppers, sources, strict=True)]
    count, device = len(sources[0]), sources[0].device
    return _Live(
        list(range(count)),
        torch.full((count, 1), BEGIN, device=device),
        torch.zeros(count, 1, device=device),
        torch.zeros(count, 1, 0, dtype=torch.int64, device=device),
        [memory for memory, _ in began],
        [state for _, state in began],
    )


def _candidates(
    steppers: Sequence[Stepper], live: _Live, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations (B, count) of all hypotheses: log probability, parent, token."""
    found, states = [], []
    for stepper, memory, state in zip(steppers, live.memories, live.states, strict=True):
        logits, after = stepper.advance(live.tokens, memory, state)
        found.append(logits)
        states.append(after)
    live.states = states
    if len(found) == 1:
        scores = found[0]
        shift = scores.logsumexp(-1)
    else:
        votes = torch.stack([one.log_softmax(-1) for one in found])
        scores = votes.logsumexp(0) - math.log(len(found))
        shift = torch.zeros_like(live.total)
    scores[..., (PAD, BEGIN)] = float("-inf")
    values, tokens = best_of(scores, min(count, scores.shape[-1]))
    values = values + (live.total - shift)[..., None]
    width = values.shape[-1]
    values, place = values.flatten(1).topk(min(count, values[0].numel()), -1)
    tokens = tokens.flatten(1).gather(1, place)
    # Fewer may be possible than are asked for; no embedding is looked up for the others.
    return values, place // width, tokens.masked_fill(values == float("-inf"), PAD)


def best_of(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(count)` over a last axis that is a multiple of `BLOCK`, faster.

    The best lie in those blocks whose largest values are the largest.
    """
    blocks = scores.shape[-1] // BLOCK
    if blocks <= count:
        return scores.topk(count, -1)
    cut = scores.unflatten(-1, (blocks, BLOCK))
    chosen = cut.amax(-1).topk(count, -1).indices
    held = cut.gather(-2, chosen[..., None].expand(*chosen.shape, BLOCK)).flatten(-2)
    values, place = held.topk(count, -1)
    return values, chosen.gather(-1, place // BLOCK) * BLOCK + place % BLOCK


def _end(
    sentences: list[_Sentence],
    live: _Live,
    candidates: tuple[Tensor, Tensor, Tensor],
    beam: Beam,
    step: int,
) -> list[bool]:
    """Keeps the hypotheses that end; returns which sentences are done."""
    values, parents, tokens = (part.tolist() for part in candidates)
    over = penalty(step, beam.length_penalty)
    done = []
    for row, place in enumerate(live.rows):
        one = sentences[place]
        ends = [i for i, token in enumerate(tokens[row]) if token == END]
        last = step >= one.limit
        for i in ends:
            if (i < beam.size or last) and values[row][i] > -math.inf:
                ids = live.history[row, parents[row][i]].tolist()
                one.ended.append(Hypothesis(ids, values[row][i], values[row][i] / over))
        if last and len(one.ended) < beam.n_best:
            _cut_off(one, live, row, over)
        going = [v for v, token in zip(values[row], tokens[row], strict=True) if token != END]
        done.append(last or _cannot_win(one, max(going, default=-math.inf), beam, step))
    return done


def _cut_off(one: _Sentence, live: _Live, row: int, over: float) -> None:
    """What has not ended at the limit is returned as it stands."""
    for ids, value in zip(live.history[row].tolist(), live.total[row].tolist(), strict=True):
        if value > -math.inf:
            one.ended.append(Hypothesis(ids, value, value / over))


def _cannot_win(one: _Sentence, best: float, beam: Beam, step: int) -> bool:
    if best == -math.inf or len(one.ended) >= beam.size:
        return True
    if len(one.ended) < beam.n_best:
        return False
    # Log probabilities fall with each token. Where lengths are rewarded a longer hypothesis may
    # still pass; that it would at this length is what decides.
    known = sorted((found.score for found in one.ended), reverse=True)
    return best / penalty(step + 1, beam.length_penalty) < known[beam.n_best - 1]


def _go_on(
    live: _Live, candidates: tuple[Tensor, Tensor, Tensor], size: int, done: list[bool]
) -> _Live:
    values, parents, tokens = candidates
    kept = [row for row, over in enumerate(done) if not over]
    # The best that do not end, in order.
    values = values.masked_fill(tokens == END, float("-inf"))
    values, order = values.topk(min(size, values.shape[1]), -1)
    parents, tokens = parents.gather(1, order), tokens.gather(1, order)
    rows = torch.tensor(kept, dtype=torch.int64, device=values.device)
    if len(kept) < len(done):
        values, parents, tokens = values[rows], parents[rows], tokens[rows]
        live.memories = [tuple(part[rows] for part in one) for one in live.memories]
    width = live.tokens.shape[1]
    flat = (rows[:, None] * width + parents).flatten()
    states = [
        tuple(part.flatten(0, 1)[flat].unflatten(0, parents.shape) for part in one)
        for one in live.states
    ]
    history = live.history.flatten(0, 1)[flat].unflatten(0, parents.shape)
    return _Live(
        [live.rows[row] for row in kept],
        tokens,
        values,
        torch.cat([history, tokens[..., None]], -1),
        live.memories,
        states,
    )
