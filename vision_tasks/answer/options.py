"""Options of the task and of `eightbit run answer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object

Way = Literal["attention", "relation", "full", "vis_lstm", "two_vis_blstm", "img_bow"]


@dataclass(frozen=True)
class AnswerOptions:
    """Answers about pictures: the network and how it is taught."""

    backbone: str = "strided"
    """trunk from the registry, a CNN; 'eightbit list backbones' shows all"""
    backbone_options: str = '{"channels": [24, 32, 64, 64]}'
    """JSON object of options for the backbone"""
    size: int = 64
    """side in pixels that pictures are brought to"""
    way: Way = "attention"
    """how question and picture meet: attention that looks twice, all pairs of cells (Santoro
    2017), or VIS+LSTM, 2-VIS+BLSTM, IMG+BOW and the mean of these three, FULL (Ren 2015)"""
    blind: bool = False
    """learn from the questions alone, the picture being black: the control of Ren 2015"""
    embedding: int = 32
    """length of a word's vector"""
    hidden: int = 128
    """length of the question's vector, the state of an LSTM"""
    width: int = 128
    """length of the vectors of cells, or of pairs of them, and of the layer before the answers"""
    layers: int = 2
    """layers that see a cell, or a pair of cells, with the question; Santoro has 4 of width 256"""
    dropout: float = 0.0
    """share of values before the answers, and of the classic networks' inputs, that is dropped"""
    label_smoothing: float = 0.0
    """share of the right answer's probability that is spread over all answers"""
    detector_weight: float = 0.0
    """factor on the loss of a detector of a picture's answers, whatever is asked, which teaches the
    trunk early; 0 for none"""
    fewest: int = 1
    """answers with fewer occurrences in training are not learnt; where they are right, no answer
    is"""
    asked: int = 20
    """questions of a picture in a step at most; the trunk sees the picture once for all of them"""
    flip: bool = False
    """mirror training pictures at random; not where questions tell left from right"""
    shift: int = 0
    """pixels that a training picture is moved by at most, its rim being mirrored"""
    vary: bool = False
    """change training pictures in ways that the data set knows the answers after, each time anew:
    Sort-of-CLEVR's boards are mirrored, turned, and their colours exchanged"""
    wordnet: str = field(default="", metadata={"metavar": "FOLDER"})
    """WordNet's folder, for WUPS when the model is scored; without it WUPS is left out"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        positive = ("size", "embedding", "hidden", "width", "layers", "fewest", "asked")
        for name in positive:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not 0 <= self.shift < self.size:
            raise UsageError(f"shift is {self.shift}; it lies in [0, {self.size}) pixels.")
        if self.detector_weight < 0:
            raise UsageError(f"detector_weight is {self.detector_weight}; it must not be below 0.")
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)


@dataclass(frozen=True)
class AnswerRunOptions:
    """How questions are answered by `eightbit run answer RUN PICTURE|FOLDER --question "..."`."""

    question: str = ""
    """what is asked of each picture"""
    questions: str = field(default="", metadata={"metavar": "FILE"})
    """a text file of questions, one a line, each asked of each picture"""
    top: int = 5
    """answers for a question, each with its probability"""
    format: Literal["auto", "json", "csv"] = "auto"
    """of the file written to -o; auto goes by its ending"""
    attention: str = field(default="", metadata={"metavar": "FOLDER"})
    """write there pictures of what each answer was read from"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        if self.top < 1:
            raise UsageError(f"top is {self.top}; it must be 1 or more.")
        if self.question and self.questions:
            raise UsageError("--question and --questions exclude each other; leave one out.")
