"""Q-networks: a backbone of the registry and a head, and their low-precision twins."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn


class QNetwork(nn.Module):
    """Action values of a backbone's features.

    Args:
        backbone: a module with `out_features`.
        num_actions: A.
        dueling: value and advantage streams of `hidden` units each, joined as in Wang et al.
            (2016); otherwise one linear layer.
        hidden: units of each dueling stream.
    """

    def __init__(
        self, backbone: nn.Module, num_actions: int, *, dueling: bool = False, hidden: int = 256
    ):
        super().__init__()
        self.backbone = backbone
        self.head: nn.Module
        features = cast(int, backbone.out_features)
        if dueling:
            self.head = DuelingHead(features, num_actions, hidden)
        else:
            self.head = nn.Linear(features, num_actions)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(B, *observation) -> (B, A) float32. The head computes in float32 always.

        bfloat16 keeps 8 bits: two actions whose values differ by less than half a percent would
        look alike.
        """
        return self.head(self.backbone(observations).float())


class DuelingHead(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean A(s, .), Wang et al. (2016)."""

    def __init__(self, in_features: int, num_actions: int, hidden: int):
        super().__init__()
        self.value = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.advantage = nn.Sequential(
            nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, num_actions)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A)."""
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(dim=1, keepdim=True)


class Twin:
    """A network of float32 master weights and the module that computes with them.

    In fp32 both are the same module. In bf16 `module` is a copy whose backbone holds bfloat16
    parameters: casting them once after an update is cheaper than autocast's casts in each pass.
    """

    def __init__(self, master: QNetwork, precision: str):
        self.master = master
        self.module: QNetwork = master
        if precision == "bf16":
            self.module = copy.deepcopy(master)
            self.module.backbone.to(torch.bfloat16)
        self._master_parameters: list[torch.Tensor] = list(master.parameters())
        self._parameters: list[torch.Tensor] = list(self.module.parameters())

    @torch.no_grad()
    def pull(self) -> None:
        """Copies the master's parameters into the computing module."""
        if self.module is not self.master:
            torch._foreach_copy_(self._parameters, self._master_parameters)
            # Running statistics are made where the computation is.
            for kept, made in zip(self.master.buffers(), self.module.buffers(), strict=True):
                kept.copy_(made)

    @torch.no_grad()
    def push_gradients(self) -> None:
        """Moves the computing module's gradients to the master's parameters."""
        if self.module is self.master:
            return
        for master, parameter in zip(self._master_parameters, self._parameters, strict=True):
            if parameter.grad is None:
                master.grad = None
            elif master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.copy_(parameter.grad)
            parameter.grad = None

    @torch.no_grad()
    def copy_from(self, other: Twin, tau: float = 1.0) -> None:
        """Moves this network a fraction `tau` of the way to `other`; 1 copies it."""
        torch._foreach_lerp_(self._master_parameters, other._master_parameters, tau)
        for mine, theirs in zip(self.master.buffers(), other.module.buffers(), strict=True):
            mine.copy_(theirs)
        if self.module is not self.master:
            torch._foreach_copy_(self._parameters, self._master_parameters)
            for mine, theirs in zip(self.module.buffers(), other.module.buffers(), strict=True):
                mine.copy_(theirs)

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Loads master weights (and buffers) and refreshes the computing module."""
        self.master.load_state_dict(state)
        if self.module is not self.master:
            self.module.load_state_dict(state)
