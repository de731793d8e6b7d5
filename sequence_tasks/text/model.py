"""A language model: embedding, recurrent trunk, scores of the next token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import BACKBONES, create_backbone
from ...backbones.layers import locked_dropout
from ...backbones.recurrent import State
from ...errors import UsageError
from ...tasks import Batch, Moment
from .options import TextOptions


class TextModel(nn.Module):
    """Scores of the next token after each token that was read.

    Args:
        backbone: a recurrent trunk of the registry that reads vectors of `options.embedding`.
        size: tokens of the vocabulary.
        options: of the task.

    Attributes:
        embedding: vectors of tokens.
        backbone: the trunk.
        bridge: from the trunk's output to the embedding's length where weights are tied.
        head: scores of tokens.
        dynamic: whether the test part is also scored by dynamic evaluation.
    """

    def __init__(self, backbone: nn.Module, size: int, options: TextOptions):
        super().__init__()
        width = int(backbone.out_features)  # type: ignore[arg-type]  # create_backbone checks it
        self.embedding = nn.Embedding(size, options.embedding)
        self.backbone = backbone
        bridged = options.tied and width != options.embedding
        self.bridge = nn.Linear(width, options.embedding) if bridged else nn.Identity()
        self.head = nn.Linear(options.embedding if options.tied else width, size)
        if options.tied:
            nn.init.normal_(self.embedding.weight, std=options.embedding**-0.5)
            self.head.weight = self.embedding.weight
        self.input_dropout = options.input_dropout
        self.token_dropout = options.token_dropout
        self.output_dropout = options.output_dropout
        self.dynamic = options.dynamic

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Reads tokens.

        Args:
            ids: int64 (B, T).
            state: what the last call returned; None at the beginning of a text.

        Returns:
            Scores of the next token (B, T, vocabulary), and the state after the last one.
        """
        x = locked_dropout(self._vectors(ids), self.input_dropout, self.training)
        x, state = self.backbone(x, state)
        x = locked_dropout(x, self.output_dropout, self.training)
        return self.head(self.bridge(x)), state

    def _vectors(self, ids: Tensor) -> Tensor:
        weight = self.embedding.weight
        if self.training and self.token_dropout:
            kept = F.dropout(weight.new_ones(len(weight), 1), self.token_dropout)
            weight = weight * kept
        return F.embedding(ids, weight)


def build_model(options: TextOptions, facts: Mapping[str, Any]) -> TextModel:
    """A freshly initialised model for the vocabulary of `facts`.

    Raises:
        UsageError: the backbone is unknown, not recurrent, or reads in both directions.
    """
    kwargs = options.backbone_kwargs()
    if BACKBONES[options.backbone].kind != "recurrent":
        raise UsageError(f"{options.backbone} reads no sequences; name one such as lstm.")
    if kwargs.get("bidirectional"):
        raise UsageError("what comes next is predicted from what was; leave out bidirectional.")
    backbone = create_backbone(options.backbone, (options.embedding,), **kwargs)
    open_forget_gates(backbone)
    return TextModel(backbone, int(facts["vocabulary"]), options)


def open_forget_gates(backbone: nn.Module) -> None:
    """Sets the forget gates' biases of all `nn.LSTM` to 1 (Gers et al. 2000; Jozefowicz 2015)."""
    for layer in backbone.modules():
        if isinstance(layer, nn.LSTM):
            for name, bias in layer.named_parameters():
                if name.startswith("bias_hh"):
                    with torch.no_grad():
                        bias[layer.hidden_size : 2 * layer.hidden_size] = 1.0


def loss(model: nn.Module, batch: Batch, moment: Moment) -> dict[str, Tensor]:
    """Cross entropy of the next token, nats.

    Args:
        model: a `TextModel`, perhaps wrapped.
        batch: "ids" int64 (B, T + 1).
        moment: not looked at.

    Returns:
        "loss".
    """
    ids = batch["ids"]
    scores, _ = model(ids[:, :-1])
    return {"loss": F.cross_entropy(scores.flatten(0, 1).float(), ids[:, 1:].flatten())}
