"""CTC's loss, best path and alignment against all paths of small lattices, edits against jiwer."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch

from eightbit.sequence_tasks._ctc.labels import decode, encode, label_of
from eightbit.sequence_tasks._ctc.paths import best_path, ctc_align, log_likelihood, text_nll
from eightbit.sequence_tasks._scores import edits, exchanged, ratio


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    """A path's text: repetitions first, then blanks."""
    return tuple(label for label, _ in itertools.groupby(path) if label)


def all_paths(log_probs: np.ndarray) -> dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]]:
    """Log-probability and path of all paths, by their text."""
    steps, labels = log_probs.shape
    found: dict[tuple[int, ...], list[tuple[float, tuple[int, ...]]]] = {}
    for path in itertools.product(range(labels), repeat=steps):
        score = float(sum(log_probs[t, label] for t, label in enumerate(path)))
        found.setdefault(collapsed(path), []).append((score, path))
    return found


def random_log_probs(rng: np.random.Generator, steps: int, labels: int) -> np.ndarray:
    scores = rng.normal(0, 1.5, (steps, labels))
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def test_the_loss_is_the_sum_over_all_paths() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        log_probs = random_log_probs(rng, 5, 3)
        every = {
            text: math.log(sum(math.exp(score) for score, _ in paths))
            for text, paths in all_paths(log_probs).items()
        }
        assert sum(math.exp(score) for score in every.values()) == pytest.approx(1)
        for text in ((1,), (1, 2), (1, 1), (2, 1, 2), (1, 1, 1)):
            nll = text_nll(
                torch.tensor(log_probs)[None],
                torch.tensor([5]),
                torch.tensor([list(text)]),
                torch.tensor([len(text)]),
            )
            assert nll.item() == pytest.approx(-every[text], rel=1e-6)
        for text in [*every, (1, 1, 1, 1)]:
            expected = every.get(text, -math.inf)
            assert log_likelihood(log_probs, text) == pytest.approx(expected, rel=1e-9)


def test_an_alignment_is_the_best_of_all_paths() -> None:
    rng = np.random.default_rng(1)
    for steps, labels in ((1, 3), (4, 3), (6, 3), (5, 4)):
        log_probs = random_log_probs(rng, steps, labels)
        for text, paths in all_paths(log_probs).items():
            found = ctc_align(log_probs, text)
            assert found.shape == (len(text), 2) and found.dtype == np.int64
            best = max(paths)[1]
            spans, end = [], 0
            for label, run in itertools.groupby(best):
                start, end = end, end + len(list(run))
                if label:
                    spans.append([start, end - 1])
            assert found.tolist() == spans, (text, best)


def test_labels_that_no_path_holds_are_refused() -> None:
    log_probs = random_log_probs(np.random.default_rng(2), 3, 3)
    with pytest.raises(ValueError, match="3 labels need 5 frames, not 3"):
        ctc_align(log_probs, [1, 1, 1])
    with pytest.raises(ValueError, match="1 labels need 1 frames, not 0"):
        ctc_align(log_probs[:0], [1])
    log_probs[:, 2] = -np.inf
    with pytest.raises(ValueError, match="the labels have no path"):
        ctc_align(log_probs, [1, 2])
    assert ctc_align(log_probs, []).shape == (0, 2)
    assert log_likelihood(log_probs, [2]) == -math.inf


def test_an_alignment_of_a_long_lattice_is_the_best_path_of_its_own_labels() -> None:
    rng = np.random.default_rng(3)
    log_probs = random_log_probs(rng, 800, 30)
    labels, frames = best_path(log_probs)
    found = ctc_align(log_probs, labels)
    assert found[:, 0].tolist() == frames
    assert (np.diff(found.ravel()) >= 0).all()


def test_the_best_path_and_where_its_labels_begin() -> None:
    path = [0, 2, 2, 0, 2, 1, 1, 0]
    log_probs = np.log(np.full((8, 3), 0.1))
    log_probs[np.arange(8), path] = math.log(0.8)
    assert best_path(log_probs) == ([2, 2, 1], [1, 4, 5])
    assert best_path(log_probs[:1]) == ([], [])
    assert best_path(log_probs[1:2]) == ([2], [0])
    assert best_path(log_probs[:0]) == ([], [])


def test_text_becomes_labels_and_comes_back() -> None:
    alphabet = [" ", "a", "b"]
    labels = encode("b xa b", alphabet)
    assert labels == [3, 1, 2, 1, 3] == encode("b xa b", label_of(alphabet))
    assert decode(labels, alphabet) == "b a b"


@cache
def slow_distance(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        slow_distance(a[1:], b) + 1,
        slow_distance(a, b[1:]) + 1,
        slow_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


def test_edits_equal_the_recursion() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(2))
        replaced, deleted, inserted = edits(a, b)
        assert replaced + deleted + inserted == slow_distance(a, b) == sum(edits(list(b), list(a)))
        assert len(a) - deleted + inserted == len(b)
    assert edits(["to", "be"], ["to", "bee", "or"]) == (1, 0, 1)
    assert edits(["to", "be"], []) == (0, 2, 0)


def test_edits_equal_jiwer() -> None:
    jiwer = pytest.importorskip("jiwer")
    rng = np.random.default_rng(5)
    words = ["to", "be", "or", "not", "it", "is"]
    true = [" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(20)]
    said = [" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(20)]
    found = np.array([edits(a.split(), b.split()) for a, b in zip(true, said, strict=True)]).sum(0)
    theirs = jiwer.process_words(true, said)
    assert found.tolist() == [theirs.substitutions, theirs.deletions, theirs.insertions]
    letters = sum(sum(edits(a, b)) for a, b in zip(true, said, strict=True))
    assert letters / sum(map(len, true)) == pytest.approx(jiwer.cer(true, said))


def test_exchanged_leaves_nothing_in_its_place() -> None:
    for count in (2, 3, 17):
        items = list(range(count))
        found = exchanged(items)
        assert sorted(found) == items
        assert all(a != b for a, b in zip(found, items, strict=True))
    assert exchanged(["a"]) == ["a"]


def test_a_ratio_is_of_the_sums_of_the_units_that_are_drawn() -> None:
    sums = np.array([[1.0, 4.0], [3.0, 6.0], [0.0, 0.0]])
    found = ratio(sums, 0, 1)
    assert found(np.array([0, 1, 1])) == pytest.approx(7 / 16)
    assert found(np.array([2])) == 0.0
