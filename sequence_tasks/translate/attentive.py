"""The network with attention: all its recurrent layers run over whole sequences in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.attention import Attention, create_attention
from ...backbones.layers import locked_dropout
from .cells import Cell, in_rows, layers_of
from .data import PAD, Vocabulary
from .options import TranslateOptions
from .stepping import Tensors, Words, linear, unfolded
from .training import TokenLoss, seen


class AttentionNetwork(nn.Module):
    """A bidirectional encoder, and a decoder whose attention waits for no step of its own.

    The first decoder layer reads the words said so far. What attention finds by its outputs goes,
    with them, into the second layer (as in GNMT, Wu 2016) and, at last, into the layer before
    the softmax (Luong 2015). No layer needs the attention of the step before, so each runs over
    the whole sentence at once. Input, output and, with shared tokens, source embeddings are one.

    Args:
        options: of the task.
        vocabulary: tokens of both languages.
    """

    def __init__(self, options: TranslateOptions, vocabulary: Vocabulary):
        super().__init__()
        size, hidden, memory = options.embedding, options.hidden, 2 * options.encoder_hidden
        self.options, self.vocabulary = options, vocabulary
        self.embed = nn.Embedding(vocabulary.target.size, size, padding_idx=PAD)
        self.embed_source = (
            self.embed
            if vocabulary.shared
            else nn.Embedding(vocabulary.source.size, size, padding_idx=PAD)
        )
        deep: dict[str, Any] = {"layers": options.encoder_layers, "bidirectional": True}
        if options.cell == "lstm" and options.encoder_layers > 1:
            deep["dropout"] = options.dropout
        self.backbone = create_backbone(
            options.cell, (size,), hidden=options.encoder_hidden, **deep
        )
        self.parts = 2 if options.cell == "lstm" else 1  # of a layer's state
        rows = options.decoder_layers * self.parts
        self.bridge = nn.Linear(memory, hidden * rows)
        self.lower = create_backbone(options.cell, (size,), hidden=hidden)
        self.attention: Attention = create_attention(options.attention, hidden, memory, hidden)
        self.upper = None
        if options.decoder_layers == 2:
            self.upper = create_backbone(options.cell, (hidden + memory,), hidden=hidden)
        self.before = nn.Linear(hidden + memory, size)
        self.bias = nn.Parameter(torch.zeros(vocabulary.target.size))
        self.token_loss = TokenLoss(options.label_smoothing)
        for table in dict.fromkeys((self.embed, self.embed_source)):
            nn.init.normal_(table.weight, std=size**-0.5)

    def forward(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Losses of sentences and their translations.

        Args:
            source: int64 (B, S), padded.
            target: int64 (B, T), from the begin to the end token, padded.

        Returns:
            "loss", smoothed, and "nll", nats a token, both means over target tokens.
        """
        vectors = self._before_softmax(source, target[:, :-1])[0]
        labels = target[:, 1:]
        told = labels != PAD
        return self.token_loss(vectors[told], self.embed.weight, self.bias, labels[told])

    def surprise(self, source: Tensor, target: Tensor) -> Tensor:
        """Nats of each target token, float32 (B, T - 1), 0 at padding; shapes as in `forward`."""
        vectors = self._before_softmax(source, target[:, :-1])[0]
        labels = target[:, 1:]
        logits = nn.functional.linear(vectors, self.embed.weight, self.bias).float()
        lost = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return lost.view_as(labels).masked_fill(labels == PAD, 0)

    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        """Attention float32 (B, T - 1, S) for each target token behind the first."""
        return self._before_softmax(source, target[:, :-1])[1]

    def _read(self, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Memory (B, S, M), its mask (B, S), and the decoder's first states (B, rows * H)."""
        mask = source != PAD
        x = seen(self.embed_source(source), self.options.word_dropout, self.training)
        x = locked_dropout(x, self.options.dropout, self.training)
        # Where padding begins, a sequence of its own begins: the backward layer starts at the
        # sentence's last word.
        starts = mask[:, :-1] & ~mask[:, 1:]
        reset = torch.cat([torch.zeros_like(mask[:, :1]), starts], 1)
        outputs, _ = self.backbone(x, None, reset)
        outputs = locked_dropout(outputs, self.options.dropout, self.training)
        half = outputs.shape[-1] // 2
        last = mask.sum(1) - 1
        forwards = outputs[torch.arange(len(source), device=source.device), last, :half]
        first = torch.tanh(self.bridge(torch.cat([forwards, outputs[:, 0, half:]], 1)))
        return outputs, mask, first

    def _before_softmax(self, source: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        memory, mask, first = self._read(source)
        states = first.chunk(self.options.decoder_layers, 1)
        x = seen(self.embed(said), self.options.word_dropout, self.training)
        x = locked_dropout(x, self.options.dropout, self.training)
        lower, _ = self.lower(x, self._state(states[0]))
        lower = locked_dropout(lower, self.options.dropout, self.training)
        read, weights = self.attention(lower, self.attention.keys(memory), memory, mask)
        both = torch.cat([lower, read.to(lower.dtype)], -1)
        if self.upper is not None:
            upper, _ = self.upper(both, self._state(states[1]))
            upper = locked_dropout(upper, self.options.dropout, self.training)
            both = torch.cat([upper + lower, read.to(upper.dtype)], -1)
        vectors = torch.tanh(self.before(both))
        return locked_dropout(vectors, self.options.dropout, self.training), weights

    def _state(self, first: Tensor) -> Tensors:
        dtype = self.bridge.weight.dtype
        return tuple(part[None].to(dtype).contiguous() for part in first.chunk(self.parts, 1))

    def stepper(self, dtype: torch.dtype) -> AttentionStepper:
        """What beam search drives, computing in `dtype`."""
        return AttentionStepper(self, dtype)


class AttentionStepper:
    """Steps of an `AttentionNetwork` in evaluation mode; see `Stepper`."""

    def __init__(self, network: AttentionNetwork, dtype: torch.dtype):
        self.network, self.dtype = network, dtype
        trunks = [network.lower] + ([network.upper] if network.upper is not None else [])
        self.cells = [Cell(layer, dtype) for layer in layers_of(trunks)]
        self.before = linear(network.before, dtype)
        self.words = Words(network.embed.weight, network.bias, dtype)
        self.attention: Attention = network.attention
        if dtype != torch.float32:
            self.attention = _attention_in(network, dtype)

    def start(self, source: Tensor) -> tuple[Tensors, Tensors]:
        """See `Stepper.start`."""
        low = self.dtype != torch.float32
        with torch.autocast(source.device.type, self.dtype, enabled=low):
            values, mask, first = self.network._read(source)
        values = values.to(self.dtype)
        state = first.float().chunk(len(self.cells) * self.network.parts, 1)
        made = tuple(part[:, None] for part in state)
        parts = self.network.parts
        # Only the LSTM's memory stays float32.
        made = tuple(
            part if parts == 2 and place % 2 else part.to(self.dtype)
            for place, part in enumerate(made)
        )
        return (self.attention.keys(values), values, mask), made

    def advance(self, tokens: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """See `Stepper.advance`."""
        keys, values, mask = memory
        batch, parts = len(tokens), self.network.parts
        rows = tuple(in_rows(part) for part in state)
        x = self.network.embed(tokens.reshape(-1))
        lower, after = self.cells[0](x, rows[:parts])
        queries = lower.view(batch, -1, lower.shape[-1])
        read = in_rows(self.attention(queries, keys, values, mask)[0])
        both = torch.cat([lower, read], -1)
        if len(self.cells) == 2:
            upper, more = self.cells[1](both, rows[parts:])
            after += more
            both = torch.cat([upper + lower, read], -1)
        logits = self.words(torch.tanh(self.before(both)))
        return logits.view(batch, -1, logits.shape[-1]), unfolded(after, batch)


def _attention_in(network: AttentionNetwork, dtype: torch.dtype) -> Attention:
    options = network.options
    size = options.hidden
    with torch.random.fork_rng([]):
        copy = create_attention(options.attention, size, 2 * options.encoder_hidden, size)
    copy.load_state_dict(network.attention.state_dict())
    device = network.bias.device
    return copy.to(device=device, dtype=dtype).requires_grad_(False).eval()
