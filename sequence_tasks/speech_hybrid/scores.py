"""How well the hybrid hears, beside the GMM-HMM that taught it, and its controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from torch import nn

from ...tasks import Control, Metric, Outcome, Sample, Split, TaskData
from .._scores import exchanged
from .._speech.scores import METRICS as _ERRORS
from .._speech.scores import (
    chosen_samples,
    error_counts,
    error_details,
    error_rates,
    heard_samples,
    usual_word,
    utterances_of,
)
from .options import SpeechHybridOptions
from .recognize import HybridRecognizer

METRICS = (
    *_ERRORS,
    Metric("gmm_wer", False, "jiwer wer of the GMM-HMM, by the same search"),
    Metric("gain", True, "gmm_wer minus wer, paired by utterance"),
)


def measure(model: nn.Module, data: TaskData, split: Split, control: Control) -> Outcome:
    """Recognises a split by the network and by the GMM; see `Task.measure`.

    The units are utterances. The trivial control answers each with the most frequent word of
    training, the shuffled one with what was heard in another; the GMM hears in all of them.

    Raises:
        DataError: the data have no such split.
    """
    utterances = utterances_of(data, split)
    options = cast(SpeechHybridOptions, model.options)
    texts = [one.text for one in utterances]
    sounds = [one.samples for one in utterances]
    speakers = [one.voice for one in utterances]

    def heard(acoustics: str) -> list[str]:
        recognizer = HybridRecognizer(model, data.facts, options, acoustics)
        found = recognizer.search(sounds, speakers, confidence=False)
        return [" ".join(word.word for word in words) for words in found]

    if control == "trivial":
        said = [usual_word(data.splits["train"])] * len(texts)
    else:
        said = heard("network")
    if control == "shuffled":
        said = exchanged(said)
    counts = error_counts(texts, said)
    by_gmm = heard("gmm")
    gmm_counts = error_counts(texts, by_gmm)
    rates = dict(error_rates(counts))
    rates["gmm_wer"] = error_rates(gmm_counts)["wer"]
    rates["gain"] = _difference(rates["gmm_wer"], rates["wer"])
    details: dict[str, Any] = {}
    if control == "none":
        details = error_details(utterances, said, counts)
        details["gmm"] = error_details(utterances, by_gmm, gmm_counts)
        del details["gmm"]["worst"]
    return Outcome(rates, len(texts), details)


def _difference(
    one: Callable[[np.ndarray], float], other: Callable[[np.ndarray], float]
) -> Callable[[np.ndarray], float]:
    return lambda units: one(units) - other(units)


def samples(model: nn.Module, data: TaskData, count: int) -> Sequence[Sample]:
    """Sounds of the test part with what was heard in them; see `Task.samples`."""
    chosen = chosen_samples(utterances_of(data, "test"), count)
    recognizer = HybridRecognizer(model, data.facts, cast(SpeechHybridOptions, model.options))
    found = recognizer([one.samples for one in chosen], [one.voice for one in chosen])
    return heard_samples(chosen, found, int(data.facts["rate"]))
