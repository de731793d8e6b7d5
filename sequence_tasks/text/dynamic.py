"""Dynamic evaluation: a model that goes on learning from the text that it is scored on."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones.recurrent import State


@dataclass(frozen=True)
class Adaptation:
    """How fast a model follows a text.

    Attributes:
        rate: step along the gradient, each weight's scaled by its usual size.
        decay: how far each step leads back to the trained weights, weights with large gradients
            further.
        segment: tokens after which the model learns.
        trial: segments whose gradients are only looked at where no usual sizes are known.
    """

    rate: float = 5e-4
    decay: float = 0.005
    segment: int = 32
    trial: int = 8


class Adapter:
    """A copy of a model that reads a text and learns from each segment after it was scored.

    The rule is the RMS form of Krause et al. 2018, Dynamic Evaluation of Neural Sequence Models.
    The mean squares of the gradients come from training text where it is given, else from what
    was read so far.

    Args:
        model: in evaluation mode; it stays as it is.
        adaptation: how fast.
        squares: mean squares of gradients by `gradient_squares`.

    Attributes:
        model: the copy, as far as it has learnt.
    """

    def __init__(
        self, model: nn.Module, adaptation: Adaptation, squares: list[Tensor] | None = None
    ):
        self.adaptation = adaptation
        self.model = copy.deepcopy(model).eval().requires_grad_(True)
        self.weights: list[Tensor] = list(self.model.parameters())
        self.origin = [weight.detach().clone() for weight in self.weights]
        self._known = squares is not None
        self._seen = 0
        self._sums = [torch.zeros_like(weight) for weight in self.weights]
        if squares is not None:
            self._scale(squares)

    def read(self, ids: Tensor, state: State | None) -> tuple[np.ndarray, State]:
        """Scores a segment, then learns from it.

        Args:
            ids: int64 (T + 1,): the token before the segment and the segment.
            state: after what was read before; None at the beginning.

        Returns:
            Nats of each of the T tokens, before learning, and the state.
        """
        with torch.enable_grad():
            scores, state = self.model(ids[None, :-1], state)
            losses = F.cross_entropy(scores[0].float(), ids[1:], reduction="none")
            gradients = torch.autograd.grad(losses.mean(), self.weights)
        self._learn([gradient.detach() for gradient in gradients])
        return losses.detach().cpu().numpy(), tuple(part.detach() for part in state)

    @torch.no_grad()
    def _learn(self, gradients: list[Tensor]) -> None:
        self._seen += 1
        if not self._known:
            torch._foreach_addcmul_(self._sums, gradients, gradients)
            if self._seen < self.adaptation.trial:
                return
            self._scale([total / self._seen for total in self._sums])
        steps = torch._foreach_div(gradients, self._divisors)
        back = torch._foreach_sub(self.origin, self.weights)
        torch._foreach_mul_(back, self._returns)
        torch._foreach_add_(self.weights, steps, alpha=-self.adaptation.rate)
        torch._foreach_add_(self.weights, back)

    def _scale(self, squares: list[Tensor]) -> None:
        """Equations 5 to 7 of the paper: divisors of the gradients, and shares to return by."""
        roots = [square.sqrt() for square in squares]
        mean = torch.cat([root.flatten() for root in roots]).mean()
        self._divisors = [root + 0.1 * mean for root in roots]
        self._returns = [(self.adaptation.decay * root / mean).clamp(max=1.0) for root in roots]


def gradient_squares(
    model: nn.Module, ids: np.ndarray, segment: int, count: int = 200
) -> list[Tensor]:
    """Mean squares of the gradients of `count` segments of a training text, one a parameter."""
    twin = copy.deepcopy(model).eval().requires_grad_(True)
    weights = list(twin.parameters())
    device = weights[0].device
    sums = [torch.zeros_like(weight) for weight in weights]
    starts = np.linspace(0, max(len(ids) - segment - 1, 0), count).astype(int)
    for start in starts:
        piece = torch.from_numpy(ids[start : start + segment + 1].astype(np.int64)).to(device)
        with torch.enable_grad():
            scores, _ = twin(piece[None, :-1])
            gradients = torch.autograd.grad(F.cross_entropy(scores[0].float(), piece[1:]), weights)
        torch._foreach_addcmul_(sums, gradients, gradients)
    return [total / count for total in sums]


def dynamic_losses(
    model: nn.Module,
    ids: np.ndarray,
    adaptation: Adaptation | None = None,
    squares: list[Tensor] | None = None,
) -> np.ndarray:
    """Nats of each token but the first, float32 (N - 1,), by a model that learns as it reads."""
    adaptation = adaptation or Adaptation()
    adapter = Adapter(model, adaptation, squares)
    device = adapter.weights[0].device
    whole = torch.from_numpy(ids.astype(np.int64)).to(device)
    found: list[np.ndarray] = []
    state: State | None = None
    for start in range(0, len(whole) - 1, adaptation.segment):
        losses, state = adapter.read(whole[start : start + adaptation.segment + 1], state)
        found.append(losses)
    return np.concatenate(found)
