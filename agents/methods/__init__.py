"""What a network estimates of the return: one module a method, of a head and a loss."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, Protocol, cast

import torch
from torch import nn

from ...errors import UnknownNameError
from ..networks import QNetwork
from ..options import METHODS, DQNOptions
from ..replay import Batch


class Loss(NamedTuple):
    """What a batch costs.

    Attributes:
        rows: (B,) loss of each transition, with gradient.
        errors: (B,) what priorities are made of, at least 0, without gradient.
        q_mean: scalar, mean value of the actions in the batch, without gradient.
    """

    rows: torch.Tensor
    errors: torch.Tensor
    q_mean: torch.Tensor


LossFunction = Callable[[QNetwork, QNetwork, Batch], Loss]
"""Takes the online network, the target network and a batch."""


class Method(Protocol):
    """A module of this folder."""

    def make_head(self, features: int, num_actions: int, options: DQNOptions) -> nn.Module:
        """The head on F features; see `networks.Head`."""
        ...

    def make_loss(self, options: DQNOptions, generator: torch.Generator) -> LossFunction:
        """The loss of a batch; whatever it draws comes from the generator."""
        ...


def find_method(name: str) -> Method:
    """The module of a method; raises UnknownNameError for one that is not there."""
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return cast(Method, import_module(f".{name.replace('-', '_')}", __name__))
