"""A share of a replay memory that several actors fill, for training past one machine.

Horgan et al. (2018), "Distributed Prioritized Experience Replay" (Ape-X). Nothing here knows how
the processes talk to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box

from .options import DQNOptions
from .parts import Memory, Prioritizing, build_memory, build_network
from .sequences import SequenceReplay


@dataclass(frozen=True)
class Block:
    """T steps of an actor's n environments; of stacked observations only the newest frames.

    Attributes:
        number: of the block, one more than that of the actor's block before it.
        first: (n, *frame) what the games showed before the first step, where new ones began in
            all environments; else None.
        actions: (T, n) int64.
        rewards: (T, n) float32, as the learner wants them.
        terminated, truncated, episode_over: (T, n) bool; see `StepRecord`.
        frames: (T, n, *frame) what each step led to.
        finals: (step, environment) -> (*frame), the last ones of games that ended.
        states: of a recurrent memory before each step, each part (T, layers, n, size) float32.
    """

    number: int
    first: np.ndarray | None
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episode_over: np.ndarray
    frames: np.ndarray
    finals: dict[tuple[int, int], np.ndarray]
    states: tuple[np.ndarray, ...]


class Taken(NamedTuple):
    """What a shard says of a block.

    Attributes:
        fits: whether it follows the actor's block before it; one that does not is dropped, and
            the actor must begin new games.
        transitions: that can be drawn from the shard now.
    """

    fits: bool
    transitions: int


class Drawn(NamedTuple):
    """A batch on its way: arrays in place of tensors.

    Attributes:
        actor: whose transitions they are.
        kind: the batch's class.
        values: its fields.
    """

    actor: int
    kind: type
    values: dict[str, Any]


class ReplayShard:
    """The replay memories of some actors, one for each.

    An actor's environments share one memory, so that stacks, n-step returns and sequences are
    rebuilt as on one machine, whatever the other actors do. A batch comes from one actor's memory,
    which is drawn by its number of transitions: importance weights are then right as they are.

    Args:
        options: of the agent; `buffer_size` counts over all actors of all shards.
        environments: actor -> its number of environments.
        space: of one observation.
        num_actions: A.
        frame_stack: frames in an observation; 1 where it is not a stack.
        seed: of the batches drawn.
    """

    def __init__(
        self,
        options: DQNOptions,
        environments: Mapping[int, int],
        space: Box,
        num_actions: int,
        frame_stack: int,
        seed: int,
    ):
        self.options, self.frame_stack = options, frame_stack
        self._rng = np.random.default_rng(seed)
        with torch.random.fork_rng():
            network = build_network(
                space.shape, num_actions, replace(options, backbone_weights=None)
            )
        self._memories: dict[int, Memory] = {
            actor: build_memory(shard_options(options, n), n, space, frame_stack, network)
            for actor, n in environments.items()
        }
        self._next: dict[int, int] = {}  # numbers of the blocks that fit

    def add(self, actor: int, block: Block) -> Taken:
        """Stores a block, unless one before it is missing."""
        if block.first is None and self._next.get(actor) != block.number:
            self._next.pop(actor, None)
            return Taken(False, self._transitions())
        memory = self._memories[actor]
        if block.first is not None:
            memory.reset(self._observations(block.first))
        for t in range(len(block.actions)):
            if isinstance(memory, SequenceReplay):
                parts = (torch.from_numpy(np.array(part[t])) for part in block.states)
                memory.note_state(tuple(parts) or None)
            finals = {
                row: self._observations(frame[None])[0]
                for (step, row), frame in block.finals.items()
                if step == t
            }
            memory.add(
                block.actions[t],
                block.rewards[t],
                block.terminated[t],
                block.truncated[t],
                block.episode_over[t],
                self._observations(block.frames[t]),
                finals,
            )
        self._next[actor] = block.number + 1
        return Taken(True, self._transitions())

    def sample(self, importance: float) -> Drawn:
        """A batch from the memory of one actor.

        Args:
            importance: power of the importance weights, where the memory is prioritized.

        Raises:
            ValueError: no memory holds enough to draw from.
        """
        sizes = {actor: self._usable(memory) for actor, memory in self._memories.items()}
        total = sum(sizes.values())
        if not total:
            raise ValueError("the replay shard holds too few steps to draw from")
        chances = np.array(list(sizes.values())) / total
        actor = int(self._rng.choice(list(sizes), p=chances))
        memory, options = self._memories[actor], self.options
        batch: Any = memory.sample(
            options.batch_size, self._rng, n_step=options.n_step, gamma=options.gamma
        )
        if isinstance(memory, Prioritizing):
            batch = memory.weigh(batch, importance)
        values = {field.name: _to_numpy(getattr(batch, field.name)) for field in fields(batch)}
        return Drawn(actor, type(batch), values)

    def set_priorities(self, actor: int, indices: np.ndarray, errors: np.ndarray) -> None:
        """Gives transitions (or sequences) of an actor the priorities of their newest errors.

        Args:
            actor: of the batch.
            indices: (B,) of the batch.
            errors: (B,) float32, of the loss.
        """
        memory = self._memories[actor]
        if isinstance(memory, Prioritizing):
            memory.set_priorities(indices, errors)

    def _transitions(self) -> int:
        return sum(map(self._usable, self._memories.values()))

    def _usable(self, memory: Memory) -> int:
        enough = len(memory) >= max(self.options.n_step * memory.num_envs, 1)
        return len(memory) if enough else 0

    def _observations(self, frames: np.ndarray) -> np.ndarray:
        """(n, *frame) as the memory takes them: it reads the newest frame of a stack alone."""
        return frames[:, None] if self.frame_stack > 1 else frames


def shard_options(options: DQNOptions, num_envs: int) -> DQNOptions:
    """The options of the memory of an actor with so many of the environments."""
    share = -(-options.buffer_size * num_envs // options.num_envs)
    # What belongs to the learner alone would be refused beside a small memory.
    return replace(options, buffer_size=share, learning_starts=0, batch_size=1)


def unpack(drawn: Drawn) -> Any:
    """The batch that a shard drew, in memory of its own."""
    values = {
        name: np.array(value) if name == "indices" and value is not None else _to_torch(value)
        for name, value in drawn.values.items()
    }
    return drawn.kind(**values)


def _to_numpy(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_to_numpy, value))
    return value.numpy() if isinstance(value, torch.Tensor) else value


def _to_torch(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_to_torch, value))
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
