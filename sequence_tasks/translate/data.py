"""Sentence pairs as training batches of similar length and as splits to measure on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.parallel_texts import Pairs, read_parallel
from ...datasets.tokens import Pieces, Tokens, encode_texts, learn_tokens, tokens_from_facts
from ...errors import DataError
from ...tasks import TaskData
from .options import TranslateOptions

PAD, BEGIN, END, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of both languages; one object where they share them.

    Attributes:
        source, target: tokens with the special ids of `SPECIALS`.
        languages: from which into which.
    """

    source: Tokens
    target: Tokens
    languages: tuple[str, str]

    @property
    def shared(self) -> bool:
        """Whether both languages have the same tokens."""
        return self.source is self.target

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Vocabulary:
        """Reads the facts of a run."""
        target = tokens_from_facts(facts["target_tokens"])
        held = facts["source_tokens"]
        source = target if held is None else tokens_from_facts(held)
        return Vocabulary(source, target, tuple(facts["languages"]))

    def equals(self, other: Vocabulary) -> bool:
        """Whether the same languages have the same ids."""
        return self.languages == other.languages and all(
            a.kind == b.kind and list(a.names) == list(b.names)
            for a, b in ((self.source, other.source), (self.target, other.target))
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Vocabulary:
        """Itself: it never changes, and copies of a network share it."""
        return self


@dataclass(frozen=True)
class Split:
    """Sentences to measure on.

    Attributes:
        texts: in both languages.
        source: ids of each source, ending in `END`.
        target: ids of each target, from `BEGIN` to `END`.
        memory: the last predictions on them, see `scores.predict`.
    """

    texts: Pairs
    source: list[np.ndarray]
    target: list[np.ndarray]
    memory: dict[Any, Any]

    def first(self, count: int) -> Split:
        """The first pairs; the same object each time, so that predictions are kept."""
        if ("first", count) not in self.memory:
            texts = Pairs(self.texts.source[:count], self.texts.target[:count])
            held = Split(texts, self.source[:count], self.target[:count], {})
            self.memory["first", count] = held
        found: Split = self.memory["first", count]
        return found


def build_data(options: TranslateOptions, data: str, seed: int) -> TaskData:
    """Reads parallel texts; see `Task.build_data`.

    The facts hold "source_tokens" (None where shared) and "target_tokens" for `Vocabulary.of`,
    "languages", "letters" (characters of the training sources), "usual" (the commonest training
    target) and "unigrams" (the log probability of each target token).

    Raises:
        DataError: the data cannot be read or hold nothing to learn.
    """
    found = read_parallel(data, options.source, options.target, test_set=options.test_set)
    vocabulary = _vocabulary(found.train, options)
    shared = vocabulary.shared
    train = encoded(found.train, vocabulary)
    fits = [
        i
        for i, (s, t) in enumerate(zip(train.source, train.target, strict=True))
        if max(len(s), len(t) - 1) <= options.longest
    ]
    if not fits:
        raise DataError(
            f"{data}: no training pair has at most {options.longest} tokens; raise --longest."
        )
    kept = Pairs([found.train.source[i] for i in fits], [found.train.target[i] for i in fits])
    train = Split(kept, [train.source[i] for i in fits], [train.target[i] for i in fits], {})
    facts = {
        **found.facts,
        "source_tokens": None if shared else vocabulary.source.to_facts(),
        "target_tokens": vocabulary.target.to_facts(),
        "letters": "".join(sorted(set().union(*kept.source))),
        "usual": _commonest(kept.target),
        "unigrams": _unigrams(train.target, vocabulary.target.size),
        "too_long": len(found.train) - len(fits),
    }
    splits = {
        "train": train,
        "validation": encoded(found.validation, vocabulary),
        "test": encoded(found.test, vocabulary),
    }
    batches = Batches(train, vocabulary, options.piece_dropout, seed)
    return TaskData(facts, len(fits), batches, splits)


def _vocabulary(train: Pairs, options: TranslateOptions) -> Vocabulary:
    size, kind = options.vocabulary, options.tokens
    languages = options.source, options.target
    if kind == "bpe":
        both = [*train.source, *train.target]
        tokens = learn_tokens(both, kind, size, specials=SPECIALS, word_start=True)
        return Vocabulary(tokens, tokens, languages)
    source = learn_tokens(train.source, kind, size, specials=SPECIALS)
    target = learn_tokens(train.target, kind, size, specials=SPECIALS)
    return Vocabulary(source, target, languages)


def encoded(texts: Pairs, vocabulary: Vocabulary) -> Split:
    """Texts with their ids."""
    source = with_end(encode_texts(vocabulary.source, texts.source))
    target = with_end(encode_texts(vocabulary.target, texts.target))
    return Split(texts, source, [np.append(np.int32(BEGIN), ids) for ids in target], {})


def with_end(ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each sequence with `END` behind it."""
    return [np.append(one, np.int32(END)) for one in ids]


def padded(sequences: Sequence[np.ndarray]) -> Tensor:
    """int64 (B, T): sequences beside each other, `PAD` behind the short ones."""
    longest = max(len(one) for one in sequences)
    table = np.full((len(sequences), longest), PAD, np.int64)
    for row, one in zip(table, sequences, strict=True):
        row[: len(one)] = one
    return torch.from_numpy(table)


def _commonest(texts: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    return max(sorted(counts), key=lambda text: counts[text])


def _unigrams(targets: Sequence[np.ndarray], size: int) -> list[float]:
    """Log probability of each token; one more is counted of each, so that none is impossible."""
    counts = np.ones(size)
    for ids in targets:
        np.add.at(counts, ids[1:], 1)
    return [round(float(x), 4) for x in np.log(counts / counts.sum())]


class Batches:
    """Training batches as a pure function of the step; see `TaskData.batch`.

    Sentences of an epoch are sorted by length, those of equal length in random order, cut into
    batches, and the batches shuffled. Called with (step, batch size) it returns "source" and
    "target", int64 (B, S) and (B, T), padded with `PAD`.
    """

    def __init__(self, train: Split, vocabulary: Vocabulary, dropout: float, seed: int):
        self.train, self.vocabulary = train, vocabulary
        self.dropout, self.seed = dropout, seed
        self.lengths = np.array(
            [(len(t), len(s)) for s, t in zip(train.source, train.target, strict=True)]
        )
        self._sampled = lru_cache(2)(self._sample)
        self._sorted = lru_cache(4)(self._order)

    def __call__(self, step: int, size: int) -> Mapping[str, Tensor]:
        batches = max(1, len(self.lengths) // size)
        epoch, place = divmod(step, batches)
        rows = self._sorted(epoch, size)[place]
        source, target = self._sampled(epoch)
        return {
            "source": padded([source[i] for i in rows]),
            "target": padded([target[i] for i in rows]),
        }

    def _order(self, epoch: int, size: int) -> np.ndarray:
        """Examples (batches, size) of an epoch; another remainder is left out each time."""
        rng = np.random.default_rng([self.seed, 5, epoch])
        count = len(self.lengths)
        batches = max(1, count // size)
        drawn = np.resize(rng.permutation(count), batches * size)
        # The target's length first: the decoder and the softmax cost most.
        rows = drawn[np.lexsort((self.lengths[drawn, 1], self.lengths[drawn, 0]))]
        return rows.reshape(batches, size)[rng.permutation(batches)]

    def _sample(self, epoch: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        tokens = self.vocabulary.target
        if not self.dropout or not isinstance(tokens, Pieces):
            return self.train.source, self.train.target
        texts = [*self.train.texts.source, *self.train.texts.target]
        number = int(np.random.default_rng([self.seed, 6, epoch]).integers(1 << 31))
        ids = with_end(tokens.sampled(texts, self.dropout, number))
        half = len(self.train.texts)
        return ids[:half], [np.append(np.int32(BEGIN), one) for one in ids[half:]]
