"""Options and presets of the agents that Stable-Baselines3 trains. Nothing here imports torch.

What Stable-Baselines3 names keeps its name (n_steps, ent_coef, ...), what all our agents have keeps
ours (backbone, num_envs, ...). Every interval counts agent steps over all environments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..errors import UsageError
from ..registry import json_object
from .options import check_ranges


@dataclass(frozen=True)
class PPOOptions:
    """Proximal policy optimization (Schulman et al. 2017) as in Stable-Baselines3."""

    backbone: str = "nature"
    """trunk from the registry, none that is recurrent; 'eightbit list backbones' shows all"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"width": 2}'"""
    backbone_weights: str | None = None
    """packaged name or path of weights that the trunk starts from"""
    share_backbone: bool = True
    """policy and value read one trunk; otherwise each has its own"""
    num_envs: int = 8
    """environments that are stepped together"""
    n_steps: int = 128
    """steps of each environment in a rollout"""
    n_epochs: int = 4
    """passes over each rollout"""
    batch_size: int = 256
    """transitions in an update"""
    learning_rate: float = 2.5e-4
    """step size of Adam at the start"""
    clip_range: float = 0.1
    """how far the ratio of new to old probability may leave 1 at the start"""
    schedule_steps: int = 10_000_000
    """agent steps over which learning_rate and clip_range fall linearly to 0; 0 keeps them"""
    gamma: float = 0.99
    """discount factor per agent step"""
    gae_lambda: float = 0.95
    """of the advantage estimates (Schulman 2016)"""
    ent_coef: float = 0.01
    """weight of the policy's entropy in the loss"""
    vf_coef: float = 0.5
    """weight of the value's error in the loss"""
    max_grad_norm: float = 0.5
    """gradients are scaled to at most this norm"""
    optimizer_eps: float = 1e-5
    """added to the denominator of the optimizer's step"""
    normalize_advantage: bool = True
    """advantages of each batch get mean 0 and deviation 1"""
    clip_rewards: bool = True
    """learn from rewards clipped to [-1, 1]; scores are always raw"""
    precision: Literal["fp32"] = "fp32"
    """number format: Stable-Baselines3 computes in float32"""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range or contradict each other; raises UsageError."""
        check_ranges(
            self,
            at_least_1=("num_envs", "n_steps", "n_epochs", "batch_size"),
            at_least_0=("schedule_steps", "ent_coef", "vf_coef"),
            shares=("gamma", "gae_lambda"),
            above_0=("learning_rate", "clip_range", "max_grad_norm", "optimizer_eps"),
        )
        backbone_kwargs(self)
        _refuse_lone_transition(self)
        if self.buffer_size % self.batch_size:
            raise UsageError(
                f"a rollout of {self.n_steps} x {self.num_envs} transitions does not divide into "
                f"batches of {self.batch_size}; change batch_size, n_steps or num_envs."
            )

    @property
    def buffer_size(self) -> int:
        """Transitions of a rollout, which all updates are made from."""
        return self.n_steps * self.num_envs

    @property
    def learning_starts(self) -> int:
        """Transitions before the first update."""
        return self.buffer_size


@dataclass(frozen=True)
class A2COptions:
    """Synchronous advantage actor-critic (Mnih et al. 2016) as in Stable-Baselines3."""

    backbone: str = "nature"
    """trunk from the registry, none that is recurrent; 'eightbit list backbones' shows all"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"width": 2}'"""
    backbone_weights: str | None = None
    """packaged name or path of weights that the trunk starts from"""
    share_backbone: bool = True
    """policy and value read one trunk; otherwise each has its own"""
    num_envs: int = 16
    """environments that are stepped together"""
    n_steps: int = 5
    """steps of each environment in a rollout, which is one update"""
    learning_rate: float = 7e-4
    """step size of the optimizer at the start"""
    schedule_steps: int = 0
    """agent steps over which learning_rate falls linearly to 0; 0 keeps it"""
    gamma: float = 0.99
    """discount factor per agent step"""
    gae_lambda: float = 1.0
    """of the advantage estimates (Schulman 2016); 1 takes the n-step returns"""
    ent_coef: float = 0.01
    """weight of the policy's entropy in the loss"""
    vf_coef: float = 0.25
    """weight of the value's error in the loss"""
    max_grad_norm: float = 0.5
    """gradients are scaled to at most this norm"""
    optimizer: Literal["rmsprop-tf", "rmsprop"] = "rmsprop-tf"
    """RMSProp with the constant below the root as in TensorFlow, or beside it as in torch"""
    optimizer_eps: float = 1e-5
    """that constant"""
    normalize_advantage: bool = False
    """advantages of each rollout get mean 0 and deviation 1"""
    clip_rewards: bool = True
    """learn from rewards clipped to [-1, 1]; scores are always raw"""
    precision: Literal["fp32"] = "fp32"
    """number format: Stable-Baselines3 computes in float32"""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range; raises UsageError."""
        check_ranges(
            self,
            at_least_1=("num_envs", "n_steps"),
            at_least_0=("schedule_steps", "ent_coef", "vf_coef"),
            shares=("gamma", "gae_lambda"),
            above_0=("learning_rate", "max_grad_norm", "optimizer_eps"),
        )
        backbone_kwargs(self)
        _refuse_lone_transition(self)

    @property
    def buffer_size(self) -> int:
        """Transitions of a rollout."""
        return self.n_steps * self.num_envs

    @property
    def learning_starts(self) -> int:
        """Transitions before the first update."""
        return self.buffer_size


@dataclass(frozen=True)
class QRDQNOptions:
    """Quantile regression DQN (Dabney et al. 2018a) as in sb3-contrib."""

    backbone: str = "nature"
    """trunk from the registry, none that is recurrent; 'eightbit list backbones' shows all"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"width": 2}'"""
    backbone_weights: str | None = None
    """packaged name or path of weights that the trunk starts from"""
    quantiles: int = 200
    """quantiles of the return of each action"""
    num_envs: int = 1
    """environments that are stepped together"""
    buffer_size: int = 1_000_000
    """replay memory in transitions; a frame of 84x84 takes 7 kB"""
    learning_starts: int = 50_000
    """agent steps before the first update; actions are random until then"""
    batch_size: int = 32
    """transitions in an update"""
    train_freq: int = 4
    """agent steps between updates"""
    gradient_steps: int = 1
    """updates that are made then"""
    learning_rate: float = 5e-5
    """step size of Adam at the start"""
    schedule_steps: int = 0
    """agent steps over which learning_rate falls linearly to 0; 0 keeps it"""
    optimizer_eps: float = 0.01 / 32
    """added to the denominator of the optimizer's step"""
    max_grad_norm: float = 0.0
    """gradients are scaled to at most this norm; 0 leaves them"""
    gamma: float = 0.99
    """discount factor per agent step"""
    target_update: int = 10_000
    """agent steps between updates of the target network"""
    target_tau: float = 1.0
    """fraction of the way that the target network moves; 1 copies the weights"""
    epsilon_initial: float = 1.0
    """share of random actions at the start"""
    epsilon_final: float = 0.01
    """share of random actions at the end of the schedule"""
    epsilon_steps: int = 250_000
    """agent steps over which the share falls linearly"""
    clip_rewards: bool = True
    """learn from rewards clipped to [-1, 1]; scores are always raw"""
    precision: Literal["fp32"] = "fp32"
    """number format: Stable-Baselines3 computes in float32"""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range or contradict each other; raises UsageError."""
        check_ranges(
            self,
            at_least_1=(
                *("quantiles", "num_envs", "buffer_size", "batch_size", "train_freq"),
                *("gradient_steps", "target_update"),
            ),
            at_least_0=("schedule_steps", "max_grad_norm", "epsilon_steps", "learning_starts"),
            shares=("gamma", "target_tau", "epsilon_initial", "epsilon_final"),
            above_0=("learning_rate", "optimizer_eps"),
        )
        backbone_kwargs(self)
        if self.learning_starts > self.buffer_size:
            raise UsageError(
                f"learning_starts ({self.learning_starts:,}) exceeds buffer_size "
                f"({self.buffer_size:,}): learning would begin with a part of what was played; "
                "lower it."
            )
        if self.batch_size > self.buffer_size:
            raise UsageError(
                f"a batch of {self.batch_size:,} does not fit a replay memory of "
                f"{self.buffer_size:,} transitions; raise buffer_size or lower batch_size."
            )


Sb3Options = PPOOptions | A2COptions | QRDQNOptions

SB3_OPTIONS: dict[str, type[PPOOptions] | type[A2COptions] | type[QRDQNOptions]] = {
    "sb3-ppo": PPOOptions,
    "sb3-a2c": A2COptions,
    "sb3-qrdqn": QRDQNOptions,
}
"""The options of each agent, by the name that `eightbit train --agent` takes."""


def _refuse_lone_transition(options: PPOOptions | A2COptions) -> None:
    if options.buffer_size < 2 and options.normalize_advantage:
        raise UsageError(
            "a rollout of one transition has no deviation to normalize by; raise n_steps or "
            "num_envs, or write --no-normalize-advantage."
        )


def backbone_kwargs(options: Sb3Options) -> dict[str, Any]:
    """`backbone_options` parsed; raises UsageError when it is no JSON object."""
    return json_object("backbone_options", options.backbone_options)


# ---- presets: the tuned settings of RL Baselines3 Zoo

PPO_PRESETS: dict[str, PPOOptions] = {
    "zoo": PPOOptions(),
    "vector": PPOOptions(
        backbone="mlp",
        backbone_options='{"hidden": [64, 64], "activation": "tanh"}',
        share_backbone=False,
        n_steps=32,
        n_epochs=20,
        learning_rate=1e-3,
        clip_range=0.2,
        schedule_steps=100_000,
        gamma=0.98,
        gae_lambda=0.8,
        ent_coef=0.0,
        clip_rewards=False,
    ),
}

A2C_PRESETS: dict[str, A2COptions] = {
    "zoo": A2COptions(),
    "vector": A2COptions(
        backbone="mlp",
        backbone_options='{"hidden": [64, 64], "activation": "tanh"}',
        share_backbone=False,
        num_envs=8,
        ent_coef=0.0,
        vf_coef=0.5,
        optimizer="rmsprop",
        clip_rewards=False,
    ),
}

QRDQN_PRESETS: dict[str, QRDQNOptions] = {
    "zoo": QRDQNOptions(),
    "vector": QRDQNOptions(
        backbone="mlp",
        backbone_options='{"hidden": [256, 256]}',
        quantiles=10,
        buffer_size=100_000,
        learning_starts=1_000,
        batch_size=64,
        train_freq=256,
        gradient_steps=128,
        learning_rate=2.3e-3,
        optimizer_eps=0.01 / 64,
        target_update=10,
        epsilon_final=0.04,
        epsilon_steps=8_000,
        clip_rewards=False,
    ),
}
