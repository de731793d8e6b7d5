"""PPO, A2C and QR-DQN of Stable-Baselines3 as agents like ours: one loop, one run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from gymnasium.vector import VectorEnv

from ..envs.device_steps import Stepper, as_stepper
from ..envs.transitions import EnvStepper, StepRecord
from ..errors import UsageError
from . import files
from .device import choose_device
from .exploration import explore
from .loop import LoopStep, run_steps
from .replay import replay_bytes
from .sb3_learners import Counters, Sb3Learner, make_learner
from .sb3_networks import PolicyNetwork, check_pictures, make_policy, start_from_weights
from .sb3_options import SB3_OPTIONS, QRDQNOptions, Sb3Options


class Sb3Agent:
    """An algorithm of Stable-Baselines3 that learns from the environments given.

    Its policy, losses and updates are Stable-Baselines3's; the loop, the files and the checkpoints
    are ours. All that it draws comes from generators of its own, though Stable-Baselines3 knows
    only torch's global one.

    Args:
        env: a Gymnasium vector environment with discrete actions, on the host, or its stepper;
            None for an agent that only plays (see `load`).
        options: PPOOptions, A2COptions or QRDQNOptions: which algorithm, and its settings.
        seed: of the weights, exploration, batches and the environments' first reset.
        device: "auto", "cpu", "cuda", "mps".
        observation_space, num_actions, frame_stack: taken from `env` where one is given.

    Raises:
        UsageError: the backbone is unknown, recurrent, or does not fit the observations, or
            sb3-contrib is needed and not installed.
    """

    def __init__(
        self,
        env: VectorEnv | Stepper | None,
        options: Sb3Options,
        *,
        seed: int = 0,
        device: str = "auto",
        observation_space: Space | None = None,
        num_actions: int | None = None,
        frame_stack: int = 1,
    ):
        self.seed, self.options = seed, options
        self.device = choose_device(device)
        self._stepper = None
        if env is not None:
            self._stepper = _on_the_host(env)
            observation_space = self._stepper.observation_space
            num_actions, frame_stack = self._stepper.num_actions, self._stepper.frame_stack
        if not isinstance(observation_space, Box) or num_actions is None:
            raise UsageError(f"this agent needs Box observations, not {observation_space}.")
        check_pictures(observation_space)
        self.observation_space, self.num_actions = observation_space, num_actions
        self.frame_stack = frame_stack
        self._rng = np.random.default_rng(seed)
        self._counters = Counters()
        self.episodes_seen = 0
        self._observations: np.ndarray | None = None
        self._losses: dict[str, float] | None = None
        self._learner: Sb3Learner | None = None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if self._stepper is None:
                policy: Any = make_policy(observation_space, num_actions, options)
                policy = policy.to(self.device)
            else:
                self._learner = make_learner(
                    self._stepper, options, self._rng, self._counters, self.device
                )
                policy = self._learner.policy
                start_from_weights(policy, options.backbone_weights)
            self._torch = _TorchGenerator(self.device)
        self.policy = policy
        self.network = PolicyNetwork(policy)

    @property
    def num_timesteps(self) -> int:
        """Agent steps so far, over all environments."""
        return self._counters.timesteps

    @num_timesteps.setter
    def num_timesteps(self, steps: int) -> None:
        self._counters.timesteps = steps

    @property
    def num_updates(self) -> int:
        """Gradient steps so far."""
        return self._counters.updates

    @num_updates.setter
    def num_updates(self, updates: int) -> None:
        self._counters.updates = updates

    @property
    def stepper(self) -> EnvStepper:
        """The environments; raises UsageError for an agent that was loaded to play only."""
        if self._stepper is None:
            raise UsageError("this agent has no environment to learn in: load it with env=...")
        return self._stepper

    @property
    def learner(self) -> Sb3Learner:
        """The algorithm; raises UsageError for an agent that was loaded to play only."""
        if self._learner is None:
            raise UsageError("this agent has no environment to learn in: load it with env=...")
        return self._learner

    @property
    def epsilon(self) -> float:
        """Share of random actions now; 0 for PPO and A2C, whose policy is random itself."""
        return self._learner.epsilon if self._learner is not None else 0.0

    @staticmethod
    def plan_memory(
        options: Sb3Options, observation_space: Space, num_envs: int, frame_stack: int = 4
    ) -> int:
        """Bytes of the replay memory or the rollout that an agent of these options allocates.

        Raises:
            UsageError: the observations are no array of numbers.
        """
        if not isinstance(observation_space, Box):
            raise UsageError(f"this agent needs Box observations, not {observation_space}.")
        shape, dtype = observation_space.shape, np.dtype(observation_space.dtype)
        if isinstance(options, QRDQNOptions):
            return replay_bytes(options.buffer_size, num_envs, shape, dtype, frame_stack)
        # Beside an observation: action, reward, start, value, log-probability, two results.
        each = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize + 8 + 6 * 4
        return options.n_steps * num_envs * each

    # ---- what the loop asks for

    def steps(self, total_timesteps: int) -> Iterator[LoopStep]:
        """Learns until `total_timesteps` agent steps were made in all, yielding each step.

        An update happens where Stable-Baselines3 makes it: after the step that fills the rollout
        (QR-DQN: that is due), before the next action. The LoopStep after it tells its statistics.
        """
        return run_steps(self, total_timesteps)

    def begin(self) -> np.ndarray:
        """The observations to act on: of new episodes at first, else where the last call ended."""
        if self._observations is None:
            # Only the first reset is seeded: reseeding would replay the same games.
            seed = self.seed if self.num_timesteps == 0 else self.seed + self.num_timesteps
            self._observations = self.stepper.reset(seed)
            self.learner.begin(self._observations)
        return self._observations

    def act(self, observations: np.ndarray) -> np.ndarray:
        """(n, *observation) -> (n,) int64 actions as they are taken in training."""
        with self._torch.in_use():
            return self.learner.act(observations)

    def observe(self, record: StepRecord) -> None:
        """Takes a step of all environments, and learns where one is due."""
        rewards = np.clip(record.rewards, -1, 1) if self.options.clip_rewards else record.rewards
        self._observations = record.observations
        self.num_timesteps += len(record.rewards)
        self.episodes_seen += len(record.episodes)
        with self._torch.in_use():
            losses = self.learner.observe(record, rewards)
        self._losses = losses or self._losses

    def update_when_due(self) -> dict[str, float] | None:
        """Statistics of the update that the step before made; None without one."""
        losses, self._losses = self._losses, None
        return losses

    # ---- what users call

    def learn(
        self, total_timesteps: int, callback: Callable[[LoopStep], Any] | Any | None = None
    ) -> Sb3Agent:
        """Learns until `total_timesteps` agent steps were made in all.

        Args:
            total_timesteps: agent steps over all environments.
            callback: called with each LoopStep; returning False stops. A Stable-Baselines3
                BaseCallback works too.
        """
        if callback is not None and not callable(callback):
            from .sb3 import adapt_callback

            callback = adapt_callback(callback, self, total_timesteps)  # type: ignore[arg-type]  # it has what callbacks read
        for step in self.steps(total_timesteps):
            if callback is not None and callback(step) is False:
                break
        return self

    @torch.no_grad()
    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """What greedy play maximises.

        Args:
            observations: (B, *observation).

        Returns:
            (B, A) float32: of QR-DQN action values; of PPO and A2C the log-probabilities of the
            policy, which has no value for each action.
        """
        self.policy.set_training_mode(False)
        return self.network(self._tensor(observations)).cpu().numpy()

    def _tensor(self, observations: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(observations)).to(self.device)

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
            state, episode_start: accepted for SB3's contract; these networks have no memory.
            deterministic: the most likely (QR-DQN: best) action; otherwise PPO and A2C draw from
                their policy, and QR-DQN is epsilon-greedy at the present epsilon.

        Returns:
            Actions of shape () or (n,) int64, and None.
        """
        single = observation.ndim == len(self.observation_space.shape)
        batch = observation[None] if single else observation
        values = self.q_values(batch)
        actions = values.argmax(axis=1)
        if not deterministic and isinstance(self.options, QRDQNOptions):
            random, anything = explore(self._rng, len(batch), self.num_actions, self.epsilon)
            actions = np.where(random, anything, actions)
        elif not deterministic:
            # The largest of log p + Gumbel noise is a draw from p.
            actions = (values + self._rng.gumbel(size=values.shape)).argmax(axis=1)
        return (actions[0] if single else actions), None

    # ---- state

    def get_state(self, replay: bool = True) -> dict[str, Any]:
        """All that going on needs: weights, optimizer, generators, counters, memory, games.

        Args:
            replay: include the replay memory or the rollout (its arrays are views, not copies).
        """
        state = {
            "options": asdict(self.options),
            "precision": "fp32",
            "network": dict(self.network.state_dict()),
            "optimizer": files.optimizer_state(self.policy.optimizer),
            "rng": self._rng.bit_generator.state,
            "torch": self._torch.get_state(),
            "num_timesteps": self.num_timesteps,
            "num_updates": self.num_updates,
            "episodes_seen": self.episodes_seen,
            "replay": self.learner.memory_state() if replay else None,
            "observations": self._observations,
            "env": self.stepper.get_state() if self.stepper.can_restore else None,
        }
        if isinstance(self.options, QRDQNOptions):
            target = self.policy.quantile_net_target
            state["target"] = dict(target.state_dict())
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from `get_state`'s answer.

        With environments that can be restored the run continues as if never stopped; with others
        new episodes begin, and a rollout that was under way begins anew.
        """
        self.network.load_state_dict(state["network"])
        if isinstance(self.options, QRDQNOptions):
            self.policy.quantile_net_target.load_state_dict(state["target"])
        files.load_optimizer_state(self.policy.optimizer, state["optimizer"])
        self._rng.bit_generator.state = state["rng"]
        self._torch.set_state(state["torch"])
        self.num_timesteps = int(state["num_timesteps"])
        self.num_updates = int(state["num_updates"])
        self.episodes_seen = int(state["episodes_seen"])
        self._observations = self._losses = None
        if state["replay"] is not None:
            self.learner.set_memory_state(state["replay"])
            if state["env"] is not None:
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
            agent=_name_of(self.options),
        )

    @classmethod
    def load(
        cls, path: str | Path, env: VectorEnv | Stepper | None = None, device: str = "auto"
    ) -> Sb3Agent:
        """Reads what `save` wrote; nothing in the file is executed.

        Raises:
            WeightsError: the file is missing, corrupt, pickled, or holds something else.
        """
        saved = files.load_agent(Path(path), agents=SB3_OPTIONS)
        options = SB3_OPTIONS[saved.agent](**{**saved.options, "backbone_weights": None})
        agent = cls(
            env,
            options,
            device=device,
            observation_space=saved.observation_space,
            num_actions=saved.num_actions,
            frame_stack=saved.frame_stack,
        )
        files.fit_weights(agent.network.load_state_dict, saved, Path(path))
        if isinstance(options, QRDQNOptions):
            online = agent.policy.quantile_net.state_dict()
            agent.policy.quantile_net_target.load_state_dict(online)
        return agent


def _on_the_host(env: VectorEnv | Stepper) -> EnvStepper:
    stepper = as_stepper(env)
    if not isinstance(stepper, EnvStepper):
        raise UsageError(
            "Stable-Baselines3 learns from environments on the host: make them with device='cpu'."
        )
    return stepper


def _name_of(options: Sb3Options) -> str:
    return next(name for name, kind in SB3_OPTIONS.items() if isinstance(options, kind))


class _TorchGenerator:
    """Torch's global generator as one agent's own: SB3 draws actions from no other.

    It goes on from the global state that it was made in. On Apple's MPS the device's own
    generator stays global.
    """

    def __init__(self, device: torch.device):
        self._cuda = device if device.type == "cuda" else None
        self._note()

    def _note(self) -> None:
        self._state = torch.get_rng_state()
        if self._cuda is not None:
            self._cuda_state = torch.cuda.get_rng_state(self._cuda)

    def _put(self) -> None:
        torch.set_rng_state(self._state)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda_state, self._cuda)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the global generator is this one; afterwards it is as it was."""
        devices = [] if self._cuda is None else [self._cuda]
        with torch.random.fork_rng(devices=devices):
            self._put()
            try:
                yield
            finally:
                self._note()

    def get_state(self) -> dict[str, np.ndarray]:
        state = {"cpu": self._state.numpy()}
        return state if self._cuda is None else {**state, "cuda": self._cuda_state.numpy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._state = torch.from_numpy(np.array(state["cpu"]))
        if self._cuda is not None and "cuda" in state:
            self._cuda_state = torch.from_numpy(np.array(state["cuda"]))
