"""Options of the task and of `eightbit run classify`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object

ViewName = Literal["one", "flip", "six", "ten", "howard"]


@dataclass(frozen=True)
class ClassifyOptions:
    """Picture classification: the network and what is done to its training pictures."""

    backbone: str = "speedy"
    """trunk from the registry, a CNN; 'eightbit list backbones' shows all"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"width": 2}'"""
    size: int = 32
    """side in pixels that pictures are brought to when they are read"""
    crop: int = 0
    """side in pixels of the square that the network sees of them; 0 for all of it"""
    validation: float = 0.02
    """share of the training pictures of each class that is held out to watch training"""
    label_smoothing: float = 0.2
    """share of the target that is spread over all classes"""
    head_scale: float = 0.111
    """factor on the scores that the last layer gives"""
    head_bias: bool = False
    """whether the last layer adds a constant to each class"""
    shift_rate: float = 64.0
    """factor on the learning rate of the shifts of norms without scale (speedy has such)"""
    whitening_share: float = 0.3
    """share of training after which the bias of a whitening layer stays as it is"""
    shift: int = 2
    """pixels that a picture is moved by at most, its rim being mirrored"""
    flip: Literal["none", "random", "alternating"] = "alternating"
    """mirroring from left to right: at random, or in every other epoch"""
    zoom: float = 1.0
    """smallest share of the picture's area that is cut out and enlarged; 1 for none"""
    pca_colour: float = 0.0
    """deviation of the noise along the principal colours (Krizhevsky 2012: 0.1)"""
    light: float = 0.0
    """largest change of brightness, contrast and colour as a share, in random order (Howard)"""
    cutout: int = 0
    """side in pixels of a square that is painted over"""
    mixup: float = 0.0
    """alpha of mixing pictures and labels in pairs; 0 for none"""
    cutmix: float = 0.0
    """alpha of pasting a rectangle of another picture, labels likewise; 0 for none"""
    random_operations: int = 0
    """operations drawn from a list of ten for each picture (RandAugment); 0 for none"""
    magnitude: float = 0.3
    """strength of these operations, 0 to 1"""
    views: ViewName = "six"
    """views of a picture that a prediction is averaged over when the model is scored"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        if self.size < 1 or not 0 <= self.crop <= self.size:
            raise UsageError(
                f"a crop of {self.crop} pixels does not fit pictures of {self.size}; "
                "lower --crop or raise --size."
            )
        if not 0 <= self.shift < self.size:
            raise UsageError(f"shift is {self.shift}; it lies in [0, {self.size}) pixels.")
        for name in ("pca_colour", "mixup", "cutmix", "cutout", "random_operations"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must not be below 0.")
        for name in ("head_scale", "shift_rate"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be above 0.")
        for name in ("validation", "label_smoothing", "light"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        for name in ("magnitude", "whitening_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it lies between 0 and 1.")
        if not 0 < self.zoom <= 1:
            raise UsageError(f"zoom is {self.zoom}; it is a share of the area above 0, up to 1.")
        if self.mixup and self.cutmix:
            raise UsageError("mixup and cutmix exclude each other; set one of them to 0.")
        self.backbone_kwargs()

    @property
    def seen(self) -> int:
        """Side in pixels of what the network sees."""
        return self.crop or self.size

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)


@dataclass(frozen=True)
class ClassifyRunOptions:
    """How pictures are classified by `eightbit run classify RUN PICTURE|FOLDER|camera:0 ...`."""

    topk: int = 5
    """classes named for each picture"""
    views: Literal["as trained", "one", "flip", "six", "ten", "howard"] = "as trained"
    """views of a picture that its prediction is averaged over"""
    format: Literal["auto", "json", "csv"] = "auto"
    """of the file written to -o; auto goes by its ending"""
    heatmap: str = ""
    """folder that pictures with the map of what decided are written to"""
    heatmap_method: Literal["gradcam", "cam"] = "gradcam"
    """Grad-CAM fits every network, CAM those that pool and then classify at once"""
    limit: int = 0
    """frames that are taken from a camera; 0 until Ctrl-C"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        if self.topk < 1:
            raise UsageError(f"topk is {self.topk}; at least 1 class is named.")
        if self.limit < 0:
            raise UsageError(f"limit is {self.limit}; it must not be below 0.")
