"""Sound of any file that FFmpeg decodes, as samples of one channel at the rate that is wanted.

Channels are averaged. Seconds are those of the file's own clock: where the sound of a film begins
later than its pictures, or has a hole, silence stands for it.
"""

from __future__ import annotations

import io
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..errors import DataError, EightBitError, UsageError
from .sound_arrays import Converter, channels_of, in_blocks

SUFFIXES = (
    *(".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mka", ".mp3", ".oga"),
    *(".ogg", ".opus", ".sph", ".wav", ".wma"),
    *(".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"),
)
"""Endings of file names, in lower case, that stand for a sound or a film with sound."""

_CONTINUOUS = ("flac", "ogg")
"""containers whose sound has no holes unless a part was lost"""

_GUESSED_DURATION = ("aac", "amr", "mp3", "mpeg", "mpegts")
"""containers that do not tell how long they are"""

_HOLE = 0.1
"""seconds; most files tell times no better than to a frame"""

_LONGEST_HOLE = 3_600.0
"""seconds; beyond it a time is wrong"""

_ROUNDED = 0.001
"""seconds; the same for FLAC, which counts its samples"""

_WAV_HEAD = 1 << 16
"""bytes of a WAV in which its sound begins"""

_UNKNOWN_SIZE = 0x7FFFFFFF
"""bytes of sound; programs that cannot go back to the header write this, or more"""

_UNPLUGGED = 5.0
"""seconds without a block after which a microphone counts as gone"""


@dataclass(frozen=True)
class Sound:
    """Sound of one channel.

    Attributes:
        samples: float32 (n,) in [-1, 1], n at least 1.
        rate: samples a second.
    """

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


def read_sound(source: Path | bytes, rate: int | None = None, name: str = "") -> Sound:
    """Decodes a sound file, or the sound of a film, whole.

    Args:
        source: a path, or the content of a file.
        rate: samples a second of what is returned; the file's own where None.
        name: what messages call it; the path where empty.

    Raises:
        DataError: it is missing, empty, no sound, without any sample, or damaged; the message
            says from which second on.
    """
    name = name or (str(source) if isinstance(source, Path) else "the sound")
    with _opened(source, name) as container:
        stream = _sound_track(container, name)
        rate = rate or stream.rate
        told = _told_duration(container, stream, source)
        pieces = list(_pieces(container, stream, rate, name, told))
    return Sound(np.concatenate(pieces), rate)


def sound_blocks(path: Path, rate: int, seconds: float = 30.0) -> Iterator[np.ndarray]:
    """Decodes a sound file block by block, with no more than about a block in memory.

    Args:
        path: of the file.
        rate: samples a second of what is returned.
        seconds: of each block but the last, which may be shorter.

    Yields:
        float32 (n,) in [-1, 1]; joined they are what `read_sound` returns.

    Raises:
        DataError: as `read_sound` does; what is before the damage was yielded.
    """
    size = max(1, round(seconds * rate))
    with _opened(path, str(path)) as container:
        stream = _sound_track(container, str(path))
        told = _told_duration(container, stream, path)
        yield from in_blocks(_pieces(container, stream, rate, str(path), told), size)


def sound_rate(source: Path | bytes, name: str = "") -> int:
    """Samples a second of a file, of which only the beginning is read; raises as `read_sound`."""
    name = name or (str(source) if isinstance(source, Path) else "the sound")
    with _opened(source, name) as container:
        return _sound_track(container, name).rate


def list_sounds(path: Path) -> list[Path]:
    """The file itself, or all sounds and films in a folder and below it, in order.

    Hidden files are passed over.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; name a sound file or a folder of them.")
    found = sorted(
        one
        for one in path.rglob("*")
        if one.suffix.lower() in SUFFIXES
        and one.is_file()
        and not any(part.startswith(".") for part in one.relative_to(path).parts)
    )
    if not found:
        raise DataError(f"{path} holds no sound file; known endings are {', '.join(SUFFIXES)}.")
    return found


# --------------------------------------------------------------------------------- decoding


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[av.container.InputContainer]:
    if isinstance(source, Path):
        if source.is_dir():
            raise DataError(f"{name} is a folder; name a sound file.")
        if not source.is_file():
            raise DataError(f"{name} does not exist; name a sound file.")
    if not (source.stat().st_size if isinstance(source, Path) else len(source)):
        raise DataError(f"{name} is empty.")
    try:
        file = str(source) if isinstance(source, Path) else io.BytesIO(source)
        container = av.open(file, metadata_errors="replace")
    except PermissionError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}.") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"{name} is no sound that can be decoded, or its end is missing."
        ) from error
    assert isinstance(container, av.container.InputContainer)
    with container:
        yield container


def _sound_track(container: av.container.InputContainer, name: str) -> av.AudioStream:
    stream = container.streams.best("audio")
    if not isinstance(stream, av.AudioStream):
        raise DataError(f"{name} has no sound track.")
    if not stream.rate or not stream.channels:
        raise DataError(f"{name} is no sound that can be decoded.")
    return stream


def _pieces(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    rate: int,
    name: str,
    told: float | None,
) -> Iterator[np.ndarray]:
    """The sound in pieces, float32 (n,), none of them empty and at least one.

    `told` are the seconds that there must be.
    """
    converter = Converter(rate)
    time = 0.0
    any_sound = False
    damage: DataError | None = None
    frames = _frames(container, stream, name)
    while True:
        try:
            frame = next(frames, None)
        except DataError as error:  # what was before it is given first
            frame, damage = None, error
        if frame is None:
            break
        hole = _hole(container, frame, time)
        if hole > _HOLE:
            if hole > _LONGEST_HOLE or container.format.name in _CONTINUOUS:
                damage = _damaged(name, time)
                break
            time += hole
            yield from converter.silence(round(hole * frame.sample_rate), frame.sample_rate)
        time += frame.samples / frame.sample_rate
        for piece in converter.convert(channels_of(frame), frame.sample_rate):
            any_sound = True
            yield _checked(piece, name)
    for piece in converter.finish():
        any_sound = True
        yield _checked(piece, name)
    if damage is not None:
        raise damage
    if not any_sound:
        raise DataError(f"{name} holds no sound: it is 0 seconds long.")
    if told is not None and told - time > (_ROUNDED if container.format.name == "flac" else _HOLE):
        raise DataError(
            f"{name} is damaged: {told - time:.2f} of its {told:.2f} seconds are missing."
        )


def _hole(container: av.container.InputContainer, frame: av.AudioFrame, time: float) -> float:
    """Seconds between the end of what was decoded and a frame, by the file's clock."""
    begin = (container.start_time or 0) / 1_000_000
    return 0.0 if frame.time is None else frame.time - begin - time


