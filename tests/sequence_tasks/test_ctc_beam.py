"""Prefix beam search against CTC's loss of every text of small lattices."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eightbit.sequence_tasks._ctc.beam import LabelLanguage, prefix_beam_search
from eightbit.sequence_tasks._ctc.ngrams import train_ngrams
from eightbit.sequence_tasks._ctc.paths import best_path, log_likelihood
from eightbit.sequence_tasks._ctc.spelling import LabelNGrams, SpelledWords

WIDE = {"least": -1e6, "tried": 100, "hopeless": 1e6}


def random_log_probs(rng: np.random.Generator, steps: int, labels: int) -> np.ndarray:
    scores = rng.normal(0, 1.5, (steps, labels))
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def ranked(
    log_probs: np.ndarray, language: LabelLanguage | None = None
) -> list[tuple[float, float, tuple[int, ...]]]:
    """Score, acoustic score and labels of every text that has a path, the best first."""
    steps, labels = log_probs.shape
    texts = [
        text
        for size in range(steps + 1)
        for text in itertools.product(range(1, labels), repeat=size)
        if size + sum(a == b for a, b in zip(text, text[1:], strict=False)) <= steps
    ]
    targets = torch.zeros(len(texts), steps, dtype=torch.int64)
    for row, text in enumerate(texts):
        targets[row, : len(text)] = torch.tensor(text, dtype=torch.int64)
    acoustic = -F.ctc_loss(
        torch.tensor(log_probs)[:, None].expand(-1, len(texts), -1),
        targets,
        torch.full((len(texts),), steps),
        torch.tensor([len(text) for text in texts]),
        reduction="none",
    )
    found = []
    for text, score in zip(texts, acoustic.tolist(), strict=True):
        gain = 0.0 if language is None else gain_of(language, text)
        if gain is not None:
            found.append((score + gain, score, text))
    return sorted(found, reverse=True)


def gain_of(language: LabelLanguage, text: tuple[int, ...]) -> float | None:
    state, total = language.start(), 0.0
    for label in text:
        extended = language.extend(state, label)
        if extended is None:
            return None
        state, gain = extended
        total += gain
    end = language.finish(state)
    return None if end is None else total + end


def random_language(rng: np.random.Generator, labels: int) -> LabelNGrams:
    table = np.log(rng.dirichlet(np.ones(labels - 1), (labels, labels)))
    return LabelNGrams(
        np.concatenate([np.full((labels, labels, 1), -1e4), table], axis=2), rng.uniform(0.3, 1.5)
    )


def words_language(ahead: bool, unknown: float | None) -> SpelledWords:
    ngrams = train_ngrams(["aa b ab", "b aa", "aa aa", "ab", "c aa"], 3)
    place = {" ": 1, "a": 2, "b": 3}
    words = ["aa", "b", "ab", "abba", "c"]
    return SpelledWords(words, place, ngrams, 0.8, 1.5, unknown, ahead)


def expect_equal(log_probs: np.ndarray, language: LabelLanguage | None, nbest: int) -> None:
    every = ranked(log_probs, language)
    found = prefix_beam_search(log_probs, 10_000, language, nbest=nbest, **WIDE)
    assert len(found) == min(nbest, len(every))
    for one, (score, acoustic, labels) in zip(found, every, strict=False):
        assert one.labels == labels
        assert one.score == pytest.approx(score, abs=1e-9)
        assert one.acoustic == pytest.approx(acoustic, abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 2), (6, 2), (6, 3), (5, 4)])
def test_a_wide_beam_ranks_all_texts_as_the_loss_does(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        expect_equal(random_log_probs(rng, *shape), None, 10_000)


def test_the_best_text_is_not_always_that_of_the_best_path() -> None:
    rng = np.random.default_rng(1)
    lattices = [random_log_probs(rng, 6, 3) for _ in range(30)]
    found = [prefix_beam_search(one, 500)[0].labels for one in lattices]
    assert found == [ranked(one)[0][2] for one in lattices]
    assert found != [tuple(best_path(one)[0]) for one in lattices]


@pytest.mark.parametrize("shape", [(6, 3), (5, 4)])
def test_a_wide_beam_ranks_all_texts_with_a_model_of_characters(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        expect_equal(random_log_probs(rng, *shape), random_language(rng, shape[1]), 10_000)


@pytest.mark.parametrize("unknown", [None, -2.0])
@pytest.mark.parametrize("ahead", [True, False])
def test_a_wide_beam_ranks_all_texts_with_a_dictionary(ahead: bool, unknown: float | None) -> None:
    rng = np.random.default_rng(3)
    language = words_language(ahead, unknown)
    for _ in range(4):
        expect_equal(random_log_probs(rng, 6, 4), language, 10_000)
    # A doubled letter must win where the words want it: "aa" needs a blank between.
    doubled = np.log(np.full((5, 4), 0.02))
    doubled[np.arange(5), [2, 2, 0, 2, 0]] = math.log(0.94)
    assert prefix_beam_search(doubled, 8, language)[0].labels == (2, 2)
    single = np.log(np.array([[0.1, 0.05, 0.8, 0.05]] * 3))
    assert prefix_beam_search(single, 50, language)[0].labels == ranked(single, language)[0][2]


def test_a_narrow_beam_keeps_the_best_of_what_it_may() -> None:
    rng = np.random.default_rng(4)
    language = words_language(True, None)
    behind = []
    for _ in range(30):
        log_probs = random_log_probs(rng, 7, 4)
        best = ranked(log_probs, language)[0]
        found = [
            prefix_beam_search(log_probs, width, language, least=-100.0)[0] for width in (2, 4, 16)
        ]
        for one in found:
            # Paths may be lost, never won.
            assert one.acoustic <= log_likelihood(log_probs, one.labels) + 1e-9
            assert one.score <= best[0] + 1e-9
        behind.append([best[0] - one.score for one in found])
    assert np.mean(behind, axis=0)[2] < 0.02 and (np.diff(np.mean(behind, axis=0)) <= 0).all()


def plain_beam(
    log_probs: np.ndarray, width: int, language: LabelLanguage
) -> dict[tuple[int, ...], float]:
    """Scores of the texts of a beam whose prefixes are tuples in a dictionary."""

    def prior(prefix: tuple[int, ...]) -> float | None:
        state, total = language.start(), 0.0
        for label in prefix:
            extended = language.extend(state, label)
            if extended is None:
                return None
            state, total = extended[0], total + extended[1]
        return total

    beam: dict[tuple[int, ...], list[float]] = {(): [0.0, -math.inf]}
    gains: dict[tuple[int, ...], float] = {}
    for frame in log_probs:
        if frame[0] > math.log(0.9995):
            beam = {p: [np.logaddexp(*ends) + frame[0], -math.inf] for p, ends in beam.items()}
            continue
        likely = [int(k) for k in np.argsort(-frame[1:], kind="stable")[:8] + 1]
        grown: dict[tuple[int, ...], list[float]] = {}
        for prefix, (blank, last) in beam.items():
            ends = grown.setdefault(prefix, [-math.inf, -math.inf])
            ends[0] = np.logaddexp(ends[0], np.logaddexp(blank, last) + frame[0])
            if prefix:
                ends[1] = np.logaddexp(ends[1], last + frame[prefix[-1]])
            for label in likely:
                if frame[label] <= math.log(1e-3):
                    continue
                before = blank if prefix[-1:] == (label,) else np.logaddexp(blank, last)
                ends = grown.setdefault((*prefix, label), [-math.inf, -math.inf])
                ends[1] = np.logaddexp(ends[1], before + frame[label])
        allowed = {p: gain for p in grown if (gain := prior(p)) is not None}
        gains = {p: np.logaddexp(*grown[p]) + gain for p, gain in allowed.items()}
        best = sorted(gains, key=lambda p: -gains[p])[:width]
        beam = {p: grown[p] for p in best if gains[p] >= gains[best[0]] - 12}
    scores = {p: np.logaddexp(*ends) + (prior(p) or 0.0) for p, ends in beam.items()}
    ended = {p: gain_of(language, p) is not None for p in scores}
    return {
        p: score - (prior(p) or 0.0) + (gain_of(language, p) or 0.0)
        for p, score in scores.items()
        if ended[p]
    }


@pytest.mark.parametrize("width", [1, 3, 16])
def test_a_beam_equals_a_plain_one_frame_for_frame(width: int) -> None:
    rng = np.random.default_rng(6)
    languages = [random_language(rng, 12), words_language(True, -4.0), words_language(True, None)]
    for language in languages:
        for _ in range(4):
            scores = rng.normal(0, 2.5, (25, 12))
            scores[:, 0] += rng.choice([0.0, 16.0], 25)
            log_probs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
            expected = plain_beam(log_probs, width, language)
            if not expected:
                continue
            found = prefix_beam_search(log_probs, width, language, nbest=width)
            assert {one.labels for one in found} == set(expected)
            for one in found:
                assert one.score == pytest.approx(expected[one.labels], abs=1e-9)


def test_sure_blanks_end_repetitions() -> None:
    sure = np.log(np.array([[0.01, 0.99], [0.9999, 0.0001], [0.01, 0.99], [0.02, 0.98]]))
    assert best_path(sure)[0] == [1, 1]
    assert prefix_beam_search(sure, 8)[0].labels == (1, 1)
    assert prefix_beam_search(sure[:1], 8)[0].labels == (1,)


def test_nothing_is_an_answer() -> None:
    blank = np.log(np.array([[0.98, 0.02]] * 3))
    assert prefix_beam_search(blank, 4)[0].labels == ()
    none = prefix_beam_search(blank[:0], 4, nbest=3)
    assert [one.labels for one in none] == [()] and none[0].score == 0.0


def test_a_text_that_must_not_end_is_cut_where_it_may() -> None:
    language = words_language(True, None)
    # Surely "aa abb", and no word is "abb".
    path = [2, 0, 2, 1, 2, 3, 0, 3]
    log_probs = np.log(np.full((8, 4), 1e-9))
    log_probs[np.arange(8), path] = math.log(1 - 3e-9)
    found = prefix_beam_search(log_probs, 8, language, nbest=8)
    assert found[0].labels == (2, 2, 1, 2, 3)
    assert found[0].acoustic == pytest.approx(log_likelihood(log_probs, found[0].labels))

    class Strict:
        """Lets no text end."""

        def start(self) -> None:
            return None

        def extend(self, state: None, label: int) -> tuple[None, float]:
            return None, 0.0

        def finish(self, state: None) -> float | None:
            return None

    assert prefix_beam_search(log_probs, 8, Strict()) == []


def test_peaked_lattices_are_read_fast() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(0, 1, (100, 30))
    scores[:, 0] += 14
    for frame in range(0, 100, 6):
        scores[frame] = rng.normal(0, 2, 30)
    log_probs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    language = random_language(rng, 30)
    prefix_beam_search(log_probs, 32, language)
    times = []
    for _ in range(5):
        began = time.process_time()
        prefix_beam_search(log_probs, 32, language)
        times.append(time.process_time() - began)
    assert min(times) < 0.06
    even = np.log(np.full((100, 95), 1 / 95))
    began = time.process_time()
    prefix_beam_search(even, 16)
    assert time.process_time() - began < 1
