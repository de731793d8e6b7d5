"""TensorBoard event files, written by the thread that trains.

TensorBoard's own writer has a thread of its own, where a full disk ends in a traceback that nobody
can catch; a few hundred bytes every few seconds need none.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFile:
    """One file of scalars; a run that goes on writes a further one into the same folder.

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
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
