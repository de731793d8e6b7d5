"""How well a model predicts: nats and bits per character, perplexity, controls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import DataError
from ...tasks import Control, Metric, Outcome, Split, TaskData
from .data import UNIT, Part
from .dynamic import Adaptation, dynamic_losses, gradient_squares

METRICS = (
    Metric("nats", False, "torch cross_entropy, over characters", "nats/character"),
    Metric("bits_per_character", False, "nats over ln 2", "bits"),
    Metric("perplexity", False, "exponential of the mean loss of a token"),
)
WARM_UP = 2_048
"""tokens that a stream reads before those that it is scored on"""
STREAM = 8_192
"""fewest tokens that are worth a stream of their own"""
STREAMS = {"cpu": 16, "cuda": 64}
CHUNK = 512
"""tokens of a stream that are read at once"""
CONTEXTS = (1, 4, 16, 64, 256)
CONTEXT_TOKENS = 16_384
"""tokens that the table of contexts is made from"""


def measure(model: nn.Module, data: TaskData, split: Split, control: Control) -> Outcome:
    """Static evaluation of a part, the state carried from its first token to its last.

    Units are pieces of about 1,000 characters, one behind the other. The first token of the part
    is given, not predicted. "trivial" predicts by the training part's frequencies of tokens.
    "shuffled" reads the text as it is, but each piece is scored by what the model predicted,
    token by token, while it read another piece: what is left is what needs no context.

    Raises:
        DataError: there is no such split.
    """
    part: Part | None = data.splits.get(split)
    if part is None:
        raise DataError(f"this run has no {split} split; score another one.")
    if control == "trivial":
        losses = unigram_losses(data.splits["train"].ids, part)
    elif control == "shuffled":
        losses = static_losses(model, part.ids, shift=_tokens_of_unit(part))
    else:
        losses = static_losses(model, part.ids)
    units = _Units(part, losses)
    details: dict[str, Any] = {"tokens": len(part.ids), "characters": part.characters}
    if part.tokens.kind == "words":
        filler = part.tokens.specials.index("<unk>")
        details["unknown_share"] = float(np.mean(part.ids == filler))
    if control == "none":
        details["nats_after_context"] = nats_by_context(model, part)
        if split == "test" and getattr(model, "dynamic", False):
            learnt = data.splits["train"].ids
            squares = gradient_squares(model, learnt, Adaptation().segment)
            adapted = dynamic_losses(model, part.ids, squares=squares)
            details["dynamic_nats"] = _Units(part, adapted).nats(np.arange(units.count))
    return Outcome(units.metrics(), units.count, details)


@torch.no_grad()
def static_losses(
    model: nn.Module, ids: np.ndarray, *, streams: int | None = None, shift: int = 0
) -> np.ndarray:
    """Nats of each token but the first, float32 (N - 1,), the state carried along.

    Long parts are read as several streams side by side. Each but the first, which begins as the
    part does, reads `WARM_UP` tokens before those that it is scored on.

    Args:
        model: in evaluation mode.
        ids: (N,).
        streams: how many; None for what suits the device and the length.
        shift: each token is scored by what was predicted for the one so many further on, round
            about; 0 for its own prediction.
    """
    device = next(model.parameters()).device
    whole = torch.from_numpy(ids.astype(np.int64)).to(device)
    targets = whole[1:].roll(-shift) if shift else whole[1:]
    count = len(targets)
    streams = streams or max(1, min(STREAMS.get(device.type, 16), count // STREAM))
    warm_up = WARM_UP if streams > 1 else 0
    # Stream 0 is scored on all that it reads, so that all have one length.
    scored = math.ceil((count - warm_up) / streams)
    begins = torch.arange(streams, device=device) * scored
    length = scored + warm_up
    found = whole.new_zeros(count, dtype=torch.float32)
    state = None
    for start in range(0, length, CHUNK):
        steps = torch.arange(start, min(start + CHUNK, length), device=device)
        places = begins[:, None] + steps
        inside = (places < count) & ((steps >= warm_up) | (begins[:, None] == 0))
        places = places.clamp(max=count - 1)
        scores, state = model(whole[places], state)
        losses = _losses(scores, targets[places])
        found[places[inside]] = losses[inside]
    return found.cpu().numpy()


def _losses(scores: Tensor, targets: Tensor) -> Tensor:
    rows = F.cross_entropy(scores.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return rows.reshape(targets.shape)


def unigram_losses(train: np.ndarray, part: Part) -> np.ndarray:
    """Nats of each token but the first, by frequencies of the training part, each plus one."""
    counts = np.bincount(train, minlength=part.tokens.size) + 1.0
    return -np.log(counts / counts.sum())[part.ids[1:]]


@torch.no_grad()
def nats_by_context(model: nn.Module, part: Part) -> dict[str, float]:
    """Nats of a token when only so many tokens before it are known, from a sample of the part."""
    longest = min(max(CONTEXTS), len(part.ids) - 1)
    rows = max(1, min(CONTEXT_TOKENS // longest, (len(part.ids) - 1) // longest))
    starts = np.linspace(0, len(part.ids) - 1 - longest, rows).astype(int)
    device = next(model.parameters()).device
    pieces = part.ids[starts[:, None] + np.arange(longest + 1)].astype(np.int64)
    ids = torch.from_numpy(pieces).to(device)
    losses = _losses(model(ids[:, :-1])[0], ids[:, 1:]).mean(0).cpu().numpy()
    found = {}
    for low, high in zip((0, *CONTEXTS), CONTEXTS, strict=False):
        if high <= longest:
            found[f"{low + 1}-{high}"] = float(losses[low:high].mean())
    return found


def _tokens_of_unit(part: Part) -> int:
    """Tokens of a piece of about `UNIT` characters; of a short part, half of it."""
    tokens = round(UNIT * len(part.ids) / max(part.characters, 1))
    return max(1, min(tokens, (len(part.ids) - 1) // 2))


class _Units:
    """Losses summed over pieces of about 1,000 characters.

    Attributes:
        count: how many pieces.
    """

    def __init__(self, part: Part, losses: np.ndarray):
        starts = np.arange(0, len(losses), _tokens_of_unit(part))
        if len(starts) > 1 and len(losses) - starts[-1] < _tokens_of_unit(part) // 2:
            starts = starts[:-1]  # a short end belongs to the piece before
        self.count = len(starts)
        self.losses = np.add.reduceat(losses.astype(np.float64), starts)
        ends = np.append(starts[1:], len(losses))
        self.tokens = (ends - starts).astype(np.float64)
        self.characters = _characters(part, starts, ends)

    def nats(self, chosen: np.ndarray) -> float:
        """Nats a character."""
        return float(self.losses[chosen].sum() / self.characters[chosen].sum())

    def metrics(self) -> dict[str, Callable[[np.ndarray], float]]:
        """By name; see `Outcome.values`."""
        return {
            "nats": self.nats,
            "bits_per_character": lambda chosen: self.nats(chosen) / math.log(2),
            "perplexity": lambda chosen: float(
                np.exp(self.losses[chosen].sum() / self.tokens[chosen].sum())
            ),
        }


def _characters(part: Part, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Characters of the predicted tokens in each piece; together, those of the text."""
    if part.tokens.kind == "characters":
        return (ends - starts).astype(np.float64)
    ids = part.ids[1:]
    lengths = np.array(
        [len(part.tokens.decode(ids[a:b])) for a, b in zip(starts, ends, strict=True)], float
    )
    # Decoding a piece by itself loses spaces at its ends, and "<unk>" is as long as no word.
    predicted = part.characters - len(part.tokens.decode(part.ids[:1]))
    return lengths * predicted / lengths.sum()
