"""The words of sentences as numbers.

Sentences are what `datasets.captions` gives: lower case words with single spaces between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import DataError

PAD, START, END, UNK = range(4)
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
"""names of the first ids"""


class Words:
    """A vocabulary of words.

    Args:
        names: word of each id; the first ones are `SPECIALS`. None twice.

    Attributes:
        names: the same.
        ids: by word.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.ids = {name: i for i, name in enumerate(self.names)}
        if self.names[: len(SPECIALS)] != SPECIALS or len(self.ids) != len(self.names):
            raise DataError("the vocabulary of this model is damaged; train or copy it anew.")

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def learn(sentences: Iterable[str], fewest: int = 1) -> Words:
        """The words that occur at least `fewest` times, the commonest first.

        Raises:
            DataError: there is none.
        """
        counts = Counter(word for sentence in sentences for word in sentence.split())
        kept = [word for word, count in counts.items() if count >= fewest and word not in SPECIALS]
        if not kept:
            raise DataError(f"no word occurs {fewest} times in the sentences to learn from.")
        return Words((*SPECIALS, *sorted(kept, key=lambda word: (-counts[word], word))))

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Words:
        """What `to_facts` gave; raises DataError where it is damaged."""
        try:
            return Words([str(name) for name in facts["words"]])
        except (KeyError, TypeError):
            raise DataError("the vocabulary of this model is damaged; copy it anew.") from None

    def to_facts(self) -> dict[str, Any]:
        """JSON values that `from_facts` takes."""
        return {"words": list(self.names)}

    def encode(self, sentence: str) -> list[int]:
        """Ids of a sentence's words, `UNK` for what is not known; neither start nor end."""
        return [self.ids.get(word, UNK) for word in sentence.split()]

    def unknown(self, sentence: str) -> list[str]:
        """Words of a sentence that are not in the vocabulary, each once, in order."""
        strange = [word for word in sentence.split() if word not in self.ids]
        return list(dict.fromkeys(strange))

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence of ids, up to the first `END`; `PAD` and `START` are left out."""
        said: list[str] = []
        for i in ids:
            if i == END:
                break
            if i not in (PAD, START):
                said.append(self.names[i])
        return " ".join(said)
