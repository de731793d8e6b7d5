"""Mixtures of Gaussians with diagonal covariances, one mixture for each state.

Updates are those of expectation-maximization (Rabiner 1989, section V); a mixture grows by
splitting its heaviest Gaussians in two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

_FRAMES_AT_ONCE = 1024
_NEGLIGIBLE = 30.0
"""exp(-30) is below the rounding of a sum that begins with 1; smaller terms may count as this."""
LEAST_OCCUPANCY = 1e-4
"""A frame counts for the states of which it is at least as probable as this."""


class Statistics(NamedTuple):
    """What a pass over the data adds up, in float64.

    Attributes:
        counts: (K, M): frames of each Gaussian.
        first: (K, M, D): sums of them.
        second: (K, M, D): sums of their squares.
    """

    counts: Tensor
    first: Tensor
    second: Tensor

    def plus(self, other: Statistics) -> Statistics:
        """The statistics of both parts of the data."""
        return Statistics(*(a + b for a, b in zip(self, other, strict=True)))


class Occupied(NamedTuple):
    """Which frames count for which states, and how much.

    Attributes:
        frames: (P,) integers, by state.
        weights: (P,) float32, the probability of the state in that frame.
        sizes: of each state, how many of these are its.
    """

    frames: Tensor
    weights: Tensor
    sizes: list[int]

    @classmethod
    def of(cls, occupancies: Tensor, frames: Tensor) -> Occupied:
        """From the probability of each state in each frame.

        Args:
            occupancies: (n, K); those below LEAST_OCCUPANCY count as 0.
            frames: (n,) integers, which frames they are.
        """
        by_state = occupancies.T.contiguous()
        states, places = torch.nonzero(by_state >= LEAST_OCCUPANCY, as_tuple=True)
        sizes = torch.bincount(states, minlength=len(by_state)).tolist()
        return cls(frames[places], by_state[states, places], sizes)

    @classmethod
    def joined(cls, parts: Sequence[Occupied]) -> Occupied:
        """Those of all parts."""
        frames = zip(*(part.frames.split(part.sizes) for part in parts), strict=True)
        weights = zip(*(part.weights.split(part.sizes) for part in parts), strict=True)
        return cls(
            torch.cat([piece for state in frames for piece in state]),
            torch.cat([piece for state in weights for piece in state]),
            [sum(sizes) for sizes in zip(*(part.sizes for part in parts), strict=True)],
        )


class _Packed(NamedTuple):
    """The Gaussians in use as one matrix, for a product with frames (x, x*x).

    Gaussians are ordered by their place in the mixture, then by `order` of their states, which
    puts states with more of them first: the m-th ones are those of the first sizes[m] states.
    """

    matrix: Tensor
    offset: Tensor
    order: Tensor
    sizes: list[int]


@dataclass(frozen=True)
class DiagonalGMM:
    """The densities of K states, each a mixture of at most M Gaussians in D dimensions.

    Attributes:
        log_weights: (K, M) float32; -inf where a state has fewer, always at the end of its row.
        means: (K, M, D) float32.
        variances: (K, M, D) float32.
    """

    log_weights: Tensor
    means: Tensor
    variances: Tensor

    @classmethod
    def flat(cls, states: int, mean: Tensor, variance: Tensor) -> DiagonalGMM:
        """One and the same Gaussian, (D,) each, for every state."""
        means, variances = (part.float().expand(states, 1, -1).clone() for part in (mean, variance))
        return cls(torch.zeros(states, 1), means, variances)

    @property
    def weights(self) -> Tensor:
        """(K, M) float32; each row sums to 1."""
        return self.log_weights.exp()

    @property
    def gaussians(self) -> Tensor:
        """How many Gaussians each state has: (K,) integers."""
        return torch.isfinite(self.log_weights).sum(1)

    @cached_property
    def _terms(self) -> tuple[Tensor, Tensor]:
        """Weights (K, M, 2D) of (x, x*x) and what is added (K, M); float32."""
        means, variances = self.means.double(), self.variances.double()
        weights = torch.cat([means / variances, -0.5 / variances], 2)
        spread = (means * means / variances + variances.log() + math.log(2 * math.pi)).sum(2)
        return weights.float(), (self.log_weights.double() - 0.5 * spread).float()

    @cached_property
    def _packed(self) -> _Packed:
        used = self.gaussians
        order = torch.argsort(used, descending=True, stable=True)
        sizes = [int((used > place).sum()) for place in range(int(used.max()))]
        states = torch.cat([order[:size] for size in sizes])
        places = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        weights, added = self._terms
        return _Packed(weights[states, places], added[states, places, None], order, sizes)

    def log_likelihood(self, features: Tensor) -> Tensor:
        """Of features (N, D) in each state: (N, K) float32."""
        packed = self._packed
        found = torch.empty(len(packed.order), len(features))
        for start in range(0, len(features), _FRAMES_AT_ONCE):
            piece = features[start : start + _FRAMES_AT_ONCE].float()
            squares = torch.cat([piece, piece * piece], 1)
            values = torch.addmm(packed.offset, packed.matrix, squares.T)
            parts = values.split(packed.sizes)
            top = parts[0].clone()
            for size, part in zip(packed.sizes[1:], parts[1:], strict=True):
                torch.maximum(top[:size], part, out=top[:size])
            for size, part in zip(packed.sizes, parts, strict=True):
                part.sub_(top[:size])
            values.clamp_(min=-_NEGLIGIBLE).exp_()
            total = parts[0].clone()
            for size, part in zip(packed.sizes[1:], parts[1:], strict=True):
                total[:size] += part
            found[packed.order, start : start + len(piece)] = total.log_().add_(top)
        return found.T.contiguous()

    def statistics(self, features: Tensor, occupied: Occupied) -> Statistics:
        """Sums over frames, each counted by its state's occupancy and its Gaussian's share.

        Args:
            features: (N, D) float32, from which `occupied` takes frames.
            occupied: which frames count for which states.
        """
        weights, added = self._terms
        states, many, dims = self.means.shape
        counts = torch.zeros(states, many, dtype=torch.float64)
        sums = torch.zeros(states, many, 2 * dims, dtype=torch.float64)
        used = self.gaussians.tolist()
        parts = zip(
            occupied.frames.split(occupied.sizes),
            occupied.weights.split(occupied.sizes),
            strict=True,
        )
        for state, (frames, shares) in enumerate(parts):
            count = used[state]
            for own, share in zip(
                frames.split(_FRAMES_AT_ONCE), shares[:, None].split(_FRAMES_AT_ONCE), strict=True
            ):
                piece = features[own]
                piece = torch.cat([piece, piece * piece], 1)
                if count > 1:
                    logits = torch.addmm(added[state, :count], piece, weights[state, :count].T)
                    share = share * logits.softmax(1)
                counts[state, :count] += share.sum(0)
                sums[state, :count] += share.T @ piece
        return Statistics(counts, sums[..., :dims], sums[..., dims:])

    def updated(self, found: Statistics, floor: Tensor, least_count: float = 3.0) -> DiagonalGMM:
        """The Gaussians that fit the statistics best.

        Args:
            found: statistics under these Gaussians.
            floor: (D,) least variances.
            least_count: a Gaussian with fewer frames is left out, the heaviest one of a state
                excepted. A state with fewer frames in all stays as it is.
        """
        counts = found.counts
        keep = counts >= least_count
        keep[torch.arange(len(counts)), counts.argmax(1)] = True
        keep &= torch.isfinite(self.log_weights)
        total = torch.where(keep, counts, 0.0).sum(1, keepdim=True)
        divisor = counts.clamp(min=1e-10)[..., None]
        means = found.first / divisor
        variances = torch.maximum(found.second / divisor - means * means, floor.double())
        log_weights = torch.where(keep, (counts / total.clamp(min=1e-10)).log(), -torch.inf)
        seen = total >= least_count
        fitted = (log_weights, means, variances)
        old = (self.log_weights, self.means, self.variances)
        chosen = (
            torch.where(seen.view(-1, *[1] * (new.dim() - 1)), new, before.double())
            for new, before in zip(fitted, old, strict=True)
        )
        return _compact(*chosen)

    def split(self, wanted: Tensor, counts: Tensor, least_count: float = 20.0) -> DiagonalGMM:
        """Divides Gaussians in two, the heaviest first, 0.2 standard deviations to either side.

        Args:
            wanted: (K,) integers, how many Gaussians a state shall have; more than there are
                only where they have enough frames.
            counts: (K, M) frames of each Gaussian.
            least_count: of frames that each half must have.
        """
        rows = [self._divided(state, wanted, counts, least_count) for state in range(len(counts))]
        many = max(len(weights) for weights, _, _ in rows)
        dims = self.means.shape[2]
        log_weights = torch.full((len(rows), many), -torch.inf)
        means, variances = torch.zeros(len(rows), many, dims), torch.ones(len(rows), many, dims)
        for state, (weights, mean, variance) in enumerate(rows):
            log_weights[state, : len(weights)] = weights
            means[state, : len(mean)], variances[state, : len(variance)] = mean, variance
        return DiagonalGMM(log_weights, means, variances)

    def _divided(
        self, state: int, wanted: Tensor, counts: Tensor, least_count: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights (m,), means (m, D) and variances (m, D) of a state after splitting."""
        used = int(self.gaussians[state])
        held = counts[state, :used].tolist()
        origin, side, shrunk = list(range(used)), [0.0] * used, [0] * used
        while len(origin) < int(wanted[state]):
            heaviest = max(range(len(held)), key=held.__getitem__)
            if held[heaviest] < 2 * least_count:
                break
            held[heaviest] /= 2
            shrunk[heaviest] += 1
            step = 0.2 / shrunk[heaviest]
            held.append(held[heaviest])
            origin.append(origin[heaviest])
            shrunk.append(shrunk[heaviest])
            side.append(side[heaviest] + step)
            side[heaviest] -= step
        weights = self.log_weights[state, origin] - math.log(2) * torch.tensor(shrunk)
        variances = self.variances[state, origin]
        means = self.means[state, origin] + torch.tensor(side)[:, None] * variances.sqrt()
        return weights, means, variances


def _compact(log_weights: Tensor, means: Tensor, variances: Tensor) -> DiagonalGMM:
    """Puts the Gaussians in use before those that are not."""
    unused = ~torch.isfinite(log_weights)
    order = torch.argsort(unused.int(), dim=1, stable=True)
    order = order[:, : int((~unused).sum(1).max())]
    rows = torch.arange(len(order))[:, None]
    keep = ~unused[rows, order][..., None]
    return DiagonalGMM(
        log_weights[rows, order].float(),
        torch.where(keep, means[rows, order], 0.0).float(),
        torch.where(keep, variances[rows, order], 1.0).float(),
    )
