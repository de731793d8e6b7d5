"""Scores of translations against sacrebleu."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
import torch

from eightbit.sequence_tasks.translate.chrf import chrf_counts, chrf_of
from eightbit.sequence_tasks.translate.heat import attention_picture
from eightbit.sequence_tasks.translate.scores import bleu_over

TEXTS = [
    "A man in a blue shirt is standing on a ladder.",
    "Two dogs, playing in the snow!",
    "child",
    "The girl's mother, who is 30, sings.",
    "",
    "Ein Mann schl\u00e4ft in einem gr\u00fcnen Raum auf einem Sofa.",
]
REFERENCES = [
    "A man in a blue shirt is on a ladder cleaning a window.",
    "Two dogs are playing in the snow.",
    "A child.",
    "The girl's mother (30) is singing.",
    "Nothing was said here.",
    "Ein Mann schl\u00e4ft in einem gr\u00fcnen Raum auf einem Sofa.",
]


def _drawn(rng: np.random.Generator) -> list[np.ndarray]:
    return [np.arange(6), *(rng.integers(0, 6, 6) for _ in range(20)), np.array([0, 5])]


def test_bleu_of_any_sentences_is_sacrebleus(rng: np.random.Generator) -> None:
    value, told = bleu_over(TEXTS, REFERENCES)
    for units in _drawn(rng):
        wanted = sacrebleu.corpus_bleu(
            [TEXTS[i] for i in units], [[REFERENCES[i] for i in units]]
        ).score
        assert value(units) == pytest.approx(wanted, abs=1e-9)
    assert "tok:13a" in told["signature"] and "case:mixed" in told["signature"]
    assert 0 < told["brevity_penalty"] <= 1 and len(told["bleu_precisions"]) == 4


def test_chrf_of_any_sentences_is_sacrebleus(rng: np.random.Generator) -> None:
    counts = np.array([chrf_counts(a, b) for a, b in zip(TEXTS, REFERENCES, strict=True)])
    for units in _drawn(rng):
        wanted = sacrebleu.corpus_chrf(
            [TEXTS[i] for i in units], [[REFERENCES[i] for i in units]]
        ).score
        assert chrf_of(counts[units].sum(0)) == pytest.approx(wanted, abs=1e-9)


def test_perfect_and_empty_texts_have_the_ends_of_the_scale() -> None:
    every = np.arange(6)
    assert bleu_over(REFERENCES, REFERENCES)[0](every) == pytest.approx(100)
    assert bleu_over([""] * 6, REFERENCES)[0](every) == 0
    same = [chrf_counts(r, r) for r in REFERENCES]
    assert chrf_of(np.sum(same, 0)) == pytest.approx(100)
    assert chrf_of(np.sum([chrf_counts("", r) for r in REFERENCES], 0)) == 0


def test_the_picture_of_attention_shows_any_token() -> None:
    weights = torch.eye(3).numpy()
    picture = attention_picture(weights, ["\u2581a", "$x", "</s>"], ["\u65e5", "\n", "</s>"])
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
