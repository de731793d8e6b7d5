"""Utterances of very different lengths, worked on in batches of similar ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .gmm import DiagonalGMM
from .graphs import GraphBatch, UtteranceGraph, batch_graphs

CELLS_AT_ONCE = 2_000_000
"""Frames times positions of a batch: a table of so many float32 takes 8 MB."""


@dataclass(frozen=True)
class Batch:
    """B utterances that are worked on together.

    Attributes:
        rows: their numbers.
        graphs: of their words.
        lengths: (B,) integers, frames of each.
        inside: (B, T) bool, which frames there are.
        frames: (n,) integers, places of those in the table of all frames.
    """

    rows: list[int]
    graphs: GraphBatch
    lengths: Tensor
    inside: Tensor
    frames: Tensor


@dataclass(frozen=True)
class Corpus:
    """Frames of many utterances.

    Attributes:
        frames: (N, D) float32, one utterance after the other.
        starts: where each begins.
        lengths: how many frames each has.
    """

    frames: Tensor
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, features: Sequence[np.ndarray]) -> Corpus:
        """From each utterance's features (T, D)."""
        lengths = np.array([len(one) for one in features])
        frames = torch.from_numpy(np.concatenate(features).astype(np.float32, copy=False))
        return cls(frames, np.cumsum(lengths) - lengths, lengths)

    def batches(self, graphs: Sequence[UtteranceGraph]) -> list[Batch]:
        """All utterances that are long enough for their graphs, by length."""
        fitting = [
            row
            for row, (graph, length) in enumerate(zip(graphs, self.lengths, strict=True))
            if length >= graph.least_frames
        ]
        # Lengths within a quarter of each other, then sizes: little is padded in either way.
        strips = np.round(np.log(self.lengths) / 0.25)
        fitting.sort(key=lambda row: (strips[row], len(graphs[row].states), self.lengths[row]))
        groups: list[list[int]] = []
        for row in fitting:
            group = [*groups[-1], row] if groups else [row]
            cells = len(group) * self.lengths[group].max() * len(graphs[row].states)
            if groups and cells <= CELLS_AT_ONCE and strips[row] == strips[group[0]]:
                groups[-1].append(row)
            else:
                groups.append([row])
        return [self._batch(group, graphs) for group in groups]

    def _batch(self, rows: list[int], graphs: Sequence[UtteranceGraph]) -> Batch:
        lengths = self.lengths[rows]
        clock = np.arange(lengths.max())
        inside = clock < lengths[:, None]
        frames = (self.starts[rows][:, None] + clock)[inside]
        return Batch(
            rows,
            batch_graphs([graphs[row] for row in rows]),
            torch.from_numpy(lengths),
            torch.from_numpy(inside),
            torch.from_numpy(frames),
        )

    def emissions(self, gmm: DiagonalGMM, batch: Batch) -> Tensor:
        """Log-likelihoods (B, T, K), 0 after an utterance's end."""
        found = gmm.log_likelihood(self.frames[batch.frames])
        padded = found.new_zeros(*batch.inside.shape, found.shape[1])
        padded[batch.inside] = found
        return padded
