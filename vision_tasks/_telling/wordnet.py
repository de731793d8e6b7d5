"""WordNet's files, the similarity of Wu and Palmer on them, and WUPS.

A WordNet folder holds data.noun and index.noun, and for METEOR the same of verb, adj and adv, as
Princeton's dict/ and Debian's wordnet-base do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ...errors import DataError

PARTS = ("noun", "verb", "adj", "adv")
"""parts of speech, as the files are called"""
_HYPERNYMS = ("@", "@i")  # of classes and of single things
_NOUN_ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("ves", "f"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)
"""how plurals end and what stands for that in the index (morphy(7WN))"""
BELOW = 0.1
"""what a similarity under WUPS's threshold is multiplied by"""


class WordNet:
    """The synsets of a WordNet folder; a synset is known by its place in data.noun.

    Args:
        folder: see the top of this module; the files may also lie in a folder dict in it.

    Raises:
        DataError: the files are not there or are damaged.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder).expanduser()
        if not (self.folder / "data.noun").is_file() and (self.folder / "dict").is_dir():
            self.folder = self.folder / "dict"
        self._data: dict[str, bytes] = {}
        self._index: dict[str, dict[str, tuple[int, ...]]] = {}
        self._load("noun")
        self._exceptions = self._irregular()
        self._ancestors = lru_cache(maxsize=None)(self._ancestors_of)
        self._depths = lru_cache(maxsize=None)(self._depths_of)
        self._similarity = lru_cache(maxsize=None)(self._most_similar)

    def _load(self, part: str) -> None:
        self._data[part] = self._read(f"data.{part}")
        self._index[part] = self._indexed(part)

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            raise DataError(
                f"{self.folder} holds no {name}; name WordNet's folder, like "
                "/usr/share/wordnet of Debian's wordnet-base."
            ) from None

    def _indexed(self, part: str) -> dict[str, tuple[int, ...]]:
        """Places of a lemma's synsets, the commonest sense first."""
        found = {}
        for number, line in enumerate(self._read(f"index.{part}").decode("latin-1").split("\n"), 1):
            if line.startswith("  ") or not line.strip():  # the licence
                continue
            fields = line.split()
            try:
                found[fields[0]] = tuple(int(place) for place in fields[-int(fields[2]) :])
            except (ValueError, IndexError):
                raise DataError(
                    f"line {number} of index.{part} in {self.folder} is damaged."
                ) from None
        return found

    def _irregular(self) -> dict[str, list[str]]:
        """Plurals that no rule makes: their singulars."""
        if not (self.folder / "noun.exc").is_file():
            return {}
        lines = self._read("noun.exc").decode("latin-1").split("\n")
        return {words[0]: words[1:] for words in (line.split() for line in lines) if words}

    # ------------------------------------------------------------------------------- synsets

    def synsets(self, word: str, part: str = "noun") -> tuple[int, ...]:
        """Places of the synsets of a word or of what it is the plural of; () where it has none.

        Raises:
            DataError: the folder holds no files of this part of speech.
        """
        if part not in self._index:
            self._load(part)
        index = self._index[part]
        word = word.lower().replace(" ", "_")
        forms = [word]
        if part == "noun":
            forms += self._exceptions.get(word, [])
            forms += [
                word.removesuffix(end) + stem for end, stem in _NOUN_ENDINGS if word.endswith(end)
            ]
        return tuple(dict.fromkeys(place for form in forms for place in index.get(form, ())))

    def lemmas(self, place: int, part: str = "noun") -> list[str]:
        """Words of a synset, with low lines for spaces."""
        fields = self._line(place, part)
        count = int(fields[3], 16)
        # Adjectives may say in brackets where they stand.
        return [fields[4 + 2 * i].partition("(")[0] for i in range(count)]

    def hypernyms(self, place: int) -> list[int]:
        """Places of the synsets right above one of nouns."""
        fields = self._line(place, "noun")
        start = 4 + 2 * int(fields[3], 16)
        pointers = (
            fields[start + 1 + 4 * i : start + 5 + 4 * i] for i in range(int(fields[start]))
        )
        return [int(p[1]) for p in pointers if p[0] in _HYPERNYMS and p[2] == "n"]

    def _line(self, place: int, part: str) -> list[str]:
        data = self._data[part]
        line = data[place : data.find(b"\n", place)].decode("latin-1")
        fields = line.partition(" | ")[0].split()
        if len(fields) < 4 or not fields[0].isdigit() or int(fields[0]) != place:
            raise DataError(f"data.{part} in {self.folder} does not belong to its index.{part}.")
        return fields

    # ---------------------------------------------------------------------------- similarity

    def wu_palmer(self, first: str, second: str) -> float:
        """Wu-Palmer similarity of two words, the largest of any of their noun senses.

        2 d / (d + steps from the first down to the common ancestor + d + steps from the second),
        d being the depth of the deepest common ancestor, the root's being 1 (Wu and Palmer 1994).

        Returns:
            In [0, 1]: 1 for equal words, 0 where one of them is not in WordNet.
        """
        if first == second:
            return 1.0
        return self._similarity(first, second)

    def _most_similar(self, first: str, second: str) -> float:
        pairs = ((a, b) for a in self.synsets(first) for b in self.synsets(second))
        return max((self.synset_similarity(a, b) for a, b in pairs), default=0.0)

    def synset_similarity(self, first: int, second: int) -> float:
        """Wu-Palmer similarity of two synsets of nouns; 0 where no ancestor is common."""
        if first == second:
            return 1.0
        above_first, above_second = self._ancestors(first), self._ancestors(second)
        common = above_first.keys() & above_second.keys()
        if not common:
            return 0.0
        # The deepest by the shortest way to the root is chosen and its depth is by the longest, as
        # in NLTK, with which figures in papers are made. It differs in rare cases of several
        # ways up: of equally deep ancestors it takes any, where the best counts here, and its
        # steps may lead past the ancestor, even from a synset to itself.
        deepest = max(self._depths(place)[0] for place in common)
        found = 0.0
        for place in common:
            least, most = self._depths(place)
            if least == deepest:
                steps = above_first[place] + above_second[place]
                found = max(found, 2 * most / (2 * most + steps))
        return found

    def _ancestors_of(self, place: int) -> dict[int, int]:
        """Steps up to a synset itself and to all above it, by the shortest way."""
        found = {place: 0}
        border = [place]
        while border:
            above = [(up, found[one] + 1) for one in border for up in self.hypernyms(one)]
            border = []
            for up, steps in above:
                if up not in found:
                    found[up] = steps
                    border.append(up)
        return found

    def _depths_of(self, place: int) -> tuple[int, int]:
        """Synsets on the shortest and on the longest way up to a root, both ends counted."""
        above = [self._depths(up) for up in self.hypernyms(place)]
        if not above:
            return 1, 1
        return 1 + min(low for low, _ in above), 1 + max(high for _, high in above)


def wups(
    net: WordNet, answers: Sequence[str], truths: Sequence[str], threshold: float = 0.9
) -> list[float]:
    """WUPS of one-word answers (Malinowski and Fritz 2014), each in [0, 1].

    It is the Wu-Palmer similarity to the right answer, times 0.1 where it is below the threshold.

    Args:
        net: see `WordNet`.
        answers: given ones.
        truths: right ones.
        threshold: 0.9 and 0.0 are usual.
    """
    found = []
    for answer, truth in zip(answers, truths, strict=True):
        similarity = net.wu_palmer(answer, truth)
        found.append(similarity if similarity >= threshold else BELOW * similarity)
    return found
