"""Training past one machine: a learner here, actors and replay shards on Ray.

Horgan et al. (2018), "Distributed Prioritized Experience Replay" (Ape-X), and with a recurrent
network Kapturowski et al. (2019), "Recurrent Experience Replay in Distributed Reinforcement
Learning" (R2D2).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium.spaces import Box

from ..agents.acting import Acting
from ..agents.dqn import DQN
from ..agents.exploration import importance_at
from ..agents.loop import LoopStep
from ..agents.options import DQNOptions
from ..agents.parts import Memory
from ..agents.shards import unpack
from ..envs import StepRecord
from ..envs.device_steps import Stepper
from ..envs.options import Protocol
from ..errors import UsageError
from .actors import ActorSettings, Played
from .cluster import LOCAL, connect

BLOCK_STEPS = 256  # agent steps of a block, where 8 to 64 steps of its environments make so many
PUBLISH_EVERY = 16  # updates after which actors get new weights
PATIENCE = 60.0  # seconds without a block after which the user is told
BEAT = 0.5  # seconds after which the loop is heard of, whatever comes


@dataclass(frozen=True)
class Distribution:
    """How a run is spread over processes.

    Attributes:
        address: of the Ray cluster; see `cluster.connect`.
        actors: processes that play, one core each.
        shards: processes that hold the replay memory.
        game: canonical name, or gym:<id>.
        protocol: of the game.
    """

    address: str
    actors: int
    shards: int
    game: str
    protocol: Protocol


def refuse_undistributable(options: Any, actors: int, shards: int) -> None:
    """Raises UsageError for what cannot be learnt with actors elsewhere."""
    if not isinstance(options, DQNOptions):
        raise UsageError("--ray is for agents with a replay memory; take --agent dqn.")
    if options.rollout_steps:
        raise UsageError(
            "agents without a replay memory, such as pqn, gain nothing from --ray: each step is "
            "learnt from at once, where it was made. Leave --ray out and raise --num-envs, or "
            "take --agent dqn."
        )
    if options.num_envs < actors:
        raise UsageError(
            f"{actors} actors need an environment each, but num_envs is {options.num_envs}; "
            f"write --num-envs {actors} or more."
        )
    if actors < shards:
        raise UsageError(
            f"{shards} replay shards need an actor each that fills them, but there are {actors}; "
            "lower --replay-shards."
        )


class DistributedDQN:
    """An agent of the DQN family that learns here from what actors elsewhere play.

    It learns as `DQN` does, for it holds one, whose replay memory is elsewhere. The replay ratio
    is kept too: updates wait for steps, and actors pause while updates are behind by more than the
    blocks that are under way. Runs do not repeat exactly, for what the actors have played when an
    update is made depends on the clock.

    Args:
        stepper: environments of the kind that the actors make; they are never stepped.
        options: `num_envs` and `buffer_size` count over all actors.
        where: the processes.
        seed: of everything that is drawn.
        device: where the learner computes; actors use the CPU.
        say: takes a line for the user.

    Raises:
        UsageError: the options cannot be distributed, or the cluster cannot be joined.
    """

    def __init__(
        self,
        stepper: Stepper,
        options: DQNOptions,
        where: Distribution,
        *,
        seed: int = 0,
        device: str = "auto",
        say: Callable[[str], None] = print,
    ):
        refuse_undistributable(options, where.actors, where.shards)
        self.stepper, self.where, self.seed, self._say = stepper, where, seed, say
        self._fleet: Any = None
        # First of all: nothing else is worth its time where the cluster cannot be joined.
        self._leave = connect(where.address, where.actors)
        self._threads = torch.get_num_threads()
        if where.address == LOCAL:  # the other cores are the actors'
            left = (os.cpu_count() or 1) - where.actors
            torch.set_num_threads(max(min(self._threads, left), 1))
        self._asked_options = options
        stepper.reset(seed)
        self._agent = DQN(stepper, options, seed=seed, device=device)
        self.options = self._agent.options
        self._agent.replay = cast(Memory, _Batches(self))  # an update only draws from it
        self._batch: Any = None  # of the update being made
        self._updates_due = 0.0
        self._weights: Any = None
        self._published = -1  # updates that the weights had when they were sent

    @property
    def num_timesteps(self) -> int:
        """Agent steps over all actors."""
        return self._agent.num_timesteps

    @property
    def num_updates(self) -> int:
        """Gradient steps."""
        return self._agent.num_updates

    @property
    def epsilon(self) -> float:
        """Share of random actions now; of a ladder the mean."""
        return self._agent.epsilon

    @property
    def updates_per_step(self) -> float:
        """Updates that an agent step makes due."""
        return self.options.replay_ratio / self.options.replayed_per_update

    @property
    def processes(self) -> Any:
        """The `Fleet`, once `steps` has begun; None before."""
        return self._fleet

    # ---- the loop

    def steps(self, total_timesteps: int) -> Iterator[LoopStep]:
        """Learns until `total_timesteps` agent steps were made in all, over all actors.

        A LoopStep is a block of one actor, without observations, or, where none comes for half a
        second, empty.
        """
        if self._fleet is None:
            self._fleet = self._start()
        metrics: dict[str, float] | None = None
        told = heard = time.monotonic()
        warned = False
        while self.num_timesteps < total_timesteps:
            self._ask()
            metrics = self._update_when_due() or metrics
            starved = self._updates_due >= 1 and self._fleet.ready()
            busy = starved and self._fleet.batches
            blocks = self._fleet.wait(0.0 if busy else BEAT, for_batches=bool(starved))
            now = time.monotonic()
            for played in blocks:
                epsilon = self.epsilon
                self._observe(played)
                yield self._step(played.record, metrics, epsilon)
                metrics, told, heard, warned = None, now, now, False
            if now - told >= BEAT:
                yield self._step(EMPTY, metrics, self.epsilon)
                metrics, told = None, now
            # Actors that pause for the learner are not missed.
            heard = now if starved else heard
            if now - heard >= PATIENCE and not warned:
                self._say(
                    f"no actor has answered for {PATIENCE:.0f} s; 'ray status' shows whether the "
                    "cluster has room for them. Waiting."
                )
                warned = True

    def _step(
        self, record: StepRecord, metrics: dict[str, float] | None, epsilon: float
    ) -> LoopStep:
        return LoopStep(self.num_timesteps, record, metrics, epsilon, self.num_updates)

    def _start(self) -> Any:
        from .fleet import Fleet, Replay

        options, where = self._asked_options, self.where
        space = self.stepper.observation_space
        assert isinstance(space, Box)  # DQN has refused others
        actors = [
            ActorSettings(
                index=k,
                rows=tuple(range(k, options.num_envs, where.actors)),
                game=where.game,
                protocol=where.protocol,
                options=options,
                seed=(self.seed, self.num_timesteps, k),
            )
            for k in range(where.actors)
        ]
        replay = Replay(options, space, self.stepper.num_actions, self.stepper.frame_stack)
        return Fleet(actors, where.shards, replay, self._say)

    def _ask(self) -> None:
        """Keeps actors and shards busy, actors only as far as the replay ratio allows."""
        fleet, per_step = self._fleet, self.updates_per_step
        under_way = fleet.steps_in_flight(BLOCK_STEPS)
        # Each actor may be two blocks ahead, however slow the learner.
        ahead = 2 * sum(
            fleet.block_steps(k, BLOCK_STEPS) * fleet.environments(k)
            for k in range(self.where.actors)
        )
        behind = self._updates_due / per_step if fleet.ready() else 0.0
        # One more update's worth: else few steps of a low replay ratio could wait for each other.
        allowed = int(ahead + 1 / per_step - behind) - under_way
        if allowed > 0:
            version, weights = self._publish()
            fleet.ask_for_blocks(BLOCK_STEPS, version, weights, self.epsilon, allowed)
        fleet.ask_for_batches(importance_at(self.options, self.num_timesteps))

    def _publish(self) -> tuple[int, Any]:
        """Puts the newest weights where actors fetch them, once in a while."""
        import ray

        if self._weights is None or self.num_updates - self._published >= PUBLISH_EVERY:
            state = self._agent.network.state_dict()
            self._weights = ray.put({name: part.cpu().numpy() for name, part in state.items()})
            self._published = self.num_updates
        return self._published, self._weights

    def _observe(self, played: Played) -> None:
        """Counts a block, and the updates due for it while there is something to learn from."""
        steps = len(played.record.rewards)
        self._agent.num_timesteps += steps
        self._agent.episodes_seen += len(played.record.episodes)
        if self._fleet.ready():
            self._updates_due += steps * self.updates_per_step

    def _update_when_due(self) -> dict[str, float] | None:
        """Makes one update, where one is due and its batch is there; its statistics."""
        if self._updates_due < 1 or not self._fleet.batches:
            return None
        self._updates_due -= 1
        agent, options = self._agent, self.options
        metrics = agent.update()
        # Counted in updates, the target follows as on one machine, however large the blocks.
        every = max(options.target_update * self.updates_per_step, 1.0)
        if agent.num_updates // every > (agent.num_updates - 1) // every:
            agent.target.copy_from(agent.online, options.target_tau)
        return {name: float(value) for name, value in metrics.items()}

    def next_batch(self) -> Any:
        """The batch of the next update, taken off those that the shards have drawn."""
        self._batch = self._fleet.batches.popleft()
        return unpack(self._batch.drawn)

    def set_priorities(self, errors: np.ndarray) -> None:
        """Tells the shard that drew the batch of an update of its errors (B,)."""
        self._fleet.set_priorities(self._batch, errors)

    # ---- what evaluation and checkpoints ask

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """See `DQN.q_values`."""
        return self._agent.q_values(observations)

    def player(self) -> Acting:
        """See `DQN.player`."""
        return self._agent.player()

    def save(self, path: str | Path) -> None:
        """See `DQN.save`."""
        self._agent.save(path)

    def get_state(self, replay: bool = True) -> dict[str, Any]:
        """The learner's state, as `DQN.get_state` gives it; games and replay memory stay out.

        `DQN.set_state` takes it too: a distributed run may go on on one machine.
        """
        return {**self._agent.get_state(replay=False), "observations": None, "env": None}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from `get_state`'s answer, or `DQN`'s; the replay memory is filled anew."""
        self._agent.set_state({**state, "replay": None})
        self._updates_due = 0.0

    def close(self) -> None:
        """Ends the actors and shards, and the cluster where it was started here."""
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None
        torch.set_num_threads(self._threads)
        self._leave()


class _Batches:
    """Stands for the replay memory in the learner's process.

    Args:
        agent: knows the batches that have come.
    """

    def __init__(self, agent: DistributedDQN):
        self._agent = agent

    def sample(
        self, batch_size: int, rng: np.random.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> Any:
        """The next batch; the shards know what it is to be like."""
        return self._agent.next_batch()

    def weigh(self, batch: Any, exponent: float) -> Any:
        """The batch as it is: its shard has weighed it."""
        return batch

    def set_priorities(self, indices: np.ndarray, errors: np.ndarray) -> None:
        """Sends the errors to where the batch was drawn, which knows it by the same indices."""
        self._agent.set_priorities(errors)


EMPTY = StepRecord(
    actions=np.empty(0, np.int64),
    rewards=np.empty(0, np.float32),
    terminated=np.empty(0, np.bool_),
    truncated=np.empty(0, np.bool_),
    episode_over=np.empty(0, np.bool_),
    observations=np.empty(0, np.uint8),
    final_observations={},
    episodes=(),
)
