"""R2D2 sequences."""

from __future__ import annotations

from .replay import FrameReplay


class SequenceReplay:
    def __init__(self, replay: FrameReplay, options, network):
        raise NotImplementedError


def make_sequence_loss(options):
    raise NotImplementedError
