"""The deep recurrent trunk of Graves 2013, whose layers all see the input."""

from __future__ import annotations

from torch import nn

from .base import register_backbone, require_positive
from .recurrent import RecurrentTrunk, require_dropout


@register_backbone(
    kind="recurrent",
    default_in_shape=(64,),
    paper="Graves 2013, Generating Sequences With Recurrent Neural Networks, figure 1",
)
def skip_lstm(
    in_shape: tuple[int, ...],
    hidden: int = 256,
    layers: int = 3,
    layer_norm: bool = False,
    dropout: float = 0.0,
    weight_dropout: float = 0.0,
) -> nn.Module:
    """LSTM layers that all read the input and all write to the output.

    Layer n reads the output of layer n - 1 and the input; the trunk's output, of length
    `hidden * layers`, is that of all layers, the first one first. The cells have no peepholes,
    unlike those of the paper: torch's fused kernels know none.

    Args:
        hidden: length of a layer's cell state.
        layers: number of layers.
        layer_norm: normalise each layer's output, which keeps the fused kernels in use.
        dropout: share of what passes from one layer to the next that is dropped in training;
            the mask is drawn once for a sequence (Gal and Ghahramani 2016).
        weight_dropout: share of the recurrent weights that is dropped in training, drawn once
            for a batch (Merity et al. 2017, AWD-LSTM).
    """
    require_positive("skip_lstm", hidden=hidden, layers=layers)
    require_dropout("skip_lstm", dropout, weight_dropout)
    features = in_shape[0]
    stack = [
        nn.LSTM(features + hidden if index else features, hidden, batch_first=True)
        for index in range(layers)
    ]
    return RecurrentTrunk(
        stack,
        hidden,
        (hidden, hidden),
        1,
        layer_norm=layer_norm,
        dropout=dropout,
        weight_dropout=weight_dropout,
        skips=True,
    )
