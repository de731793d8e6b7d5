"""Accuracy, calibration, and tables of what was taken for what."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ...errors import TaskError
from ...tasks import Control, Metric, Outcome, TaskData
from ...tasks import Split as SplitName
from .charts import draw_confusion, draw_reliability
from .data import Split
from .views import predict

BINS = 15
METRICS = (
    Metric("accuracy", True, "torchmetrics MulticlassAccuracy (micro)"),
    Metric("top5", True, "torchmetrics MulticlassAccuracy (micro, top_k=5)"),
    Metric("ece", False, f"torchmetrics MulticlassCalibrationError ({BINS} bins, l1)"),
)


def measure(model: nn.Module, data: TaskData, split: SplitName, control: Control) -> Outcome:
    """Scores a model, or a control, on a split.

    "trivial" gives every picture the shares of the classes in training, so it names the most
    frequent one; "shuffled" exchanges the pictures.

    Raises:
        TaskError: the data have no such split.
    """
    if split not in data.splits:
        raise TaskError(f"the data have no {split} split; there are {', '.join(data.splits)}.")
    part: Split = data.splits[split]
    labels = part.labels.numpy()
    if control == "trivial":
        shares = np.array(data.facts["training_counts"], dtype=np.float64)
        probabilities = np.tile(shares / shares.sum(), (len(labels), 1))
    else:
        probabilities = predict(model, part.pictures, part.views, part.crop)
    if control == "shuffled":
        probabilities = probabilities[np.random.default_rng(0).permutation(len(labels))]
    return score(probabilities, labels, list(data.facts["classes"]), drawn=control == "none")


def score(
    probabilities: np.ndarray, labels: np.ndarray, classes: list[str], *, drawn: bool = True
) -> Outcome:
    """All figures of some predictions.

    Args:
        probabilities: float (N, classes).
        labels: int (N,).
        classes: their names.
        drawn: whether pictures of the confusions and the calibration are made.
    """
    ranks = rank_of_truth(probabilities, labels)
    confidence = probabilities.max(axis=1)
    right = ranks == 0
    confusion = confusion_matrix(probabilities.argmax(axis=1), labels, len(classes))
    pictures = {}
    if drawn:
        pictures["confusion"] = draw_confusion(confusion, classes)
        pictures["reliability"] = draw_reliability(
            reliability(confidence, right), calibration_error(confidence, right)
        )
    return Outcome(
        values={
            "accuracy": lambda chosen: float(right[chosen].mean()),
            "top5": lambda chosen: float((ranks[chosen] < 5).mean()),
            "ece": lambda chosen: calibration_error(confidence[chosen], right[chosen]),
        },
        units=len(labels),
        details={
            "classes": class_table(confusion, classes),
            "confusion": confusion.tolist(),
            "confusion_axes": ["truth", "prediction"],
        },
        pictures=pictures,
    )


def rank_of_truth(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the true one; of equal ones the first named stands first."""
    truth = probabilities[np.arange(len(labels)), labels][:, None]
    before = probabilities > truth
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return (before | ((probabilities == truth) & earlier)).sum(axis=1)


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """int64 (classes, classes): true classes down, predicted ones across."""
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes)


def class_table(confusion: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Precision, recall and count of each class; None where a class was never named or there."""
    named, there = confusion.sum(axis=0), confusion.sum(axis=1)
    return [
        {
            "class": name,
            "precision": _share(confusion[index, index], named[index]),
            "recall": _share(confusion[index, index], there[index]),
            "count": int(there[index]),
        }
        for index, name in enumerate(classes)
    ]


def _share(part: np.integer, whole: np.integer) -> float | None:
    return float(part / whole) if whole else None


def reliability(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Count, mean confidence and accuracy of each of 15 bins of confidence: float (3, 15).

    A bin holds the confidences from its lower edge on, below its upper one; the last one holds 1.
    """
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS).astype(np.float64)
    filled = np.maximum(count, 1)
    return np.stack(
        [
            count,
            np.bincount(bins, weights=confidence, minlength=BINS) / filled,
            np.bincount(bins, weights=right, minlength=BINS) / filled,
        ]
    )


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: the mean distance of a bin's confidence from its accuracy."""
    count, mean, accuracy = reliability(confidence, right)
    return float((np.abs(mean - accuracy) * count).sum() / max(count.sum(), 1))
