"""A trained model that reads one token a call, without the costs of modules.

What the input adds to each layer's gates is looked up in a table of all tokens, and the rest of a
layer is one matrix product.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones.recurrent import RecurrentTrunk, State
from .model import TextModel


class Stepper(Protocol):
    """Reads a token of each row at a time, on the CPU in fp32.

    Attributes:
        state: as the trunk's contract has it, each part (layers, B, size).
    """

    @property
    def state(self) -> State:
        """What was read so far."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Reads ids, int64 (B,); scores of the next token, float32 (B, V), valid until the next."""


def make_stepper(model: nn.Module, state: State) -> Stepper:
    """The fastest stepper for a model, which goes on from a state."""
    trunk = model.backbone
    lean = isinstance(trunk, RecurrentTrunk) and all(
        isinstance(layer, nn.LSTM) and not layer.proj_size for layer in trunk.stack
    )
    return LstmStepper(model, state) if lean else ModuleStepper(model, state)


class ModuleStepper:
    """Calls the model itself."""

    def __init__(self, model: nn.Module, state: State):
        self.model = model
        self.device = next(model.parameters()).device
        self.state = tuple(part.to(self.device) for part in state)

    @torch.no_grad()
    def read(self, ids: np.ndarray) -> np.ndarray:
        """See `Stepper.read`."""
        scores, self.state = self.model(torch.from_numpy(ids)[:, None].to(self.device), self.state)
        return scores[:, 0].float().cpu().numpy()


class LstmStepper:
    """Layers of `nn.LSTM`, with or without skips and norms.

    The tanh of the third gate is computed as a sigmoid, 2 s(2z) - 1, whose factor 2 is in the
    weights, so that one call serves all gates.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, state: State):
        assert isinstance(model, TextModel) and isinstance(model.backbone, RecurrentTrunk)
        trunk = model.backbone
        vectors = _copy(model.embedding.weight)
        batch = state[0].shape[1]
        self._layers = [_Layer(trunk, index, vectors, batch) for index in range(len(trunk.stack))]
        for layer, h, c in zip(self._layers, *state, strict=True):
            layer.own.copy_(h)
            layer.c.copy_(c)
        for below, layer in zip(self._layers, self._layers[1:], strict=False):
            below.above = layer.below
            assert below.above is not None
            below.above.copy_(below.normed(below.own))
        self._skips = trunk.skips
        weight, bias = _copy(model.head.weight), _copy(model.head.bias)
        if isinstance(model.bridge, nn.Linear):
            bias = bias + weight @ _copy(model.bridge.bias)
            weight = weight @ _copy(model.bridge.weight)
        self._head, self._head_t, self._bias = weight, weight.T.contiguous(), bias
        self._single = batch == 1

    @property
    def state(self) -> State:
        """See `Stepper.state`."""
        h = torch.stack([layer.own for layer in self._layers])
        return h, torch.stack([layer.c for layer in self._layers])

    @torch.inference_mode()
    def read(self, ids: np.ndarray) -> np.ndarray:
        """See `Stepper.read`."""
        chosen = int(ids[0]) if self._single else torch.from_numpy(ids)
        outputs = [layer.read_token(chosen) for layer in self._layers]
        out = torch.cat(outputs, dim=1) if self._skips else outputs[-1]
        if self._single:
            return torch.addmv(self._bias, self._head, out[0]).numpy()[None]
        return torch.addmm(self._bias, out, self._head_t).numpy()


class _Layer:
    """One layer: buffers, and weights laid out for a step.

    Attributes:
        beside: (B, below + hidden), the output of the layer below and the own state, side by side.
        below, own: the two parts of it; `below` is None in the first layer.
        c: cells, (B, hidden).
        above: where the layer above wants this one's output.
    """

    def __init__(self, trunk: RecurrentTrunk, index: int, vectors: Tensor, batch: int):
        layer = trunk.stack[index]
        assert isinstance(layer, nn.LSTM)
        hidden = layer.hidden_size
        self.norm = trunk.norms[index]
        w_x, w_h, b_x, b_h = (_copy(parameter) for parameter in layer.parameters())
        size = hidden if index else 0
        below, given = w_x[:, :size], w_x[:, size:]
        scale = torch.ones(4 * hidden, 1)
        scale[2 * hidden : 3 * hidden] = 2.0
        # A row for each token; a layer that does not see the input has a single one.
        self._reads_input = given.shape[1] > 0
        added = (b_x + b_h)[None] + (vectors @ given.T if self._reads_input else 0.0)
        self._added = added * scale.T
        self._weight = (torch.cat([below, w_h], dim=1) * scale).contiguous()
        self._weight_t = self._weight.T.contiguous()
        self.beside = torch.zeros(batch, size + hidden)
        self.below = self.beside[:, :size] if index else None
        self.own = self.beside[:, size:]
        self.c = torch.zeros(batch, hidden)
        self.above: Tensor | None = None
        self._hidden = hidden
        self._gates = torch.zeros(batch, 4 * hidden)

    def normed(self, h: Tensor) -> Tensor:
        if isinstance(self.norm, nn.LayerNorm):
            shape, weight, bias = self.norm.normalized_shape, self.norm.weight, self.norm.bias
            return F.layer_norm(h, shape, weight.cpu(), bias.cpu(), self.norm.eps)
        return h

    def read_token(self, ids: int | Tensor) -> Tensor:
        z, hidden = self._gates, self._hidden
        added = self._added[ids if self._reads_input else 0]
        if isinstance(ids, int):
            torch.addmv(added, self._weight, self.beside[0], out=z[0])
        else:
            torch.addmm(added, self.beside, self._weight_t, out=z)
        z.sigmoid_()
        i, f, g, o = (
            z[:, :hidden],
            z[:, hidden : 2 * hidden],
            z[:, 2 * hidden : 3 * hidden],
            z[:, 3 * hidden :],
        )
        self.c.mul_(f).addcmul_(i, g, value=2).sub_(i)  # f c + i (2 g - 1)
        torch.mul(o, self.c.tanh(), out=self.own)
        out = self.normed(self.own)
        if self.above is not None:
            self.above.copy_(out)
        return out


def _copy(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float32, copy=True)
