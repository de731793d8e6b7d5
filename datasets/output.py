"""Files that appear when they are complete."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import EightBitError, UsageError


def form_of(path: Path | None, wanted: str, forms: Mapping[str, str]) -> str:
    """The form that a file is written in.

    Args:
        path: of the file; None where none is written.
        wanted: the form, or "auto" for what the file's ending says.
        forms: by ending, in lower case.

    Raises:
        UsageError: the ending is none of these.
    """
    if wanted != "auto" or path is None:
        return wanted
    suffix = path.suffix.lower()
    if suffix not in forms:
        *most, last = forms
        raise UsageError(
            f"{path} ends in none of {', '.join(most)} and {last}; choose one with --format."
        )
    return forms[suffix]


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, under another name and renames it; makes its folder.

    Raises:
        EightBitError: it cannot be written; what stood there before stands still.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):  # what went wrong above is the message that counts
            partial.unlink(missing_ok=True)
        raise EightBitError(f"{path} cannot be written ({error.strerror}).") from error
