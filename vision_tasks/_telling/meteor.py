"""METEOR by NLTK, with the synonyms of a WordNet folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UsageError
from .wordnet import PARTS, WordNet


def wordnet_for_meteor(folder: str) -> WordNet:
    """The WordNet of a folder, once it is known that METEOR can be computed.

    Raises:
        UsageError: NLTK is not installed.
        DataError: the folder is no WordNet.
    """
    _score()
    return WordNet(folder)


def _score() -> Callable[..., float]:
    """NLTK's function."""
    try:
        from nltk.translate.meteor_score import meteor_score
    except ImportError:
        raise UsageError("METEOR needs NLTK: pip install nltk.") from None
    found: Callable[..., float] = meteor_score
    return found


def meteor_each(
    candidates: Sequence[str], references: Sequence[Sequence[str]], net: WordNet
) -> np.ndarray:
    """METEOR of each picture's sentence, with its best reference: float64 (N,), in [0, 1].

    It is NLTK's, of the parameters of Lavie and Agarwal 2007: words match as they are, by Porter's
    stems, or as synonyms. Figures of the Java program METEOR 1.5, which weighs differently and
    knows paraphrases, are other figures.

    Args:
        candidates: lower case words with single spaces between them.
        references: of each picture, at least one.
        net: where synonyms come from.

    Raises:
        UsageError: NLTK is not installed.
    """
    meteor_score = _score()
    synonyms = _Synonyms(net)
    return np.array(
        [
            meteor_score([one.split() for one in told], said.split(), wordnet=synonyms)
            for said, told in zip(candidates, references, strict=True)
        ]
    )


class _Synonyms:
    """What NLTK's METEOR asks of its own reader of WordNet."""

    def __init__(self, net: WordNet):
        self._net = net

    def synsets(self, word: str) -> list[_Synset]:
        found = ((part, place) for part in PARTS for place in self._net.synsets(word, part))
        return [_Synset(tuple(map(_Lemma, self._net.lemmas(place, part)))) for part, place in found]


@dataclass(frozen=True)
class _Synset:
    words: tuple[_Lemma, ...]

    def lemmas(self) -> tuple[_Lemma, ...]:
        return self.words


@dataclass(frozen=True)
class _Lemma:
    text: str

    def name(self) -> str:
        return self.text
