"""From sound to words with times and confidence, by a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from .._ctc.beam import LabelLanguage, prefix_beam_search
from .._ctc.labels import decode, label_of
from .._ctc.ngrams import NGrams, read_arpa
from .._ctc.paths import best_path, ctc_align
from .._ctc.spelling import SpelledWords
from .._lengths import of_one_length
from .._speech.frontend import padded
from .._speech.transcripts import Word
from .model import Recognizer
from .options import SpeechCtcOptions

_FRAMES = 24_000
"""frames of features in a batch, padding included, at most"""
_MULTIPLE = 64
"""features are padded to multiples of this"""


class Transcriber:
    """Finds the words of sounds.

    Args:
        model: in evaluation mode, on the device that shall compute.
        facts: of the data that it learnt from.
        options: of the task; how to decode may be another way than in training.
        ngrams: a model of words in the place of the run's own; its words are the dictionary.
        words: a dictionary in the place of the run's own.
    """

    def __init__(
        self,
        model: nn.Module,
        facts: Mapping[str, Any],
        options: SpeechCtcOptions,
        ngrams: NGrams | None = None,
        words: Sequence[str] | None = None,
    ):
        self.model = cast(Recognizer, model)
        self.options = options
        self.language: LabelLanguage | None = None
        if options.decode == "beam":
            if ngrams is None:
                ngrams = read_arpa(str(facts["language"]), "the run's own model of language")
                words = facts["words"] if words is None else words
            self.language = SpelledWords(
                ngrams.words if words is None else words,
                label_of(self.model.alphabet),
                ngrams if options.language > 0 else None,
                options.language,
                options.bonus,
                options.unknown if options.dictionary == "open" else None,
            )

    @torch.no_grad()
    def log_probs(self, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The network's log-probabilities (T, labels) of each sound, int16 or float32 (n,).

        Sounds of one padded length go through the network together, so that what is heard in
        one does not depend on the others.
        """
        frontend = self.model.frontend
        device = next(self.model.parameters()).device
        features = [frontend.features(one) for one in sounds]
        found: list[np.ndarray] = [np.empty(0)] * len(sounds)
        for some in of_one_length([len(one) for one in features], _MULTIPLE, _FRAMES):
            batch, lengths = padded([features[i] for i in some], _MULTIPLE)
            log_probs, frames = self.model(batch.to(device), lengths.to(device))
            for row, index in enumerate(some):
                found[index] = log_probs[row, : int(frames[row])].cpu().numpy()
        return found

    def __call__(self, sounds: Sequence[np.ndarray]) -> list[list[Word]]:
        """The words of each sound, int16 or float32 in [-1, 1] (n,), with times in seconds."""
        return [self.words(log_probs) for log_probs in self.log_probs(sounds)]

    def words(self, log_probs: np.ndarray) -> list[Word]:
        """The words that log-probabilities (T, labels) say.

        A word's confidence is the geometric mean over its characters of the network's highest
        probability of each where the likeliest path has it.
        """
        if self.options.decode == "greedy":
            labels = best_path(log_probs)[0]
        else:
            found = prefix_beam_search(log_probs, self.options.beam, self.language)
            labels = list(found[0].labels) if found else []
        alphabet = self.model.alphabet
        framing = self.model.frontend.framing
        second = framing.step * self.model.stride / framing.rate
        spans = ctc_align(log_probs, labels)
        words: list[Word] = []
        first = 0
        for last in range(len(labels) + 1):
            if last < len(labels) and alphabet[labels[last] - 1] != " ":
                continue
            if last > first:
                places = range(first, last)
                peaks = [log_probs[spans[i][0] : spans[i][1] + 1, labels[i]].max() for i in places]
                words.append(
                    Word(
                        decode(labels[first:last], alphabet),
                        float(spans[first][0] * second),
                        float((spans[last - 1][1] + 1) * second),
                        float(np.exp(np.mean(peaks))),
                    )
                )
            first = last + 1
        return words
