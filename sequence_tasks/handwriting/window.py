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
    steps, batch, _ = read.shape
    hidden, size, places = state.h.shape[1], state.kappa.shape[1], text.shape[1]
    recurrent, window = weights[0].t(), weights[1].t()
    bias = weights[2]
    tape = _Tape(
        read.new_empty(steps + 1, batch, hidden + text.shape[2]),
        torch.empty_like(read),
        read.new_empty(steps + 1, batch, hidden),
        read.new_empty(steps, batch, hidden),
        read.new_empty(steps, batch, 3 * size),
        read.new_empty(steps + 1, batch, size),
        read.new_empty(steps, batch, size, places),
        read.new_empty(steps, batch, places),
    )
    tape.joined[0, :, :hidden], tape.joined[0, :, hidden:] = state.h, state.w
    tape.cells[0], tape.kappa[0] = state.c, state.kappa
    places_from_one = torch.arange(1, places + 1, device=read.device, dtype=read.dtype)
    for t in range(steps):
        gates, cell, h = tape.gates[t], tape.cells[t + 1], tape.joined[t + 1, :, :hidden]
        torch.addmm(read[t], tape.joined[t], recurrent, out=gates)
        gates[:, : 3 * hidden].sigmoid_()
        gates[:, 3 * hidden :].tanh_()
        let_in, keep, let_out, new = gates.chunk(4, 1)
        torch.mul(keep, tape.cells[t], out=cell).addcmul_(let_in, new)
        torch.tanh(cell, out=tape.squashed[t])
        torch.mul(let_out, tape.squashed[t], out=h)

        shape = tape.shape[t]
        torch.addmm(bias, h, window, out=shape).clamp_(max=_LARGEST).exp_()
        alpha, beta, moved = shape.chunk(3, 1)
        torch.add(tape.kappa[t], moved, out=tape.kappa[t + 1])
        bells = tape.bells[t]
        torch.sub(tape.kappa[t + 1][:, :, None], places_from_one, out=bells)
        bells.square_().mul_(beta.neg()[:, :, None]).exp_()
        phi = torch.bmm(alpha[:, None], bells)
        tape.phi[t] = phi[:, 0]
        tape.joined[t + 1, :, hidden:] = torch.bmm(phi, text)[:, 0]
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
        by_gates = torch.empty_like(tape.gates)
        by_shape = torch.empty_like(tape.shape)
        later = for_h.new_zeros(batch, hidden + text.shape[2])  # of h and w, from the next step
        by_cell = torch.zeros_like(tape.cells[0])
        by_kappa = torch.zeros_like(tape.kappa[0])
        text_across = text.transpose(1, 2)
        for t in reversed(range(steps)):
            alpha, beta, moved = tape.shape[t].chunk(3, 1)
            by_phi = torch.bmm((for_w[t] + later[:, hidden:])[:, None], text_across)
            pull = tape.bells[t] * alpha[:, :, None] * by_phi
            away = tape.kappa[t + 1][:, :, None] - places
            pulled = pull * away
            by_kappa = by_kappa - 2 * beta * pulled.sum(2)
            by_shape[t] = torch.cat(
                [pull.sum(2), -beta * (pulled * away).sum(2), by_kappa * moved], 1
            )
            by_h = torch.addmm(for_h[t] + later[:, :hidden], by_shape[t], window)
            by_cell = torch.addcmul(by_cell, by_h, through[t])
            by_gate = torch.mul(
                slopes[t].view(batch, 4, hidden),
                by_cell[:, None],
                out=by_gates[t].view(batch, 4, hidden),
            )
            torch.mul(slopes[t, :, 2 * hidden : 3 * hidden], by_h, out=by_gate[:, 2])
            torch.clamp(by_gates[t], -bound, bound, out=by_gates[t])
            torch.mm(by_gates[t], recurrent, out=later)
            by_cell = by_cell * tape.gates[t, :, hidden : 2 * hidden]
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
