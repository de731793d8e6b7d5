"""Pictures in memory, cut into splits, and training batches of their lightness and colour."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets.collections import Entry, read_collection
from ...datasets.orders import EpochOrder
from ...datasets.pictures import resize
from ...errors import DataError, EightBitError, MemoryBudgetError
from ...tasks import Batch, TaskData
from .lab import rgb_to_lab
from .options import ColorizeOptions

MULTIPLE = 8  # sides of scored pictures are multiples of it


@dataclass(frozen=True)
class Split:
    """Pictures of one part of the data.

    Attributes:
        groups: uint8 (n, 3, H, W), one tensor for each size that occurs.
    """

    groups: tuple[Tensor, ...]

    def __len__(self) -> int:
        return sum(len(group) for group in self.groups)


def build_data(options: ColorizeOptions, data: str, seed: int) -> TaskData:
    """Reads pictures: a data set's name, a folder or a zip.

    Raises:
        UnknownNameError: no such data set.
        DataError: it is missing, damaged, or too small.
        MemoryBudgetError: the pictures do not fit the free memory.
    """
    collection = read_collection(data, seed)
    entries, held = collection.train, collection.validation
    if held is None and options.validation:
        order = np.random.default_rng([seed, 1]).permutation(len(entries))
        count = min(options.validation, len(entries) // 5)
        held = [entries[i] for i in sorted(order[:count])]
        entries = [entries[i] for i in sorted(order[count:])]
    stored = round(options.size * options.scale_jitter)
    train = Split(_grouped(_read(entries, lambda rgb: _scaled(rgb, stored))))
    splits: dict[str, Any] = {"train": train}
    for name, part in (("validation", held), ("test", collection.test)):
        if part:
            splits[name] = Split(_grouped(_read(part, lambda rgb: scored_size(rgb, options))))
    facts = {
        **collection.facts,
        "size": options.size,
        "pictures": {name: len(split) for name, split in splits.items()},
    }
    pictures = [picture for group in train.groups for picture in group.numpy()]
    batches = Batches(pictures, options, seed)
    return TaskData(facts, len(train), batches.batch, splits)


def scored_size(rgb: np.ndarray, options: ColorizeOptions) -> np.ndarray:
    """A picture as it is scored: the middle square, or the whole with sides of multiples of 8."""
    if not options.test_size:
        scaled = _scaled(rgb, options.size)
        height, width = scaled.shape[:2]
        top, left = (height - options.size) // 2, (width - options.size) // 2
        return scaled[top : top + options.size, left : left + options.size]
    scale = options.test_size / min(rgb.shape[:2])
    sides = (max(1, round(side * scale / MULTIPLE)) * MULTIPLE for side in rgb.shape[:2])
    height, width = sides
    return rgb if (height, width) == rgb.shape[:2] else resize(rgb, height, width)


def _scaled(rgb: np.ndarray, shorter: int) -> np.ndarray:
    """A picture whose shorter side has so many pixels."""
    height, width = rgb.shape[:2]
    scale = shorter / min(height, width)
    if scale == 1:
        return rgb
    return resize(rgb, max(shorter, round(height * scale)), max(shorter, round(width * scale)))


def _read(entries: Sequence[Entry], fitted: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Decodes pictures in threads: uint8 (3, H, W) each.

    Raises:
        DataError: pictures that cannot be read, the first three by name.
        MemoryBudgetError: they will not fit the free memory.
    """
    failed: list[str] = []

    def work(entry: Entry) -> np.ndarray | None:
        try:
            return np.ascontiguousarray(fitted(entry.read()).transpose(2, 0, 1))
        except EightBitError as error:
            failed.append(str(error))
            return None

    if entries:
        first = work(entries[0])
        needed = len(entries) * (0 if first is None else first.nbytes)
        free = psutil.virtual_memory().available
        if needed > 0.8 * free:
            raise MemoryBudgetError(
                f"{len(entries)} pictures take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
                "free; choose a smaller --size or fewer pictures."
            )
        failed.clear()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = [picture for picture in pool.map(work, entries, chunksize=64) if picture is not None]
    if failed:
        more = f" (and {len(failed) - 3} more)" if len(failed) > 3 else ""
        raise DataError(
            f"{len(failed)} of {len(entries)} pictures cannot be read; mend or remove them: "
            f"{' '.join(failed[:3])}{more}"
        )
    return read


def _grouped(pictures: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = {}
    for picture in pictures:
        by_shape.setdefault(picture.shape, []).append(picture)
    return tuple(torch.from_numpy(np.stack(group)) for group in by_shape.values())


class Batches:
    """Training batches, each a pure function of seed and step.

    Epochs follow each other without a gap: a batch may hold the end of one and the next one's
    beginning. Every picture is cropped to a random square, scaled to the wanted size and mirrored
    half the time.

    Args:
        pictures: uint8 (3, H, W) each, no side below the wanted size.
        options: of the task.
        seed: of the run.
    """

    def __init__(self, pictures: Sequence[np.ndarray], options: ColorizeOptions, seed: int):
        self.pictures, self.options, self.seed = pictures, options, seed
        self._order = EpochOrder(len(pictures), seed, 2)

    def batch(self, step: int, size: int) -> Batch:
        """ "lightness" float32 (B, 1, S, S) in [0, 100], "ab" float32 (B, 2, S', S').

        S' is S divided by the stride: each colour is the mean over a square.
        """
        generator = np.random.default_rng([self.seed, 3, step])
        chosen = self._order(step * size + np.arange(size))
        side = self.options.size
        rgb = np.empty((size, 3, side, side), np.uint8)
        for row, index in enumerate(chosen.tolist()):
            rgb[row] = self._varied(self.pictures[index], generator)
        lab = rgb_to_lab(torch.from_numpy(rgb))
        return {
            "lightness": lab[:, :1].contiguous(),
            "ab": F.avg_pool2d(lab[:, 1:], self.options.stride, ceil_mode=True),
        }

    def _varied(self, picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        side = self.options.size
        height, width = picture.shape[1:]
        largest = min(height, width, round(side * self.options.scale_jitter))
        crop = int(generator.integers(side, largest + 1))
        top = int(generator.integers(0, height - crop + 1))
        left = int(generator.integers(0, width - crop + 1))
        square = picture[:, top : top + crop, left : left + crop]
        if crop != side:
            square = resize(square.transpose(1, 2, 0), side, side).transpose(2, 0, 1)
        return square[:, :, ::-1] if generator.integers(2) else square
