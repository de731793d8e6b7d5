"""Labelled pictures in memory, cut into splits, and training batches of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.labelled import PictureSet, read_labelled
from ...datasets.orders import EpochOrder
from ...datasets.splits import held_out_by_class
from ...tasks import Batch, TaskData
from .augment import Example, augment, principal_colours
from .options import ClassifyOptions, ViewName


@dataclass(frozen=True)
class Split:
    """Pictures that a model is scored on, or learns from.

    Attributes:
        pictures: uint8 (N, 3, S, S).
        labels: int64 (N,).
        names: of the pictures in the data set.
        views: that predictions are averaged over.
        crop: side of the square that the network sees, in pixels.
    """

    pictures: Tensor
    labels: Tensor
    names: tuple[str, ...]
    views: ViewName
    crop: int

    def take(self, indices: np.ndarray) -> Split:
        """The pictures of these indices, in their order."""
        chosen = torch.from_numpy(indices)
        names = tuple(self.names[i] for i in indices.tolist())
        return Split(self.pictures[chosen], self.labels[chosen], names, self.views, self.crop)


def build_data(options: ClassifyOptions, data: str, seed: int) -> TaskData:
    """Reads a data set of labelled pictures: a registered name, a folder or a zip.

    Raises:
        UnknownNameError: no such data set.
        DataError: it is missing, damaged, or has fewer than two classes.
        MemoryBudgetError: it does not fit the free memory.
    """
    read = read_labelled(data, options.size, seed)
    train = _split(read.train, options)
    splits = {"train": train}
    if read.validation is not None:
        splits["validation"] = _split(read.validation, options)
    elif options.validation:
        held = held_out_by_class(train.labels.numpy(), options.validation, seed)
        splits["validation"] = train.take(np.flatnonzero(held))
        train = splits["train"] = train.take(np.flatnonzero(~held))
    if read.test is not None:
        splits["test"] = _split(read.test, options)
    counts = torch.bincount(train.labels, minlength=len(read.classes))
    facts: dict[str, Any] = {
        **read.facts,
        "classes": list(read.classes),
        "size": options.size,
        "training_counts": counts.tolist(),
        "pictures": {name: len(split.labels) for name, split in splits.items()},
    }
    order = Batches(train, options, len(read.classes), seed)
    return TaskData(facts, len(train.labels), order.batch, splits)


def _split(pictures: PictureSet, options: ClassifyOptions) -> Split:
    return Split(pictures.pictures, pictures.labels, pictures.names, options.views, options.seen)


class Batches:
    """Training batches, each a pure function of seed and step.

    Epochs follow each other without a gap: a batch may hold the end of one and the next one's
    beginning.
    """

    def __init__(self, train: Split, options: ClassifyOptions, classes: int, seed: int):
        self.train, self.options, self.classes, self.seed = train, options, classes, seed
        self.colours = principal_colours(train.pictures) if options.pca_colour else None
        generator = np.random.default_rng([seed, 2])
        self.mirrored = generator.integers(0, 2, len(train.labels)).astype(bool)
        self._order = EpochOrder(len(train.labels), seed, 3)

    def batch(self, step: int, size: int) -> Batch:
        """ "pictures" uint8 (B, 3, crop, crop); "targets" and "smoothed" float32 (B, classes)."""
        places = step * size + np.arange(size)
        indices, epochs = self._order(places), places // len(self.train.labels)
        generator = np.random.default_rng([self.seed, 4, step])
        labels = self.train.labels[torch.from_numpy(indices)]
        chosen = Example(indices, labels, self._flipped(indices, epochs, generator))
        pictures, options = self.train.pictures, self.options
        return augment(pictures, chosen, options, self.classes, self.colours, generator)

    def _flipped(
        self, indices: np.ndarray, epochs: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        if self.options.flip == "alternating":
            return self.mirrored[indices] ^ (epochs % 2 == 1)
        if self.options.flip == "random":
            return generator.integers(0, 2, len(indices)).astype(bool)
        return np.zeros(len(indices), dtype=bool)
