"""What can be chosen of a recognizer of handwriting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object


@dataclass(frozen=True)
class ReadHandwritingOptions:
    """How handwriting is read."""

    step: float = 0.2
    """distance of the points that the network sees, in heights of a small letter"""
    stride: Literal[2, 4] = 2
    """points that make a frame of the network's output"""
    channels: int = 64
    """channels of the convolutions before the recurrent trunk"""
    backbone: str = "lstm"
    """recurrent trunk from the registry; 'eightbit list backbones' shows all"""
    backbone_options: str = '{"hidden": 256, "layers": 3, "bidirectional": true, "dropout": 0.3}'
    """JSON object of options for the backbone, such as '{"hidden": 128}'"""
    dropout: float = 0.3
    """share dropped before and after the trunk"""
    learn_from: Literal["lines", "both"] = "both"
    """real lines alone, or real lines and rows of real words of one writer"""
    longest_row: int = 6
    """most words of a writer that are put in a row"""
    distortion: float = 1.0
    """strength of random slant, scale, rotation, stretch and noise; 0 for none"""
    fewest: int = 5
    """times that a character must occur in the training texts to be in the alphabet"""
    decode: Literal["greedy", "beam"] = "beam"
    """the best path, or a prefix beam search"""
    beam: int = 16
    """readings kept by the beam search"""
    language: float = 0.3
    """weight of the characters' trigram model in the beam search; 0 for none"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        if not 0.02 <= self.step <= 1:
            raise UsageError(f"step is {self.step}; it must lie between 0.02 and 1.")
        if self.channels < 8 or self.channels % 8:
            raise UsageError(f"channels is {self.channels}; it must be a multiple of 8.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; it must lie in [0, 1).")
        for name in ("longest_row", "fewest", "beam"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("distortion", "language"):
            if not 0 <= getattr(self, name) <= 3:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 3].")
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)
