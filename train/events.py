"""TensorBoard event files, written by the thread that trains.

TensorBoard's own writer has a thread of its own, where a full disk ends in a traceback that nobody
can catch; a few hundred bytes every few seconds need none.
"""

from __future__ import annotations

import io
import os
import socket
import time
import wave
from pathlib import Path

import cv2
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFile:
    """One file of scalars and samples; a run that goes on writes another into the same folder.

    Args:
        folder: made when missing.
        first_step: TensorBoard drops what earlier files say of later steps: a run that was killed
            had logged steps which its last checkpoint does not know. 0 for a new run.

    Raises:
        OSError: the disk refuses, here and in all methods.
    """

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}"
        number = len(list(folder.iterdir()))  # of processes that began in the same second
        self._file = open(folder / f"{name}.{number}", "xb")  # noqa: SIM115  # closed below
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if first_step:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=first_step + 1, session_log=start))
        self.flush()

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Adds a point to the curve `tag`; it is in the file after the next `flush`."""
        self._add(Summary.Value(tag=tag, simple_value=value), step)

    def picture(self, tag: str, rgb: np.ndarray, step: int) -> None:
        """Adds a picture, RGB uint8 (H, W, 3)."""
        encoded, png = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
        assert encoded, "any uint8 picture can be a PNG"
        height, width = rgb.shape[:2]
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=png.tobytes()
        )
        self._add(Summary.Value(tag=tag, image=image), step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text, which TensorBoard shows as Markdown."""
        metadata = SummaryMetadata(
            plugin_data=SummaryMetadata.PluginData(plugin_name="text", content=b"")
        )
        tensor = TensorProto(
            dtype="DT_STRING",
            string_val=[text.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        self._add(Summary.Value(tag=tag, metadata=metadata, tensor=tensor), step)

    def sound(self, tag: str, samples: np.ndarray, rate: int, step: int) -> None:
        """Adds a sound, float (n,) in [-1, 1] at `rate` samples a second."""
        audio = Summary.Audio(
            sample_rate=rate,
            num_channels=1,
            length_frames=len(samples),
            encoded_audio_string=wav_bytes(samples, rate),
            content_type="audio/wav",
        )
        self._add(Summary.Value(tag=tag, audio=audio), step)

    def _add(self, value: Summary.Value, step: int) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=[value])))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of one channel, 16 bit, from float samples in [-1, 1]."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return content.getvalue()
