"""Deep Q-networks: Mnih et al. (2013, 2015), with the options that have become standard."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from gymnasium.vector import VectorEnv
from torch import nn

from ..backbones import create_backbone
from ..envs.transitions import EnvStepper, StepRecord
from ..errors import TrainingError, UsageError
from . import files
from .device import choose_device, choose_precision
from .loop import LoopStep, run_steps
from .losses import td_loss, td_targets
from .networks import QNetwork, Twin
from .options import DQNOptions
from .replay import Batch, FrameReplay, replay_bytes


def linear_schedule(initial: float, final: float, duration: int, step: int) -> float:
    """The value at `step` on the line from `initial` to `final`, which it keeps afterwards."""
    return initial + (final - initial) * min(step / max(duration, 1), 1.0)


def build_network(
    observation_shape: tuple[int, ...], num_actions: int, options: DQNOptions
) -> QNetwork:
    """The Q-network that the options name.

    Raises:
        UsageError: the backbone is unknown or cannot take this observation shape.
    """
    backbone = create_backbone(
        options.backbone,
        observation_shape,
        weights=options.backbone_weights,
        **options.backbone_kwargs(),
    )
    network = QNetwork(backbone, num_actions, dueling=options.dueling)
    if len(observation_shape) == 3:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return network


def build_optimizer(network: QNetwork, options: DQNOptions) -> torch.optim.Optimizer:
    """Adam, or RMSProp with the constants of Mnih et al. (2015), extended data table 1."""
    parameters = list(network.parameters())
    if options.optimizer == "adam":
        fused = parameters[0].device.type in ("cpu", "cuda")
        return torch.optim.Adam(
            parameters, lr=options.learning_rate, eps=options.optimizer_eps, fused=fused
        )
    return torch.optim.RMSprop(
        parameters,
        lr=options.learning_rate,
        alpha=0.95,
        eps=options.optimizer_eps,
        centered=True,
        foreach=True,
    )


def clip_gradients(network: nn.Module, bound: float) -> torch.Tensor:
    """Scales gradients of a norm above `bound` down to it (0 leaves them); the norm before.

    torch's clip_grad_norm_ multiplies always; smaller gradients need no pass over the memory.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if bound and norm > bound:
        torch.nn.utils.clip_grads_with_norm_(network.parameters(), bound, norm)
    return norm


def dqn_update(
    online: Twin,
    target: Twin,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    double: bool,
    loss: str,
    max_grad_norm: float,
) -> dict[str, torch.Tensor]:
    """One gradient step on a batch: Algorithm 1 of Mnih et al. (2015), from the target y_j on.

    Raises:
        TrainingError: the loss is not a finite number; the weights are as before.
    """
    with torch.no_grad():
        next_values = target.module(batch.next_observations)
        next_online = online.module(batch.next_observations) if double else None
        targets = td_targets(batch.returns, batch.discounts, next_values, next_online)
    values = online.module(batch.observations)
    mean_loss, errors = td_loss(values, batch.actions, targets, loss)
    if not math.isfinite(mean_loss.item()):
        raise TrainingError("the loss is not a finite number")
    optimizer.zero_grad(set_to_none=online.module is online.master)
    mean_loss.backward()
    online.push_gradients()
    norm = clip_gradients(online.master, max_grad_norm)
    optimizer.step()
    online.pull()
    return {
        "loss": mean_loss.detach(),
        "q_mean": values.detach().mean(),
        "td_error": errors.abs().mean(),
        "grad_norm": norm,
    }


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
        self.num_timesteps = 0
        self.num_updates = 0
        self.episodes_seen = 0
        self._updates_due = 0.0
        self._observations: np.ndarray | None = None
        self.replay: FrameReplay | None = None
        if env is not None:
            self._prepare_learning()

    def _prepare_learning(self) -> None:
        options = self.options
        self.target = Twin(copy.deepcopy(self.network), self.precision)
        self.optimizer = build_optimizer(self.online.master, options)
        self.replay = FrameReplay(
            options.buffer_size,
            self.stepper.num_envs,
            self.observation_space.shape,
            self.observation_space.dtype,
            frame_stack=self.frame_stack,
        )

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
        options = self.options
        return linear_schedule(
            options.epsilon_initial,
            options.epsilon_final,
            options.epsilon_steps,
            self.num_timesteps,
        )

    @staticmethod
    def plan_memory(
        options: DQNOptions, observation_space: Space, num_envs: int, frame_stack: int = 4
    ) -> int:
        """Bytes of the replay memory that an agent of these options will allocate."""
        return replay_bytes(
            options.buffer_size,
            num_envs,
            observation_space.shape or (),
            observation_space.dtype or np.dtype(np.uint8),
            frame_stack,
        )

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
        return self._observations

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Epsilon-greedy actions, (n,) int64."""
        n, epsilon = len(observations), self.epsilon
        explore = self._rng.random(n) < epsilon
        actions = self._rng.integers(self.num_actions, size=n)
        if not explore.all():
            actions = np.where(explore, actions, self.q_values(observations).argmax(axis=1))
        return actions

    def observe(self, record: StepRecord) -> None:
        """Stores a step of all environments and makes updates due for it."""
        rewards = np.clip(record.rewards, -1, 1) if self.options.clip_rewards else record.rewards
        memory = self._memory()
        memory.add(
            record.actions,
            rewards,
            record.terminated,
            record.truncated,
            record.episode_over,
            record.observations,
            record.final_observations,
        )
        self._observations = record.observations
        before = self.num_timesteps
        self.num_timesteps += len(record.rewards)
        self.episodes_seen += len(record.episodes)
        if len(memory) >= max(self.options.learning_starts, self.options.n_step * memory.num_envs):
            stepped = self.num_timesteps - before
            self._updates_due += stepped * self.options.replay_ratio / self.options.batch_size
        if self.num_timesteps // self.options.target_update > before // self.options.target_update:
            self.target.copy_from(self.online, self.options.target_tau)

    def update_when_due(self) -> dict[str, float] | None:
        """Makes the updates that the steps so far call for; statistics of the last one."""
        metrics = None
        while self._updates_due >= 1:
            self._updates_due -= 1
            metrics = self.update()
        return None if metrics is None else {name: float(m) for name, m in metrics.items()}

    def update(self) -> dict[str, torch.Tensor]:
        """One update on a fresh batch."""
        options = self.options
        batch = self._memory().sample(
            options.batch_size, self._rng, n_step=options.n_step, gamma=options.gamma
        )
        if self.device.type != "cpu":
            batch = Batch(**{name: t.to(self.device) for name, t in vars(batch).items()})
        try:
            metrics = dqn_update(
                self.online,
                self.target,
                self.optimizer,
                batch,
                double=options.double,
                loss=options.loss,
                max_grad_norm=options.max_grad_norm,
            )
        except TrainingError as error:
            raise TrainingError(
                f"{error} at agent step {self.num_timesteps:,}, update {self.num_updates + 1:,}; "
                "lower the learning rate or set max_grad_norm."
            ) from None
        self.num_updates += 1
        return metrics

    def _memory(self) -> FrameReplay:
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

    @torch.inference_mode()
    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """(B, *observation) -> (B, A) float32 action values."""
        batch = torch.from_numpy(np.ascontiguousarray(observations)).to(self.device)
        return self.online.module(batch).cpu().numpy()

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
