"""Video files, frame by frame: H.264 and AAC in MP4, GIF, and strips of frames as PNG.

Nothing here needs a display. The MP4 writer holds one frame at a time, however long the video.
Only an MP4 has sound.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from ..errors import EightBitError, UsageError

PIXEL = (5, 3)
"""Width and height that one Atari pixel gets in a video.

An Atari pixel on a television was about 12:7 as wide as high; 5:3 is the nearest ratio of small
whole numbers, so every pixel is a sharp rectangle and 160 x 210 becomes 800 x 630.
"""

GIF_COLOURS = 256

SOUND_BIT_RATE = 128_000
"""Bits per second of AAC: square waves and noise, of which a game's sound consists, are hard."""


def enlarge(frame: np.ndarray, factors: tuple[int, int]) -> np.ndarray:
    """Repeats each pixel `factors[0]` times in width and `factors[1]` times in height.

    Args:
        frame: (H, W, 3) uint8.
        factors: whole numbers, at least 1.

    Returns:
        (H * factors[1], W * factors[0], 3) uint8, with no colour that was not in `frame`.
    """
    height, width = frame.shape[:2]
    size = (width * factors[0], height * factors[1])
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST))


def make_even(frame: np.ndarray) -> np.ndarray:
    """Adds a black row or column where (H, W, 3) has an odd side, as yuv420p needs."""
    height, width = frame.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)))


class VideoWriter:
    """Streams RGB frames into an MP4 file (H.264, yuv420p); memory does not grow with length.

    With a `sound_rate` the file has a sound track (AAC, mono) too, which is as long as the frames
    to within a sample: what `write_sound` gave beyond them is dropped, what it left out is
    silent.

    The file appears under its name when it is complete: an error in between leaves no half
    video, an interrupt (Ctrl-C) keeps what was played so far.

    Args:
        path: of the file; its folder is made.
        size: (width, height) in pixels, both even.
        rate: frames per second.
        crf: constant quality of H.264, 0 (lossless) to 51.
        sound_rate: samples per second of the sound track, such as 44,100; None for no track.

    Raises:
        UsageError: an odd size, or a sound rate that AAC does not have.
        EightBitError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        rate: int,
        *,
        crf: int = 18,
        sound_rate: int | None = None,
    ):
        if size[0] % 2 or size[1] % 2:
            raise UsageError(f"a video of {size[0]} x {size[1]} pixels needs even sides.")
        _check_sound_rate(sound_rate)
        self.path = Path(path)
        self.size = size
        self.rate = rate
        self.frames_written = 0
        self._partial = self.path.with_name(f".{self.path.stem}.partial.mp4")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._partial), "w", options={"movflags": "+faststart"})
        except OSError as error:
            raise EightBitError(f"{self.path} cannot be written ({error.strerror}).") from error
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "superfast", "crf": str(crf)}
        self._sound_stream: av.AudioStream | None = None
        if sound_rate is not None:
            self._sound_stream = self._container.add_stream("aac", rate=sound_rate, layout="mono")
            self._sound_stream.bit_rate = SOUND_BIT_RATE
        self._samples_written = 0
        self._waiting = np.zeros(0, np.int16)  # sound whose frames have not come yet

    def write(self, frame: np.ndarray) -> None:
        """Adds one frame: (height, width, 3) uint8 RGB; it may be reused afterwards.

        Raises:
            UsageError: a frame of another size.
            EightBitError: no space is left.
        """
        expected = (self.size[1], self.size[0], 3)
        if frame.shape != expected:
            raise UsageError(f"a frame has shape {frame.shape}; this video needs {expected}.")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        try:
            self._container.mux(self._stream.encode(picture))
            self.frames_written += 1
            self._encode_waiting()
        except OSError as error:
            raise EightBitError(f"{self.path} cannot be written ({error.strerror}).") from error

    def write_sound(self, samples: np.ndarray) -> None:
        """Adds sound after what was added before; before or after the frames that it belongs to.

        Args:
            samples: (n,) int16, mono, at `sound_rate`. The writer holds what runs ahead of the
                frames, so give the sound of a few frames at a time.

        Raises:
            UsageError: a video without a sound track, or samples of another kind.
            EightBitError: no space is left.
        """
        if self._sound_stream is None:
            raise UsageError("this video has no sound track: give the writer a sound_rate.")
        if samples.ndim != 1 or samples.dtype != np.int16:
            raise UsageError(f"sound is (n,) int16, not {samples.shape} {samples.dtype}.")
        self._waiting = np.concatenate([self._waiting, samples])
        try:
            self._encode_waiting()
        except OSError as error:
            raise EightBitError(f"{self.path} cannot be written ({error.strerror}).") from error

    def _samples_due(self, rate: int) -> int:
        """Samples that are still to come up to the end of the last frame."""
        return self.frames_written * rate // self.rate - self._samples_written

    def _encode_waiting(self) -> None:
        """Encodes the sound whose frames have come."""
        if self._sound_stream is None:
            return
        rate = self._sound_stream.rate
        due = self._samples_due(rate)
        ready, self._waiting = self._waiting[:due], self._waiting[due:]
        if len(ready):
            piece = av.AudioFrame.from_ndarray(ready[None], format="s16", layout="mono")
            piece.sample_rate, piece.time_base = rate, Fraction(1, rate)
            piece.pts = self._samples_written
            self._container.mux(self._sound_stream.encode(piece))
            self._samples_written += len(ready)

    def _end_sound(self) -> None:
        """Fills up with silence to the end of the last frame and empties the encoder."""
        if self._sound_stream is None:
            return
        rate = self._sound_stream.rate
        while due := self._samples_due(rate):
            self._waiting = np.zeros(min(due, rate), np.int16)
            self._encode_waiting()
        self._container.mux(self._sound_stream.encode())

    def close(self) -> None:
        """Completes the file and gives it its name; without any frame there is no file."""
        if not self.frames_written:
            self.abandon()
            return
        try:
            self._end_sound()
            self._container.mux(self._stream.encode())
            self._container.close()
            os.replace(self._partial, self.path)
        except OSError as error:
            self.abandon()
            raise EightBitError(f"{self.path} cannot be written ({error.strerror}).") from error

    def abandon(self) -> None:
        """Removes what was written."""
        self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or (issubclass(kind, KeyboardInterrupt) and self.frames_written):
            self.close()
        else:
            self.abandon()


def _check_sound_rate(rate: int | None) -> None:
    known = av.Codec("aac", "w").audio_rates or []
    if rate is not None and rate not in known:
        rates = ", ".join(map(str, sorted(known)))
        raise UsageError(f"AAC has no {rate} samples per second: choose one of {rates}.")


def _palette(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The most frequent colours, (k, 3) uint8 with k <= 256; exact for raw Atari frames."""
    counts: dict[int, int] = {}
    for frame in frames:
        codes, times = np.unique(_codes(frame), return_counts=True)
        for code, count in zip(codes.tolist(), times.tolist(), strict=True):
            counts[code] = counts.get(code, 0) + count
    kept = sorted(counts, key=lambda code: -counts[code])[:GIF_COLOURS]
    return np.array([[code >> 16, (code >> 8) & 255, code & 255] for code in kept], np.uint8)


