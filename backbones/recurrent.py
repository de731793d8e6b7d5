"""Recurrent trunks that read sequences with resets in the middle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..errors import UsageError
from .base import register_backbone, require_positive

State = tuple[Tensor, ...]
Sequences = TypeVar("Sequences", Tensor, PackedSequence)


@register_backbone(
    kind="recurrent",
    default_in_shape=(64,),
    paper="Hochreiter and Schmidhuber 1997; projection: Sak et al. 2014",
)
def lstm(
    in_shape: tuple[int, ...],
    hidden: int = 256,
    layers: int = 1,
    projection: int = 0,
    layer_norm: bool = False,
    bidirectional: bool = False,
    dropout: float = 0.0,
    weight_dropout: float = 0.0,
) -> nn.Module:
    """Long short-term memory with a reset mask.

    Args:
        hidden: length of a layer's cell state.
        layers: number of layers.
        projection: length that the output is projected to before it is fed back (Sak 2014),
            below `hidden`; 0 for none. torch has no fused CPU kernel for it, and says so once.
        layer_norm: normalise each layer's output, which keeps the fused kernels in use.
        bidirectional: also read backwards; for whole sequences only, so no state goes in.
        dropout: share of what passes from one layer to the next that is dropped in training;
            the mask is drawn once for a sequence (Gal and Ghahramani 2016).
        weight_dropout: share of the recurrent weights that is dropped in training, drawn once
            for a batch (Merity et al. 2017, AWD-LSTM); not with a projection.
    """
    require_positive("lstm", hidden=hidden, layers=layers)
    require_dropout("lstm", dropout, weight_dropout, projection)
    if not 0 <= projection < hidden:
        raise UsageError(f"lstm: projection is from 1 to {hidden - 1}, or 0, not {projection}.")
    directions = 2 if bidirectional else 1
    size = (projection or hidden) * directions
    stack = [
        nn.LSTM(
            size if index else in_shape[0],
            hidden,
            batch_first=True,
            proj_size=projection,
            bidirectional=bidirectional,
        )
        for index in range(layers)
    ]
    return RecurrentTrunk(
        stack,
        size,
        (projection or hidden, hidden),
        directions,
        layer_norm=layer_norm,
        dropout=dropout,
        weight_dropout=weight_dropout,
    )


@register_backbone(kind="recurrent", default_in_shape=(64,), paper="Cho et al. 2014")
def gru(
    in_shape: tuple[int, ...],
    hidden: int = 256,
    layers: int = 1,
    layer_norm: bool = False,
    bidirectional: bool = False,
) -> nn.Module:
    """Gated recurrent units with a reset mask.

    Args:
        hidden: length of a layer's state.
        layers: number of layers.
        layer_norm: normalise each layer's output, which keeps the fused kernels in use.
        bidirectional: also read backwards; for whole sequences only, so no state goes in.
    """
    require_positive("gru", hidden=hidden, layers=layers)
    directions = 2 if bidirectional else 1
    size = hidden * directions
    stack = [
        nn.GRU(
            size if index else in_shape[0], hidden, batch_first=True, bidirectional=bidirectional
        )
        for index in range(layers)
    ]
    return RecurrentTrunk(stack, size, (hidden,), directions, layer_norm=layer_norm)


def require_dropout(
    backbone: str, dropout: float, weight_dropout: float = 0.0, projection: int = 0
) -> None:
    """Raises UsageError unless both shares lie in [0, 1) and suit the network."""
    for name, value in (("dropout", dropout), ("weight_dropout", weight_dropout)):
        if not 0 <= value < 1:
            raise UsageError(f"{backbone}: {name} lies in [0, 1), not {value}.")
    if weight_dropout and projection:
        raise UsageError(f"{backbone}: weight_dropout needs a network without projection.")


class RecurrentTrunk(nn.Module):
    """Layers of one recurrent kind; `forward` documents shapes.

    Args:
        stack: batch-first `nn.LSTM` or `nn.GRU` modules of one layer each.
        width: length of a layer's output, all directions together.
        state_sizes: length of each part of the state: (h, c) of an LSTM, (h,) of a GRU.
        directions: 1, or 2 when the layers are bidirectional.
        layer_norm: whether each layer's output is normalised.
        dropout: share dropped between layers in training.
        weight_dropout: share of the recurrent weights, of `nn.LSTM`, dropped in training.
        skips: each layer above the first reads the output of the one below and the input, in
            this order, and the trunk's output is that of all layers, the first one first.
    """

    def __init__(
        self,
        stack: Sequence[nn.Module],
        width: int,
        state_sizes: tuple[int, ...],
        directions: int,
        *,
        layer_norm: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        skips: bool = False,
    ):
        super().__init__()
        self.stack = nn.ModuleList(stack)
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if layer_norm else nn.Identity() for _ in stack
        )
        self.out_features = width * len(stack) if skips else width
        self.dropout = dropout
        self.weight_dropout = weight_dropout
        self.skips = skips
        self.state_sizes = state_sizes
        self.directions = directions

    def initial_state(self, batch: int) -> State:
        """The state before a sequence: zeros, each part (layers * directions, batch, size)."""
        weight = next(self.parameters())
        rows = len(self.stack) * self.directions
        return tuple(weight.new_zeros(rows, batch, size) for size in self.state_sizes)

    def forward(
        self, x: Tensor, state: State | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Reads sequences.

        Args:
            x: (B, T, F) float.
            state: what the last call returned, or None for zeros; (h, c) for an LSTM and (h,)
                for a GRU, each (layers * directions, B, size).
            reset: (B, T) bool or 0/1; where 1, the state is zeroed before that step, so
                nothing passes from before it to after it (nor back, when bidirectional).

        Returns:
            outputs (B, T, out_features) and the state after the last step; a bidirectional
            network has none to carry on and returns ().

        Raises:
            UsageError: a shape that does not fit, or a state given to a bidirectional network.
        """
        self._check(x, state, reset)
        x = x.to(next(self.parameters()).dtype)
        state = self.initial_state(len(x)) if state is None else state
        if reset is not None:
            reset = reset.to(device=x.device, dtype=torch.bool)
            state = tuple(part.masked_fill(reset[:, :1], 0) for part in state)
        if reset is None or not bool(reset[:, 1:].any()):
            x, state = self._run(x, state)
        else:
            x, state = self._run_pieces(x, state, _cut(reset))
        return x, () if self.directions == 2 else state

    def _run_pieces(self, x: Tensor, state: State, cut: _Pieces) -> tuple[Tensor, State]:
        """Between two resets lies a sequence of its own; one fused call reads all of them."""
        rows = x.reshape(-1, x.shape[-1])[cut.order]
        entry = tuple(
            part.new_zeros(len(part), cut.pieces, part.shape[-1]).index_copy(1, cut.first, part)
            for part in state
        )
        packed, left = self._run(PackedSequence(rows, cut.batch_sizes), entry)
        outputs = packed.data[cut.order.argsort()].reshape(*x.shape[:2], -1)
        return outputs, tuple(part[:, cut.last] for part in left)

    def _run(self, x: Sequences, state: State) -> tuple[Sequences, State]:
        left: list[State] = []
        given, outputs = x, []
        for index, (layer, norm) in enumerate(zip(self.stack, self.norms, strict=True)):
            if index:
                x = _changed(x, self._dropped)
                x = _joined([x, given]) if self.skips else x
            rows = slice(index * self.directions, (index + 1) * self.directions)
            entry = tuple(part[rows].contiguous() for part in state)  # cuDNN asks for it
            if self.training and self.weight_dropout:
                assert isinstance(layer, nn.LSTM)
                x, after = _run_thinned(layer, x, entry, self.weight_dropout)
                left.append(after)
            else:
                x, last = layer(x, entry if len(entry) > 1 else entry[0])
                left.append(last if len(entry) > 1 else (last,))
            x = _changed(x, norm)
            outputs.append(x)
        out = _joined(outputs) if self.skips else x
        return out, tuple(torch.cat(parts) for parts in zip(*left, strict=True))

    def _dropped(self, x: Tensor) -> Tensor:
        """Dropout with one mask for all steps of a sequence; of packed rows, one for each."""
        if not self.training or not self.dropout:
            return x
        mask = torch.ones_like(x[:, :1] if x.ndim == 3 else x)
        return x * F.dropout(mask, self.dropout)

    def _check(self, x: Tensor, state: State | None, reset: Tensor | None) -> None:
        features = self.stack[0].input_size
        if x.ndim != 3 or x.shape[-1] != features or x.shape[1] == 0:
            raise UsageError(
                f"this network reads sequences (B, T, {features}) with T of at least 1, "
                f"not {tuple(x.shape)}."
            )
        if reset is not None and reset.shape != x.shape[:2]:
            raise UsageError(
                f"reset is (B, T), here {tuple(x.shape[:2])}, not {tuple(reset.shape)}."
            )
        if state is None:
            return
        if self.directions == 2:
            raise UsageError(
                "a bidirectional network reads whole sequences: leave out state, "
                "or build it with bidirectional=False."
            )
        wanted = [(len(self.stack), len(x), size) for size in self.state_sizes]
        if [tuple(part.shape) for part in state] != wanted:
            raise UsageError(
                f"state is a tuple of tensors of shapes {wanted}, as the last call returned it; "
                "None begins with zeros."
            )


