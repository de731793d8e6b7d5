"""Models of which word follows which: trained from texts, or read from an ARPA file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ...errors import DataError, UsageError
from .arpa import NGram, parse_arpa, written_arpa

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
Smoothing = Literal["kneser-ney", "absolute"]

_NATS = math.log(10)
_NO_WORD = -100.0
"""log10 of the probability of an unknown word where a model lists no <unk>, as KenLM has it"""
_NOT_PREDICTED = -99.0
"""what an ARPA file holds for <s>, which nothing predicts"""
_DIGITS = 7
"""decimals of logarithms: a trained model is what its ARPA file says"""


@dataclass(frozen=True)
class NGrams:
    """A back-off model of words (Katz 1987), in the terms of an ARPA file.

    The probability of a word after others is that of the longest n-gram listed; for each word by
    which the history must be shortened until there is one, its back-off weight is a factor.

    Attributes:
        order: most words of an n-gram.
        log10: by n-gram, the logarithm of its last word's probability after the others.
        backoff: by history, the logarithm of its back-off weight; 0 where it is not listed.
    """

    order: int
    log10: Mapping[NGram, float]
    backoff: Mapping[NGram, float]

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The vocabulary, sorted, without <s>, </s> and <unk>."""
        singles = {ngram[0] for ngram in self.log10 if len(ngram) == 1}
        return tuple(sorted(singles - {START, END, UNKNOWN}))

    def known(self, word: str) -> str:
        """The word itself, or <unk>."""
        return word if (word,) in self.log10 else UNKNOWN

    def shortened(self, history: Sequence[str]) -> NGram:
        """As much of a history as matters: its last words, each itself or <unk>."""
        kept = history[max(0, len(history) - self.order + 1) :]
        return tuple(self.known(word) for word in kept)

    def log_prob(self, history: Sequence[str], word: str) -> float:
        """Log-probability of a word after others, in nats.

        Args:
            history: the words before it, the first one <s> where they are all of the sentence.
            word: or </s>. Words that the model does not list are <unk>.
        """
        ngram = (*self.shortened(history), self.known(word))
        weights = 0.0
        while (found := self.log10.get(ngram)) is None:
            if len(ngram) == 1:
                found = _NO_WORD
                break
            weights += self.backoff.get(ngram[:-1], 0.0)
            ngram = ngram[1:]
        return (weights + found) * _NATS

    def sentence_log_prob(self, text: str) -> float:
        """Log-probability of all words of a text and of its end, in nats."""
        words = [START, *text.split(), END]
        return sum(self.log_prob(words[:place], words[place]) for place in range(1, len(words)))

    def perplexity(self, texts: Iterable[str]) -> float:
        """exp of minus the mean log-probability of words; ends count and so do unknown words."""
        texts = list(texts)
        total = sum(self.sentence_log_prob(text) for text in texts)
        return math.exp(-total / sum(len(text.split()) + 1 for text in texts))

    def bigram_matrix(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-probabilities of words at the beginning, after one another, and of the end.

        They are those that `log_prob` gives after a history of one word: of a model of a higher
        order they are what it backs off to.

        Args:
            words: V of them, in any order; those that the model does not list are <unk>.

        Returns:
            float32 in nats: (V,) of each word after <s>; (V, V), by the word before and the
            word; (V,) of </s> after each word.
        """
        places: dict[str, list[int]] = {}
        for index, word in enumerate(words):
            places.setdefault(self.known(word), []).append(index)
        before, after = {START: [len(words)], **places}, {END: [len(words)], **places}
        table = np.empty((len(words) + 1, len(words) + 1))
        weight, single = np.zeros(len(words) + 1), np.zeros(len(words) + 1)
        for word, rows in before.items():
            weight[rows] = self.backoff.get((word,), 0.0) if self.order > 1 else 0.0
        for word, columns in after.items():
            single[columns] = self.log10.get((word,), _NO_WORD)
        table[:] = weight[:, None] + single
        for ngram, value in self.log10.items():
            if len(ngram) == 2 and ngram[0] in before and ngram[1] in after:
                table[np.ix_(before[ngram[0]], after[ngram[1]])] = value
        table = (table * _NATS).astype(np.float32)
        return table[-1, :-1], table[:-1, :-1], table[:-1, -1]

    def write_arpa(self) -> str:
        """The text of an ARPA file, of which `read_arpa` makes an equal model."""
        return written_arpa(self.order, self.log10, self.backoff)


def read_arpa(text: str, name: str = "the ARPA text") -> NGrams:
    """A model of the text of an ARPA file, as KenLM, SRILM and `NGrams.write_arpa` write it.

    Args:
        name: the file's, for errors.

    Raises:
        DataError: the text is no ARPA file or damaged; names the line.
    """
    order, log10, backoff = parse_arpa(text, name)
    return NGrams(order, log10, backoff)


def train_ngrams(
    texts: Iterable[str],
    order: int = 3,
    smoothing: Smoothing = "kneser-ney",
    vocabulary: Iterable[str] | None = None,
) -> NGrams:
    """Counts words and smooths what was counted, every order interpolated with the next lower.

    "kneser-ney" is the interpolated modified Kneser-Ney smoothing of Chen and Goodman (1998):
    three discounts an order, estimated from how many n-grams occur once to four times, and lower
    orders count in how many contexts an n-gram occurs rather than how often. "absolute" is
    absolute discounting (Ney, Essen and Kneser 1994): one discount an order, and plain counts.
    The lowest order is interpolated with equal probabilities of all words, of </s> and of <unk>.

    Args:
        texts: sentences; their words are parted by white space.
        order: most words of an n-gram, 1 or more.
        vocabulary: the words that there are, seen or not; others of the texts become <unk>. All
            words of the texts where None.

    Raises:
        UsageError: the order is below 1, or a word is <s>, </s> or <unk>.
        DataError: there are no texts.
    """
    if order < 1:
        raise UsageError(f"the order of a model of language is {order}; it must be 1 or more.")
    sentences = [text.split() for text in texts]
    if not sentences:
        raise DataError("a model of language needs at least one text.")
    seen = {word for sentence in sentences for word in sentence}
    words = seen if vocabulary is None else set(vocabulary)
    if reserved := sorted((seen | words) & {START, END, UNKNOWN}):
        raise UsageError(f"{reserved[0]} cannot be a word of a text; take it out.")
    padded = [
        (START, *(word if word in words else UNKNOWN for word in sentence), END)
        for sentence in sentences
    ]
    counts = [_counts(padded, size) for size in range(1, order + 1)]
    if smoothing == "kneser-ney":
        counts = [
            *(_contexts(low, high) for low, high in zip(counts, counts[1:], strict=False)),
            counts[-1],
        ]
    return _smoothed(counts, sorted(words | {END, UNKNOWN}), smoothing)


def _counts(sentences: Sequence[NGram], size: int) -> Counter[NGram]:
    """How often each n-gram occurs; <s> alone is none."""
    first = 1 if size == 1 else 0
    return Counter(
        sentence[place : place + size]
        for sentence in sentences
        for place in range(first, len(sentence) - size + 1)
    )


def _contexts(counts: Counter[NGram], longer: Counter[NGram]) -> Counter[NGram]:
    """Before how many words each n-gram stands; its count where only <s> could stand before."""
    found = Counter(ngram[1:] for ngram in longer)
    found.update({ngram: count for ngram, count in counts.items() if ngram[0] == START})
    return found


def _smoothed(counts: Sequence[Counter[NGram]], words: Sequence[str], how: Smoothing) -> NGrams:
    """The model of counts by order; `words` share what the lowest one leaves."""
    lower: dict[NGram, float] = {(): 1 / len(words)}
    log10: dict[NGram, float] = {(START,): _NOT_PREDICTED}
    backoff: dict[NGram, float] = {}
    for order, found in enumerate(counts, 1):
        discounts = _discounts(found, how)
        total: Counter[NGram] = Counter()
        taken: dict[NGram, float] = {}
        for ngram, count in found.items():
            total[ngram[:-1]] += count
            taken[ngram[:-1]] = taken.get(ngram[:-1], 0.0) + discounts[min(count, 3)]
        left = {history: mass / total[history] for history, mass in taken.items()}
        ngrams: Mapping[NGram, int] = found
        if order == 1:
            ngrams = {(word,): found[(word,)] for word in words}
        lower = {
            ngram: (count - discounts[min(count, 3)]) / total[ngram[:-1]]
            + left[ngram[:-1]] * lower[ngram[1:]]
            for ngram, count in ngrams.items()
        }
        log10 |= {ngram: round(math.log10(value), _DIGITS) for ngram, value in lower.items()}
        if order > 1:
            backoff |= {h: round(math.log10(value), _DIGITS) for h, value in left.items()}
    return NGrams(len(counts), log10, backoff)


def _discounts(counts: Mapping[NGram, int], how: Smoothing) -> tuple[float, float, float, float]:
    """What is taken from counts of 0, 1, 2, and 3 or more.

    Few texts may have no n-gram that occurs once, twice, three or four times; the usual values
    then serve.
    """
    of = Counter(counts.values())
    if how == "absolute":
        one = of[1] / (of[1] + 2 * of[2]) if of[1] and of[2] else 0.75
        return 0.0, one, one, one
    if all(of[count] for count in (1, 2, 3, 4)):
        part = of[1] / (of[1] + 2 * of[2])
        found = tuple(k - (k + 1) * part * of[k + 1] / of[k] for k in (1, 2, 3))
        if all(0 < discount <= k for k, discount in enumerate(found, 1)):
            return 0.0, found[0], found[1], found[2]
    return 0.0, 0.5, 1.0, 1.5
