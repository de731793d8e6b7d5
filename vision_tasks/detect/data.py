"""Boxed pictures as training batches and splits to measure on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import psutil
import torch
from torch import Tensor

from ...datasets.boxes import BoxedPicture, read_boxes
from ...errors import DataError
from ...tasks import TaskData
from .augment import Changes, Example, augmented
from .letterbox import fit
from .options import DetectOptions

_MEMORY_SHARE = 0.4
"""of the free memory that decoded pictures may take"""


def build_data(options: DetectOptions, data: str, seed: int) -> TaskData:
    """Reads boxed pictures; see `Task.build_data`.

    The facts hold "classes", and "height" and "width" of the network's input.

    Raises:
        DataError: the data cannot be read or hold no object.
    """
    found = read_boxes(data, seed)
    train = list(found.train)
    validation = list(found.validation or [])
    if options.train_on == "trainval":
        train, validation = train + validation, []
    if not any(len(picture.boxes) for picture in train):
        raise DataError(f"{data}: no training picture has a box; there is nothing to learn.")
    size = input_size([(p.height, p.width) for p in train], options.size)
    splits: dict[str, Any] = {"train": train}
    if validation:
        splits["validation"] = validation
    if found.test:
        splits["test"] = list(found.test)
    facts = {
        **found.facts,
        "classes": list(found.classes),
        "height": size[0],
        "width": size[1],
        "trained_on": options.train_on,
        "pictures": {name: len(pictures) for name, pictures in splits.items()},
    }
    return TaskData(facts, len(train), Batches(train, size, options, seed), splits)


def input_size(shapes: Sequence[tuple[int, int]], longest: int) -> tuple[int, int]:
    """(height, width) for pictures of (height, width): their median shape, multiples of 16."""
    ratio = float(np.median([width / height for height, width in shapes]))
    height, width = (longest / ratio, longest) if ratio >= 1 else (longest, longest * ratio)
    return max(32, round(height / 16) * 16), max(32, round(width / 16) * 16)


def boxes_in_input(
    pictures: Sequence[BoxedPicture], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """All boxes, float32 (K, 4), as shares of an input of `size`, and their labels, int64 (K,)."""
    boxes, labels = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for picture in pictures:
        place = fit(picture.height, picture.width, size)
        shift = np.tile([place.left, place.top], 2)
        boxes.append((picture.boxes * place.scale + shift) / np.tile(size[::-1], 2))
        labels.append(picture.labels)
    return np.concatenate(boxes).astype(np.float32), np.concatenate(labels)


@dataclass(frozen=True)
class _Store:
    """Training pictures, decoded once and kept at most `longest` pixels long where they fit."""

    pictures: Sequence[BoxedPicture]
    examples: Sequence[Example] | None
    longest: float

    def __getitem__(self, index: int) -> Example:
        if self.examples is not None:
            return self.examples[index]
        return load_example(self.pictures[index], self.longest)


def load_example(picture: BoxedPicture, longest: float) -> Example:
    """Decodes a picture and shrinks it, with its boxes, to at most `longest` pixels."""
    pixels = picture.read()
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    kept = ~picture.difficult
    boxes = picture.boxes[kept]
    if scale < 1:
        new = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, new, interpolation=cv2.INTER_AREA)
        boxes = boxes * np.tile([new[0] / width, new[1] / height], 2)
    return Example(pixels, boxes.astype(np.float32), picture.labels[kept])


def _store(pictures: Sequence[BoxedPicture], longest: float) -> _Store:
    scales = [min(1.0, longest / max(p.height, p.width)) for p in pictures]
    needed = sum(3 * p.height * p.width * s**2 for p, s in zip(pictures, scales, strict=True))
    if needed > _MEMORY_SHARE * psutil.virtual_memory().available:
        return _Store(pictures, None, longest)
    with ThreadPoolExecutor(4) as pool:
        examples = list(pool.map(lambda picture: load_example(picture, longest), pictures))
    return _Store(pictures, examples, longest)


class Batches:
    """Training batches as a pure function of the step; see `TaskData.batch`.

    Called with (step, batch size) it returns "pictures" uint8 (B, 3, H, W), "boxes" float32
    (B, M, 4) in their pixels and "labels" int64 (B, M), -1 where a picture has fewer objects.
    """

    def __init__(
        self,
        pictures: Sequence[BoxedPicture],
        size: tuple[int, int],
        options: DetectOptions,
        seed: int,
    ):
        self.size = size
        self.seed = seed
        self.count = len(pictures)
        everywhere = options.turns == "all"
        self.changes = Changes(
            options.turns != "none", everywhere, options.zoom, options.mosaic, options.colour
        )
        # Only the one-stage network takes pictures of another shape than its own.
        self.transposes = everywhere and options.method == "one-stage"
        self.store = _store(pictures, options.size * options.zoom)

    def __call__(self, step: int, size: int) -> Mapping[str, Tensor]:
        first = step * size
        shared = np.random.default_rng([self.seed, 2, step])
        # All pictures of a step lie or all stand, so that they are one tensor.
        shape = self.size[::-1] if self.transposes and shared.random() < 0.5 else self.size
        examples = [self._example(first + i, shape) for i in range(size)]
        most = max(len(example.labels) for example in examples)
        boxes = np.zeros((size, most, 4), np.float32)
        labels = np.full((size, most), -1, np.int64)
        for row, example in enumerate(examples):
            boxes[row, : len(example.labels)] = example.boxes
            labels[row, : len(example.labels)] = example.labels
        pixels = np.stack([example.picture for example in examples]).transpose(0, 3, 1, 2)
        return {
            "pictures": torch.from_numpy(pixels),
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(labels),
        }

    def _example(self, position: int, shape: tuple[int, int]) -> Example:
        """The example at a position in the endless sequence of shuffled epochs."""
        rng = np.random.default_rng([self.seed, 3, position])
        chosen = [self._index(position)]
        if rng.random() < self.changes.mosaic:
            chosen += rng.integers(self.count, size=3).tolist()
        examples = [self.store[index] for index in chosen]
        if shape != self.size:
            examples = [transposed(example) for example in examples]
        return augmented(examples, shape, self.changes, rng)

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        order = np.random.default_rng([self.seed, 4, epoch]).permutation(self.count)
        return int(order[place])


def transposed(example: Example) -> Example:
    """The picture mirrored at its diagonal: rows become columns."""
    pixels = np.ascontiguousarray(example.picture.transpose(1, 0, 2))
    return Example(pixels, example.boxes[:, [1, 0, 3, 2]], example.labels)
