"""Pronunciations of words: files in the CMU Pronouncing Dictionary's format, and the digits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import DataError

Pronunciation = tuple[str, ...]
"""Phones, one after the other."""

_ALTERNATIVE = re.compile(r"(.+)\(\d+\)$")


@dataclass(frozen=True)
class Lexicon:
    """How words are pronounced.

    Attributes:
        pronunciations: of every word one or more, each of one phone or more.
        name: of the file, for messages.
    """

    pronunciations: Mapping[str, tuple[Pronunciation, ...]]
    name: str = "the lexicon"

    @cached_property
    def phones(self) -> tuple[str, ...]:
        """All phones that occur, in order."""
        found = {p for several in self.pronunciations.values() for one in several for p in one}
        return tuple(sorted(found))

    def missing(self, words: Iterable[str]) -> list[str]:
        """Words without a pronunciation, in order, each once."""
        return sorted({word for word in words if word not in self.pronunciations})

    def require(self, words: Iterable[str]) -> None:
        """Raises DataError that names the words without a pronunciation, if there are any."""
        lacking = self.missing(words)
        if not lacking:
            return
        named = lacking if len(lacking) <= 10 else [*lacking[:9], f"{len(lacking) - 9:,} others"]
        listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
        where = self.name if self.name != "the lexicon" else "it"
        word = next(filter(str.isalpha, self.pronunciations), next(iter(self.pronunciations)))
        example = f"{word}  {' '.join(self.pronunciations[word][0])}"
        message = f"the lexicon lacks {listed}; add a line for each to {where}, like '{example}'"
        cased = {known.lower(): known for known in self.pronunciations}
        other = next((cased[word.lower()] for word in lacking if word.lower() in cased), None)
        if other is not None:
            message += f" (it has {other}; capital and small letters differ)"
        raise DataError(message + ".")

    def written(self) -> str:
        """The text of a file in the CMU format, which `read_lexicon` reads."""
        lines = []
        for word, several in self.pronunciations.items():
            for number, phones in enumerate(several, start=1):
                key = word if number == 1 else f"{word}({number})"
                lines.append(f"{key}  {' '.join(phones)}\n")
        return "".join(lines)

    def told(self) -> dict[str, Any]:
        """JSON values, from which `from_told` makes the same lexicon."""
        words = {
            word: [" ".join(phones) for phones in several]
            for word, several in self.pronunciations.items()
        }
        return {"name": self.name, "pronunciations": words}

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> Lexicon:
        """The inverse of `told`."""
        words = {
            str(word): tuple(tuple(phones.split()) for phones in several)
            for word, several in told["pronunciations"].items()
        }
        return cls(words, told["name"])


def read_lexicon(text: str, name: str) -> Lexicon:
    """Reads lines like "ZERO  Z IH R OW", as the CMU Pronouncing Dictionary has them.

    Further pronunciations are written "ZERO(2)", or the word is repeated. Lines that begin with
    ";;;" and what follows " #" are comments. Digits of stress stay as they are.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        DataError: a word has no phones, or there is no word; the message names the line.
    """
    found: dict[str, list[Pronunciation]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = re.split(r"\s#", line, maxsplit=1)[0].split()
        if not fields or fields[0].startswith(";;;"):
            continue
        if len(fields) < 2:
            raise DataError(
                f"line {number} of {name} gives no phones for {fields[0]}; write a line like "
                "'ZERO  Z IH R OW'."
            )
        repeated = _ALTERNATIVE.match(fields[0])
        several = found.setdefault(repeated[1] if repeated else fields[0], [])
        phones = tuple(fields[1:])
        if phones not in several:
            several.append(phones)
    if not found:
        raise DataError(f"{name} holds no words; write lines like 'ZERO  Z IH R OW'.")
    return Lexicon({word: tuple(several) for word, several in found.items()}, name)


DIGITS = read_lexicon(
    """
ZERO  Z IH R OW
ZERO(2)  Z IY R OW
ONE  W AH N
ONE(2)  HH W AH N
TWO  T UW
THREE  TH R IY
FOUR  F AO R
FIVE  F AY V
SIX  S IH K S
SEVEN  S EH V AH N
EIGHT  EY T
NINE  N AY N
""",
    "the lexicon of the digits",
)
"""The ten digits with the phones of the CMU Pronouncing Dictionary, without stress."""
