"""The options of the DQN family. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import UnknownNameError, UsageError
from ..registry import json_object


@dataclass(frozen=True)
class DQNOptions:
    """Everything that a run of the DQN family can vary. Intervals are in agent steps over all
    environments.
    """

    method: str = "dqn"
    """what the network estimates of the return: dqn (mean), c51 (categories), qr-dqn (quantiles),
    iqn (any quantile)"""
    backbone: str = "nature"
    """trunk from the registry; 'eightbit list backbones' shows all"""
    backbone_options: str = "{}"
    """JSON object of options for the backbone, such as '{"width": 2}'"""
    backbone_weights: str | None = None
    """packaged name or path of weights that the trunk starts from"""
    memory: str | None = field(default=None, metadata={"unset": "no memory"})
    """recurrent backbone between trunk and head, such as lstm (R2D2)"""
    memory_options: str = "{}"
    """JSON object of options for it, such as '{"hidden": 512}'"""
    head_hidden: int = 0
    """units of a hidden layer between features and values, in each stream; 0 for none"""
    dueling: bool = False
    """value and advantage streams (Wang 2016)"""
    noisy: bool = False
    """learnt noise in the head's weights explores (Fortunato 2018)"""
    noisy_sigma: float = 0.5
    """noise of such weights at the start, times 1/sqrt(inputs)"""
    double: bool = False
    """the online network chooses the action that the target network values (van Hasselt 2016)"""
    atoms: int = 51
    """c51: categories of the return"""
    v_max: float = 10.0
    """c51: the categories lie between -v_max and v_max"""
    quantiles: int = 200
    """qr-dqn: quantiles of the return"""
    taus: int = 64
    """iqn: quantiles drawn for each online estimate (N)"""
    target_taus: int = 64
    """iqn: quantiles drawn for each target (N')"""
    policy_taus: int = 32
    """iqn: quantiles averaged to act (K)"""
    cosines: int = 64
    """iqn: cosines that describe a quantile"""
    kappa: float = 1.0
    """where the Huber loss of quantiles turns linear"""
    munchausen: float = 0.0
    """factor of the log-policy added to the reward, 0.9 in Vieillard 2020; 0 for none"""
    munchausen_clip: float = -1.0
    """lower bound of that log-policy"""
    temperature: float = 0.0
    """of the softmax policy in the target (0.03 in Vieillard 2020); 0 takes the maximum"""
    value_rescaling: bool = False
    """learn h(Q) with h(x) = sign(x)(sqrt(|x| + 1) - 1) + 0.001 x (Pohlen 2018)"""
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
    """transitions (R2D2: sequences) in an update"""
    replay_ratio: float = 4.0
    """transitions replayed per agent step: batch_size x updates / steps"""
    prioritized: bool = False
    """replay transitions by their TD error (Schaul 2016)"""
    priority_exponent: float = 0.5
    """power of the TD error in a priority; 0 is uniform"""
    importance_exponent: float = 0.4
    """power of the importance weights at the start; it grows to 1 over importance_steps"""
    importance_steps: int = 10_000_000
    """agent steps over which importance_exponent grows to 1"""
    sequence_length: int = 0
    """steps in a replayed sequence, burn-in included, for networks with memory; 0 for single
    transitions"""
    burn_in: int = 0
    """steps at a sequence's beginning that only warm the memory up"""
    sequence_stride: int = 40
    """steps between the beginnings of neighbouring sequences"""
    rollout_steps: int = 0
    """steps of each environment that are learnt from once instead of being replayed (PQN); 0 uses
    the replay memory"""
    rollout_epochs: int = 2
    """passes over each rollout; batch_size transitions an update"""
    td_lambda: float = 0.65
    """of the lambda-returns of a rollout"""
    optimizer: Literal["adam", "rmsprop", "radam"] = "adam"
    """Adam, the centred RMSProp of Mnih 2015, or RAdam"""
    learning_rate: float = 2e-4
    """step size of the optimizer"""
    learning_rate_steps: int = 0
    """agent steps over which the step size falls linearly to 0; 0 keeps it"""
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
    average: float = 0.0
    """what plays and is saved is the running mean of the weights, which keeps this share of itself
    at each update; 0 plays the newest weights"""
    epsilon_initial: float = 1.0
    """share of random actions at the start"""
    epsilon_final: float = 0.01
    """share of random actions after epsilon_steps"""
    epsilon_steps: int = 100_000
    """agent steps over which epsilon falls linearly"""
    epsilon_ladder: bool = False
    """environment i of n keeps the share 0.4^(1 + 7 i / (n - 1)) instead (Horgan 2018)"""
    clip_rewards: bool = True
    """learn from rewards clipped to [-1, 1]; scores are always raw"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """number format of the network's computation; auto measures which is faster here"""

    def __post_init__(self) -> None:
        """Refuses settings that are out of range or contradict each other; raises UsageError."""
        check_ranges(
            self,
            at_least_1=_AT_LEAST_1,
            at_least_0=_AT_LEAST_0,
            shares=_SHARES,
            above_0=("replay_ratio", "learning_rate", "v_max", "kappa"),
        )
        if self.method not in METHODS:
            raise UnknownNameError("method", self.method, METHODS)
        self._refuse_contradictions()
        self.backbone_kwargs()
        self.memory_kwargs()

    def _refuse_contradictions(self) -> None:
        if not self.rollout_steps and self.learning_starts > self.buffer_size:
            raise UsageError(
                f"learning_starts ({self.learning_starts:,}) exceeds buffer_size "
                f"({self.buffer_size:,}): learning would never begin; lower it."
            )
        if not self.rollout_steps and self.batch_size * max(self.sequence_length, 1) > (
            self.buffer_size
        ):
            raise UsageError(
                f"a batch of {self.batch_size:,} does not fit a replay memory of "
                f"{self.buffer_size:,} transitions; raise buffer_size or lower batch_size."
            )
        for wrong, what in _contradictions(self):
            if wrong:
                raise UsageError(what)

    @property
    def replayed_per_update(self) -> int:
        """Transitions of an update that are learnt from; of sequences, steps with a target."""
        learnt = self.sequence_length - self.burn_in - self.n_step
        return self.batch_size * max(learnt, 1)

    def backbone_kwargs(self) -> dict[str, Any]:
        """`backbone_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("backbone_options", self.backbone_options)

    def memory_kwargs(self) -> dict[str, Any]:
        """`memory_options` parsed; raises UsageError when it is no JSON object."""
        return json_object("memory_options", self.memory_options)


METHODS = ("dqn", "c51", "qr-dqn", "iqn")
"""What the head of a network may estimate; each is a module of `agents/methods`."""

_AT_LEAST_1 = (
    *("n_step", "num_envs", "buffer_size", "batch_size", "target_update", "quantiles", "taus"),
    *("target_taus", "policy_taus", "cosines", "importance_steps", "sequence_stride"),
    *("rollout_epochs",),
)
_AT_LEAST_0 = (
    *("head_hidden", "noisy_sigma", "temperature", "priority_exponent", "sequence_length"),
    *("burn_in", "rollout_steps", "learning_rate_steps", "epsilon_steps", "max_grad_norm"),
)
_SHARES = (
    *("gamma", "target_tau", "epsilon_initial", "epsilon_final", "td_lambda", "munchausen"),
    *("importance_exponent", "average"),
)


def _contradictions(options: DQNOptions) -> list[tuple[bool, str]]:
    """What cannot go together, each with the sentence that says so."""
    o = options
    return [
        (o.atoms < 2, f"atoms is {o.atoms}; c51 needs at least 2."),
        (o.munchausen_clip > 0, f"munchausen_clip is {o.munchausen_clip}; it is 0 or below."),
        (
            o.munchausen > 0 and o.temperature == 0,
            "munchausen needs a soft maximum: its log-policy is that of a softmax; give "
            "temperature, such as 0.03.",
        ),
        (
            o.temperature > 0 and o.double,
            "temperature and double exclude each other: a softmax policy chooses no single action.",
        ),
        (
            o.temperature > 0 and o.method in ("c51", "qr-dqn"),
            f"method {o.method} has no soft target; take dqn or iqn.",
        ),
        (
            o.value_rescaling and o.method != "dqn",
            f"value_rescaling is for method dqn, not {o.method}.",
        ),
        (
            (o.sequence_length > 0) != (o.memory is not None),
            "sequences need a network with memory and the other way round: give both memory (such "
            "as lstm) and sequence_length (such as 80).",
        ),
        (
            o.sequence_length > 0 and o.burn_in + o.n_step >= o.sequence_length,
            f"sequence_length ({o.sequence_length}) must exceed burn_in ({o.burn_in}) + n_step "
            f"({o.n_step}).",
        ),
        (o.sequence_length > 0 and o.method != "dqn", "sequences are for method dqn."),
        (
            o.rollout_steps > 0 and (o.prioritized or o.sequence_length > 0),
            "rollout_steps learns without a replay memory; leave prioritized and sequence_length "
            "out.",
        ),
        (o.rollout_steps > 0 and o.method != "dqn", "rollout_steps is for method dqn."),
        (
            o.rollout_steps * o.num_envs % o.batch_size != 0,
            f"a rollout of {o.rollout_steps} x {o.num_envs} transitions does not divide into "
            f"batches of {o.batch_size}.",
        ),
    ]


def check_ranges(
    options: Any,
    *,
    at_least_1: Sequence[str],
    at_least_0: Sequence[str],
    shares: Sequence[str],
    above_0: Sequence[str],
) -> None:
    """Raises UsageError where a field of options that these name lies outside its range."""
    for name in at_least_1:
        if getattr(options, name) < 1:
            raise UsageError(f"{name} is {getattr(options, name)}; it must be at least 1.")
    for name in at_least_0:
        if not 0 <= getattr(options, name) < math.inf:
            raise UsageError(f"{name} is {getattr(options, name)}; it must be 0 or more.")
    for name in shares:
        if not 0 <= getattr(options, name) <= 1:
            raise UsageError(f"{name} is {getattr(options, name)}; it must lie between 0 and 1.")
    for name in above_0:
        if not 0 < getattr(options, name) < math.inf:
            raise UsageError(f"{name} is {getattr(options, name)}; it must be above 0.")
