"""What can be chosen of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object


@dataclass(frozen=True)
class DetectOptions:
    """How objects are detected."""

    method: Literal["one-stage", "multibox", "masks"] = "one-stage"
    """one-stage (anchor-free), multibox (Erhan 2013) or masks (mask regression, Szegedy 2013)"""
    size: int = 320
    """longer side, in pixels, of the pictures that the network sees"""
    backbone: str = "darknet"
    """trunk from the registry; 'eightbit list backbones' shows all"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"width": 2}'"""
    channels: int = 64
    """channels of the head's maps"""
    turns: Literal["none", "mirror", "all"] = "all"
    """how pictures are turned over at random: left-right, or all eight turns and flips"""
    zoom: float = 1.4
    """pictures are enlarged or shrunk at random, at most by this factor"""
    mosaic: float = 0.5
    """share of training pictures that are put together from four"""
    colour: float = 0.2
    """strength of random changes of brightness, contrast and colour"""
    train_on: Literal["trainval", "train"] = "trainval"
    """whether the validation split is learnt from as well; with train it judges training"""
    iou_threshold: float = 0.6
    """boxes of a class that overlap a better one by more than this are dropped"""
    max_det: int = 100
    """most detections in a picture"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        if self.size < 32:
            raise UsageError(f"size is {self.size}; it must be 32 or more.")
        if self.channels < 8 or self.channels % 8:
            raise UsageError(f"channels is {self.channels}; it must be a multiple of 8.")
        if self.zoom < 1:
            raise UsageError(f"zoom is {self.zoom}; it must be 1 or more.")
        for name in ("mosaic", "colour", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        if self.max_det < 1:
            raise UsageError(f"max_det is {self.max_det}; it must be 1 or more.")
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)
