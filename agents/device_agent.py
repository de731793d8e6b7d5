"""Acting, storing and learning where the environments' arrays are tensors on a device.

What `DQN` does in NumPy with environments on the CPU it leaves to a `DeviceSide` here: nothing of
a step waits for the device, except on the steps that fetch finished games.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from ..envs.device_steps import DeviceRecord, DeviceStepper, Stepper
from ..errors import TrainingError, UsageError
from .captured import CapturedStep, Step, tensors_of
from .device_prioritized import DevicePrioritizedReplay
from .device_replay import DeviceReplay
from .device_rollout import DeviceRollout
from .exploration import epsilon_ladder
from .heads import sample_noise
from .networks import Twin
from .options import DQNOptions
from .parts import memory_bytes

DeviceMemory = DeviceReplay | DevicePrioritizedReplay | DeviceRollout

DEVICE_SHARE = 0.7
"""Of a GPU's free memory that a replay memory may take; networks and games need the rest."""


def learns_on_device(options: DQNOptions) -> bool:
    """Whether these options can learn from environments on a GPU: sequences are cut in NumPy."""
    return not options.sequence_length


def same_device(one: torch.device, other: torch.device) -> bool:
    """Whether both name one device; a GPU without a number is the current one."""

    def number(device: torch.device) -> int:
        index: int | None = device.index
        if index is None and device.type == "cuda" and torch.cuda.is_available():
            return torch.cuda.current_device()
        return index or 0

    return one.type == other.type and number(one) == number(other)


def device_of_games(stepper: Stepper, chosen: torch.device, wanted: str) -> torch.device:
    """Where a network computes: on the device of its games where that is not the host.

    Args:
        stepper: the games.
        chosen: the device that `wanted` names.
        wanted: as the user wrote it; "auto" follows the games.

    Raises:
        UsageError: games and network would be on different devices.
    """
    if not isinstance(stepper, DeviceStepper):
        return chosen
    if wanted != "auto" and not same_device(chosen, stepper.device):
        raise UsageError(
            f"the games are on {stepper.device} and the network on {chosen}; give both the same "
            "device."
        )
    return stepper.device


