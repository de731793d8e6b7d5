"""Restricted Boltzmann machines: learning layers from sounds alone, one upon the other.

As in Mohamed, Dahl and Hinton (2012) and Hinton et al. (2012); how one step of contrastive
divergence uses probabilities and samples follows Hinton's practical guide (2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import TrainingError, UsageError

Batches = Callable[[int], Tensor]
"""Frames (B, D) float32 of each step."""


@dataclass(frozen=True)
class RBM:
    """Visible and hidden units with connections between the two kinds only.

    Hidden units are 0 or 1. Visible ones are too, or they are Gaussian with a variance of 1:

        binary:   E(v, h) = - a v - b h - h W v
        Gaussian: E(v, h) = (v - a)^2 / 2 - b h - h W v

    Attributes:
        weight: W, float32 (H, D), as `nn.Linear` has it.
        hidden_bias: b, (H,).
        visible_bias: a, (D,).
        gaussian: whether visible units are numbers rather than 0 or 1.
    """

    weight: Tensor
    hidden_bias: Tensor
    visible_bias: Tensor
    gaussian: bool

    def hidden(self, visible: Tensor) -> Tensor:
        """(B, D) -> probabilities (B, H) that hidden units are 1."""
        return F.linear(visible, self.weight, self.hidden_bias).sigmoid_()

    def visible(self, hidden: Tensor) -> Tensor:
        """(B, H) -> (B, D), means of the visible units."""
        mean = torch.addmm(self.visible_bias, hidden, self.weight)
        return mean if self.gaussian else mean.sigmoid_()

    def free_energy(self, visible: Tensor) -> Tensor:
        """(B, D) -> (B,): minus the log-probability but for one constant."""
        inputs = F.linear(visible, self.weight, self.hidden_bias)
        if self.gaussian:
            own = (visible - self.visible_bias).square().sum(1) / 2
        else:
            own = -visible @ self.visible_bias
        return own - F.softplus(inputs).sum(1)


@dataclass(frozen=True)
class Pretraining:
    """How the layers learn.

    Attributes:
        steps: batches for a layer of binary units.
        first_steps: batches for the layer of Gaussian units, which learns more slowly.
        rate: learning rate for binary units, of gradients that are means over a batch.
        first_rate: for Gaussian units; above 0.01 they can diverge.
        momentum: share of the last change that is made again; 0.5 in the first tenth of the
            steps, where changes are largest.
        decay: pull of the weights towards 0, times the rate; biases have none.
    """

    steps: int = 2000
    first_steps: int = 4000
    rate: float = 0.02
    first_rate: float = 0.002
    momentum: float = 0.9
    decay: float = 0.0002

    def __post_init__(self) -> None:
        if min(self.steps, self.first_steps) < 1:
            raise UsageError("pre-training needs at least one step for each kind of layer.")
        if min(self.rate, self.first_rate) <= 0:
            raise UsageError("the learning rates of pre-training must be above 0.")
        if not 0 <= self.momentum < 1 or self.decay < 0:
            raise UsageError("momentum is in 0..1, below 1, and weight decay is 0 or more.")


def new_rbm(
    visible: int, hidden: int, generator: torch.Generator, *, gaussian: bool = False
) -> RBM:
    """An untrained machine: weights with a deviation of 0.01, biases 0."""
    device = generator.device
    weight = 0.01 * torch.randn(hidden, visible, generator=generator, device=device)
    return RBM(
        weight, torch.zeros(hidden, device=device), torch.zeros(visible, device=device), gaussian
    )


def contrastive_divergence(
    rbm: RBM, visible: Tensor, generator: torch.Generator
) -> tuple[tuple[Tensor, Tensor, Tensor], float]:
    """CD-1: what the data's statistics exceed those of their reconstruction by.

    Hidden units are drawn where the data drive them; all else is probabilities and means, which
    have less noise.

    Args:
        visible: (B, D).
        generator: draws the hidden units.

    Returns:
        the direction that raises the likelihood, of weight, hidden and visible bias, means over
        the batch; and the mean squared error of the reconstruction.
    """
    driven = rbm.hidden(visible)
    chance = torch.rand(driven.shape, generator=generator, device=generator.device)
    again = rbm.visible((chance.to(driven.device) < driven).to(driven.dtype))
    answer = rbm.hidden(again)
    weight = (driven.t() @ visible).addmm_(answer.t(), again, alpha=-1).div_(len(visible))
    difference = visible - again
    gradient = (weight, (driven - answer).mean(0), difference.mean(0))
    return gradient, float(difference.square().mean())


def train_rbm(
    rbm: RBM, batch: Batches, settings: Pretraining, generator: torch.Generator
) -> list[float]:
    """Trains a machine in place by contrastive divergence with momentum and weight decay.

    Args:
        batch: frames (B, D) of each step, counted from 0.
        settings: steps and rates; which ones are taken depends on the kind of visible units.
        generator: draws the hidden units; it alone decides the result.

    Returns:
        the mean squared error of the reconstruction in every step.

    Raises:
        TrainingError: the weights diverge; the message names the rate.
    """
    steps = settings.first_steps if rbm.gaussian else settings.steps
    rate = settings.first_rate if rbm.gaussian else settings.rate
    parameters = (rbm.weight, rbm.hidden_bias, rbm.visible_bias)
    changes = tuple(torch.zeros_like(part) for part in parameters)
    errors = []
    for step in range(steps):
        momentum = settings.momentum if step >= steps / 10 else min(0.5, settings.momentum)
        gradients, error = contrastive_divergence(rbm, batch(step), generator)
        if not math.isfinite(error):
            raise TrainingError(
                f"pre-training diverges at a learning rate of {rate:g}; take a smaller one."
            )
        for part, change, gradient in zip(parameters, changes, gradients, strict=True):
            change.mul_(momentum).add_(gradient, alpha=rate)
            if part is rbm.weight:
                change.add_(part, alpha=-rate * settings.decay)
            part.add_(change)
        errors.append(error)
    return errors


@torch.no_grad()
def pretrain(
    layers: Sequence[nn.Linear],
    batch: Batches,
    settings: Pretraining,
    generator: torch.Generator,
    say: Callable[[str], object] = lambda line: None,
) -> list[list[float]]:
    """Trains a stack of machines and gives their weights to the layers of a network.

    The first one models the frames, each further one the hidden probabilities of the one below,
    which it takes as if they were data. The network computes sigmoid(W x + b) in each layer.

    Args:
        layers: from the input on; each one's `in_features` is the last one's `out_features`.
        batch: frames (B, D) of each step, counted from 0; each value with a mean of about 0 and
            a variance of about 1.
        settings: how they learn.
        generator: draws the initial weights and the hidden units.
        say: is told of every layer.

    Returns:
        for each layer the mean squared errors of its reconstructions, see `train_rbm`.

    Raises:
        UsageError: layers that do not fit on each other, or on the frames.
        TrainingError: the weights diverge.
    """
    _require_stack(layers, batch)
    below: list[RBM] = []
    told = []
    device = layers[0].weight.device

    def hidden(step: int) -> Tensor:
        frames = batch(step).to(device)
        for rbm in below:
            frames = rbm.hidden(frames)
        return frames

    for number, layer in enumerate(layers, start=1):
        rbm = new_rbm(layer.in_features, layer.out_features, generator, gaussian=not below)
        rbm = _moved(rbm, device)
        errors = train_rbm(rbm, hidden, settings, generator)
        layer.weight.copy_(rbm.weight)
        layer.bias.copy_(rbm.hidden_bias)
        below.append(rbm)
        told.append(errors)
        tenth = max(1, len(errors) // 10)
        first, last = (sum(part) / tenth for part in (errors[:tenth], errors[-tenth:]))
        say(
            f"layer {number} of {len(layers)}: {len(errors):,} steps, "
            f"error of the reconstruction from {first:.3g} to {last:.3g}"
        )
    return told


def _require_stack(layers: Sequence[nn.Linear], batch: Batches) -> None:
    if not layers:
        raise UsageError("pre-training needs at least one layer.")
    width = batch(0).shape[-1]
    for number, layer in enumerate(layers, start=1):
        if layer.in_features != width or layer.bias is None:
            raise UsageError(
                f"layer {number} to pre-train must take {width} numbers and have biases; it takes "
                f"{layer.in_features}{'' if layer.bias is not None else ' and has none'}."
            )
        width = layer.out_features


def _moved(rbm: RBM, device: torch.device) -> RBM:
    weight, hidden, visible = rbm.weight, rbm.hidden_bias, rbm.visible_bias
    return RBM(weight.to(device), hidden.to(device), visible.to(device), rbm.gaussian)
