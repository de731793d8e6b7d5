"""Films frame by frame from and to files, and cameras.

A film keeps what it came with: the time of every frame, be its rate constant or not, its sound
and the shape of its pixels. One frame at a time is held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..errors import DataError, EightBitError, UsageError

SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
"""Endings of file names, in lower case, that stand for a film in a list of inputs."""

WRITTEN = (".m4v", ".mkv", ".mov", ".mp4")
"""Endings of films that can be written."""

HD_HEIGHT = 720
"""Rows from which on colours without a mark are coded by ITU-R BT.709 and not by BT.601."""


class FilmReader:
    """A film to read, as often as wanted.

    Attributes:
        path: of the file.
        width, height: of a frame as it is to be seen, in pixels.
        rate: frames a second; the mean where the rate varies.
        time_base: seconds; times of frames are whole multiples of it.
        duration: seconds of the picture track, None where the file does not tell.
        has_sound: whether there is a sound track.
        pixel_shape: width of a pixel by its height.

    Args:
        path: anything that FFmpeg decodes.

    Raises:
        DataError: the file is missing or empty, or no film.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        with self._open() as container:
            stream = _video_stream(container, self.path)
            try:
                frame = next(container.decode(stream))
            except (StopIteration, av.FFmpegError) as error:
                raise DataError(f"{self.path} holds no picture that can be decoded.") from error
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.time_base = Fraction(stream.time_base or 1 / self.rate)
            self.duration = _duration(container, stream)
            self.has_sound = bool(container.streams.audio)
            shape = Fraction(stream.codec_context.sample_aspect_ratio or 1) or Fraction(1)
            turned = frame.rotation % 180 != 0
            self.pixel_shape = 1 / shape if turned else shape
            self.width, self.height = frame.width, frame.height
            if turned:
                self.width, self.height = self.height, self.width

    @contextmanager
    def _open(self) -> Iterator[av.container.InputContainer]:
        if not self.path.is_file():
            raise DataError(f"{self.path} does not exist; name a film.")
        if not self.path.stat().st_size:
            raise DataError(f"{self.path} is empty.")
        try:
            container = av.open(str(self.path), metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise DataError(f"{self.path} is no film, or its end is missing.") from error
        with container:
            yield container

    def frames(self) -> Iterator[tuple[float, np.ndarray]]:
        """Decodes the film from its beginning.

        Yields:
            Seconds since the film began, and RGB uint8 (height, width, 3), upright.

        Raises:
            DataError: the film is damaged or ends too early; all frames before were yielded.
        """
        with self._open() as container:
            stream = _video_stream(container, self.path)
            stream.thread_type = "AUTO"
            start = (container.start_time or 0) / 1_000_000
            frame_time = float(1 / self.rate)
            time = -frame_time
            decoded = container.decode(stream)
            while True:
                try:
                    frame = next(decoded, None)
                except (av.FFmpegError, OSError) as error:
                    raise self._damaged(max(0.0, time + frame_time)) from error
                if frame is None:
                    break
                time = time + frame_time if frame.time is None else frame.time - start
                rgb = _rgb(frame)
                if rgb.shape != (self.height, self.width, 3):
                    raise self._damaged(time)
                yield time, rgb
            end = time + frame_time
            if self.duration is not None and self.duration - end > max(0.5, 2 * frame_time):
                raise self._damaged(end)

    def _damaged(self, time: float) -> DataError:
        return DataError(f"{self.path} is damaged from second {time:.2f} on; the rest is missing.")


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise DataError(f"{path} has no picture track.")
    return container.streams.video[0]


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """Seconds of the picture track; of the whole file only where nothing else could be longer."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1_000_000
    return None


def _colour_space(height: int) -> Colorspace:
    return Colorspace.ITU709 if height >= HD_HEIGHT else Colorspace.ITU601


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """RGB uint8 (H, W, 3), turned as the film's metadata say."""
    known = {int(space) for space in Colorspace}
    space = frame.colorspace if frame.colorspace in known else _colour_space(frame.height)
    if frame.format.is_rgb:
        converted = frame.reformat(format="rgb24")
    else:
        converted = frame.reformat(format="rgb24", src_colorspace=space)
    return np.ascontiguousarray(np.rot90(converted.to_ndarray(), frame.rotation // 90))


class FilmWriter:
    """Writes a film like another one: the same times of frames, the same sound.

    Sound tracks are copied as they are where the new container takes their format, else coded
    anew as AAC. Pictures are H.264 (yuv420p); an odd side is made even by repeating the last row
    or column.

    The file appears under its name when it is complete. An error leaves nothing behind, except
    that a film which is damaged further on (DataError) or an interrupt (Ctrl-C) keeps what was
    written up to there.

    Args:
        path: ends in one of WRITTEN; its folder is made.
        like: the film whose time base, sound and shape of pixels are taken.
        size: width and height of the frames to come, where they are not those of `like`.
        quality: constant rate factor of H.264, 0 (lossless) to 51.

    Raises:
        UsageError: another ending, or the path is that of `like`.
        EightBitError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        like: FilmReader,
        size: tuple[int, int] | None = None,
        quality: int = 18,
    ):
        self.path = Path(path)
        self.like = like
        self.size = size or (like.width, like.height)
        if self.path.suffix.lower() not in WRITTEN:
            raise UsageError(
                f"{path} is no film to write; let it end in one of {', '.join(WRITTEN)}."
            )
        if self.path.exists() and self.path.samefile(like.path):
            raise UsageError(f"{path} is the film that is read; choose another name.")
        self._partial = self.path.with_name(f".{self.path.stem}.partial{self.path.suffix}")
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._partial), "w")
            self._stream = self._container.add_stream("libx264", rate=like.rate)
        self._prepare_stream(quality)
        self._sound = _SoundCopy(like.path, self._container) if like.has_sound else None
        self._last_pts: int | None = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise EightBitError(f"{self.path} cannot be written ({reason}).") from error

    def _prepare_stream(self, quality: int) -> None:
        stream, context = self._stream, self._stream.codec_context
        stream.width, stream.height = (side + side % 2 for side in self.size)
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "superfast", "crf": str(quality)}
        stream.time_base = context.time_base = self.like.time_base
        context.sample_aspect_ratio = self.like.pixel_shape
        context.colorspace = int(_colour_space(self.size[1]))
        context.color_range = int(ColorRange.MPEG)

    def write(self, rgb: np.ndarray, time: float) -> None:
        """Adds a frame.

        Args:
            rgb: uint8 (height, width, 3).
            time: seconds, later than the frame before.

        Raises:
            UsageError: a frame of another size.
            EightBitError: no space is left.
        """
        width, height = self.size
        if rgb.shape != (height, width, 3):
            raise UsageError(f"a frame has shape {rgb.shape}; the film needs {height, width, 3}.")
        if width % 2 or height % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        pts = round(time / self.like.time_base)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_colour_space(height))
        frame.pts, frame.time_base = pts, self.like.time_base
        with self._writing():
            self._container.mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.copy_until(time)

    def close(self, *, whole: bool = True) -> None:
        """Completes the file and gives it its name; without any frame there is no file.

        Args:
            whole: the sound goes on to its end; else it ends with the last frame.
        """
        if self._last_pts is None:
            self.abandon()
            return
        try:
            with self._writing():
                self._container.mux(self._stream.encode())
                if self._sound is not None:
                    last = self._last_pts * self.like.time_base + 1 / self.like.rate
                    self._sound.finish(float("inf") if whole else float(last))
                self._container.close()
                os.replace(self._partial, self.path)
        except EightBitError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Removes what was written."""
        if self._sound is not None:
            self._sound.close()
        with self._writing():
            self._container.close()
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, (DataError, KeyboardInterrupt)):
            self.close(whole=kind is None)
        else:
            self.abandon()


class _SoundCopy:
    """Takes the sound tracks of a film over into another container, in step with its pictures."""

    def __init__(self, path: Path, target: av.container.OutputContainer):
        self._source = av.open(str(path), metadata_errors="replace")
        self._target = target
        self._start = (self._source.start_time or 0) / 1_000_000
        self._copied: dict[int, av.AudioStream] = {}
        self._coded: dict[int, av.AudioStream] = {}
        for stream in self._source.streams.audio:
            if stream.codec_context.name in target.supported_codecs:
                self._copied[stream.index] = target.add_stream_from_template(stream)
            else:
                rate = stream.rate if stream.rate in _aac_rates() else 48_000
                layout = "mono" if stream.channels == 1 else "stereo"
                self._coded[stream.index] = target.add_stream("aac", rate=rate, layout=layout)
        self._packets = self._source.demux(*self._source.streams.audio)
        self._waiting: av.Packet | None = next(self._packets, None)

    def copy_until(self, time: float) -> None:
        """Moves the sound that begins before `time`, in seconds."""
        while self._waiting is not None:
            packet = self._waiting
            begins = packet.pts if packet.pts is not None else packet.dts
            if begins is not None and begins * packet.time_base - self._start >= time:
                return
            self._move(packet)
            try:
                self._waiting = next(self._packets, None)
            except av.FFmpegError:  # damaged: the sound ends here
                self._waiting = None

    def _move(self, packet: av.Packet) -> None:
        index = packet.stream.index
        if index in self._coded:
            for frame in _decoded(packet):
                if frame.pts is not None and frame.time_base is not None:
                    frame.pts -= round(self._start / frame.time_base)
                self._target.mux(self._coded[index].encode(frame))
        elif packet.dts is not None:
            shift = round(self._start / packet.time_base)
            packet.pts, packet.dts = (packet.pts or packet.dts) - shift, packet.dts - shift
            packet.stream = self._copied[index]
            self._target.mux(packet)

    def finish(self, time: float) -> None:
        """Moves the sound up to `time` and ends the tracks."""
        self.copy_until(time)
        for stream in self._coded.values():
            self._target.mux(stream.encode(None))
        self.close()

    def close(self) -> None:
        self._source.close()


def _decoded(packet: Any) -> list[av.AudioFrame]:
    """Sound of a packet; PyAV's stub takes any packet's frames for pictures."""
    try:
        return list(packet.decode())
    except av.FFmpegError:  # a damaged piece of sound is left out, as players do
        return []


def _aac_rates() -> list[int]:
    return list(av.Codec("aac", "w").audio_rates or [])


def open_camera(number: int) -> Iterator[np.ndarray]:
    """Frames of a camera as they come, until it is unplugged or the iterator is closed.

    Args:
        number: 0 for the first camera.

    Yields:
        RGB uint8 (H, W, 3).

    Raises:
        EightBitError: there is no such camera, or it gives no picture.
    """
    camera = cv2.VideoCapture(number)
    try:
        frame = camera.read()[1] if camera.isOpened() else None
        if frame is None:
            raise EightBitError(f"camera {number} was not found or gives no picture; is it in use?")
        while frame is not None:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            frame = camera.read()[1]
    finally:
        camera.release()
