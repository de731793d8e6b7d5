"""Scores of sentences against other programs, their published definitions and numbers by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.errors import DataError
from eightbit.vision_tasks._telling.ngram_scores import caption_scores, common_length, rouge_l

CANDIDATES = [
    "a man in a red shirt rides a bike",
    "two dogs run in the grass",
    "a child plays",
    "the the the the",
    "",
]
REFERENCES = [
    ["a man rides a red bike", "a man in a shirt is riding a bike down the street"],
    ["two dogs run through the grass", "two brown dogs run in the green grass"],
    ["a child plays with a ball in the park"],
    ["the cat sat on the mat", "a cat is on the mat"],
    ["nobody is here"],
]

words = st.lists(st.sampled_from(["a", "b", "c", "d", "the", "dog"]), max_size=9).map(" ".join)
corpora = st.lists(
    st.tuples(words, st.lists(words.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=6
)


def _every(candidates: Sequence[str]) -> np.ndarray:
    return np.arange(len(candidates))


# ------------------------------------------------------------------------------------- BLEU


@settings(deadline=None, max_examples=60)
@given(corpora)
def test_bleu_is_that_of_sacrebleu(corpus: list[tuple[str, list[str]]]) -> None:
    candidates, references = [c for c, _ in corpus], [r for _, r in corpus]
    most = max(map(len, references))
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
    ours = caption_scores(candidates, references).bleu(_every(candidates))
    for order in range(1, 5):
        theirs = sacrebleu.BLEU(
            max_ngram_order=order, smooth_method="none", tokenize="none", force=True
        ).corpus_score(candidates, streams)
        expected = theirs.score / 100
        # Without any n-gram of an order sacrebleu stops; then BLEU has no value, and 0 is ours.
        if all(theirs.totals):
            assert ours[order - 1] == pytest.approx(expected, abs=1e-9)
        else:
            assert ours[order - 1] == 0


def test_bleu_by_hand() -> None:
    # Papineni 2002, example 2: "the" counts twice, as often as in the reference that has most.
    scores = caption_scores(["the the the the the the the"],
                            [["the cat is on the mat", "there is a cat on the mat"]])  # fmt: skip
    assert scores.matches.tolist() == [[2, 0, 0, 0]] and scores.totals.tolist() == [[7, 6, 5, 4]]
    np.testing.assert_allclose(scores.bleu(np.array([0])), [2 / 7, 0, 0, 0])
    short = caption_scores(["a b"], [["a b c d"]])
    np.testing.assert_allclose(short.bleu(np.array([0]))[:2], [math.exp(-1)] * 2)


# ---------------------------------------------------------------------------------- ROUGE-L


def _longest_common(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """By the recursive definition."""
    if not first or not second:
        return 0
    if first[-1] == second[-1]:
        return 1 + _longest_common(first[:-1], second[:-1])
    left, right = _longest_common(first[:-1], second), _longest_common(first, second[:-1])
    return max(left, right)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_the_longest_common_subsequence(first: list[str], second: list[str]) -> None:
    assert common_length(first, second) == _longest_common(tuple(first), tuple(second))


def test_rouge_l_by_hand() -> None:
    # Lin 2004, section 3.1: "police killed the gunman" and its two candidates.
    reference = [["police", "killed", "the", "gunman"]]
    assert rouge_l(["police", "kill", "the", "gunman"], reference) == pytest.approx(3 / 4)
    assert rouge_l(["the", "gunman", "kill", "police"], reference) == pytest.approx(2 / 4)
    # Precision 1 with the first and recall 1/2 with the second reference.
    found = rouge_l(["a", "b"], [["a", "b", "c", "d", "e"], ["a", "x"]])
    assert found == pytest.approx((1 + 1.44) * 1 * 0.5 / (0.5 + 1.44 * 1))
    assert rouge_l([], reference) == 0 and rouge_l(["x"], reference) == 0


# ------------------------------------------------------------------------------------ CIDEr


def _grams(sentence: str, n: int) -> list[tuple[str, ...]]:
    words = sentence.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _cider(
    candidates: Sequence[str], references: Sequence[Sequence[str]], robust: bool
) -> list[float]:
    """CIDEr and CIDEr-D as Vedantam, Zitnick and Parikh 2015 define them, term by term."""
    total = len(references)

    def vector(sentence: str, n: int, vocabulary: list[tuple[str, ...]]) -> np.ndarray:
        grams = _grams(sentence, n)
        g = np.zeros(len(vocabulary))
        for k, gram in enumerate(vocabulary):
            frequency = grams.count(gram) / (1 if robust else max(len(grams), 1))
            images = sum(min(1, sum(_grams(s, n).count(gram) for s in some)) for some in references)
            g[k] = frequency * math.log(total / max(1, images))
        return g

    scores = []
    for candidate, some in zip(candidates, references, strict=True):
        by_n = []
        for n in range(1, 5):
            vocabulary = sorted({g for s in (candidate, *some) for g in _grams(s, n)})
            c = vector(candidate, n, vocabulary)
            terms = []
            for sentence in some:
                s = vector(sentence, n, vocabulary)
                norms = np.linalg.norm(c) * np.linalg.norm(s)
                if not robust:
                    terms.append(c @ s / norms if norms else 0.0)
                    continue
                gap = len(candidate.split()) - len(sentence.split())
                near = math.exp(-(gap**2) / (2 * 6**2))
                terms.append(10 * near * (np.minimum(c, s) @ s) / norms if norms else 0.0)
            by_n.append(sum(terms) / len(some))
        scores.append(sum(by_n) / 4)
    return scores


@settings(deadline=None, max_examples=40)
@given(corpora)
def test_cider_is_its_definition(corpus: list[tuple[str, list[str]]]) -> None:
    candidates, references = [c for c, _ in corpus], [r for _, r in corpus]
    ours = caption_scores(candidates, references)
    np.testing.assert_allclose(ours.cider_each, _cider(candidates, references, False), atol=1e-12)
    np.testing.assert_allclose(ours.cider_d_each, _cider(candidates, references, True), atol=1e-12)


def test_cider_on_sentences() -> None:
    ours = caption_scores(CANDIDATES, REFERENCES)
    np.testing.assert_allclose(ours.cider_each, _cider(CANDIDATES, REFERENCES, False), atol=1e-12)
    np.testing.assert_allclose(ours.cider_d_each, _cider(CANDIDATES, REFERENCES, True), atol=1e-12)
    assert 0 < ours.cider_d(_every(CANDIDATES)) < 10


def test_cider_by_hand() -> None:
    # Four pictures: "red" is in two, "dog" and "cat" in one each, "a" in all and so weighs nothing.
    references = [["a red dog"], ["a red cat"], ["a"], ["a"]]
    red, rare = math.log(2), math.log(4)
    scores = caption_scores(["a red dog", "a red dog", "a", "b"], references)
    # Words: (red, dog) against (red, cat); pairs: "a red" is shared, "red dog" and "red cat" not.
    one = two = red**2 / (red**2 + rare**2)
    assert scores.cider_each.tolist() == pytest.approx([3 / 4, (one + two) / 4, 0, 0])
    assert scores.cider_d_each.tolist() == pytest.approx([7.5, 10 * (one + two) / 4, 0, 0])
    # What is said twice counts once, and the two words too many cost exp(-4/72).
    again = caption_scores(["dog dog dog", "x", "x", "x"], [["dog"], ["cat"], ["a"], ["b"]])
    assert again.cider_each[0] == pytest.approx(1 / 4)
    assert again.cider_d_each[0] == pytest.approx(10 / 4 * math.exp(-4 / 72) / 3)


def test_a_perfect_sentence_scores_full_marks() -> None:
    said = ["a red circle is left of a blue square", "a green star is above a pink cross"]
    scores, every = caption_scores(said, [[one] for one in said]), np.arange(2)
    assert scores.bleu(every).tolist() == pytest.approx([1, 1, 1, 1])
    assert scores.rouge_l(every) == scores.cider(every) == pytest.approx(1)
    assert scores.cider_d(every) == pytest.approx(10)


# -------------------------------------------------------------------------------- bootstrap


def test_drawn_pictures_count_as_often_as_they_are_drawn() -> None:
    scores = caption_scores(CANDIDATES, REFERENCES)
    drawn = np.array([0, 1, 1, 3])
    streams = [[REFERENCES[i][k] for i in drawn] for k in range(2)]
    theirs = sacrebleu.BLEU(smooth_method="none", tokenize="none", force=True)
    expected = theirs.corpus_score([CANDIDATES[i] for i in drawn], streams).score / 100
    assert scores.bleu(drawn)[3] == pytest.approx(expected)
    for name in ("rouge_l", "cider", "cider_d"):
        single = getattr(scores, f"{name}_each")
        assert getattr(scores, name)(drawn) == pytest.approx(single[drawn].mean())


def test_sentences_and_references_must_agree() -> None:
    with pytest.raises(DataError, match="2 sentences for 1 pictures"):
        caption_scores(["a", "b"], [["a"]])
    with pytest.raises(DataError, match="no reference sentence"):
        caption_scores(["a"], [[]])
    with pytest.raises(DataError, match="0 sentences for 0 pictures"):
        caption_scores([], [])
