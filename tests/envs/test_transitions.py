"""Every autoreset mode, and a plain loop over single environments, give the same records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.envs import EnvStepper, Episode, StepRecord, list_games, make_gym_vec, make_vec
from eightbit.envs.catch import CatchEnv
from eightbit.envs.options import EnvOptions
from eightbit.envs.single import AtariEnv
from eightbit.errors import EightBitError, UsageError

N = 2
MODES = list(AutoresetMode)
NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


@dataclass
class Reference:
    """Steps single environments one after another: the naive meaning of a record."""

    envs: list[gymnasium.Env]
    life_loss: bool = False
    returns: list[float] = field(init=False)
    lengths: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.returns, self.lengths = [0.0] * len(self.envs), [0] * len(self.envs)

    def reset(self, seed: int) -> np.ndarray:
        return np.stack([env.reset(seed=seed + row)[0] for row, env in enumerate(self.envs)])

    def step(self, actions: np.ndarray) -> StepRecord:
        rows: list[tuple[Any, ...]] = []
        finals, episodes = {}, []
        for row, env in enumerate(self.envs):
            obs, reward, terminated, truncated, info = env.step(int(actions[row]))
            self.returns[row] += float(np.float32(reward))
            self.lengths[row] += 1
            over = terminated or truncated
            if over:
                finals[row] = obs
                ended = (self.returns[row], self.lengths[row])
                episodes.append(Episode(row, *ended, truncated=truncated))
                self.returns[row], self.lengths[row] = 0.0, 0
                obs, _ = env.reset()
            lost = self.life_loss and info.get("life_lost", False)
            executed = info.get("executed_action", actions[row])
            rows.append((executed, reward, terminated or lost, truncated, over, obs))
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        return StepRecord(*columns, finals, tuple(episodes))


def assert_same(record: StepRecord, expected: StepRecord, step: int) -> None:
    names = ["actions", "rewards", "terminated", "truncated", "episode_over", "observations"]
    for name in names:
        got, want = getattr(record, name), getattr(expected, name)
        assert np.array_equal(got, want), f"{name} at step {step}: {got} and not {want}"
    assert record.final_observations.keys() == expected.final_observations.keys(), step
    for row, last in expected.final_observations.items():
        assert np.array_equal(record.final_observations[row], last), (step, row)
    assert record.episodes == expected.episodes, step


def compare(stepper: EnvStepper, reference: Reference, seed: int, steps: int) -> int:
    """Plays both with the same actions; returns the number of games that ended."""
    rng = np.random.default_rng(seed)
    assert np.array_equal(stepper.reset(seed), reference.reset(seed))
    episodes = 0
    for step in range(steps):
        actions = rng.integers(0, stepper.num_actions, stepper.num_envs)
        record = stepper.step(actions)
        assert_same(record, reference.step(actions), step)
        episodes += len(record.episodes)
    stepper.close()
    return episodes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("seed", "sticky", "max_frames"), [(0, 0.0, 99), (5, 0.3, 99), (9, 0.3, 7)]
)
def test_catch_gives_what_a_loop_over_single_games_gives(mode, seed, sticky, max_frames):
    options = EnvOptions(sticky=sticky, max_frames=max_frames)
    stepper = EnvStepper(make_vec("catch", N, options=options, autoreset_mode=mode))
    reference = Reference([CatchEnv(options) for _ in range(N)])
    assert compare(stepper, reference, seed, 60) >= 3 * N


@pytest.mark.parametrize("mode", MODES)
def test_gymnasium_gives_what_a_loop_over_single_environments_gives(mode):
    processes = mode == SAME
    env = make_gym_vec("gym:CartPole-v1", N, autoreset_mode=mode, processes=processes)
    reference = Reference([gymnasium.make("CartPole-v1") for _ in range(N)])
    assert compare(EnvStepper(env), reference, 4, 150) >= 2 * N


PLAIN: dict[str, Any] = {}
STICKY = {"max_frames": 200, "sticky": 0.25, "full_action_set": True}
CUT = {"max_frames": 102, "life_loss": False}
SB3 = {"preprocessing": "sb3", "max_frames": 400}
FAST = [
    ("breakout", 220, PLAIN, SAME),
    ("breakout", 130, SB3, NEXT),
    ("seaquest", 70, STICKY, NEXT),
    ("pong", 55, CUT, DISABLED),
    ("backgammon", 25, {"max_frames": 80}, SAME),  # has no NOOP among its actions
]
SLOW = [
    pytest.param(game, steps, changes, mode, marks=pytest.mark.long)
    for game, steps, changes, fast in FAST
    for mode in MODES
    if mode != fast
]
SLOW += [
    pytest.param(game, 90, {**changes, "max_frames": 160}, NEXT, marks=pytest.mark.long)
    for game in list_games()
    for changes in (PLAIN, SB3)
]


@pytest.mark.parametrize(("game", "steps", "changes", "mode"), [*FAST, *SLOW])
def test_atari_gives_what_a_loop_over_single_games_gives(game, steps, changes, mode):
    stepper = EnvStepper(make_vec(game, N, autoreset_mode=mode, **changes))
    reference = Reference(
        [AtariEnv(game, **changes) for _ in range(N)], changes.get("life_loss", True)
    )
    assert compare(stepper, reference, 2, steps) >= 1


class Counter(gymnasium.Env):
    """Ends after five steps, every other episode by its time limit; actions begin at 2."""

    observation_space = Box(-1000, 1000, (1,), np.float32)
    action_space = Discrete(2, start=2)

    def __init__(self) -> None:
        self.episodes, self.steps = -1, 0
        self.actions: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.episodes, self.steps = self.episodes + 1, 0
        return np.array([100.0 * self.episodes], np.float32), {}

    def step(self, action: int) -> Any:
        self.actions.append(int(action))
        self.steps += 1
        end, odd = self.steps == 5, self.episodes % 2 == 1
        observation = np.array([100.0 * self.episodes + self.steps], np.float32)
        return observation, 1.0, end and not odd, end and odd, {}


@pytest.mark.parametrize("mode", MODES)
def test_no_step_is_lost_between_episodes(mode):
    envs: list[Counter] = []

    def make() -> Counter:
        envs.append(Counter())
        return envs[-1]

    stepper = EnvStepper(SyncVectorEnv([make, make], autoreset_mode=mode))
    assert stepper.reset(0).tolist() == [[0], [0]]
    records = [stepper.step(np.array([0, 1])) for _ in range(10)]
    assert [record.observations[0, 0] for record in records] == [
        *(1, 2, 3, 4, 100, 101, 102, 103, 104, 200)
    ]
    assert records[4].terminated.all() and not records[4].truncated.any()
    assert records[9].truncated.all() and not records[9].terminated.any()
    assert records[4].final_observations[1] == [5]
    assert records[9].final_observations[1] == [105]
    assert records[9].episodes == (Episode(0, 5.0, 5, True), Episode(1, 5.0, 5, True))
    assert [sum(record.rewards) for record in records] == [2.0] * 10
    assert envs[0].actions == [2] * 10 and envs[1].actions == [3] * 10
    assert all(record.actions.tolist() == [0, 1] for record in records)


class Walk(gymnasium.Env):
    """Episodes of random length with random rewards; every second end is a truncation."""

    observation_space = Box(-1000, 1000, (2,), np.float32)
    action_space = Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.integers(-9, 9, 2).astype(np.float32)
        self.left = int(self.np_random.integers(1, 6))
        return self.place.copy(), {}

    def step(self, action: int) -> Any:
        self.left -= 1
        self.place = self.place + np.float32(action) + self.np_random.integers(0, 5, 2)
        self.place = self.place.astype(np.float32)
        cut = bool(self.np_random.integers(2))
        over = self.left == 0
        return self.place.copy(), float(self.place.sum()), over and not cut, over and cut, {}


@settings(max_examples=40, deadline=None)
@given(
    num_envs=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    phases=st.lists(st.integers(0, 12), min_size=1, max_size=4),
)
def test_all_modes_give_the_same_transitions_returns_and_episodes(num_envs, seed, phases):
    """Each phase begins with a reset, wherever the episodes stand."""
    steppers = [EnvStepper(SyncVectorEnv([Walk] * num_envs, autoreset_mode=mode)) for mode in MODES]
    reference = Reference([Walk() for _ in range(num_envs)])
    rng = np.random.default_rng(seed)
    for phase, steps in enumerate(phases):
        reference.__post_init__()
        first = reference.reset(seed + phase)
        for stepper in steppers:
            assert np.array_equal(stepper.reset(seed + phase), first)
        for step in range(steps):
            actions = rng.integers(0, 4, num_envs)
            expected = reference.step(actions)
            for stepper in steppers:
                assert_same(stepper.step(actions), expected, step)


RESTARTED = ("catch", "gym:CartPole-v1", "pong")


@pytest.mark.parametrize(
    ("game", "mode"),
    [
        pytest.param(
            game, mode, marks=[pytest.mark.long] if game == "pong" and mode != NEXT else []
        )
        for game in RESTARTED
        for mode in MODES
    ],
)
def test_a_reset_in_mid_episode_or_right_after_an_end_begins_anew(game, mode):
    def make() -> EnvStepper:
        changes = {"max_frames": 40} if game == "pong" else {}
        return EnvStepper(make_vec(game, N, autoreset_mode=mode, **changes))

    def play(stepper: EnvStepper, steps: int) -> list[StepRecord]:
        stepper.reset(3)
        return [stepper.step(np.zeros(N, np.int64)) for _ in range(steps)]

    fresh, used = play(make(), 14), make()
    for steps in (4, 10) if game == "pong" else (4, 10, 11):
        play(used, steps)
    for step, (record, expected) in enumerate(zip(play(used, 14), fresh, strict=True)):
        assert_same(record, expected, step)


def test_records_do_not_change_later():
    for env in (make_vec("breakout", N), make_gym_vec("CartPole-v1", N), make_vec("catch", N)):
        stepper = EnvStepper(env)
        first = stepper.reset(1)
        start = first.copy()
        record = stepper.step(np.ones(N, np.int64))
        kept = {name: np.copy(getattr(record, name)) for name in ("observations", "rewards")}
        for _ in range(30):
            stepper.step(np.zeros(N, np.int64))
        assert np.array_equal(first, start)
        for name, value in kept.items():
            assert np.array_equal(getattr(record, name), value), name
        stepper.close()


def test_the_given_actions_are_not_changed():
    actions = np.ones(2, np.int64)
    for game in ("breakout", "catch"):
        stepper = EnvStepper(make_vec(game, 2))
        stepper.reset(0)
        for _ in range(60):
            record = stepper.step(actions)
            record.actions[:] = 0
        assert actions.tolist() == [1, 1]


def test_catch_goes_on_from_a_saved_state_as_if_it_had_never_stopped():
    options = EnvOptions(sticky=0.2)
    actions = np.random.default_rng(0).integers(0, 3, (40, N))
    stepper = EnvStepper(make_vec("catch", N, options=options))
    stepper.reset(8)
    for row in actions[:17]:
        stepper.step(row)
    state = stepper.get_state()
    expected = [stepper.step(row) for row in actions[17:]]
    other = EnvStepper(make_vec("catch", N, options=options))
    other.reset(99)
    observations = other.set_state(state)
    assert np.array_equal(observations, state["env"]["screens"])
    for step, row in enumerate(actions[17:]):
        assert_same(other.step(row), expected[step], step)


def test_ale_says_that_it_cannot_be_restored():
    stepper = EnvStepper(make_vec("pong", 1, backend="ale"))
    assert not stepper.can_restore
    with pytest.raises(EightBitError, match="begins new episodes"):
        stepper.get_state()
    with pytest.raises(EightBitError, match="begins new episodes"):
        stepper.set_state({})


class Pair(gymnasium.Env):
    """Its observation is a tuple."""

    observation_space = Tuple((Discrete(2), Discrete(2)))
    action_space = Discrete(2)


def test_a_wrong_call_says_what_to_do():
    fresh = EnvStepper(make_vec("pong", 1))
    with pytest.raises(UsageError, match=r"call reset\(\) first"):
        fresh.step(np.zeros(1))
    fresh.reset(0)
    with pytest.raises(UsageError, match=r"call send\(actions\) first"):
        fresh.recv()
    with pytest.raises(UsageError, match=r"give \(1,\)"):
        fresh.step(np.zeros(3))
    with pytest.raises(UsageError, match="must be 0 to 5"):
        fresh.step(np.array([6]))
    fresh.send(np.zeros(1))
    with pytest.raises(UsageError, match=r"call recv\(\) first"):
        fresh.send(np.zeros(1))
    fresh.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gymnasium.make("Pendulum-v1"), "actions must be discrete"),
        (Pair, "observations must be one array each"),
    ],
)
def test_an_environment_that_cannot_be_learnt_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        EnvStepper(SyncVectorEnv([make]))


def test_sb3s_preprocessing_needs_a_whole_reset_first_too():
    env = make_vec("freeway", 2, preprocessing="sb3")
    with pytest.raises(UsageError, match="reset all environments once"):
        env.reset(options={"reset_mask": np.array([True, False])})
