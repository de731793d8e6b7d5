"""Multiplicative recurrent trunks: each input chooses its own transition of the state.

Both read `u = W_mh h`, the state in factors, scale it by the input's own factors `m = W_mx x * u`
and build the new state from `m` and `x`. All products with inputs are one matrix product for a
sequence; so are all gradients of weights, which torch's autograd would sum up step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from .base import register_backbone, require_positive
from .recurrent import State, require_dropout


@register_backbone(
    kind="recurrent",
    default_in_shape=(64,),
    paper="Sutskever, Martens and Hinton 2011, Generating Text with Recurrent Neural Networks",
)
def mrnn(
    in_shape: tuple[int, ...], hidden: int = 512, factors: int = 0, weight_dropout: float = 0.0
) -> nn.Module:
    """Multiplicative RNN: the input scales the factors of the transition matrix.

    Args:
        hidden: length of the state.
        factors: of the transition matrix; 0 for as many as `hidden`.
        weight_dropout: share of the recurrent weights that is dropped in training, drawn once
            for a batch.
    """
    require_positive("mrnn", hidden=hidden)
    require_dropout("mrnn", 0.0, weight_dropout)
    _require_factors("mrnn", factors)
    layer = MultiplicativeLayer(in_shape[0], hidden, factors or hidden, 1)
    return MultiplicativeTrunk(layer, _Mrnn.apply, 1, weight_dropout)


@register_backbone(
    kind="recurrent",
    default_in_shape=(64,),
    paper="Krause et al. 2016, Multiplicative LSTM for Sequence Modelling",
)
def mlstm(
    in_shape: tuple[int, ...], hidden: int = 512, factors: int = 0, weight_dropout: float = 0.0
) -> nn.Module:
    """Multiplicative LSTM: gates read the state after the input has scaled its factors.

    Args:
        hidden: length of the cell state.
        factors: of the state that the gates read; 0 for as many as `hidden`.
        weight_dropout: share of the recurrent weights that is dropped in training, drawn once
            for a batch.
    """
    require_positive("mlstm", hidden=hidden)
    require_dropout("mlstm", 0.0, weight_dropout)
    _require_factors("mlstm", factors)
    layer = MultiplicativeLayer(in_shape[0], hidden, factors or hidden, 4)
    with torch.no_grad():
        layer.bias[hidden : 2 * hidden] = 1.0  # forget gates are open at first
    return MultiplicativeTrunk(layer, _Mlstm.apply, 2, weight_dropout)


def _require_factors(backbone: str, factors: int) -> None:
    if factors < 0:
        raise UsageError(f"{backbone}: factors is a number or 0 for hidden, not {factors}.")


class MultiplicativeLayer(nn.Module):
    """Weights of a layer; `MultiplicativeTrunk` reads with them.

    Args:
        features: length of an input.
        hidden: length of the state.
        factors: that the state is seen in.
        gates: how many vectors of `hidden` are made from factors and input.
    """

    def __init__(self, features: int, hidden: int, factors: int, gates: int):
        super().__init__()
        self.features, self.hidden = features, hidden

        def matrix(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(rows, columns).uniform_(-1, 1) * columns**-0.5)

        self.input_factors = matrix(factors, features)
        self.state_factors = matrix(factors, hidden)
        self.input_weight = matrix(gates * hidden, features)
        self.factor_weight = matrix(gates * hidden, factors)
        self.bias = nn.Parameter(torch.zeros(gates * hidden))
        with torch.no_grad():
            # Both scales act on one product; without this it would begin far below one.
            self.input_factors.mul_(3**0.5)
            self.state_factors.mul_(3**0.5)


class MultiplicativeTrunk(nn.Module):
    """One multiplicative layer with the contract of `RecurrentTrunk`.

    Args:
        layer: its weights.
        read: reads a sequence, `_Mrnn.apply` or `_Mlstm.apply`.
        parts: of the state: (h,) or (h, c).
        weight_dropout: share of the recurrent weights dropped in training.
    """

    def __init__(
        self,
        layer: MultiplicativeLayer,
        read: Callable[..., tuple[Tensor, ...]],
        parts: int,
        weight_dropout: float,
    ):
        super().__init__()
        self.layer = layer
        self.out_features = layer.hidden
        self.parts = parts
        self.weight_dropout = weight_dropout
        self._read = read

    def initial_state(self, batch: int) -> State:
        """The state before a sequence: zeros, each part (1, batch, hidden)."""
        shape = (1, batch, self.layer.hidden)
        return tuple(self.layer.bias.new_zeros(shape) for _ in range(self.parts))

    def forward(
        self, x: Tensor, state: State | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Reads sequences.

        Args:
            x: (B, T, F) float.
            state: what the last call returned, or None for zeros; each part (1, B, hidden).
            reset: (B, T) bool or 0/1; where 1, the state is zeroed before that step.

        Returns:
            outputs (B, T, hidden) and the state after the last step.

        Raises:
            UsageError: a shape that does not fit.
        """
        self._check(x, state, reset)
        layer = self.layer
        kind = x.device.type
        exact = layer.bias.dtype
        # Sums over many factors are made in the autocast's format, gates and states in the own.
        fast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else exact
        x = x.to(exact)
        state = self.initial_state(len(x)) if state is None else state
        kept = None
        if reset is not None and bool(reset.any()):
            kept = 1 - reset.to(x.device).T.to(exact)[:, :, None]
        steps = x.transpose(0, 1)
        factors = F.linear(steps, layer.input_factors).to(exact)
        inputs = F.linear(steps, layer.input_weight, layer.bias).to(exact)
        weights = [self._thinned(w).to(fast) for w in (layer.state_factors, layer.factor_weight)]
        outputs, *after = self._read(factors, inputs, *weights, kept, *(p[0] for p in state))
        return outputs.transpose(0, 1), tuple(part[None] for part in after)

    def _thinned(self, weight: Tensor) -> Tensor:
        return F.dropout(weight, self.weight_dropout, self.training) if self.training else weight

    def _check(self, x: Tensor, state: State | None, reset: Tensor | None) -> None:
        features = self.layer.features
        if x.ndim != 3 or x.shape[-1] != features or x.shape[1] == 0:
            raise UsageError(
                f"this network reads sequences (B, T, {features}) with T of at least 1, "
                f"not {tuple(x.shape)}."
            )
        if reset is not None and reset.shape != x.shape[:2]:
            raise UsageError(
                f"reset is (B, T), here {tuple(x.shape[:2])}, not {tuple(reset.shape)}."
            )
        wanted = [(1, len(x), self.layer.hidden)] * self.parts
        if state is not None and [tuple(part.shape) for part in state] != wanted:
            raise UsageError(
                f"state is a tuple of tensors of shapes {wanted}, as the last call returned it; "
                "None begins with zeros."
            )


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight` in the weight's number format, as a tensor of the format of `x`."""
    return torch.mm(x.to(weight.dtype), weight).to(x.dtype)


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Of all steps at once: `gradient` (T, B, rows) and `x` (T, B, columns)."""
    rows, columns = gradient.flatten(0, 1).to(weight.dtype), x.flatten(0, 1).to(weight.dtype)
    return torch.mm(rows.T, columns)


class _Mrnn(torch.autograd.Function):
    """h_t = tanh(inputs_t + W (factors_t * V h_{t-1})); all (T, B, ...) but h (B, hidden)."""

    @staticmethod
    def forward(
        ctx: Any,
        factors: Tensor,
        inputs: Tensor,
        v: Tensor,
        w: Tensor,
        kept: Tensor | None,
        h: Tensor,
    ) -> tuple[Tensor, Tensor]:
        read, outputs = torch.empty_like(inputs), torch.empty_like(inputs)
        seen = torch.empty_like(factors)
        v_t, w_t = v.T.contiguous(), w.T.contiguous()
        for t in range(len(inputs)):
            h = read[t].copy_(h if kept is None else h * kept[t])
            u = seen[t].copy_(_product(h, v_t))
            h = torch.tanh(_product(u * factors[t], w_t).add_(inputs[t]), out=outputs[t])
        ctx.save_for_backward(factors, v, w, kept, read, seen, outputs)
        return outputs, h.clone()

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, d_h: Tensor) -> tuple[Tensor | None, ...]:
        factors, v, w, kept, read, seen, outputs = ctx.saved_tensors
        d_inputs, d_seen = torch.empty_like(outputs), torch.empty_like(seen)
        d_factors = torch.empty_like(factors)
        for t in reversed(range(len(outputs))):
            d_h = (d_h + d_outputs[t]) * (1 - outputs[t] ** 2)
            d_m = _product(d_inputs[t].copy_(d_h), w)
            torch.mul(d_m, seen[t], out=d_factors[t])
            d_h = _product(torch.mul(d_m, factors[t], out=d_seen[t]), v)
            d_h = d_h if kept is None else d_h * kept[t]
        d_v = _weight_gradient(d_seen, read, v)
        d_w = _weight_gradient(d_inputs, seen * factors, w)
        return d_factors, d_inputs, d_v, d_w, None, d_h


class _Mlstm(torch.autograd.Function):
    """An LSTM whose gates are inputs_t + W (factors_t * V h_{t-1}), in torch's order i, f, g, o."""

    @staticmethod
    def forward(
        ctx: Any,
        factors: Tensor,
        inputs: Tensor,
        v: Tensor,
        w: Tensor,
        kept: Tensor | None,
        h: Tensor,
        c: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, batch, hidden = *inputs.shape[:2], inputs.shape[2] // 4
        gates, seen = torch.empty_like(inputs), torch.empty_like(factors)
        read, outputs, before, cells = inputs.new_empty(4, steps, batch, hidden)
        v_t, w_t = v.T.contiguous(), w.T.contiguous()
        for t in range(steps):
            h = read[t].copy_(h if kept is None else h * kept[t])
            c = before[t].copy_(c if kept is None else c * kept[t])
            u = seen[t].copy_(_product(h, v_t))
            z = torch.add(_product(u * factors[t], w_t), inputs[t], out=gates[t])
            z[:, : 2 * hidden].sigmoid_()
            z[:, 2 * hidden : 3 * hidden].tanh_()
            z[:, 3 * hidden :].sigmoid_()
            i, f, g, o = z.chunk(4, dim=1)
            c = torch.mul(f, c, out=cells[t]).addcmul_(i, g)
            h = torch.mul(o, c.tanh(), out=outputs[t])
        ctx.save_for_backward(factors, v, w, kept, read, seen, gates, before, cells)
        return outputs, h.clone(), c.clone()

    @staticmethod
    def backward(
        ctx: Any, d_outputs: Tensor, d_h: Tensor, d_c: Tensor
    ) -> tuple[Tensor | None, ...]:
        factors, v, w, kept, read, seen, gates, before, cells = ctx.saved_tensors
        d_gates, d_seen = torch.empty_like(gates), torch.empty_like(seen)
        d_factors = torch.empty_like(factors)
        for t in reversed(range(len(gates))):
            d_h = d_h + d_outputs[t]
            i, f, g, o = gates[t].chunk(4, dim=1)
            tanh_c = cells[t].tanh()
            d_c = torch.addcmul(d_c, d_h * o, 1 - tanh_c**2)
            d_i, d_f, d_g, d_o = d_gates[t].chunk(4, dim=1)
            torch.mul(d_c * g, i * (1 - i), out=d_i)
            torch.mul(d_c * before[t], f * (1 - f), out=d_f)
            torch.mul(d_c * i, 1 - g**2, out=d_g)
            torch.mul(d_h * tanh_c, o * (1 - o), out=d_o)
            d_m = _product(d_gates[t], w)
            torch.mul(d_m, seen[t], out=d_factors[t])
            d_h = _product(torch.mul(d_m, factors[t], out=d_seen[t]), v)
            d_c = d_c * f
            if kept is not None:
                d_h, d_c = d_h * kept[t], d_c * kept[t]
        d_v = _weight_gradient(d_seen, read, v)
        d_w = _weight_gradient(d_gates, seen * factors, w)
        return d_factors, d_gates, d_v, d_w, None, d_h, d_c
