"""Texts as numbers and back."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.datasets.tokens import (
    Pieces,
    encode_texts,
    learn_tokens,
    text_of_words,
    tokens_from_facts,
    words_of,
)
from eightbit.errors import DataError, UsageError

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
TEXTS = [
    "A man, two dogs and a child's red ball!",
    "Zwei Hunde spielen (im Schnee); das Kind lacht.",
    "the dogs are playing in the snow\nand the child is laughing",
] * 4


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    tokens = learn_tokens(TEXTS, "bpe", 330, specials=SPECIALS, word_start=True)
    assert isinstance(tokens, Pieces)
    return tokens


def test_characters_are_the_sorted_alphabet() -> None:
    tokens = learn_tokens(["banana", "cab"], "characters")
    assert list(tokens.names) == ["a", "b", "c", "n"] and tokens.size == 4
    ids = tokens.encode("cabana")
    assert ids.dtype == np.int32 and ids.tolist() == [2, 0, 1, 0, 3, 0]
    assert tokens.decode(ids) == "cabana" and tokens.pieces("cab") == ["c", "a", "b"]


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1))
def test_no_character_is_lost(text: str) -> None:
    tokens = learn_tokens([text], "characters")
    again = tokens_from_facts(json.loads(json.dumps(tokens.to_facts())))
    assert again.decode(again.encode(text)) == text


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab \n\t.,'\u00fc\uffed"))
def test_words_and_marks_give_the_text_back(text: str) -> None:
    assert text_of_words(words_of(text)) == text


def test_words_are_cut_at_marks_and_spaces_are_implied() -> None:
    found = words_of("It's  a (dog).")
    assert [w.lstrip("\uffed") for w in found] == [
        *("It", "'", "s", " ", " ", "a", "(", "dog", ")", ".")
    ]


def test_rare_words_are_unknown_and_named() -> None:
    tokens = learn_tokens(["a a a b b c"], "words", 3)
    assert list(tokens.names) == ["<unk>", "a", "b"]
    assert tokens.encode("b c a d").tolist() == [2, 0, 1, 0]
    assert tokens.unknown("b c a d c") == ["c", "d"]
    assert tokens.pieces("b c!") == ["b", "c", "!"]
    assert tokens.decode([2, 0, 1]) == "b <unk> a"
    assert tokens.decode([2, 0, 1], {1: "cat"}) == "b cat a"


def test_special_ids_come_first_and_are_not_written() -> None:
    for kind, size in (("characters", 0), ("words", 0), ("bpe", 320)):
        tokens = learn_tokens(TEXTS, kind, size, specials=SPECIALS)
        assert tuple(tokens.names[:4]) == SPECIALS and len(tokens.names) == tokens.size
        ids = tokens.encode(TEXTS[1])
        assert ids.min() > 3 and ids.max() < tokens.size
        assert tokens.decode([1, *ids, 2, 0]) == TEXTS[1], kind


def test_a_character_without_a_place_is_named() -> None:
    with pytest.raises(DataError, match="does not hold 'x', 'y'; take them out"):
        learn_tokens(["abc"], "characters").encode("axybx")
    lenient = learn_tokens(["abc"], "characters", specials=("<unk>",))
    assert lenient.encode("axb").tolist() == [1, 0, 2]
    assert lenient.decode([1, 0, 2]) == "a<unk>b" and lenient.unknown("axb") == ["x"]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="\u2581\x00", codec="utf-8")))
def test_pieces_with_bytes_give_any_text_back(text: str) -> None:
    tokens = learn_tokens(TEXTS, "bpe", 330)
    assert tokens.decode(tokens.encode(text)) == text


def test_pieces_survive_json_and_stand_for_their_ids(pieces: Pieces) -> None:
    again = tokens_from_facts(json.loads(json.dumps(pieces.to_facts())))
    for text in TEXTS[:3]:
        ids = pieces.encode(text)
        assert again.encode(text).tolist() == ids.tolist()
        assert pieces.pieces(text) == [pieces.names[i] for i in ids]
    many = encode_texts(pieces, TEXTS)
    assert all(a.tolist() == pieces.encode(b).tolist() for a, b in zip(many, TEXTS, strict=True))


def test_the_same_texts_give_the_same_pieces(pieces: Pieces) -> None:
    again = learn_tokens(TEXTS, "bpe", 330, specials=SPECIALS, word_start=True)
    assert isinstance(again, Pieces) and again.model == pieces.model


def test_frequent_pairs_are_merged_first() -> None:
    # By hand: "lo" is the commonest pair, then "low" of lo + w.
    tokens = learn_tokens(["low low low lot"], "bpe", 9, byte_fallback=False)
    assert "lo" in tokens.names and tokens.pieces("low")[-1].endswith("low")


def test_without_bytes_strange_letters_are_unknown() -> None:
    tokens = learn_tokens(TEXTS, "bpe", 70, specials=("<unk>",), byte_fallback=False)
    ids = tokens.encode("dogs \u0416 dogs")
    assert 0 in ids and tokens.unknown("dogs \u0416 dogs") == ["\u0416"]
    assert tokens.decode(ids) == "dogs <unk> dogs"


def test_dropped_merges_follow_from_the_seed(pieces: Pieces) -> None:
    first, again, other = (pieces.sampled(TEXTS, 0.3, seed) for seed in (1, 1, 2))
    assert all(a.tolist() == b.tolist() for a, b in zip(first, again, strict=True))
    assert any(a.tolist() != b.tolist() for a, b in zip(first, other, strict=True))
    assert [pieces.decode(ids) for ids in first] == TEXTS
    assert sum(map(len, first)) > sum(len(pieces.encode(text)) for text in TEXTS)


def test_few_texts_have_fewer_pieces_than_asked_for() -> None:
    tokens = learn_tokens(["hello hello"], "bpe", 4000)
    assert tokens.size < 300 and tokens.decode(tokens.encode(" hello\n you ")) == " hello\n you "


def test_bad_requests_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="100 pieces has no room for the characters"):
        learn_tokens(TEXTS, "bpe", 100)
    for kind in ("characters", "words", "bpe"):
        with pytest.raises(DataError, match="no text to learn a vocabulary from"):
            learn_tokens([""], kind, 300)
    with pytest.raises(UsageError, match="a vocabulary of 2 has no room for words"):
        learn_tokens(["a b"], "words", 2, specials=("<pad>", "<unk>"))
    for facts in ({}, {"kind": "bpe", "specials": [], "model": "?"}, {"kind": "words"}):
        with pytest.raises(DataError, match="vocabulary of this model is damaged"):
            tokens_from_facts(facts)


def test_a_long_text_is_quick() -> None:
    letters = random.Random(0).choices("abcdefgh \n", k=300_000)
    text = "".join(letters)
    tokens = learn_tokens([text], "characters")
    assert tokens.decode(tokens.encode(text)) == text
