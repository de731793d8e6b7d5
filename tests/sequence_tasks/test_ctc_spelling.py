"""Models of language over spelled labels: what texts gain, by hand and by the model of words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from eightbit.errors import DataError, UsageError
from eightbit.sequence_tasks._ctc.beam import LabelLanguage, prefix_beam_search
from eightbit.sequence_tasks._ctc.labels import decode, encode, label_of
from eightbit.sequence_tasks._ctc.ngrams import NGrams, train_ngrams
from eightbit.sequence_tasks._ctc.spelling import LabelNGrams, SpelledWords, trigram_table

ALPHABET = [" ", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
TEXTS = ["ONE TWO THREE", "TWO TWO", "TEN ONE", "E N T E R TEN", "NINETEEN TEN"]
WORDS = sorted({word for text in TEXTS for word in text.split()})


def model() -> NGrams:
    return train_ngrams(TEXTS, 3, vocabulary=[*WORDS, "TENT"])


def gain_of(language: LabelLanguage, text: str) -> float | None:
    """All that a text gains; None where it is forbidden."""
    state: Any = language.start()
    total = 0.0
    for label in encode(text, ALPHABET):
        extended = language.extend(state, label)
        if extended is None:
            return None
        state, gain = extended
        hash(state)
        total += gain
    end = language.finish(state)
    return None if end is None else total + end


@pytest.mark.parametrize("ahead", [True, False])
def test_a_text_gains_what_the_model_of_words_says(ahead: bool) -> None:
    ngrams = model()
    words = SpelledWords([*WORDS, "TENT"], label_of(ALPHABET), ngrams, 0.7, 1.2, ahead=ahead)
    for text in [*TEXTS, "", "TENT", "TEN TENT TWO", "ONE ONE ONE ONE"]:
        expected = 0.7 * ngrams.sentence_log_prob(text) + 1.2 * len(text.split())
        assert gain_of(words, text) == pytest.approx(expected, abs=1e-9), text
        # Spaces around and between words neither gain nor lose.
        assert gain_of(words, f" {text}  ".replace(" ", "  ")) == pytest.approx(expected, abs=1e-9)
    for text in ("TE", "TEN TW", "TENX", "ONETWO", "X"):
        assert gain_of(words, text) is None, text


@pytest.mark.parametrize("ahead", [True, False])
def test_unknown_words_pay_where_they_are_allowed(ahead: bool) -> None:
    ngrams = model()
    words = SpelledWords(WORDS, label_of(ALPHABET), ngrams, 0.7, 1.2, -3.0, ahead)
    for text, unknown in (("TEN X TWO", 1), ("TE", 1), ("TENX TWOX", 2), ("X", 1), ("TEN", 0)):
        # What the dictionary lacks has the probability of <unk>, whatever the model knows.
        expected = 0.7 * ngrams.sentence_log_prob(text) + 1.2 * len(text.split()) - 3 * unknown
        assert gain_of(words, text) == pytest.approx(expected, abs=1e-9), text


def test_without_a_model_of_words_the_dictionary_alone_decides() -> None:
    words = SpelledWords(["TEN", "TWO"], label_of(ALPHABET), bonus=0.5)
    assert gain_of(words, "TEN TWO TEN") == pytest.approx(1.5)
    assert gain_of(words, "TENT") is None
    assert gain_of(words, "") == 0.0


def test_letters_gain_in_advance_what_the_likeliest_word_would() -> None:
    ngrams = model()
    words = SpelledWords(WORDS, label_of(ALPHABET), ngrams, 1.0, 0.3)
    state: Any = words.start()
    given = 0.0
    for count, label in enumerate(encode("TEN", ALPHABET), 1):
        extended = words.extend(state, label)
        assert extended is not None
        state, gain = extended
        given += gain
        best = max(ngrams.log_prob((), w) for w in WORDS if w.startswith("TEN"[:count]))
        assert given == pytest.approx(best + 0.3)


def test_what_cannot_be_spelled_is_told() -> None:
    words = SpelledWords(["TEN", "ÉTÉ", "", "A B"], label_of(ALPHABET))
    assert words.unspelled == ("ÉTÉ", "", "A B")
    with pytest.raises(DataError, match="no word of the dictionary can be spelled"):
        SpelledWords(["été"], label_of(ALPHABET))
    with pytest.raises(UsageError, match="words are parted by spaces; the alphabet must hold one"):
        SpelledWords(["TEN"], label_of(ALPHABET[1:]))
    with pytest.raises(UsageError, match="unknown words gain 1.0; it must be 0 or less"):
        SpelledWords(["TEN"], label_of(ALPHABET), unknown=1.0)


def noisy(rng: np.random.Generator, text: str, noise: float) -> np.ndarray:
    """Log-probabilities of a network that hears a text badly."""
    rows = []
    for label in encode(text, ALPHABET):
        for strength in (6.0, 0.0):
            row = rng.normal(0, noise, len(ALPHABET) + 1)
            row[label] += strength
            row[0] += 6.0 - strength
            rows.append(row)
    scores = np.array(rows)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def test_words_and_their_order_mend_what_was_heard_badly() -> None:
    rng = np.random.default_rng(0)
    texts = [TEXTS[i] for i in rng.integers(0, len(TEXTS), 40)]
    heard = [noisy(rng, text, 2.2) for text in texts]
    alone = [prefix_beam_search(one, 16)[0].labels for one in heard]
    languages = {
        "words": SpelledWords(WORDS, label_of(ALPHABET), None, bonus=1.0),
        "order": SpelledWords(WORDS, label_of(ALPHABET), model(), 1.0, 1.0),
        "ahead": SpelledWords(WORDS, label_of(ALPHABET), model(), 1.0, 1.0, ahead=False),
    }
    found = {
        name: [prefix_beam_search(one, 16, language)[0].labels for one in heard]
        for name, language in languages.items()
    }
    right = {
        name: sum(decode(one, ALPHABET).split() == text.split() for one, text in pairs)
        for name, pairs in {
            name: list(zip(read, texts, strict=True))
            for name, read in {"alone": alone, **found}.items()
        }.items()
    }
    assert right["alone"] < right["words"] < right["order"]
    assert right["order"] >= right["ahead"]
    assert right["order"] >= 30


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


def test_characters_gain_against_even_odds() -> None:
    rng = np.random.default_rng(1)
    table = np.log(rng.dirichlet(np.ones(2), (3, 3)))
    table = np.concatenate([np.full((3, 3, 1), -1e4), table], axis=2)
    language = LabelNGrams(table, 0.7)
    for text in ((), (1,), (2, 1, 1, 2)):
        around = (0, 0, *text)
        expected = sum(
            table[around[i], around[i + 1], around[i + 2]] + math.log(2) for i in range(len(text))
        )
        state, total = language.start(), 0.0
        for label in text:
            state, gain = language.extend(state, label)
            total += gain
        assert total + language.finish(state) == pytest.approx(0.7 * expected)
