"""Checks what an agent learns against values that are known: `eightbit check AGENT`.

The agent is composed as its preset says (head, targets, memory, exploration) with a small network
and a short schedule, see `shrunk`, and trains in two small environments whose every state can be
listed. There the values that its own targets settle at are computed by iteration, see `settle`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from ..agents import AGENTS
from ..agents.dqn import DQN
from ..agents.exploration import epsilon_at
from ..agents.options import DQNOptions
from ..agents.targets import unrescale
from ..envs.catch import CatchVectorEnv
from ..envs.chain import LEFT_REWARD, RIGHT_REWARD, ChainVectorEnv
from ..envs.options import EnvOptions
from ..envs.transitions import EnvStepper
from ..errors import UnknownNameError, UsageError

GAMMA = 0.9  # values of neighbouring states differ, and settle soon
GAMES = 64  # of catch, in which an agent's values are looked at
USUAL = 0.95  # share of the states that must be within the usual error
CELLS, PADDLE = 12, 2  # of catch: the board's width, the paddle's


@dataclass(frozen=True)
class CheckSettings:
    """What is checked, and where chance begins."""

    agent: str = field(default="", metadata={"positional": True, "metavar": "AGENT", "unset": ""})
    """an agent of 'eightbit list agents'"""
    all: bool = False
    """check every agent of the DQN family"""
    preset: str = field(default="", metadata={"unset": "the agent's first"})
    """whose options are shrunk"""
    seed: int = 0
    """of the weights, exploration and environments"""


@dataclass(frozen=True)
class Known:
    """An environment whose every state is listed; S states, A actions, nothing left to chance.

    Attributes:
        name: of the environment.
        make: makes so many copies.
        successors: (S, A) int64, the state that follows.
        rewards: (S, A) float64.
        terminal: (S, A) bool, the step ends the game.
        cut: chance that a step which ends no game truncates it.
        states_of: the states (n,) that an environment is in.
        steps: agent steps of training.
        learning_rate: at its beginning.
        mean_error, usual_error: what the agent's values may be off, in the mean and in 19 of 20
            states that it comes to: one that it rarely saw says little about its targets.
    """

    name: str
    make: Callable[[int], VectorEnv]
    successors: np.ndarray
    rewards: np.ndarray
    terminal: np.ndarray
    cut: float
    states_of: Callable[[VectorEnv], np.ndarray]
    steps: int
    learning_rate: float
    mean_error: float
    usual_error: float


@dataclass(frozen=True)
class Finding:
    """How far an agent's values were off in one environment.

    Attributes:
        agent, environment: their names.
        right: whether mean and usual error are within those of `Known`.
        mean_error: over the states of some games that the agent played greedily.
        usual_error: what 19 of 20 of these states stay below.
        largest_error: of any of them.
        seconds: of training and looking.
    """

    agent: str
    environment: str
    right: bool
    mean_error: float
    usual_error: float
    largest_error: float
    seconds: float


# ------------------------------------------------------------------------- environments


def chain() -> Known:
    """Six places; one step in ten is cut, so values that end there come out far too low."""
    places, cut = 6, 0.1
    moved = np.arange(places)[:, None] + np.array([-1, 1])
    rewards = np.where(moved < 0, LEFT_REWARD, 0.0) + np.where(moved >= places, RIGHT_REWARD, 0.0)
    return Known(
        "chain",
        lambda num_envs: ChainVectorEnv(num_envs, places, cut),
        successors=moved.clip(0, places - 1),
        rewards=rewards,
        terminal=(moved < 0) | (moved >= places),
        cut=cut,
        states_of=lambda env: env.unwrapped.places_now(),  # type: ignore[attr-defined]  # a chain
        steps=9_000,
        learning_rate=1e-3,
        mean_error=0.03,
        usual_error=0.12,
    )


def catch() -> Known:
    """The catch game: a state is the ball's column and row and the paddle's column."""
    rows, stands = CELLS - 1, CELLS - PADDLE + 1
    x, y, paddle = (
        each.reshape(-1, 1)
        for each in np.meshgrid(np.arange(CELLS), np.arange(rows), np.arange(stands), indexing="ij")
    )
    moved = (paddle + np.array([0, -1, 1])).clip(0, stands - 1)
    lands = np.broadcast_to(y == rows - 1, moved.shape)
    caught = (x >= moved) & (x < moved + PADDLE)
    following = np.minimum(y + 1, rows - 1)

    def make(num_envs: int) -> VectorEnv:
        options = EnvOptions(sticky=0.0, frame_stack=2, screen_size=3 * CELLS)
        return CatchVectorEnv(num_envs, options, AutoresetMode.SAME_STEP)

    def states_of(env: VectorEnv) -> np.ndarray:
        state = env.unwrapped.get_state()  # type: ignore[attr-defined]  # catch has it
        return (state["ball_x"] * rows + state["ball_y"]) * stands + state["paddle"]

    return Known(
        "catch",
        make,
        successors=(x * rows + following) * stands + moved,
        rewards=np.where(lands, np.where(caught, 1.0, -1.0), 0.0),
        terminal=lands,
        cut=0.0,
        states_of=states_of,
        steps=13_000,
        learning_rate=3e-3,
        mean_error=0.1,
        usual_error=0.25,
    )


# ------------------------------------------------------------------------------- values


def settle(known: Known, options: DQNOptions, epsilon: float, sweeps: int = 400) -> np.ndarray:
    """(S, A) values that the targets of these options settle at, by iteration.

    With one step, no temperature and no lambda these are the optimal values. Several steps of
    reward follow the epsilon-greedy policy, as the agent's own do; a temperature makes the maximum
    soft, and Munchausen adds its bonus (Vieillard et al. 2020); of lambda-returns each step mixes
    the greedy value with what follows (Gallici et al. 2025).

    Args:
        known: the environment.
        options: `gamma`, `n_step`, `rollout_steps`, `td_lambda`, `temperature`, `munchausen` and
            `munchausen_clip` hold.
        epsilon: share of random actions in the steps that are learnt from.
        sweeps: of all states.
    """
    goes_on = options.gamma * ~known.terminal
    q = np.zeros(known.rewards.shape)
    # A recurrent agent leaves out the steps whose n steps are cut; others bootstrap where it is.
    cut = 0.0 if options.sequence_length else known.cut
    for _ in range(sweeps):
        bootstrap = _value(q, options.temperature)[known.successors]
        if options.rollout_steps:
            kept = options.td_lambda * (1 - cut)
            following = _followed(q, epsilon)[known.successors]
            q = known.rewards + goes_on * ((1 - kept) * bootstrap + kept * following)
            continue
        returns = known.rewards + goes_on * bootstrap
        for _ in range(options.n_step - 1):
            following = _followed(returns, epsilon, q)[known.successors]
            returns = known.rewards + goes_on * (cut * bootstrap + (1 - cut) * following)
        q = returns + _bonus(q, options)
    return q


def _value(q: np.ndarray, temperature: float) -> np.ndarray:
    """(S, A) -> (S,), the maximum, or tau log sum exp(Q / tau)."""
    best = q.max(axis=1)
    if not temperature:
        return best
    return best + temperature * np.log(np.exp((q - best[:, None]) / temperature).sum(axis=1))


def _followed(values: np.ndarray, epsilon: float, by: np.ndarray | None = None) -> np.ndarray:
    """(S,) mean of `values` (S, A) over the actions that are epsilon-greedy in `by`."""
    greedy = (values if by is None else by).argmax(axis=1)[:, None]
    chosen = np.take_along_axis(values, greedy, axis=1)[:, 0]
    return (1 - epsilon) * chosen + epsilon * values.mean(axis=1)


def _bonus(q: np.ndarray, options: DQNOptions) -> np.ndarray:
    if not options.munchausen:
        return np.zeros_like(q)
    log_policy = q - _value(q, options.temperature)[:, None]
    return options.munchausen * log_policy.clip(options.munchausen_clip, 0.0)


# ------------------------------------------------------------------------------- agents


def shrunk(preset: DQNOptions, known: Known) -> DQNOptions:
    """A preset made small: what it is composed of stays, sizes and schedules do not.

    Kept are method, head, targets, n_step, memory, priorities, noise, optimizer, loss and the
    form of exploration. The trunk becomes an mlp (chain) or nips2013 (catch), with layer norm where
    the preset has it.
    """
    o, steps = preset, steps_of(preset, known)
    norm = ', "layer_norm": true' if '"layer_norm": true' in o.backbone_options else ""
    trunk = {"chain": ("mlp", '{"hidden": [64]'), "catch": ("nips2013", '{"hidden": 64')}
    backbone, width = trunk[known.name]
    form: dict[str, Any] = {"batch_size": 64, "replay_ratio": 8.0}
    if o.sequence_length:
        sequences = {"sequence_length": 12, "burn_in": 2, "sequence_stride": 4}
        form = {"batch_size": 16, "replay_ratio": 5.0, **sequences}
    elif o.rollout_steps:
        form = {"batch_size": 64, "rollout_steps": 16, "rollout_epochs": 4}
    return replace(
        o,
        **form,
        backbone=backbone,
        backbone_options=width + norm + "}",
        backbone_weights=None,
        memory_options='{"hidden": 64}' if o.memory else "{}",
        head_hidden=min(o.head_hidden, 64),
        quantiles=min(o.quantiles, 32),
        taus=min(o.taus, 8),
        target_taus=min(o.target_taus, 8),
        policy_taus=min(o.policy_taus, 8),
        gamma=GAMMA,
        num_envs=16,
        buffer_size=6_000,
        learning_starts=500,
        average=min(o.average, 0.99),
        importance_steps=steps,
        learning_rate=known.learning_rate,
        learning_rate_steps=steps,
        optimizer_eps=min(o.optimizer_eps, 1e-4),
        target_update=200 if o.target_tau == 1 else o.target_update,
        epsilon_initial=1.0,
        epsilon_final=0.1 if o.epsilon_final else 0.0,
        epsilon_steps=steps // 2,
        precision="fp32",
    )


def steps_of(options: DQNOptions, known: Known) -> int:
    """Agent steps of training: twice as many for rollouts, which are learnt from a few times."""
    return known.steps * (2 if options.rollout_steps else 1)


def train(options: DQNOptions, known: Known, seed: int) -> DQN:
    """An agent of these options, trained in the environment."""
    agent = DQN(known.make(options.num_envs), options, seed=seed, device="cpu")
    agent.learn(steps_of(options, known))
    return agent


def looked_at(agent: DQN, known: Known, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """States (n,) of games that the agent plays greedily, and its largest value (n,) of each."""
    env = known.make(GAMES)
    stepper = EnvStepper(env)
    observations, player = stepper.reset(seed), agent.player()
    states, values = [], []
    playing = np.ones(GAMES, np.bool_)
    while playing.any():
        q = player.values(observations)
        states.append(known.states_of(env)[playing])
        values.append(q.max(axis=1)[playing])
        stepper.send(q.argmax(axis=1))
        record = stepper.recv()
        observations = record.observations
        player.end(record.episode_over)
        playing &= ~record.episode_over
    return np.concatenate(states), np.concatenate(values)


def check_values(name: str, options: DQNOptions, known: Known, seed: int = 0) -> Finding:
    """Trains an agent of these options in the environment and compares its values.

    Args:
        name: what the agent is called in the finding.
        options: of the agent, already small.
        known: the environment.
        seed: of all that chance decides.
    """
    start = time.perf_counter()
    agent = train(options, known, seed)
    states, values = looked_at(agent, known, seed + 1)
    true = settle(known, options, epsilon_at(options, steps_of(options, known))).max(axis=1)
    if options.value_rescaling:
        values = unrescale(torch.from_numpy(values)).numpy()
    errors = np.abs(values - true[states])
    mean, usual = float(errors.mean()), float(np.quantile(errors, USUAL))
    right = mean <= known.mean_error and usual <= known.usual_error
    seconds = time.perf_counter() - start
    return Finding(name, known.name, right, mean, usual, float(errors.max()), seconds)


# ----------------------------------------------------------------------------- the command


def check_agents(settings: CheckSettings) -> list[Finding]:
    """Checks one agent, or all, in both environments; prints a line for each as it is known.

    Raises:
        UnknownNameError: no such agent or preset.
        UsageError: no agent is named, or one whose targets are not ours.
    """
    chosen = [(name, _preset_of(name, settings.preset)) for name in _names(settings)]
    widths = (max(5, *(len(name) for name, _ in chosen)), 11, 6, 10, 14, 13, 7)
    titles = (
        *("agent", "environment", "values", "mean error", "19 of 20 below", "largest error"),
        "seconds",
    )
    _print_row(titles, widths)
    findings = []
    for name, preset in chosen:
        for known in (chain(), catch()):
            one = check_values(name, shrunk(preset, known), known, settings.seed)
            verdict = "right" if one.right else "WRONG"
            errors = [f"{e:.3f}" for e in (one.mean_error, one.usual_error, one.largest_error)]
            _print_row((name, known.name, verdict, *errors, f"{one.seconds:.1f}"), widths)
            findings.append(one)
    for known in (chain(), catch()):
        print(
            f"{known.name}: right is a mean error of at most {known.mean_error:g}, and at most "
            f"{known.usual_error:g} in 19 states of 20; values lie between {_span(known)}."
        )
    return findings


def _names(settings: CheckSettings) -> list[str]:
    ours = [name for name in AGENTS if isinstance(_first(name), DQNOptions)]
    if settings.all:
        if settings.agent:
            raise UsageError(f"--all checks every agent; leave {settings.agent} or --all out.")
        return ours
    if not settings.agent:
        raise UsageError("which agent? Write 'eightbit check rainbow', or --all.")
    if AGENTS[settings.agent].name not in ours:
        raise UsageError(
            f"{settings.agent} is not of the DQN family: where its values settle is not known "
            f"here; check one of {', '.join(ours)}."
        )
    return [settings.agent]


def _first(name: str) -> object:
    return next(iter(AGENTS[name].presets.values()))


def _preset_of(name: str, preset: str) -> DQNOptions:
    presets = AGENTS[name].presets
    if preset and preset not in presets:
        raise UnknownNameError("preset", preset, presets, "eightbit list presets")
    options = presets[preset or next(iter(presets))]
    assert isinstance(options, DQNOptions)  # `_names` saw to it
    return options


def _span(known: Known) -> str:
    best = settle(known, DQNOptions(gamma=GAMMA, n_step=1), 0.0).max(axis=1)
    return f"{best[best > 0].min():.2f} and {best.max():.2f}"


def _print_row(cells: tuple[str, ...], widths: tuple[int, ...]) -> None:
    first = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    rest = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    print("  ".join([*first, *rest]), flush=True)
