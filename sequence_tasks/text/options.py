"""What can be chosen of a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError
from ...registry import json_object


@dataclass(frozen=True)
class TextOptions:
    """How text is modelled."""

    tokens: Literal["characters", "words", "bpe"] = "characters"
    """what is predicted one after another; bpe are pieces of words learnt from the text"""
    vocabulary: int = 0
    """most tokens; 0 for all characters, 10,000 words or 2,000 pieces"""
    backbone: str = "lstm"
    """recurrent trunk from the registry: lstm, gru, skip_lstm, mrnn, mlstm"""
    backbone_options: str = '{"hidden": 512, "layers": 2}'
    """JSON object of options for the backbone, such as '{"hidden": 512, "dropout": 0.3}'"""
    embedding: int = 64
    """length of the vector that a token becomes"""
    tied: bool = False
    """score tokens by their own vectors, behind a linear layer where lengths differ"""
    context: int = 256
    """tokens of a training example; each example begins with an empty state"""
    input_dropout: float = 0.0
    """share of an embedding's entries dropped in training, the same at all steps"""
    token_dropout: float = 0.0
    """share of the vocabulary whose embeddings are dropped in a training step"""
    output_dropout: float = 0.0
    """share of the trunk's output dropped in training, the same at all steps"""
    train_on: Literal["trainval", "train"] = "trainval"
    """all of the first 90 % of the text, or without its last 5 %, which then judges training"""
    dynamic: bool = False
    """also score the test part by dynamic evaluation, which takes minutes"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        for name in ("embedding", "context"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.vocabulary < 0:
            raise UsageError(f"vocabulary is {self.vocabulary}; it must not be below 0.")
        for name in ("input_dropout", "token_dropout", "output_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        self.backbone_kwargs()

    @property
    def vocabulary_size(self) -> int:
        """Most tokens, as `learn_tokens` takes it."""
        return self.vocabulary or {"characters": 0, "words": 10_000, "bpe": 2_000}[self.tokens]

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)
