"""Frames with the states that a GMM-HMM finds for them, as training batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from ...datasets.download import say_on_stderr
from ...datasets.lexicons import Lexicon
from ...datasets.speech import Utterance, read_speech
from ...errors import DataError
from ...tasks import TaskData
from .._ctc.ngrams import train_ngrams
from .._speech.frontend import Variation
from .flat_start import Schedule, TrainedGMM, align, train_gmm
from .graphs import Topology
from .inputs import Speakers, cepstra_of, frontend_of, gmm_features, moments
from .options import SpeechHybridOptions

_CHUNK = 100_000
"""frames that are shuffled together, and held in memory"""


def build_data(options: SpeechHybridOptions, data: str, seed: int) -> TaskData:
    """Reads speech with a lexicon; see `Task.build_data`. The splits are lists of `Utterance`.

    The GMM-HMM is trained when the first batch is asked for, which takes a minute for an hour of
    speech; the same data give the same one.

    Raises:
        DataError: the data cannot be read, have no lexicon, or it lacks a word (which is named).
    """
    speech = read_speech(data, seed, options.held_out)
    if speech.lexicon is None:
        raise DataError(
            f"{data} has no lexicon; put a lexicon.txt with lines like 'WORD  W ER D' into it."
        )
    texts = [one.text for one in speech.splits["train"]]
    words = {word for text in texts for word in text.split()}
    speech.lexicon.require(sorted(words))
    listed = sorted(words | set(speech.lexicon.pronunciations))
    single = all(len(text.split()) == 1 for text in texts)
    grammar = options.grammar
    if grammar == "auto":
        grammar = "word" if single else "bigram"
    facts = {
        **speech.facts,
        "lexicon": speech.lexicon.told(),
        "words": sorted(words) if grammar == "word" else listed,
        "grammar": grammar,
        "language": train_ngrams(texts, 2, vocabulary=listed).write_arpa(),
        "states": Topology.of(speech.lexicon.phones).states,
    }
    batches = Batches(speech.splits["train"], speech.lexicon, options, speech.rate, seed)
    return TaskData(facts, batches.examples, batches, speech.splits)


def silence_gaussians(options: SpeechHybridOptions) -> int:
    """Gaussians of each state of silence, which holds many kinds of noise."""
    return 2 * options.gaussians


@dataclass(frozen=True)
class Foundation:
    """What the network learns from.

    Attributes:
        gmm: trained from a flat start.
        states: of each utterance, int16 (T,), the state of each frame; -1 where unknown.
        cepstra: mean and variance of the GMM's features before they are normalised, (2, 13).
        energies: the same of the network's, (2, 40).
        speakers: the network's features by speaker.
    """

    gmm: TrainedGMM
    states: Sequence[np.ndarray]
    cepstra: Tensor
    energies: Tensor
    speakers: Speakers


class Batches:
    """Training batches as a pure function of the step; see `TaskData.batch`.

    Called with (step, batch size) it returns "windows" float32 (B, window * F) and "states" int64
    (B,). An epoch holds every frame once, varied anew; utterances are shuffled, and the frames of
    each hundred thousand are.

    Attributes:
        examples: frames of an epoch, before some are left out because their utterance is too
            short for its words.
        seed: of the order and the variations.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        lexicon: Lexicon,
        options: SpeechHybridOptions,
        rate: int,
        seed: int,
    ):
        self.utterances = utterances
        self.lexicon = lexicon
        self.options = options
        self.rate = rate
        self.seed = seed
        self.frontend = frontend_of(rate)
        self.lengths = [self.frontend.framing.frames(len(one.samples)) for one in utterances]
        self.examples = sum(self.lengths)
        self._chunk = lru_cache(maxsize=2)(self._made)
        self._chunks = lru_cache(maxsize=2)(self._divided)

    @cached_property
    def foundation(self) -> Foundation:
        """The GMM-HMM and its alignment of the training utterances."""
        cepstra = [cepstra_of(one.samples, self.rate) for one in self.utterances]
        energies = [self.frontend.energies(one.samples) for one in self.utterances]
        names = [one.voice for one in self.utterances]
        prior = moments(cepstra), moments(energies)
        voices, speakers = (Speakers(*part) for part in prior)
        for name, one in zip(names, energies, strict=True):
            speakers.hear(name, one)
        features = [gmm_features(one).numpy() for one in voices.heard(names, cepstra)]
        words = [one.text.split() for one in self.utterances]
        schedule = Schedule(self.options.gaussians, silence_gaussians(self.options))
        gmm = train_gmm(features, words, self.lexicon, schedule, say_on_stderr)
        states = align(gmm, features, words)
        low_prior, high_prior = (torch.stack(part) for part in prior)
        return Foundation(gmm, states, low_prior, high_prior, speakers)

    @cached_property
    def states(self) -> Tensor:
        """int64 (N,): all states of the alignment."""
        every = np.concatenate(list(self.foundation.states)).astype(np.int64)
        return torch.from_numpy(every[every >= 0])

    @cached_property
    def _known(self) -> list[int]:
        """Utterances whose states are known."""
        return [i for i, states in enumerate(self.foundation.states) if states[0] >= 0]

    def __call__(self, step: int, size: int) -> Mapping[str, Tensor]:
        """The batch of a step."""
        frames = len(self.states)
        epoch, place = divmod(step, -(-frames // size))
        wanted = np.arange(place * size, (place + 1) * size) % frames  # the last one is filled
        _, ends = self._chunks(epoch)
        owner = np.searchsorted(ends, wanted, side="right")
        windows, states = [], []
        for number in dict.fromkeys(owner.tolist()):
            begins = 0 if number == 0 else int(ends[number - 1])
            rows = torch.from_numpy(wanted[owner == number] - begins)
            places, features, targets = self._chunk(epoch, number)
            windows.append(features[places[rows]].flatten(1))
            states.append(targets[rows])
        return {"windows": torch.cat(windows), "states": torch.cat(states)}

    def _divided(self, epoch: int) -> tuple[list[list[int]], np.ndarray]:
        """Utterances of an epoch in parts of about `_CHUNK` frames, and where each part ends."""
        rng = np.random.default_rng([self.seed, 31, epoch])
        order = [self._known[i] for i in rng.permutation(len(self._known))]
        ends = np.cumsum([self.lengths[i] for i in order])
        part = ends // _CHUNK
        lasts = np.append(np.flatnonzero(np.diff(part)), len(order) - 1)
        chunks = np.split(np.array(order), lasts[:-1] + 1)
        return [chunk.tolist() for chunk in chunks], ends[lasts]

    def _made(self, epoch: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """A part's features (F, D), and in random order its windows' frames (n, window) among
        them and its states (n,)."""
        rng = np.random.default_rng([self.seed, 32, epoch, number])
        reach = self.options.window // 2
        around = torch.arange(-reach, reach + 1)
        features, places, states, offset = [], [], [], 0
        for i in self._chunks(epoch)[0][number]:
            variation = Variation(self.options.augment, rng) if self.options.augment else None
            one = self.utterances[i]
            found = self.frontend.energies(one.samples, variation)
            tempo = 1.0
            if variation is not None:
                found = found + variation.level()
                tempo = self.frontend.framing.step / variation.spacing(self.frontend.framing)
            found = self.foundation.speakers.normalised(one.voice, found)
            found = self.frontend.finished(found, variation)
            middle = (torch.arange(self.lengths[i]) * tempo).round().long()
            window = (middle[:, None] + around).clamp(0, len(found) - 1)
            features.append(found)
            places.append(window + offset)
            states.append(torch.from_numpy(self.foundation.states[i].astype(np.int64)))
            offset += len(found)
        order = torch.from_numpy(rng.permutation(sum(len(one) for one in states)))
        return torch.cat(places)[order], torch.cat(features), torch.cat(states)[order]