def _codes(frame: np.ndarray) -> np.ndarray:
    wide = frame.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _indices(frame: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Index of the nearest palette colour of each pixel, (H, W) uint8."""
    codes, inverse = np.unique(_codes(frame), return_inverse=True)
    colours = np.stack([codes >> 16, (codes >> 8) & 255, codes & 255], axis=1)
    distance = ((colours[:, None, :] - palette[None].astype(np.int64)) ** 2).sum(axis=2)
    return distance.argmin(axis=1).astype(np.uint8)[inverse].reshape(frame.shape[:2])


def write_gif(path: Path, frames: Sequence[np.ndarray], rate: int = 20) -> Path:
    """Writes a looping GIF; frames with at most 256 colours in all keep every colour exactly.

    A GIF is silent: the sound of a game that goes into one is not to be rendered at all.

    Args:
        path: of the file; its folder is made.
        frames: (H, W, 3) uint8 each, all of one size; they are held in memory.
        rate: frames per second, a divisor of 100 (a GIF counts hundredths of a second).

    Raises:
        UsageError: no frames, or a rate that a GIF cannot hold.
    """
    if not frames:
        raise UsageError("a GIF needs at least one frame.")
    if rate < 1 or 100 % rate:
        raise UsageError(f"a GIF cannot play {rate} frames per second: choose 10, 20, 25 or 50.")
    path.parent.mkdir(parents=True, exist_ok=True)
    palette = _palette(frames)
    table = np.zeros((GIF_COLOURS, 4), np.uint8)  # ARGB
    table[:, 0] = 255
    table[: len(palette), 1:] = palette
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"loop": "0"}) as container:
        stream = container.add_stream("gif", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
        for frame in frames:
            pixels: Any = (_indices(frame, palette), table)  # PyAV's stub does not know palettes
            picture = av.VideoFrame.from_ndarray(pixels, format="pal8")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def write_strip(path: Path, frames: Iterable[np.ndarray], *, gap: int = 8) -> Path:
    """Writes frames of one size side by side into a PNG, `gap` white pixels apart.

    Raises:
        UsageError: no frames.
        EightBitError: the file cannot be written.
    """
    pictures = list(frames)
    if not pictures:
        raise UsageError("a strip needs at least one frame.")
    white = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [white, picture]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.hstack(parts)[..., ::-1]):
        raise EightBitError(f"{path} cannot be written.")
    return path
