"""Chooses the extension of a portable wheel; a build from source has `_console` itself instead."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_LEVELS = ("v2", "v3", "v4")


def _best() -> Any:
    baseline = import_module("._console_v2", __package__)
    return import_module(f"._console_{_LEVELS[baseline.processor_level() - 2]}", __package__)


_chosen = _best()
globals().update({name: value for name, value in vars(_chosen).items() if name[:2] != "__"})
