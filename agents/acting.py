"""The values that actions are chosen by, with the recurrent state of each game."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .networks import QNetwork, State, Twin


class Acting:
    """Values of what several games show, step by step.

    Attributes:
        state: recurrent state of the games after the last call; None before the first, and for
            networks without memory.

    Args:
        twin: the network; its newest weights are used at each call.
    """

    def __init__(self, twin: Twin):
        self.twin = twin
        self.state: State | None = None
        self._fresh: np.ndarray | None = None

    @property
    def network(self) -> QNetwork:
        return self.twin.module

    def begin(self) -> None:
        """All games begin anew: the state is forgotten."""
        self.state = self._fresh = None

    def end(self, episode_over: np.ndarray) -> None:
        """The games of a (n,) bool mask are over: their state is zeroed before the next step."""
        self._fresh = episode_over

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with some of the games only: (m,) their places among those of the last call."""
        if self.state is not None:
            self.state = tuple(part[:, torch.from_numpy(rows)] for part in self.state)
        if self._fresh is not None:
            self._fresh = self._fresh[rows]

    @torch.inference_mode()
    def values(self, observations: np.ndarray, *, noisy: bool = False) -> np.ndarray:
        """(n, *observation) -> (n, A) float32; with `noisy`, under the noise drawn last."""
        network = self.twin.module
        device = next(network.parameters()).device
        batch = torch.from_numpy(np.ascontiguousarray(observations)).to(device)
        network.train(noisy)
        try:
            if network.memory is None:
                return network(batch).cpu().numpy()
            fresh = None if self._fresh is None else torch.from_numpy(self._fresh).to(device)
            values, self.state = network.advance(batch, self.state, fresh)
            self._fresh = None
            return values.cpu().numpy()
        finally:
            network.train()

    def glance(self, game: int = 0) -> Glance:
        """The network as it would judge the next observation of one game, whatever it shows."""
        state = self.state
        if state is not None:
            over = self._fresh is not None and bool(self._fresh[game])
            state = None if over else tuple(part[:, game : game + 1] for part in state)
        return Glance(self.twin.master, state)

    def arrays(self) -> tuple[np.ndarray, ...] | None:
        """The recurrent state, each part (layers, n, size) float32; None where there is none."""
        if self.state is None:
            return None
        return tuple(part.float().cpu().numpy() for part in self.state)

    def set_arrays(
        self, state: tuple[np.ndarray, ...] | None, fresh: np.ndarray | None = None
    ) -> None:
        """Restores what `arrays` gave, and which games (n,) begin with the next observation."""
        self._fresh = None if fresh is None else np.atleast_1d(fresh).astype(np.bool_)
        self.state = None
        if state is not None and self.twin.module.memory is not None:
            weight = next(self.twin.module.parameters())
            self.state = tuple(torch.from_numpy(np.array(part)).to(weight) for part in state)

    def get_state(self) -> dict[str, np.ndarray]:
        """The recurrent state of the games by its parts' positions, and which begin anew."""
        state = {str(i): part for i, part in enumerate(self.arrays() or ())}
        return state if self._fresh is None else {**state, "fresh": self._fresh}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restores what `get_state` gave."""
        parts = tuple(state[str(i)] for i in range(len(state) - ("fresh" in state)))
        self.set_arrays(parts or None, state.get("fresh"))


class Glance(nn.Module):
    """A network at one moment of one game: it values observations and goes on to nothing.

    Args:
        network: with or without memory.
        state: of its memory, each part (layers, 1, size); None for zeros, or without memory.
    """

    def __init__(self, network: QNetwork, state: State | None):
        super().__init__()
        self._network = network
        self._state = state

    @property
    def network(self) -> Glance:
        return self

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(B, *observation) -> (B, A) float32 values if the game showed them now."""
        if self._state is None:
            return self._network(observations)
        state = tuple(part.expand(-1, len(observations), -1).clone() for part in self._state)
        return self._network.advance(observations, state)[0]

    @torch.no_grad()
    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """The same in NumPy, without noise."""
        device = next(self._network.parameters()).device
        self._network.eval()
        try:
            return self(torch.from_numpy(observations).to(device)).cpu().numpy()
        finally:
            self._network.train()
