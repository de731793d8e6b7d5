"""Heads of Q-networks: what stands between the features of a trunk and numbers for each action."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from .options import DQNOptions


class ActionHead(nn.Module):
    """K outputs for each of A actions.

    With `dueling`, output k is V_k(s) + A_k(s, a) - mean over a' of A_k(s, a'), Wang et al.
    (2016). The hidden layers compute in their weights' own number format, the last ones in float32
    always: bfloat16 keeps 8 bits, so two actions whose values differ by less than half a percent
    would look alike.

    Args:
        features: F, length of the input.
        num_actions: A.
        outputs: K.
        hidden: units of a hidden layer in each stream; 0 for none.
        dueling: value and advantage streams.
        noisy_sigma: above 0, linear layers are noisy with this initial noise.
    """

    def __init__(
        self,
        features: int,
        num_actions: int,
        outputs: int = 1,
        *,
        hidden: int = 0,
        dueling: bool = False,
        noisy_sigma: float = 0.0,
    ):
        super().__init__()

        def linear(inputs: int, units: int) -> nn.Module:
            if noisy_sigma > 0:
                return NoisyLinear(inputs, units, noisy_sigma)
            return nn.Linear(inputs, units)

        def body() -> nn.Module:
            return nn.Sequential(linear(features, hidden), nn.ReLU()) if hidden else nn.Identity()

        self.num_actions, self.outputs = num_actions, outputs
        self.advantage_body = body()
        self.advantage = linear(hidden or features, num_actions * outputs)
        self.value_body = body() if dueling else None
        self.value = linear(hidden or features, outputs) if dueling else None

    def hidden_layers(self) -> list[nn.Module]:
        """The layers that may compute in a lower precision."""
        return [body for body in (self.advantage_body, self.value_body) if body is not None]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, A, K) float32."""
        advantage = self.advantage(self.advantage_body(features).float())
        advantage = advantage.view(-1, self.num_actions, self.outputs)
        if self.value is None or self.value_body is None:
            return advantage
        value = self.value(self.value_body(features).float()).unsqueeze(1)
        return value + advantage - advantage.mean(dim=1, keepdim=True)


def action_head(features: int, num_actions: int, outputs: int, options: DQNOptions) -> ActionHead:
    """The head of K `outputs` an action that the options ask for."""
    return ActionHead(
        features,
        num_actions,
        outputs,
        hidden=options.head_hidden,
        dueling=options.dueling,
        noisy_sigma=options.noisy_sigma if options.noisy else 0.0,
    )


class NoisyLinear(nn.Module):
    """A linear layer with learnt factorised Gaussian noise, Fortunato et al. (2018).

    In training mode it computes with the noise that `sample_noise` drew last, which starts at
    zero; in evaluation mode without noise.

    Args:
        in_features: F.
        out_features: U.
        sigma: initial noise, times 1/sqrt(F).
    """

    epsilon_in: torch.Tensor
    epsilon_out: torch.Tensor

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5):
        super().__init__()
        bound, noise = 1 / math.sqrt(in_features), sigma / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((out_features, in_features), noise))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), noise))
        self.register_buffer("epsilon_in", torch.zeros(in_features), persistent=False)
        self.register_buffer("epsilon_out", torch.zeros(out_features), persistent=False)

    def sample_noise(self, generator: torch.Generator) -> None:
        """Draws the noise of the passes that follow, from a generator on any device."""
        for epsilon in (self.epsilon_in, self.epsilon_out):
            noise = torch.randn(len(epsilon), generator=generator, device=generator.device)
            epsilon.copy_(noise.sign() * noise.abs().sqrt())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, U)."""
        y = F.linear(x, self.weight, self.bias)
        if not self.training:
            return y
        # (sigma * outer(e_out, e_in)) x = e_out * (sigma (e_in * x)): no noisy matrix is built.
        noise = F.linear(x * self.epsilon_in, self.weight_sigma)
        return y + self.epsilon_out * (noise + self.bias_sigma)


def sample_noise(
    module: nn.Module, generator: torch.Generator, kind: Literal["all", "none"] = "all"
) -> None:
    """Draws new noise in every noisy layer of a module, or sets it to zero."""
    for layer in module.modules():
        if isinstance(layer, NoisyLinear):
            if kind == "all":
                layer.sample_noise(generator)
            else:
                layer.epsilon_in.zero_()
                layer.epsilon_out.zero_()
