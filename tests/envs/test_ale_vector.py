"""The traps of ALE's vectorizer do not reach our users."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import eightbit  # noqa: F401  # registers the games
from eightbit.envs import EnvStepper, game_facts, list_games
from eightbit.envs import make_vec as make_any_vec
from eightbit.envs.single import AtariEnv
from eightbit.errors import UsageError

SAME = AutoresetMode.SAME_STEP
FEW = ["air_raid", "et", "freeway", "tic_tac_toe_3d"]


def slow(*values: Any) -> list[Any]:
    return [pytest.param(value, marks=pytest.mark.long) for value in values]


def make_vec(game: str, num_envs: int, **options: Any) -> VectorEnv:
    return make_any_vec(game, num_envs, backend="ale", **options)


@cache
def two_of(game: str) -> VectorEnv:
    return make_vec(game, 2)


def play(env: Any, steps: int, seed: int = 1) -> list[Any]:
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    n, actions = env.num_envs, int(env.single_action_space.n)
    return [env.step(rng.integers(0, actions, n)) for _ in range(steps)]


def test_rewards_are_raw_where_the_vectorizer_clips_them():
    ours = np.concatenate([step[1] for step in play(make_vec("space_invaders", 1), 160)])
    theirs = np.concatenate([step[1] for step in play(AtariVectorEnv("space_invaders", 1), 160)])
    assert set(np.unique(theirs)) == {0, 1}
    assert ours.max() >= 5 and ours.dtype == np.float32 and not (ours % 5).any()


def test_a_lost_life_ends_learning_but_neither_the_game_nor_its_score():
    stepper = EnvStepper(make_vec("breakout", 2, autoreset_mode=SAME))
    stepper.reset(3)
    rng = np.random.default_rng(0)
    lives = games = 0
    score = np.zeros(2)
    for _ in range(400):
        record = stepper.step(rng.integers(0, 4, 2))
        score += record.rewards
        lost = record.terminated & ~record.episode_over
        lives += lost.sum()
        assert set(record.final_observations) == set(np.flatnonzero(record.episode_over))
        for episode in record.episodes:
            assert episode.episode_return == score[episode.env_index]
            score[episode.env_index] = 0
            games += 1
    # Five lives: four of them are lost before the one that ends the game.
    assert games >= 2 and 4 * games <= lives < 4 * (games + 2)


def test_without_life_loss_only_the_end_of_the_game_is_terminal():
    stepper = EnvStepper(make_vec("breakout", 1, life_loss=False))
    stepper.reset(3)
    rng = np.random.default_rng(0)
    records = [stepper.step(rng.integers(0, 4, 1)) for _ in range(300)]
    assert all(np.array_equal(r.terminated, r.episode_over) for r in records)
    assert any(r.episode_over.any() for r in records)


@pytest.mark.parametrize("game", ["breakout", *slow("seaquest", "pong", "amidar")])
def test_lives_are_told_as_the_vectorizer_tells_them(game):
    """`life_loss_info` of the engine is the oracle for which steps lose a life or a game."""
    ours = make_vec(game, 2, fire=False, noop_max=29, autoreset_mode=SAME)
    theirs = AtariVectorEnv(
        *(game, 2),
        noop_max=30,  # theirs draws from 0 to 29
        life_loss_info=True,
        reward_clipping=False,
        use_fire_reset=False,
        autoreset_mode="SameStep",
    )
    ends = 0
    for mine, other in zip(play(ours, 400), play(theirs, 400), strict=True):
        lost = mine[4]["life_lost"]
        assert np.array_equal(mine[0], other[0])
        assert np.array_equal(mine[2] | lost, other[2])
        assert not (mine[2] & lost).any()
        ends += int((mine[2] | lost).sum())
    assert ends > 0 or game == "pong"


def test_fire_is_pressed_after_a_lost_life_and_the_record_says_so():
    stepper = EnvStepper(make_vec("breakout", 1))
    stepper.reset(0)
    assert game_facts("breakout").has_fire
    lost = np.zeros(1, np.bool_)
    presses = games = 0
    for _ in range(500):
        record = stepper.step(np.zeros(1, np.int64))
        assert np.array_equal(record.actions, np.where(lost, 1, 0))
        lost = record.terminated & ~record.episode_over
        presses += int(lost.sum())
        games += len(record.episodes)
    # An agent that never fires would wait for ever after its first lost life.
    assert presses >= 8 and games >= 2


def test_without_fire_a_passive_agent_never_loses_a_second_life():
    stepper = EnvStepper(make_vec("breakout", 1, fire=False))
    stepper.reset(0)
    assert not any(stepper.step(np.zeros(1, np.int64)).terminated.any() for _ in range(300))


def test_a_game_without_fire_keeps_the_given_action():
    assert not game_facts("freeway").has_fire
    stepper = EnvStepper(make_vec("freeway", 1))
    stepper.reset(0)
    assert stepper.step(np.array([1])).actions.tolist() == [1]


@pytest.mark.parametrize(
    ("mode", "max_frames", "steps"),
    [*((mode, 100, 25) for mode in AutoresetMode), (SAME, 102, 26)],
)
def test_the_time_limit_counts_frames_and_truncates(mode, max_frames, steps):
    stepper = EnvStepper(make_vec("pong", 1, max_frames=max_frames, autoreset_mode=mode))
    twin = EnvStepper(make_vec("pong", 1, max_frames=10 * max_frames, autoreset_mode=mode))
    assert np.array_equal(stepper.reset(5), twin.reset(5))
    noop = np.zeros(1, np.int64)
    for _ in range(steps - 1):
        assert not stepper.step(noop).episode_over.any()
        twin.step(noop)
    record, uncut = stepper.step(noop), twin.step(noop)
    assert record.truncated.all() and not record.terminated.any() and record.episode_over.all()
    assert [episode.length for episode in record.episodes] == [steps]
    # What a game without the limit shows at this moment is what to bootstrap from.
    assert np.array_equal(record.final_observations[0], uncut.observations[0])
    assert (record.observations[0, :3] == 0).all() and record.observations[0, 3].any()


def test_one_step_is_four_frames_and_the_newest_screen_is_last():
    env = make_vec("pong", 1)
    observations, infos = env.reset(seed=0)
    for _ in range(10):
        after, _, _, _, later = env.step(np.array([2]))
        assert (later["frame_number"] - infos["frame_number"] == 4).all()
        assert np.array_equal(after[:, :3], observations[:, 1:])
        observations, infos = after, later


def test_no_op_starts_are_drawn_anew_from_none_to_the_most():
    env = make_vec("freeway", 1, noop_max=2)
    begins = [int(env.reset(seed=0)[1]["episode_frame_number"][0])]
    begins += [int(env.reset()[1]["episode_frame_number"][0]) for _ in range(20)]
    assert set(begins) == {0, 1, 2}
    # Where a game has FIRE, its frame is one of them.
    env = make_vec("pong", 1, noop_max=0)
    assert env.reset(seed=0)[1]["episode_frame_number"].tolist() == [1]
    # The single environment draws the same numbers.
    single = AtariEnv("freeway", noop_max=2, backend="ale")
    assert [single.reset(seed=0)[1]["episode_frame_number"]] + [
        single.reset()[1]["episode_frame_number"] for _ in range(20)
    ] == begins


def test_without_a_seed_games_differ_from_run_to_run():
    def begin() -> tuple[int, ...]:
        env = make_vec("pong", 1)
        return tuple(int(env.reset()[1]["episode_frame_number"][0]) for _ in range(6))

    assert begin() != begin()


def test_a_row_has_its_own_seed():
    env = make_vec("freeway", 2)
    both, _ = env.reset(seed=5)
    again, _ = env.reset(seed=[6, 5])
    assert np.array_equal(both, again[::-1]) and not np.array_equal(both[0], both[1])
    # None leaves a row's generators where they are; the mask leaves its game as it is.
    kept, _ = env.reset(seed=[None, 9], options={"reset_mask": np.array([False, True])})
    assert np.array_equal(kept[0], again[0]) and not np.array_equal(kept[1], again[1])


@pytest.mark.parametrize("seed", [-1, 2**31, [0, -1], [0, 2**40], [1], np.array([1, 2, 3])])
@pytest.mark.parametrize("game", ["catch", "pong"])
def test_a_seed_that_is_not_possible_is_refused(game, seed):
    env = two_of(game)
    with pytest.raises(UsageError, match="give 0 to 2,147,483,647|give one for each"):
        env.reset(seed=seed)


@pytest.mark.parametrize("sticky", [0.25, *slow(0.0)])
def test_trajectories_depend_on_the_seed_and_not_on_threads(sticky):
    def run(threads: int, seed: int) -> str:
        stepper = EnvStepper(make_vec("breakout", 2, num_threads=threads, sticky=sticky))
        digest = hashlib.sha256(stepper.reset(seed))
        rng = np.random.default_rng(0)
        for _ in range(60):
            record = stepper.step(rng.integers(0, 4, 2))
            digest.update(record.observations)
            digest.update(record.rewards)
        return digest.hexdigest()

    assert run(1, 7) == run(2, 7)
    assert run(1, 7) != run(1, 8)


def test_same_step_tells_final_observations_only_of_the_rows_that_ended():
    env = make_vec("breakout", 2, max_frames=200, autoreset_mode=SAME)
    seen = 0
    for _, _, terminated, truncated, infos in play(env, 60):
        ended = terminated | truncated
        assert ("final_obs" in infos) == ended.any()
        if ended.any():
            assert np.array_equal(infos["_final_obs"], ended)
            assert [obs is not None for obs in infos["final_obs"]] == ended.tolist()
            assert np.array_equal(infos["_final_info"], ended)
            seen += 1
    assert seen > 0


def test_gymnasium_statistics_count_whole_games_with_raw_rewards():
    stepper = EnvStepper(make_vec("breakout", 1))
    stepper.reset(2)
    action = np.array([1])
    expected = [e for _ in range(200) for e in stepper.step(action).episodes]
    assert expected
    for mode in AutoresetMode:
        env = RecordEpisodeStatistics(
            gymnasium.make_vec(
                "eightbit/Breakout-v5", num_envs=1, autoreset_mode=mode, backend="ale"
            )
        )
        env.reset(seed=2)
        for _ in range(205):
            _, _, terminated, truncated, _ = env.step(action)
            if mode == AutoresetMode.DISABLED and (terminated | truncated).any():
                env.reset(options={"reset_mask": terminated | truncated})
        count = len(expected)
        assert list(env.return_queue)[:count] == [e.episode_return for e in expected]
        assert list(env.length_queue)[:count] == [e.length for e in expected]


def test_send_returns_before_the_step_is_done_and_recv_gives_it():
    one, other = make_vec("pong", 1), make_vec("pong", 1)
    one.reset(seed=1)
    other.reset(seed=1)
    actions = np.array([2])
    for _ in range(5):
        one.send(actions)
        for got, want in zip(one.recv()[:4], other.step(actions)[:4], strict=True):
            assert np.array_equal(got, want)


@pytest.mark.parametrize("game", [*FEW, *slow(*(g for g in list_games() if g not in FEW))])
def test_every_game_plays_and_is_cut_at_the_time_limit(game):
    stepper = EnvStepper(make_vec(game, 1, max_frames=80, autoreset_mode=SAME))
    assert stepper.reset(0).shape == (1, 4, 84, 84)
    assert stepper.num_actions == len(game_facts(game).actions)
    rng = np.random.default_rng(0)
    lengths = [
        episode.length
        for _ in range(45)
        for episode in stepper.step(rng.integers(0, stepper.num_actions, 1)).episodes
    ]
    assert lengths and max(lengths) <= 20


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_steps():
    stepper = EnvStepper(make_vec("breakout", 4, autoreset_mode=SAME))
    stepper.reset(0)
    actions = np.array([0, 1, 2, 3])
    sizes = []
    for _ in range(2):
        for _ in range(4_000):
            stepper.step(actions)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]))
    assert (sizes[1] - sizes[0]) * os.sysconf("SC_PAGE_SIZE") < 4e6
