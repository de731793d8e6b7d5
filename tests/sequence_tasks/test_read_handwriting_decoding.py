"""CTC and its decoding against sums over all paths, edit distances against plain recursion."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch

from eightbit.sequence_tasks.read_handwriting.decoding import (
    best_path,
    prefix_beam_search,
    read_batch,
)
from eightbit.sequence_tasks.read_handwriting.language import decode, encode, trigram_table
from eightbit.sequence_tasks.read_handwriting.model import text_nll
from eightbit.sequence_tasks.read_handwriting.scores import edit_distance, exchanged


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    """A path's text: repetitions first, then blanks."""
    return tuple(label for label, _ in itertools.groupby(path) if label)


def all_texts(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """The probability of every text, as the sum over all of its paths."""
    steps, labels = log_probs.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(labels), repeat=steps):
        text = collapsed(path)
        weight = math.exp(sum(log_probs[t, label] for t, label in enumerate(path)))
        found[text] = found.get(text, 0.0) + weight
    return found


def random_log_probs(rng: np.random.Generator, steps: int, labels: int) -> np.ndarray:
    scores = rng.normal(0, 1.5, (steps, labels))
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def test_the_loss_is_the_sum_over_all_paths() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        log_probs = random_log_probs(rng, 5, 3)
        every = all_texts(log_probs)
        assert sum(every.values()) == pytest.approx(1)
        for text in ((1,), (1, 2), (1, 1), (2, 1, 2)):
            nll = text_nll(
                torch.tensor(log_probs)[None],
                torch.tensor([5]),
                torch.tensor([list(text)]),
                torch.tensor([len(text)]),
            )
            assert nll.item() == pytest.approx(-math.log(every[text]), rel=1e-6)


def test_a_wide_beam_finds_the_likeliest_text() -> None:
    rng = np.random.default_rng(1)
    differs = 0
    for _ in range(30):
        log_probs = random_log_probs(rng, 6, 3)
        every = all_texts(log_probs)
        best = max(every, key=lambda text: every[text])
        found = prefix_beam_search(log_probs, 500, least=-100.0)
        assert tuple(found) == best
        differs += tuple(best_path(log_probs)) != best
    assert differs, "the best path is not always the best text"


def test_a_model_of_language_weighs_as_it_is_told() -> None:
    rng = np.random.default_rng(2)
    table = np.log(rng.dirichlet(np.ones(2), (3, 3)))
    table = np.concatenate([np.full((3, 3, 1), -1e4), table], axis=2)
    for _ in range(20):
        log_probs = random_log_probs(rng, 5, 3)
        scores = {}
        for text, weight in all_texts(log_probs).items():
            padded = (0, 0, *text)
            gain = sum(
                table[padded[i], padded[i + 1], padded[i + 2]] + math.log(2)
                for i in range(len(text))
            )
            scores[text] = math.log(weight) + 0.7 * gain
        best = max(scores, key=lambda text: scores[text])
        assert tuple(prefix_beam_search(log_probs, 500, table, 0.7, least=-100.0)) == best


def test_sure_blanks_end_repetitions() -> None:
    sure = np.log(np.array([[0.01, 0.99], [0.9999, 0.0001], [0.01, 0.99], [0.02, 0.98]]))
    assert best_path(sure) == [1, 1]
    assert prefix_beam_search(sure, 8) == [1, 1]
    both = np.stack([sure, sure])
    assert read_batch(both, [4, 1], 0, None, 0.0) == [[1, 1], [1]]
    assert read_batch(both, [4, 1], 4, None, 0.0) == [[1, 1], [1]]


def test_frames_without_any_sure_label_are_read_quickly_and_nothing_is_an_answer() -> None:
    even = np.log(np.full((40, 95), 1 / 95))
    assert isinstance(prefix_beam_search(even, 16), list)
    blank = np.log(np.array([[0.98, 0.02]] * 3))
    assert prefix_beam_search(blank, 4) == [] == best_path(blank)


@cache
def slow_distance(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        slow_distance(a[1:], b) + 1,
        slow_distance(a, b[1:]) + 1,
        slow_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


def test_edit_distance_equals_the_recursion() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(2))
        assert edit_distance(a, b) == slow_distance(a, b) == edit_distance(list(b), list(a))


def test_error_rates_equal_jiwer() -> None:
    jiwer = pytest.importorskip("jiwer")
    rng = np.random.default_rng(4)
    words = ["to", "be", "or", "not", "it", "is"]
    true = [" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(20)]
    said = [" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(20)]
    pairs = list(zip(said, true, strict=True))
    cer = sum(edit_distance(a, b) for a, b in pairs) / sum(map(len, true))
    wer = sum(edit_distance(a.split(), b.split()) for a, b in pairs)
    wer /= sum(len(b.split()) for b in true)
    assert cer == pytest.approx(jiwer.cer(true, said))
    assert wer == pytest.approx(jiwer.wer(true, said))


def test_exchanged_leaves_nothing_in_its_place() -> None:
    for count in (2, 3, 17):
        items = list(range(count))
        found = exchanged(items)
        assert sorted(found) == items
        assert all(a != b for a, b in zip(found, items, strict=True))
    assert exchanged(["a"]) == ["a"]


def test_the_trigram_model_is_a_distribution_that_prefers_what_it_saw() -> None:
    alphabet = [" ", "a", "b", "c"]
    table = trigram_table(["ab ab", "abc", "ab ab"], alphabet).astype(float)
    assert table.shape == (5, 5, 5)
    assert np.allclose(np.exp(table[..., 1:]).sum(-1), 1, atol=5e-3)
    assert (table[..., 0] < -9e3).all()
    a, b, c = (alphabet.index(one) + 1 for one in "abc")
    assert table[0, a, b] > table[0, a, c]
    # Two of "ab" go on with " " and "c"; by hand: (1 - 0.75) / 2 + 2 * 0.75 / 2 * lower order.
    assert table[a, b, c] > table[a, b, a]
    assert table[b, a, b] < table[0, a, b], "never seen, so only what shorter contexts say"


def test_text_becomes_labels_and_comes_back() -> None:
    alphabet = [" ", "a", "b"]
    labels = encode("b xa b", alphabet)
    assert labels == [3, 1, 2, 1, 3]
    assert decode(labels, alphabet) == "b a b"
