"""The console: a batched Atari 2600 equal to ALE bit by bit.

The machine itself is C++ (the headers in this folder): it is compiled with the package for the CPU,
and by NVRTC for a GPU when one is asked for.
"""

from __future__ import annotations

from importlib.util import find_spec

from ...errors import UsageError


def is_built() -> bool:
    """Whether the CPU extension was compiled when the package was installed."""
    return find_spec(f"{__name__}._console") is not None


def require_built() -> None:
    """Raises UsageError, which says how to mend it, when there is no CPU extension."""
    if not is_built():
        raise UsageError(
            "the console was not compiled when eightbit was installed: install a C++17 compiler and "
            "write 'pip install --force-reinstall --no-deps eightbit', or give backend='ale'."
        )
