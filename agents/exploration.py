"""How an agent explores, and the schedules of its figures."""

from __future__ import annotations

import numpy as np

from .options import DQNOptions


def linear_schedule(initial: float, final: float, duration: int, step: int) -> float:
    """The value at `step` on the line from `initial` to `final`, which it keeps afterwards."""
    return initial + (final - initial) * min(step / max(duration, 1), 1.0)


def epsilon_at(options: DQNOptions, step: int) -> float:
    """Share of random actions at an agent step; of a ladder the mean over the environments."""
    if options.epsilon_ladder:
        return float(epsilon_ladder(options.num_envs).mean())
    return linear_schedule(
        options.epsilon_initial, options.epsilon_final, options.epsilon_steps, step
    )


def epsilon_ladder(num_envs: int) -> np.ndarray:
    """(n,) shares of random actions, 0.4^(1 + 7 i / (n - 1)), Horgan et al. (2018)."""
    return 0.4 ** (1 + 7 * np.arange(num_envs) / max(num_envs - 1, 1))


def importance_at(options: DQNOptions, step: int) -> float:
    """Power of the importance weights at an agent step."""
    return linear_schedule(options.importance_exponent, 1.0, options.importance_steps, step)


def explore(
    rng: np.random.Generator, n: int, num_actions: int, epsilon: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which of n rows take a random action, (n,) bool, and one for every row, (n,) int64.

    Both are drawn for all rows, so that the stream does not depend on what is explored.
    """
    return rng.random(n) < epsilon, rng.integers(num_actions, size=n)
