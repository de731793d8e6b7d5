"""C51: a categorical distribution of the return (Bellemare et al. 2017)."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ..heads import ActionHead, action_head
from ..networks import QNetwork
from ..options import DQNOptions
from ..replay import Batch
from ..targets import chosen
from . import Loss, LossFunction


class CategoricalHead(nn.Module):
    """Logits of K returns z, evenly spaced from -v_max to v_max, for each action."""

    support: torch.Tensor

    def __init__(self, head: ActionHead, v_max: float):
        super().__init__()
        self.head = head
        self.register_buffer(
            "support", torch.linspace(-v_max, v_max, head.outputs), persistent=False
        )

    def hidden_layers(self) -> list[nn.Module]:
        """See `networks.Head`."""
        return self.head.hidden_layers()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A, K) float32 logits."""
        return self.head(features)

    def values(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A) float32, Q(s, a) = sum over i of z_i p_i(s, a)."""
        return expectation(self(features).softmax(dim=2), self.support)


def expectation(probabilities: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """(..., K) and (K,) -> (...)."""
    return (probabilities * support).sum(dim=-1)


def project(
    probabilities: torch.Tensor,
    returns: torch.Tensor,
    discounts: torch.Tensor,
    support: torch.Tensor,
) -> torch.Tensor:
    """The distribution of R + discount * Z on the support of Z, Bellemare et al. (2017).

    Entry i is the sum over j of [1 - |clip(R + discount z_j) - z_i| / dz]_0^1 p_j: each atom that
    was moved is shared by its two neighbours, the nearer one takes more. The mean is kept unless
    an atom falls outside the support. Written as a product, since adding to indexed places depends
    on the threads' order on a GPU.

    Args:
        probabilities: (B, K) of Z.
        returns: (B,) n-step rewards, discounted and summed.
        discounts: (B,) gamma^n, 0 at terminal states.
        support: (K,) evenly spaced, ascending.

    Returns:
        (B, K), each row of sum 1.
    """
    moved = returns.unsqueeze(1) + discounts.unsqueeze(1) * support
    moved = moved.clamp(support[0], support[-1])
    distance = (moved.unsqueeze(1) - support.unsqueeze(1)).abs() / (support[1] - support[0])
    return ((1 - distance).clamp(min=0) * probabilities.unsqueeze(1)).sum(dim=2)


def make_head(features: int, num_actions: int, options: DQNOptions) -> nn.Module:
    """See `methods.Method`."""
    return CategoricalHead(
        action_head(features, num_actions, options.atoms, options), options.v_max
    )


def make_loss(options: DQNOptions, generator: torch.Generator) -> LossFunction:
    """See `methods.Method`; nothing is drawn.

    A row's loss is the cross entropy, its error the Kullback-Leibler divergence, which Hessel et
    al. (2018) take for the priority: both have the same gradient, and the divergence is 0 where
    nothing is left to learn.
    """

    def loss(online: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        head = cast(CategoricalHead, online.head)
        with torch.no_grad():
            next_p = target.head(target.backbone(batch.next_observations)).softmax(dim=2)
            if options.double:
                next_values = online(batch.next_observations)
            else:
                next_values = expectation(next_p, head.support)
            best_p = chosen(next_p, next_values.argmax(dim=1))
            m = project(best_p, batch.returns, batch.discounts, head.support)
        logits = chosen(head(online.backbone(batch.observations)), batch.actions)
        log_p = logits.log_softmax(dim=1)
        cross_entropy = -(m * log_p).sum(dim=1)
        divergence = cross_entropy.detach() - torch.special.entr(m).sum(dim=1)
        q_mean = expectation(log_p.detach().exp(), head.support).mean()
        return Loss(cross_entropy, divergence.clamp(min=0), q_mean)

    return loss
