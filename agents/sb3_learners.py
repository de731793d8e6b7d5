"""The learning parts of Stable-Baselines3's algorithms, to be driven one step at a time.

An algorithm of Stable-Baselines3 owns a loop that collects and trains. Here its policy, its buffers
and its `train` are used as they are, and the collecting is split into what one step of
`agents/loop.py` needs: actions for some observations, then what came of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples, RolloutBufferSamples
from stable_baselines3.common.utils import polyak_update

from ..envs.transitions import EnvStepper, StepRecord
from ..errors import TrainingError
from .exploration import explore, linear_schedule
from .replay import FrameReplay
from .sb3 import TrainingEnvView
from .sb3_networks import import_qrdqn, policy_kwargs
from .sb3_options import A2COptions, PPOOptions, QRDQNOptions, Sb3Options


class Sb3Learner(Protocol):
    """What an agent asks of an algorithm."""

    @property
    def policy(self) -> BasePolicy: ...

    @property
    def epsilon(self) -> float:
        """Share of random actions now."""
        ...

    @property
    def nbytes(self) -> int:
        """Of what is learnt from."""
        ...

    def begin(self, observations: np.ndarray) -> None:
        """New episodes begin with these observations (n, *obs)."""
        ...

    def act(self, observations: np.ndarray) -> np.ndarray:
        """(n, *obs) -> (n,) int64."""
        ...

    def observe(self, record: StepRecord, rewards: np.ndarray) -> dict[str, float] | None:
        """Takes what came of the last `act`, and learns when it is time: statistics, or None.

        Args:
            record: of the step.
            rewards: (n,) float32 to learn from.
        """
        ...

    def memory_state(self) -> dict[str, Any]:
        """What is learnt from, and the observations that are acted on next."""
        ...

    def set_memory_state(self, state: dict[str, Any]) -> None: ...


class Counters:
    """Steps and updates so far; the agent's and its learner's are the same object."""

    def __init__(self) -> None:
        self.timesteps = 0
        self.updates = 0


# ---- PPO and A2C


class OwnRollout(RolloutBuffer):
    """SB3's rollout, shuffled by a generator of its own instead of NumPy's global one."""

    def __init__(self, *args: Any, rng: np.random.Generator, **kwargs: Any):
        self._rng = rng
        super().__init__(*args, **kwargs)

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Batches of (batch_size) transitions, each transition once."""
        total = self.buffer_size * self.n_envs
        if not self.generator_ready:
            for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
            self.generator_ready = True
        order = self._rng.permutation(total)
        size = batch_size or total
        for start in range(0, total, size):
            yield self._get_samples(order[start : start + size])


_ROLLOUT = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs")


