"""Settings of the task, of its three methods, and of `eightbit run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object

Method = Literal["zhang", "larsson", "l2"]


@dataclass(frozen=True)
class ColorizeOptions:
    """What is learnt, and by which network."""

    method: Method = "zhang"
    """zhang: 313 bins of colour; larsson: histograms of hue and chroma; l2: regression"""
    size: int = 32
    """side of the training pictures in pixels"""
    test_size: int = 0
    """shorter side of the pictures that are scored; 0 for squares of the training size"""
    scale_jitter: float = 1.0
    """how much larger than the crop a training picture may be shown, as a factor"""
    validation: int = 1000
    """pictures held out of training where the data have no part to choose by; at most a fifth"""
    backbone: str = "resnet"
    """trunk from the registry; 'eightbit list backbones' shows all"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"width": 2}'"""
    decoder: int = 64
    """channels of the maps that the trunk's stages are brought together in"""
    stride: int = 2
    """pixels of the picture for each predicted colour, along one axis"""
    uniform: float = 0.5
    """zhang: share of a uniform prior in the rebalancing of rare colours; 1 for no rebalancing"""
    temperature: float = 0.38
    """zhang: of the annealed mean; 1 for the mean, towards 0 for the likeliest colour"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        for name, lowest in (("size", 8), ("decoder", 1), ("stride", 1)):
            if getattr(self, name) < lowest:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {lowest}.")
        if self.test_size and self.test_size < 8:
            raise UsageError(f"test_size is {self.test_size}; it must be 0 or at least 8.")
        if self.scale_jitter < 1:
            raise UsageError(f"scale_jitter is {self.scale_jitter}; it must be at least 1.")
        if not 0 < self.uniform <= 1:
            raise UsageError(f"uniform is {self.uniform}; it must be above 0 and at most 1.")
        if self.temperature <= 0:
            raise UsageError(f"temperature is {self.temperature}; it must be above 0.")
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)


@dataclass(frozen=True)
class ColorizeRunOptions:
    """How pictures and films are coloured by `eightbit run colorize RUN INPUT ...`."""

    saturation: float = 1.0
    """factor on the colours; 0 for grey"""
    temperature: float = 0.0
    """of the distribution over colours, lower for more vivid ones; 0 as trained"""
    samples: int = 1
    """different colourings of each picture, the likeliest first"""
    seed: int = 0
    """of the further colourings"""
    hints: str = ""
    """colours wanted at points, as in '120,80,#a03020 300,90,#3060c0' (column, row, colour)"""
    side: int = 256
    """longer side in pixels at which the colours of a picture are found"""
    film_side: int = 160
    """longer side in pixels at which the colours of a film are found"""
    memory: int = 12
    """frames of a film that colours are averaged over, along the motion; 0 for each by itself"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        if self.samples < 1:
            raise UsageError(f"samples is {self.samples}; it must be at least 1.")
        for name in ("saturation", "temperature", "memory", "seed"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must not be below 0.")
        for name in ("side", "film_side"):
            if getattr(self, name) < 16:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 16.")