def fits(device: torch.device, needed: int) -> bool:
    """Whether a replay memory of so many bytes has room on a device; a CPU is not asked."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return needed <= DEVICE_SHARE * free


def build_device_memory(
    options: DQNOptions, stepper: DeviceStepper, values: torch.nn.Module, needed: int
) -> DeviceMemory:
    """The memory that the options name, on the stepper's device, empty.

    Frames that do not fit there lie in pinned memory of the host.

    Args:
        options: of the agent.
        stepper: whose steps are added.
        values: the network, which values the last observations of games that are cut.
        needed: bytes of the memory.

    Raises:
        UsageError: the options need a memory that is not made for a device.
    """
    space = stepper.observation_space
    assert isinstance(space, Box)
    if not learns_on_device(options):
        raise UsageError(
            "sequences (memory, sequence_length) are learnt from environments on the CPU; make "
            "them with device='cpu', the network may stay on the GPU."
        )
    if options.rollout_steps:
        return DeviceRollout(
            options,
            stepper.num_envs,
            space.shape,
            space.dtype,
            device=stepper.device,
            values=lambda observations: _plain_values(values, observations),
            longest_game=stepper.longest_game,
        )
    replay = DeviceReplay(
        options.buffer_size,
        stepper.num_envs,
        space.shape,
        space.dtype,
        device=stepper.device,
        frame_stack=stepper.frame_stack,
        longest_game=stepper.longest_game,
        pinned=not fits(stepper.device, needed),
    )
    if options.prioritized:
        return DevicePrioritizedReplay(replay, options.priority_exponent)
    return replay


@torch.no_grad()
def _plain_values(network: torch.nn.Module, observations: torch.Tensor) -> torch.Tensor:
    """(B, A) without noise."""
    network.eval()
    try:
        return network(observations)
    finally:
        network.train()


class DeviceSide:
    """An agent's acting, storing and learning in tensors.

    Args:
        options: of the agent.
        stepper: the environments.
        online: the network.
        generator: of exploration and noise, on the stepper's device.

    Attributes:
        memory: what is learnt from.

    Raises:
        UsageError: the options need a memory that is not made for a device.
    """

    def __init__(
        self,
        options: DQNOptions,
        stepper: DeviceStepper,
        online: Twin,
        generator: torch.Generator,
    ):
        self.options, self.stepper, self.online = options, stepper, online
        self._generator, self._device = generator, stepper.device
        space = stepper.observation_space
        assert isinstance(space, Box)
        needed = memory_bytes(options, stepper.num_envs, space, stepper.frame_stack)
        self.memory = build_device_memory(options, stepper, online.module, needed)
        self._captured: CapturedStep | None = None
        self._ladder: torch.Tensor | None = None
        if options.epsilon_ladder:
            ladder = epsilon_ladder(stepper.num_envs).astype(np.float32)
            self._ladder = torch.from_numpy(ladder).to(stepper.device)
        self._wrong = torch.zeros((), dtype=torch.bool, device=stepper.device)
        self._metrics: dict[str, torch.Tensor] | None = None

    def prepare(self, step: Step, target: Twin, optimizer: torch.optim.Optimizer) -> Step:
        """The gradient step as it is made here: without waiting, on CUDA as a graph if faster.

        Args:
            step: `update.gradient_step` with all but its batch given.
            target: the target network of `step`.
            optimizer: the optimizer of `step`.
        """
        step = partial(step, wait=False)
        if self._device.type != "cuda":
            return step
        self._captured = CapturedStep(
            step, lambda: tensors_of(self.online, target, optimizer), self._generator
        )
        return self._captured

    def forget(self) -> None:
        """The agent's state was replaced: what was captured or noted of the old one is dropped."""
        if self._captured is not None:
            self._captured.forget()
        self._wrong.zero_()
        self._metrics = None

    @torch.no_grad()
    def act(self, observations: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Epsilon-greedy actions, (n,) int64, under fresh noise where the head is noisy."""
        n, options, memory = len(observations), self.options, self.memory
        draw: dict[str, Any] = {"generator": self._generator, "device": self._device}
        explore = torch.rand(n, **draw) < (epsilon if self._ladder is None else self._ladder)
        anything = torch.randint(self.stepper.num_actions, (n,), **draw)
        random_only = self._ladder is None and epsilon >= 1
        if random_only and not isinstance(memory, DeviceRollout):
            return anything
        network = self.online.module
        if options.noisy:
            sample_noise(network, self._generator)
            values = network(observations)
        else:
            values = _plain_values(network, observations)
        if isinstance(memory, DeviceRollout):
            memory.note_values(values)
        return torch.where(explore, anything, values.argmax(dim=1))

    def store(self, record: DeviceRecord) -> None:
        """Stores a step of all environments."""
        rewards = record.rewards
        self.memory.add(
            record.actions,
            rewards.clamp(-1, 1) if self.options.clip_rewards else rewards,
            record.terminated,
            record.truncated,
            record.episode_over,
            record.observations,
            record.final_observations,
        )

    def note(self, metrics: dict[str, torch.Tensor]) -> None:
        """Takes the figures of an update, which stay on the device until `read`."""
        self._wrong |= ~metrics["loss"].isfinite()
        self._metrics = metrics

    def read(self) -> dict[str, float] | None:
        """Figures of the last update on the steps that fetch finished games; None otherwise.

        Raises:
            TrainingError: see `check`.
        """
        if not self.stepper.fetch_due:
            return None
        self.check()
        metrics, self._metrics = self._metrics, None
        if metrics is None:
            return None
        figures = torch.stack([value.float() for value in metrics.values()]).tolist()
        return dict(zip(metrics, figures, strict=True))

    def check(self) -> None:
        """Waits for the device and looks at what was left to do so.

        Raises:
            TrainingError: the loss of an update since the last look was not a finite number (the
                weights are worth nothing then), or more games were cut than there was room for.
        """
        if bool(self._wrong):
            raise TrainingError("the loss is not a finite number")
        self.memory.check()
