"""Prefix beam search: from labels' probabilities along a path to the likeliest texts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from heapq import heappush, heapreplace
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from .labels import BLANK
from .paths import log_likelihood

_SURE = math.log(0.9995)
"""a frame this certainly empty only ends a repetition"""
LEAST = math.log(1e-3)
"""labels less likely than this are not tried"""
TRIED = 8
"""labels of a frame that are tried at most, the likeliest ones"""
HOPELESS = 12.0
"""prefixes this far behind the best one, in nats, are dropped"""
_NEVER = -math.inf
_NOTHING: tuple[Hashable, float] = None, 0.0
"""state and gain where nothing is known of the language"""


class LabelLanguage(Protocol):
    """What is known of texts beforehand: which labels may follow, and how likely they are.

    A state stands for all that matters of the labels so far; it does not change. Gains are in
    nats, with their weight.
    """

    def start(self) -> Hashable:
        """The state before the first label."""

    def extend(self, state: Any, label: int) -> tuple[Hashable, float] | None:
        """The state after one more label, and what that gains; None where it is forbidden."""

    def finish(self, state: Any) -> float | None:
        """What the end gains; None where a text must not end here."""


@dataclass(frozen=True)
class Hypothesis:
    """A text that was found.

    Attributes:
        labels: from 1.
        score: the acoustic one and all that the language gave.
        acoustic: log-probability, summed over the paths that the beam reached.
    """

    labels: tuple[int, ...]
    score: float
    acoustic: float


class _Prefix:
    """Labels so far, as a node of a tree.

    Attributes:
        blank, last: log-probabilities that its paths end in a blank, and in its last label.
        both: of either.
        prior: what the language gave so far.
        frame: the last frame that changed it.
        score: `both` and `prior`.
    """

    __slots__ = (
        "blank",
        "both",
        "children",
        "frame",
        "label",
        "last",
        "parent",
        "prior",
        "score",
        "state",
    )

    def __init__(self, parent: _Prefix | None, label: int, state: Hashable, prior: float):
        self.parent = parent
        self.label = label
        self.state = state
        self.prior = prior
        self.children: dict[int, _Prefix] = {}
        self.frame = -1
        self.blank = self.last = self.both = self.score = _NEVER

    def labels(self) -> tuple[int, ...]:
        found = []
        node = self
        while node.parent is not None:
            found.append(node.label)
            node = node.parent
        return tuple(reversed(found))


def prefix_beam_search(
    log_probs: np.ndarray,
    width: int,
    language: LabelLanguage | None = None,
    least: float = LEAST,
    tried: int = TRIED,
    nbest: int = 1,
    hopeless: float = HOPELESS,
) -> list[Hypothesis]:
    """The texts that are most likely over all their paths, as far as the beam reaches.

    Each prefix is carried with the probabilities that its paths end in a blank or in its last
    label (Graves 2012, section 7.5.2; Hannun 2014 with a model of language).

    Args:
        log_probs: float (T, labels), in nats; label 0 is empty.
        width: prefixes kept after every frame.
        language: what it gains is added to the logarithm of a prefix's probability.
        least: labels of a lower log-probability are passed over.
        tried: so many labels of a frame are tried at most.
        nbest: texts wanted.
        hopeless: prefixes so far behind the best one, in nats, are dropped; finite.

    Returns:
        at most `nbest` texts, the best first; none where the language lets no text end that the
        beam passed.
    """
    root = _Prefix(None, BLANK, None if language is None else language.start(), 0.0)
    root.blank = root.both = root.score = 0.0
    beam = [root]
    for frame, (empty, row, order) in enumerate(_frames(log_probs, least, tried)):
        if empty > _SURE:
            for node in beam:
                node.blank = node.both = node.both + empty
                node.score += empty
                node.last = _NEVER
        else:
            labels = [(label, row[label]) for label in order]
            beam = _step(beam, frame, row, labels, width, hopeless, language)
    found = _ended(beam, language)
    if not found and language is not None:
        found = _cut(beam, language, log_probs)
    found.sort(key=attrgetter("score"), reverse=True)
    return found[:nbest]


def _frames(
    log_probs: np.ndarray, least: float, tried: int
) -> list[tuple[float, list[float], list[int]]]:
    """Of each frame the blank's log-probability, all of them, and the labels to be tried."""
    scores = np.array(log_probs, np.float64)
    rows = scores.tolist()
    scores[:, BLANK] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :tried]
    kept = (np.take_along_axis(scores, order, axis=1) > least).sum(axis=1)
    orders = [labels[:count] for labels, count in zip(order.tolist(), kept.tolist(), strict=True)]
    return [(row[BLANK], row, labels) for row, labels in zip(rows, orders, strict=True)]


