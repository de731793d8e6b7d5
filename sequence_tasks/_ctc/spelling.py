"""What is known of spelled texts: words of a dictionary and their order, or characters' order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...errors import DataError, UsageError
from .labels import encode, label_of
from .ngrams import END, START, UNKNOWN, NGrams

_DISCOUNT = 0.75
_ROOT = 0
_OUTSIDE = -1
"""the node of a word that the dictionary does not hold"""

Spelled = tuple[tuple[str, ...], int, float]
"""The words so far as far as they matter, the node of the letters since, and what was given for
these in advance."""


class SpelledWords:
    """A `LabelLanguage` of characters: words of a dictionary, weighed by a model of words.

    A space or the end closes a word, which then gains `weight` times its log-probability after
    the words before it, and `bonus`. So that a long word is not dropped before it is complete,
    its letters gain in advance what the likeliest word that begins with them would, in the
    model's lowest order (Ortmanns 1996); the end of the word settles the difference, and a whole
    text gains the same with and without. Spaces at the beginning, at the end, and after another
    space gain nothing.

    Attributes:
        unspelled: words of the dictionary that are passed over, for a character has no label.

    Args:
        words: the dictionary.
        label_of: the label of each character.
        ngrams: the model of words; None for equal words, whose log-probability counts as 0.
        weight: factor on log-probabilities.
        bonus: nats for each word: it makes up for the words' low probabilities, without which
            few and short words would be preferred.
        unknown: nats, 0 or less, that a word outside the dictionary gains beside the probability
            of <unk>; None forbids such words.
        ahead: whether letters gain in advance.

    Raises:
        UsageError: there is no label for the space, or `unknown` is above 0.
        DataError: the dictionary holds no word that can be spelled.
    """

    def __init__(
        self,
        words: Iterable[str],
        label_of: Mapping[str, int],
        ngrams: NGrams | None = None,
        weight: float = 1.0,
        bonus: float = 0.0,
        unknown: float | None = None,
        ahead: bool = True,
    ):
        if " " not in label_of:
            raise UsageError("words are parted by spaces; the alphabet must hold one.")
        if unknown is not None and unknown > 0:
            raise UsageError(f"unknown words gain {unknown}; it must be 0 or less.")
        self._space = label_of[" "]
        self._ngrams, self._weight, self._bonus = ngrams, weight, bonus
        self._unknown = unknown
        self._gains: dict[tuple[tuple[str, ...], str], float] = {}
        self._children: list[dict[int, int]] = [{}]
        self._word: list[str | None] = [None]
        self.unspelled = self._plant(words, label_of)
        if len(self._children) == 1:
            raise DataError("no word of the dictionary can be spelled with the alphabet.")
        self._ahead = self._in_advance() if ahead else [0.0] * (len(self._children) + 1)

    def start(self) -> Spelled:
        """The state before the first label."""
        return (START,) if self._ngrams is not None else (), _ROOT, 0.0

    def extend(self, state: Spelled, label: int) -> tuple[Spelled, float] | None:
        """The state after a label, and its gain in nats; None where no word goes on so."""
        history, node, given = state
        if label == self._space:
            if node == _ROOT:
                return state, 0.0
            closed = self._closed(state)
            return None if closed is None else ((closed[0], _ROOT, 0.0), closed[1])
        below = _OUTSIDE if node == _OUTSIDE else self._children[node].get(label, _OUTSIDE)
        if below == _OUTSIDE and self._unknown is None:
            return None
        ahead = self._ahead[below]
        return (history, below, ahead), ahead - given

    def finish(self, state: Spelled) -> float | None:
        """What the end gains in nats; None within a word."""
        if state[1] == _ROOT:
            return self._word_gain(state[0], END)
        closed = self._closed(state)
        return None if closed is None else closed[1] + self._word_gain(closed[0], END)

    def _closed(self, state: Spelled) -> tuple[tuple[str, ...], float] | None:
        """The history after the word that ends here, and its gain less what it was given."""
        history, node, given = state
        word = None if node == _OUTSIDE else self._word[node]
        if word is None and self._unknown is None:
            return None
        gain = self._bonus - given
        if word is None:
            word = UNKNOWN
            gain += self._unknown or 0.0
        gain += self._word_gain(history, word)
        if self._ngrams is not None:
            history = self._ngrams.shortened((*history, word))
        return history, gain

    def _word_gain(self, history: tuple[str, ...], word: str) -> float:
        if self._ngrams is None:
            return 0.0
        found = self._gains.get((history, word))
        if found is None:
            found = self._weight * self._ngrams.log_prob(history, word)
            self._gains[history, word] = found
        return found

    def _plant(self, words: Iterable[str], label_of: Mapping[str, int]) -> tuple[str, ...]:
        """Makes the tree of the words' letters, a node after the one above it; returns words
        that have no place in it."""
        unspelled = []
        for word in words:
            if not word or not all(one in label_of and one != " " for one in word):
                unspelled.append(word)
                continue
            node = _ROOT
            for one in word:
                children = self._children[node]
                node = children.setdefault(label_of[one], len(self._children))
                if node == len(self._children):
                    self._children.append({})
                    self._word.append(None)
            self._word[node] = word
        return tuple(unspelled)

    def _in_advance(self) -> list[float]:
        """What the letters that lead to each node gain; the last entry is for `_OUTSIDE`."""
        outside = -math.inf
        if self._unknown is not None:
            outside = self._word_gain((), UNKNOWN) + self._bonus + self._unknown
        best = [
            outside if word is None else max(outside, self._word_gain((), word) + self._bonus)
            for word in self._word
        ]
        for node in range(len(best) - 1, -1, -1):
            best[node] = max([best[node], *(best[one] for one in self._children[node].values())])
        best[_ROOT] = 0.0
        return [*best, outside]


class LabelNGrams:
    """A `LabelLanguage` of characters' order: each label gains against even odds.

    Args:
        table: float (labels, labels, labels) of log-probabilities of a label after two others;
            label 0 stands before the beginning.
        weight: factor on log-probabilities in units that do not punish long texts as such: a
            likely character is a gain and an unlikely one a loss.
    """

    def __init__(self, table: np.ndarray, weight: float):
        self._table = table
        self._weight = weight
        self._even = math.log(len(table) - 1)
        self._rows: dict[tuple[int, int], list[float]] = {}

    def start(self) -> tuple[int, int]:
        """The state before the first label."""
        return 0, 0

    def extend(self, state: tuple[int, int], label: int) -> tuple[tuple[int, int], float]:
        """The state after a label, and its gain in nats."""
        row = self._rows.get(state)
        if row is None:
            row = self._rows[state] = self._table[state].tolist()
        return (state[1], label), self._weight * (row[label] + self._even)

    def finish(self, state: tuple[int, int]) -> float:
        """0: any text may end."""
        return 0.0


def trigram_table(texts: Sequence[str], alphabet: Sequence[str]) -> np.ndarray:
    """Log-probabilities of characters after two others, smoothed by absolute discounting.

    The trigram's counts, less 0.75 each, are filled up with the bigram's probabilities, these
    with the unigram's, and these with equal ones. A text that occurs often counts once.

    Returns:
        float16 (A + 1, A + 1, A + 1), by the label before the last, the last and the next; label
        0 stands before the beginning. Entry 0 of the last axis is -1e4 and never a character.
    """
    size = len(alphabet) + 1
    place = label_of(alphabet)
    rows = [np.array([0, 0, *encode(text, place)]) for text in sorted(set(texts))]
    rows = [row for row in rows if len(row) > 2]
    counts = np.zeros((size, size, size))
    for row in rows:
        np.add.at(counts, (row[:-2], row[1:-1], row[2:]), 1)
    even = np.full(size, 1 / max(1, size - 1))
    even[0] = 0
    one = _filled(counts.sum((0, 1)), even)
    two = _filled(counts.sum(0), one)
    three = _filled(counts, two)
    table = np.full(three.shape, -1e4)
    np.log(three, out=table, where=three > 0)
    return table.astype(np.float16)


def _filled(counts: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Discounted counts over the last axis plus what was taken, given out as `below` says."""
    total = counts.sum(-1, keepdims=True)
    taken = _DISCOUNT * (counts > 0).sum(-1, keepdims=True)
    shares = np.maximum(counts - _DISCOUNT, 0) / np.maximum(total, 1)
    left = np.where(total > 0, taken / np.maximum(total, 1), 1.0)
    return shares + left * below
