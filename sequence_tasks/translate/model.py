"""The networks by their methods, and the loss that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...tasks import Batch, Moment
from .attentive import AttentionNetwork
from .data import Vocabulary
from .options import TranslateOptions
from .plain import PlainNetwork


def build_model(options: TranslateOptions, facts: Mapping[str, Any]) -> nn.Module:
    """The network of `options.method`, freshly initialised; see `Task.build_model`."""
    vocabulary = Vocabulary.of(facts)
    if options.method == "attention":
        return AttentionNetwork(options, vocabulary)
    return PlainNetwork(options, vocabulary)


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """Smoothed cross entropy of the target's tokens; see `Task.loss`."""
    found: Mapping[str, Tensor] = model(batch["source"], batch["target"])
    return found
