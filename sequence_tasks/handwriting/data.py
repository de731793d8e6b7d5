"""Training sequences: lines, words, and several of one writer after each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ...datasets.strokes import Writing, person, read_writings
from ...errors import DataError
from ...tasks import Batch, TaskData
from .options import HandwritingOptions
from .paths import from_baseline, paced
from .pieces import cut
from .styles import choose_styles
from .text import alphabet_of, encode, stack_texts

_MULTIPLE = 32
"""lengths of sequences are padded to multiples of this"""
_SPACE = 0.8, 1.7
"""core heights between two writings that are joined"""
_STEADY = 0.96
"""share of the first epoch's sequences that every epoch has"""


@dataclass(frozen=True)
class Scale:
    """How offsets become numbers of the network: divided by `size`, in core heights."""

    size: float

    def to_numbers(self, writing: Writing) -> np.ndarray:
        """(dx, dy, pen) of a paced writing, float32 (N, 3); the first from the baseline."""
        numbers = from_baseline(writing.points)
        numbers[:, :2] /= self.size
        return numbers


@dataclass(frozen=True)
class Corpus:
    """Training pieces as arrays.

    Attributes:
        numbers: float32 (N, 3) of all, one after the other.
        starts: int64 (pieces + 1,), where each begins.
        codes: of each text, without the end mark.
        edges: float32 (pieces, 2): how far left of its first, and right of its last point, each
            reaches.
        last: float32 (pieces,), height of each last point over the baseline, y down.
        writers: int64 (pieces,), a number for each person.
        space: code of the space.
        end: code of the end mark.
    """

    numbers: np.ndarray
    starts: np.ndarray
    codes: Sequence[np.ndarray]
    edges: np.ndarray
    last: np.ndarray
    writers: np.ndarray
    space: int
    end: int

    @property
    def lengths(self) -> np.ndarray:
        """Points of each piece."""
        return np.diff(self.starts)


def build_data(options: HandwritingOptions, data: str, seed: int) -> TaskData:
    """See `Task.build_data`; UsageError for an unknown name, DataError for unusable files."""
    read = read_writings(data, seed)
    parts = {
        split: [
            piece
            for writing in paced(lines, options.density)
            for piece in cut(writing, options.longest)
        ]
        for split, lines in read.lines.items()
    }
    words = paced(read.words["train"], options.density)
    words = [word for word in words if len(word.points) <= options.longest]
    alphabet = alphabet_of(one.text for one in parts["train"] + words)
    parts = {split: _written_in(alphabet, found) for split, found in parts.items()}
    training = parts["train"] + _written_in(alphabet, words)
    if not training:
        raise DataError(
            f"{data}: no line of at most {options.longest} points has only characters that occur "
            "often enough; more samples are needed, or a greater --longest."
        )
    offsets = np.concatenate([from_baseline(one.points)[1:, :2] for one in training])
    scale = Scale(float(offsets.std()) or 1.0)
    corpus = corpus_of(training, scale, alphabet)
    characters = sum(len(one.text) for one in training)
    facts = {
        **read.facts,
        "alphabet": alphabet,
        "scale": scale.size,
        "pace": characters / len(corpus.numbers),
        "density": options.density,
        "styles": choose_styles(parts["train"]),
        "sequences": {split: len(found) for split, found in parts.items()},
        "training_points": len(corpus.numbers),
        "training_characters": characters,
    }
    sequences = Sequences(corpus, options, scale.size, seed)
    return TaskData(
        facts=facts,
        examples=sequences.count,
        batch=sequences.batch,
        splits={split: found for split, found in parts.items() if found},
    )


def _written_in(alphabet: str, writings: Sequence[Writing]) -> list[Writing]:
    known = set(alphabet)
    return [one for one in writings if one.text and set(one.text) <= known]


def corpus_of(writings: Sequence[Writing], scale: Scale, alphabet: str) -> Corpus:
    """Puts paced writings into arrays."""
    people = {name: i for i, name in enumerate(sorted({person(w.writer) for w in writings}))}
    pieces = [scale.to_numbers(one) for one in writings]
    edges = [
        (one.points[0, 0] - one.points[:, 0].min(), one.points[:, 0].max() - one.points[-1, 0])
        for one in writings
    ]
    return Corpus(
        np.concatenate(pieces),
        np.cumsum([0, *map(len, pieces)]),
        [encode(one.text, alphabet)[:-1] for one in writings],
        np.array(edges, np.float32) / scale.size,
        np.array([one.points[-1, 1] for one in writings], np.float32) / scale.size,
        np.array([people[person(one.writer)] for one in writings]),
        alphabet.index(" "),
        len(alphabet),
    )


