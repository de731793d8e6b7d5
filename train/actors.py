"""An actor of a distributed run: it plays some of the environments and packs what they did."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import torch
from gymnasium.spaces import Box

from ..agents.acting import Acting
from ..agents.device import choose_precision
from ..agents.exploration import epsilon_ladder, explore
from ..agents.heads import sample_noise
from ..agents.networks import Twin
from ..agents.options import DQNOptions
from ..agents.parts import build_network
from ..agents.shards import Block
from ..envs import EnvStepper, Episode, StepRecord, make_vec
from ..envs.options import Protocol, env_options
from ..errors import UsageError
from .games import GYM_PREFIX


@dataclass(frozen=True)
class ActorSettings:
    """What an actor plays.

    Attributes:
        index: k, of the actor.
        rows: its environments among all n of the run. Actor k of N has k, k + N, ..., so that
            each explores over the whole width of a ladder.
        game: canonical name, or gym:<id>.
        protocol: of the game.
        options: of the agent.
        seed: numbers that no other actor of the run has, a restarted one included.
    """

    index: int
    rows: tuple[int, ...]
    game: str
    protocol: Protocol
    options: DQNOptions
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Played:
    """What the learner is told of a block.

    Attributes:
        version: of the weights that acted.
        process: the actor's process id.
        record: all steps of the block, without observations; rows of one step are neighbours.
    """

    version: int
    process: int
    record: StepRecord


class Actor:
    """Plays with the newest weights that it is given, on one core and the CPU.

    The environments are made at the first `play`, so that what goes wrong there is answered.

    Args:
        settings: see `ActorSettings`.
    """

    def __init__(self, settings: ActorSettings):
        self.settings = settings
        self._version = -1
        self._number = 0
        self._observations: np.ndarray | None = None
        self._stepper: EnvStepper | None = None

    def play(
        self,
        version: int,
        weights: dict[str, np.ndarray],
        steps: int,
        epsilon: float,
        begin: bool,
    ) -> tuple[Block, Played]:
        """Steps all environments.

        Args:
            version: of the weights.
            weights: the network's state, in NumPy.
            steps: T.
            epsilon: share of random actions, where there is no ladder.
            begin: whether new games begin first.

        Raises:
            UsageError: the environments or the network cannot be made.
        """
        try:
            stepper = self._prepare()
        except UsageError as error:
            # As it is it may be of a class that does not travel.
            raise UsageError(str(error)) from None
        if version != self._version:
            # Copied: what Ray hands out is read-only.
            self._acting.twin.load({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
            self._version = version
        first, observations = None, self._observations
        if begin or observations is None:
            observations = stepper.reset(int(self._rng.integers(2**30)))
            self._acting.begin()
            first = self._newest(observations)
        records: list[StepRecord] = []
        states: list[tuple[np.ndarray, ...]] = []
        for _ in range(steps):
            if self._acting.network.memory is not None:
                states.append(self._state())
            records.append(stepper.step(self._act(observations, epsilon)))
            self._acting.end(records[-1].episode_over)
            observations = records[-1].observations
        self._observations = observations
        block = self._pack(first, records, states)
        self._number += 1
        return block, Played(self._version, os.getpid(), self._tell(records))

    def _prepare(self) -> EnvStepper:
        if self._stepper is not None:
            return self._stepper
        told, options = self.settings, self.settings.options
        torch.set_num_threads(1)
        self._rng = np.random.default_rng(told.seed)
        self._generator = torch.Generator().manual_seed(int(self._rng.integers(2**62)))
        stepper = _make_stepper(told)
        space = stepper.observation_space
        assert isinstance(space, Box), "the learner has refused all others"
        with torch.random.fork_rng():
            network = build_network(
                space.shape, stepper.num_actions, replace(options, backbone_weights=None)
            )
        precision = choose_precision(
            options.precision, network, space, stepper.num_envs, torch.device("cpu")
        )
        self._acting = Acting(Twin(network, precision))
        self._ladder = epsilon_ladder(options.num_envs)[list(told.rows)]
        self._stepper = stepper
        return stepper

    def _act(self, observations: np.ndarray, epsilon: float) -> np.ndarray:
        """Epsilon-greedy actions, (n,) int64, under fresh noise where the head is noisy."""
        options, n = self.settings.options, len(observations)
        assert self._stepper is not None
        shares = self._ladder if options.epsilon_ladder else epsilon
        random, actions = explore(self._rng, n, self._stepper.num_actions, shares)
        if random.all() and self._acting.network.memory is None:
            return actions
        if options.noisy:
            sample_noise(self._acting.network, self._generator)
        values = self._acting.values(observations, noisy=options.noisy)
        return np.where(random, actions, values.argmax(axis=1))

    def _state(self) -> tuple[np.ndarray, ...]:
        """The recurrent state of the games, zeros at first."""
        state = self._acting.arrays()
        if state is not None:
            return state
        zeros = self._acting.network.memory.initial_state(len(self.settings.rows))  # type: ignore[union-attr, operator]  # every recurrent backbone has it
        return tuple(part.float().numpy() for part in zeros)

    def _newest(self, observations: np.ndarray) -> np.ndarray:
        """Of (n, *observation) stacks the newest frames, (n, *frame); others as they are."""
        assert self._stepper is not None
        stacked = self._stepper.frame_stack > 1
        return np.ascontiguousarray(observations[:, -1]) if stacked else observations

    def _pack(
        self,
        first: np.ndarray | None,
        records: list[StepRecord],
        states: list[tuple[np.ndarray, ...]],
    ) -> Block:
        rewards = np.stack([record.rewards for record in records])
        return Block(
            number=self._number,
            first=first,
            actions=np.stack([record.actions for record in records]),
            rewards=rewards.clip(-1, 1) if self.settings.options.clip_rewards else rewards,
            terminated=np.stack([record.terminated for record in records]),
            truncated=np.stack([record.truncated for record in records]),
            episode_over=np.stack([record.episode_over for record in records]),
            frames=np.stack([self._newest(record.observations) for record in records]),
            finals={
                (step, row): self._newest(final[None])[0]
                for step, record in enumerate(records)
                for row, final in record.final_observations.items()
                if record.truncated[row]
            },
            states=tuple(np.stack(part) for part in zip(*states, strict=True)),
        )

    def _tell(self, records: list[StepRecord]) -> StepRecord:
        rows = self.settings.rows
        episodes = tuple(
            Episode(rows[one.env_index], one.episode_return, one.length, one.truncated)
            for record in records
            for one in record.episodes
        )
        return StepRecord(
            actions=np.concatenate([record.actions for record in records]),
            rewards=np.concatenate([record.rewards for record in records]),
            terminated=np.concatenate([record.terminated for record in records]),
            truncated=np.concatenate([record.truncated for record in records]),
            episode_over=np.concatenate([record.episode_over for record in records]),
            observations=np.empty(0, np.uint8),
            final_observations={},
            episodes=episodes,
        )


def _make_stepper(told: ActorSettings) -> EnvStepper:
    if told.game.startswith(GYM_PREFIX):
        return EnvStepper(make_vec(told.game, len(told.rows)))
    # An actor is one core.
    options = env_options(told.protocol, training=True, num_threads=1)
    return EnvStepper(make_vec(told.game, len(told.rows), options=options))
