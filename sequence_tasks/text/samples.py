"""What a model writes by itself, and what its cells follow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from torch import nn

from ...datasets.tokens import Tokens
from ...tasks import Sample, TaskData
from .data import Part
from .neurons import activations, picture, telling_neurons
from .sampling import Sampling
from .writing import Start, unknown_ids, write

LENGTH = 600
"""tokens of a sample"""
TEMPERATURE = 0.8
NEURONS = 4
"""cells that are shown"""
_STUDIED, _SHOWN = 2_000, 600
"""tokens of the test part that cells are chosen by, and that are shown"""


def samples(model: nn.Module, data: TaskData, count: int) -> Sequence[Sample]:
    """`count` texts at temperature 0.8, and one picture of telling cells on the test part."""
    with torch.autocast("cpu", enabled=False):  # a step is too short to gain from it
        return _samples(model, data, count)


def _samples(model: nn.Module, data: TaskData, count: int) -> Sequence[Sample]:
    part: Part = data.splits["test"]
    start = Start(np.array([data.facts["start"]]), count)
    steps = write(
        model, start, Sampling(TEMPERATURE), np.random.default_rng(0), unknown_ids(part.tokens)
    )
    ids = np.stack(list(islice(steps, LENGTH)), axis=1)
    found = [Sample(f"text_{i + 1}", text=part.tokens.decode(row)) for i, row in enumerate(ids)]
    drawn = neurons_picture(model, part.tokens, part.ids[:_STUDIED], _SHOWN, NEURONS)
    return [*found, Sample("neurons", picture=drawn)]


def neurons_picture(
    model: nn.Module, tokens: Tokens, ids: np.ndarray, shown: int, count: int
) -> np.ndarray:
    """The first `shown` of the ids, coloured by the `count` cells that are most telling on all."""
    pieces = [tokens.decode([token]) for token in ids.tolist()]
    cells = activations(model, ids)
    best = telling_neurons(cells, pieces, count)
    values = [cells[:shown, one.layer, one.cell] for one in best]
    return picture(pieces[:shown], values, [one.title for one in best])
