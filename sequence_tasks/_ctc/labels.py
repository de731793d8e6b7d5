"""Characters as labels of a CTC network: label 0 is empty, the alphabet's follow from 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BLANK = 0
"""CTC's empty label; character i of the alphabet is label i + 1"""


def label_of(alphabet: Sequence[str]) -> dict[str, int]:
    """The label of each character: its place, from 1."""
    return {character: index for index, character in enumerate(alphabet, 1)}


def encode(text: str, alphabet: Sequence[str] | Mapping[str, int]) -> list[int]:
    """Labels of a text's characters, from 1; those outside the alphabet are left out."""
    place = alphabet if isinstance(alphabet, Mapping) else label_of(alphabet)
    return [place[character] for character in text if character in place]


def decode(labels: Sequence[int], alphabet: Sequence[str]) -> str:
    """The text of labels from 1."""
    return "".join(alphabet[label - 1] for label in labels)
