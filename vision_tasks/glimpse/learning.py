"""The network of the options, and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...tasks import Batch, Moment
from .model import GlimpseNetwork, Looked, glimpse_network
from .options import GlimpseOptions
from .play import Played
from .reinforce import log_density, reinforce, returns_to_go
from .whole import WholeReader


def build_model(options: GlimpseOptions, facts: Mapping[str, Any]) -> nn.Module:
    """The network that looks, or one that sees all at once; freshly initialised.

    Raises:
        UsageError: the convolutions do not fit the pictures.
    """
    if options.reader == "glimpse":
        return glimpse_network(options, facts)
    return WholeReader(options, len(facts["classes"]))


def options_of(model: nn.Module) -> GlimpseOptions:
    """The options that a model, perhaps wrapped for several devices, was built with."""
    inner = model if isinstance(model, (GlimpseNetwork, WholeReader)) else model.module
    assert isinstance(inner, (GlimpseNetwork, WholeReader))
    return inner.options


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """The hybrid loss: see `picture_loss` and `game_loss`; of a whole reader the cross entropy.

    Args:
        model: perhaps wrapped.
        batch: "pictures" uint8 (B, 1, S, S) and "labels" int64 (B,); or "games" int64 (B,).
        moment: its generator draws places and moves.

    Returns:
        "loss" and its parts; "accuracy", or "caught", in 0 to 1.
    """
    options = options_of(model)
    if options.reader != "glimpse":
        logits = model(batch["pictures"]).float()
        right = (logits.argmax(1) == batch["labels"]).float().mean()
        return {"loss": F.cross_entropy(logits, batch["labels"]), "accuracy": right}
    given = batch["games" if options.task == "catch" else "pictures"]
    shape = len(given), options.copies, options.looks
    noise = torch.randn(*shape, 2, generator=moment.generator)
    deviation = options.deviation_at(moment.progress)
    if options.where == "learned":  # a first place at random keeps its noise
        noise[:, :, 1:] *= deviation / options.deviation
    noise = noise.to(given.device, non_blocking=True)  # a GPU must not wait for it
    if options.task == "catch":
        chances = torch.rand(shape, generator=moment.generator).to(given.device)
        return game_loss(model(given, noise, chances), options, deviation)
    return picture_loss(model(given, noise), batch["labels"], options, deviation)


def picture_loss(
    looked: Looked, labels: Tensor, options: GlimpseOptions, deviation: float
) -> dict[str, Tensor]:
    """Cross entropy of the answers, REINFORCE for the places, and the baseline's square error.

    Args:
        looked: of B pictures.
        labels: int64 (B,).
        options: of the task.
        deviation: that places were drawn with.
    """
    logits = looked.logits.float()
    count, copies, looks, classes = logits.shape
    truth = labels[:, None, None].expand(count, copies, looks)
    wrong = F.cross_entropy(logits.flatten(0, 2), truth.flatten(), reduction="none")
    wrong = wrong.view(count, copies, looks)
    if options.reward == "right":
        rewards = (logits.detach().argmax(-1) == truth).float()
    else:
        rewards = -wrong.detach()
        rewards = rewards.exp() if options.reward == "likelihood" else rewards
    last = options.answers == "last"
    answers = wrong[..., -1].mean() if last else wrong.mean()
    returns = rewards[..., -1:].expand_as(rewards) if last else returns_to_go(rewards)
    chances = log_density(looked.drawn, looked.means.float(), deviation)
    if options.where != "learned":
        chances = torch.zeros_like(chances)
    # The first place is not chosen by the network, and so has no advantage.
    places, baseline = reinforce(
        chances * (torch.arange(looks, device=chances.device) > 0),
        returns,
        looked.guesses.float(),
        copies=options.baseline == "copies",
    )
    return {
        "loss": answers + options.reinforce * places + baseline,
        "answers": answers,
        "places": places,
        "baseline": baseline,
        "accuracy": (logits[:, :, -1].argmax(-1) == truth[..., -1]).float().mean(),
    }


def game_loss(played: Played, options: GlimpseOptions, deviation: float) -> dict[str, Tensor]:
    """REINFORCE for moves and places, the moves' entropy, and the baseline's square error.

    Args:
        played: B games in M copies.
        options: of the task.
        deviation: that places were drawn with.
    """
    logarithms = played.logits.log_softmax(-1)
    entropy = -(logarithms.exp() * logarithms).sum(-1).mean()
    moves = logarithms.gather(-1, played.actions[..., None])[..., 0]
    chances = moves
    if options.where == "learned":
        places = log_density(played.drawn, played.means.float(), deviation)
        first = torch.arange(places.shape[-1], device=places.device) == 0
        chances = moves + options.reinforce * places.masked_fill(first, 0.0)
    returns = played.rewards[..., None].expand_as(chances)
    copies = options.baseline == "copies"
    found, baseline = reinforce(chances, returns, played.guesses.float(), copies=copies)
    return {
        "loss": found + baseline - options.entropy * entropy,
        "moves": found,
        "entropy": entropy,
        "baseline": baseline,
        "caught": (played.rewards > 0).float().mean(),
    }
