"""How well speech is recognised: errors in words, characters and utterances, and the controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...datasets.speech import Utterance
from ...errors import DataError
from ...tasks import Metric, Sample, TaskData
from .._scores import edits, ratio
from .transcripts import Word

METRICS = (
    Metric("wer", False, "jiwer wer: edits to the true words, over their number"),
    Metric("cer", False, "jiwer cer: edits to the true characters, over their number"),
    Metric("exact", True, "share of utterances without an error"),
)
_SHOWN = 30
"""utterances with most errors that are listed in the details"""
_CONFUSED = 20
"""pairs of words that are listed in the details"""


def utterances_of(data: TaskData, split: str) -> list[Utterance]:
    """The utterances of a split; raises DataError where there are none."""
    found: list[Utterance] = list(data.splits.get(split) or [])
    if not found:
        raise DataError(f"the data have no {split} split.")
    return found


def usual_word(utterances: Sequence[Utterance]) -> str:
    """The most frequent word, which is the answer of the control that hears nothing."""
    return Counter(word for one in utterances for word in one.text.split()).most_common(1)[0][0]


def error_counts(texts: Sequence[str], said: Sequence[str]) -> np.ndarray:
    """Errors of each utterance, int64 (N, 6).

    Columns: edits and number of words, edits and number of characters, exact ones, and 1.
    """
    rows = []
    for true, found in zip(texts, said, strict=True):
        words = true.split()
        rows.append(
            (
                sum(edits(words, found.split())),
                len(words),
                sum(edits(true, found)),
                len(true),
                int(true == found),
                1,
            )
        )
    return np.array(rows, np.int64).reshape(-1, 6)


def error_rates(counts: np.ndarray) -> Mapping[str, Callable[[np.ndarray], float]]:
    """The metrics as functions of the utterances that count; see `Outcome.values`."""
    return {
        "wer": ratio(counts, 0, 1),
        "cer": ratio(counts, 2, 3),
        "exact": ratio(counts, 4, 5),
    }


def error_details(
    utterances: Sequence[Utterance], said: Sequence[str], counts: np.ndarray
) -> dict[str, Any]:
    """Kinds of errors, the worst utterances, confused words, and the rate of each speaker."""
    kinds = np.array(
        [
            edits(one.text.split(), found.split())
            for one, found in zip(utterances, said, strict=True)
        ]
    ).reshape(-1, 3)
    speakers = np.array([one.speaker for one in utterances])
    worst = np.argsort(-counts[:, 0], kind="stable")[:_SHOWN]
    return {
        "words": int(counts[:, 1].sum()),
        "substitutions": int(kinds[:, 0].sum()),
        "deletions": int(kinds[:, 1].sum()),
        "insertions": int(kinds[:, 2].sum()),
        "wer_by_speaker": {
            name: round(float(counts[chosen, 0].sum() / max(1, counts[chosen, 1].sum())), 4)
            for name in sorted(set(speakers.tolist()))
            for chosen in [speakers == name]
        },
        "confused": _confused(utterances, said),
        "worst": [
            {"name": utterances[i].name, "said": utterances[i].text, "heard": said[i]}
            for i in worst
            if counts[i, 0]
        ],
    }


def _confused(utterances: Sequence[Utterance], said: Sequence[str]) -> list[dict[str, Any]]:
    """Words that were most often taken for others."""
    from rapidfuzz.distance import Levenshtein

    pairs: Counter[tuple[str, str]] = Counter()
    for one, found in zip(utterances, said, strict=True):
        true, heard = one.text.split(), found.split()
        for step in Levenshtein.editops(true, heard):
            if step.tag == "replace":
                pairs[true[step.src_pos], heard[step.dest_pos]] += 1
    return [
        {"said": true, "heard": heard, "times": times}
        for (true, heard), times in pairs.most_common(_CONFUSED)
    ]


def heard_samples(
    utterances: Sequence[Utterance], found: Sequence[Sequence[Word]], rate: int
) -> list[Sample]:
    """Sounds to listen to, with what was said, what was heard, and when."""
    made = []
    for index, (one, words) in enumerate(zip(utterances, found, strict=True)):
        times = "".join(
            f"{word.start:6.2f} to {word.end:5.2f} s  {word.text}  ({word.confidence:.0%})\n"
            for word in words
        )
        heard = " ".join(word.text for word in words)
        made.append(
            Sample(
                f"{index:02d}",
                text=f"said:  {one.text}\nheard: {heard}\n{times}",
                sound=one.samples.astype(np.float32) / 32_768,
                rate=rate,
            )
        )
    return made


def chosen_samples(utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """Some utterances, always the same ones."""
    order = np.random.default_rng(0).permutation(len(utterances))[:count]
    return [utterances[i] for i in order]
