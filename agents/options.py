"""The options of the DQN family and their presets. Nothing here imports torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import UsageError


@dataclass(frozen=True)
class DQNOptions:
    """Everything that a DQN run can vary. Intervals are in agent steps over all environments."""

    backbone: str = "nature"
    """trunk from the registry; 'eightbit list backbones' shows all"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"width": 2}'"""
    backbone_weights: str | None = None
    """packaged name or path of weights that the trunk starts from"""
    dueling: bool = False
    """value and advantage streams instead of one linear head (Wang 2016)"""
    double: bool = False
    """the online network chooses the action that the target network values (van Hasselt 2016)"""
    n_step: int = 3
    """steps of reward before the bootstrap"""
    gamma: float = 0.99
    """discount factor per agent step"""
    num_envs: int = 32
    """environments that are stepped together"""
    buffer_size: int = 200_000
    """replay memory in transitions; a frame of 84x84 takes 7 kB"""
    learning_starts: int = 10_000
    """transitions in the replay memory before the first update"""
    batch_size: int = 64
    """transitions in an update"""
    replay_ratio: float = 4.0
    """transitions replayed per agent step: batch_size x updates / steps"""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Adam, or the centred RMSProp of Mnih 2015"""
    learning_rate: float = 2e-4
    """step size of the optimizer"""
    optimizer_eps: float = 1e-5
    """added to the denominator of the optimizer's step"""
    loss: Literal["huber", "mse"] = "huber"
    """Huber (error clipped to [-1, 1] in the gradient) or half the squared error"""
    max_grad_norm: float = 10.0
    """gradients are scaled to at most this norm; 0 leaves them"""
    target_update: int = 8_000
    """agent steps between updates of the target network"""
    target_tau: float = 1.0
    """fraction of the way that the target network moves; 1 copies the weights"""
    epsilon_initial: float = 1.0
    """share of random actions at the start"""
    epsilon_final: float = 0.01
    """share of random actions after epsilon_steps"""
    epsilon_steps: int = 100_000
    """agent steps over which epsilon falls linearly"""
    clip_rewards: bool = True
    """learn from rewards clipped to [-1, 1]; scores are always raw"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """number format of the network's computation; auto measures which is faster here"""

    def __post_init__(self) -> None:
        """Refuses settings that contradict each other; raises UsageError."""
        positive = ("n_step", "num_envs", "buffer_size", "batch_size", "target_update")
        for name in positive:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("gamma", "target_tau", "epsilon_initial", "epsilon_final"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        for name in ("replay_ratio", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.learning_starts > self.buffer_size:
            raise UsageError(
                f"learning_starts ({self.learning_starts:,}) exceeds buffer_size "
                f"({self.buffer_size:,}): learning would never begin; lower it."
            )
        self.backbone_kwargs()

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        try:
            parsed = json.loads(self.backbone_options)
        except json.JSONDecodeError as error:
            raise UsageError(
                f"backbone_options is not JSON ({error}); write it like '{{\"width\": 2}}'."
            ) from None
        if not isinstance(parsed, dict):
            raise UsageError("backbone_options must be a JSON object like '{\"width\": 2}'.")
        return parsed


MNIH2015 = DQNOptions(
    backbone="nature",
    n_step=1,
    num_envs=1,
    buffer_size=1_000_000,
    learning_starts=50_000,
    batch_size=32,
    replay_ratio=8.0,
    optimizer="rmsprop",
    learning_rate=2.5e-4,
    optimizer_eps=0.01,
    loss="huber",
    max_grad_norm=0.0,
    target_update=40_000,
    epsilon_final=0.1,
    epsilon_steps=1_000_000,
    precision="fp32",
)

PRESETS: dict[str, DQNOptions] = {
    "fast": DQNOptions(),
    "demo": DQNOptions(
        # The small network makes twice as many updates in the same time.
        backbone="nips2013",
        replay_ratio=8.0,
        learning_starts=5_000,
        epsilon_steps=50_000,
        learning_rate=2.5e-4,
        target_update=4_000,
    ),
    "mnih2015": MNIH2015,
    "mnih2013": DQNOptions(
        backbone="nips2013",
        n_step=1,
        num_envs=1,
        buffer_size=1_000_000,
        learning_starts=50_000,
        batch_size=32,
        replay_ratio=32.0,
        optimizer="rmsprop",
        learning_rate=2e-4,
        optimizer_eps=0.01,
        loss="mse",
        max_grad_norm=0.0,
        target_update=1,
        epsilon_final=0.1,
        epsilon_steps=1_000_000,
        precision="fp32",
    ),
    "zoo": DQNOptions(
        n_step=1,
        num_envs=1,
        buffer_size=100_000,
        learning_starts=100_000,
        batch_size=32,
        replay_ratio=8.0,
        learning_rate=1e-4,
        optimizer_eps=1e-8,
        target_update=1_000,
        epsilon_final=0.01,
        epsilon_steps=1_000_000,
    ),
    "vector": DQNOptions(
        backbone="mlp",
        backbone_options='{"hidden": [128, 128]}',
        n_step=3,
        num_envs=8,
        buffer_size=50_000,
        learning_starts=1_000,
        batch_size=128,
        replay_ratio=32.0,
        learning_rate=1e-3,
        target_update=1_000,
        epsilon_final=0.02,
        epsilon_steps=10_000,
        clip_rewards=False,
        precision="fp32",
    ),
}
