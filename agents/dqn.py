"""Deep Q-networks: Mnih et al. (2013, 2015), with the options that have become standard."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from gymnasium.vector import VectorEnv

from ..envs.device_steps import DeviceStepper, Stepper, as_stepper
from ..envs.transitions import StepRecord
from ..errors import TrainingError, UsageError
from . import files
from .acting import Acting
from .device import choose_device, choose_precision
from .device_agent import DeviceSide, Step, device_of_games, learns_on_device
from .device_rollout import DeviceRollout
from .exploration import (
    epsilon_at,
    epsilon_ladder,
    explore,
    importance_at,
    linear_schedule,
)
from .heads import sample_noise
from .loop import LoopStep, run_steps
from .networks import QNetwork, Twin
from .options import DQNOptions
from .parts import (
    Memory,
    Prioritizing,
    build_loss,
    build_memory,
    build_network,
    memory_bytes,
)
from .rollout import Rollout
from .sequences import SequenceReplay
from .update import build_optimizer, gradient_step, set_rate

T = TypeVar("T")


class DQN:
    """A deep Q-network that learns from the environments given.

    Args:
        env: a Gymnasium vector environment with discrete actions, or a stepper; None for an agent
            that only plays (see `load`). Where it gives torch tensors, everything stays on their
            device.
        options: what varies between runs.
        seed: of the weights, exploration, replay and the environments' first reset.
        device: "auto", "cpu", "cuda", "mps".
        observation_space, num_actions, frame_stack: taken from `env` where one is given.

    Raises:
        UsageError: the backbone is unknown or does not fit the observations.
    """

    def __init__(
        self,
        env: VectorEnv | Stepper | None,
        options: DQNOptions = DQNOptions(),  # noqa: B008  # frozen, so sharing it is safe
        *,
        seed: int = 0,
        device: str = "auto",
        observation_space: Space | None = None,
        num_actions: int | None = None,
        frame_stack: int = 1,
    ):
        self.seed = seed
        self.device = choose_device(device)
        self._stepper = None
        if env is not None:
            self._stepper = as_stepper(env)
            self.device = device_of_games(self._stepper, self.device, device)
            observation_space = self._stepper.observation_space
            num_actions, frame_stack = self._stepper.num_actions, self._stepper.frame_stack
        if not isinstance(observation_space, Box) or num_actions is None:
            raise UsageError(f"DQN needs Box observations, not {observation_space}.")
        self.observation_space, self.num_actions = observation_space, num_actions
        self.frame_stack = frame_stack
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = build_network(observation_space.shape, num_actions, options)
        self.precision = choose_precision(
            options.precision, network, observation_space, options.batch_size, self.device
        )
        # Measured once: a saved agent, or a repetition of its run, computes as this one does.
        self.options = replace(options, precision=self.precision)
        self.online = Twin(network.to(self.device), self.precision)
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator(self.device if self.device.type == "cuda" else "cpu")
        self._generator.manual_seed(seed)
        self._acting = Acting(self.online)
        self.num_timesteps = 0
        self.num_updates = 0
        self.episodes_seen = 0
        self._updates_due = 0.0
        self._observations: Any = None
        self._averaged: Twin | None = None
        self.replay: Memory | None = None
        self._side: DeviceSide | None = None  # of environments that give tensors
        if env is not None:
            self._prepare_learning()

    def _prepare_learning(self) -> None:
        options = self.options
        self.target = Twin(copy.deepcopy(self.network), self.precision)
        if options.average:
            self._averaged = Twin(copy.deepcopy(self.network), self.precision)
        self.optimizer = build_optimizer(self.online.master, options)
        self._loss = build_loss(options, self._generator)
        self._step: Step = partial(
            gradient_step,
            *(self.online, self.target, self.optimizer, self._loss),
            max_grad_norm=options.max_grad_norm,
        )
        stepper = self.stepper
        if isinstance(stepper, DeviceStepper):
            self._side = DeviceSide(options, stepper, self.online, self._generator)
            self.replay = cast(Memory, self._side.memory)  # in tensors, as its side's records
            self._step = self._side.prepare(self._step, self.target, self.optimizer)
            return
        self.replay = build_memory(
            options,
            stepper.num_envs,
            self.observation_space,
            self.frame_stack,
            self.network,
        )

    @property
    def network(self) -> QNetwork:
        """The master weights in float32."""
        return self.online.master

    @property
    def stepper(self) -> Stepper:
        """The environments; raises UsageError for an agent that was loaded to play only."""
        if self._stepper is None:
            raise UsageError("this agent has no environment to learn in: load it with env=...")
        return self._stepper

    @property
    def epsilon(self) -> float:
        """Share of random actions now."""
        return epsilon_at(self.options, self.num_timesteps)

    @staticmethod
    def plan_memory(
        options: DQNOptions, observation_space: Space, num_envs: int, frame_stack: int = 4
    ) -> int:
        """Bytes of the replay memory that an agent of these options will allocate.

        Raises:
            UsageError: the observations are no array of numbers.
        """
        if not isinstance(observation_space, Box):
            raise UsageError(f"DQN needs Box observations, not {observation_space}.")
        return memory_bytes(options, num_envs, observation_space, frame_stack)

    learns_on_device = staticmethod(learns_on_device)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the replay memory; 0 for an agent that only plays."""
        return self.replay.nbytes if self.replay is not None else 0

    # ---- what the loop asks for

    def steps(self, total_timesteps: int) -> Iterator[LoopStep]:
        """Learns until `total_timesteps` agent steps were made in all, yielding each step."""
        return run_steps(self, total_timesteps)

    def begin(self) -> Any:
        """The observations to act on: of new episodes at first, else where the last call ended."""
        if self._observations is None:
            # Only the first reset is seeded: reseeding would replay the same games.
            seed = self.seed if self.num_timesteps == 0 else self.seed + self.num_timesteps
            self._observations = self.stepper.reset(seed)
            self._memory().reset(self._observations)
            self._acting.begin()
        return self._observations

    def act(self, observations: Any) -> Any:
        """Epsilon-greedy actions, (n,) int64, under fresh noise where the head is noisy."""
        if self._side is not None:
            return self._side.act(observations, self.epsilon)
        n, options = len(observations), self.options
        epsilon = epsilon_ladder(n) if options.epsilon_ladder else self.epsilon
        random, actions = explore(self._rng, n, self.num_actions, epsilon)
        memory = self.replay
        if isinstance(memory, SequenceReplay):
            memory.note_state(self._acting.state)
        if random.all() and not isinstance(memory, (SequenceReplay, Rollout)):
            return actions
        if options.noisy:
            sample_noise(self.online.module, self._generator)
        values = self._acting.values(observations, noisy=options.noisy)
        if isinstance(memory, Rollout):
            memory.note_values(values)
        return np.where(random, actions, values.argmax(axis=1))

    def observe(self, record: Any) -> None:
        """Stores a step of all environments and counts the updates due for it."""
        options, memory = self.options, self._memory()
        if self._side is not None:
            self._side.store(record)
        else:
            self._store(record)
        self._observations = record.observations
        before = self.num_timesteps
        self.num_timesteps += len(record.rewards)
        self.episodes_seen += len(record.episodes)
        if isinstance(memory, (Rollout, DeviceRollout)):
            if memory.full:
                self._updates_due = options.rollout_epochs * len(memory) // options.batch_size
        elif len(memory) >= max(options.learning_starts, options.n_step * memory.num_envs):
            stepped = self.num_timesteps - before
            self._updates_due += stepped * options.replay_ratio / options.replayed_per_update
        if self.num_timesteps // options.target_update > before // options.target_update:
            self.target.copy_from(self.online, options.target_tau)

    def _store(self, record: StepRecord) -> None:
        options, memory = self.options, self._memory()
        if isinstance(memory, Rollout) and record.truncated.any():
            memory.note_finals(self._final_values(record))
        rewards = np.clip(record.rewards, -1, 1) if options.clip_rewards else record.rewards
        memory.add(
            record.actions,
            rewards,
            record.terminated,
            record.truncated,
            record.episode_over,
            record.observations,
            record.final_observations,
        )
        self._acting.end(record.episode_over)

    def _final_values(self, record: StepRecord) -> dict[int, np.ndarray]:
        """Row -> (A,) values of the last observations of the games that were cut."""
        rows = np.flatnonzero(record.truncated)
        finals = np.stack([record.final_observations[int(row)] for row in rows])
        values = Acting(self.online).values(finals)  # of the weights that learn, as all others
        return dict(zip(rows.tolist(), values, strict=True))

    def update_when_due(self) -> dict[str, float] | None:
        """Makes the updates that the steps so far call for; statistics of the last one."""
        metrics = None
        while self._updates_due >= 1:
            self._updates_due -= 1
            metrics = self.update()
        if self._side is not None:
            return self._checked(self._side.read)
        return None if metrics is None else {name: float(m) for name, m in metrics.items()}

    def update(self) -> dict[str, torch.Tensor]:
        """One update on a fresh batch."""
        options, memory = self.options, self._memory()
        # Whatever the memory samples is what the loss takes.
        batch: Any = memory.sample(
            options.batch_size,
            self._rng if self._side is None else self._generator,  # type: ignore[arg-type]  # see its side
            n_step=options.n_step,
            gamma=options.gamma,
        )
        if isinstance(memory, Prioritizing):
            batch = memory.weigh(batch, importance_at(options, self.num_timesteps))
        if self.device.type != "cpu":
            batch = batch.to(self.device)
        if options.noisy:
            sample_noise(self.online.module, self._generator)
            sample_noise(self.target.module, self._generator)
        if options.learning_rate_steps:
            rate = linear_schedule(
                options.learning_rate, 0.0, options.learning_rate_steps, self.num_timesteps
            )
            set_rate(self.optimizer, rate)
        loss, metrics = self._checked(partial(self._step, batch))
        if isinstance(memory, Prioritizing) and batch.indices is not None:
            errors: Any = loss.errors if self._side is not None else loss.errors.cpu().numpy()
            memory.set_priorities(batch.indices, errors)
        if self._side is not None:
            self._side.note(metrics)
        self.num_updates += 1
        if self._averaged is not None:
            # Early on the mean is short, so that it forgets the initial weights.
            share = max(1 - options.average, 9 / (self.num_updates + 9))
            self._averaged.average_in(self.online, share)
        return metrics

    def _checked(self, work: Callable[[], T]) -> T:
        """What `work` returns; its TrainingError says where the run stands."""
        try:
            return work()
        except TrainingError as error:
            raise TrainingError(
                f"{error} at agent step {self.num_timesteps:,}, update {self.num_updates + 1:,}; "
                "lower the learning rate or set max_grad_norm."
            ) from None

    def _memory(self) -> Memory:
        if self.replay is None:
            raise UsageError("this agent has no environment to learn in: load it with env=...")
        return self.replay

    # ---- what users call

    def learn(
        self, total_timesteps: int, callback: Callable[[LoopStep], Any] | Any | None = None
    ) -> DQN:
        """Learns until `total_timesteps` agent steps were made in all.

        Args:
            total_timesteps: agent steps over all environments.
            callback: called with each LoopStep; returning False stops. A Stable-Baselines3
                BaseCallback works too.
        """
        if callback is not None and not callable(callback):
            from .sb3 import adapt_callback

            callback = adapt_callback(callback, self, total_timesteps)
        for step in self.steps(total_timesteps):
            if callback is not None and callback(step) is False:
                break
        return self

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """(B, *observation) -> (B, A) float32 action values, without noise.

        Of an agent with memory, those of a game's first observation; see `player`.
        """
        return self.player().values(observations)

    def player(self) -> Acting:
        """What plays games step by step with the newest weights, and a state of its own."""
        return Acting(self._playing())

    def _playing(self) -> Twin:
        """The weights that play: their running mean where there is one."""
        if self._averaged is None:
            return self.online
        self._averaged.pull()
        return self._averaged

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions in the manner of Stable-Baselines3.

        Args:
            observation: (*observation) or (n, *observation).
            state: what the last call returned; None for zeros, and without memory.
            episode_start: (n,) bool, games that begin with this observation: their state is
                zeroed first.
            deterministic: greedy; otherwise epsilon-greedy at the present epsilon, under fresh
                noise where the head is noisy.

        Returns:
            Actions of shape () or (n,) int64, and the state after them: of a network with memory,
            arrays (layers, n, size) float32; else None.
        """
        single = observation.ndim == len(self.observation_space.shape or ())
        batch = observation[None] if single else observation
        player, noisy = self.player(), self.options.noisy and not deterministic
        player.set_arrays(state, episode_start)
        if noisy:
            sample_noise(player.network, self._generator)
        actions = player.values(batch, noisy=noisy).argmax(axis=1)
        if not deterministic:
            random, anything = explore(self._rng, len(batch), self.num_actions, self.epsilon)
            actions = np.where(random, anything, actions)
        return (actions[0] if single else actions), player.arrays()

    # ---- state

    def get_state(self, replay: bool = True) -> dict:
        """All that going on needs: weights, optimizer, generators, counters, replay, games.

        Args:
            replay: include the replay memory (its arrays are views, not copies, on the CPU).

        Raises:
            TrainingError: on a device, the loss was not finite since the last look.
        """
        observations = self._observations
        if self._side is not None:
            self._checked(self._side.check)
            observations = None if observations is None else observations.cpu().numpy()
        state = {
            "options": asdict(self.options),
            "precision": self.precision,
            "online": dict(self.network.state_dict()),
            "target": dict(self.target.master.state_dict()),
            "averaged": dict(self._averaged.master.state_dict()) if self._averaged else None,
            "optimizer": files.optimizer_state(self.optimizer),
            "rng": self._rng.bit_generator.state,
            "generator": self._generator.get_state().numpy(),
            "acting": self._acting.get_state(),
            "num_timesteps": self.num_timesteps,
            "num_updates": self.num_updates,
            "episodes_seen": self.episodes_seen,
            "updates_due": self._updates_due,
            "replay": self._memory().get_state() if replay else None,
            "observations": observations,
            "env": self.stepper.get_state() if self.stepper.can_restore else None,
        }
        return state

    def set_state(self, state: dict) -> None:
        """Goes on from `get_state`'s answer.

        With environments that can be restored the run continues as if never stopped; with others
        new episodes begin. Without a replay memory in the state it is filled anew first.
        """
        self.online.load(state["online"])
        self.target.load(state["target"])
        if self._averaged is not None:
            self._averaged.load(state["averaged"])
        files.load_optimizer_state(self.optimizer, state["optimizer"])
        self._rng.bit_generator.state = state["rng"]
        drawn = torch.from_numpy(np.array(state["generator"]))
        if drawn.shape == self._generator.get_state().shape:
            self._generator.set_state(drawn)
        else:  # of another kind of device: its numbers cannot be drawn here
            self._generator.manual_seed(self.seed + int(state["num_timesteps"]))
        self.num_timesteps = int(state["num_timesteps"])
        self.num_updates = int(state["num_updates"])
        self.episodes_seen = int(state["episodes_seen"])
        self._updates_due = float(state["updates_due"])
        if state["replay"] is not None:
            self._memory().set_state(state["replay"])
        else:
            self._updates_due = 0.0  # what was due cannot be drawn from an empty memory
        self._observations = None
        if self._side is not None:
            self._side.forget()
        if state["env"] is not None and state["replay"] is not None:
            self.stepper.set_state(state["env"])
            self._observations = np.array(state["observations"])
            if self._side is not None:
                self._observations = torch.from_numpy(self._observations).to(self.device)
            self._acting.set_state(state["acting"])

    def save(self, path: str | Path) -> None:
        """Writes the network as safetensors, with all that rebuilds it in the metadata."""
        files.save_agent(
            Path(path),
            self._playing().master.state_dict(),
            options=asdict(self.options),
            observation_space=self.observation_space,
            num_actions=self.num_actions,
            frame_stack=self.frame_stack,
            backbone=self.network.backbone,
        )

    @classmethod
    def load(
        cls, path: str | Path, env: VectorEnv | Stepper | None = None, device: str = "auto"
    ) -> DQN:
        """Reads what `save` wrote; nothing in the file is executed.

        Raises:
            WeightsError: the file is missing, corrupt, pickled, or holds something else.
        """
        saved = files.load_agent(Path(path))
        options = DQNOptions(**{**saved.options, "backbone_weights": None})
        agent = cls(
            env,
            options,
            device=device,
            observation_space=saved.observation_space,
            num_actions=saved.num_actions,
            frame_stack=saved.frame_stack,
        )
        files.fit_weights(agent.online.load, saved, Path(path))
        if env is not None:
            agent.target.copy_from(agent.online)
            if agent._averaged is not None:
                agent._averaged.copy_from(agent.online)
        return agent
