"""Single steps of recurrent layers, for decoding: weights are laid out once, not at each step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, ...]


class Cell:
    """One step of a one-directional `nn.LSTM` or `nn.GRU` layer.

    Args:
        layer: the layer.
        dtype: in which its matrices multiply.
    """

    def __init__(self, layer: nn.Module, dtype: torch.dtype):
        assert isinstance(layer, nn.LSTM | nn.GRU)
        self.lstm = isinstance(layer, nn.LSTM)
        self.dtype = dtype
        held = {name: tensor.detach() for name, tensor in layer.named_parameters()}
        entry, kept = held["weight_ih_l0"], held["weight_hh_l0"]
        bias_in, bias_kept = held["bias_ih_l0"], held["bias_hh_l0"]
        if self.lstm:
            self.weight = torch.cat([entry, kept], 1).to(dtype).contiguous()
            self.bias = (bias_in + bias_kept).to(dtype)
        else:
            self.weight, self.kept = entry.to(dtype), kept.to(dtype)
            self.bias, self.bias_kept = bias_in.to(dtype), bias_kept.to(dtype)

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads x (N, F); the state is (h, c) or (h,), each (N, H).

        Returns the output (N, H) and the next state.
        """
        if not self.lstm:
            return self._gru(x, state[0])
        hidden, memory = state
        gates = F.linear(torch.cat([x.to(self.dtype), hidden], 1), self.weight, self.bias)
        i, f, g, o = gates.float().chunk(4, 1)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
        hidden = (torch.sigmoid(o) * torch.tanh(memory)).to(self.dtype)
        return hidden, (hidden, memory)

    def _gru(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, State]:
        r, z, n = F.linear(x.to(self.dtype), self.weight, self.bias).float().chunk(3, 1)
        kept = F.linear(hidden.to(self.dtype), self.kept, self.bias_kept).float()
        kept_r, kept_z, kept_n = kept.chunk(3, 1)
        new = torch.tanh(n + torch.sigmoid(r + kept_r) * kept_n)
        share = torch.sigmoid(z + kept_z)
        hidden = new + share * (hidden - new)
        return hidden.to(self.dtype), (hidden,)


def layers_of(trunks: Sequence[nn.Module]) -> list[nn.Module]:
    """The single layers of recurrent trunks, the lowest first."""
    return [layer for trunk in trunks for layer in trunk.stack]  # type: ignore[union-attr]


def in_rows(tensor: Tensor) -> Tensor:
    """(B, K, F) as (B * K, F)."""
    return tensor.reshape(-1, tensor.shape[-1])