def _run_thinned(
    layer: nn.LSTM, x: Sequences, entry: State, share: float
) -> tuple[Sequences, State]:
    """An `nn.LSTM` of one layer with a share of its recurrent weights dropped."""
    weights = [
        F.dropout(weight, share) if name.startswith("weight_hh") else weight
        for name, weight in layer.named_parameters()
    ]
    options = (True, 1, 0.0, True, layer.bidirectional)
    if isinstance(x, PackedSequence):
        rows, h, c = torch.lstm(x.data, x.batch_sizes, entry, weights, *options)
        return PackedSequence(rows, x.batch_sizes), (h, c)
    out, h, c = torch.lstm(x, entry, weights, *options, layer.batch_first)
    return out, (h, c)


def _changed(x: Sequences, change: Callable[[Tensor], Tensor]) -> Sequences:
    if isinstance(x, PackedSequence):
        return PackedSequence(change(x.data), x.batch_sizes)
    return change(x)


def _joined(parts: Sequence[Sequences]) -> Sequences:
    """Vectors put behind each other, step by step."""
    first = parts[0]
    if isinstance(first, PackedSequence):
        return PackedSequence(torch.cat([p.data for p in parts], -1), first.batch_sizes)
    return torch.cat(list(parts), -1)


class _Pieces(NamedTuple):
    """How (B, T) steps fall into pieces that begin at resets, longest piece first."""

    order: Tensor  # (B * T,) flat step of every row of the packed data
    batch_sizes: Tensor  # (longest piece,) pieces that still run at each step, on the CPU
    first: Tensor  # (B,) the piece that each sequence begins with
    last: Tensor  # (B,) and the one that it ends with
    pieces: int  # how many


def _cut(reset: Tensor) -> _Pieces:
    """Cuts (B, T) steps, `reset` a bool mask on their device, at the resets."""
    starts = reset.clone()
    starts[:, 0] = True
    piece = starts.flatten().cumsum(0) - 1
    lengths = piece.bincount()
    rank = lengths.argsort(descending=True, stable=True).argsort()
    step_in_piece = torch.arange(len(piece), device=piece.device)
    step_in_piece = step_in_piece - (lengths.cumsum(0) - lengths)[piece]
    piece = rank[piece]
    # Packed data holds step 0 of all pieces, then step 1 of those that have one, and so on.
    order = (step_in_piece * len(lengths) + piece).argsort()
    by_sequence = piece.reshape(reset.shape)
    return _Pieces(
        order,
        step_in_piece.bincount().cpu(),
        by_sequence[:, 0],
        by_sequence[:, -1],
        len(lengths),
    )
