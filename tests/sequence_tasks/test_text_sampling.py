"""Draws of the next token."""

from __future__ import annotations

import numpy as np
import pytest

from eightbit.sequence_tasks.text.sampling import Sampling, draw

SCORES = np.log(np.array([[0.5, 0.3, 0.15, 0.05]]))


def _shares(sampling, scores=SCORES, latest=None, count=20_000):
    rng = np.random.default_rng(0)
    rows = np.repeat(scores, count, axis=0)
    latest = None if latest is None else np.repeat(latest, count, axis=0)
    drawn = draw(rows, sampling, rng.random(count), latest)
    return np.bincount(drawn, minlength=scores.shape[1]) / count


@pytest.mark.parametrize(
    ("sampling", "want"),
    [
        (Sampling(), [0.5, 0.3, 0.15, 0.05]),
        (Sampling(temperature=0.5), np.array([0.25, 0.09, 0.0225, 0.0025]) / 0.365),
        (Sampling(top_k=2), [0.625, 0.375, 0, 0]),
        (Sampling(top_k=9), [0.5, 0.3, 0.15, 0.05]),
        (Sampling(top_p=0.79), [0.625, 0.375, 0, 0]),
        (Sampling(top_p=0.81), np.array([0.5, 0.3, 0.15, 0]) / 0.95),
        (Sampling(top_p=1e-6), [1, 0, 0, 0]),
        (Sampling(temperature=0), [1, 0, 0, 0]),
    ],
)
def test_tokens_come_as_often_as_they_should(sampling, want):
    np.testing.assert_allclose(_shares(sampling), want, atol=0.012)


def test_a_penalty_divides_positive_scores_and_multiplies_negative_ones():
    scores = np.array([[2.0, -1.0, 0.5]])
    changed = np.array([1.0, -2.0, 0.5])
    want = np.exp(changed) / np.exp(changed).sum()
    got = _shares(Sampling(penalty=2.0), scores, latest=np.array([[0, 1, 0]]))
    np.testing.assert_allclose(got, want, atol=0.012)
    np.testing.assert_array_equal(scores, [[2.0, -1.0, 0.5]])  # stays as it was


def test_a_token_that_cannot_come_never_comes():
    scores = np.array([[0.0, -np.inf, 0.0]])
    assert _shares(Sampling(), scores)[1] == 0
    edges = draw(np.repeat(scores, 2, 0), Sampling(), np.array([0.0, 1 - 1e-16]))
    assert edges.tolist() == [0, 2]


def test_each_row_is_drawn_from_its_own_scores():
    scores = np.array([[9.0, 0, 0], [0, 0, 9.0]])
    assert draw(scores, Sampling(temperature=0.1), np.array([0.5, 0.5])).tolist() == [0, 2]
