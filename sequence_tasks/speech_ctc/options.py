"""What can be chosen of an end-to-end recognizer of speech."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object


@dataclass(frozen=True)
class SpeechCtcOptions:
    """How speech becomes text."""

    features: Literal["mel", "spectrogram"] = "mel"
    """40 log-mel energies each 10 ms, or the 128 log bins each 127 samples of Graves and Jaitly"""
    channels: int = 32
    """channels of the two convolutions before the recurrent trunk; 0 for none of them"""
    stride: Literal[2, 4] = 4
    """frames of the features that make one of the network's, where it has convolutions"""
    backbone: str = "lstm"
    """recurrent trunk from the registry; 'eightbit list backbones' shows all"""
    backbone_options: str = '{"hidden": 256, "layers": 3, "bidirectional": true, "dropout": 0.2}'
    """JSON object of options for the backbone, such as '{"hidden": 128}'"""
    dropout: float = 0.2
    """share dropped before and after the trunk"""
    augment: float = 0.5
    """strength of random tempo, vocal tract, noise, hidden bands and spans; 0 for none"""
    row: int = 1
    """most recordings of one speaker that are put in a row, in training and in what is scored"""
    held_out: str = ""
    """a speaker whose utterances alone are the test part"""
    word_error_share: float = 0.0
    """share of training, at its end, in which the expected word errors are minimised, not CTC"""
    paths: int = 8
    """paths drawn of each utterance to estimate them"""
    decode: Literal["greedy", "beam"] = "beam"
    """the best path, or a prefix beam search with dictionary and model of language"""
    beam: int = 32
    """prefixes kept by the beam search"""
    language: float = 0.5
    """weight of the model of language in the beam search; 0 for none"""
    bonus: float = 2.0
    """nats that each word gains in the beam search"""
    order: int = 4
    """words of an n-gram of the model of language, which is counted in the training transcripts"""
    dictionary: Literal["closed", "open"] = "closed"
    """words of the lexicon and the training transcripts alone, or others too at a cost"""
    unknown: float = -8.0
    """nats that a word outside an open dictionary costs"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        if self.channels < 0 or self.channels % 8:
            raise UsageError(f"channels is {self.channels}; it must be 0 or a multiple of 8.")
        for name in ("dropout", "word_error_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        for name in ("row", "beam", "order"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.paths < 2:
            raise UsageError(f"paths is {self.paths}; it must be 2 or more.")
        if not 0 <= self.augment <= 2:
            raise UsageError(f"augment is {self.augment}; it must lie in [0, 2].")
        if not 0 <= self.language <= 10:
            raise UsageError(f"language is {self.language}; it must lie in [0, 10].")
        if self.unknown > 0:
            raise UsageError(f"unknown is {self.unknown}; it must be 0 or less.")
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)
