"""One gradient step, the same for every agent of the family."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.adam import adam

from ..errors import TrainingError
from .methods import Loss, LossFunction
from .networks import Twin
from .options import DQNOptions
from .replay import Batch


def build_optimizer(network: nn.Module, options: DQNOptions) -> torch.optim.Optimizer:
    """Adam, RAdam, or RMSProp with the constants of Mnih et al. (2015), extended data table 1."""
    parameters = list(network.parameters())
    kind, eps = parameters[0].device.type, options.optimizer_eps
    # What a CUDA graph repeats reads its counts, and a rate that changes, on the device.
    on_cuda = kind == "cuda"
    rate: float | torch.Tensor = options.learning_rate
    if on_cuda and options.learning_rate_steps:
        rate = torch.tensor(options.learning_rate, device=parameters[0].device)
    if options.optimizer == "adam":
        fused = kind in ("cpu", "cuda")
        return torch.optim.Adam(parameters, lr=rate, eps=eps, fused=fused, capturable=on_cuda)
    if options.optimizer == "radam":
        if kind == "cpu":
            return RAdam(parameters, lr=options.learning_rate, eps=eps)
        return torch.optim.RAdam(parameters, lr=rate, eps=eps, foreach=True, capturable=on_cuda)
    return torch.optim.RMSprop(
        *(parameters, rate, 0.95, eps), centered=True, foreach=True, capturable=on_cuda
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives all weights another step size; in place where it lies on a device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class RAdam(torch.optim.Optimizer):
    """RAdam, Liu et al. (2020), in one pass over the weights where torch's makes ten.

    Past the first steps RAdam is Adam with another step size and epsilon at each step, and Adam has
    a fused kernel. States are those of `torch.optim.RAdam`.

    Args:
        parameters: float32, on the CPU; gradients lie in memory as they do, which backward sees to.
        lr: step size.
        betas: decay of the means of the gradient and of its square.
        eps: added to the root of the latter.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # takes no closure
        """One step down the gradients that are there."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in weights]
            states = [self._state_of(p) for p in weights]
            if not weights:
                continue
            means = [state["exp_avg"] for state in states]
            squares = [state["exp_avg_sq"] for state in states]
            steps = [state["step"] for state in states]
            (beta1, beta2), lr, t = group["betas"], group["lr"], steps[0].item() + 1
            longest = 2 / (1 - beta2) - 1
            unbias = 1 - beta2**t
            length = longest - 2 * t * (1 - unbias) / unbias  # rho_t of the paper
            if length <= 5:  # too few squares to trust: momentum alone
                torch._foreach_add_(steps, 1)
                torch._foreach_lerp_(means, gradients, 1 - beta1)
                torch._foreach_mul_(squares, beta2)
                torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
                torch._foreach_add_(weights, means, alpha=-lr / (1 - beta1**t))
                continue
            rectified = (length - 4) * (length - 2) * longest
            rectified /= (longest - 4) * (longest - 2) * length
            adam(
                *(weights, gradients, means, squares, [], steps),
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=lr * math.sqrt(rectified),
                weight_decay=0.0,
                # Adam adds epsilon after the bias of the squares is taken out, RAdam before.
                eps=group["eps"] / math.sqrt(unbias),
                maximize=False,
            )

    def _state_of(self, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        return state


def clip_gradients(network: nn.Module, bound: float, wait: bool = True) -> torch.Tensor:
    """Scales gradients of a norm above `bound` down to it (0 leaves them); the norm before.

    torch's clip_grad_norm_ multiplies always; smaller gradients need no pass over the memory.
    Without `wait` the host does not ask the device how large they are, and they get it.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if bound and (not wait or norm > bound):
        torch.nn.utils.clip_grads_with_norm_(network.parameters(), bound, norm)
    return norm


def gradient_step(
    online: Twin,
    target: Twin,
    optimizer: torch.optim.Optimizer,
    loss_function: LossFunction,
    batch: Batch,
    max_grad_norm: float,
    *,
    wait: bool = True,
) -> tuple[Loss, dict[str, torch.Tensor]]:
    """One step down the gradient of a batch's mean loss, importance weights included.

    Without `wait` nothing here waits for the device, and nobody looks whether the loss is finite.

    Returns:
        The loss of each row, and loss, q_mean, td_error and grad_norm as scalars.

    Raises:
        TrainingError: the loss is not a finite number; the weights are as before.
    """
    loss = loss_function(online.module, target.module, batch)
    rows = loss.rows if batch.weights is None else loss.rows * batch.weights
    mean_loss = rows.mean()
    if wait and not math.isfinite(mean_loss.item()):
        raise TrainingError("the loss is not a finite number")
    if online.module is online.master:  # a twin's gradients are taken from it after each step
        optimizer.zero_grad()
    mean_loss.backward()
    online.push_gradients()
    norm = clip_gradients(online.master, max_grad_norm, wait)
    optimizer.step()
    online.pull()
    return loss, {
        "loss": mean_loss.detach(),
        "q_mean": loss.q_mean,
        "td_error": loss.errors.mean(),
        "grad_norm": norm,
    }
