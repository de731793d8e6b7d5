"""The values that `eightbit check` compares with are true, and a broken agent fails it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from eightbit.agents import AGENTS
from eightbit.agents.options import DQNOptions
from eightbit.agents.replay import FrameReplay
from eightbit.agents.rollout import Rollout
from eightbit.agents.targets import munchausen_bonus, soft_policy
from eightbit.cli import main
from eightbit.envs import check_vector_env
from eightbit.envs.chain import ChainVectorEnv
from eightbit.envs.transitions import EnvStepper
from eightbit.evaluate import check
from eightbit.evaluate.check import (
    GAMMA,
    Finding,
    Known,
    catch,
    chain,
    check_values,
    settle,
    shrunk,
)

FAMILY = [
    name for name in AGENTS if isinstance(next(iter(AGENTS[name].presets.values())), DQNOptions)
]
PLAIN = DQNOptions(gamma=GAMMA, n_step=1)


def first_preset(name: str) -> DQNOptions:
    options = next(iter(AGENTS[name].presets.values()))
    assert isinstance(options, DQNOptions)
    return options


# ------------------------------------------------------------------------- environments


@pytest.mark.parametrize("mode", AutoresetMode)
def test_chain_keeps_the_contract_of_vector_environments(mode):
    check_vector_env(ChainVectorEnv(3, places=4, cut=0.2, autoreset_mode=mode))


@pytest.mark.parametrize("known", [chain(), catch()], ids=lambda known: known.name)
def test_the_lists_of_states_say_what_the_environments_do(known: Known):
    env = known.make(64)
    stepper, rng = EnvStepper(env), np.random.default_rng(0)
    stepper.reset(0)
    cut = terminated = 0
    for _ in range(100):
        states, actions = known.states_of(env), rng.integers(known.rewards.shape[1], size=64)
        stepper.send(actions)
        record = stepper.recv()
        np.testing.assert_allclose(record.rewards, known.rewards[states, actions], rtol=1e-6)
        np.testing.assert_array_equal(record.terminated, known.terminal[states, actions])
        same = ~record.episode_over
        expected = known.successors[states, actions]
        np.testing.assert_array_equal(known.states_of(env)[same], expected[same])
        cut += int(record.truncated.sum())
        terminated += int(record.terminated.sum())
    assert terminated > 100
    assert cut / (6_400 - terminated) == pytest.approx(known.cut, abs=0.02)


# ------------------------------------------------------------------------------- values


def test_the_values_of_the_chain_are_those_of_the_nearer_end():
    expected = [max(0.7 * GAMMA**place, GAMMA ** (5 - place)) for place in range(6)]
    np.testing.assert_allclose(settle(chain(), PLAIN, epsilon=0.1).max(axis=1), expected)


def test_the_values_of_catch_are_the_discount_to_the_steps_left_where_the_ball_can_be_reached():
    values = settle(catch(), PLAIN, epsilon=0.1).max(axis=1).reshape(12, 11, 11)
    for x, y, paddle in np.ndindex(values.shape):
        left = 11 - y  # steps until the ball lands
        away = max(paddle - x, x - paddle - 1, 0)  # cells from the paddle, two wide, to the ball
        sign = 1 if away <= left else -1
        assert values[x, y, paddle] == pytest.approx(sign * GAMMA ** (left - 1)), (x, y, paddle)


def played(known: Known, q: np.ndarray, epsilon: float, memory: FrameReplay | Rollout, steps: int):
    """Fills a memory with epsilon-greedy steps by the values `q` (S, A); yields their states."""
    env = known.make(memory.num_envs)
    stepper, rng = EnvStepper(env), np.random.default_rng(1)
    memory.reset(stepper.reset(0))
    for _ in range(steps):
        states = known.states_of(env)
        if isinstance(memory, Rollout):
            memory.note_values(q[states].astype(np.float32))
        explore = rng.random(memory.num_envs) < epsilon
        actions = rng.integers(q.shape[1], size=memory.num_envs)
        actions = np.where(explore, actions, q[states].argmax(axis=1))
        stepper.send(actions)
        record = stepper.recv()
        finals = {row: q[int(final.argmax())] for row, final in record.final_observations.items()}
        if isinstance(memory, Rollout):
            cut = {row: value for row, value in finals.items() if record.truncated[row]}
            memory.note_finals(cut)
        memory.add(
            record.actions,
            record.rewards,
            record.terminated,
            record.truncated,
            record.episode_over,
            record.observations,
            record.final_observations,
        )
    if isinstance(memory, Rollout):
        memory.note_values(q[known.states_of(env)].astype(np.float32))


def means_by_step(observations, actions, targets) -> np.ndarray:
    """(S, A) mean target of each place and action."""
    totals, counts = np.zeros((6, 2)), np.zeros((6, 2))
    np.add.at(totals, (observations.argmax(axis=1), actions), targets)
    np.add.at(counts, (observations.argmax(axis=1), actions), 1)
    assert counts.min() > 30
    return totals / counts


def test_values_settle_where_the_means_of_n_step_targets_are():
    known, options = chain(), replace(PLAIN, n_step=3)
    q = settle(known, options, epsilon=0.3)
    memory = FrameReplay(64 * 400, 64, (6,), np.float32, frame_stack=1)
    played(known, q, 0.3, memory, 400)
    batch = memory.sample(40_000, np.random.default_rng(0), n_step=3, gamma=GAMMA)
    following = q[batch.next_observations.numpy().argmax(axis=1)].max(axis=1)
    targets = batch.returns.numpy() + batch.discounts.numpy() * following
    means = means_by_step(batch.observations.numpy(), batch.actions.numpy(), targets)
    np.testing.assert_allclose(means, q, atol=0.02)
    assert np.abs(q - settle(known, PLAIN, 0.3)).max() > 0.04, "three steps must differ from one"


def test_values_settle_where_the_means_of_lambda_returns_are():
    known = chain()
    options = replace(PLAIN, rollout_steps=400, num_envs=64, batch_size=64 * 400, td_lambda=0.65)
    q = settle(known, options, epsilon=0.3)
    memory = Rollout(options, 64, (6,), np.float32)
    played(known, q, 0.3, memory, 400)
    batch = memory.sample(64 * 400, np.random.default_rng(0))
    means = means_by_step(batch.observations.numpy(), batch.actions.numpy(), batch.returns.numpy())
    np.testing.assert_allclose(means, q, atol=0.02)
    assert np.abs(q - settle(known, PLAIN, 0.3)).max() > 0.04, "lambda must make a difference"


def test_munchausens_values_are_their_own_target():
    known = catch()
    options = replace(PLAIN, munchausen=0.9, temperature=0.03)
    q = settle(known, options, epsilon=0.1)
    table = torch.from_numpy(q)
    for action in range(3):
        actions = torch.full((len(q),), action)
        bonus = munchausen_bonus(table, actions, 0.9, 0.03, -1.0).numpy()
        policy, log_policy = soft_policy(table[known.successors[:, action]], 0.03)
        bootstrap = (policy * (table[known.successors[:, action]] - log_policy)).sum(dim=1).numpy()
        going = GAMMA * ~known.terminal[:, action]
        target = known.rewards[:, action] + bonus + going * bootstrap
        np.testing.assert_allclose(q[:, action], target, atol=1e-6)


# ------------------------------------------------------------------------------- agents


@pytest.mark.parametrize("name", ["dqn", "pqn", "rainbow", "m-iqn", "r2d2"])
def test_agents_learn_the_values_of_the_chain(name):
    finding = check_values(name, shrunk(first_preset(name), chain()), chain())
    assert finding.right, finding


def test_pqn_learns_the_values_of_catch_from_pixels():
    finding = check_values("pqn", shrunk(first_preset("pqn"), catch()), catch())
    assert finding.right, finding


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("known", [chain(), catch()], ids=lambda known: known.name)
@pytest.mark.parametrize("name", FAMILY)
def test_every_agent_learns_the_values_of_both(name, known, seed):
    finding = check_values(name, shrunk(first_preset(name), known), known, seed)
    assert finding.right, finding


def break_ends(monkeypatch, memory: type, how: str) -> None:
    """Memories take a truncation for a termination, or the other way round."""
    add = memory.add

    def broken(self, actions, rewards, terminated, truncated, *rest):
        ended = terminated | truncated
        never = np.zeros_like(ended)
        if how == "truncation ends":
            return add(self, actions, rewards, ended, never, *rest)
        return add(self, actions, rewards, never, ended, *rest)

    monkeypatch.setattr(memory, "add", broken)


@pytest.mark.parametrize("how", ["truncation ends", "termination goes on"])
@pytest.mark.parametrize("name", ["dqn", "c51"])
def test_an_agent_that_mistakes_how_games_end_fails(monkeypatch, name, how):
    break_ends(monkeypatch, FrameReplay, how)
    finding = check_values(name, shrunk(first_preset(name), chain()), chain())
    assert not finding.right, finding


def test_a_rollout_that_takes_truncations_for_ends_fails(monkeypatch):
    break_ends(monkeypatch, Rollout, "truncation ends")
    finding = check_values("pqn", shrunk(first_preset("pqn"), chain()), chain())
    assert not finding.right, finding


def test_an_agent_that_discounts_wrongly_fails():
    options = replace(shrunk(first_preset("dqn"), chain()), gamma=0.8)
    known = chain()
    agent = check.train(options, known, 0)
    states, values = check.looked_at(agent, known, 1)
    true = settle(known, replace(options, gamma=GAMMA), 0.1).max(axis=1)
    assert np.abs(values - true[states]).mean() > known.mean_error


def test_shrinking_keeps_what_an_agent_is_composed_of():
    kept = (
        *("method", "dueling", "noisy", "double", "n_step", "prioritized", "munchausen"),
        *("temperature", "value_rescaling", "optimizer", "loss", "td_lambda", "epsilon_ladder"),
        *("memory", "priority_exponent", "importance_exponent", "v_max", "max_grad_norm"),
    )
    for name in FAMILY:
        for preset in AGENTS[name].presets.values():
            assert isinstance(preset, DQNOptions)
            for known in (chain(), catch()):
                small = shrunk(preset, known)
                for option in kept:
                    assert getattr(small, option) == getattr(preset, option), (name, option)
                assert bool(small.sequence_length) == bool(preset.sequence_length)
                assert bool(small.rollout_steps) == bool(preset.rollout_steps)
                assert bool(small.head_hidden) == bool(preset.head_hidden)


# ------------------------------------------------------------------------------ command


def answer(monkeypatch, right: bool) -> None:
    def check_nothing(name: str, options: DQNOptions, known: Known, seed: int = 0) -> Finding:
        return Finding(name, known.name, right or known.name == "chain", 0.012, 0.03, 0.3, 4.5)

    monkeypatch.setattr(check, "check_values", check_nothing)


@pytest.mark.parametrize(("right", "code", "verdict"), [(True, 0, "right"), (False, 1, "WRONG")])
def test_the_command_prints_a_table_and_tells_by_its_exit_code(
    monkeypatch, capsys, right, code, verdict
):
    answer(monkeypatch, right)
    assert main(["check", "rainbow"]) == code
    heads, first, second, *rest = capsys.readouterr().out.splitlines()
    titles = ["agent", "environment", "values", "mean error", "19 of 20 below", "seconds"]
    assert [title for title in titles if title in heads] == titles
    assert first.split() == ["rainbow", "chain", "right", "0.012", "0.030", "0.300", "4.5"]
    assert second.split()[:3] == ["rainbow", "catch", verdict]
    assert rest[0].startswith("chain: right is a mean error of at most 0.03, and at most 0.12 in")
    assert "values lie between 0.35 and 1.00." in rest[1]


def test_all_means_every_agent_of_the_family(monkeypatch, capsys):
    answer(monkeypatch, True)
    assert main(["check", "--all"]) == 0
    named = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-2]]
    assert named == [name for name in FAMILY for _ in range(2)]


def test_the_page_states_the_errors_that_are_allowed():
    page = (Path(__file__).resolve().parents[2] / "docs" / "checking-agents.md").read_text()
    for known in (chain(), catch()):
        assert f"| {known.name} | {known.mean_error:g} | {known.usual_error:g} |" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("check", "which agent? Write 'eightbit check rainbow', or --all."),
        ("check ranbow", "unknown agent 'ranbow': did you mean rainbow?"),
        ("check dqn --preset fsat", "unknown preset 'fsat': did you mean fast?"),
        ("check dqn --all", "--all checks every agent; leave dqn or --all out."),
        ("check sb3-ppo", "sb3-ppo is not of the DQN family"),
    ],
)
def test_wrong_words_are_answered(capsys, words, message):
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err
