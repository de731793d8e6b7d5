"""Reads prepared paths with a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from ...datasets.strokes import Writing
from .._ctc.beam import LabelLanguage, prefix_beam_search
from .._ctc.labels import decode
from .._ctc.paths import best_path, text_nll
from .._ctc.spelling import LabelNGrams
from .._lengths import of_one_length
from .model import Reader, padded
from .options import ReadHandwritingOptions

_POINTS = 60_000
"""points of a batch, padding included, at most"""
_MULTIPLE = 64


@dataclass(frozen=True)
class Reading:
    """What a line says.

    Attributes:
        text: may be empty.
        confidence: in [0, 1]: the network's probability of the text, its geometric mean over the
            characters; that of an empty text is its probability.
    """

    text: str
    confidence: float


@torch.no_grad()
def read_lines(
    model: nn.Module,
    lines: Sequence[Writing],
    alphabet: Sequence[str],
    options: ReadHandwritingOptions,
) -> list[Reading]:
    """Reads lines that `data.ready` made.

    Lines of one padded length go through the network together, so that what is read does not
    depend on the other lines.

    Args:
        model: in evaluation mode, on the device that shall compute.
        options: of the task; `decode`, `beam` and `language` may be others than in training.
    """
    reader = cast(Reader, model)
    table = reader.language.float().cpu().numpy()
    weighed = options.language > 0 and bool(table.any())
    language = LabelNGrams(table, options.language) if weighed else None
    width = options.beam if options.decode == "beam" else 0
    found: list[Reading | None] = [None] * len(lines)
    for some in of_one_length([len(one.points) for one in lines], _MULTIPLE, _POINTS):
        paths, lengths = padded([lines[i].points for i in some], _MULTIPLE)
        readings = _read(reader, paths, lengths, width, language)
        for index, (labels, confidence) in zip(some, readings, strict=True):
            found[index] = Reading(decode(labels, alphabet).strip(), confidence)
    return [one for one in found if one is not None]


def _read(
    model: Reader,
    paths: np.ndarray,
    lengths: np.ndarray,
    width: int,
    language: LabelLanguage | None,
) -> list[tuple[list[int], float]]:
    """Labels and confidence of each row; by the best path where `width` is 0."""
    device = next(model.parameters()).device
    log_probs, frames = model(
        torch.from_numpy(paths).to(device), torch.from_numpy(lengths).to(device)
    )
    log_probs, frames = log_probs.cpu(), frames.cpu()
    rows = [row[:count] for row, count in zip(log_probs.numpy(), frames.tolist(), strict=True)]
    if width == 0:
        labels = [best_path(row)[0] for row in rows]
    else:  # a trigram forbids no text, so that there is one
        labels = [list(prefix_beam_search(row, width, language)[0].labels) for row in rows]
    sizes = torch.tensor([len(one) for one in labels])
    targets = torch.zeros(len(labels), max(1, int(sizes.max())), dtype=torch.int64)
    for row, one in enumerate(labels):
        targets[row, : len(one)] = torch.tensor(one, dtype=torch.int64)
    nll = text_nll(log_probs, frames, targets, sizes)
    confidence = torch.exp(-nll / sizes.clamp(min=1)).clamp(0, 1)
    return list(zip(labels, confidence.tolist(), strict=True))
