"""A small model of which character follows which two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_DISCOUNT = 0.75


def encode(text: str, alphabet: Sequence[str] | Mapping[str, int]) -> list[int]:
    """Labels of a text's characters, from 1; those outside the alphabet are left out."""
    place = alphabet if isinstance(alphabet, Mapping) else label_of(alphabet)
    return [place[character] for character in text if character in place]


def label_of(alphabet: Sequence[str]) -> dict[str, int]:
    """The label of each character: its place, from 1."""
    return {character: index for index, character in enumerate(alphabet, 1)}


def decode(labels: Sequence[int], alphabet: Sequence[str]) -> str:
    """The text of labels from 1."""
    return "".join(alphabet[label - 1] for label in labels)


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
