"""The first layer of the synthesis network: an LSTM with a soft window over the text.

Graves 2013, equations 46 to 51. The window of one step is read by the same layer at the next step,
so this layer alone needs a loop over time. The loop does as little as can be: what the layer reads
of the strokes is multiplied by its weights before, for all steps at once; gradients of weights are
made after, in one product each. `tests/` hold it against automatic differentiation.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LARGEST = 10.0
"""largest logarithm of a weight, width or movement of the window"""
_NOTHING = 1e-20
"""weights below it are 0: arithmetic with numbers too small for float32 is many times slower"""


class WindowState(NamedTuple):
    """What the layer carries from step to step.

    Attributes:
        h: (B, H), its output.
        c: (B, H), its cells.
        kappa: (B, K), places of the window's Gaussians, in characters.
        w: (B, C), the window.
    """

    h: Tensor
    c: Tensor
    kappa: Tensor
    w: Tensor


class _Tape(NamedTuple):
    """All that a pass computed; index t is a step, of T + 1 the first is the state before."""

    joined: Tensor  # (T + 1, B, H + C): h and w
    gates: Tensor  # (T, B, 4H): input, forget, output gates and the new content
    cells: Tensor  # (T + 1, B, H)
    squashed: Tensor  # (T, B, H): tanh of the cells
    shape: Tensor  # (T, B, 3K): alpha, beta and the step of kappa
    kappa: Tensor  # (T + 1, B, K)
    bells: Tensor  # (T, B, K, U): exp(-beta (kappa - u)^2)
    phi: Tensor  # (T, B, U)


def _blank_tape(read: Tensor, text: Tensor, state: WindowState) -> _Tape:
    """Room for a pass; only the state before the first step is filled in."""
    steps, batch, _ = read.shape
    hidden, size = state.h.shape[1], state.kappa.shape[1]
    tape = _Tape(
        read.new_empty(steps + 1, batch, hidden + text.shape[2]),
        torch.empty_like(read),
        read.new_empty(steps + 1, batch, hidden),
        read.new_empty(steps, batch, hidden),
        read.new_empty(steps, batch, 3 * size),
        read.new_empty(steps + 1, batch, size),
        read.new_empty(steps, batch, size, text.shape[1]),
        read.new_empty(steps, batch, text.shape[1]),
    )
    tape.joined[0, :, :hidden], tape.joined[0, :, hidden:] = state.h, state.w
    tape.cells[0], tape.kappa[0] = state.c, state.kappa
    return tape


def _run(
    read: Tensor, text: Tensor, weights: tuple[Tensor, Tensor, Tensor], state: WindowState
) -> _Tape:
    """The loop, without gradients.

    Args:
        read: (T, B, 4H), what the layer reads of the strokes, biases included.
        text: (B, U, C), one row a character; zeros behind the end.
        weights: of h and w (4H, H + C); of the window (3K, H) and its bias (3K,).
        state: before the first step.
    """
    hidden, places = state.h.shape[1], text.shape[1]
    recurrent, window, bias = weights[0].t(), weights[1].t(), weights[2]
    tape = _blank_tape(read, text, state)
    places_from_one = torch.arange(1, places + 1, device=read.device, dtype=read.dtype)
    # Views of all steps are made at once: in the loop each would cost as much as the arithmetic.
    squeezed, new = tape.gates[..., : 3 * hidden].unbind(), tape.gates[..., 3 * hidden :].unbind()
    let_in, keep, let_out = (
        tape.gates[..., i * hidden : (i + 1) * hidden].unbind() for i in range(3)
    )
    h, w = tape.joined[1:, :, :hidden].unbind(), tape.joined[1:, :, hidden:].unbind()
    alpha, beta, moved = (part.unbind() for part in tape.shape.chunk(3, 2))
    rows = zip(
        read.unbind(),
        tape.joined.unbind(),
        tape.gates.unbind(),
        tape.squashed.unbind(),
        tape.shape.unbind(),
        tape.bells.unbind(),
        tape.phi.unbind(),
        strict=False,
    )
    cells, kappa = tape.cells.unbind(), tape.kappa.unbind()
    kappa_across = tape.kappa.unsqueeze(3).unbind()
    for t, (given, joined, gates, squashed, shape, bells, phi) in enumerate(rows):
        torch.addmm(given, joined, recurrent, out=gates)
        squeezed[t].sigmoid_()
        new[t].tanh_()
        torch.mul(keep[t], cells[t], out=cells[t + 1]).addcmul_(let_in[t], new[t])
        torch.tanh(cells[t + 1], out=squashed)
        torch.mul(let_out[t], squashed, out=h[t])

        torch.addmm(bias, h[t], window, out=shape).clamp_(max=_LARGEST).exp_()
        torch.add(kappa[t], moved[t], out=kappa[t + 1])
        torch.sub(kappa_across[t + 1], places_from_one, out=bells)
        bells.square_().mul_(beta[t].neg().unsqueeze(2)).exp_()
        torch.threshold_(bells, _NOTHING, 0.0)
        weighed = torch.bmm(alpha[t].unsqueeze(1), bells)
        phi.copy_(weighed.squeeze(1))
        w[t].copy_(torch.bmm(weighed, text).squeeze(1))
    return tape


def _slopes(tape: _Tape) -> tuple[Tensor, Tensor]:
    """By how much gates' inputs move the cell (the output gate: h), and the cell moves h."""
    let_in, keep, let_out, new = tape.gates.chunk(4, 2)
    slopes = torch.cat(
        [
            new * let_in * (1 - let_in),
            tape.cells[:-1] * keep * (1 - keep),
            tape.squashed * let_out * (1 - let_out),
            let_in * (1 - new * new),
        ],
        2,
    )
    return slopes, let_out * (1 - tape.squashed * tape.squashed)


