"""The values that actions are chosen by, with the recurrent state of each game."""

from __future__ import annotations

import numpy as np
import torch

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
            values, self.state = network.step(batch, self.state, fresh)
            self._fresh = None
            return values.cpu().numpy()
        finally:
            network.train()

    def get_state(self) -> dict[str, np.ndarray]:
        """The recurrent state of the games by its parts' positions, and which begin anew."""
        state = {str(i): part.float().cpu().numpy() for i, part in enumerate(self.state or ())}
        return state if self._fresh is None else {**state, "fresh": self._fresh}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restores what `get_state` gave."""
        state = dict(state)
        fresh = state.pop("fresh", None)
        self._fresh = None if fresh is None else np.array(fresh, np.bool_)
        parts = [torch.from_numpy(np.array(state[str(i)])) for i in range(len(state))]
        weight = next(self.twin.module.parameters())
        self.state = tuple(part.to(weight) for part in parts) or None
