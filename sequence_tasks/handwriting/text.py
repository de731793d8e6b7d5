"""Texts as numbers: the characters that the training data have, and a mark for the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...errors import UsageError

FEWEST = 10
"""times that a character must have been seen to be written"""
PADDING = -1


def alphabet_of(texts: Iterable[str]) -> str:
    """Characters that occur at least `FEWEST` times, in order; the space is always there."""
    counts = Counter(character for text in texts for character in text)
    return "".join(sorted({" "} | {c for c, count in counts.items() if count >= FEWEST}))


def encode(text: str, alphabet: str) -> np.ndarray:
    """Indices int64 (len(text) + 1,); the last one, len(alphabet), marks the end."""
    places = {character: index for index, character in enumerate(alphabet)}
    return np.array([*(places[c] for c in text), len(alphabet)], np.int64)


def stack_texts(codes: Sequence[np.ndarray], multiple: int = 8) -> np.ndarray:
    """Codes of several texts as int64 (B, U), PADDING behind the ends."""
    longest = max(map(len, codes))
    stacked = np.full((len(codes), -(-longest // multiple) * multiple), PADDING, np.int64)
    for row, code in zip(stacked, codes, strict=True):
        row[: len(code)] = code
    return stacked


def check_characters(texts: Iterable[str], facts: Any) -> None:
    """Names all characters that were not learnt.

    Raises:
        UsageError: there are some, or a text is empty.
    """
    texts = list(texts)
    if any(not text.strip() for text in texts):
        raise UsageError("there is nothing to write: the text is empty.")
    alphabet = facts["alphabet"]
    unknown = sorted({c for text in texts for c in text} - set(alphabet))
    if unknown:
        shown = ", ".join(repr(c) for c in unknown)
        raise UsageError(
            f"this network never learnt to write {shown}; it knows {alphabet.strip()!r}: leave "
            "them out or write them otherwise."
        )
