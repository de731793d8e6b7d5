"""Playing evaluation episodes under a protocol, in environments of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast
from typing import Protocol as Interface

import numpy as np

from ..agents.exploration import explore
from ..envs import game_facts, make_vec, parse_game
from ..envs.options import PROTOCOLS, EnvOptions, Protocol, env_options
from ..envs.transitions import EnvStepper, Episode
from ..errors import UsageError
from .scores import Score, make_score

Act = Callable[[np.ndarray], np.ndarray]
"""Takes observations (n, *obs), returns actions (n,), integer; n varies from call to call."""

_ActRows = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Playing(Interface):
    """Plays several games step by step, with a memory of each; see `start_playing`."""

    def begin(self) -> None:
        """All games begin anew."""
        ...

    def values(self, observations: np.ndarray) -> np.ndarray:
        """(n, *obs) -> (n, A) float32 action values, and goes on to the next step."""
        ...

    def end(self, episode_over: np.ndarray) -> None:
        """The games of a (n,) bool mask begin anew with their next observation."""
        ...

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with some of the games only: (m,) their places among those of the last call."""
        ...

    def glance(self) -> Any:
        """`q_values` and `network` of the first game's next step, whatever it shows."""
        ...


def start_playing(agent: Any) -> Playing:
    """What plays new games of an agent.

    Args:
        agent: has `player()`, as ours do; or `q_values(observations) -> (n, A)`, without memory.
    """
    player = getattr(agent, "player", None)
    return _Forgetful(agent) if player is None else cast(Playing, player())


class _Forgetful:
    """Plays an agent whose values follow from the observation alone."""

    def __init__(self, agent: Any):
        self._agent = agent

    def begin(self) -> None:
        pass

    def values(self, observations: np.ndarray) -> np.ndarray:
        return np.asarray(self._agent.q_values(observations))

    def end(self, episode_over: np.ndarray) -> None:
        pass

    def keep(self, rows: np.ndarray) -> None:
        pass

    def glance(self) -> Any:
        return self._agent


