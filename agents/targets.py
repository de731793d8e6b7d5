"""What the family learns towards: pure functions of tensors."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def chosen(values: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Picks the actions' entries: (B, A, ...) and (B,) int64 -> (B, ...)."""
    index = actions.view(-1, *([1] * (values.ndim - 1))).expand(-1, 1, *values.shape[2:])
    return values.gather(1, index).squeeze(1)


def td_targets(
    returns: torch.Tensor,
    discounts: torch.Tensor,
    next_values: torch.Tensor,
    next_online_values: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = R + discount * Q(s', a*), the target of Mnih et al. (2015), Algorithm 1.

    Args:
        returns: (B,) n-step rewards, discounted and summed.
        discounts: (B,) gamma^n, 0 at terminal states.
        next_values: (B, A) of the target network at s'.
        next_online_values: (B, A) of the online network; when given it chooses a*, and the target
            network only values it: Double DQN, van Hasselt et al. (2016).

    Returns:
        (B,) targets.
    """
    chooser = next_values if next_online_values is None else next_online_values
    return returns + discounts * chosen(next_values, chooser.argmax(dim=1))


def soft_policy(values: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The policy softmax(Q / tau) and tau times its logarithm, both (B, A).

    Vieillard et al. (2020), "Munchausen Reinforcement Learning", appendix B: the logarithm as
    Q - V - tau logsumexp((Q - V) / tau) with V = max Q, which does not overflow.
    """
    shifted = values - values.max(dim=1, keepdim=True).values
    log_policy = temperature * F.log_softmax(shifted / temperature, dim=1)
    return F.softmax(shifted / temperature, dim=1), log_policy


def munchausen_bonus(
    values: torch.Tensor, actions: torch.Tensor, factor: float, temperature: float, floor: float
) -> torch.Tensor:
    """factor * clip(tau log pi(a | s), floor, 0), what Vieillard et al. (2020) add to the reward.

    Args:
        values: (B, A) of the target network at s.
        actions: (B,) int64.

    Returns:
        (B,), at most 0.
    """
    _, log_policy = soft_policy(values, temperature)
    return factor * chosen(log_policy, actions).clamp(min=floor, max=0.0)


def td_loss(errors: torch.Tensor, kind: str) -> torch.Tensor:
    """Loss of each TD error, of any shape.

    Args:
        errors: target minus estimate.
        kind: "huber" (gradient clipped to [-1, 1], as Mnih et al. 2015 clip the error) or "mse"
            (half the squared error, so that both agree near zero).
    """
    zero = torch.zeros_like(errors)
    if kind == "huber":
        return F.huber_loss(errors, zero, reduction="none")
    return 0.5 * errors.square()


def quantile_midpoints(count: int) -> torch.Tensor:
    """(N,) float32 midpoints (2 i + 1) / 2 N of N equal shares, Dabney et al. (2018a)."""
    return (torch.arange(count, dtype=torch.float32) + 0.5) / count


def quantile_huber_loss(
    quantiles: torch.Tensor, targets: torch.Tensor, taus: torch.Tensor, kappa: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over own quantiles i, mean over targets j of |tau_i - 1{u < 0}| L_kappa(u) / kappa.

    u is target j minus quantile i; L_kappa(u) is u^2 / 2 up to kappa and kappa (|u| - kappa / 2)
    beyond. Dabney et al. (2018b) divide by kappa, so that a small kappa gives the loss of quantile
    regression; for kappa = 1 it is the loss of Dabney et al. (2018a).

    Args:
        quantiles: (B, N).
        targets: (B, N'); taken as constants.
        taus: (B, N) or (N,), the share that each own quantile stands for.

    Returns:
        (B,) losses, with the gradient by the quantiles; and (B,) mean |u| over all pairs, without.
    """
    # 200 x 200 pairs a row are more memory than all else in an update: autograd would go through it
    # a dozen times. L_kappa(u) is c (u - c / 2) with c = clip(u, -kappa, kappa), its derivative.
    with torch.no_grad():
        u = targets.unsqueeze(1) - quantiles.unsqueeze(2)
        errors = u.abs().mean(dim=(1, 2))
        clipped = u.clamp(-kappa, kappa)
        tau = taus.unsqueeze(-1)
        slopes = torch.where(u < 0, 1 - tau, tau).mul_(clipped)
        gradient = -slopes.mean(dim=2) / kappa
        losses = slopes.mul_(u.sub_(clipped, alpha=0.5)).mean(dim=2).sum(dim=1) / kappa
    return losses + (gradient * (quantiles - quantiles.detach())).sum(dim=1), errors


def rescale(x: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x, Pohlen et al. (2018)."""
    # |x| / (sqrt(|x| + 1) + 1) is sqrt(|x| + 1) - 1 without its cancellation near 0.
    return x / ((x.abs() + 1).sqrt() + 1) + epsilon * x


def unrescale(x: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """The inverse of `rescale`, Pohlen et al. (2018), proposition A.2."""
    inside = x.abs() + 1 + epsilon
    root = (1 + 4 * epsilon * inside).sqrt()
    # The paper's (root - 1) / (2 epsilon), again without the cancellation.
    return x.sign() * ((2 * inside / (root + 1)).square() - 1)
