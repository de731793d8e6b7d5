"""The decoder against an enumeration of all word sequences and all alignments."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from eightbit.datasets.lexicons import Lexicon
from eightbit.errors import DataError, UsageError
from eightbit.sequence_tasks.speech_hybrid import search
from eightbit.sequence_tasks.speech_hybrid.search import Decoded, DecodedWord, WordLoop
from eightbit.sequence_tasks.speech_hybrid.word_graph import (
    MOST_WORDS,
    Balance,
    Grammar,
    any_words,
    one_word,
    word_pairs,
)

PHONES = ("A", "B", "C", "SIL")
LEXICON = Lexicon({"x": (("A",), ("B", "A")), "y": (("B",),), "z": (("C", "B"),)})
BALANCE = Balance(acoustic=0.7, language=1.3, insertion=-0.4, silence=0.3)
Path = tuple[float, tuple[tuple[str, int, int], ...]]


def drawn(
    seed: int, states: int = len(PHONES), words: tuple[str, ...] = ("x", "y", "z")
) -> Grammar:
    """A grammar in which all scores differ, and one pair is forbidden."""
    values = torch.Generator().manual_seed(seed)
    follow = torch.randn(len(words), len(words), generator=values)
    follow[0, -1] = -math.inf
    start, end = torch.randn(2, len(words), generator=values)
    return Grammar(words, start, follow, end, -0.8)


def transitions(seed: int, states: int = len(PHONES)) -> tuple[Tensor, Tensor]:
    stay = torch.rand(states, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.1
    return stay.log(), (1 - stay).log()


def emitted(seed: int, rows: int, frames: int, states: int = len(PHONES)) -> Tensor:
    return 3 * torch.randn(rows, frames, states, generator=torch.Generator().manual_seed(seed))


def sequences(grammar: Grammar, states: int, each: int) -> Iterator[tuple[float, list]]:
    """All sequences of chains that have so few states: score of the words, and the chains.

    A chain is a word ("" for silence) and its states.
    """
    index = {word: place for place, word in enumerate(grammar.words)}
    silent, direct = math.log(BALANCE.silence), math.log(1 - BALANCE.silence)

    def chain(word: str, phones: tuple[str, ...]) -> tuple[str, list[int]]:
        return word, [PHONES.index(p) * each + j for p in phones for j in range(each)]

    def more(score: float, last: int | None, left: int, chains: list) -> Iterator:
        if last is None:
            if chains:
                yield score + BALANCE.language * grammar.empty, chains
        else:
            yield score + BALANCE.language * float(grammar.end[last]), chains
        if grammar.follow is None and last is not None:
            return
        for word, place in index.items():
            pair = grammar.start[place] if last is None else grammar.follow[last, place]
            if pair == -math.inf:
                continue
            gain = BALANCE.language * float(pair) + BALANCE.insertion
            for phones in LEXICON.pronunciations[word]:
                said = chain(word, phones)
                for extra, tail in ((direct, []), (silent, [chain("", ("SIL",))])):
                    rest = left - len(said[1]) - len(tail) * each
                    if rest >= 0:
                        yield from more(score + gain + extra, place, rest, [*chains, said, *tail])

    yield from more(direct, None, states, [])
    yield from more(silent, None, states - each, [chain("", ("SIL",))])


def every_path(
    scores: np.ndarray, stay: np.ndarray, leave: np.ndarray, grammar: Grammar
) -> Iterator[Path]:
    """Every alignment of every sequence: its score, and the words with their frames."""
    frames, columns = scores.shape
    for score, chains in sequences(grammar, frames, columns // len(PHONES)):
        states = [state for _, chain in chains for state in chain]
        for cuts in itertools.combinations(range(1, frames), len(states) - 1):
            edges = (0, *cuts, frames)
            total = 0.0
            for state, a, b in zip(states, edges, edges[1:], strict=False):
                total += scores[a:b, state].sum() + (b - a - 1) * stay[state] + leave[state]
            place, words = 0, []
            for word, chain in chains:
                begin, place = place, place + len(chain)
                if word:
                    words.append((word, edges[begin], edges[place]))
            yield score + BALANCE.acoustic * total, tuple(words)


def brute(paths: list[Path]) -> Decoded:
    """The best path, with the probability that each of its words is being said where highest."""
    best = max(paths)
    total = sum(math.exp(score - best[0]) for score, _ in paths)
    said: dict[tuple[str, int], float] = defaultdict(float)
    for score, words in paths:
        for word, start, end in words:
            for frame in range(start, end):
                said[word, frame] += math.exp(score - best[0]) / total
    words = [
        DecodedWord(word, start, end, max(said[word, frame] for frame in range(start, end)))
        for word, start, end in best[1]
    ]
    return Decoded(words, best[0])


def assert_same(found: Decoded, known: Decoded) -> None:
    assert [(w.word, w.start, w.end) for w in found.words] == [
        (w.word, w.start, w.end) for w in known.words
    ]
    assert found.score == pytest.approx(known.score, abs=1e-4)
    assert [w.confidence for w in found.words] == pytest.approx(
        [w.confidence for w in known.words], abs=1e-5
    )


GRAMMARS = {
    "bigram": drawn(3),
    "two words": drawn(4, words=("x", "z")),
    "never silent": replace(drawn(5), empty=-math.inf),
    "one word": one_word(("x", "y", "z")),
    "one word, or none": replace(one_word(("z", "x")), empty=-1.0),
    "any words": any_words(("y", "x")),
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_words_times_scores_and_confidences_are_those_of_the_enumeration(name: str) -> None:
    grammar = GRAMMARS[name]
    stay, leave = transitions(1)
    decoder = WordLoop(LEXICON, PHONES, (stay, leave), grammar, BALANCE)
    lengths = [5, 6, 1, 4, 3, 5, 2]
    scores = emitted(len(name), len(lengths), 6)
    found = decoder.search(scores, torch.tensor(lengths))
    heard = set()
    for row, length in enumerate(lengths):
        part = scores[row, :length].double().numpy()
        paths = list(every_path(part, stay.double().numpy(), leave.double().numpy(), grammar))
        assert_same(found[row], brute(paths) if paths else Decoded([], -math.inf))
        heard |= {len(found[row].words)}
    assert len(heard) > 1 or name == "one word"


def test_three_states_a_phone_are_passed_one_after_the_other() -> None:
    grammar = drawn(6, words=("x", "y"))
    stay, leave = transitions(2, 12)
    decoder = WordLoop(LEXICON, PHONES, (stay, leave), grammar, BALANCE)
    scores = emitted(7, 6, 10, 12)
    found = decoder.search(scores, torch.full((6,), 10))
    for row in range(6):
        part = scores[row].double().numpy()
        paths = list(every_path(part, stay.double().numpy(), leave.double().numpy(), grammar))
        assert_same(found[row], brute(paths))


def random_loop(words: int, seed: int, follow: bool = True) -> tuple[WordLoop, int]:
    rng = np.random.default_rng(seed)
    phones = [f"P{i}" for i in range(12)] + ["SIL"]
    said = {
        f"w{i}": tuple(tuple(rng.choice(phones[:-1], rng.integers(1, 5))) for _ in range(1 + i % 2))
        for i in range(words)
    }
    values = [torch.as_tensor(rng.normal(size=s)).float() for s in (words, (words, words), words)]
    grammar = Grammar(tuple(said), values[0], values[1] if follow else None, values[2])
    states = 3 * len(phones)
    decoder = WordLoop(
        Lexicon(said), phones, transitions(seed, states), grammar, Balance(language=3.0)
    )
    return decoder, states


def test_how_utterances_are_grouped_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, states = random_loop(20, 1)
    lengths = torch.tensor([40, 12, 0, 33, 40, 27])
    scores = emitted(2, 6, 40, states)
    together = decoder.search(scores, lengths)
    monkeypatch.setattr(search, "_MOST_ROWS", 1)
    monkeypatch.setattr(search, "_PAIRS", 7 * 20)  # seven words before are looked at at a time
    alone = decoder.search(scores, lengths)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert together[2] == Decoded([], -math.inf)


def test_what_lies_beyond_the_end_is_not_read() -> None:
    decoder, states = random_loop(20, 2)
    scores, lengths = emitted(3, 2, 50, states), torch.tensor([50, 30])
    known = decoder.search(scores, lengths)
    scores[1, 30:] = math.nan
    assert decoder.search(scores, lengths) == known


def test_long_utterances_keep_their_precision() -> None:
    decoder, states = random_loop(5, 3)
    scores = emitted(4, 1, 600, states)
    lengths = torch.tensor([600])
    (known,) = decoder.search(scores, lengths)
    shifts = -1000 * torch.rand(1, 600, 1, generator=torch.Generator().manual_seed(0))
    (found,) = decoder.search(scores + shifts, lengths)
    assert [w.word for w in found.words] == [w.word for w in known.words]
    assert found.score - known.score == pytest.approx(0.1 * float(shifts.double().sum()), abs=0.1)
    assert len(found.words) > 10
    assert all(0 < w.confidence <= 1 for w in found.words)


def test_confidences_can_be_left_out() -> None:
    decoder, states = random_loop(8, 4)
    scores, lengths = emitted(5, 2, 30, states), torch.tensor([30, 30])
    sure, plain = (decoder.decode(scores, lengths, confidence=c) for c in (True, False))
    assert [[replace(w, confidence=1.0) for w in words] for words in sure] == plain
    assert any(w.confidence < 1 for words in sure for w in words)


def test_a_frame_that_no_state_explains_leaves_no_path() -> None:
    decoder, states = random_loop(8, 5)
    scores, lengths = emitted(6, 2, 30, states), torch.tensor([30, 30])
    known = decoder.search(scores, lengths)
    scores[0, 12] = -math.inf
    found = decoder.search(scores, lengths)
    assert found[0] == Decoded([], -math.inf)
    assert_same(found[1], known[1])


class Pairs:
    """A bigram of a and b in which nothing follows a but b."""

    def bigram_matrix(self, words: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert words == ["a", "b"]
        half = math.log(0.5)
        return (
            np.log([0.9, 0.1], dtype=np.float32),
            np.array([[-np.inf, half], [half, -np.inf]], np.float32),
            np.array([half, half], np.float32),
        )

    def log_prob(self, history: tuple[str, ...], word: str) -> float:
        assert (history, word) == (("<s>",), "</s>")
        return -5.0


def test_a_bigram_decides_between_words_that_sound_alike() -> None:
    lexicon = Lexicon({"a": (("A",),), "b": (("A",),)})
    scores = torch.full((2, 9, 2), -9.0)
    scores[0, [0, 1, 2, 4, 5, 7, 8], 0] = 0
    scores[0, [3, 6], 1] = 0
    scores[1, :, 1] = 0
    moves = (torch.full((2,), -0.7), torch.full((2,), -0.7))
    grammar = word_pairs(["a", "b"], Pairs())
    decoder = WordLoop(lexicon, ("A", "SIL"), moves, grammar, Balance(acoustic=1.0))
    three, none = decoder.decode(scores, torch.tensor([9, 9]))
    assert [(w.word, w.start, w.end) for w in three] == [("a", 0, 3), ("b", 4, 6), ("a", 7, 9)]
    assert none == []


def test_what_is_forbidden_stays_so_where_the_language_counts_for_nothing() -> None:
    grammar = word_pairs(["a", "b"], Pairs())
    moves = (torch.full((2,), -0.7), torch.full((2,), -0.7))
    lexicon = Lexicon({"a": (("A",),), "b": (("SIL",),)})
    decoder = WordLoop(
        lexicon, ("A", "SIL"), moves, grammar, Balance(language=0.0, insertion=9.0, silence=0.0)
    )
    (words,) = decoder.decode(torch.zeros(1, 7, 2), torch.tensor([7]))
    assert "".join(word.word for word in words) in ("abababa", "bababab")


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"words": ("x", "q")}, DataError, "the lexicon lacks q; add a line"),
        ({"words": ()}, UsageError, "at least one word to listen for"),
        ({"words": ("x", "y", "x")}, UsageError, "must differ, but 'x' is there twice"),
        ({"phones": ("A", "B", "SIL", "D")}, DataError, "the acoustic model has no phone C; "),
        ({"phones": ("A", "B", "C", "D")}, DataError, "the acoustic model has no phone SIL; "),
    ],
)
def test_what_the_decoder_cannot_be_built_of(
    change: dict[str, tuple[str, ...]], error: type[Exception], sentence: str
) -> None:
    grammar = one_word(change.get("words", ("x", "y", "z")))
    with pytest.raises(error, match=sentence):
        WordLoop(LEXICON, change.get("phones", PHONES), transitions(0), grammar)


def test_too_many_words_are_refused_in_one_sentence() -> None:
    words = [f"w{i}" for i in range(MOST_WORDS + 1)]
    lexicon = Lexicon({word: (("A",),) for word in words})
    with pytest.raises(UsageError, match="at most 3,000 words, not 3,001; leave out those that"):
        WordLoop(lexicon, PHONES, transitions(0), one_word(words))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"acoustic": 0.0}, "acoustic scale must be above 0, not 0.0"),
        ({"language": -1.0}, "language weight must be 0 or more, not -1.0"),
        ({"insertion": math.nan}, "word insertion must be a number, not nan"),
        ({"silence": 1.5}, "probability of silence is in 0..1, not 1.5"),
    ],
)
def test_a_balance_that_makes_no_sense(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Balance(**settings)


def test_scores_that_do_not_fit_are_refused() -> None:
    decoder = WordLoop(LEXICON, PHONES, transitions(0), one_word(("x", "y")))
    scores = emitted(0, 2, 6)
    for bad, lengths, sentence in (
        (scores[..., :3], [6, 6], r"\(utterances, frames, 4 states\), not \(2, 6, 3\)"),
        (scores, [6], "there are 2 utterances but 1 lengths"),
        (scores, [6, 7], "an utterance of 7 frames does not fit scores of 6"),
        (scores * math.nan, [6, 6], "no log-probabilities"),
        (scores + math.inf, [6, 6], "no log-probabilities"),
    ):
        with pytest.raises(UsageError, match=sentence):
            decoder.decode(bad, torch.tensor(lengths))


@pytest.mark.long
def test_three_thousand_words_are_decoded() -> None:
    decoder, states = random_loop(MOST_WORDS, 9)
    (found,) = decoder.search(emitted(8, 1, 120, states), torch.tensor([120]))
    assert len(found.words) > 3
