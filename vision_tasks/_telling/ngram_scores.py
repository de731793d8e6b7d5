"""Scores of sentences against references, by picture: BLEU, ROUGE-L, CIDEr and CIDEr-D.

Each is kept as figures of single pictures, so that a bootstrap over pictures only adds them up.
Sentences are words with single spaces between them and are compared as they are, without stems.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import DataError

LONGEST = 4
"""words in the longest n-grams"""
BETA = 1.2
"""weight of recall in ROUGE-L's F"""
SIGMA = 6.0
"""words; CIDEr-D's standard deviation of the difference of lengths"""

Grams = Counter[tuple[str, ...]]
"""how often each n-gram occurs, of 1 to `LONGEST` words"""


@dataclass(frozen=True)
class CaptionScores:
    """Figures of N pictures; the methods take indices, with repetitions where they are drawn.

    Attributes:
        matches: int64 (N, 4), n-grams of the candidate that are in a reference, none counted more
            often than in the reference that has it most often.
        totals: int64 (N, 4), n-grams of the candidate.
        lengths: int64 (N,), words of the candidate.
        closest: int64 (N,), words of the reference of the closest length, the shorter of two.
        rouge_l_each: float64 (N,), in [0, 1].
        cider_each: float64 (N,), in [0, 1].
        cider_d_each: float64 (N,), in [0, 10].
    """

    matches: np.ndarray
    totals: np.ndarray
    lengths: np.ndarray
    closest: np.ndarray
    rouge_l_each: np.ndarray
    cider_each: np.ndarray
    cider_d_each: np.ndarray

    def bleu(self, units: np.ndarray) -> np.ndarray:
        """BLEU-1 to BLEU-4 of the corpus (Papineni 2002), unsmoothed: float64 (4,), in [0, 1]."""
        matches, totals = self.matches[units].sum(0), self.totals[units].sum(0)
        length, closest = self.lengths[units].sum(), self.closest[units].sum()
        if length == 0:
            return np.zeros(LONGEST)
        with np.errstate(divide="ignore"):  # no match at all is minus infinity, hence 0
            logs = np.log(matches / np.maximum(totals, 1))
        brevity = min(0.0, 1.0 - closest / length)
        return np.exp(logs.cumsum() / np.arange(1, LONGEST + 1) + brevity)

    def rouge_l(self, units: np.ndarray) -> float:
        """ROUGE-L (Lin 2004), the mean over pictures, in [0, 1]."""
        return float(self.rouge_l_each[units].mean())

    def cider(self, units: np.ndarray) -> float:
        """CIDEr (Vedantam 2015), the mean over pictures, in [0, 1]."""
        return float(self.cider_each[units].mean())

    def cider_d(self, units: np.ndarray) -> float:
        """CIDEr-D (Vedantam 2015), what others print as CIDEr: the mean, in [0, 10]."""
        return float(self.cider_d_each[units].mean())


