"""How well handwriting is read: errors in characters, words and lines, and the controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from ...datasets.strokes import Writing, person, to_strokes
from ...errors import DataError
from ...tasks import Control, Metric, Outcome, Sample, Split, TaskData
from .._scores import edits, exchanged, ratio
from .options import ReadHandwritingOptions
from .reading import read_lines

METRICS = (
    Metric("cer", False, "jiwer cer: edits to the true characters, over their number"),
    Metric("wer", False, "jiwer wer: edits to the true words, over their number"),
    Metric("exact", True, "share of lines without an error"),
)
_SHOWN = 40
"""misread lines listed in the details"""


def measure(model: nn.Module, data: TaskData, split: Split, control: Control) -> Outcome:
    """Reads the lines of a split; see `Task.measure`.

    The validation split is read by the best path, whatever the options say, which is quick. The
    units are writers, for the lines of one hand are not independent. The trivial control
    answers each line with the most usual training line; the shuffled one with what was read of
    another line.

    Raises:
        DataError: the data have no such split.
    """
    lines: list[Writing] = data.splits.get(split) or []
    if not lines:
        raise DataError(f"the data have no {split} split with lines of text.")
    texts = [one.text for one in lines]
    usual = Counter(one.text for one in data.splits["train"]).most_common(1)[0][0]
    if control == "trivial":
        read, confidence = [usual] * len(lines), [1.0] * len(lines)
    else:
        options = _options(model)
        if split == "validation":  # it is read often while the network is trained
            options = replace(options, decode="greedy")
        found = read_lines(model, lines, data.facts["alphabet"], options)
        read, confidence = [one.text for one in found], [one.confidence for one in found]
    if control == "shuffled":
        read = exchanged(read)
    counts = np.array([_counts(true, said) for true, said in zip(texts, read, strict=True)])
    names = [person(one.writer) or str(index) for index, one in enumerate(lines)]
    writers = sorted(set(names))
    owner = np.searchsorted(writers, names)
    sums = np.zeros((len(writers), counts.shape[1]))
    np.add.at(sums, owner, counts)
    details: dict[str, Any] = {"lines": len(lines), "writers": len(writers)}
    if control == "none":
        details |= _details(data, lines, read, confidence, counts)
        details["cer_by_writer"] = {
            name: round(float(row[0] / max(1, row[1])), 4)
            for name, row in zip(writers, sums, strict=True)
        }
    values = {"cer": ratio(sums, 0, 1), "wer": ratio(sums, 2, 3), "exact": ratio(sums, 4, 5)}
    return Outcome(values, len(writers), details)


def samples(model: nn.Module, data: TaskData, count: int) -> Sequence[Sample]:
    """Lines of the test part with what was read of them; see `Task.samples`."""
    lines: list[Writing] = data.splits.get("test") or data.splits["validation"]
    chosen = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))[:count]]
    found = read_lines(model, chosen, data.facts["alphabet"], _options(model))
    return [
        Sample(f"{index:02d}", drawn(line), f"written: {line.text}\nread:    {one.text}\n")
        for index, (line, one) in enumerate(zip(chosen, found, strict=True))
    ]


def drawn(line: Writing, height: int = 64, widest: int = 1600) -> np.ndarray:
    """A line in black on white, RGB uint8 (height, W, 3), or lower where it is very wide."""
    import cv2

    xy = line.points[:, :2] - line.points[:, :2].min(0)
    wide, tall = np.maximum(xy.max(0), 1e-3)
    scale = min((height - 12) / max(tall, 2.0), (widest - 12) / wide)
    points = np.column_stack([xy * scale + 6, line.points[:, 2]])
    picture = np.full((round(tall * scale) + 12, round(wide * scale) + 12, 3), 255, np.uint8)
    for stroke in to_strokes(points):
        path = np.round(stroke * 16).astype(np.int32)
        cv2.polylines(picture, [path], False, (0, 0, 0), 1, cv2.LINE_AA, 4)
        if np.ptp(path, axis=0).max() < 16:  # a dot
            centre = (int(path[0, 0]), int(path[0, 1]))
            cv2.circle(picture, centre, 16, (0, 0, 0), -1, cv2.LINE_AA, 4)
    return picture


def _options(model: nn.Module) -> ReadHandwritingOptions:
    options = model.options
    assert isinstance(options, ReadHandwritingOptions)
    return options


def _counts(true: str, said: str) -> tuple[int, ...]:
    """Edits and length in characters, edits and length in words, exact lines, lines."""
    words = true.split()
    return (
        sum(edits(true, said)),
        len(true),
        sum(edits(words, said.split())),
        len(words),
        int(said == true),
        1,
    )


def _details(
    data: TaskData,
    lines: Sequence[Writing],
    read: Sequence[str],
    confidence: Sequence[float],
    counts: np.ndarray,
) -> dict[str, Any]:
    known = {one.text for one in data.splits["train"]}
    new = np.array([one.text not in known for one in lines])
    sources = np.array([one.writer.rpartition("/")[0] for one in lines])
    worst = np.argsort(-counts[:, 0] / counts[:, 1], kind="stable")[:_SHOWN]

    def cer(chosen: np.ndarray) -> float | None:
        total = counts[chosen, 1].sum()
        return round(float(counts[chosen, 0].sum() / total), 4) if total else None

    return {
        "lines_with_new_texts": int(new.sum()),
        "cer_of_new_texts": cer(new),
        "cer_of_texts_in_training": cer(~new),
        "cer_mean_of_lines": round(float((counts[:, 0] / counts[:, 1]).mean()), 4),
        "cer_by_source": {name: cer(sources == name) for name in sorted(set(sources))},
        "worst": [
            {"written": lines[i].text, "read": read[i], "confidence": round(confidence[i], 3)}
            for i in worst
        ],
    }
