"""Paths of CTC (Graves 2006): the loss over all, the likeliest one, and that of given labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .labels import BLANK


def text_nll(log_probs: Tensor, frames: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
    """Minus the log-probability of labels, summed over all their paths.

    Args:
        log_probs: float (B, T, labels), in nats.
        frames: int (B,) frames that count.
        labels: int (B, L), from 1.
        label_lengths: int (B,) labels that count.

    Returns:
        float (B,), 0 where there are too few frames for the labels.
    """
    return F.ctc_loss(
        log_probs.transpose(0, 1),
        labels,
        frames,
        label_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )


def best_path(log_probs: np.ndarray) -> tuple[list[int], list[int]]:
    """The labels of the most likely path, repetitions and blanks left out.

    Args:
        log_probs: float (T, labels).

    Returns:
        the labels, and the frame in which each begins.
    """
    path = log_probs.argmax(axis=1)
    begins = np.ones(len(path), bool)
    begins[1:] = path[1:] != path[:-1]
    frames = np.flatnonzero(begins & (path != BLANK))
    return path[frames].tolist(), frames.tolist()


def ctc_align(log_probs: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Where given labels most likely stand: the best of their paths (Viterbi).

    Args:
        log_probs: float (T, labels), in nats.
        labels: from 1.

    Returns:
        int64 (number of labels, 2): the first and the last frame of each label. What lies
        between two labels is empty.

    Raises:
        ValueError: no path of T frames holds the labels: each takes a frame, and equal
            neighbours one between them; or they have no probability.
    """
    given = np.asarray(labels, np.int64)
    if len(given) == 0:
        return np.zeros((0, 2), np.int64)
    needed = len(given) + int((given[1:] == given[:-1]).sum())
    if len(log_probs) < needed:
        raise ValueError(f"{len(given)} labels need {needed} frames, not {len(log_probs)}.")
    emitted, skips = _states(log_probs, given)
    came = np.zeros(emitted.shape, np.int8)
    score = np.full(len(skips), -np.inf)
    score[:2] = emitted[0, :2]
    ways = np.full((3, len(skips)), -np.inf)
    for frame in range(1, len(emitted)):
        ways[0] = score
        ways[1, 1:] = score[:-1]
        ways[2, 2:] = score[:-2] + skips[2:]
        came[frame] = ways.argmax(axis=0)
        score = ways.max(axis=0) + emitted[frame]
    if score[-2:].max() == -np.inf:
        raise ValueError("the labels have no path: a frame gives each of them no probability.")
    state = len(skips) - 1 if score[-1] > score[-2] else len(skips) - 2
    path = np.empty(len(emitted), np.int64)
    for frame in range(len(emitted) - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    wanted = np.arange(1, len(skips), 2)
    return np.stack(
        [np.searchsorted(path, wanted), np.searchsorted(path, wanted, "right") - 1], axis=1
    )


def log_likelihood(log_probs: np.ndarray, labels: Sequence[int]) -> float:
    """Log-probability of labels, summed over all their paths; -inf where there is no path.

    Args:
        log_probs: float (T, labels), in nats.
        labels: from 1.
    """
    emitted, skips = _states(log_probs, np.asarray(labels, np.int64))
    score = np.full(len(skips), -np.inf)
    score[0] = 0.0  # before the first frame, whose label 1 is reached from here
    for now in emitted:
        before = score.copy()
        before[1:] = np.logaddexp(before[1:], score[:-1])
        before[2:] = np.logaddexp(before[2:], score[:-2] + skips[2:])
        score = before + now
    return float(np.logaddexp.reduce(score[-2:]))


def _states(log_probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (T, S) of the states empty, label 1, empty, ..., label n, empty, and 0
    where a state is also reached from the last but one, else -inf (S,): from a label to the next,
    if that is another one."""
    states = np.zeros(2 * len(labels) + 1, np.int64)
    states[1::2] = labels
    skips = np.full(len(states), -np.inf)
    skips[3::2] = np.where(labels[1:] == labels[:-1], -np.inf, 0.0)
    return np.asarray(log_probs, np.float64)[:, states], skips
