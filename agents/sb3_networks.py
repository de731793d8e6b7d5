"""Policies of Stable-Baselines3 on our backbones, and the network in them that plays."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.policies import ActorCriticCnnPolicy, BasePolicy
from stable_baselines3.common.preprocessing import (
    is_image_space,
    is_image_space_channels_first,
)
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn

from ..backbones import load_weights
from ..errors import UsageError
from .sb3 import BackboneFeaturesExtractor
from .sb3_options import A2COptions, QRDQNOptions, Sb3Options, backbone_kwargs


def import_qrdqn() -> ModuleType:
    """sb3_contrib.qrdqn; raises UsageError where it is not installed."""
    try:
        from sb3_contrib import qrdqn
    except ImportError:
        raise UsageError(
            "agent sb3-qrdqn needs sb3-contrib: write pip install 'eightbit[sb3]'."
        ) from None
    return qrdqn


def policy_kwargs(options: Sb3Options) -> dict[str, Any]:
    """What SB3 calls `policy_kwargs`: backbone, then one linear layer for each output."""
    optimizers = {"rmsprop-tf": RMSpropTFLike, "rmsprop": torch.optim.RMSprop}
    optimizer: dict[str, Any] = {"eps": options.optimizer_eps}
    kwargs: dict[str, Any] = {
        "features_extractor_class": BackboneFeaturesExtractor,
        "features_extractor_kwargs": {
            "backbone": options.backbone,
            **backbone_kwargs(options),
        },
        "net_arch": [],
        "optimizer_class": torch.optim.Adam,
        "optimizer_kwargs": optimizer,
    }
    if isinstance(options, QRDQNOptions):
        return {**kwargs, "n_quantiles": options.quantiles}
    if isinstance(options, A2COptions):
        kwargs["optimizer_class"] = optimizers[options.optimizer]
        optimizer["alpha"] = 0.99
    return {**kwargs, "share_features_extractor": options.share_backbone}


def make_policy(space: Box, num_actions: int, options: Sb3Options) -> BasePolicy:
    """A policy that only plays; its algorithm makes the one that learns."""
    made = ActorCriticCnnPolicy
    if isinstance(options, QRDQNOptions):
        made = import_qrdqn().CnnPolicy
    kwargs = policy_kwargs(options)
    return made(space, Discrete(num_actions), lambda _: options.learning_rate, **kwargs)


def start_from_weights(policy: Any, source: str | None) -> None:
    """Loads weights into every trunk of a new policy, which SB3 has initialised its own way.

    Raises:
        UnknownNameError, WeightsError: see `load_weights`.
    """
    if source is None:
        return
    for module in policy.modules():
        if isinstance(module, BackboneFeaturesExtractor):
            report = load_weights(module.backbone, source)
    print(report)


def check_pictures(space: Box) -> None:
    """Refuses pictures whose channels come last, which SB3 would turn round; raises UsageError."""
    if is_image_space(space) and not is_image_space_channels_first(space):
        raise UsageError(
            f"pictures must have their channels first, but an observation has shape {space.shape}; "
            "turn them round with Gymnasium's TransformObservation."
        )


class PolicyNetwork(nn.Module):
    """The network in a policy of SB3, by the names that our own files use.

    Its modules are the policy's own: training the one trains the other.

    Attributes:
        backbone: of what plays.
        head: its linear layer.
        critic_backbone: of the value, where it does not share the first one.
        critic: linear layer of the value; PPO and A2C only.
        output_name: "values", or of a policy "log_probabilities".

    Args:
        policy: made by `make_policy` or an algorithm with `policy_kwargs`.
    """

    def __init__(self, policy: Any):
        super().__init__()
        self.scaled = is_image_space(policy.observation_space)
        self.num_actions = int(policy.action_space.n)
        self.quantiles = int(getattr(policy, "n_quantiles", 0))
        self.output_name = "values" if self.quantiles else "log_probabilities"
        if self.quantiles:
            self.backbone = policy.quantile_net.features_extractor.backbone
            self.head = policy.quantile_net.quantile_net[0]
            return
        self.backbone = policy.features_extractor.backbone
        self.head = policy.action_net
        self.critic = policy.value_net
        if not policy.share_features_extractor:
            self.critic_backbone = policy.vf_features_extractor.backbone

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """What greedy actions are chosen by.

        Args:
            observations: (B, *observation) as the environments give them, or pictures as floats
                in [0, 1].

        Returns:
            (B, A) float32: log-probabilities of PPO's and A2C's actions, of QR-DQN the mean of each
            action's quantiles.
        """
        seen = observations.float()
        if self.scaled and not observations.is_floating_point():
            seen = seen / 255
        out = self.head(self.backbone(seen))
        if not self.quantiles:
            return out.log_softmax(dim=1)
        return out.view(-1, self.quantiles, self.num_actions).mean(dim=1)