def _step(
    beam: list[_Prefix],
    frame: int,
    row: list[float],
    labels: Sequence[tuple[int, float]],
    width: int,
    hopeless: float,
    language: LabelLanguage | None,
) -> list[_Prefix]:
    """The beam after one more frame, whose prefixes are unchanged or longer by one of `labels`."""
    before = [(node, node.blank, node.both) for node in beam]
    for node in beam:
        _stay(node, frame, row)
    grown = list(beam)
    # A prefix that is not in the beam comes from its parent alone. Where that leaves it behind the
    # best `width` that are known by now, it is lost, and need not be made.
    best = sorted([node.score for node in beam])
    full = len(best) == width
    floor = max(best[0] if full else _NEVER, best[-1] - hopeless)
    for node, blank, both in before:
        children, prior, state = node.children, node.prior, node.state
        for label, value in labels:
            gained = (blank if label == node.label else both) + value
            child = children.get(label)
            if child is not None and child.frame == frame:  # it is in the beam
                child.last = _add(child.last, gained)
                child.both = _add(child.blank, child.last)
                child.score = child.both + child.prior
                continue
            after: Hashable = None
            if child is None:
                extended = _NOTHING if language is None else language.extend(state, label)
                if extended is None:
                    continue
                after, gain = extended
                total = prior + gain
            else:
                total = child.prior
            score = gained + total
            if score < floor:
                continue
            if child is None:
                child = children[label] = _Prefix(node, label, after, total)
            child.frame = frame
            child.blank = _NEVER
            child.last = child.both = gained
            child.score = score
            grown.append(child)
            if full:
                heapreplace(best, score)
                floor = max(floor, best[0])
            else:
                heappush(best, score)
                full = len(best) == width
            floor = max(floor, score - hopeless)
    grown.sort(key=attrgetter("score"), reverse=True)
    floor = grown[0].score - hopeless
    return [node for node in grown[:width] if node.score >= floor]


def _stay(node: _Prefix, frame: int, row: list[float]) -> None:
    """One more frame in which the prefix does not grow."""
    node.frame = frame
    node.blank = node.both + row[BLANK]
    node.last += row[node.label] if node.parent is not None else _NEVER
    node.both = _add(node.blank, node.last)
    node.score = node.both + node.prior


def _ended(beam: Sequence[_Prefix], language: LabelLanguage | None) -> list[Hypothesis]:
    """The prefixes that are texts."""
    found = []
    for node in beam:
        gain = 0.0 if language is None else language.finish(node.state)
        if gain is not None:
            found.append(Hypothesis(node.labels(), node.score + gain, node.both))
    return found


def _cut(
    beam: Sequence[_Prefix], language: LabelLanguage, log_probs: np.ndarray
) -> list[Hypothesis]:
    """Of each prefix the longest beginning that is a text, weighed over all frames."""
    found: dict[tuple[int, ...], Hypothesis] = {}
    for node in beam:
        gain = None
        while gain is None and node.parent is not None:
            node = node.parent
            gain = language.finish(node.state)
        labels = node.labels()
        if gain is not None and labels not in found:
            acoustic = log_likelihood(log_probs, labels)
            found[labels] = Hypothesis(labels, acoustic + node.prior + gain, acoustic)
    return list(found.values())


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    if b == _NEVER:
        return a
    return a + math.log1p(math.exp(b - a))
