"""Monophone models of speech from transcribed utterances alone, and alignments by them.

At first every state is the same Gaussian, so that an utterance is shared out evenly among the
states of its words; Baum-Welch passes tell them apart, then Gaussians are split until each state
has its mixture. This is the usual recipe of HTK and Kaldi for models without context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...datasets.lexicons import Lexicon
from ...errors import DataError
from .corpus import Batch, Corpus
from .gmm import DiagonalGMM, Occupied
from .graphs import SILENCE, Topology, UtteranceGraph, utterance_graph
from .hmm import Transitions, forward_backward, viterbi

_LEAST_STAYING, _MOST_STAYING = 0.02, 0.98

Words = Sequence[str]


@dataclass(frozen=True)
class Schedule:
    """How a model is trained.

    Attributes:
        gaussians: of each state, in the end.
        silence_gaussians: of each state of silence, in the end.
        flat_passes: Baum-Welch passes with silence at both ends of an utterance and nowhere else,
            with which training begins.
        passes: those after each doubling, and before the first one.
        last_passes: those with all Gaussians.
        updates: of the densities after each pass; one where a state has a single Gaussian.
        least_variance: of a Gaussian in a dimension, as a share of the data's.
    """

    gaussians: int = 16
    silence_gaussians: int = 32
    flat_passes: int = 4
    passes: int = 3
    last_passes: int = 4
    updates: int = 3
    least_variance: float = 0.01


@dataclass(frozen=True)
class TrainedGMM:
    """A model of every phone: the densities of its states and how long one stays in them.

    Attributes:
        lexicon: words and their phones.
        gmm: densities of the K states; their order is that of `topology`.
        staying: (K,) float32 in (0, 1): the probability that a state follows itself.
    """

    lexicon: Lexicon
    gmm: DiagonalGMM
    staying: Tensor

    @cached_property
    def topology(self) -> Topology:
        """The phones of the lexicon and silence."""
        return Topology.of(self.lexicon.phones)

    @property
    def transitions(self) -> Transitions:
        """Logarithms of the probabilities to stay in a state and to leave it."""
        return Transitions.of(self.staying)

    def log_likelihood(self, features: Tensor) -> Tensor:
        """Of features (N, D) in each state: (N, K) float32."""
        return self.gmm.log_likelihood(features)

    def tensors(self) -> dict[str, Tensor]:
        """All numbers, from which `from_tensors` makes the same model."""
        return {
            "log_weights": self.gmm.log_weights,
            "means": self.gmm.means,
            "variances": self.gmm.variances,
            "staying": self.staying,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], lexicon: Lexicon) -> TrainedGMM:
        """The inverse of `tensors`."""
        parts = (tensors[name] for name in ("log_weights", "means", "variances"))
        return cls(lexicon, DiagonalGMM(*parts), tensors["staying"])


def train_gmm(
    features: Sequence[np.ndarray],
    words: Sequence[Words],
    lexicon: Lexicon,
    schedule: Schedule | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainedGMM:
    """Trains monophone models from a flat start; the same inputs give the same model.

    Args:
        features: of each utterance (T, D) float32.
        words: of each utterance, all in the lexicon. Utterances too short for their words are
            left out.
        lexicon: the pronunciations.
        schedule: how to train; None is `Schedule()`.
        say: told how it goes, a line for each stage.

    Raises:
        DataError: words are missing from the lexicon, no utterance is long enough, or features
            are no finite numbers.
    """
    plan = schedule or Schedule()
    tell = say or (lambda line: None)
    model, corpus, floor = _flat(features, lexicon, plan)
    edged = corpus.batches(_graphs(words, lexicon, silence_between=False, silence_at_ends=True))
    batches = corpus.batches(_graphs(words, lexicon))
    used = sum(len(batch.rows) for batch in batches)
    if not edged:
        raise DataError(
            "no utterance has the three frames a phone that its words need; give longer sounds "
            "or a shorter hop."
        )
    if used < len(features):
        tell(f"{len(features) - used:,} utterances too short for their words are left out")
    model, _, score = _baum_welch(model, corpus, edged, (plan.flat_passes, 1), floor)
    tell(f"flat start: {score:.2f} nats a frame")
    topology = model.topology
    wanted = torch.full((topology.states,), plan.gaussians)
    wanted[topology.chain([SILENCE])] = plan.silence_gaussians
    size = 1
    while True:
        last = size >= int(wanted.max())
        passes = plan.last_passes if last else plan.passes, 1 if size == 1 else plan.updates
        model, counts, score = _baum_welch(model, corpus, batches, passes, floor)
        total = int(model.gmm.gaussians.sum())
        tell(f"up to {size} Gaussians a state, {total:,} in all: {score:.2f} nats a frame")
        if last:
            return model
        size *= 2
        model = replace(model, gmm=model.gmm.split(wanted.clamp(max=size), counts))


def align(
    trained: TrainedGMM, features: Sequence[np.ndarray], words: Sequence[Words]
) -> list[np.ndarray]:
    """The most probable state of every frame, given the words.

    Args:
        trained: the model.
        features: of each utterance (T, D) float32.
        words: of each utterance, all in the model's lexicon.

    Returns:
        of each utterance (T,) int16, states as `trained.topology` numbers them; -1 in all frames
        of an utterance that is too short for its words.

    Raises:
        DataError: words are missing from the lexicon.
    """
    corpus = Corpus.of(features)
    found = [np.full(length, -1, np.int16) for length in corpus.lengths]
    for batch in corpus.batches(_graphs(words, trained.lexicon)):
        emissions = corpus.emissions(trained.gmm, batch)
        states, _ = viterbi(emissions, batch.graphs, batch.lengths, trained.transitions)
        for row, path in zip(batch.rows, states.numpy(), strict=True):
            found[row][:] = path[: len(found[row])]
    return found


def _flat(
    features: Sequence[np.ndarray], lexicon: Lexicon, plan: Schedule
) -> tuple[TrainedGMM, Corpus, Tensor]:
    """A model whose states are all alike, the frames, and the least variances (D,)."""
    corpus = Corpus.of(features)
    if not torch.isfinite(corpus.frames).all():
        raise DataError("features hold values that are no numbers; look at how they are made.")
    variance, mean = torch.var_mean(corpus.frames.double(), 0)
    # A dimension that never changes tells nothing; a variance of 0 would be no density.
    variance = variance.clamp(min=max(1e-3 * float(variance.mean()), 1e-6))
    states = Topology.of(lexicon.phones).states
    model = TrainedGMM(
        lexicon, DiagonalGMM.flat(states, mean, variance), torch.full((states,), 0.5)
    )
    return model, corpus, plan.least_variance * variance


def _graphs(
    words: Sequence[Words],
    lexicon: Lexicon,
    silence_between: bool = True,
    silence_at_ends: bool = False,
) -> list[UtteranceGraph]:
    lexicon.require(word for sequence in words for word in sequence)
    topology = Topology.of(lexicon.phones)
    said = lexicon.pronunciations
    return [
        utterance_graph(
            topology, [said[word] for word in sequence], silence_between, silence_at_ends
        )
        for sequence in words
    ]


def _baum_welch(
    model: TrainedGMM,
    corpus: Corpus,
    batches: Sequence[Batch],
    passes: tuple[int, int],
    floor: Tensor,
) -> tuple[TrainedGMM, Tensor, float]:
    """Passes over the data, each followed by updates of the densities and one of `staying`.

    All updates after a pass share its occupancies of the states: finding these takes most of the
    time, while a mixture needs several updates to settle.

    Returns:
        the new model; frames of each of its Gaussians (K, M) as the last pass counted them; that
        pass's log-likelihood of a frame in nats.
    """
    for _ in range(passes[0]):
        occupied, stays, score = _occupied(model, corpus, batches)
        gmm = model.gmm
        for _ in range(passes[1]):
            statistics = gmm.statistics(corpus.frames, occupied)
            gmm = gmm.updated(statistics, floor)
        counts = statistics.counts.sum(1)
        staying = torch.where(counts > 1, stays / counts.clamp(min=1e-10), model.staying.double())
        staying = staying.clamp(_LEAST_STAYING, _MOST_STAYING).float()
        model = TrainedGMM(model.lexicon, gmm, staying)
    return model, model.gmm.weights * counts[:, None], score


def _occupied(
    model: TrainedGMM, corpus: Corpus, batches: Sequence[Batch]
) -> tuple[Occupied, Tensor, float]:
    """A forward-backward pass over the data.

    Returns:
        which frames count for which states; how often each was followed by itself, (K,); the
        log-likelihood of a frame in nats.
    """
    found: list[Occupied] = []
    stays = torch.zeros(len(model.staying), dtype=torch.float64)
    total = 0.0
    for batch in batches:
        emissions = corpus.emissions(model.gmm, batch)
        posterior = forward_backward(emissions, batch.graphs, batch.lengths, model.transitions)
        found.append(Occupied.of(posterior.occupancies[batch.inside], batch.frames))
        total += float(posterior.log_likelihood.sum())
        stays += posterior.stays
    return Occupied.joined(found), stays, total / sum(len(batch.frames) for batch in batches)