def caption_scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Compares one sentence a picture with the picture's references.

    CIDEr weighs n-grams by how rare they are among the references of all these pictures; those
    weights stay as they are when the figures of some of the pictures are averaged. CIDEr-D
    counts occurrences as its authors' program does: not divided by the sentence's length.

    Args:
        candidates: a sentence for each picture; it may be empty.
        references: for each picture at least one sentence.

    Raises:
        DataError: the numbers differ, or a picture has no reference.
    """
    if len(candidates) != len(references) or not candidates:
        raise DataError(
            f"there are {len(candidates)} sentences for {len(references)} pictures; give one each."
        )
    if not all(references):
        raise DataError("a picture has no reference sentence to be compared with.")
    said = [sentence.split() for sentence in candidates]
    told = [[sentence.split() for sentence in some] for some in references]
    grams = [ngrams(words) for words in said]
    told_grams = [[ngrams(words) for words in some] for some in told]
    rarity = Rarity(told_grams)
    ciders = [rarity.compare(g, some) for g, some in zip(grams, told_grams, strict=True)]
    return CaptionScores(
        matches=np.array([_matches(g, some) for g, some in zip(grams, told_grams, strict=True)]),
        totals=np.array([[max(len(w) - n, 0) for n in range(LONGEST)] for w in said]),
        lengths=np.array([len(words) for words in said]),
        closest=np.array([_closest(len(w), some) for w, some in zip(said, told, strict=True)]),
        rouge_l_each=np.array([rouge_l(w, some) for w, some in zip(said, told, strict=True)]),
        cider_each=np.array([plain for plain, _ in ciders]),
        cider_d_each=np.array([robust for _, robust in ciders]),
    )


def ngrams(words: Sequence[str]) -> Grams:
    """How often each n-gram of 1 to `LONGEST` words occurs."""
    return Counter(
        tuple(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1)
    )


def _matches(grams: Grams, references: Sequence[Grams]) -> list[int]:
    found = [0] * LONGEST
    for gram, count in grams.items():
        most = max(reference[gram] for reference in references)
        found[len(gram) - 1] += min(count, most)
    return found


def _closest(length: int, references: Sequence[Sequence[str]]) -> int:
    return min((abs(len(words) - length), len(words)) for words in references)[1]


# ---------------------------------------------------------------------------------- ROUGE-L


def rouge_l(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F of the longest common subsequence; precision and recall are the best of any reference."""
    common = [common_length(words, reference) for reference in references]
    if not words or not any(common):
        return 0.0
    precision = max(common) / len(words)
    recall = max(c / len(r) for c, r in zip(common, references, strict=True) if r)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, 1):
            above = row[j]
            row[j] = diagonal + 1 if word == other else max(above, row[j - 1])
            diagonal = above
    return row[-1]


# ------------------------------------------------------------------------------------ CIDEr


class Rarity:
    """The weights of n-grams by the pictures whose references have them, and CIDEr by them.

    Args:
        references: n-grams of each picture's references.
    """

    def __init__(self, references: Sequence[Sequence[Grams]]):
        pictures = Counter(gram for some in references for gram in set().union(*some))
        self._most = math.log(len(references))
        self._weights = {gram: self._most - math.log(n) for gram, n in pictures.items()}

    def compare(self, grams: Grams, references: Sequence[Grams]) -> tuple[float, float]:
        """CIDEr in [0, 1] and CIDEr-D in [0, 10] of one candidate."""
        vector = self._weighed(grams)
        length = _length(grams)
        plain = robust = 0.0
        for reference in references:
            other = self._weighed(reference)
            gap = length - _length(reference)
            near = math.exp(-(gap**2) / (2 * SIGMA**2))
            for n in range(LONGEST):
                cosine, clipped = _compared(vector[n], other[n])
                plain += cosine
                robust += clipped * near
        count = LONGEST * len(references)
        return plain / count, 10 * robust / count

    def _weighed(self, grams: Grams) -> list[dict[tuple[str, ...], float]]:
        """Counts times weights, by the length of the n-gram; CIDEr's g."""
        found: list[dict[tuple[str, ...], float]] = [{} for _ in range(LONGEST)]
        for gram, count in grams.items():
            # What no reference has counts as if one picture had it.
            found[len(gram) - 1][gram] = count * self._weights.get(gram, self._most)
        return found


def _compared(
    vector: Mapping[tuple[str, ...], float], other: Mapping[tuple[str, ...], float]
) -> tuple[float, float]:
    """The cosine, and the same with the candidate's counts clipped to the reference's."""
    norm = math.sqrt(sum(v * v for v in vector.values()) * sum(v * v for v in other.values()))
    if norm == 0:
        return 0.0, 0.0
    shared = [(v, other[gram]) for gram, v in vector.items() if gram in other]
    cosine = sum(v * w for v, w in shared) / norm
    return cosine, sum(min(v, w) * w for v, w in shared) / norm


def _length(grams: Grams) -> int:
    return sum(count for gram, count in grams.items() if len(gram) == 1)
