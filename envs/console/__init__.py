"""The console: a batched Atari 2600 equal to ALE bit by bit.

The machine itself is C++ (the headers in this folder): it is compiled with the package for the CPU,
and by NVRTC for a GPU when one is asked for.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from ...errors import UsageError


@lru_cache(maxsize=1)
def is_built() -> bool:
    """Whether the CPU extension was compiled when the package was installed."""
    try:
        import_module("._console", __name__)
    except ImportError:
        return False
    return True


def require_built() -> None:
    """Raises UsageError, which says how to mend it, when there is no CPU extension."""
    if not is_built():
        raise UsageError(
            "the console was not compiled when eightbit was installed: install a C++17 compiler "
            "and install eightbit again, or give backend='ale'."
        )
