"""Samples of sound as arrays: decoded frames of any kind as one channel at one rate, in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from ..errors import DataError

_TYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
"""types of FFmpeg's samples; a "p" behind them says that every channel is kept apart"""

_SILENCE = 60
"""seconds of silence that are made at once"""


def channels_of(frame: av.AudioFrame) -> np.ndarray:
    """A frame's samples in its own type, (n,) of one channel or (n, channels)."""
    count = len(frame.layout.channels)
    kind = _TYPES[frame.format.name.removesuffix("p")]
    # Each plane has room behind its end.
    planes = [np.frombuffer(memoryview(plane), kind) for plane in frame.planes]
    if count == 1:
        return planes[0][: frame.samples]
    if frame.format.is_planar:
        return np.stack([plane[: frame.samples] for plane in planes], axis=1)
    return planes[0][: frame.samples * count].reshape(-1, count)


def _mono(samples: np.ndarray) -> np.ndarray:
    """Samples of any type, (n,) or (n, channels), as float32 (n,); whole numbers in [-1, 1)."""
    floats: np.ndarray
    if samples.dtype == np.uint8:
        floats = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        floats = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    else:
        floats = samples.astype(np.float32)
    return floats if floats.ndim == 1 else floats.mean(axis=1, dtype=np.float32)


class Converter:
    """Samples of any rate, type and channels as float32 of one channel at one rate.

    Small frames are gathered, for every step on arrays costs as much as a thousand samples.
    """

    def __init__(self, rate: int):
        self._rate = rate
        self._own = rate
        self._gathered: list[np.ndarray] = []
        self._count = 0
        self._resampler: av.AudioResampler | None = None
        self._taken = self._given = 0

    def convert(self, samples: np.ndarray, rate: int) -> Iterator[np.ndarray]:
        """What can be told after these samples, (n,) or (n, channels); some are kept."""
        if rate != self._own:  # a stream may change on its way
            yield from self.finish()
            self._own = rate
        first = self._gathered[0] if self._gathered else samples
        if samples.shape[1:] != first.shape[1:] or samples.dtype != first.dtype:
            yield from self._spend()
        self._gathered.append(samples)
        self._count += len(samples)
        if self._count >= self._own:
            yield from self._spend()

    def silence(self, count: int, rate: int) -> Iterator[np.ndarray]:
        """The same for `count` samples of silence."""
        while count > 0:
            part = min(count, _SILENCE * rate)
            yield from self.convert(np.zeros(part, np.float32), rate)
            count -= part

    def finish(self) -> Iterator[np.ndarray]:
        """What was kept."""
        yield from self._spend()
        if self._resampler is not None:
            # Silence behind the end pushes out what the filter holds; it cannot flush short sounds.
            due = -(-self._taken * self._rate // self._own) - self._given
            silence = np.zeros(self._own // 10 + 1, np.float32)
            parts = [*self._resampled(silence), *self._resampled(None)]
            yield np.concatenate(parts)[:due]
        self._resampler, self._taken, self._given = None, 0, 0

    def _spend(self) -> Iterator[np.ndarray]:
        if not self._count:
            return
        samples = _mono(np.concatenate(self._gathered))
        self._gathered, self._count = [], 0
        if self._own == self._rate:
            yield samples
            return
        self._resampler = self._resampler or av.AudioResampler("fltp", "mono", self._rate)
        self._taken += len(samples)
        for found in self._resampled(samples):
            self._given += len(found)
            yield found

    def _resampled(self, samples: np.ndarray | None) -> Iterator[np.ndarray]:
        assert self._resampler is not None
        frame = None
        if samples is not None:
            frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            frame.sample_rate = self._own
        for found in self._resampler.resample(frame):
            if found.samples:
                yield found.to_ndarray()[0]


def in_blocks(pieces: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Pieces of any size as arrays of `size` samples; the last is what remains."""
    waiting: list[np.ndarray] = []
    count = 0
    damage: DataError | None = None
    while True:
        try:
            piece = next(pieces, None)
        except DataError as error:  # the rest comes first
            piece, damage = None, error
        if piece is None:
            break
        waiting.append(piece)
        count += len(piece)
        if count >= size:
            joined = np.concatenate(waiting)
            whole = count - count % size
            yield from joined[:whole].reshape(-1, size)
            waiting, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(waiting)
    if damage is not None:
        raise damage
