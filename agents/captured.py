"""The gradient step as a CUDA graph, where measuring says that it is faster.

A step of a small network is some hundred kernels of a few microseconds, which the host cannot
start as fast as a GPU runs them; a graph starts all of them at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from .methods import Loss
from .networks import Twin
from .replay import Batch

_log = logging.getLogger(__name__)

Result = tuple[Loss, dict[str, torch.Tensor]]
Step = Callable[..., Result]
"""Takes a batch; see `update.gradient_step`."""
Capture = Callable[[Callable[[], Result], torch.Generator], tuple[Callable[[], None], Result]]
"""Takes a function without arguments and the generator it draws from; returns what repeats it, and
its results, which each repetition overwrites."""

WARM_UPS = 3
TRIALS = 20
GAIN = 0.95
"""A graph is taken where it needs less than this share of the plain step's time."""


def cuda_graph(work: Callable[[], Result], generator: torch.Generator) -> Any:
    """Captures `work` on the current device; a `Capture`. It must have run before."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        loss, metrics = work()
    # Without gradients nothing holds on to the graph of the backward pass.
    result = loss._replace(rows=loss.rows.detach()), metrics
    return graph.replay, result


def tensors_of(online: Twin, target: Twin, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Everything that a gradient step may change but the gradients, each once."""
    found: dict[int, torch.Tensor] = {}
    for network in (online.master, online.module, target.master, target.module):
        for tensor in (*network.parameters(), *network.buffers()):
            found[id(tensor)] = tensor
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                found[id(value)] = value
    return list(found.values())


class CapturedStep:
    """A gradient step that measures at its first call whether a graph of it is faster.

    The first call makes some steps for that and takes them back. What a call returns is
    overwritten by the next one.

    Args:
        step: takes a batch; waits for nothing, and always does the same to tensors that stay where
            they are.
        changed: gives the tensors that a step changes, among them the optimizer's, which exist
            only after a first step.
        generator: what `step` draws from, on the device.
        capture: makes graphs; tests pass another one.
        captured: whether to use a graph; None measures.
        clock: seconds.
    """

    def __init__(
        self,
        step: Step,
        changed: Callable[[], list[torch.Tensor]],
        generator: torch.Generator,
        *,
        capture: Capture = cuda_graph,
        captured: bool | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._step, self._changed, self._generator = step, changed, generator
        self._capture, self._wanted, self._clock = capture, captured, clock
        self.forget()

    def forget(self) -> None:
        """Measures and captures anew at the next call: tensors were replaced."""
        self.captured: bool | None = None
        self._static: Batch | None = None
        self._replay: Callable[[], None] | None = None
        self._result: Result | None = None

    def __call__(self, batch: Batch) -> Result:
        """The step on a batch; see `update.gradient_step`."""
        if self.captured is None:
            self._choose(batch)
        if not self.captured:
            return self._step(batch)
        return self._repeat(batch)

    def _repeat(self, batch: Batch) -> Result:
        assert self._static is not None and self._replay is not None and self._result is not None
        _copy(batch, self._static)
        self._replay()
        return self._result

    def _choose(self, batch: Batch) -> None:
        if self._wanted is False:
            self.captured = False
            return
        device = batch.observations.device
        existed = self._changed()
        # Copies with a graph of their own would tie the weights to this stream in the capture.
        before = [tensor.detach().clone() for tensor in existed]
        drawn = self._generator.get_state()
        static = _copies(batch)
        _warm_up(lambda: self._step(static), device)
        plain = self._seconds(lambda: self._step(batch), device)
        self._static = static
        self._replay, self._result = self._capture(lambda: self._step(static), self._generator)
        graph = self._seconds(lambda: self._repeat(batch), device)
        _restore(existed, before, self._changed())
        self._generator.set_state(drawn)
        self.captured = bool(self._wanted) or graph < GAIN * plain
        _log.info("an update takes %.3f ms, as a CUDA graph %.3f ms", 1e3 * plain, 1e3 * graph)
        if not self.captured:
            self._static = self._replay = self._result = None

    def _seconds(self, work: Callable[[], Any], device: torch.device) -> float:
        _wait(device)
        begun = self._clock()
        for _ in range(TRIALS):
            work()
        _wait(device)
        return (self._clock() - begun) / TRIALS


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _warm_up(work: Callable[[], Any], device: torch.device) -> None:
    """Runs what is to be captured, on a stream of its own as the capture will."""
    if device.type != "cuda":
        for _ in range(WARM_UPS):
            work()
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream(device).wait_stream(stream)


@torch.no_grad()
def _restore(
    existed: Iterable[torch.Tensor], before: Iterable[torch.Tensor], now: Iterable[torch.Tensor]
) -> None:
    """Puts tensors back; those that came into being meanwhile are an optimizer's, begun with 0."""
    known = set()
    for tensor, value in zip(existed, before, strict=True):
        tensor.copy_(value)
        known.add(id(tensor))
    for tensor in now:
        if id(tensor) not in known:
            tensor.zero_()


def _copies(batch: Batch) -> Batch:
    """A batch of the same shapes; two fields that are one tensor stay one."""
    made: dict[int, torch.Tensor] = {}
    fields: dict[str, Any] = {}
    for name, value in vars(batch).items():
        if isinstance(value, torch.Tensor):
            fields[name] = made.setdefault(id(value), value.clone())
    return replace(batch, **fields)


def _copy(batch: Batch, to: Batch) -> None:
    done = set()
    for name, target in vars(to).items():
        if isinstance(target, torch.Tensor) and id(target) not in done:
            target.copy_(getattr(batch, name))
            done.add(id(target))
