"""The one supervised loop: `Learner.steps` yields a step at a time; others log, score and save."""

from __future__ import annotations

import copy
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..backbones import channels_last
from ..errors import TrainingError, UsageError
from ..tasks import Batch, Learning, Moment, Task, TaskData

Precision = Literal["fp32", "bf16"]
PREFETCHED = 3  # batches that are made ahead
FIRST_RATE = 0.01  # of the highest learning rate, where the rise begins


@dataclass(frozen=True)
class TrainStep:
    """What one optimizer step did.

    Attributes:
        step: optimizer steps made, this one included.
        progress: share of training that was over before it.
        losses: scalars by name, still tensors, so that a GPU need not be waited for.
        learning_rate: of the first parameter group.
        gradient_norm: before clipping; None where nothing is clipped.
        waited: seconds that the learner stood still for its batch.
    """

    step: int
    progress: float
    losses: Mapping[str, Tensor]
    learning_rate: float
    gradient_norm: Tensor | None
    waited: float


def make_fabric(device: str, devices: int, precision: Precision) -> Fabric:
    """Lightning's Fabric for this device: "cpu", "cuda" or "mps", and a number of them.

    Raises:
        UsageError: there are not so many devices.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # our own lines say it
    kind = torch.device(device).type
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise UsageError(
            f"{devices} devices are asked for and {torch.cuda.device_count()} are there; lower "
            "--devices."
        )
    return Fabric(
        accelerator=kind,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )


def rate_factor(learning: Learning, progress: float) -> float:
    """The learning rate at `progress` in [0, 1) as a share of its highest."""
    if progress < learning.warmup:
        return max(progress / learning.warmup, FIRST_RATE)
    if learning.schedule == "constant":
        return 1.0
    fallen = (progress - learning.warmup) / (1 - learning.warmup)
    if learning.schedule == "halving":  # 5 epochs, then after each half epoch, 7.5 in all
        return 0.5 ** max(int(fallen * 15) - 9, 0)
    if learning.schedule == "cosine":
        fallen = 0.5 - 0.5 * float(torch.cos(torch.tensor(fallen * torch.pi)))
    return 1.0 + (learning.final - 1.0) * min(fallen, 1.0)


class Learner:
    """A task's model while it learns: weights, their running mean, optimizer, number of steps.

    Args:
        task: what is learnt.
        model: freshly built, on the CPU.
        data: its data.
        learning: how.
        seed: of every random choice in a step; with the step's number it fixes all of them.
        fabric: device, precision and processes.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        data: TaskData,
        learning: Learning,
        seed: int,
        fabric: Fabric,
    ):
        self.task, self.data, self.learning = task, data, learning
        self.seed, self.fabric = seed, fabric
        self.step = 0
        model = channels_last(model)
        groups = [group for group in task.parameter_groups(model, learning) if group["params"]]
        self._factors = [float(group.pop("lr", 1.0)) for group in groups]
        optimizer = _optimizer(groups, learning)
        self.average = copy.deepcopy(model).requires_grad_(False) if learning.average else None
        self._wrapped, self._optimizer = fabric.setup(model, optimizer)
        self.model: nn.Module = model
        if self.average is not None:
            fabric.to_device(self.average)

    @property
    def judged(self) -> nn.Module:
        """The module that is scored and kept: the running mean where there is one."""
        return self.model if self.average is None else self.average

    def steps(self, progress: Callable[[int], float]) -> Iterator[TrainStep]:
        """Trains until `progress`, given the number of steps made, returns 1 or more."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as maker:
            ahead: deque[Future[Batch]] = deque()
            asked = self.step
            try:
                while (now := progress(self.step)) < 1:
                    while len(ahead) < PREFETCHED:
                        ahead.append(maker.submit(self._make_batch, asked))
                        asked += 1
                    began = time.perf_counter()
                    batch = ahead.popleft().result()
                    waited = time.perf_counter() - began
                    yield self._learning_step(batch, now, waited)
            finally:
                for future in ahead:
                    future.cancel()

    def autocast(self) -> AbstractContextManager:
        """The number format that the model is trained in, for scoring it."""
        return self.fabric.autocast()

    def get_state(self) -> dict[str, Any]:
        """All that resuming needs; `set_state` takes it."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state; raises RuntimeError or KeyError where it does not fit."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])

    def _make_batch(self, step: int) -> Batch:
        place = step * self.fabric.world_size + self.fabric.global_rank
        return self.data.batch(place, self.learning.batch_size)

    def _learning_step(self, batch: Batch, progress: float, waited: float) -> TrainStep:
        factor = rate_factor(self.learning, progress)
        for group, own in zip(self._optimizer.param_groups, self._factors, strict=True):
            group["lr"] = self.learning.learning_rate * factor * own
        self.model.train()
        parts = self.learning.accumulate
        losses: dict[str, Tensor] = {}
        for index, part in enumerate(_parts(batch, parts)):
            with (
                self.fabric.no_backward_sync(self._wrapped, enabled=index < parts - 1),
                _seeded(self._step_seed(index), self.fabric.device),
            ):
                found = self._loss(self.fabric.to_device(part), progress, index)
                self.fabric.backward(found["loss"] / parts)
            for name, value in found.items():
                losses[name] = losses.get(name, 0.0) + value.detach() / parts
        norm = None
        if self.learning.clip_norm:
            norm = self._clip(self.learning.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        self._take_average()
        rate = self._optimizer.param_groups[0]["lr"]
        return TrainStep(self.step, progress, losses, rate, norm, waited)

    def _clip(self, longest: float) -> Tensor | None:
        """Shortens the gradient to a length; returns the one before."""
        try:
            return self.fabric.clip_gradients(self._wrapped, self._optimizer, max_norm=longest)
        except RuntimeError as error:
            if "non-finite" not in str(error):
                raise
            raise TrainingError(
                f"the gradient is not finite at step {self.step:,}; lower --learning-rate or set "
                "--precision fp32."
            ) from None

    def _loss(self, batch: Batch, progress: float, part: int) -> Mapping[str, Tensor]:
        generator = torch.Generator().manual_seed(self._step_seed(part))
        found = self.task.loss(self._wrapped, batch, Moment(self.step, progress, generator))
        looked_at = self.fabric.device.type == "cpu" or self.step % 50 == 0  # a GPU would wait
        if looked_at and not torch.isfinite(found["loss"]).all():
            raise TrainingError(
                f"the loss is not a number at step {self.step:,}; lower --learning-rate or set "
                "--clip-norm 1."
            )
        return found

    def _step_seed(self, part: int) -> int:
        place = (self.step * self.learning.accumulate + part) * self.fabric.world_size
        return (self.seed * 1_000_003 + place + self.fabric.global_rank) % (1 << 62)

    @torch.no_grad()
    def _take_average(self) -> None:
        if self.average is None:
            return
        # The first steps are forgotten sooner: the mean would hold on to the initial weights.
        decay = min(self.learning.average, (1 + self.step) / (10 + self.step))
        ours, theirs = self.average.state_dict(), self.model.state_dict()
        moving = [name for name, tensor in ours.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [ours[name] for name in moving], [theirs[name] for name in moving], 1 - decay
        )
        for name in ours.keys() - set(moving):
            ours[name].copy_(theirs[name])


def _optimizer(groups: list[dict[str, Any]], learning: Learning) -> torch.optim.Optimizer:
    if learning.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=learning.learning_rate,
            momentum=learning.momentum,
            nesterov=learning.momentum > 0,
        )
    if learning.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            groups,
            lr=learning.learning_rate,
            alpha=0.95,
            eps=1e-4,
            momentum=learning.momentum,
            centered=True,
        )
    return torch.optim.AdamW(groups, lr=learning.learning_rate, betas=(learning.momentum, 0.999))


def _parts(batch: Batch, parts: int) -> Iterator[Batch]:
    if parts == 1:
        yield batch
        return
    cut = {name: tensor.chunk(parts) for name, tensor in batch.items()}
    for index in range(parts):
        yield {name: pieces[index] for name, pieces in cut.items()}


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Fixes torch's global generator for a block: dropout layers take their numbers from it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def choose_precision(task: Task, model: nn.Module, data: TaskData, learning: Learning) -> Precision:
    """The faster number format for this model on the CPU here, by the best of two steps each.

    A tie goes to fp32, whose results do not depend on the machine's bf16 kernels.
    """
    batch = data.batch(0, learning.batch_size // learning.accumulate)
    twin = channels_last(copy.deepcopy(model)).train()
    seconds = {}
    for precision in ("fp32", "bf16"):
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            moment = Moment(0, 0.0, torch.Generator().manual_seed(0))
            with (
                torch.random.fork_rng([]),
                torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
            ):
                task.loss(twin, batch, moment)["loss"].backward()
            best = min(best, time.perf_counter() - began)
        seconds[precision] = best
    return "bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32"