class Sequences:
    """Batches of training sequences; a pure function of step, batch size and seed.

    Attributes:
        count: sequences in an epoch.
    """

    def __init__(self, corpus: Corpus, options: HandwritingOptions, size: float, seed: int):
        self.corpus, self.options, self.size, self.seed = corpus, options, size, seed
        self._plan = lru_cache(maxsize=2)(self._make_plan)
        self.count = max(1, int(_STEADY * len(self._plan(0))))

    def _make_plan(self, epoch: int) -> list[np.ndarray]:
        """Which pieces make up each sequence of an epoch, the short ones first."""
        rng = np.random.default_rng([self.seed, 11, epoch])
        order = rng.permutation(len(self.corpus.lengths))
        order = order[np.argsort(self.corpus.writers[order], kind="stable")]
        lengths, writers = self.corpus.lengths[order].tolist(), self.corpus.writers[order].tolist()
        longest = self.options.longest
        room = np.where(
            rng.random(len(order)) < self.options.joined,
            rng.uniform(0.3, 1.0, len(order)) * longest,
            0,
        ).tolist()
        plan, first, points = [], 0, 0
        for index, (length, writer) in enumerate(zip(lengths, writers, strict=True)):
            new = writer != writers[first] or points + length > room[first]
            if index > first and new:
                plan.append((points, order[first:index]))
                first, points = index, 0
            points += length
        plan.append((points, order[first:]))
        noise = rng.uniform(0.9, 1.1, len(plan))
        return [plan[i][1] for i in np.argsort([p[0] for p in plan] * noise)]

    def batch(self, step: int, size: int) -> Batch:
        """See `TaskData.batch`.

        Returns:
            points float32 (B, T, 3) with zeros behind the ends, lengths int64 (B,), text int64
            (B, U), -1 behind the ends.
        """
        batches = max(1, self.count // size)
        epoch, place = divmod(step, batches)
        plan = self._plan(epoch)
        which = int(np.random.default_rng([self.seed, 12, epoch]).permutation(batches)[place])
        rng = np.random.default_rng([self.seed, 13, step])
        first = int(rng.integers(0, max(1, len(plan) - batches * size + 1))) + which * size
        rows = [plan[(first + i) % len(plan)] for i in range(size)]
        made = [self.sequence(row, rng) for row in rows]
        lengths = np.array([len(points) for points, _ in made])
        longest = -(-int(lengths.max()) // _MULTIPLE) * _MULTIPLE
        stacked = np.zeros((size, longest, 3), np.float32)
        for row, (points, _) in zip(stacked, made, strict=True):
            row[: len(points)] = points
        return {
            "points": torch.from_numpy(stacked),
            "lengths": torch.from_numpy(lengths),
            "text": torch.from_numpy(stack_texts([code for _, code in made])),
        }

    def sequence(
        self, pieces: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pieces of one writer as points (N, 3) and codes of the text, changed at random."""
        corpus = self.corpus
        points = np.concatenate(
            [corpus.numbers[corpus.starts[p] : corpus.starts[p + 1]] for p in pieces]
        )
        joints = np.cumsum(corpus.lengths[pieces])[:-1]
        before, after = pieces[:-1], pieces[1:]
        gaps = rng.uniform(*_SPACE, len(joints)) / self.size
        points[joints, 0] = corpus.edges[before, 1] + gaps + corpus.edges[after, 0]
        points[joints, 1] -= corpus.last[before]
        wide, high, slant = rng.normal(0, self.options.stretch, 3)
        points[:, 0] = np.exp(wide) * (points[:, 0] + slant * points[:, 1])
        points[:, 1] *= np.exp(high)
        code = [corpus.codes[pieces[0]]]
        for piece in after:
            code += [np.array([corpus.space]), corpus.codes[piece]]
        return points, np.concatenate([*code, [corpus.end]])


def numbers_and_codes(
    writings: Sequence[Writing], facts: Mapping[str, Any]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Paced writings as the network reads them: points (N, 3) and codes of texts."""
    scale = Scale(float(facts["scale"]))
    codes = [encode(one.text, facts["alphabet"]) for one in writings]
    return [scale.to_numbers(one) for one in writings], codes
