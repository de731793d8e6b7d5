"""Deep Q-networks: Mnih et al. (2013, 2015), with the options that have become standard."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from gymnasium.vector import VectorEnv

from ..envs.transitions import EnvStepper, StepRecord
from ..errors import TrainingError, UsageError
from . import files
from .acting import Acting
from .device import choose_device, choose_precision
from .exploration import epsilon_at, epsilon_ladder, linear_schedule
from .heads import sample_noise
from .loop import LoopStep, run_steps
from .networks import QNetwork, Twin
from .options import DQNOptions
from .parts import Memory, build_loss, build_memory, build_network, memory_bytes
from .prioritized import PrioritizedReplay
from .rollout import Rollout
from .sequences import SequenceReplay
from .update import build_optimizer, gradient_step


class DQN:
    """A deep Q-network that learns from the environments given.

    Args:
        env: a Gymnasium vector environment with discrete actions, or an EnvStepper; None for an
            agent that only plays (see `load`).
        options: what varies between runs.
        seed: of the weights, exploration, replay and the environments' first reset.
        device: "auto", "cpu", "cuda", "mps".
        observation_space, num_actions, frame_stack: taken from `env` where one is given.

    Raises:
        UsageError: the backbone is unknown or does not fit the observations.
    """

    def __init__(
        self,
        env: VectorEnv | EnvStepper | None,
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
            self._stepper = env if isinstance(env, EnvStepper) else EnvStepper(env)
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
        self._observations: np.ndarray | None = None
        self.replay: Memory | None = None
        if env is not None:
            self._prepare_learning()

    def _prepare_learning(self) -> None:
        options = self.options
        self.target = Twin(copy.deepcopy(self.network), self.precision)
        self.optimizer = build_optimizer(self.online.master, options)
        self.replay = build_memory(
            options,
            self.stepper.num_envs,
            self.observation_space,
            self.frame_stack,
            self.network,
        )
        self._loss = build_loss(options, self._generator)

    @property
    def network(self) -> QNetwork:
        """The master weights in float32."""
        return self.online.master

    @property
    def stepper(self) -> EnvStepper:
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

    @property
    def memory_bytes(self) -> int:
        """Bytes of the replay memory; 0 for an agent that only plays."""
        return self.replay.nbytes if self.replay is not None else 0

    # ---- what the loop asks for

    def steps(self, total_timesteps: int) -> Iterator[LoopStep]:
        """Learns until `total_timesteps` agent steps were made in all, yielding each step."""
        return run_steps(self, total_timesteps)

    def begin(self) -> np.ndarray:
        """The observations to act on: of new episodes at first, else where the last call ended."""
        if self._observations is None:
            # Only the first reset is seeded: reseeding would replay the same games.
            seed = self.seed if self.num_timesteps == 0 else self.seed + self.num_timesteps
            self._observations = self.stepper.reset(seed)
            self._memory().reset(self._observations)
            self._acting.begin()
        return self._observations

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Epsilon-greedy actions, (n,) int64, under fresh noise where the head is noisy."""
        n, options = len(observations), self.options
        epsilon = epsilon_ladder(n) if options.epsilon_ladder else self.epsilon
        explore = self._rng.random(n) < epsilon
        actions = self._rng.integers(self.num_actions, size=n)
        memory = self.replay
        if isinstance(memory, SequenceReplay):
            memory.note_state(self._acting.state)
        if explore.all() and not isinstance(memory, (SequenceReplay, Rollout)):
            return actions
        if options.noisy:
            sample_noise(self.online.module, self._generator)
        values = self._acting.values(observations, noisy=options.noisy)
        if isinstance(memory, Rollout):
            memory.note_values(values)
        return np.where(explore, actions, values.argmax(axis=1))

    def observe(self, record: StepRecord) -> None:
        """Stores a step of all environments and counts the updates due for it."""
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
        self._observations = record.observations
        before = self.num_timesteps
        self.num_timesteps += len(record.rewards)
        self.episodes_seen += len(record.episodes)
        if isinstance(memory, Rollout):
            if memory.full:
                self._updates_due = options.rollout_epochs * len(memory) // options.batch_size
        elif len(memory) >= max(options.learning_starts, options.n_step * memory.num_envs):
            replayed = options.batch_size * max(options.sequence_length - options.burn_in, 1)
            stepped = self.num_timesteps - before
            self._updates_due += stepped * options.replay_ratio / replayed
        if self.num_timesteps // options.target_update > before // options.target_update:
            self.target.copy_from(self.online, options.target_tau)

    def _final_values(self, record: StepRecord) -> dict[int, np.ndarray]:
        """Row -> (A,) values of the last observations of the games that were cut."""
        rows = np.flatnonzero(record.truncated)
        finals = np.stack([record.final_observations[int(row)] for row in rows])
        return dict(zip(rows.tolist(), self.q_values(finals), strict=True))

    def update_when_due(self) -> dict[str, float] | None:
        """Makes the updates that the steps so far call for; statistics of the last one."""
        metrics = None
        while self._updates_due >= 1:
            self._updates_due -= 1
            metrics = self.update()
        return None if metrics is None else {name: float(m) for name, m in metrics.items()}

    def update(self) -> dict[str, torch.Tensor]:
        """One update on a fresh batch."""
        options, memory = self.options, self._memory()
        batch = memory.sample(
            options.batch_size, self._rng, n_step=options.n_step, gamma=options.gamma
        )
        if isinstance(memory, PrioritizedReplay):
            batch = memory.weigh(batch, self._importance())
        if self.device.type != "cpu":
            batch = batch.to(self.device)
        if options.noisy:
            sample_noise(self.online.module, self._generator)
            sample_noise(self.target.module, self._generator)
        if options.learning_rate_steps:
            rate = linear_schedule(
                options.learning_rate, 0.0, options.learning_rate_steps, self.num_timesteps
            )
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        try:
            loss, metrics = gradient_step(
                self.online, self.target, self.optimizer, self._loss, batch, options.max_grad_norm
            )
        except TrainingError as error:
            raise TrainingError(
                f"{error} at agent step {self.num_timesteps:,}, update {self.num_updates + 1:,}; "
                "lower the learning rate or set max_grad_norm."
            ) from None
        if isinstance(memory, (PrioritizedReplay, SequenceReplay)) and batch.indices is not None:
            memory.set_priorities(batch.indices, loss.errors.cpu().numpy())
        self.num_updates += 1
        return metrics

    def _importance(self) -> float:
        """Power of the importance weights now."""
        options = self.options
        return linear_schedule(
            options.importance_exponent, 1.0, options.importance_steps, self.num_timesteps
        )

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
        return Acting(self.online)

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Actions in the manner of Stable-Baselines3.

        Args:
            observation: (*observation) or (n, *observation).
            state, episode_start: accepted for SB3's contract; this network has no memory.
            deterministic: greedy; otherwise epsilon-greedy at the present epsilon.

        Returns:
            Actions of shape () or (n,) int64, and None.
        """
        single = observation.ndim == len(self.observation_space.shape or ())
        batch = observation[None] if single else observation
        actions = self.q_values(batch).argmax(axis=1) if deterministic else self.act(batch)
        return (actions[0] if single else actions), None

    # ---- state

    def get_state(self, replay: bool = True) -> dict:
        """All that going on needs: weights, optimizer, generators, counters, replay, games.

        Args:
            replay: include the replay memory (its arrays are views, not copies).
        """
        state = {
            "options": asdict(self.options),
            "precision": self.precision,
            "online": dict(self.network.state_dict()),
            "target": dict(self.target.master.state_dict()),
            "optimizer": files.optimizer_state(self.optimizer),
            "rng": self._rng.bit_generator.state,
            "generator": self._generator.get_state().numpy(),
            "acting": self._acting.get_state(),
            "num_timesteps": self.num_timesteps,
            "num_updates": self.num_updates,
            "episodes_seen": self.episodes_seen,
            "updates_due": self._updates_due,
            "replay": self._memory().get_state() if replay else None,
            "observations": self._observations,
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
        files.load_optimizer_state(self.optimizer, state["optimizer"])
        self._rng.bit_generator.state = state["rng"]
        self._generator.set_state(torch.from_numpy(np.array(state["generator"])))
        self.num_timesteps = int(state["num_timesteps"])
        self.num_updates = int(state["num_updates"])
        self.episodes_seen = int(state["episodes_seen"])
        self._updates_due = float(state["updates_due"])
        if state["replay"] is not None:
            self._memory().set_state(state["replay"])
        else:
            self._updates_due = 0.0  # what was due cannot be drawn from an empty memory
        self._observations = None
        if state["env"] is not None and state["replay"] is not None:
            self.stepper.set_state(state["env"])
            self._observations = np.array(state["observations"])
            self._acting.set_state(state["acting"])

    def save(self, path: str | Path) -> None:
        """Writes the network as safetensors, with all that rebuilds it in the metadata."""
        files.save_agent(
            Path(path),
            self.network.state_dict(),
            options=asdict(self.options),
            observation_space=self.observation_space,
            num_actions=self.num_actions,
            frame_stack=self.frame_stack,
            backbone=self.network.backbone,
        )

    @classmethod
    def load(
        cls, path: str | Path, env: VectorEnv | EnvStepper | None = None, device: str = "auto"
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
        files.fit_weights(agent.online, saved, Path(path))
        if env is not None:
            agent.target.copy_from(agent.online)
        return agent
