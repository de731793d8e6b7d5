"""Prioritized replay (Schaul et al. 2016)."""

from __future__ import annotations

from .replay import FrameReplay


class PrioritizedReplay:
    def __init__(self, replay: FrameReplay, exponent: float):
        raise NotImplementedError
