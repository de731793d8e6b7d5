"""Each method of the DQN family: its targets and losses against NumPy, and what all keep to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from eightbit.agents.heads import sample_noise
from eightbit.agents.methods import Loss, find_method
from eightbit.agents.methods.c51 import project
from eightbit.agents.networks import QNetwork, Twin
from eightbit.agents.options import METHODS, DQNOptions
from eightbit.agents.parts import build_network
from eightbit.agents.replay import Batch
from eightbit.agents.targets import quantile_huber_loss, rescale, unrescale
from eightbit.agents.update import gradient_step
from eightbit.errors import UnknownNameError

ROWS, FEATURES, ACTIONS = 12, 6, 4
SMALL = DQNOptions(
    atoms=11,
    v_max=3.0,
    quantiles=5,
    taus=5,
    target_taus=7,
    policy_taus=4,
    cosines=8,
    precision="fp32",
)
SOFT = {"munchausen": 0.9, "temperature": 0.3}


def networks(options: DQNOptions) -> tuple[QNetwork, QNetwork]:
    """An online and a target network whose features are the observations."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = []
        for _ in range(2):
            head = find_method(options.method).make_head(FEATURES, ACTIONS, options)
            made.append(QNetwork(torch.nn.Identity(), head))
    return made[0], made[1]