class _Greedy:
    """Best actions in the rows that still play, each with its own memory."""

    def __init__(self, playing: Playing, num_rows: int):
        playing.begin()
        self._playing = playing
        self._rows = np.arange(num_rows)

    def __call__(self, observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if len(rows) < len(self._rows):
            self._playing.keep(np.searchsorted(self._rows, rows))
            self._rows = rows
        return self._playing.values(observations).argmax(axis=1)

    def end(self, episode_over: np.ndarray) -> None:
        self._playing.end(episode_over[self._rows])


GYM_PREFIX = "gym:"
_DIRECTIONS = ("UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")
FULL_ACTIONS = ("NOOP", "FIRE", *_DIRECTIONS, *(f"{way}FIRE" for way in _DIRECTIONS))


@dataclass(frozen=True)
class Evaluation:
    """Episodes that were played, and their score.

    Attributes:
        score: raw returns, protocol and interval.
        lengths: agent steps of each episode.
        epsilon: share of random actions.
        seed: of the environments, the exploration and the bootstrap.
        options: what the environments were made with.
        player: who played, as a table shows it ("agent", "random play", "always LEFT").
    """

    score: Score
    lengths: tuple[int, ...]
    epsilon: float
    seed: int
    options: EnvOptions
    player: str = "agent"


def canonical_game(game: str) -> str:
    """`pong` for any spelling of it; `gym:<id>` stays as it is.

    Raises:
        UnknownNameError: no such game.
    """
    return game if game.startswith(GYM_PREFIX) else parse_game(game).name


def action_names(game: str, options: EnvOptions, num_actions: int) -> list[str]:
    """One name for each action: the console's buttons, or `action 0` where nothing names them."""
    if game.startswith(GYM_PREFIX):
        return [f"action {index}" for index in range(num_actions)]
    name = canonical_game(game)
    if options.full_action_set and name != "catch":
        return list(FULL_ACTIONS)
    return list(game_facts(name).actions)


def count_actions(game: str, options: EnvOptions) -> int:
    """Number of discrete actions of the game under these options."""
    stepper = make_stepper(game, 1, options)
    stepper.close()
    return stepper.num_actions


def make_stepper(game: str, num_envs: int, options: EnvOptions) -> EnvStepper:
    """New environments of their own, ready to be reset; `options` do not apply to `gym:` games."""
    if game.startswith(GYM_PREFIX):
        from ..envs import make_gym_vec  # its module also holds the adapters, slow to import

        return EnvStepper(make_gym_vec(game, num_envs))
    return EnvStepper(make_vec(canonical_game(game), num_envs, options=options))


def evaluation_options(protocol: Protocol, **changes: object) -> EnvOptions:
    """Environment options of evaluation episodes: the protocol's, without the life-loss signal.

    Args:
        protocol: the rules.
        **changes: fields that the protocol leaves free (frame stack, screen size, threads, ...).

    Raises:
        UsageError: a change to a field that the protocol fixes, or an unknown field.
    """
    fixed = {"sticky", "noop_max", "life_loss", "full_action_set", "max_frames"} & changes.keys()
    if fixed:
        raise UsageError(
            f"protocol {protocol.value} fixes {', '.join(sorted(fixed))}: leave it out, or choose "
            "another protocol."
        )
    return env_options(protocol, training=False, **changes)


def default_epsilon(game: str, protocol: Protocol) -> float:
    """The protocol's share of random actions; 0 for `gym:` games, which no protocol is about."""
    return 0.0 if game.startswith(GYM_PREFIX) else PROTOCOLS[protocol].eval_epsilon


def evaluate_policy(
    act: Act | Playing,
    game: str,
    protocol: Protocol = Protocol.MNIH2015,
    *,
    episodes: int | None = None,
    seed: int = 0,
    num_envs: int | None = None,
    epsilon: float | None = None,
    options: EnvOptions | None = None,
) -> Evaluation:
    """Plays whole games and scores their raw returns.

    How many episodes each environment plays is fixed before the first step, so that short
    episodes are not counted more often than long ones.

    Args:
        act: the policy, a function or what `start_playing` gives of an agent; it sees the rows
            that still play, uint8 (n, 4, 84, 84) for Atari.
        game: any name that `make_vec` takes.
        protocol: the rules; stored with the score.
        episodes: how many; the protocol's number by default.
        seed: of the environments, the exploration and the bootstrap.
        num_envs: environments side by side; one for each episode by default.
        epsilon: share of random actions in [0, 1]; see `default_epsilon`.
        options: of the environments; `evaluation_options(protocol)` by default.

    Raises:
        UsageError: fewer than one episode or environment, or an epsilon outside [0, 1].
    """
    spec = PROTOCOLS[protocol]
    episodes = spec.eval_episodes if episodes is None else episodes
    epsilon = default_epsilon(game, protocol) if epsilon is None else epsilon
    _check_numbers(episodes, num_envs, epsilon)
    options = evaluation_options(protocol) if options is None else options
    rows = min(num_envs or episodes, episodes)
    quotas = np.full(rows, episodes // rows)
    quotas[: episodes % rows] += 1
    generator = np.random.default_rng(seed)
    greedy = None if callable(act) else _Greedy(act, rows)
    function = cast(Act, act)
    finished = _in_own_environments(
        *(game, options, quotas),
        greedy or (lambda seen, _: function(seen)),
        *(seed, epsilon, generator),
        greedy.end if greedy else None,
    )
    name = canonical_game(game)
    score = make_score(name, protocol, [item.episode_return for item in finished], generator)
    return Evaluation(score, tuple(item.length for item in finished), epsilon, seed, options)


def random_play(
    game: str,
    protocol: Protocol = Protocol.MNIH2015,
    *,
    episodes: int | None = None,
    seed: int = 0,
    options: EnvOptions | None = None,
) -> Evaluation:
    """Uniformly random actions under the same protocol: the first control of every score."""

    def first_action(observations: np.ndarray) -> np.ndarray:
        return np.zeros(len(observations), dtype=np.int64)

    played = evaluate_policy(
        first_action, game, protocol, episodes=episodes, seed=seed, epsilon=1.0, options=options
    )
    return replace(played, player="random play")


def best_constant_action(
    game: str,
    protocol: Protocol = Protocol.MNIH2015,
    *,
    episodes: int | None = None,
    seed: int = 0,
    trial_episodes: int = 3,
    options: EnvOptions | None = None,
) -> Evaluation:
    """The best player that always presses the same buttons, with the protocol's epsilon.

    Each action plays `trial_episodes`; the best two then play `episodes` new ones with another
    seed, and the one with the higher mean of those is returned.
    """
    episodes = PROTOCOLS[protocol].eval_episodes if episodes is None else episodes
    epsilon = default_epsilon(game, protocol)
    _check_numbers(min(episodes, trial_episodes), None, epsilon)
    options = evaluation_options(protocol) if options is None else options
    count = count_actions(game, options)
    trials = _play_constants(game, options, list(range(count)), trial_episodes, seed, epsilon)
    means = {
        action: np.mean([item.episode_return for item in done]) for action, done in trials.items()
    }
    finalists = sorted(means, key=lambda action: -means[action])[:2]
    finals = _play_constants(game, options, finalists, episodes, seed + 1_000, epsilon)
    returns = {action: [item.episode_return for item in done] for action, done in finals.items()}
    best = max(returns, key=lambda action: float(np.mean(returns[action])))
    score = make_score(canonical_game(game), protocol, returns[best], np.random.default_rng(seed))
    lengths = tuple(item.length for item in finals[best])
    player = f"always {action_names(game, options, count)[best]}"
    return Evaluation(score, lengths, epsilon, seed, options, player)


def _check_numbers(episodes: int, num_envs: int | None, epsilon: float) -> None:
    if episodes < 1 or (num_envs is not None and num_envs < 1):
        raise UsageError("an evaluation needs at least one episode and one environment.")
    if not 0.0 <= epsilon <= 1.0:
        raise UsageError(f"epsilon {epsilon} is not a share: write a number from 0 to 1.")


def _play_constants(
    game: str,
    options: EnvOptions,
    actions: list[int],
    episodes: int,
    seed: int,
    epsilon: float,
) -> dict[int, list[Episode]]:
    """Plays `episodes` with each action, all of them side by side."""
    action_of_row = np.repeat(np.asarray(actions, dtype=np.int64), episodes)
    finished = _in_own_environments(
        game,
        options,
        np.ones(len(action_of_row), dtype=np.int64),
        lambda _, rows: action_of_row[rows],
        seed,
        epsilon,
        np.random.default_rng(seed),
    )
    played: dict[int, list[Episode]] = {int(action): [] for action in actions}
    for episode in finished:
        played[int(action_of_row[episode.env_index])].append(episode)
    return played


def _in_own_environments(
    game: str,
    options: EnvOptions,
    quotas: np.ndarray,
    act: _ActRows,
    seed: int,
    epsilon: float,
    generator: np.random.Generator,
    end: Callable[[np.ndarray], None] | None = None,
) -> list[Episode]:
    stepper = make_stepper(game, len(quotas), options)
    try:
        return _play(stepper, act, quotas, seed, epsilon, generator, end)
    finally:
        stepper.close()


def _play(
    stepper: EnvStepper,
    act: _ActRows,
    quotas: np.ndarray,
    seed: int,
    epsilon: float,
    generator: np.random.Generator,
    end: Callable[[np.ndarray], None] | None = None,
) -> list[Episode]:
    """Plays until row i has finished `quotas[i]` episodes; episodes beyond that are ignored.

    `end` is told after each step which of all rows' games are over, (n,) bool.
    """
    left = quotas.copy()
    finished: list[Episode] = []
    observations = stepper.reset(seed)
    actions = np.zeros(stepper.num_envs, dtype=np.int64)
    while left.any():
        rows = np.flatnonzero(left)
        actions[rows] = act(observations[rows], rows)
        # Drawn for all rows, so that the stream does not depend on when a game ends.
        random, anything = explore(generator, stepper.num_envs, stepper.num_actions, epsilon)
        record = stepper.step(np.where(random, anything, actions))
        observations = record.observations
        if end is not None:
            end(record.episode_over)
        for episode in record.episodes:
            if left[episode.env_index] > 0:
                left[episode.env_index] -= 1
                finished.append(episode)
    return sorted(finished, key=lambda episode: episode.env_index)
