"""The one loop of reinforcement learning: a generator that yields a step at a time.

Logging, evaluation, checkpoints and callbacks consume it; an agent never owns a loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ..envs.device_steps import DeviceRecord, Stepper
from ..envs.transitions import StepRecord


@dataclass(frozen=True)
class LoopStep:
    """One step of all environments and the updates made meanwhile.

    Attributes:
        num_timesteps: agent steps so far, over all environments.
        record: what the environments did.
        losses: loss, q_mean, td_error and grad_norm of the last update; None without one. With
            environments on a device only on the steps that fetch them.
        epsilon: share of random actions in this step.
        num_updates: gradient steps so far.
    """

    num_timesteps: int
    record: StepRecord | DeviceRecord
    losses: dict[str, float] | None
    epsilon: float
    num_updates: int


class Learner(Protocol):
    """What the loop asks of an agent.

    Observations, actions and records are NumPy's, or torch's with a `DeviceStepper`.
    """

    num_timesteps: int
    num_updates: int

    @property
    def stepper(self) -> Stepper: ...

    @property
    def epsilon(self) -> float: ...

    def begin(self) -> Any: ...

    def act(self, observations: Any) -> Any: ...

    def observe(self, record: Any) -> None: ...

    def update_when_due(self) -> dict[str, float] | None: ...


def run_steps(learner: Learner, total_timesteps: int) -> Iterator[LoopStep]:
    """Deep Q-learning, Mnih et al. (2015), Algorithm 1, on many environments at once.

    The updates that the previous steps made due run between sending the actions and receiving
    what came of them, so that a backend with threads of its own emulates while the network learns.

    Args:
        learner: the agent; its counters say where an earlier call stopped.
        total_timesteps: agent steps to reach, over all environments.
    """
    observations = learner.begin()
    while learner.num_timesteps < total_timesteps:
        actions = learner.act(observations)
        epsilon = learner.epsilon
        learner.stepper.send(actions)
        losses = learner.update_when_due()
        record = learner.stepper.recv()
        learner.observe(record)
        observations = record.observations
        yield LoopStep(learner.num_timesteps, record, losses, epsilon, learner.num_updates)
