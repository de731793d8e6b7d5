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
from .inputs import Speakers, cepstra_of, gmm_features
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
        if acoustics == "gmm":
            self._raw: Callable[[np.ndarray], Tensor] = partial(cepstra_of, rate=self.model.rate)
            self._scored: Callable[[Tensor], Tensor] = partial(_gmm_scores, gmm)
            prior, scale = self.model.cepstra, options.gmm_acoustic
        else:
            self._raw = self.model.frontend.energies
            self._scored = self.model.log_likelihood
            prior, scale = self.model.energies, options.acoustic
        self._speakers = Speakers(*prior)
        self.loop = WordLoop(
            self.model.lexicon,
            self.model.topology.phones,
            gmm.transitions,
            _grammar(facts, options, ngrams),
            Balance(scale, options.language, options.insertion),
        )

    @torch.no_grad()
    def search(
        self, sounds: Sequence[np.ndarray], speakers: Sequence[str], *, confidence: bool
    ) -> list[list[DecodedWord]]:
        """The words of each sound with frames.

        Args:
            sounds: int16 or float32 in [-1, 1] (n,) each.
            speakers: who speaks; what was heard of each, here and before, is normalised alike.
            confidence: also tell how sure each word is, which takes as long again.
        """
        raw = [self._raw(one) for one in sounds]
        scores = [self._scored(one).float() for one in self._speakers.heard(speakers, raw)]
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

    def __call__(self, sounds: Sequence[np.ndarray], speakers: Sequence[str]) -> list[list[Word]]:
        """The words of each sound with times in seconds; see `search`."""
        framing = self.model.frontend.framing
        second = framing.step / framing.rate
        return [
            [Word(one.word, one.start * second, one.end * second, one.confidence) for one in words]
            for words in self.search(sounds, speakers, confidence=True)
        ]


def _gmm_scores(gmm: TrainedGMM, cepstra: Tensor) -> Tensor:
    with full_precision(cepstra):
        return gmm.log_likelihood(gmm_features(cepstra))


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
