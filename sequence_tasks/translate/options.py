"""What can be chosen of a translator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import UsageError


@dataclass(frozen=True)
class TranslateOptions:
    """What is translated, and by which network."""

    source: str = "en"
    """language to translate from, as the files' names end"""
    target: str = "de"
    """language to translate into"""
    test_set: str = "test"
    """sentences that are scored: files of this name; of multi30k test is test_2016_flickr"""
    method: Literal["attention", "sutskever", "cho"] = "attention"
    """attention; deep LSTMs on the reversed source (Sutskever 2014); GRUs and maxout (Cho 2014)"""
    tokens: Literal["bpe", "words", "characters"] = "bpe"
    """what a text is cut into; pieces of bpe are shared by both languages"""
    vocabulary: int = 6000
    """most tokens: of both languages together with bpe, of each with words or characters"""
    piece_dropout: float = 0.0
    """chance that bpe leaves out a merge, drawn anew each epoch (Provilkov 2020)"""
    embedding: int = 384
    """length of a token's vector"""
    cell: Literal["lstm", "gru"] = "lstm"
    """recurrent layers of the network with attention"""
    encoder_hidden: int = 256
    """length of the encoder's state, in each direction where it reads in both"""
    encoder_layers: int = 1
    """layers of the encoder"""
    hidden: int = 512
    """length of the decoder's state; of both states in the networks of 2014"""
    decoder_layers: int = 2
    """layers of the decoder; with attention 1 or 2, the second one reads what was attended to"""
    attention: Literal["general", "dot", "additive"] = "general"
    """how sources are compared with what is to be said (Luong 2015, Bahdanau 2015)"""
    dropout: float = 0.3
    """share of values between layers that is dropped in training"""
    word_dropout: float = 0.1
    """share of tokens that the network does not see in training"""
    label_smoothing: float = 0.1
    """share of the target's probability that is spread over all tokens"""
    longest: int = 80
    """training pairs with more tokens on one side are left out"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        for name in ("dropout", "word_dropout", "label_smoothing", "piece_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        for name in ("embedding", "encoder_hidden", "encoder_layers", "hidden", "decoder_layers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.method == "attention" and self.decoder_layers > 2:
            raise UsageError(
                f"decoder_layers is {self.decoder_layers}; with attention it is 1 or 2."
            )
        if self.vocabulary < 8:
            raise UsageError(f"vocabulary is {self.vocabulary}; it must be 8 or more.")
        if self.longest < 2:
            raise UsageError(f"longest is {self.longest}; it must be 2 or more.")
        if self.piece_dropout and self.tokens != "bpe":
            raise UsageError("piece_dropout is for bpe only; set --piece-dropout 0.")
        if self.source == self.target:
            raise UsageError(f"source and target are both {self.source!r}; name two languages.")