def transitions(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    discounts = rng.choice([0.0, 0.97, 0.99], size=ROWS)
    assert (discounts == 0).any() and (discounts > 0).any()
    return Batch(
        torch.from_numpy(rng.normal(size=(ROWS, FEATURES)).astype(np.float32)) * 2,
        torch.from_numpy(rng.integers(0, ACTIONS, ROWS)),
        torch.from_numpy(rng.normal(size=ROWS).astype(np.float32)) * 2,
        torch.from_numpy(rng.normal(size=(ROWS, FEATURES)).astype(np.float32)) * 2,
        torch.from_numpy(discounts.astype(np.float32)),
    )


def cost(options: DQNOptions, batch: Batch, seed: int = 3) -> Loss:
    online, target = networks(options)
    draws = torch.Generator().manual_seed(seed)
    return find_method(options.method).make_loss(options, draws)(online, target, batch)


def assert_costs(got: Loss, rows: list[float], errors: list[float], values: list[float]) -> None:
    np.testing.assert_allclose(got.rows.detach().numpy(), rows, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(got.errors.numpy(), errors, rtol=2e-4, atol=2e-5)
    assert got.q_mean.item() == pytest.approx(np.mean(values), rel=1e-4, abs=1e-5)


# ---- NumPy, one number at a time


def outputs(network: QNetwork, x: torch.Tensor, count: int) -> np.ndarray:
    """(F,) -> (A, K) of a head that is one linear layer."""
    layer = network.head.head.advantage
    w, b = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return (w @ x.double().numpy() + b).reshape(ACTIONS, count)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def huber(u: float, kappa: float) -> float:
    return 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)


def quantile_cost(
    targets: list[float], own: np.ndarray, taus: np.ndarray, kappa: float
) -> tuple[float, float]:
    total, errors = 0.0, []
    for theta, tau in zip(own, taus, strict=True):
        for y in targets:
            u = y - theta
            errors.append(abs(u))
            total += abs(tau - (u < 0)) * huber(u, kappa) / kappa / len(targets)
    return total, float(np.mean(errors))


def project_one(p: np.ndarray, r: float, discount: float, z: np.ndarray) -> np.ndarray:
    """Bellemare et al. (2017), Algorithm 1."""
    m, step = np.zeros(len(z)), z[1] - z[0]
    for j in range(len(z)):
        b = (min(max(r + discount * z[j], z[0]), z[-1]) - z[0]) / step
        low, high = int(np.floor(b + 1e-9)), int(np.ceil(b - 1e-9))
        if low == high:
            m[low] += p[j]
        else:
            m[low] += p[j] * (high - b)
            m[high] += p[j] * (b - low)
    return m


def log_policies(q: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    policy = softmax(q / temperature)
    return policy, temperature * np.log(policy)


# ---- c51


def test_projection_equals_algorithm_1():
    rng = np.random.default_rng(1)
    z = np.linspace(-3, 3, 11)
    p = softmax(rng.normal(size=(40, 11)) * 2)
    returns, discounts = rng.normal(size=40) * 2, rng.choice([0.0, 0.9, 1.0], size=40)
    returns[:4] = [-9.0, 9.0, 0.6, -3.0]  # outside, and exactly on atoms
    tensors = (torch.from_numpy(x.astype(np.float32)) for x in (p, returns, discounts, z))
    got = project(*tensors)
    expected = [project_one(*row, z) for row in zip(p, returns, discounts, strict=True)]
    np.testing.assert_allclose(got.numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(got.sum(dim=1).numpy(), 1, atol=1e-5)


def test_projection_keeps_the_mean_inside_the_support():
    z = torch.linspace(-10, 10, 51)
    p = torch.zeros(8, 51)
    p[:, 20:31] = torch.rand(8, 11, generator=torch.Generator().manual_seed(0)) + 0.1
    p /= p.sum(dim=1, keepdim=True)
    returns, discounts = torch.linspace(-3, 3, 8), torch.full((8,), 0.9)
    mean = (project(p, returns, discounts, z) * z).sum(dim=1)
    torch.testing.assert_close(mean, returns + 0.9 * (p * z).sum(dim=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("double", [False, True])
def test_c51_costs_equal_numpys(double):
    options, batch = replace(SMALL, method="c51", double=double), transitions()
    online, target = networks(options)
    z = np.linspace(-3, 3, 11)
    rows, errors, values, choices = [], [], [], set()
    for i in range(ROWS):
        a, r, d = batch.actions[i], batch.returns[i].item(), batch.discounts[i].item()
        next_p = softmax(outputs(target, batch.next_observations[i], 11))
        choices.add(int(np.argmax(next_p @ z)))
        if double:
            best = np.argmax(softmax(outputs(online, batch.next_observations[i], 11)) @ z)
        else:
            best = np.argmax(next_p @ z)
        m = project_one(next_p[best], r, d, z)
        p = softmax(outputs(online, batch.observations[i], 11))[a]
        rows.append(-sum(m[k] * np.log(p[k]) for k in range(11)))
        errors.append(sum(m[k] * np.log(m[k] / p[k]) for k in range(11) if m[k] > 0))
        values.append(p @ z)
    assert len(choices) > 1
    assert_costs(cost(options, batch), rows, errors, values)


# ---- quantiles


@pytest.mark.parametrize("kappa", [0.25, 1.0])
@pytest.mark.parametrize("double", [False, True])
def test_qr_dqn_costs_equal_numpys(double, kappa):
    options = replace(SMALL, method="qr-dqn", double=double, kappa=kappa)
    online, target = networks(options)
    batch = transitions()
    taus = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    rows, errors, values = [], [], []
    for i in range(ROWS):
        following = outputs(target, batch.next_observations[i], 5)
        chooser = outputs(online, batch.next_observations[i], 5) if double else following
        best = following[np.argmax(chooser.mean(axis=1))]
        targets = [batch.returns[i].item() + batch.discounts[i].item() * x for x in best]
        own = outputs(online, batch.observations[i], 5)[batch.actions[i]]
        row, error = quantile_cost(targets, own, taus, kappa)
        rows.append(row)
        errors.append(error)
        values.append(own.mean())
    assert_costs(cost(options, batch), rows, errors, values)


def test_the_quantile_loss_is_least_at_the_quantile():
    samples = torch.from_numpy(np.random.default_rng(0).normal(size=400).astype(np.float32))
    grid = torch.linspace(-3, 3, 601)
    for tau in (0.1, 0.5, 0.9):
        targets = samples.expand(len(grid), -1)
        losses, _ = quantile_huber_loss(grid.unsqueeze(1), targets, torch.tensor([tau]), 1e-3)
        best = grid[losses.argmin()].item()
        assert best == pytest.approx(np.quantile(samples.numpy(), tau), abs=0.03)


@pytest.mark.parametrize("kappa", [0.5, 1.0])
def test_the_gradient_of_the_quantile_loss_is_its_slope(kappa):
    rng = np.random.default_rng(2)
    own, targets = rng.normal(size=(3, 5)), rng.normal(size=(3, 7)) * 2
    taus = rng.random((3, 5))
    quantiles = torch.from_numpy(own).requires_grad_()
    rows, _ = quantile_huber_loss(
        quantiles, torch.from_numpy(targets), torch.from_numpy(taus), kappa
    )
    (rows * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    for b in range(3):
        for i in range(5):
            step = np.zeros(5)
            step[i] = 1e-6
            above, _ = quantile_cost(list(targets[b]), own[b] + step, taus[b], kappa)
            below, _ = quantile_cost(list(targets[b]), own[b] - step, taus[b], kappa)
            slope = (b + 1) * (above - below) / 2e-6
            assert quantiles.grad[b, i].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


def implicit(network: QNetwork, x: torch.Tensor, taus: np.ndarray) -> np.ndarray:
    """(F,) and (N,) -> (A, N), the implicit quantile network written out."""
    linear = network.head.embedding[0]
    w, b = linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()
    columns = []
    for tau in taus:
        phi = b.copy()
        for i in range(w.shape[1]):
            phi += w[:, i] * np.cos(np.pi * i * tau)
        joined = x.double().numpy() * np.maximum(phi, 0)
        columns.append(outputs(network, torch.from_numpy(joined), 1)[:, 0])
    return np.stack(columns, axis=1)


IQN_CASES = {
    "hard": {},
    "double": {"double": True},
    "soft": {"temperature": 0.3},
    "munchausen": SOFT,
    "clipped": {**SOFT, "munchausen_clip": -0.2},
}


@pytest.mark.parametrize("case", IQN_CASES)
def test_iqn_costs_equal_numpys(case):
    options = replace(SMALL, method="iqn", kappa=0.5, **IQN_CASES[case])
    online, target = networks(options)
    batch, draws = transitions(), torch.Generator().manual_seed(3)
    next_taus, taus = (torch.rand(ROWS, n, generator=draws).numpy() for n in (7, 5))
    middles = np.array([0.125, 0.375, 0.625, 0.875])
    rows, errors, values, bonuses = [], [], [], []
    for i in range(ROWS):
        s, following = batch.observations[i], batch.next_observations[i]
        r, d, a = batch.returns[i].item(), batch.discounts[i].item(), int(batch.actions[i])
        z = implicit(target, following, next_taus[i])
        chooser = online if options.double else target
        q = implicit(chooser, following, middles).mean(axis=1)
        if options.munchausen:
            _, log_policy = log_policies(implicit(target, s, middles).mean(axis=1), 0.3)
            bonuses.append(min(max(log_policy[a], options.munchausen_clip), 0))
            r += options.munchausen * bonuses[-1]
        if options.temperature:
            policy, log_policy = log_policies(q, 0.3)
            targets = [
                r + d * sum(policy[b] * (z[b, j] - log_policy[b]) for b in range(ACTIONS))
                for j in range(7)
            ]
        else:
            targets = [r + d * z[np.argmax(q), j] for j in range(7)]
        own = implicit(online, s, taus[i])[a]
        row, error = quantile_cost(targets, own, taus[i], 0.5)
        rows.append(row)
        errors.append(error)
        values.append(own.mean())
    assert case != "clipped" or {b == -0.2 for b in bonuses} == {True, False}
    assert_costs(cost(options, batch), rows, errors, values)


def test_iqn_values_are_means_over_the_midpoints():
    online, _ = networks(replace(SMALL, method="iqn"))
    x = transitions().observations
    middles = np.array([0.125, 0.375, 0.625, 0.875])
    expected = [implicit(online, row, middles).mean(axis=1) for row in x]
    np.testing.assert_allclose(online(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(online(x), online(x))


# ---- the mean


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("case", IQN_CASES)
def test_dqn_costs_equal_numpys(case, rescaled):
    options = replace(SMALL, loss="mse", value_rescaling=rescaled, **IQN_CASES[case])
    online, target = networks(options)
    batch = transitions()

    def h(x: float) -> float:
        return np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x if rescaled else x

    def inverse(y: np.ndarray) -> np.ndarray:
        """Solved by halving, since h grows everywhere."""
        if not rescaled:
            return y
        low, high = np.full_like(y, -1e3), np.full_like(y, 1e3)
        for _ in range(80):
            middle = (low + high) / 2
            below = np.array([h(x) for x in middle]) < y
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return low

    rows, errors, values = [], [], []
    for i in range(ROWS):
        s, following = batch.observations[i], batch.next_observations[i]
        r, d, a = batch.returns[i].item(), batch.discounts[i].item(), int(batch.actions[i])
        q = inverse(outputs(target, following, 1)[:, 0])
        if options.munchausen:
            _, log_policy = log_policies(inverse(outputs(target, s, 1)[:, 0]), 0.3)
            r += 0.9 * min(max(log_policy[a], options.munchausen_clip), 0)
        if options.temperature:
            policy, log_policy = log_policies(q, 0.3)
            y = r + d * sum(policy[b] * (q[b] - log_policy[b]) for b in range(ACTIONS))
        else:
            chooser = outputs(online, following, 1)[:, 0] if options.double else q
            y = r + d * q[np.argmax(chooser)]
        own = outputs(online, s, 1)[a, 0]
        rows.append(0.5 * (h(y) - own) ** 2)
        errors.append(abs(h(y) - own))
        values.append(own)
    assert_costs(cost(options, batch), rows, errors, values)


def test_value_rescaling_is_undone_by_its_inverse():
    x = torch.cat([torch.linspace(-500, 500, 1001), torch.linspace(-1e-3, 1e-3, 101)])
    torch.testing.assert_close(unrescale(rescale(x)), x, rtol=1e-5, atol=5e-7)
    torch.testing.assert_close(rescale(unrescale(x)), x, rtol=1e-5, atol=5e-7)
    # Near 0 the formulas as published lose all digits of float32 that small values need.
    torch.testing.assert_close(rescale(x), rescale(x.double()).float(), rtol=1e-6, atol=0)
    assert rescale(torch.tensor(99.0)).item() == pytest.approx(9 + 0.099)


# ---- what every method keeps to

PARTS = {
    "plain": {},
    "hidden": {"head_hidden": 16},
    "all": {"head_hidden": 16, "dueling": True, "noisy": True},
}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("method", METHODS)
def test_contract_of_a_method(method, parts):
    options, batch = replace(SMALL, method=method, **PARTS[parts]), transitions()
    online, target = networks(options)
    before = torch.get_rng_state()
    for network in (online, target):
        sample_noise(network, torch.Generator().manual_seed(0))
    values = online(batch.observations)
    assert values.shape == (ROWS, ACTIONS) and values.dtype == torch.float32
    alone = torch.cat([online(row.unsqueeze(0)) for row in batch.observations])
    torch.testing.assert_close(alone, values, rtol=1e-5, atol=1e-6)

    def loss(of: Batch) -> Loss:
        draws = torch.Generator().manual_seed(1)
        return find_method(method).make_loss(options, draws)(online, target, of)

    got = loss(batch)
    assert got.rows.shape == got.errors.shape == (ROWS,) and got.q_mean.shape == ()
    assert got.rows.requires_grad and not (got.errors.requires_grad or got.q_mean.requires_grad)
    assert (got.rows >= 0).all() and (got.errors >= 0).all() and (got.errors > 0).any()
    assert torch.equal(loss(batch).rows, got.rows), "all that is drawn is the generator's"
    assert torch.equal(torch.get_rng_state(), before)
    got.rows.mean().backward()
    for name, parameter in online.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in target.parameters())

    elsewhere = loss(replace(batch, next_observations=batch.next_observations.flip(0)))
    over = batch.discounts == 0
    torch.testing.assert_close(elsewhere.rows[over], got.rows[over])
    assert not torch.isclose(elsewhere.rows[~over], got.rows[~over]).all()


@pytest.mark.parametrize("method", METHODS)
def test_state_of_a_method_holds_weights_alone(method):
    online, target = networks(replace(SMALL, method=method))
    assert set(online.state_dict()) == {name for name, _ in online.named_parameters()}
    target.load_state_dict(online.state_dict())
    x = transitions().observations
    assert torch.equal(online(x), target(x))


@pytest.mark.parametrize("shift", [2.5, -2.5])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_down_the_gradient_moves_the_value_towards_the_target(method, shift):
    options = replace(SMALL, method=method)
    online, target = networks(options)
    batch = replace(transitions(), discounts=torch.zeros(ROWS), returns=torch.full((ROWS,), shift))
    loss = find_method(method).make_loss(options, torch.Generator().manual_seed(0))
    row = torch.arange(ROWS)
    before = online(batch.observations)[row, batch.actions].detach()
    loss(online, target, batch).rows.mean().backward()
    torch.optim.SGD(online.parameters(), lr=0.01).step()
    after = online(batch.observations)[row, batch.actions].detach()
    assert (after - before).mean() * shift > 0
    assert loss(online, target, batch).errors.mean() > 0


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="c51"):
        find_method("c15")


# ---- a chain of eight states: from each one step left or right, 1 for leaving at the right end

STATES, GAMMA = 8, 0.9
FITS: dict[str, dict] = {
    "dqn": {},
    "double dueling dqn": {"double": True, "dueling": True, "head_hidden": 32},
    "munchausen dqn": {"munchausen": 0.5, "temperature": 0.1},
    "c51": {"method": "c51"},
    "rainbow's head": {
        "method": "c51",
        "double": True,
        "dueling": True,
        "noisy": True,
        "head_hidden": 32,
    },
    "qr-dqn": {"method": "qr-dqn"},
    "double qr-dqn": {"method": "qr-dqn", "double": True},
    "iqn": {"method": "iqn"},
    "munchausen iqn": {"method": "iqn", "munchausen": 0.5, "temperature": 0.1},
}


def chain() -> tuple[Batch, np.ndarray]:
    """All 16 transitions, and (8, 2) the state that each leads to, -1 for the end."""
    after = np.array([[max(s - 1, 0), s + 1 if s < STATES - 1 else -1] for s in range(STATES)])
    states, actions = np.repeat(np.arange(STATES), 2), np.tile([0, 1], STATES)
    following = after[states, actions]
    seen = torch.eye(STATES)
    return Batch(
        seen[states],
        torch.from_numpy(actions),
        torch.from_numpy((following < 0).astype(np.float32)),
        seen[following],
        torch.from_numpy(np.where(following < 0, 0, GAMMA).astype(np.float32)),
    ), after


def known_values(options: DQNOptions) -> np.ndarray:
    """(8, 2) by value iteration."""
    _, after = chain()
    q, t = np.zeros((STATES, 2)), options.temperature
    for _ in range(2_000):
        if t:
            policy, log_policy = log_policies(q, t)
            v = (policy * (q - log_policy)).sum(axis=1)
            bonus = options.munchausen * np.clip(log_policy, options.munchausen_clip, 0)
        else:
            v, bonus = q.max(axis=1), 0.0
        q = bonus + np.where(after < 0, 1.0, GAMMA * v[after])
    return q


@pytest.mark.parametrize("case", FITS)
def test_values_of_a_chain_become_the_known_ones(case):
    options = replace(
        DQNOptions(atoms=51, v_max=2.0, quantiles=8, taus=8, target_taus=8, policy_taus=8),
        backbone="mlp",
        backbone_options='{"hidden": [128]}',
        learning_rate=1e-2,
        precision="fp32",
        **FITS[case],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [build_network((STATES,), 2, options) for _ in range(2)]
    online, target = (Twin(network, "fp32") for network in made)
    optimizer = torch.optim.Adam(online.master.parameters(), lr=options.learning_rate)
    draws = torch.Generator().manual_seed(0)
    loss = find_method(options.method).make_loss(options, draws)
    batch, _ = chain()
    for update in range(600):
        if update % 12 == 0:
            target.copy_from(online)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * (1 - update / 600)
        sample_noise(online.module, draws)
        sample_noise(target.module, draws)
        gradient_step(online, target, optimizer, loss, batch, 10.0)
    values = online.module.eval()(torch.eye(STATES)).detach().numpy()
    np.testing.assert_allclose(values, known_values(options), atol=0.05)
