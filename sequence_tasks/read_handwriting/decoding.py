"""From labels' probabilities along a path to a text."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from .model import BLANK

_SURE = math.log(0.9995)
"""a frame this certainly empty only ends a repetition"""
_LEAST = math.log(1e-3)
"""labels less likely than this are not tried"""
_TRIED = 8
"""labels of a frame that are tried at most, the likeliest ones"""
_HOPELESS = 12.0
"""prefixes this far behind the best one, in nats, are dropped"""
_NEVER = -math.inf

Beam = dict[tuple[int, ...], tuple[float, float]]
"""By prefix, log-probabilities that its paths end in a blank, and in its last label."""


def best_path(log_probs: np.ndarray) -> list[int]:
    """The text of the most likely path: repetitions and blanks (label 0) left out.

    Args:
        log_probs: float (T, labels).
    """
    path = log_probs.argmax(axis=1)
    kept = (path != BLANK) & np.concatenate([[True], path[1:] != path[:-1]])
    return path[kept].tolist()


def prefix_beam_search(
    log_probs: np.ndarray,
    width: int,
    language: np.ndarray | None = None,
    weight: float = 0.0,
    least: float = _LEAST,
    tried: int = _TRIED,
) -> list[int]:
    """The text that is most likely over all its paths, as far as the beam reaches.

    Each prefix is carried with the probabilities that its paths end in a blank or in its last
    label (Graves 2012, section 7.5.2; Hannun 2014 with a model of language).

    Args:
        log_probs: float (T, labels).
        width: prefixes kept after every frame.
        language: float (labels, labels, labels) of log-probabilities of a label after two; None
            for none.
        weight: factor on them.
        least: labels of a lower log-probability are passed over.
        tried: so many labels of a frame are tried at most.
    """
    beam: Beam = {(): (0.0, _NEVER)}
    prior: dict[tuple[int, ...], float] = {(): 0.0}
    for frame in log_probs.tolist():
        if frame[BLANK] > _SURE:
            beam = {
                prefix: (_add(blank, last) + frame[BLANK], _NEVER)
                for prefix, (blank, last) in beam.items()
            }
            continue
        labels = [k for k, value in enumerate(frame) if value > least and k != BLANK]
        labels = sorted(labels, key=lambda k: -frame[k])[:tried]
        grown = _grown(beam, frame, labels)
        for prefix in grown.keys() - prior.keys():
            gain = 0.0 if language is None else _language_gain(language, prefix)
            prior[prefix] = prior[prefix[:-1]] + weight * gain
        score = {prefix: _add(*ends) + prior[prefix] for prefix, ends in grown.items()}
        floor = max(score.values()) - _HOPELESS
        best = sorted((-score[prefix], prefix) for prefix in score if score[prefix] >= floor)
        beam = {prefix: grown[prefix] for _, prefix in best[:width]}
        prior = {prefix: prior[prefix] for prefix in beam}
    score = {prefix: _add(*ends) + prior[prefix] for prefix, ends in beam.items()}
    likeliest = max(score, key=lambda prefix: score[prefix])
    return list(likeliest)


def _grown(beam: Beam, frame: Sequence[float], labels: Sequence[int]) -> Beam:
    """The prefixes after one more frame, unchanged or longer by one of `labels`."""
    ends: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [_NEVER, _NEVER])
    for prefix, (blank, last) in beam.items():
        both = _add(blank, last)
        entry = ends[prefix]
        entry[0] = _add(entry[0], both + frame[BLANK])
        if prefix:
            entry[1] = _add(entry[1], last + frame[prefix[-1]])
        for label in labels:
            before = blank if prefix and label == prefix[-1] else both
            if before > _NEVER:
                entry = ends[prefix + (label,)]
                entry[1] = _add(entry[1], before + frame[label])
    return {prefix: (entry[0], entry[1]) for prefix, entry in ends.items()}


def read_batch(
    log_probs: np.ndarray,
    frames: Sequence[int],
    width: int,
    language: np.ndarray | None,
    weight: float,
) -> list[list[int]]:
    """Labels of each row of log-probabilities (B, T, labels), of which `frames` count.

    Args:
        width: of the beam; 0 for the best path.
        language, weight: see `prefix_beam_search`.
    """
    rows = [row[:count] for row, count in zip(log_probs, frames, strict=True)]
    if width == 0:
        return [best_path(row) for row in rows]
    return [prefix_beam_search(row, width, language, weight) for row in rows]


def _language_gain(language: np.ndarray, prefix: tuple[int, ...]) -> float:
    """Log-probability of the last label, in units that do not punish long texts as such."""
    before, last, label = (0, 0, *prefix)[-3:]
    # Against equal odds: a likely character is a gain and an unlikely one a loss.
    return float(language[before, last, label]) + math.log(len(language) - 1)


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    if b == _NEVER:
        return a
    return a + math.log1p(math.exp(b - a))
