"""Errors of reading, or of playing, beside their controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import TaskError
from ...tasks import Control, Metric, Outcome, Split, TaskData
from .data import Games, Pictures
from .drawing import path_sheet
from .learning import options_of
from .options import GlimpseOptions
from .play import play, standing_still

METRICS = (Metric("error", False, "the share of pictures read wrongly, or of balls missed"),)
AT_ONCE = 500
SHOWN = 12


def measure(model: nn.Module, data: TaskData, split: Split, control: Control) -> Outcome:
    """Scores a model, or a control, on a split.

    "trivial" names the most frequent class of training, of catch it never moves; "shuffled"
    exchanges the pictures, of catch the screens of games that are played beside each other.

    Raises:
        TaskError: the data have no such split.
    """
    if split not in data.splits:
        raise TaskError(f"the data have no {split} split; there are {', '.join(data.splits)}.")
    part = data.splits[split]
    if isinstance(part, Games):
        return _measure_games(model, part, control)
    assert isinstance(part, Pictures)
    labels = part.labels.numpy()
    details: dict[str, Any] = {}
    pictures: dict[str, np.ndarray] = {}
    if control == "trivial":
        found = np.full(len(labels), int(np.argmax(data.facts["training_counts"])))
    else:
        answers = read(model, part.pictures)
        found = answers.probabilities[:, -1].argmax(1).numpy()
    if control == "none":
        each = (answers.probabilities.argmax(-1) != part.labels[:, None]).float().mean(0)
        details = {"multiply_adds": data.facts["multiply_adds"], "error_by_glimpse": each.tolist()}
        if answers.places is not None:
            shown = np.random.default_rng(0).permutation(len(labels))[:SHOWN]
            pictures["paths"] = path_sheet(
                part.pictures[torch.from_numpy(shown), 0].numpy(),
                answers.places[torch.from_numpy(shown)].numpy(),
                options_of(model),
            )
    if control == "shuffled":
        found = found[np.random.default_rng(0).permutation(len(labels))]
    wrong = found != labels
    values = {"error": lambda chosen: float(wrong[chosen].mean())}
    return Outcome(values, len(labels), details, pictures)


class Answers:
    """What a model says to N pictures after each of T glimpses; a whole reader has one.

    Attributes:
        probabilities: float (N, T, classes), on the CPU, the mean over the copies.
        places: (N, T, 2), (row, column) in [-1, 1] of the first copy; None of a whole reader.
    """

    def __init__(self, probabilities: Tensor, places: Tensor | None):
        self.probabilities, self.places = probabilities, places


def quiet_noise(
    options: GlimpseOptions, count: int, copies: int, generator: torch.Generator
) -> Tensor:
    """Noise of the places where nothing is learnt: only places that are random by design have any.

    Args:
        options: of the task; with `test_noise` all places have noise.
        count: B, of pictures or games.
        copies: M.
        generator: on the CPU.

    Returns:
        float (B, M, T, 2), on the CPU.
    """
    noise = torch.randn(count, copies, options.looks, 2, generator=generator)
    if options.where == "learned":
        noise[:, :, 1:] *= options.deviation_at(1) / options.deviation if options.test_noise else 0
    return noise


@torch.no_grad()
def read(model: nn.Module, pictures: Tensor, seed: int = 0) -> Answers:
    """Reads pictures uint8 (N, 1, S, S), as the model's options say; `seed` draws places."""
    options = options_of(model)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    found, places = [], []
    for part in pictures.split(AT_ONCE):
        if options.reader != "glimpse":
            found.append(model(part.to(device)).float().softmax(-1)[:, None].cpu())
            continue
        noise = quiet_noise(options, len(part), options.test_copies, generator)
        looked = model(part.to(device), noise.to(device))
        found.append(looked.logits.float().softmax(-1).mean(1).cpu())
        places.append(looked.places[:, 0].float().cpu())
    return Answers(torch.cat(found), torch.cat(places) if places else None)


def _measure_games(model: nn.Module, games: Games, control: Control) -> Outcome:
    options = options_of(model)
    seeds = torch.from_numpy(games.seeds)
    if control == "trivial":
        rewards = standing_still(games.seeds, options.size)
    else:
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(0)
        noise = quiet_noise(options, len(seeds), 1, generator)
        with torch.no_grad():
            played = play(
                model,  # type: ignore[arg-type]  # of catch it is a GlimpseNetwork
                seeds.to(device),
                noise.to(device),
                None,
                exchanged=control == "shuffled",
            )
        rewards = played.rewards[:, 0].cpu().numpy()
    missed = rewards <= 0
    return Outcome({"error": lambda chosen: float(missed[chosen].mean())}, len(missed))
