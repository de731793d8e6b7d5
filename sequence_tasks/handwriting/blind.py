"""The baseline that looks at nothing: one mixture of Gaussians for every offset."""

from __future__ import annotations

import math

import numpy as np

_PASSES = 20
_SAMPLE = 8_000
_LEAST = 1e-4
"""least variance, in units of the network's numbers"""


class BlindMixture:
    """Gaussians fitted to offsets by expectation maximization, and the share of pen lifts.

    Args:
        numbers: float (N, 3), points of the training data.
        components: Gaussians.
        seed: of the points and centres that the fit begins with.
    """

    def __init__(self, numbers: np.ndarray, components: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(numbers))[:_SAMPLE]
        offsets = numbers[chosen, :2].astype(np.float64)
        components = min(components, len(offsets))
        self.lifted = float(np.clip(numbers[:, 2].mean(), 1e-6, 1 - 1e-6))
        self.weights = np.full(components, 1 / components)
        self.means = offsets[rng.permutation(len(offsets))[:components]]
        self.covariances = np.tile(np.cov(offsets.T) + _LEAST * np.eye(2), (components, 1, 1))
        for _ in range(_PASSES):
            self._improve(offsets)

    def _improve(self, offsets: np.ndarray) -> None:
        logs = self._parts(offsets)
        share = np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))
        total = share.sum(0) + 1e-9
        self.weights = total / total.sum()
        self.means = share.T @ offsets / total[:, None]
        away = offsets[:, None] - self.means
        outer = np.einsum("nk,nki,nkj->kij", share, away, away)
        self.covariances = outer / total[:, None, None] + _LEAST * np.eye(2)

    def _parts(self, offsets: np.ndarray) -> np.ndarray:
        away = offsets[:, None] - self.means
        inverse = np.linalg.inv(self.covariances)
        squares = np.einsum("nki,kij,nkj->nk", away, inverse, away)
        scale = np.log(self.weights) - 0.5 * np.log(np.linalg.det(self.covariances))
        return scale - math.log(2 * math.pi) - 0.5 * squares

    def nats(self, numbers: np.ndarray) -> np.ndarray:
        """Negative logarithm of the likelihood of each point (N, 3)."""
        offsets = np.logaddexp.reduce(self._parts(numbers[:, :2].astype(np.float64)), axis=1)
        pen = np.where(numbers[:, 2] > 0.5, math.log(self.lifted), math.log(1 - self.lifted))
        return -(offsets + pen)

    @property
    def mean(self) -> np.ndarray:
        """Expected offset (2,)."""
        return self.weights @ self.means