def _frames(
    container: av.container.InputContainer, stream: av.AudioStream, name: str
) -> Iterator[av.AudioFrame]:
    """Decoded frames; what cannot be decoded counts as damage if there is sound on both sides.

    A recording that somebody cut out of a stream begins and ends with a part of a packet.
    """
    time = 0.0
    torn = False
    packets = container.demux(stream)
    while True:
        try:
            packet: Any = next(packets, None)  # its stub takes any packet's frames for pictures
        except (av.FFmpegError, OSError) as error:
            raise _damaged(name, time) from error
        if packet is None:
            return
        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError):
            torn = time > 0
            continue
        for frame in frames:
            if torn:
                raise _damaged(name, time)
            time += frame.samples / frame.sample_rate
            yield frame


def _told_duration(
    container: av.container.InputContainer, stream: av.AudioStream, source: Path | bytes
) -> float | None:
    """Seconds that the file says it has; None where it says nothing that can be relied on."""
    if container.format.name in _GUESSED_DURATION:
        return None
    if stream.duration is not None and stream.time_base is not None:
        told = float(stream.duration * stream.time_base)
        return told + (_cut_off_wav(source) if container.format.name == "wav" else 0)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1_000_000
    return None


def _cut_off_wav(source: Path | bytes) -> float:
    """Seconds of a WAV that its header tells of and that are not there; FFmpeg passes over it."""
    if isinstance(source, Path):
        total = source.stat().st_size
        with source.open("rb") as stream:
            head = stream.read(_WAV_HEAD)
    else:
        total, head = len(source), source[:_WAV_HEAD]
    at, bytes_a_second = 12, 0
    while at + 8 <= len(head):
        kind, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if kind == b"fmt ":
            bytes_a_second = int.from_bytes(head[at + 16 : at + 20], "little")
        if kind == b"data":
            known = bytes_a_second and size < _UNKNOWN_SIZE
            return max(0, at + 8 + size - total) / bytes_a_second if known else 0.0
        at += 8 + size + size % 2
    return 0.0


def _damaged(name: str, time: float) -> DataError:
    return DataError(f"{name} is damaged from second {time:.2f} on; the rest is missing.")


def _checked(piece: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(piece).all():
        raise DataError(f"{name} is damaged: it holds samples that are no numbers.")
    return np.clip(piece, -1, 1, out=piece)


# ------------------------------------------------------------------------------- microphone


def microphone_blocks(rate: int, seconds: float = 0.1) -> Iterator[np.ndarray]:
    """Sound of the default microphone as it comes, until the iterator is closed.

    What comes while the caller is busy waits in memory; nothing is lost.

    Args:
        rate: samples a second of what is returned; a microphone that cannot is converted.
        seconds: of each block.

    Yields:
        float32 (n,) in [-1, 1].

    Raises:
        UsageError: the library for it is not installed.
        EightBitError: there is no microphone, or it gives no sound any more.
    """
    device = _sounddevice()
    heard: queue.Queue[np.ndarray] = queue.Queue()

    def hear(block: np.ndarray, *_: object) -> None:
        heard.put(block[:, 0].copy())

    try:
        own = rate
        try:
            device.check_input_settings(samplerate=rate, channels=1, dtype="float32")
        except device.PortAudioError:
            own = round(device.query_devices(kind="input")["default_samplerate"])
        stream = device.InputStream(
            samplerate=own,
            channels=1,
            dtype="float32",
            blocksize=max(1, round(own * seconds)),
            callback=hear,
        )
    except (device.PortAudioError, ValueError) as error:
        raise EightBitError(
            f"no microphone was found ({error}); connect one, or name a sound file."
        ) from None
    with stream:
        yield from in_blocks(_converted(heard, own, rate), max(1, round(rate * seconds)))


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise UsageError(
            "a microphone needs sounddevice: pip install 'eightbit[microphone]'."
        ) from None
    except OSError:
        raise UsageError(
            "a microphone needs the library PortAudio; install it, with "
            "'apt install libportaudio2' for instance."
        ) from None
    return sounddevice


def _converted(heard: queue.Queue[np.ndarray], own: int, rate: int) -> Iterator[np.ndarray]:
    converter = Converter(rate)
    while True:
        try:
            block = heard.get(timeout=_UNPLUGGED)
        except queue.Empty:
            raise EightBitError(
                "the microphone gives no sound any more; is it connected?"
            ) from None
        yield from converter.convert(block, own)
