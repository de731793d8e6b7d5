"""From sound to words: the likeliest path through the words' graph (Viterbi)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from .._ctc.ngrams import NGrams, read_arpa
from .._speech.features import full_precision
from .._speech.transcripts import Word
from .flat_start import TrainedGMM
from .inputs import gmm_features
from .model import Hybrid
from .options import SpeechHybridOptions
from .search import DecodedWord, WordLoop
from .word_graph import Balance, Grammar, any_words, one_word, word_pairs

_FRAMES = 30_000
"""frames that are searched together, padding included"""


class HybridRecognizer:
    """Finds the words of sounds.

    Args:
        model: in evaluation mode, on the device that shall compute.
        facts: of the data that it learnt from.
        options: of the task; how to search may be another way than in training.
        acoustics: the network's likelihoods, or the GMM's.
        ngrams: a bigram in the place of the run's own; its words are those that can be heard.
    """

    def __init__(
        self,
        model: nn.Module,
        facts: Mapping[str, Any],
        options: SpeechHybridOptions,
        acoustics: str = "network",
        ngrams: NGrams | None = None,
    ):
        self.model = cast(Hybrid, model)
        gmm = self.model.gmm()
        self.score: Callable[[np.ndarray], Tensor] = self.model.log_likelihood
        scale = options.acoustic
        if acoustics == "gmm":
            self.score = partial(_gmm_scores, gmm, self.model.rate)
            scale = options.gmm_acoustic
        self.loop = WordLoop(
            self.model.lexicon,
            self.model.topology.phones,
            tuple(gmm.transitions),
            _grammar(facts, options, ngrams),
            Balance(scale, options.language, options.insertion),
        )

    @torch.no_grad()
    def search(self, sounds: Sequence[np.ndarray], *, confidence: bool) -> list[list[DecodedWord]]:
        """The words of each sound, int16 or float32 in [-1, 1] (n,), with frames."""
        scores = [self.score(one).float() for one in sounds]
        found: list[list[DecodedWord]] = [[] for _ in sounds]
        order = sorted(range(len(scores)), key=lambda i: -len(scores[i]))
        while order:
            some = order[: max(1, _FRAMES // len(scores[order[0]]))]
            order = order[len(some) :]
            lengths = torch.tensor([len(scores[i]) for i in some])
            batch = pad_sequence([scores[i] for i in some], batch_first=True)
            decoded = self.loop.decode(batch, lengths, confidence=confidence)
            for i, words in zip(some, decoded, strict=True):
                found[i] = words
        return found

    def __call__(self, sounds: Sequence[np.ndarray]) -> list[list[Word]]:
        """The words of each sound with times in seconds; see `search`."""
        framing = self.model.frontend.framing
        second = framing.step / framing.rate
        return [
            [Word(one.word, one.start * second, one.end * second, one.confidence) for one in words]
            for words in self.search(sounds, confidence=True)
        ]


def _gmm_scores(gmm: TrainedGMM, rate: int, samples: np.ndarray) -> Tensor:
    features = gmm_features(samples, rate)
    with full_precision(features):
        return gmm.log_likelihood(features)


def _grammar(
    facts: Mapping[str, Any], options: SpeechHybridOptions, ngrams: NGrams | None
) -> Grammar:
    kind = str(facts["grammar"]) if options.grammar == "auto" else options.grammar
    if ngrams is not None:
        return word_pairs(ngrams.words, ngrams)
    words = list(facts["words"])
    if kind == "word":
        return one_word(words)
    if kind == "loop":
        return any_words(words)
    return word_pairs(words, read_arpa(str(facts["language"]), "the run's own bigram"))
