"""Text that a model writes: from a prompt, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...backbones.recurrent import State
from ...datasets.tokens import UNKNOWN, Tokens
from .sampling import Sampling, draw
from .scores import CHUNK
from .stepper import make_stepper


@dataclass(frozen=True)
class Start:
    """Where writing begins.

    Attributes:
        ids: what was read, at least one token, int64 (N,).
        rows: texts that are written side by side.
    """

    ids: np.ndarray
    rows: int = 1


@torch.no_grad()
def read_ids(model: nn.Module, ids: np.ndarray, rows: int = 1) -> State:
    """The state after reading ids (N,), for so many equal rows; all zeros after none."""
    device = next(model.parameters()).device
    state: State = model.backbone.initial_state(1)  # type: ignore[union-attr, operator]
    for begin in range(0, len(ids), CHUNK):
        piece = torch.from_numpy(ids[begin : begin + CHUNK].astype(np.int64))
        _, state = model(piece[None].to(device), state)
    return tuple(part.float().cpu().repeat(1, rows, 1) for part in state)


def write(
    model: nn.Module,
    start: Start,
    sampling: Sampling,
    rng: np.random.Generator,
    never: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Draws tokens without end.

    Args:
        model: in evaluation mode.
        start: what is read first.
        sampling: how tokens are drawn.
        rng: draws; a row's text depends on the number of rows.
        never: ids that are never drawn.

    Yields:
        The next token of each row, int64 (rows,).
    """
    stepper = make_stepper(model, read_ids(model, start.ids[:-1], start.rows))
    ids = np.full(start.rows, start.ids[-1], np.int64)
    latest = np.tile(start.ids[-sampling.memory :].astype(np.int64), (start.rows, 1))
    while True:
        scores = stepper.read(ids)
        if never is not None and len(never):
            scores[:, never] = -np.inf
        ids = draw(scores, sampling, rng.random(start.rows), latest)
        if sampling.penalty != 1:
            latest = np.append(latest, ids[:, None], axis=1)[:, -sampling.memory :]
        yield ids


def unknown_ids(tokens: Tokens) -> np.ndarray:
    """Ids that stand for what is not in the vocabulary."""
    return np.flatnonzero(np.asarray(tokens.names) == UNKNOWN)


class Decoder:
    """Text of tokens that come one by one.

    Words need the token before to know their spaces, and a character may need several bytes, so a
    piece is decoded together with some tokens before it.
    """

    _KEPT = 8

    def __init__(self, tokens: Tokens, before: np.ndarray):
        self.tokens = tokens
        self._before = before[-self._KEPT :].tolist()
        self._new: list[int] = []

    def add(self, token: int) -> str:
        """The text that this token completes; "" while a character is unfinished."""
        if self.tokens.kind == "characters":
            return self.tokens.decode([token])
        self._new.append(token)
        known = self.tokens.decode(self._before)
        text = self.tokens.decode(self._before + self._new)
        if text.endswith("\ufffd") and len(self._new) < self._KEPT:
            return ""
        self._before = (self._before + self._new)[-self._KEPT :]
        self._new = []
        return text[len(known) :]
