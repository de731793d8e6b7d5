"""Real lines and rows of real words as training batches, and lines to measure on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...datasets.strokes import Writing, person, prepared_all, read_writings
from ...errors import DataError
from ...tasks import TaskData
from .._ctc.labels import encode, label_of
from .._lengths import batches_of_like_length, cuts
from .augment import augmented
from .model import padded
from .options import ReadHandwritingOptions

_MULTIPLE = 32
"""lengths of batches are multiples of this, in points"""
_LABELS = 16
"""and of this, in labels"""


def build_data(options: ReadHandwritingOptions, data: str, seed: int) -> TaskData:
    """Reads handwriting; see `Task.build_data`. The splits are lists of prepared lines.

    Writings whose quality is BAD are in no split that is measured.

    Raises:
        DataError: the data cannot be read, or have too few characters.
    """
    found = read_writings(data, seed)
    lines = {split: ready(part, options) for split, part in found.lines.items()}
    lines["validation"] = [one for one in lines["validation"] if one.quality != "BAD"]
    lines["test"] = [one for one in lines["test"] if one.quality != "BAD"]
    words = ready(found.words["train"], options) if options.learn_from == "both" else []
    every = Counter("".join(one.text for one in lines["train"] + words))
    alphabet = sorted(character for character, n in every.items() if n >= options.fewest)
    if not alphabet:
        raise DataError(f"{data}: no character is in the training texts {options.fewest} times.")
    known = {one.text for one in lines["train"]}
    batches = Batches(lines["train"], words, alphabet, options, seed)
    facts = {
        **found.facts,
        "alphabet": alphabet,
        "characters": {c: every[c] for c in alphabet},
        "rare": {c: n for c, n in sorted(every.items()) if n < options.fewest},
        "step": options.step,
        "learnt_from": "real writing alone: "
        + ("lines, and words of one writer set in a row" if words else "lines"),
        "test_texts_in_training": sum(one.text in known for one in lines["test"]),
    }
    return TaskData(facts, batches.examples, batches, lines)


def ready(writings: Sequence[Writing], options: ReadHandwritingOptions) -> list[Writing]:
    """Writings as the network takes them: prepared, from x = 0, the mean height at y = 0."""
    # A row of equal dots needs a frame for each and one between two.
    found = prepared_all(writings, options.step, least=2 * options.stride)
    for one in found:
        one.points[:, 0] -= one.points[:, 0].min()
        one.points[:, 1] -= one.points[:, 1].mean()
    return found


class Batches:
    """Training batches as a pure function of the step; see `TaskData.batch`.

    Called with (step, batch size) it returns "points" float32 (B, T, 3), "lengths" int64 (B,),
    "labels" int64 (B, L), 0 beyond "label_lengths" int64 (B,). An epoch holds every line once and
    every word once, in rows of words of one writer that change from epoch to epoch; the first one
    comes after a pass over single words and lines, the shortest first.

    Attributes:
        examples: lines and rows of an epoch.
    """

    def __init__(
        self,
        lines: Sequence[Writing],
        words: Sequence[Writing],
        alphabet: Sequence[str],
        options: ReadHandwritingOptions,
        seed: int,
    ):
        place = label_of(alphabet)
        every = [*lines, *words]
        self.paths = [one.points for one in every]
        self.labels = [np.array(encode(one.text, place), np.int64) for one in every]
        self.sizes = np.array([len(path) for path in self.paths])
        self.space = place.get(" ", 0)
        self.distortion = options.distortion
        self.seed = seed
        self.lines = len(lines)
        by_person: dict[str, list[int]] = {}
        for index, one in enumerate(words, self.lines):
            by_person.setdefault(person(one.writer), []).append(index)
        self.words = [np.array(by_person[name]) for name in sorted(by_person)]
        rng = np.random.default_rng([seed, 11])
        longest = options.longest_row if self.space else 1
        self.cuts = [cuts(len(indices), longest, rng) for indices in self.words]
        self.examples = self.lines + sum(len(ends) + 1 for ends in self.cuts)
        self._order = lru_cache(maxsize=4)(self._ordered)

    def __call__(self, step: int, size: int) -> Mapping[str, Tensor]:
        first = -(-len(self.paths) // size)
        epoch, place = divmod(step - first, -(-self.examples // size))
        rows = self._order(epoch, size)[place] if step >= first else self._order(-1, size)[step]
        rng = np.random.default_rng([self.seed, 12, step])
        made = [self._row(indices, rng) for indices in rows]
        points, lengths = padded([path for path, _ in made], _MULTIPLE)
        points, lengths = augmented(points, lengths, self.distortion, rng)
        most = max(len(labels) for _, labels in made)
        labels = np.zeros((size, max(1, -(-most // _LABELS)) * _LABELS), np.int64)
        for row, (_, found) in enumerate(made):
            labels[row, : len(found)] = found
        return {
            "points": torch.from_numpy(points),
            "lengths": torch.from_numpy(lengths),
            "labels": torch.from_numpy(labels),
            "label_lengths": torch.tensor([len(found) for _, found in made]),
        }

    def _ordered(self, epoch: int, size: int) -> list[list[np.ndarray]]:
        """The batches of an epoch: examples of nearly one length each, in random order.

        Before the first epoch, which is -1, every word stands alone, and short ones come first
        (Amodei 2016): on long lines a fresh network learns for a long time nothing but blanks.
        """
        rng = np.random.default_rng([self.seed, 13, epoch + 1])
        rows = [np.array([index]) for index in range(self.lines)]
        for indices, own in zip(self.words, self.cuts, strict=True):
            ends = np.arange(1, len(indices)) if epoch < 0 else own
            rows += np.split(rng.permutation(indices), ends)
        length = np.array([self.sizes[indices].sum() for indices in rows])
        batches = batches_of_like_length(length, size, rng, (0.85, 1.15), shuffled=epoch >= 0)
        return [[rows[i] for i in batch] for batch in batches]

    def _row(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Path and labels of a line, or of words side by side."""
        if len(indices) == 1:
            return self.paths[indices[0]], self.labels[indices[0]]
        paths, labels, right = [], [], 0.0
        for index, gap in zip(indices, rng.uniform(0.6, 2.2, len(indices)), strict=True):
            path = self.paths[index].copy()
            path[:, 0] += right
            right = float(path[:, 0].max()) + gap
            paths.append(path)
            labels += [self.labels[index], [self.space]]
        return np.concatenate(paths), np.concatenate(labels[:-1])