class _WindowLSTM(torch.autograd.Function):
    """`_run` with its gradient. States and text get none; `bound` limits that of the gates."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        read, text, recurrent, window, bias, bound, state = arguments
        tape = _run(read, text, (recurrent, window, bias), state)
        hidden = state.h.shape[1]
        ctx.save_for_backward(text, recurrent, window, bound, *tape)
        ctx.mark_non_differentiable(tape.phi)
        h, w = tape.joined[1:, :, :hidden], tape.joined[1:, :, hidden:]
        return h.clone(), w.clone(), tape.phi

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        for_h, for_w, _ = gradients
        text, recurrent, window, bound, *kept = ctx.saved_tensors
        tape = _Tape(*kept)
        steps, batch, hidden = for_h.shape
        slopes, through = _slopes(tape)
        places = torch.arange(1, text.shape[1] + 1, device=text.device, dtype=text.dtype)
        by_gates, by_shape = torch.empty_like(tape.gates), torch.empty_like(tape.shape)
        later = for_h.new_zeros(batch, hidden + text.shape[2])  # of h and w, from the next step
        later_h, later_w = later[:, :hidden], later[:, hidden:]
        by_cell, by_kappa = torch.zeros_like(tape.cells[0]), torch.zeros_like(tape.kappa[0])
        text_across = text.transpose(1, 2)
        alpha, beta, moved = (part.unbind() for part in tape.shape.chunk(3, 2))
        alpha_across = tape.shape[..., : alpha[0].shape[1]].unsqueeze(3).unbind()
        kappa, bells = tape.kappa[1:].unsqueeze(3).unbind(), tape.bells.unbind()
        keep = tape.gates[..., hidden : 2 * hidden].unbind()
        moves_h, for_h_rows, for_w_rows = through.unbind(), for_h.unbind(), for_w.unbind()
        four = slopes.unflatten(2, (4, hidden)).unbind()
        out_slope = slopes[..., 2 * hidden : 3 * hidden].unbind()
        gate_rows, shape_rows = by_gates.unbind(), by_shape.unbind()
        four_rows = by_gates.unflatten(2, (4, hidden)).unbind()
        out_rows = by_gates[..., 2 * hidden : 3 * hidden].unbind()
        for t in reversed(range(steps)):
            by_phi = torch.bmm((for_w_rows[t] + later_w).unsqueeze(1), text_across)
            pull = (bells[t] * alpha_across[t]).mul_(by_phi)
            away = kappa[t] - places
            pulled = pull * away
            by_kappa = torch.addcmul(by_kappa, beta[t], pulled.sum(2), value=-2)
            by_beta = (pulled.mul_(away)).sum(2).mul_(beta[t]).neg_()
            torch.cat([pull.sum(2), by_beta, by_kappa * moved[t]], 1, out=shape_rows[t])
            by_h = torch.addmm(for_h_rows[t] + later_h, shape_rows[t], window)
            by_cell = torch.addcmul(by_cell, by_h, moves_h[t])
            torch.mul(four[t], by_cell.unsqueeze(1), out=four_rows[t])
            torch.mul(out_slope[t], by_h, out=out_rows[t])
            torch.clamp(gate_rows[t], -bound, bound, out=gate_rows[t])
            torch.mm(gate_rows[t], recurrent, out=later)
            by_cell = by_cell.mul_(keep[t])
        flat_gates, flat_shape = by_gates.flatten(0, 1), by_shape.flatten(0, 1)
        by_recurrent = flat_gates.t() @ tape.joined[:-1].flatten(0, 1)
        by_window = flat_shape.t() @ tape.joined[1:, :, :hidden].flatten(0, 1)
        return by_gates, None, by_recurrent, by_window, flat_shape.sum(0), None, None


class WindowLSTM(nn.Module):
    """An LSTM that reads strokes and, through a soft window, a text; see the module.

    Args:
        inputs: numbers of a point.
        characters: length C of a character's vector.
        hidden: cells H.
        gaussians: of the window, K.
        pace: characters that the window moves in a step before anything is learnt.
    """

    def __init__(
        self, inputs: int, characters: int, hidden: int, gaussians: int = 10, pace: float = 0.08
    ):
        super().__init__()
        self.hidden, self.characters, self.gaussians = hidden, characters, gaussians
        self.read = nn.Linear(inputs, 4 * hidden)
        self.recurrent = nn.Parameter(torch.empty(4 * hidden, hidden + characters))
        self.window = nn.Linear(hidden, 3 * gaussians)
        limit = 1 / math.sqrt(hidden)
        for weight in (self.read.weight, self.recurrent, self.window.weight):
            nn.init.uniform_(weight, -limit, limit)
        nn.init.zeros_(self.read.bias)
        nn.init.zeros_(self.window.bias)
        with torch.no_grad():
            self.read.bias[hidden : 2 * hidden] = 1.0  # to remember at first
            self.window.bias[:gaussians] = -math.log(gaussians)
            self.window.bias[2 * gaussians :] = math.log(pace)

    def initial_state(self, batch: int) -> WindowState:
        """Zeros: the window stands before the first character."""
        sizes = (self.hidden, self.hidden, self.gaussians, self.characters)
        return WindowState(*(self.recurrent.new_zeros(batch, size) for size in sizes))

    def forward(
        self, x: Tensor, text: Tensor, bound: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reads whole sequences from the beginning, in the weights' number format.

        Args:
            x: (T, B, inputs).
            text: (B, U, C), one row a character; zeros behind the end.
            bound: scalar; largest gradient of a gate's input; None for any.

        Returns:
            h (T, B, H), the window (T, B, C), and phi (T, B, U), which has no gradient: the weight
            of every character.
        """
        dtype = self.recurrent.dtype
        with torch.autocast(x.device.type, enabled=False):
            read = self.read(x.to(dtype))
            limit = read.new_tensor(math.inf) if bound is None else bound.to(dtype)
            state = self.initial_state(x.shape[1])
            found = _WindowLSTM.apply(
                read,
                text.to(dtype),
                self.recurrent,
                self.window.weight,
                self.window.bias,
                limit,
                state,
            )
        h, w, phi = found
        return h, w, phi

    @torch.no_grad()
    def advance(
        self, x: Tensor, text: Tensor, state: WindowState
    ) -> tuple[Tensor, Tensor, Tensor, WindowState]:
        """Goes on from a state, without gradients: `forward`'s results and the state after."""
        weights = (self.recurrent, self.window.weight, self.window.bias)
        tape = _run(self.read(x), text, weights, state)
        h, w = tape.joined[1:, :, : self.hidden], tape.joined[1:, :, self.hidden :]
        return h, w, tape.phi, WindowState(h[-1], tape.cells[-1], tape.kappa[-1], w[-1])
