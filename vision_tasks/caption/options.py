"""Options of the task and of `eightbit run caption`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object


@dataclass(frozen=True)
class CaptionOptions:
    """Sentences about pictures: the network and how it is taught."""

    backbone: str = "impala"
    """trunk from the registry, a CNN; 'eightbit list backbones' shows all"""
    backbone_options: str = '{"channels": [16, 32, 64], "layer_norm": true}'
    """JSON object of options for the backbone"""
    size: int = 64
    """side in pixels that pictures are brought to"""
    way: Literal["attention", "first", "each"] = "attention"
    """how the decoder sees: it attends to the map, the picture is its first input, or an input at
    each step"""
    memory: int = 128
    """length of a map cell's vector that attention reads, or of the picture's at each step"""
    embedding: int = 128
    """length of a word's vector"""
    hidden: int = 192
    """length of the state of each of the decoder's two LSTM layers"""
    dropout: float = 0.1
    """share of values between layers that is dropped in training"""
    word_dropout: float = 0.3
    """share of the words before the next one that the decoder does not see in training"""
    read_colours: bool = True
    """whether the decoder reads which colours it said; without, it cannot guess from a colour what
    has it, and says pairs of both that training never had"""
    label_smoothing: float = 0.0
    """share of the target's probability that is spread over all words"""
    fewest: int = 1
    """words with fewer occurrences in the training sentences are unknown words"""
    longest: int = 48
    """words of a sentence at most; training sentences are cut there"""
    flip: bool = False
    """mirror training pictures at random; not where sentences tell left from right"""
    shift: int = 0
    """pixels that a training picture is moved by at most, its rim being mirrored"""
    detector_weight: float = 3.0
    """factor on the loss of a detector of words in the map's cells (Fang 2015), which teaches the
    trunk early; 0 for none"""
    ranking: Literal["none", "embedding", "alignment"] = "none"
    """learnt beside the sentences, for retrieval: one vector for a picture and one for a sentence
    (Kiros 2014), or regions for words (Karpathy 2015)"""
    ranking_size: int = 256
    """length of these vectors"""
    ranking_weight: float = 0.1
    """factor on the ranking's loss beside that of the sentences"""
    margin: float = 0.2
    """by which a pair's similarity shall exceed that of others; Kiros: 0.2, Karpathy: 1"""
    wordnet: str = field(default="", metadata={"metavar": "FOLDER"})
    """WordNet's folder, for METEOR when the model is scored; without it METEOR is left out"""
    beam: int = 3
    """sentences that are followed at a time when the model is scored"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        for name in ("dropout", "word_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        positive = ("size", "memory", "embedding", "hidden", "fewest", "ranking_size", "beam")
        for name in positive:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.longest < 2:
            raise UsageError(f"longest is {self.longest}; it must be 2 or more.")
        if not 0 <= self.shift < self.size:
            raise UsageError(f"shift is {self.shift}; it lies in [0, {self.size}) pixels.")
        for name in ("detector_weight", "ranking_weight", "margin"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must not be below 0.")
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)


@dataclass(frozen=True)
class CaptionRunOptions:
    """How pictures are told by `eightbit run caption RUN PICTURE|FOLDER ...`."""

    beam: int = 5
    """sentences that are followed at a time; 1 takes the likeliest word each time"""
    n_best: int = 1
    """sentences for a picture, each with its log probability when there are several"""
    length_penalty: float = 0.0
    """exponent of the length that log probabilities are divided by; more makes longer sentences"""
    temperature: float = 0.0
    """above 0, sentences are drawn at this temperature instead of searched for"""
    seed: int = 0
    """of the draws"""
    format: Literal["auto", "json", "csv"] = "auto"
    """of the file written to -o: JSON as COCO's results, or CSV; auto goes by its ending"""
    attention: str = field(default="", metadata={"metavar": "FOLDER"})
    """write there a picture of what each word was read from"""
    alignment: str = field(default="", metadata={"metavar": "FOLDER"})
    """write there a picture of the region that fits each word; for runs with ranking alignment"""
    find: str = field(default="", metadata={"metavar": "SENTENCE"})
    """instead of telling, order the pictures by how well they fit this sentence"""
    among: str = field(default="", metadata={"metavar": "FILE"})
    """instead of telling, order the sentences of this text file, one a line, for each picture"""
    top: int = 5
    """pictures or sentences that are listed by --find and --among"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        for name in ("beam", "n_best", "top"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.n_best > self.beam and not self.temperature:
            raise UsageError(f"n_best is {self.n_best}; it cannot be above the beam, {self.beam}.")
        for name in ("length_penalty", "temperature"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must not be below 0.")
        if self.find and self.among:
            raise UsageError("--find and --among exclude each other; leave one out.")
