"""The parts that options name: the network and the memory of an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import nn

from ..backbones import BACKBONES, channels_last, create_backbone
from ..errors import UsageError
from .methods import LossFunction, find_method
from .networks import QNetwork
from .options import DQNOptions
from .replay import Batch, FrameReplay, replay_bytes

if TYPE_CHECKING:
    from .sequences import SequenceBatch


class Memory(Protocol):
    """What an agent learns from: a replay memory, or the newest rollout."""

    num_envs: int

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def reset(self, observations: np.ndarray) -> None: ...

    def add(
        self,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        episode_over: np.ndarray,
        observations: np.ndarray,
        final_observations: dict[int, np.ndarray],
    ) -> None: ...

    def sample(
        self, batch_size: int, rng: np.random.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> Batch | SequenceBatch: ...

    def get_state(self) -> dict: ...

    def set_state(self, state: dict) -> None: ...


@runtime_checkable
class Prioritizing(Protocol):
    """A memory that may draw by priority: it weighs what it drew, and is told of the errors."""

    def weigh(self, batch: Any, exponent: float) -> Any:
        """The batch that `sample` gave last, with importance weights of this power."""
        ...

    def set_priorities(self, indices: Any, errors: Any) -> None:
        """Gives transitions (or sequences) the priorities of their newest errors."""
        ...


def build_network(
    observation_shape: tuple[int, ...], num_actions: int, options: DQNOptions
) -> QNetwork:
    """The Q-network that the options name.

    Raises:
        UsageError: a backbone is unknown, or cannot take this observation shape.
    """
    backbone: nn.Module = create_backbone(
        options.backbone,
        observation_shape,
        weights=options.backbone_weights,
        **options.backbone_kwargs(),
    )
    features = int(backbone.out_features)  # type: ignore[arg-type]  # every backbone has it
    memory = None
    if options.memory is not None:
        if BACKBONES[options.memory].kind != "recurrent":
            raise UsageError(
                f"memory {options.memory!r} is not recurrent; take lstm or gru "
                "('eightbit list backbones' shows all)."
            )
        memory = create_backbone(options.memory, (features,), **options.memory_kwargs())
        if getattr(memory, "directions", 1) == 2:
            raise UsageError("an agent cannot read backwards in time: leave bidirectional out.")
        features = int(memory.out_features)  # type: ignore[arg-type]
    head = find_method(options.method).make_head(features, num_actions, options)
    network = QNetwork(backbone, head, memory)
    if len(observation_shape) == 3:
        network = channels_last(network)
    return network


def build_memory(
    options: DQNOptions, num_envs: int, space: Box, frame_stack: int, network: QNetwork
) -> Memory:
    """The memory that the options name, empty.

    Args:
        options: of the agent.
        num_envs: environments that are added at each step.
        space: of one observation.
        frame_stack: frames in an observation; 1 where it is not a stack.
        network: whose recurrent states a sequence memory keeps.
    """
    if options.rollout_steps:
        from .rollout import Rollout

        return Rollout(options, num_envs, space.shape, space.dtype)
    replay = FrameReplay(
        options.buffer_size, num_envs, space.shape, space.dtype, frame_stack=frame_stack
    )
    if options.sequence_length:
        from .sequences import SequenceReplay

        return SequenceReplay(replay, options, network)
    if options.prioritized:
        from .prioritized import PrioritizedReplay

        return PrioritizedReplay(replay, options.priority_exponent)
    return replay


def build_loss(options: DQNOptions, generator: torch.Generator) -> LossFunction:
    """The loss of what the memory of these options samples."""
    if options.rollout_steps:
        from .rollout import make_rollout_loss

        return make_rollout_loss(options)
    if options.sequence_length:
        from .sequences import make_sequence_loss

        # What this memory samples is what this loss takes.
        return cast(LossFunction, make_sequence_loss(options))
    return find_method(options.method).make_loss(options, generator)


def memory_bytes(options: DQNOptions, num_envs: int, space: Box, frame_stack: int) -> int:
    """Bytes that `build_memory` will allocate for observations, actions and rewards."""
    transitions = options.rollout_steps * num_envs or options.buffer_size
    return replay_bytes(
        transitions,
        num_envs,
        space.shape,
        space.dtype,
        1 if options.rollout_steps else frame_stack,
    )
