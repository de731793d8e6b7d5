"""One gradient step, the same for every agent of the family."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..errors import TrainingError
from .methods import Loss, LossFunction
from .networks import Twin
from .options import DQNOptions
from .replay import Batch


def build_optimizer(network: nn.Module, options: DQNOptions) -> torch.optim.Optimizer:
    """Adam, RAdam, or RMSProp with the constants of Mnih et al. (2015), extended data table 1."""
    parameters = list(network.parameters())
    rate, eps = options.learning_rate, options.optimizer_eps
    if options.optimizer == "adam":
        fused = parameters[0].device.type in ("cpu", "cuda")
        return torch.optim.Adam(parameters, lr=rate, eps=eps, fused=fused)
    if options.optimizer == "radam":
        return torch.optim.RAdam(parameters, lr=rate, eps=eps, foreach=True)
    return torch.optim.RMSprop(
        parameters, lr=rate, alpha=0.95, eps=eps, centered=True, foreach=True
    )


def clip_gradients(network: nn.Module, bound: float) -> torch.Tensor:
    """Scales gradients of a norm above `bound` down to it (0 leaves them); the norm before.

    torch's clip_grad_norm_ multiplies always; smaller gradients need no pass over the memory.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if bound and norm > bound:
        torch.nn.utils.clip_grads_with_norm_(network.parameters(), bound, norm)
    return norm


def gradient_step(
    online: Twin,
    target: Twin,
    optimizer: torch.optim.Optimizer,
    loss_function: LossFunction,
    batch: Batch,
    max_grad_norm: float,
) -> tuple[Loss, dict[str, torch.Tensor]]:
    """One step down the gradient of a batch's mean loss, importance weights included.

    Returns:
        The loss of each row, and loss, q_mean, td_error and grad_norm as scalars.

    Raises:
        TrainingError: the loss is not a finite number; the weights are as before.
    """
    loss = loss_function(online.module, target.module, batch)
    rows = loss.rows if batch.weights is None else loss.rows * batch.weights
    mean_loss = rows.mean()
    if not math.isfinite(mean_loss.item()):
        raise TrainingError("the loss is not a finite number")
    optimizer.zero_grad(set_to_none=online.module is online.master)
    mean_loss.backward()
    online.push_gradients()
    norm = clip_gradients(online.master, max_grad_norm)
    optimizer.step()
    online.pull()
    return loss, {
        "loss": mean_loss.detach(),
        "q_mean": loss.q_mean,
        "td_error": loss.errors.mean(),
        "grad_norm": norm,
    }
