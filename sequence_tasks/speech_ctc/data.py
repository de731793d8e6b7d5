"""Utterances as training batches by length, and what the decoder knows of their language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...datasets.speech import Utterance, read_speech
from ...errors import DataError
from ...tasks import TaskData
from .._ctc.labels import encode, label_of
from .._ctc.ngrams import train_ngrams
from .._lengths import batches_of_like_length, cuts
from .._speech.frontend import Variation, padded
from .model import frontend_of
from .options import SpeechCtcOptions

_MULTIPLE = 32
"""lengths of batches are multiples of this, in frames"""
_LABELS = 8
"""and of this, in labels"""
_GAP = 0.25
"""seconds of silence between two recordings in a row, at most"""


def build_data(options: SpeechCtcOptions, data: str, seed: int) -> TaskData:
    """Reads speech; see `Task.build_data`. The splits are lists of `Utterance`.

    Raises:
        DataError: the data cannot be read, or the training transcripts are empty.
    """
    speech = read_speech(data, seed, options.held_out)
    splits = {
        name: in_rows(part, options.row, speech.rate) if name != "train" else list(part)
        for name, part in speech.splits.items()
    }
    texts = [one.text for one in speech.splits["train"]]
    alphabet = "".join(sorted(set("".join(texts)) | {" "}))
    if len(alphabet) < 2:
        raise DataError(f"{data}: the training transcripts are empty; there is nothing to learn.")
    words = {word for text in texts for word in text.split()}
    listed = set() if speech.lexicon is None else set(speech.lexicon.pronunciations)
    spelled = {word for word in listed if set(word) <= set(alphabet)}
    facts = {
        **speech.facts,
        "alphabet": alphabet,
        "words": sorted(words | spelled),
        "language": train_ngrams(texts, options.order, vocabulary=words | spelled).write_arpa(),
        "row": options.row,
    }
    batches = Batches(speech.splits["train"], alphabet, options, speech.rate, seed)
    return TaskData(facts, batches.examples, batches, splits)


def in_rows(utterances: Sequence[Utterance], most: int, rate: int) -> list[Utterance]:
    """Recordings of one speaker put in a row, 1 to `most` of them, each once; always the same."""
    if most == 1:
        return list(utterances)
    rng = np.random.default_rng(0)
    rows = []
    for indices in _rows([one.speaker for one in utterances], most, rng):
        some = [utterances[i] for i in indices]
        text = " ".join(one.text for one in some)
        samples = _joined([one.samples for one in some], rate, rng)
        rows.append(replace(some[0], name=f"row of {some[0].name}", text=text, samples=samples))
    return rows


def _rows(speakers: Sequence[str], most: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices in random order, cut into rows of one speaker."""
    rows: list[np.ndarray] = []
    names = np.array(speakers)
    for name in sorted(set(speakers)):
        members = rng.permutation(np.flatnonzero(names == name))
        rows += np.split(members, cuts(len(members), most, rng))
    return rows


def _joined(sounds: Sequence[np.ndarray], rate: int, rng: np.random.Generator) -> np.ndarray:
    """Sounds behind each other with short silences between."""
    parts: list[np.ndarray] = []
    for sound in sounds:
        gap = int(rng.uniform(0, _GAP) * rate)
        parts += [np.zeros(gap, np.int16), sound]
    return np.concatenate(parts[1:])


class Batches:
    """Training batches as a pure function of the step; see `TaskData.batch`.

    Called with (step, batch size) it returns "features" float32 (B, T, F), "lengths" int64 (B,),
    "labels" int64 (B, L), 0 beyond "label_lengths" int64 (B,). An epoch holds every recording
    once, in batches of nearly one length. In the first one the shortest come first (Amodei
    2016): on long utterances a fresh network learns for a long time nothing but blanks.

    Attributes:
        examples: utterances, or rows of recordings, of an epoch.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        alphabet: str,
        options: SpeechCtcOptions,
        rate: int,
        seed: int,
    ):
        place = label_of(alphabet)
        self.sounds = [one.samples for one in utterances]
        self.labels = [np.array(encode(one.text, place), np.int64) for one in utterances]
        self.speakers = [one.speaker for one in utterances]
        self.space = place[" "]
        self.frontend = frontend_of(options, rate)
        self.rate, self.row, self.augment = rate, options.row, options.augment
        self.seed = seed
        self.examples = round(len(self.sounds) * 2 / (options.row + 1))
        self._order = lru_cache(maxsize=4)(self._ordered)

    def __call__(self, step: int, size: int) -> Mapping[str, Tensor]:
        epoch, place = divmod(step, -(-self.examples // size))
        batches = self._order(epoch, size)
        rng = np.random.default_rng([self.seed, 21, step])
        rows = batches[place % len(batches)]  # of rows there are a few more or less an epoch
        made = [self._made(indices, rng) for indices in rows]
        features, lengths = padded([one for one, _ in made], _MULTIPLE)
        most = max(1, *(len(labels) for _, labels in made))
        labels = np.zeros((size, -(-most // _LABELS) * _LABELS), np.int64)
        for row, (_, found) in enumerate(made):
            labels[row, : len(found)] = found
        return {
            "features": features,
            "lengths": lengths,
            "labels": torch.from_numpy(labels),
            "label_lengths": torch.tensor([len(found) for _, found in made]),
        }

    def _ordered(self, epoch: int, size: int) -> list[list[np.ndarray]]:
        """The batches of an epoch in random order; of the first one by length."""
        rng = np.random.default_rng([self.seed, 22, epoch])
        if self.row == 1:
            rows = [np.array([index]) for index in range(len(self.sounds))]
        else:
            rows = _rows(self.speakers, self.row, rng)
        length = np.array([sum(len(self.sounds[i]) for i in indices) for indices in rows])
        batches = batches_of_like_length(length, size, rng, (0.8, 1.25), shuffled=epoch > 0)
        return [[rows[i] for i in batch] for batch in batches]

    def _made(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
        """Features and labels of an utterance, or of recordings in a row."""
        variation = Variation(self.augment, rng) if self.augment else None
        sound = self.sounds[indices[0]]
        labels = self.labels[indices[0]]
        if len(indices) > 1:
            sound = _joined([self.sounds[i] for i in indices], self.rate, rng)
            parts = [part for i in indices for part in (self.labels[i], [self.space])]
            labels = np.concatenate(parts[:-1])
        return self.frontend.features(sound, variation), labels
