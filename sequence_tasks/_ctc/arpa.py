"""The ARPA format of back-off models: log10 of probabilities and weights, an n-gram a line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from ...errors import DataError

NGram = tuple[str, ...]

_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")
_SECTION = re.compile(r"\\(\d+)-grams:")
_BLANK = " \t\r"
_BLANKS = re.compile(r"[ \t\r]+")
_SPELT = {"<UNK>": "<unk>", "<S>": "<s>", "</S>": "</s>"}
"""other spellings that there are of what is no word"""

Lines = Iterator[tuple[int, str]]


def parse_arpa(text: str, name: str) -> tuple[int, dict[NGram, float], dict[NGram, float]]:
    """Order, log10 of probabilities by n-gram, and log10 of back-off weights by history.

    Args:
        text: what stands before the line of \\data\\ and after that of \\end\\ is passed over.
        name: the file's, for errors.

    Raises:
        DataError: the text is no ARPA file or damaged; names the line.
    """
    # Words may hold other white space than blanks, tabs and line feeds.
    stripped = ((number, line.strip(_BLANK)) for number, line in enumerate(text.split("\n"), 1))
    lines = ((number, line) for number, line in stripped if line)
    for _, line in lines:
        if line == "\\data\\":
            break
    else:
        raise DataError(f"{name} is no ARPA file: it has no line \\data\\.")
    sizes, line, number = _sizes(lines, name)
    log10: dict[NGram, float] = {}
    backoff: dict[NGram, float] = {}
    for order, size in enumerate(sizes, 1):
        section = _SECTION.fullmatch(line)
        if section is None or int(section[1]) != order:
            raise DataError(f"{name}, line {number}: \\{order}-grams: is wanted, not {line!r}.")
        found = 0
        for number, line in lines:
            if line.startswith("\\") and (line == "\\end\\" or _SECTION.fullmatch(line)):
                break
            _add(line, order, order == len(sizes), (log10, backoff), f"{name}, line {number}")
            found += 1
        else:
            raise DataError(f"{name} is cut: it has no line \\end\\.")
        if found != size:
            raise DataError(
                f"{name}, line {number}: {found} {order}-grams end here and {size} were promised."
            )
    if line != "\\end\\":
        raise DataError(f"{name}, line {number}: \\end\\ is wanted, not {line!r}.")
    return len(sizes), log10, backoff


def _sizes(lines: Lines, name: str) -> tuple[list[int], str, int]:
    """How many n-grams of each order there shall be, and the line after that and its number."""
    sizes: list[int] = []
    for number, line in lines:
        match = _COUNT.fullmatch(line)
        if match is None:
            if not sizes:
                break
            return sizes, line, number
        if int(match[1]) != len(sizes) + 1:
            raise DataError(
                f"{name}, line {number}: the count of {len(sizes) + 1}-grams is wanted."
            )
        sizes.append(int(match[2]))
    raise DataError(f"{name} lists no n-grams: lines like 'ngram 1=200' must follow \\data\\.")


def _add(
    line: str,
    order: int,
    last: bool,
    found: tuple[dict[NGram, float], dict[NGram, float]],
    where: str,
) -> None:
    """Adds what a line says to probabilities and weights."""
    log10, backoff = found
    value, *words = _BLANKS.split(line)
    weight = _number(words.pop(), where) if len(words) == order + 1 else None
    if len(words) != order:
        raise DataError(f"{where}: a logarithm and {order} words are wanted, not {line!r}.")
    ngram = tuple(_SPELT.get(word, word) for word in words)
    if ngram in log10:
        raise DataError(f"{where}: {' '.join(words)!r} is listed twice.")
    if order > 1:
        for word in ngram:
            if (word,) not in log10:
                raise DataError(f"{where}: {word!r} is not among the 1-grams.")
    log10[ngram] = _number(value, where)
    if log10[ngram] > 0:
        raise DataError(f"{where}: the logarithm of a probability is {value}, above 0.")
    if last and weight:
        raise DataError(f"{where}: {order}-grams are the longest and have no back-off weights.")
    if weight is not None and not last:
        backoff[ngram] = weight


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value) or value == math.inf:
        raise DataError(f"{where}: {text!r} is no logarithm.")
    return max(value, -99.0)


def written_arpa(order: int, log10: Mapping[NGram, float], backoff: Mapping[NGram, float]) -> str:
    """The text of an ARPA file, of which `parse_arpa` makes the same again."""
    by_order: list[list[NGram]] = [[] for _ in range(order)]
    for ngram in sorted(log10):
        by_order[len(ngram) - 1].append(ngram)
    parts = ["\\data\\\n"]
    parts += [f"ngram {size}={len(ngrams)}\n" for size, ngrams in enumerate(by_order, 1)]
    for size, ngrams in enumerate(by_order, 1):
        parts.append(f"\n\\{size}-grams:\n")
        for ngram in ngrams:
            weight = f"\t{backoff[ngram]!r}" if ngram in backoff else ""
            parts.append(f"{log10[ngram]!r}\t{' '.join(ngram)}{weight}\n")
    return "".join(parts) + "\n\\end\\\n"
