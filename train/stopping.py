"""Stopping a run from outside: Ctrl-C and SIGTERM ask, and the run stops where it can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopRequested(Exception):
    """Raised inside `StopSignal.interruptible` when the run is asked to stop."""


class StopSignal:
    """Notes SIGINT and SIGTERM instead of ending the process; further ones change nothing.

    Args:
        say: called with a line for the user at the first signal and at each later one.
    """

    def __init__(self, say: Callable[[str], None]):
        self.number: int | None = None
        self._say = say
        self._interruptible = False

    @contextmanager
    def listening(self) -> Iterator[StopSignal]:
        """Handles the signals inside the block; elsewhere than in the main thread, none arrive."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, self._handle)
        try:
            yield self
        finally:
            for known, handler in before.items():
                signal.signal(known, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that nothing is lost by leaving: a signal raises StopRequested in it."""
        if self.number is not None:
            raise StopRequested
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self._say("stopping: saving a checkpoint ...")
        else:
            self._say("stopping already; saving takes a moment.")
        self.number = number
        if self._interruptible:
            self._interruptible = False
            raise StopRequested
