"""Errors that a user can meet: one sentence each, what is wrong and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EightBitError(Exception):
    """Something failed; the message is one clear sentence. The command line exits with 1."""

    exit_code = 1


class UsageError(EightBitError):
    """The request itself cannot be met as written. The command line exits with 2."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that no registry holds; the message lists the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], list_command: str = ""):
        known = sorted(known)
        near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif list_command:
            hint = f"'{list_command}' shows all of them."
        else:
            hint = f"known are: {', '.join(known)}."
        super().__init__(f"unknown {kind} {name!r}: {hint}")
        self.nearest = near


class RunFolderError(EightBitError):
    """A run folder is missing, half-written, in use, or from another version, game or task."""


class WeightsError(EightBitError):
    """A weight file is missing, corrupt, of a refused format, or does not fit the network."""


class MemoryBudgetError(EightBitError):
    """More memory would be needed than the machine has free."""


class TrainingError(EightBitError):
    """Training cannot go on: the loss is not a number, or the disk is full."""


class DataError(EightBitError):
    """Data are missing, damaged, of a refused format, or do not fit the task."""


class TaskError(EightBitError):
    """A task could not do its work on some of its inputs, or a run is of another task."""
