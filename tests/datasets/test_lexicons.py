"""Lexicons are read as the CMU Pronouncing Dictionary is written; what they lack is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eightbit.datasets.lexicons import DIGITS, Lexicon, read_lexicon
from eightbit.errors import DataError

TEXT = """;;; a comment
A  AH0
A(2)  EY1
\tNINE \tN AY1 N # as in "nine lives"

#HASH  HH AE1 SH
'BOUT  B AW1 T
NINE(2)  N AY1 N
TOMATO  T AH0 M EY1 T OW2
TOMATO  T AH0 M AA1 T OW2
"""


def test_the_cmu_format_is_read() -> None:
    lexicon = read_lexicon(TEXT, "my.dic")
    assert lexicon.pronunciations == {
        "A": (("AH0",), ("EY1",)),
        "NINE": (("N", "AY1", "N"),),
        "#HASH": (("HH", "AE1", "SH"),),
        "'BOUT": (("B", "AW1", "T"),),
        "TOMATO": (
            ("T", "AH0", "M", "EY1", "T", "OW2"),
            ("T", "AH0", "M", "AA1", "T", "OW2"),
        ),
    }
    told = ["AA1", "AH0", "AW1", "AY1", "B", "EY1", "HH", "AE1", "SH", "M", "N", "OW2", "T"]
    assert lexicon.phones == tuple(sorted(told))


def test_missing_words_are_named_with_what_to_write() -> None:
    lexicon = read_lexicon(TEXT, "my.dic")
    lexicon.require(["A", "NINE"])
    assert lexicon.missing(["FOO", "A", "BAR", "FOO"]) == ["BAR", "FOO"]
    with pytest.raises(DataError) as raised:
        lexicon.require(["FOO", "A", "BAR", "BAZ"])
    assert str(raised.value) == (
        "the lexicon lacks BAR, BAZ and FOO; add a line for each to my.dic, like 'A  AH0'."
    )
    with pytest.raises(DataError, match=r"lacks FOO; .* to my\.dic, like 'A  AH0'\.$"):
        lexicon.require(["FOO"])
    with pytest.raises(DataError, match=r"\(it has NINE; capital and small letters differ\)"):
        lexicon.require(["nine"])
    with pytest.raises(DataError, match="W00, W01, .* W08 and 21 others;"):
        lexicon.require([f"W{number:02}" for number in range(30)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "my.dic holds no words"),
        (";;; nothing\n", "my.dic holds no words"),
        ("A  AH\nFOO\n", "line 2 of my.dic gives no phones for FOO"),
        ("FOO # F UW\n", "line 1 of my.dic gives no phones for FOO"),
    ],
)
def test_what_is_no_lexicon_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_lexicon(text, "my.dic")


PHONES = st.lists(st.sampled_from(["AA", "B", "CH0"]), min_size=1, max_size=3).map(tuple)
SEVERAL = st.lists(PHONES, min_size=1, max_size=3, unique=True).map(tuple)
ENTRIES = st.dictionaries(st.text("AB'.-", min_size=1, max_size=3), SEVERAL, min_size=1, max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(ENTRIES)
def test_what_is_written_and_told_comes_back(
    entries: dict[str, tuple[tuple[str, ...], ...]],
) -> None:
    lexicon = Lexicon(entries, "x.dic")
    assert read_lexicon(lexicon.written(), "x.dic") == lexicon
    assert Lexicon.from_told(json.loads(json.dumps(lexicon.told()))) == lexicon


def test_the_digits_are_built_in() -> None:
    assert len(DIGITS.pronunciations) == 10
    assert DIGITS.pronunciations["ZERO"] == (("Z", "IH", "R", "OW"), ("Z", "IY", "R", "OW"))
    assert len(DIGITS.phones) == 20
