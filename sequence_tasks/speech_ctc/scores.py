"""How well the end-to-end recognizer hears, and its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from torch import nn

from ...tasks import Control, Outcome, Sample, Split, TaskData
from .._scores import exchanged
from .._speech.scores import (
    chosen_samples,
    error_counts,
    error_details,
    error_rates,
    heard_samples,
    usual_word,
    utterances_of,
)
from .options import SpeechCtcOptions
from .transcribe import Transcriber


def measure(model: nn.Module, data: TaskData, split: Split, control: Control) -> Outcome:
    """Transcribes a split; see `Task.measure`.

    The validation split is read by the best path, whatever the options say, which is quick. The
    units are utterances. The trivial control answers each with the most frequent word of
    training, the shuffled one with what was heard in another.

    Raises:
        DataError: the data have no such split.
    """
    utterances = utterances_of(data, split)
    texts = [one.text for one in utterances]
    if control == "trivial":
        said = [usual_word(data.splits["train"])] * len(texts)
        return Outcome(error_rates(error_counts(texts, said)), len(texts))
    options = cast(SpeechCtcOptions, model.options)
    if split == "validation":  # it is read often while the network is trained
        options = replace(options, decode="greedy")
    transcriber = Transcriber(model, data.facts, options)
    log_probs = transcriber.log_probs([one.samples for one in utterances])
    said = [" ".join(word.text for word in transcriber.words(one)) for one in log_probs]
    if control == "shuffled":
        said = exchanged(said)
    counts = error_counts(texts, said)
    details: dict[str, Any] = {}
    if control == "none":
        details = error_details(utterances, said, counts)
        if options.decode == "beam":
            plain = Transcriber(model, data.facts, replace(options, decode="greedy"))
            greedy = [" ".join(word.text for word in plain.words(one)) for one in log_probs]
            rates = error_counts(texts, greedy).sum(0)
            details["greedy_wer"] = round(float(rates[0] / max(1, rates[1])), 4)
            details["greedy_cer"] = round(float(rates[2] / max(1, rates[3])), 4)
    return Outcome(error_rates(counts), len(texts), details)


def samples(model: nn.Module, data: TaskData, count: int) -> Sequence[Sample]:
    """Sounds of the test part with what was heard in them; see `Task.samples`."""
    chosen = chosen_samples(utterances_of(data, "test"), count)
    transcriber = Transcriber(model, data.facts, cast(SpeechCtcOptions, model.options))
    found = transcriber([one.samples for one in chosen])
    return heard_samples(chosen, found, int(data.facts["rate"]))