class OnPolicyLearner:
    """PPO or A2C: learns from each rollout once it is full, then forgets it.

    Args:
        stepper: says what the environments look like; it is not stepped here.
        options: which algorithm, and its settings.
        rng: shuffles the batches.
        counters: see `Counters`.
        device: where the policy computes.
    """

    epsilon = 0.0  # the policy itself is random

    def __init__(
        self,
        stepper: EnvStepper,
        options: PPOOptions | A2COptions,
        rng: np.random.Generator,
        counters: Counters,
        device: torch.device,
    ):
        self._options, self._counters, self._device = options, counters, device
        shared: dict[str, Any] = {
            "learning_rate": _falling(options.learning_rate, options, counters),
            "n_steps": options.n_steps,
            "gamma": options.gamma,
            "gae_lambda": options.gae_lambda,
            "ent_coef": options.ent_coef,
            "vf_coef": options.vf_coef,
            "max_grad_norm": options.max_grad_norm,
            "normalize_advantage": options.normalize_advantage,
            "rollout_buffer_class": OwnRollout,
            "rollout_buffer_kwargs": {"rng": rng},
            "policy_kwargs": policy_kwargs(options),
            "device": device,
        }
        env = _view(stepper)
        self.model: PPO | A2C
        if isinstance(options, PPOOptions):
            self.model = PPO(
                "CnnPolicy",
                env,
                batch_size=options.batch_size,
                n_epochs=options.n_epochs,
                clip_range=_falling(options.clip_range, options, counters),
                **shared,
            )
        else:
            self.model = A2C("CnnPolicy", env, **shared)
        self.model.set_logger(_silent())
        self._starts = np.ones(stepper.num_envs, np.bool_)
        self._observations: np.ndarray | None = None
        self._acted: tuple[np.ndarray, torch.Tensor, torch.Tensor] | None = None

    @property
    def policy(self) -> BasePolicy:
        return self.model.policy

    @property
    def nbytes(self) -> int:
        return sum(getattr(self.model.rollout_buffer, name).nbytes for name in _ROLLOUT)

    def begin(self, observations: np.ndarray) -> None:
        self.model.rollout_buffer.reset()
        self._starts[:] = True
        self._observations = observations

    @torch.no_grad()
    def act(self, observations: np.ndarray) -> np.ndarray:
        self.policy.set_training_mode(False)
        try:
            actions, values, log_probs = self.policy(self._tensor(observations))
        except ValueError as error:  # of a distribution whose parameters are not numbers
            raise self._diverged(error) from None
        self._observations = observations
        self._acted = (actions.cpu().numpy(), values, log_probs)
        return self._acted[0]

    def observe(self, record: StepRecord, rewards: np.ndarray) -> dict[str, float] | None:
        assert self._acted is not None and self._observations is not None
        actions, values, log_probs = self._acted
        buffer = self.model.rollout_buffer
        dones = record.terminated | record.truncated
        rewards = self._with_bootstrap(record, rewards)
        buffer.add(self._observations, actions[:, None], rewards, self._starts, values, log_probs)
        self._starts, self._observations = dones, record.observations
        if not buffer.full:
            return None
        with torch.no_grad():
            last_values = self.model.policy.predict_values(self._tensor(record.observations))
        buffer.compute_returns_and_advantage(last_values, dones)
        return self._update()

    def _with_bootstrap(self, record: StepRecord, rewards: np.ndarray) -> np.ndarray:
        """Where only the time limit ended a game, the value of what would have followed is added.

        The rollout treats every end as termination.
        """
        rows = np.flatnonzero(record.truncated & ~record.terminated)
        if not len(rows):
            return rewards
        finals = np.stack([record.final_observations[int(row)] for row in rows])
        with torch.no_grad():
            values = self.model.policy.predict_values(self._tensor(finals))
        rewards = rewards.copy()
        rewards[rows] += self._options.gamma * values.cpu().numpy().flatten()
        return rewards

    def _update(self) -> dict[str, float]:
        options, values = self._options, self.model.logger.name_to_value
        try:
            self.model.train()
        except ValueError as error:
            raise self._diverged(error) from None
        logged = {name: float(values[f"train/{name}"]) for name in ("value_loss", "entropy_loss")}
        if isinstance(options, PPOOptions):
            logged["loss"] = float(values["train/loss"])
            for name in ("policy_gradient_loss", "approx_kl", "clip_fraction"):
                logged[name] = float(values[f"train/{name}"])
            batches = -(-options.buffer_size // options.batch_size)
            self._counters.updates += options.n_epochs * batches
        else:
            logged["policy_loss"] = float(values["train/policy_loss"])
            logged["loss"] = (
                logged["policy_loss"]
                + options.ent_coef * logged["entropy_loss"]
                + options.vf_coef * logged["value_loss"]
            )
            self._counters.updates += 1
        if not np.isfinite(logged["loss"]):
            raise self._diverged(f"the loss is {logged['loss']}")
        self.model.rollout_buffer.reset()
        return logged

    def _diverged(self, what: object) -> TrainingError:
        return _diverged(self._counters, " ".join(str(what).split())[:80])

    def _tensor(self, observations: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(observations)).to(self._device)

    def memory_state(self) -> dict[str, Any]:
        buffer = self.model.rollout_buffer
        rollout = {name: getattr(buffer, name)[: buffer.pos] for name in _ROLLOUT}
        return {"rollout": rollout, "starts": self._starts}

    def set_memory_state(self, state: dict[str, Any]) -> None:
        buffer = self.model.rollout_buffer
        buffer.reset()
        buffer.pos = len(state["rollout"]["actions"])
        for name in _ROLLOUT:
            getattr(buffer, name)[: buffer.pos] = state["rollout"][name]
        self._starts = np.array(state["starts"], np.bool_)


# ---- QR-DQN


class FrameMemory:
    """Our replay memory, which keeps each frame once, where SB3 expects a buffer of its own.

    Args:
        replay: the memory.
        rng: draws the batches.
        gamma: discount factor.
        device: that batches go to.
    """

    def __init__(
        self, replay: FrameReplay, rng: np.random.Generator, gamma: float, device: torch.device
    ):
        self.replay = replay
        self._rng, self._gamma, self._device = rng, gamma, device

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """(batch_size) transitions; `discounts` is 0 where the episode terminated."""
        batch = self.replay.sample(batch_size, self._rng, gamma=self._gamma).to(self._device)
        return ReplayBufferSamples(
            batch.observations,
            batch.actions.unsqueeze(1),
            batch.next_observations,
            torch.zeros_like(batch.discounts).unsqueeze(1),  # the discounts say it already
            batch.returns.unsqueeze(1),
            batch.discounts.unsqueeze(1),
        )


class QuantileLearner:
    """QR-DQN of sb3-contrib with our replay memory.

    Args:
        stepper: says what the environments look like; it is not stepped here.
        options: settings.
        rng: explores and draws the batches.
        counters: see `Counters`.
        device: where the network computes.

    Raises:
        UsageError: sb3-contrib is not installed.
    """

    def __init__(
        self,
        stepper: EnvStepper,
        options: QRDQNOptions,
        rng: np.random.Generator,
        counters: Counters,
        device: torch.device,
    ):
        self._options, self._rng, self._counters = options, rng, counters
        self._num_actions = stepper.num_actions
        self._device = device
        space = stepper.observation_space
        assert isinstance(space, Box)
        replay = FrameReplay(
            *(options.buffer_size, stepper.num_envs, space.shape, space.dtype),
            frame_stack=stepper.frame_stack,
        )
        self._memory = FrameMemory(replay, rng, options.gamma, device)
        self.model = import_qrdqn().QRDQN(
            "CnnPolicy",
            _view(stepper),
            learning_rate=_falling(options.learning_rate, options, counters),
            buffer_size=1,  # its own is not used
            batch_size=options.batch_size,
            max_grad_norm=options.max_grad_norm or None,
            policy_kwargs=policy_kwargs(options),
            device=device,
        )
        self.model.replay_buffer = self._memory
        self.model.set_logger(_silent())

    @property
    def policy(self) -> BasePolicy:
        return self.model.policy

    @property
    def epsilon(self) -> float:
        options, step = self._options, self._counters.timesteps
        if step < options.learning_starts:
            return 1.0
        return linear_schedule(
            options.epsilon_initial, options.epsilon_final, options.epsilon_steps, step
        )

    @property
    def nbytes(self) -> int:
        return self._memory.replay.nbytes

    def begin(self, observations: np.ndarray) -> None:
        self._memory.replay.reset(observations)

    @torch.no_grad()
    def act(self, observations: np.ndarray) -> np.ndarray:
        n = len(observations)
        random, actions = explore(self._rng, n, self._num_actions, self.epsilon)
        if random.all():
            return actions
        self.policy.set_training_mode(False)
        seen = torch.from_numpy(np.ascontiguousarray(observations)).to(self._device)
        greedy = self.policy(seen).cpu().numpy()
        return np.where(random, actions, greedy)

    def observe(self, record: StepRecord, rewards: np.ndarray) -> dict[str, float] | None:
        options, now = self._options, self._counters.timesteps
        before = now - len(rewards)
        self._memory.replay.add(
            *(record.actions, rewards, record.terminated, record.truncated, record.episode_over),
            *(record.observations, record.final_observations),
        )
        if now // options.target_update > before // options.target_update:
            self._move_target()
        due = now // options.train_freq - before // options.train_freq
        # After a resume without its memory, that is filled again first.
        ready = min(now, len(self._memory.replay)) >= max(options.learning_starts, 1)
        if not (due and ready):
            return None
        self.model.train(due * options.gradient_steps, options.batch_size)
        self._counters.updates += due * options.gradient_steps
        loss = float(self.model.logger.name_to_value["train/loss"])
        if not np.isfinite(loss):
            raise _diverged(self._counters, f"the loss is {loss}")
        return {"loss": loss}

    def _move_target(self) -> None:
        model = self.model
        online, target = model.quantile_net.parameters(), model.quantile_net_target.parameters()
        polyak_update(online, target, self._options.target_tau)
        polyak_update(model.batch_norm_stats, model.batch_norm_stats_target, 1.0)

    def memory_state(self) -> dict[str, Any]:
        return self._memory.replay.get_state()

    def set_memory_state(self, state: dict[str, Any]) -> None:
        self._memory.replay.set_state(state)


# ---- shared


def make_learner(
    stepper: EnvStepper,
    options: Sb3Options,
    rng: np.random.Generator,
    counters: Counters,
    device: torch.device,
) -> Sb3Learner:
    """The algorithm that the options belong to."""
    if isinstance(options, QRDQNOptions):
        return QuantileLearner(stepper, options, rng, counters, device)
    return OnPolicyLearner(stepper, options, rng, counters, device)


def _view(stepper: EnvStepper) -> TrainingEnvView:
    """What the algorithm sees of the environments; the loop steps them."""
    return TrainingEnvView(stepper.num_envs, stepper.observation_space, stepper.num_actions)


def _falling(start: float, options: Sb3Options, counters: Counters) -> Callable[[float], float]:
    """A schedule of SB3 by the steps made so far, whatever share of a loop it says is left."""

    def value(_: float) -> float:
        if not options.schedule_steps:
            return start
        return linear_schedule(start, 0.0, options.schedule_steps, counters.timesteps)

    return value


def _silent() -> Logger:
    """Keeps the last values and writes none."""
    return Logger(folder=None, output_formats=[])


def _diverged(counters: Counters, what: str) -> TrainingError:
    return TrainingError(
        f"{what} at agent step {counters.timesteps:,}, update {counters.updates + 1:,}; "
        "lower the learning rate."
    )
