"""The graph that the decoder searches: words as chains of states, and what may follow what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...errors import DataError, UsageError
from .graphs import SILENCE

MOST_WORDS = 3000
NEVER = -math.inf


class WordPairs(Protocol):
    """What a bigram of words has to give, in nats."""

    def bigram_matrix(self, words: Sequence[str]) -> tuple[Any, Any, Any]: ...

    def log_prob(self, history: Sequence[str], word: str) -> float: ...


@dataclass(frozen=True)
class Grammar:
    """Which words may follow which, in log-probabilities (nats).

    Attributes:
        words: V of them, in the order of the arrays.
        start: float32 (V,), of a word after the beginning.
        follow: float32 (V, V), of the second word (column) after the first (row); None where no
            word follows another.
        end: float32 (V,), of the end after a word.
        empty: of the end after the beginning, that is of silence alone; minus infinity forbids it.
    """

    words: tuple[str, ...]
    start: Tensor
    follow: Tensor | None
    end: Tensor
    empty: float = NEVER


def one_word(words: Sequence[str]) -> Grammar:
    """Exactly one word, all alike: isolated words."""
    count = len(words)
    start = torch.full((count,), -math.log(max(count, 1)))
    return Grammar(tuple(words), start, None, torch.zeros(count))


def any_words(words: Sequence[str]) -> Grammar:
    """One word or more, all alike; whether the utterance ends is no less likely than a word."""
    count = len(words)
    each = -math.log(count + 1)
    return Grammar(
        tuple(words),
        torch.full((count,), -math.log(max(count, 1))),
        torch.full((count, count), each),
        torch.full((count,), each),
    )


def word_pairs(words: Sequence[str], ngrams: WordPairs) -> Grammar:
    """Words by a bigram, silence alone included."""
    parts = (torch.as_tensor(part) for part in ngrams.bigram_matrix(list(words)))
    start, follow, end = (part.to(torch.float32) for part in parts)
    return Grammar(tuple(words), start, follow, end, float(ngrams.log_prob(("<s>",), "</s>")))


@dataclass(frozen=True)
class Balance:
    """How a path's score is made of its parts.

    The score is `acoustic` times the log-likelihood of the hidden Markov model (emissions and
    transitions), plus `language` times the log-probability of the words, plus `insertion` for
    each word, plus the log-probability of the silences. Which words win depends on the ratio of
    `acoustic` to `language` only; how sure the confidences are depends on `acoustic` too,
    because neighbouring frames say nearly the same.

    Attributes:
        acoustic: factor, above 0.
        language: factor, 0 or more.
        insertion: nats a word; below 0 there are fewer words.
        silence: probability of a silence at each of the places where one may be: before the
            first word and after each.
    """

    acoustic: float = 0.1
    language: float = 1.0
    insertion: float = 0.0
    silence: float = 0.5

    def __post_init__(self) -> None:
        if not (self.acoustic > 0 and math.isfinite(self.acoustic)):
            raise UsageError(f"the acoustic scale must be above 0, not {self.acoustic}.")
        if not (self.language >= 0 and math.isfinite(self.language)):
            raise UsageError(f"the language weight must be 0 or more, not {self.language}.")
        if not math.isfinite(self.insertion):
            raise UsageError(f"the word insertion must be a number, not {self.insertion}.")
        if not 0 <= self.silence <= 1:
            raise UsageError(f"the probability of silence is in 0..1, not {self.silence}.")


@dataclass(frozen=True)
class WordGraph:
    """All chains, one after the other, as rows of one column; all scores are weighed already.

    First the C pronunciations, then V silences, one a word, so that the word is known when the
    next one is chosen; then the silence before the first word; then one state that nothing
    enters, which fills the places of missing pronunciations. Within a chain state i is followed
    by i + 1.

    Attributes:
        words: V of them.
        states: int64 (S,), the column of the emission scores of each.
        stay, leave: float32 (S, 1), to remain in a state and to go on from it.
        firsts: int64 (C + V + 2,), where each chain begins.
        chain_word: int64 (C,), the word of each pronunciation.
        ends: int64 (V * P,), the last state of each of a word's pronunciations, filled up to
            the P of the word that has most.
        tails: int64 (V,), the last state of each word's silence.
        lead: the last state of the silence before the first word.
        start, end: float32 (V, 1); `start` and `follow` hold the word insertion.
        follow: float32 (V, V), or None.
        empty: score of no word at all.
        silent, direct: scores of a silence, and of none, where one may be.
    """

    words: tuple[str, ...]
    states: Tensor
    stay: Tensor
    leave: Tensor
    firsts: Tensor
    chain_word: Tensor
    ends: Tensor
    tails: Tensor
    lead: int
    start: Tensor
    end: Tensor
    follow: Tensor | None
    empty: float
    silent: float
    direct: float


def build_graph(
    pronunciations: Mapping[str, Sequence[Sequence[str]]],
    phones: Sequence[str],
    transitions: tuple[Tensor, Tensor],
    grammar: Grammar,
    balance: Balance,
) -> WordGraph:
    """Lays the words out as chains of states.

    Args:
        pronunciations: of each word, as phones.
        phones: all of them in the order of their states, `SILENCE` among them.
        transitions: log-probabilities (nats) of remaining in each state and of going on, each
            float (K,); phone p has the states from p * K / len(phones) on.
        grammar: the words, and what may follow what.
        balance: how the parts are weighed.

    Raises:
        UsageError: no word, a word twice, or more than `MOST_WORDS`.
        DataError: a phone without states.
    """
    words = grammar.words
    _require_words(words, grammar)
    stay, leave = (part.detach().cpu().float() for part in transitions)
    chains = _chains(words, pronunciations, phones, len(stay) // max(len(phones), 1))
    silence = chains.pop(-1)[1]
    layout = [states for _, states in chains] + [silence] * (len(words) + 1) + [silence[:1]]
    states = torch.tensor([state for chain in layout for state in chain])
    lengths = torch.tensor([len(chain) for chain in layout])
    last = lengths.cumsum(0) - 1
    chain_word = torch.tensor([word for word, _ in chains])
    scale, weight = balance.acoustic, balance.language
    follow = grammar.follow
    return WordGraph(
        words=words,
        states=states,
        stay=(scale * stay)[states, None],
        leave=(scale * leave)[states, None],
        firsts=last - lengths + 1,
        chain_word=chain_word,
        ends=_ends(chain_word, last, len(words)),
        tails=last[len(chains) : -2],
        lead=int(last[-2]),
        start=(_weighed(weight, grammar.start) + balance.insertion)[:, None],
        end=_weighed(weight, grammar.end)[:, None],
        follow=None if follow is None else _weighed(weight, follow) + balance.insertion,
        empty=float(_weighed(weight, torch.tensor(grammar.empty))),
        silent=_log(balance.silence),
        direct=_log(1 - balance.silence),
    )


def side_by_side(graph: WordGraph, rows: int) -> tuple[Tensor, Tensor]:
    """`stay` and `leave` (S, B), written out: much faster than broadcasting over few rows."""
    stay, leave = (part.expand(-1, rows).contiguous() for part in (graph.stay, graph.leave))
    return stay, leave


def _weighed(weight: float, scores: Tensor) -> Tensor:
    """What is forbidden stays so, even where the language counts for nothing."""
    scores = scores.detach().cpu().float()
    return torch.where(scores == NEVER, scores, weight * scores)


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else NEVER


def _require_words(words: Sequence[str], grammar: Grammar) -> None:
    if not words:
        raise UsageError("the decoder needs at least one word to listen for.")
    if len(words) > MOST_WORDS:
        raise UsageError(
            f"the decoder listens for at most {MOST_WORDS:,} words, not {len(words):,}; "
            "leave out those that are rarely said."
        )
    if len(set(words)) < len(words):
        twice = next(word for i, word in enumerate(words) if word in words[:i])
        raise UsageError(f"the decoder's words must differ, but {twice!r} is there twice.")
    shape = (len(words), len(words))
    if grammar.follow is not None and tuple(grammar.follow.shape) != shape:
        raise UsageError(f"for {len(words)} words the bigram must be {shape}.")


def _chains(
    words: Sequence[str],
    pronunciations: Mapping[str, Sequence[Sequence[str]]],
    phones: Sequence[str],
    each: int,
) -> list[tuple[int, list[int]]]:
    """Word and states of every pronunciation; the silence is the last one, its word -1."""
    place = {phone: index for index, phone in enumerate(phones)}
    said = [(index, tuple(p)) for index, word in enumerate(words) for p in pronunciations[word]]
    said.append((-1, (SILENCE,)))
    lost = sorted({phone for _, sounds in said for phone in sounds} - set(place))
    if lost:
        raise DataError(
            f"the acoustic model has no phone {', '.join(lost)}; "
            "train it with the lexicon that is decoded with."
        )
    return [
        (word, [place[phone] * each + j for phone in sounds for j in range(each)])
        for word, sounds in said
    ]


def _ends(chain_word: Tensor, last: Tensor, words: int) -> Tensor:
    counts = torch.bincount(chain_word, minlength=words)
    ends = torch.full((words, int(counts.max())), int(last[-1]))
    begins = counts.cumsum(0) - counts
    ends[chain_word, torch.arange(len(chain_word)) - begins[chain_word]] = last[: len(chain_word)]
    return ends.flatten()
