"""What can be chosen of the networks that write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object


@dataclass(frozen=True)
class HandwritingOptions:
    """How handwriting is learnt."""

    method: Literal["synthesis", "prediction"] = "synthesis"
    """synthesis (writes a given text through a soft window) or prediction (no text), Graves 2013"""
    backbone: str = "skip_lstm"
    """recurrent trunk from the registry; of synthesis, the layers above the window's"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"layer_norm": true}'"""
    hidden: int = 400
    """cells of each LSTM layer"""
    layers: int = 3
    """LSTM layers; of synthesis the first one carries the window"""
    mixtures: int = 20
    """Gaussians that the next point is drawn from"""
    window: int = 10
    """Gaussians of the window over the text"""
    dropout: float = 0.2
    """share of what passes between layers that is dropped in training, the same at every step"""
    density: float = 2.8
    """points on a stretch as long as small letters are high, bent by one radian"""
    longest: int = 512
    """points of a training sequence; longer lines are cut between words"""
    joined: float = 0.65
    """share of training sequences made of several writings of one writer"""
    stretch: float = 0.08
    """strength of random changes of width, height and slant in training"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        for name in ("hidden", "mixtures", "window"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.layers < 2:
            raise UsageError(f"layers is {self.layers}; it must be 2 or more.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; it must lie in [0, 1).")
        if not 0 <= self.joined <= 1:
            raise UsageError(f"joined is {self.joined}; it must lie in [0, 1].")
        if not 0 <= self.stretch <= 0.5:
            raise UsageError(f"stretch is {self.stretch}; it must lie in [0, 0.5].")
        if not 1 <= self.density <= 20:
            raise UsageError(f"density is {self.density}; it must lie in [1, 20].")
        if self.longest < 64:
            raise UsageError(f"longest is {self.longest}; it must be 64 or more.")
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)
