"""What can be chosen of a hybrid of a deep network and a hidden Markov model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object


@dataclass(frozen=True)
class SpeechHybridOptions:
    """How speech becomes text."""

    window: int = 15
    """frames that the network sees at once, the middle one is judged; an odd number"""
    backbone: str = "mlp"
    """trunk from the registry that takes vectors; 'eightbit list backbones' shows all"""
    backbone_options: str = '{"hidden": [1024, 1024, 1024, 1024], "dropout": 0.2}'
    """JSON object of options for the backbone, such as '{"hidden": [512, 512]}'"""
    pretrain: Literal["none", "rbm"] = "none"
    """restricted Boltzmann machines first, layer by layer, or nothing"""
    pretrain_steps: int = 2000
    """batches for each machine of binary units; the first, of Gaussian ones, takes twice as many"""
    gaussians: int = 16
    """of each state of the GMM-HMM that finds the states of the training frames"""
    augment: float = 0.2
    """strength of random tempo, vocal tract, noise, hidden bands and spans; 0 for none"""
    held_out: str = ""
    """a speaker whose utterances alone are the test part"""
    grammar: Literal["auto", "bigram", "loop", "word"] = "auto"
    """order of words: a bigram of the training transcripts, any words, or exactly one; auto takes
    one word where every training transcript has one, else the bigram"""
    acoustic: float = 0.15
    """factor on the log-likelihoods of the network, in the search"""
    gmm_acoustic: float = 0.1
    """the same for those of the GMM"""
    language: float = 1.5
    """weight of the bigram in the search"""
    insertion: float = 0.0
    """nats that each word gains in the search"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        if not 1 <= self.window <= 51 or self.window % 2 == 0:
            raise UsageError(f"window is {self.window}; it must be an odd number up to 51.")
        for name in ("pretrain_steps", "gaussians"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not 0 <= self.augment <= 2:
            raise UsageError(f"augment is {self.augment}; it must lie in [0, 2].")
        for name in ("acoustic", "gmm_acoustic"):
            if not 0 < getattr(self, name) <= 10:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in (0, 10].")
        if not 0 <= self.language <= 10:
            raise UsageError(f"language is {self.language}; it must lie in [0, 10].")
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)
