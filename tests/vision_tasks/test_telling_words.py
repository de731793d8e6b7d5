"""The vocabulary of sentences."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightbit.errors import DataError
from eightbit.vision_tasks._telling.words import END, PAD, SPECIALS, START, UNK, Words

SENTENCES = ["a dog runs", "a cat runs", "a dog sleeps"]


def test_the_commonest_words_come_first_and_rare_ones_are_unknown() -> None:
    words = Words.learn(SENTENCES)
    assert words.names == (*SPECIALS, "a", "dog", "runs", "cat", "sleeps") and len(words) == 9
    assert words.encode("a cat barks") == [4, 7, UNK]
    assert Words.learn(SENTENCES, fewest=2).encode("a cat runs") == [4, UNK, 6]
    assert words.unknown("the dog and the bird") == ["the", "and", "bird"]


def test_a_sentence_ends_at_its_end() -> None:
    words = Words.learn(SENTENCES)
    assert words.decode([START, 4, 5, END, PAD, 6]) == "a dog"
    assert words.decode([]) == "" and words.decode([4, UNK]) == "a <unk>"


@given(st.lists(st.sampled_from(["a", "dog", "runs", "cat", "sleeps"])))
def test_known_words_come_back(said: list[str]) -> None:
    words = Words.learn(SENTENCES)
    assert words.decode([START, *words.encode(" ".join(said)), END]) == " ".join(said)


def test_the_vocabulary_goes_through_json() -> None:
    words = Words.learn(SENTENCES)
    assert Words.from_facts(json.loads(json.dumps(words.to_facts()))).ids == words.ids


def test_bad_vocabularies_are_refused() -> None:
    with pytest.raises(DataError, match="no word occurs 4 times"):
        Words.learn(SENTENCES, fewest=4)
    for facts in ({}, {"words": ["a", "b"]}, {"words": [*SPECIALS, "a", "a"]}, {"words": None}):
        with pytest.raises(DataError, match="vocabulary of this model is damaged"):
            Words.from_facts(facts)
