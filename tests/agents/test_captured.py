"""The gradient step as a CUDA graph: measuring it leaves no trace, repeating it equals the step.

On the CPU something that repeats the work stands for the graph.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from eightbit.agents.captured import TRIALS, WARM_UPS, CapturedStep, tensors_of
from eightbit.agents.methods import Loss
from eightbit.agents.networks import Twin
from eightbit.agents.options import DQNOptions
from eightbit.agents.parts import build_loss, build_network
from eightbit.agents.replay import Batch
from eightbit.agents.update import build_optimizer, gradient_step, set_rate

SMALL = DQNOptions(backbone="nips2013", precision="fp32", noisy=True)


class Repeats:
    """Stands for a CUDA graph: repeats the work, and writes into the results of the first time."""

    def __init__(self) -> None:
        self.replays = 0

    def __call__(self, work: Callable[[], Any], generator: torch.Generator) -> Any:
        loss, metrics = work()
        result = Loss(*(part.detach().clone() for part in loss)), dict(metrics)

        def replay() -> None:
            self.replays += 1
            again, figures = work()
            for target, value in zip(result[0], again, strict=True):
                target.copy_(value.detach())
            for name, value in figures.items():
                result[1][name] = result[1][name].copy_(value)

        return replay, result


def learner_parts(optimizer: str) -> Any:
    options = dataclasses.replace(SMALL, optimizer=optimizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        online, target = (Twin(build_network((4, 84, 84), 4, options), "fp32") for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    made = build_optimizer(online.master, options)
    loss = build_loss(options, generator)

    def step(batch: Batch) -> Any:
        return gradient_step(online, target, made, loss, batch, 10.0, wait=False)

    return step, lambda: tensors_of(online, target, made), generator, online


def batches(count: int) -> list[Batch]:
    rng = np.random.default_rng(0)

    def pixels() -> torch.Tensor:
        return torch.from_numpy(rng.integers(0, 256, (8, 4, 84, 84), dtype=np.uint8))

    return [
        Batch(
            pixels(),
            torch.from_numpy(rng.integers(0, 4, 8)),
            torch.from_numpy(rng.normal(size=8).astype(np.float32)),
            pixels(),
            torch.full((8,), 0.9),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("optimizer", ["adam", "radam", "rmsprop"])
def test_measuring_a_graph_changes_nothing_and_repeating_it_equals_the_step(optimizer, monkeypatch):
    monkeypatch.setattr("eightbit.agents.captured.TRIALS", 2)
    plain, _, _, expected = learner_parts(optimizer)
    step, changed, generator, online = learner_parts(optimizer)
    drawn = generator.get_state()
    repeats = Repeats()
    captured = CapturedStep(step, changed, generator, capture=repeats, captured=True)
    for number, batch in enumerate(batches(4)):
        loss, metrics = captured(batch)
        wanted, figures = plain(batch)
        assert torch.equal(loss.rows, wanted.rows.detach()), number
        assert {n: m.item() for n, m in metrics.items()} == {
            n: m.item() for n, m in figures.items()
        }
    assert repeats.replays == 4 + 2
    assert torch.equal(generator.get_state(), drawn)
    for one, other in zip(online.master.parameters(), expected.master.parameters(), strict=True):
        assert torch.equal(one, other)


def test_no_graph_of_autograd_is_alive_when_a_step_is_captured(monkeypatch):
    """It would hold nodes of the weights that belong to another stream than the capture's."""
    monkeypatch.setattr("eightbit.agents.captured.TRIALS", 2)
    step, changed, generator, _ = learner_parts("adam")
    alive: list[int] = []

    def capture(work: Callable[[], Any], generator: torch.Generator) -> Any:
        tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
        alive.append(sum(tensor.grad_fn is not None for tensor in tensors))
        return Repeats()(work, generator)

    gc.collect()
    CapturedStep(step, changed, generator, capture=capture)(batches(1)[0])
    assert alive == [0]


@pytest.mark.parametrize(("seconds", "taken"), [((1.0, 0.5), True), ((1.0, 0.99), False)])
def test_a_graph_is_taken_where_it_is_measured_to_be_faster(seconds, taken):
    made, times = [], iter((0.0, seconds[0], 10.0, 10.0 + seconds[1]))

    def step(batch: Batch) -> Any:
        made.append(batch)
        return Loss(batch.returns, batch.returns, batch.returns.mean()), {}

    repeats = Repeats()
    captured = CapturedStep(
        step, list, torch.Generator(), capture=repeats, clock=lambda: next(times)
    )
    (batch,) = batches(1)
    captured(batch)
    assert captured.captured is taken
    assert repeats.replays == TRIALS + taken
    captured(batch)
    # Warm-ups, trials and the capture; a graph that is repeated makes a step here, too.
    assert len(made) == WARM_UPS + 2 * TRIALS + 1 + 2
    captured.forget()
    assert captured.captured is None


def test_a_rate_on_a_device_is_changed_in_place():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=torch.tensor(0.5), foreach=False)
    rate = optimizer.param_groups[0]["lr"]
    set_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 0.25
    plain = torch.optim.SGD([weight], lr=0.5)
    set_rate(plain, 0.25)
    assert plain.param_groups[0]["lr"] == 0.25
