"""From scores of states to words with times: Viterbi over all words at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...datasets.lexicons import Lexicon
from ...errors import UsageError
from .posteriors import word_posteriors
from .word_graph import NEVER, Balance, Grammar, WordGraph, build_graph, side_by_side

_MOST_ROWS = 32
_STATES = 2**19  # states of all utterances that are searched at a time
_RECORDS = 2**24  # frames times words of all of them
_SMALL = 20_000  # states of a graph whose steps are too short for several threads
_PAIRS = 2**21  # sums of pairs of words that are looked at together


@contextmanager
def _few_threads(states: int) -> Iterator[None]:
    """One thread for small graphs: threads that wait for each other cost more than they give."""
    before = torch.get_num_threads()
    if states < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class DecodedWord:
    """A word that was heard.

    Attributes:
        word: as the grammar writes it.
        start: its first frame.
        end: the frame after its last one; silence is no part of it.
        confidence: probability in 0..1, see `posteriors.word_posteriors`; 1 where it was not
            asked for.
    """

    word: str
    start: int
    end: int
    confidence: float = 1.0


@dataclass(frozen=True)
class Decoded:
    """The best path through an utterance.

    Attributes:
        words: what was said; none where silence alone is best, or where the utterance has fewer
            frames than the shortest word has states.
        score: of the path, see `Balance`; minus infinity where there is no path.
    """

    words: list[DecodedWord]
    score: float


class WordLoop:
    """Finds the likeliest words of utterances, exactly: nothing is pruned.

    A path begins in silence or in a word, and after each word there may be a silence. A word is
    said in one of its pronunciations, all equally good; each is a chain of states that are
    passed in order, every one for a frame or more. Every chain ends by going on from its last
    state, at the end of the utterance too. What remains of the past in the frame in which a word
    ends is that word alone, so a record of each frame and word is enough: its best score, where
    it began, and how long the silence after it is.

    Memory is 12 bytes a frame and word for the words alone and 16 for the confidences, besides
    the pairs of words; utterances are searched in groups, so that 3,000 words need less than
    1 GB.

    Args:
        lexicon: pronunciations of the grammar's words.
        phones: all phones in the order of their states, "SIL" among them.
        transitions: log-probabilities (nats) of remaining in each state and of going on, each
            float (K,); phone p has the states from p * K / len(phones) on.
        grammar: the words, and what may follow what; see `one_word`, `any_words`, `word_pairs`.
        balance: how the parts of the score are weighed.

    Raises:
        UsageError: more words than `MOST_WORDS`, or none.
        DataError: a word that the lexicon lacks, or a phone that the model lacks.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        phones: Sequence[str],
        transitions: tuple[Tensor, Tensor],
        grammar: Grammar,
        balance: Balance | None = None,
    ):
        self.balance = balance or Balance()
        lexicon.require(grammar.words)
        self.states = len(transitions[0])
        self.graph = build_graph(lexicon.pronunciations, phones, transitions, grammar, self.balance)

    def decode(
        self, scores: Tensor, lengths: Tensor, *, confidence: bool = True
    ) -> list[list[DecodedWord]]:
        """The words of each utterance, see `search`."""
        return [found.words for found in self.search(scores, lengths, confidence=confidence)]

    @torch.no_grad()
    def search(self, scores: Tensor, lengths: Tensor, *, confidence: bool = True) -> list[Decoded]:
        """Finds the best path through each utterance; runs on the CPU.

        Args:
            scores: log emission scores (B, T, K), nats; minus infinity is allowed.
            lengths: whole numbers (B,), frames of each utterance; what comes after is not read.
            confidence: also tell how sure each word is, which takes as long again.

        Raises:
            UsageError: a shape that does not fit, or scores that are no numbers.
        """
        counts = self._checked(scores, lengths)
        found = [Decoded([], NEVER) for _ in counts]
        order = sorted((b for b, count in enumerate(counts) if count), key=lambda b: -counts[b])
        with _few_threads(len(self.graph.states)):
            while order:
                rows = order[: self._rows_at_a_time(counts[order[0]])]
                order = order[len(rows) :]
                paths = self._search_group(scores, rows, [counts[b] for b in rows], confidence)
                for row, path in zip(rows, paths, strict=True):
                    found[row] = path
        return found

    def _search_group(
        self, scores: Tensor, rows: list[int], counts: list[int], confidence: bool
    ) -> list[Decoded]:
        """The best paths of some utterances, the longest one first."""
        emissions, offset = _emissions(scores, rows, counts[0], self.balance.acoustic)
        lengths = torch.tensor(counts)
        paths = _best_paths(self.graph, emissions, counts)
        place = {word: v for v, word in enumerate(self.graph.words)}
        spans = [[(place[w.word], w.start, w.end) for w in path.words] for path in paths]
        sure: list[list[float]] = [[1.0] * len(path.words) for path in paths]
        if confidence:
            sure = word_posteriors(self.graph, emissions, lengths, spans)
        return [
            Decoded(
                [replace(w, confidence=c) for w, c in zip(path.words, some, strict=True)],
                path.score + float(offset[:count, b].sum()),
            )
            for b, (path, some, count) in enumerate(zip(paths, sure, counts, strict=True))
        ]

    def _rows_at_a_time(self, frames: int) -> int:
        most = min(_STATES // len(self.graph.states), _RECORDS // (frames * len(self.graph.words)))
        return max(1, min(_MOST_ROWS, most))

    def _checked(self, scores: Tensor, lengths: Tensor) -> list[int]:
        if scores.ndim != 3 or scores.shape[2] != self.states:
            raise UsageError(
                f"the decoder takes scores (utterances, frames, {self.states} states), not "
                f"{tuple(scores.shape)}."
            )
        counts = [int(count) for count in lengths]
        if len(counts) != len(scores):
            raise UsageError(f"there are {len(scores)} utterances but {len(counts)} lengths.")
        for row, count in enumerate(counts):
            if not 0 <= count <= scores.shape[1]:
                raise UsageError(
                    f"an utterance of {count} frames does not fit scores of {scores.shape[1]}."
                )
            if not (scores[row, :count] < math.inf).all():  # not a number is not below it either
                raise UsageError(
                    "the scores of states hold values that are no log-probabilities (infinite "
                    "or not a number); look at the model's output."
                )
        return counts


def _emissions(scores: Tensor, rows: list[int], frames: int, scale: float) -> tuple[Tensor, Tensor]:
    """Scaled scores (T, K, B) of some utterances, each frame's best being 0, and those bests.

    Sums over hundreds of frames stay small that way, which is what float32 is exact for.
    """
    chosen = scores[rows, :frames].detach().to("cpu", torch.float32) * scale
    best = chosen.amax(2)
    best = torch.where(best == NEVER, 0.0, best)
    return (chosen - best[..., None]).permute(1, 2, 0).contiguous(), best.t().double()


@dataclass(frozen=True)
class _Records:
    """What is kept of every frame.

    Attributes:
        exits: float32 (T, V, B), best score of a path whose word or the silence after it ends
            with the frame.
        silences: float32 (T, V, B), frames of that silence.
        begins: float32 (T, V, B), first frame of the word that itself ends with the frame.
        leads: float32 (T, B), score of silence alone up to the frame.
    """

    exits: Tensor
    silences: Tensor
    begins: Tensor
    leads: Tensor


def _best_paths(graph: WordGraph, emissions: Tensor, counts: list[int]) -> list[Decoded]:
    records = _viterbi(graph, emissions)
    parts = (records.exits, records.silences, records.begins, records.leads)
    arrays = [part.numpy() for part in parts]
    follow = None if graph.follow is None else graph.follow.numpy()
    start, end = graph.start[:, 0].numpy(), graph.end[:, 0].numpy()
    found = []
    for b, length in enumerate(counts):
        exits, silences, begins, leads = (array[..., b] for array in arrays)
        t = length - 1
        last = exits[t] + end
        word = int(last.argmax())
        score, empty = float(last[word]), float(leads[t]) + graph.empty
        words: list[DecodedWord] = []
        if empty >= score:  # also where there is no path at all
            found.append(Decoded(words, empty))
            continue
        while True:
            t -= int(silences[t, word])
            begin = int(begins[t, word])
            words.append(DecodedWord(graph.words[word], begin, t + 1))
            t = begin - 1
            if t < 0 or follow is None:
                break
            before = exits[t] + follow[:, word]
            previous = int(before.argmax())
            if leads[t] + start[word] >= before[previous]:
                break
            word = previous
        found.append(Decoded(words[::-1], score))
    return found


def _viterbi(graph: WordGraph, emissions: Tensor) -> _Records:
    """Best scores of all states in every frame, of which the ends of words are kept."""
    frames, _, rows = emissions.shape
    words, chains, size = len(graph.words), len(graph.chain_word), len(graph.states)
    exits, silences, begins = (torch.empty(frames, words, rows) for _ in range(3))
    records = _Records(exits, silences, begins, torch.empty(frames, rows))
    score, onward, other = (torch.full((size, rows), NEVER) for _ in range(3))
    begun, moved = torch.zeros(size, rows), torch.zeros(size, rows)
    entering = torch.full((len(graph.firsts), rows), NEVER)
    entering[:chains] = (graph.start + graph.direct)[graph.chain_word]
    entering[-2] = graph.silent
    stay, leave = side_by_side(graph, rows)
    leave_word, leave_tail = leave[graph.ends], leave[graph.tails]
    choices = graph.ends.view(words, -1, 1).expand(-1, -1, rows)
    pairs = None if graph.follow is None else _Pairs(graph.follow, rows)
    for t in range(frames):
        # Each state is entered from the one before it, and the first ones from outside.
        torch.add(score[:-1], leave[:-1], out=onward[1:])
        onward.index_copy_(0, graph.firsts, entering)
        moved[1:] = begun[:-1]
        moved.index_fill_(0, graph.firsts, t)
        score += stay
        torch.maximum(score, onward, out=other)
        begun.lerp_(moved, onward.gt_(score))  # exact where the weight is 0 or 1
        other += emissions[t].index_select(0, graph.states)
        score, other = other, score

        ended = score.index_select(0, graph.ends).add_(leave_word).view(choices.shape)
        ended, which = ended.max(1, keepdim=True)
        torch.gather(begun, 0, choices.gather(1, which)[:, 0], out=records.begins[t])
        direct = ended[:, 0] + graph.direct
        quiet = score.index_select(0, graph.tails).add_(leave_tail)
        torch.maximum(quiet, direct, out=records.exits[t])
        silent = (t + 1) - begun.index_select(0, graph.tails)
        torch.mul(silent, quiet.gt_(direct), out=records.silences[t])
        torch.add(score[graph.lead], graph.leave[graph.lead], out=records.leads[t])
        entry = records.leads[t] + graph.start
        if pairs is not None:
            torch.maximum(entry, pairs.best(records.exits[t]), out=entry)
        torch.index_select(entry, 0, graph.chain_word, out=entering[:chains])
        torch.add(ended[:, 0], graph.silent, out=entering[chains:-2])
        entering[-2] = NEVER
    return records


class _Pairs:
    """For each word the best score of the words before it."""

    def __init__(self, follow: Tensor, rows: int):
        self.follow = follow
        block = min(len(follow), max(1, _PAIRS // (rows * len(follow))))
        self.sums = torch.empty(rows, block, len(follow))

    def best(self, exits: Tensor) -> Tensor:
        """(V, B) scores of ended words -> (V, B), the maximum over v of exits[v] + follow[v, w]."""
        best = torch.full(exits.shape[::-1], NEVER)
        block, before = self.sums.shape[1], exits.t().contiguous()[..., None]
        for begin in range(0, len(exits), block):
            rows = slice(begin, begin + block)
            sums = self.sums[:, : len(self.follow[rows])]
            torch.add(self.follow[rows], before[:, rows], out=sums)
            torch.maximum(best, sums.amax(1), out=best)
        return best.t()
