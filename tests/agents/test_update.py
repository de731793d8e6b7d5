"""Targets, losses and one whole update against plain NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from eightbit.agents.exploration import linear_schedule
from eightbit.agents.heads import ActionHead
from eightbit.agents.methods.dqn import make_loss
from eightbit.agents.networks import Twin
from eightbit.agents.options import DQNOptions
from eightbit.agents.parts import build_network
from eightbit.agents.replay import Batch
from eightbit.agents.targets import chosen, td_loss, td_targets
from eightbit.agents.update import RAdam, build_optimizer, clip_gradients, gradient_step
from eightbit.errors import TrainingError


def numbers(seed: int = 0, rows: int = 64, actions: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "values": rng.normal(size=(rows, actions)).astype(np.float32) * 2,
        "next": rng.normal(size=(rows, actions)).astype(np.float32),
        "next_online": rng.normal(size=(rows, actions)).astype(np.float32),
        "returns": rng.normal(size=rows).astype(np.float32),
        "discounts": rng.choice([0.0, 0.99, 0.9801], size=rows).astype(np.float32),
        "actions": rng.integers(0, actions, size=rows),
    }


@pytest.mark.parametrize("double", [False, True])
def test_targets_equal_numpys(double):
    x = numbers()
    expected = np.empty(64, np.float32)
    for row in range(64):
        chooser = x["next_online"] if double else x["next"]
        best = int(np.argmax(chooser[row]))
        expected[row] = x["returns"][row] + x["discounts"][row] * x["next"][row, best]
    t = {name: torch.from_numpy(value) for name, value in x.items()}
    online = t["next_online"] if double else None
    got = td_targets(t["returns"], t["discounts"], t["next"], online)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["huber", "mse"])
def test_loss_and_gradient_equal_numpys(kind):
    x = numbers(1)
    values = torch.from_numpy(x["values"]).requires_grad_()
    picked = chosen(values, torch.from_numpy(x["actions"]))
    loss = td_loss(torch.from_numpy(x["returns"]) - picked, kind).mean()
    loss.backward()
    error = x["returns"] - x["values"][np.arange(64), x["actions"]]
    small = np.abs(error) <= 1
    if kind == "huber":
        expected = np.where(small, 0.5 * error**2, np.abs(error) - 0.5).mean()
        slope = -np.clip(error, -1, 1) / 64
    else:
        expected = (0.5 * error**2).mean()
        slope = -error / 64
    gradient = np.zeros_like(x["values"])
    gradient[np.arange(64), x["actions"]] = slope
    assert (~small).any(), "the numbers must reach both branches of the Huber loss"
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(values.grad.numpy(), gradient, rtol=1e-5, atol=1e-7)


def test_dueling_head_joins_the_streams_around_the_mean():
    head = ActionHead(8, 3, 2, hidden=16, dueling=True)
    features = torch.randn(5, 8)
    advantage = head.advantage(head.advantage_body(features)).view(5, 3, 2)
    value = head.value(head.value_body(features))
    values = head(features)
    torch.testing.assert_close(values.mean(dim=1), value)
    torch.testing.assert_close(values.diff(dim=1), advantage.diff(dim=1))


def twins(precision: str, channels_last: bool = True) -> tuple[Twin, Twin]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [build_network((4, 84, 84), 4, DQNOptions()) for _ in range(2)]
    if not channels_last:
        networks = [n.to(memory_format=torch.contiguous_format) for n in networks]
    return Twin(networks[0], precision), Twin(networks[1], precision)


def pixels(rows: int = 8) -> Batch:
    rng = np.random.default_rng(0)

    def observations() -> torch.Tensor:
        return torch.from_numpy(rng.integers(0, 256, (rows, 4, 84, 84), dtype=np.uint8))

    return Batch(
        observations(),
        torch.from_numpy(rng.integers(0, 4, rows)),
        torch.from_numpy(rng.normal(size=rows).astype(np.float32)),
        observations(),
        torch.full((rows,), 0.99),
    )


def update(online: Twin, target: Twin, optimizer, batch: Batch) -> dict[str, torch.Tensor]:
    loss = make_loss(DQNOptions(double=True), torch.Generator())
    return gradient_step(online, target, optimizer, loss, batch, 10.0)[1]


def test_fused_adam_on_channels_last_weights_equals_the_plain_one():
    weights = {}
    for layout in ("plain", "fused"):
        online, target = twins("fp32", channels_last=layout == "fused")
        if layout == "fused":
            optimizer = build_optimizer(online.master, DQNOptions())
        else:
            optimizer = torch.optim.Adam(
                online.master.parameters(), lr=2e-4, eps=DQNOptions().optimizer_eps, foreach=False
            )
            optimizer.param_groups[0]["lr"] = DQNOptions().learning_rate
        for _ in range(3):
            update(online, target, optimizer, pixels())
        weights[layout] = online.master.state_dict()
    for name, plain in weights["plain"].items():
        # Adam moves each weight by about the learning rate a step, whatever the gradient's size.
        difference = (plain - weights["fused"][name]).abs()
        assert difference.mean() < 0.05 * DQNOptions().learning_rate, name


def test_radam_in_one_pass_equals_torchs():
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, 5, 6, generator=rng).to(memory_format=torch.channels_last)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine = RAdam([ours], lr=0.1, eps=1e-3)
    peer = torch.optim.RAdam([theirs], lr=0.1, eps=1e-3, foreach=False)
    for step in range(12):  # the first five are momentum alone
        gradient = torch.randn(start.shape, generator=rng).to(memory_format=torch.channels_last)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in (mine, peer):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 100)
            optimizer.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (ours - start).abs().mean() > 1e-3, "both must have moved"
    kept, expected = (optimizer.state_dict()["state"][0] for optimizer in (mine, peer))
    torch.testing.assert_close(kept, expected)


def test_radam_goes_on_from_torchs_state():
    start = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine, peer = RAdam([ours], lr=0.1), torch.optim.RAdam([theirs], lr=0.1, foreach=False)
    for step in range(20):
        gradient = torch.cos(start + step)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        peer.step()
        if step == 9:
            with torch.no_grad():
                ours.copy_(theirs)
            kept = copy.deepcopy(peer.state_dict()["state"])
            groups = mine.state_dict()["param_groups"]
            mine.load_state_dict({"state": kept, "param_groups": groups})
        elif step > 9:
            mine.step()
    torch.testing.assert_close(ours, theirs)


def test_bf16_gradients_point_the_way_of_fp32():
    gradients = []
    for precision in ("fp32", "bf16"):
        online, target = twins(precision)
        optimizer = torch.optim.SGD(online.master.parameters(), lr=0.0)
        metrics = update(online, target, optimizer, pixels(32))
        flat = [p.grad.flatten().float() for p in online.master.parameters()]
        gradients.append((torch.cat(flat), metrics["loss"].item()))
    (exact, loss), (rounded, rounded_loss) = gradients
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99
    assert rounded_loss == pytest.approx(loss, rel=0.02)


def test_bf16_updates_reach_the_master_and_the_twin():
    online, target = twins("bf16")
    optimizer = build_optimizer(online.master, DQNOptions())
    before = online.master.backbone.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    update(online, target, optimizer, pixels())
    for name, value in online.master.backbone.state_dict().items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, before[name]), name
        twin = online.module.backbone.state_dict()[name]
        assert twin.dtype == torch.bfloat16
        torch.testing.assert_close(twin.float(), value, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_soft_target_update_moves_a_fraction_of_the_way(precision):
    online, target = twins(precision)
    mine = {n: v.clone() for n, v in target.master.state_dict().items()}
    target.copy_from(online, tau=0.25)
    for name, value in target.master.state_dict().items():
        theirs = online.master.state_dict()[name]
        torch.testing.assert_close(value, 0.75 * mine[name] + 0.25 * theirs)
    target.copy_from(online)
    for name, value in target.module.state_dict().items():
        assert torch.equal(value, online.module.state_dict()[name]), name


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    online, target = twins("fp32")
    optimizer = build_optimizer(online.master, DQNOptions())
    before = {n: v.clone() for n, v in online.master.state_dict().items()}
    batch = pixels()
    batch.returns[3] = float("nan")
    with pytest.raises(TrainingError, match="not a finite number"):
        update(online, target, optimizer, batch)
    for name, value in online.master.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_epsilon_falls_on_a_line_and_stays():
    points = [linear_schedule(1.0, 0.1, 100, step) for step in (0, 50, 100, 1_000)]
    assert points == pytest.approx([1.0, 0.55, 0.1, 0.1])


@pytest.mark.parametrize(("bound", "expected"), [(1.0, 1.0), (100.0, 10.0), (0.0, 10.0)])
def test_gradients_are_scaled_only_where_their_norm_is_above_the_bound(bound, expected):
    network = torch.nn.Linear(2, 1)
    network.weight.grad = torch.tensor([[6.0, 0.0]])
    network.bias.grad = torch.tensor([8.0])
    assert clip_gradients(network, bound).item() == pytest.approx(10.0)
    assert network.weight.grad[0, 0].item() == pytest.approx(0.6 * expected, rel=1e-5)
    assert network.bias.grad[0].item() == pytest.approx(0.8 * expected, rel=1e-5)
