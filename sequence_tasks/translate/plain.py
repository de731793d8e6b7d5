"""The encoder-decoder networks of 2014: all that is known of the source is one vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.layers import locked_dropout
from .cells import Cell, in_rows, layers_of
from .data import PAD, Vocabulary
from .options import TranslateOptions
from .stepping import Tensors, Words, linear, unfolded
from .training import TokenLoss, seen


class PlainNetwork(nn.Module):
    """An encoder whose last state is the decoder's first.

    "sutskever" (2014): deep LSTMs; the source is read from its end to its beginning, and the
    whole state is handed over. "cho" (2014): one GRU layer each; a summary c of the source goes
    into the decoder's first state, into each of its steps and into a maxout layer before the
    softmax.

    Args:
        options: of the task.
        vocabulary: tokens of both languages.
    """

    def __init__(self, options: TranslateOptions, vocabulary: Vocabulary):
        super().__init__()
        size, hidden = options.embedding, options.hidden
        self.options, self.vocabulary = options, vocabulary
        self.cho = options.method == "cho"
        self.embed = nn.Embedding(vocabulary.target.size, size, padding_idx=PAD)
        self.embed_source = nn.Embedding(vocabulary.source.size, size, padding_idx=PAD)
        deep: dict[str, Any] = {"hidden": hidden}
        if not self.cho:
            deep |= {"layers": options.decoder_layers, "dropout": options.dropout}
        self.backbone = create_backbone("gru" if self.cho else "lstm", (size,), **deep)
        width = size + hidden if self.cho else size
        self.decoder = create_backbone("gru" if self.cho else "lstm", (width,), **deep)
        if self.cho:
            self.summary = nn.Linear(hidden, hidden)
            self.bridge = nn.Linear(hidden, hidden)
            self.maxout = nn.Linear(hidden + size + hidden, 2 * size)
        self.output = nn.Linear(size if self.cho else hidden, vocabulary.target.size)
        self.token_loss = TokenLoss(options.label_smoothing)
        if not self.cho:
            for parameter in self.parameters():  # as the paper does
                nn.init.uniform_(parameter, -0.08, 0.08)

    def forward(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Losses; see `AttentionNetwork.forward`. Sutskever's "loss" is a mean over sentences."""
        vectors = self._before_softmax(source, target[:, :-1])
        labels = target[:, 1:]
        told = labels != PAD
        weight, bias = self.output.weight, self.output.bias
        found = self.token_loss(vectors[told], weight, bias, labels[told])
        if not self.cho:  # its learning rate and clipping are of sums over sentences
            found["loss"] = found["loss"] * (told.sum() / len(target))
        return found

    def surprise(self, source: Tensor, target: Tensor) -> Tensor:
        """Nats of each target token, float32 (B, T - 1), 0 at padding."""
        logits = self.output(self._before_softmax(source, target[:, :-1])).float()
        labels = target[:, 1:]
        lost = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return lost.view_as(labels).masked_fill(labels == PAD, 0)

    def read(self, source: Tensor) -> tuple[Tensors, Tensor | None]:
        """The decoder's first state and, of Cho's network, the summary (B, H)."""
        source = source.flip(1) if not self.cho else padding_first(source)
        mask = source != PAD
        x = seen(self.embed_source(source), self.options.word_dropout, self.training)
        x = locked_dropout(x, self.options.dropout, self.training)
        # Padding stands before the sentence; the state is zeroed where the sentence begins.
        starts = ~mask[:, :-1] & mask[:, 1:]
        reset = torch.cat([torch.zeros_like(mask[:, :1]), starts], 1)
        _, state = self.backbone(x, None, reset)
        if not self.cho:
            return state, None
        summary = torch.tanh(self.summary(state[0][-1]))
        first = torch.tanh(self.bridge(summary))[None]
        return (first.to(state[0].dtype),), summary

    def _before_softmax(self, source: Tensor, said: Tensor) -> Tensor:
        state, summary = self.read(source)
        x = seen(self.embed(said), self.options.word_dropout, self.training)
        x = locked_dropout(x, self.options.dropout, self.training)
        if summary is None:
            outputs, _ = self.decoder(x, state)
            return locked_dropout(outputs, self.options.dropout, self.training)
        c = summary[:, None].expand(-1, x.shape[1], -1).to(x.dtype)
        outputs, _ = self.decoder(torch.cat([x, c], -1), state)
        outputs = locked_dropout(outputs, self.options.dropout, self.training)
        return pairs_best(self.maxout(torch.cat([outputs, x.to(outputs.dtype), c], -1)))

    def stepper(self, dtype: torch.dtype) -> PlainStepper:
        """What beam search drives, computing in `dtype`."""
        return PlainStepper(self, dtype)


class PlainStepper:
    """Steps of a `PlainNetwork` in evaluation mode; see `Stepper`."""

    def __init__(self, network: PlainNetwork, dtype: torch.dtype):
        self.network, self.dtype = network, dtype
        self.cells = [Cell(layer, dtype) for layer in layers_of([network.decoder])]
        self.words = Words(network.output.weight, network.output.bias, dtype)
        if network.cho:
            self.maxout = linear(network.maxout, dtype)

    def start(self, source: Tensor) -> tuple[Tensors, Tensors]:
        """See `Stepper.start`."""
        low = self.dtype != torch.float32
        with torch.autocast(source.device.type, self.dtype, enabled=low):
            state, summary = self.network.read(source)
        if summary is not None:
            return (summary.to(self.dtype),), (state[0][0][:, None].to(self.dtype),)
        hidden, memory = state
        pairs = zip(hidden.to(self.dtype), memory.float(), strict=True)
        return (), tuple(part[:, None] for pair in pairs for part in pair)

    def advance(self, tokens: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """See `Stepper.advance`."""
        batch, beams = tokens.shape
        rows = [in_rows(part) for part in state]
        x = self.network.embed(tokens.reshape(-1)).to(self.dtype)
        after: Tensors = ()
        if self.network.cho:
            c = in_rows(memory[0][:, None].expand(-1, beams, -1))
            hidden, after = self.cells[0](torch.cat([x, c], 1), (rows[0],))
            vectors = pairs_best(self.maxout(torch.cat([hidden, x, c], 1)))
        else:
            vectors = x
            for place, cell in enumerate(self.cells):
                vectors, own = cell(vectors, tuple(rows[2 * place : 2 * place + 2]))
                after += own
        logits = self.words(vectors)
        return logits.view(batch, beams, -1), unfolded(after, batch)


def padding_first(ids: Tensor) -> Tensor:
    """Ids (B, S) with their padding moved to the front, the order of the others kept."""
    order = (ids != PAD).long().argsort(dim=1, stable=True)
    return ids.gather(1, order)


def pairs_best(x: Tensor) -> Tensor:
    """Maxout: the larger of each two neighbours, (..., 2 N) to (..., N)."""
    return x.unflatten(-1, (-1, 2)).amax(-1)
