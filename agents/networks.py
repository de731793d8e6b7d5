"""Q-networks: a backbone of the registry and a head, and their low-precision twins."""

from __future__ import annotations

import copy
from typing import Protocol, cast

import torch
from torch import nn

from ..errors import UsageError

State = tuple[torch.Tensor, ...]
"""Of a recurrent memory, each part (layers, B, size)."""


class Head(Protocol):
    """What a method puts on the features; each is an `nn.Module`."""

    def values(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A) float32, the expected returns that greedy actions are chosen by."""
        ...

    def hidden_layers(self) -> list[nn.Module]:
        """The layers that may compute in a lower precision."""
        ...


class QNetwork(nn.Module):
    """A trunk of the registry, an optional recurrent memory, and a method's head.

    Args:
        backbone: a module (B, *observation) -> (B, F) with `out_features`.
        head: see `Head`.
        memory: a recurrent backbone that reads the trunk's features.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, memory: nn.Module | None = None):
        super().__init__()
        self.backbone = backbone
        self.memory = memory
        self.head = head

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(B, *observation) -> (B, A) float32 action values.

        Of a network with memory, those of a game's first observation.
        """
        if self.memory is not None:
            return self.advance(observations, None)[0]
        return cast(Head, self.head).values(self.backbone(observations))

    def unroll(
        self, observations: torch.Tensor, state: State | None, reset: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Features of sequences, of a network with memory.

        Args:
            observations: (B, T, *observation).
            state: of the memory before the first step, in any float format; None for zeros.
            reset: (B, T) bool; where set, the state is zeroed before that step.

        Returns:
            (B, T, F) and the state after the last step.
        """
        if self.memory is None:
            raise UsageError("this network has no memory: give it memory, such as lstm.")
        features = self.backbone(observations.flatten(0, 1))
        if state is not None:
            weight = next(self.memory.parameters())
            state = tuple(part.to(weight) for part in state)
        return self.memory(features.view(*observations.shape[:2], -1), state, reset)

    def unroll_values(
        self, observations: torch.Tensor, state: State | None, reset: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Values (B, T, A) of sequences, and the state after them; see `unroll`."""
        features, state = self.unroll(observations, state, reset)
        values = cast(Head, self.head).values(features.flatten(0, 1))
        return values.view(*observations.shape[:2], -1), state

    def advance(
        self, observations: torch.Tensor, state: State | None, reset: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Values (B, A) of one step of sequences, and the state after it; see `unroll`.

        Args:
            observations: (B, *observation).
            state: of the memory before the step; None for zeros.
            reset: (B,) bool.
        """
        reset = None if reset is None else reset.unsqueeze(1)
        values, state = self.unroll_values(observations.unsqueeze(1), state, reset)
        return values.squeeze(1), state

    def low_precision_parts(self) -> list[nn.Module]:
        """The parts that may compute in bfloat16: all but what gives out values."""
        memory = [] if self.memory is None else [self.memory]
        return [self.backbone, *memory, *cast(Head, self.head).hidden_layers()]


class Twin:
    """A network of float32 master weights and the module that computes with them.

    In fp32 both are the same module. In bf16 `module` is a copy whose backbone holds bfloat16
    parameters, and so have the hidden layers of its head: casting them once after an update is
    cheaper than autocast's casts in each pass.
    """

    def __init__(self, master: QNetwork, precision: str):
        self.master = master
        self.module: QNetwork = master
        if precision == "bf16":
            self.module = copy.deepcopy(master)
            for part in self.module.low_precision_parts():
                part.to(torch.bfloat16)
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

    @torch.no_grad()
    def average_in(self, other: Twin, share: float) -> None:
        """Moves the master weights a `share` of the way to `other`; `pull` before computing."""
        torch._foreach_lerp_(self._master_parameters, other._master_parameters, share)
        for mine, theirs in zip(self.module.buffers(), other.module.buffers(), strict=True):
            mine.copy_(theirs)

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Loads master weights (and buffers) and refreshes the computing module."""
        self.master.load_state_dict(state)
        if self.module is not self.master:
            self.module.load_state_dict(state)
