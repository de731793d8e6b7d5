"""Pictures with questions as training batches and as splits to measure on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.orders import EpochOrder
from ...datasets.questions import Asked, Question, read_questions
from ...datasets.sort_of_clevr import NON_RELATIONAL, RELATIONAL
from ...errors import DataError, UsageError
from ...tasks import TaskData
from .._telling.pictures import moved
from .._telling.wordnet import WordNet
from .._telling.words import PAD, Words
from .model import NO_ANSWER
from .options import AnswerOptions

SORT_OF_CLEVR = "sort-of-clevr"

_Pair = tuple[list[int], int]  # a question's words and its answer, as numbers


@dataclass(frozen=True)
class Split:
    """Pictures with questions to measure on, or to learn from.

    Attributes:
        asked: them.
        sorts: names of sorts of questions that are scored beside all, and the kinds of each.
        memory: the last predictions on them, see `scores.predict`, and WordNet by its folder.
    """

    asked: Asked
    sorts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    memory: dict[Any, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.asked.pictures)

    def pictures(self, indices: np.ndarray) -> Tensor:
        """uint8 (N, 3, S, S)."""
        return stacked([self.asked.pictures[int(i)] for i in indices])


def stacked(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures uint8 (S, S, 3) as uint8 (N, 3, S, S)."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2)))


def padded(questions: Sequence[Sequence[int]]) -> Tensor:
    """int64 (N, T): words behind `PAD`, so that all questions end together; T is at least 1."""
    longest = max([1, *map(len, questions)])
    table = np.full((len(questions), longest), PAD, np.int64)
    for row, one in zip(table, questions, strict=True):
        if one:
            row[-len(one) :] = one
    return torch.from_numpy(table)


def build_data(options: AnswerOptions, data: str, seed: int) -> TaskData:
    """Reads pictures with questions; see `Task.build_data`.

    The facts hold "words" (the questions' vocabulary), "answers" (those that occur
    `options.fewest` times, the commonest first) and "guess", the commonest answer by kind.

    Raises:
        DataError: the data cannot be read, no answer is common enough to be learnt, or WordNet's
            folder is none.
        UsageError: pictures of these data cannot be varied.
    """
    read = read_questions(data, seed, options.size)
    train = read.splits["train"]
    counts = Counter(one.answer for one in train.questions)
    answers = [name for name, count in counts.items() if count >= options.fewest]
    if not answers:
        raise DataError(f"no answer in {data} occurs {options.fewest} times; lower --fewest.")
    answers.sort(key=lambda name: (-counts[name], name))
    if options.vary and train.varied is None:
        raise UsageError(f"{data} has no way to vary its pictures; leave --vary out.")
    words = Words.learn(one.text for one in train.questions)
    facts = {
        **read.facts,
        "words": words.to_facts(),
        "answers": answers,
        "guess": guesses(train.questions),
        "size": options.size,
    }
    sorts = {"relational": RELATIONAL, "non_relational": NON_RELATIONAL}
    if data != SORT_OF_CLEVR:
        sorts = {}
    # Read now: a folder that is none is told before training, not after.
    known = {options.wordnet: WordNet(options.wordnet)} if options.wordnet else {}
    splits = {name: Split(asked, sorts, dict(known)) for name, asked in read.splits.items()}
    batches = Batches(train, words, answers, options, seed)
    return TaskData(facts, len(batches), batches, splits)


def guesses(questions: Sequence[Question]) -> dict[str, str]:
    """The commonest answer of each kind."""
    counts: dict[str, Counter[str]] = {}
    for one in questions:
        counts.setdefault(one.kind, Counter())[one.answer] += 1
    return {kind: _commonest(found) for kind, found in sorted(counts.items())}


def _commonest(counts: Counter[str]) -> str:
    return min(counts, key=lambda name: (-counts[name], name))


class BlindAnswers:
    """What training tells of a question's answer without a picture.

    It is the commonest answer to the same words, or to its kind where no training question had
    these words.

    Args:
        questions: of training, at least one.
    """

    def __init__(self, questions: Sequence[Question]):
        counts: dict[str, Counter[str]] = {}
        for one in questions:
            counts.setdefault(one.text, Counter())[one.answer] += 1
        self._known = {text: _commonest(found) for text, found in counts.items()}
        self._by_kind = guesses(questions)
        self._any = _commonest(Counter(one.answer for one in questions))

    def __call__(self, question: Question) -> str:
        """The answer."""
        return self._known.get(question.text) or self.guess(question)

    def guess(self, question: Question) -> str:
        """The commonest answer to the question's kind (GUESS of Ren 2015)."""
        return self._by_kind.get(question.kind, self._any)


class Batches:
    """Training batches as a pure function of the step; see `TaskData.batch`.

    Examples are pictures with at least one question whose answer is learnt. Called with
    (step, batch size) it returns "pictures" uint8 (B, 3, S, S), "questions" int64 (B, Q, T), words
    behind their padding, and "answers" int64 (B, Q), `NO_ANSWER` for what is padding. Of more
    than `options.asked` questions of a picture others are drawn each time.
    """

    def __init__(
        self,
        train: Asked,
        words: Words,
        answers: Sequence[str],
        options: AnswerOptions,
        seed: int,
    ):
        self.train, self.options, self.seed = train, options, seed
        places = {name: i for i, name in enumerate(answers)}
        self._words, self._places = words, places
        self._known: dict[str, list[int]] = {}
        by_picture: dict[int, list[_Pair]] = {}
        for one in train.questions:
            if one.answer in places:
                pair = (self._encoded(one.text), places[one.answer])
                by_picture.setdefault(one.picture, []).append(pair)
        self._members = sorted(by_picture.items())
        self._varied = train.varied if options.vary else None
        self._order = EpochOrder(len(self._members), seed, 3)

    def __len__(self) -> int:
        return len(self._members)

    def __call__(self, step: int, size: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng([self.seed, 4, step])
        members = [self._members[i] for i in self._order(step * size + np.arange(size))]
        rows = [self._row(i, some, rng) for i, some in members]
        chosen = [self._chosen(some, rng) for _, some in rows]
        many = max(len(some) for some in chosen)
        questions = padded([ids for some in chosen for ids, _ in some])
        answers = np.full((size, many), NO_ANSWER, np.int64)
        for row, some in zip(answers, chosen, strict=True):
            row[: len(some)] = [answer for _, answer in some]
        right = torch.from_numpy(answers)
        table = torch.full((size, many, questions.shape[1]), PAD, dtype=torch.int64)
        table[right != NO_ANSWER] = questions
        pictures = np.stack([picture for picture, _ in rows])
        pictures = moved(pictures, self.options.flip, self.options.shift, rng)
        laid = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        return {"pictures": torch.from_numpy(laid), "questions": table, "answers": right}

    def _encoded(self, text: str) -> list[int]:
        """A question's words; those of equal questions are looked up once."""
        if text not in self._known:
            self._known[text] = self._words.encode(text)
        return self._known[text]

    def _row(
        self, number: int, some: list[_Pair], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[_Pair]]:
        """A picture and its questions, changed where the options say so."""
        if self._varied is None:
            return self.train.pictures[number], some
        picture, asked = self._varied(number, rng)
        return picture, [(self._encoded(text), self._places[right]) for text, right, _ in asked]

    def _chosen(self, some: list[_Pair], rng: np.random.Generator) -> list[_Pair]:
        most = self.options.asked
        if len(some) <= most:
            return some
        return [some[i] for i in rng.permutation(len(some))[:most]]
