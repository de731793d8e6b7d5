"""Ranking: losses and s_kl by their definitions, ranks by hand, the chain by trying every path."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from eightbit.vision_tasks.caption.ranking import (
    Alignment,
    Embedding,
    ranking_loss,
    ranks,
    recall_table,
    smoothed_alignment,
)


def test_the_ranking_loss_is_its_definition(rng):
    count, margin = 5, 0.3
    table = rng.normal(size=(count, count))
    owners = np.array([0, 1, 2, 1, 4])  # rows 1 and 3 are of one picture
    total = 0.0
    for k in range(count):
        for other in range(count):
            if owners[k] != owners[other]:
                total += max(0.0, margin - table[k, k] + table[k, other])
                total += max(0.0, margin - table[k, k] + table[other, k])
    found = ranking_loss(torch.tensor(table), torch.tensor(owners), margin)
    assert float(found) == pytest.approx(total / count)


def test_nothing_is_lost_where_pairs_are_far_ahead():
    assert float(ranking_loss(2 * torch.eye(4), torch.arange(4), 1.0)) == 0


def test_alignment_sums_the_best_region_of_each_word(rng):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ranking = Alignment(picture_size=6, cell_size=5, word_size=4, size=8)
    regions = torch.tensor(rng.normal(size=(3, 7, 8)))
    words = torch.tensor(rng.normal(size=(2, 4, 8)))
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    found = ranking.similarity(regions, words, mask)
    for k, n in itertools.product(range(3), range(2)):
        total = 0.0
        for t in range(4):
            if mask[n, t]:
                total += max(float(words[n, t] @ regions[k, r]) for r in range(7))
        assert float(found[k, n]) == pytest.approx(total)


def test_padding_changes_no_similarity(rng):
    words = torch.tensor(rng.normal(size=(1, 3, 4)), dtype=torch.float32)
    longer = torch.cat([words, torch.ones(1, 2, 4)], 1)
    short, long = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[True] * 3 + [False] * 2])
    vectors = torch.tensor(rng.normal(size=(2, 6)), dtype=torch.float32)
    cells = torch.tensor(rng.normal(size=(2, 9, 5)), dtype=torch.float32)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for ranking in (Embedding(6, 4, 8), Alignment(6, 5, 4, 8)):
            seen = ranking.pictures(vectors, cells)
            one = ranking.similarity(seen, ranking.sentences(words, short), short)
            other = ranking.similarity(seen, ranking.sentences(longer, long), long)
            torch.testing.assert_close(one, other)
            if isinstance(ranking, Embedding):
                assert one.abs().max() <= 1 + 1e-6


def test_ranks_by_hand():
    # Sentences 0 and 1 are of picture 0, sentence 2 is of picture 1.
    table = np.array([[0.1, 0.8, 0.9], [0.3, 0.2, 0.5]])
    annotation, search = ranks(table, np.array([0, 0, 1]))
    assert annotation.tolist() == [1, 0]  # 0.9 stands before 0.8; 0.5 is the first
    assert search.tolist() == [1, 0, 1]
    told = recall_table(np.array([0, 3, 7, 20]))
    assert told == {"recall_1": 0.25, "recall_5": 0.5, "recall_10": 0.75, "median_rank": 6.0}


def test_equal_similarities_are_no_success():
    annotation, search = ranks(np.ones((4, 4)), np.arange(4))
    assert annotation.tolist() == [3] * 4 and search.tolist() == [3] * 4


@pytest.mark.parametrize("cost", [0.0, 0.4, 5.0])
def test_the_chain_is_the_best_of_all_paths(rng, cost):
    scores = rng.normal(size=(5, 4))

    def worth(path) -> float:
        changes = sum(a != b for a, b in itertools.pairwise(path))
        return scores[np.arange(5), list(path)].sum() - cost * changes

    best = max(itertools.product(range(4), repeat=5), key=worth)
    assert tuple(smoothed_alignment(scores, cost)) == best
    assert cost or tuple(scores.argmax(1)) == best
