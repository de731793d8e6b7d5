"""The console equals ALE, is the same every time, and takes no harm from what it is given."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

pytest.importorskip("eightbit.envs.console._console", reason="the console is not compiled here")

from eightbit.benchmarks import fidelity
from eightbit.envs import game_facts, list_games
from eightbit.envs.console import _console
from eightbit.envs.console.cartridges import build_game
from eightbit.envs.console.vector import ConsoleVectorEnv
from eightbit.envs.options import EnvOptions
from eightbit.errors import EightBitError

SAME, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
FRAMES = 350
# Joysticks and paddles, NTSC and PAL, lives, RAM in the cartridge, unfinished frames.
FEW = ["breakout", "air_raid", "kaboom", "elevator_action", "video_chess"]


def mixed_actions(seed: int) -> Iterator[int]:
    """Each action for up to 40 frames."""
    generator = random.Random(seed)
    while True:
        yield from itertools.repeat(generator.randrange(18), generator.randint(1, 40))


def vector(game: str | list[str], num_envs: int = 3, **options: Any) -> ConsoleVectorEnv:
    mode = options.pop("mode", AutoresetMode.NEXT_STEP)
    return ConsoleVectorEnv(game, num_envs, EnvOptions(**{"num_threads": 1, **options}), mode)


def digest(env: ConsoleVectorEnv, steps: int, seed: int = 0) -> str:
    """What an environment returns for random actions, as one word."""
    found, generator = hashlib.sha256(), np.random.default_rng(seed)
    for _ in range(steps):
        actions = generator.integers(int(env.single_action_space.n), size=env.num_envs)
        *arrays, infos = env.step(actions)
        for array in (*arrays, infos["lives"], infos["frame_number"]):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


# ---- Beside ALE ----


@pytest.mark.parametrize("game", list_games())
def test_every_frame_is_that_of_ale(game: str):
    outcome = fidelity.play(fidelity.Pair(game), mixed_actions(1), FRAMES)
    assert not outcome.difference


@pytest.mark.long
@pytest.mark.parametrize("game", list_games())
def test_long_games_and_all_modes_are_those_of_ale(game: str):
    assert not fidelity.play(fidelity.Pair(game, 2), mixed_actions(2), 4000).difference
    assert not fidelity.play_modes(game, 60).difference


@pytest.mark.parametrize("game", FEW)
def test_sticky_actions_are_drawn_as_ale_draws_them(game: str):
    pair = fidelity.Pair(game, 11, fidelity.STICKY)
    assert not fidelity.play(pair, fidelity.uniform_actions(3), FRAMES).difference


@pytest.mark.parametrize("game", FEW)
def test_frames_that_nobody_draws_change_nothing(game: str):
    assert not fidelity.play_partly_drawn(fidelity.Pair(game), FRAMES).difference


@pytest.mark.parametrize("number", range(len(fidelity.SETTINGS)))
def test_vectors_are_those_of_ale(number: int):
    game = ("breakout", "seaquest", "pong", "air_raid", "kaboom")[number % 5]
    assert not fidelity.play_vectors(game, fidelity.SETTINGS[number], 60).difference


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(fidelity.SETTINGS)))
@pytest.mark.parametrize("game", ["breakout", *FEW[2:], "et", "pitfall2", "tic_tac_toe_3d"])
def test_longer_vectors_are_those_of_ale(game: str, number: int):
    assert not fidelity.play_vectors(game, fidelity.SETTINGS[number], 300).difference


def test_a_frame_that_goes_on_with_one_that_was_not_drawn_is_that_of_ale():
    """Here the computer thinks for three frames, and the fourth shows what was there before."""
    assert not fidelity.play_vectors("tic_tac_toe_3d", fidelity.SETTINGS[6], 95).difference


def test_a_difference_is_found_and_told():
    pair = fidelity.Pair("pong")
    pair.ale.setRAM(3, int(pair.ale.getRAM()[3]) ^ 1)
    assert pair.difference().startswith("RAM 83: ")
    assert "frame 0" in fidelity.play(pair, fidelity.noops(), 1).difference


# ---- States ----


@pytest.mark.parametrize("game", [*FEW, "pitfall2"])
def test_a_state_of_a_console_has_one_future(game: str):
    console = _console.Console(build_game(game, EnvOptions(picture="palette", screen_size=0)))
    actions = mixed_actions(4)
    for _ in range(random.Random(game).randrange(30, 200)):
        console.act(next(actions))
    state, ahead = console.state(), list(itertools.islice(actions, 60))
    futures = []
    for _ in range(2):
        console.set_state(state)
        assert console.state() == state
        rewards = [console.act(action) for action in ahead]
        futures.append((rewards, console.lives, console.over, console.state()))
        console.reset(game_facts(game).modes[0], 0)
    assert futures[0] == futures[1]


@pytest.mark.parametrize("rng", ["counter", "ale"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, SAME])
def test_a_state_of_a_vector_has_one_future(rng: str, mode: AutoresetMode):
    options = {"rng": rng, "mode": mode, "sticky": 0.25, "max_frames": 160}
    env, other = vector("breakout", **options), vector("breakout", **options)
    env.reset(seed=3)
    digest(env, 33)
    state = env.get_state()
    future = digest(env, 50, seed=1)
    other.reset(seed=9)
    digest(other, 7)
    for one in (env, other):
        observations = one.set_state(state)
        assert np.array_equal(observations[1], one.set_row_state(1, one.row_state(1)))
        assert digest(one, 50, seed=1) == future


def test_a_row_goes_on_from_the_state_of_another_row():
    env = vector("seaquest", 2, sticky=0.25)
    env.reset(seed=5)
    digest(env, 20)
    env.set_row_state(1, env.row_state(0))
    for action in np.random.default_rng(0).integers(18, size=40):
        observations, rewards, *_ = env.step(np.array([action, action]))
        assert np.array_equal(observations[0], observations[1]) and rewards[0] == rewards[1]


def wrong_states(good: bytes) -> dict[str, bytes]:
    noise = np.random.default_rng(0)
    stranger = vector("freeway", 1)
    stranger.reset(seed=0)
    with_objects = vector("pong", 1, picture="objects", screen_size=0)
    with_objects.reset(seed=0)
    return {
        "empty": b"",
        "cut": good[:-1],
        "a header": good[:16],
        "too long": good + b"\0",
        "noise": noise.bytes(len(good)),
        "noise in the console": good[:16] + noise.bytes(400) + good[416:],
        "another game's": stranger.row_state(0),
        "with other options": with_objects.row_state(0),
    }


def wrong_vector_states(good: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    second_row_spoilt = good["rows"].copy()
    second_row_spoilt[good["sizes"][0]] ^= 1
    return {
        "empty": {},
        "of one environment": {**good, "sizes": good["sizes"][:1]},
        "cut": {**good, "rows": good["rows"][:-1]},
        "with a spoilt row": {**good, "rows": second_row_spoilt},
        "with actions of others": {**good, "actions": np.zeros(7, np.int64)},
    }


@pytest.mark.parametrize("rng", ["counter", "ale"])
def test_a_wrong_state_is_refused_and_harms_nobody(rng: str):
    env, twin = (vector("pong", 2, rng=rng, sticky=0.25) for _ in range(2))
    for one in (env, twin):
        one.reset(seed=1)
    earlier, earlier_row = env.get_state(), env.row_state(0)
    for one in (env, twin):
        digest(one, 5)
    for name, text in wrong_states(earlier_row).items():
        with pytest.raises(EightBitError, match="this is no state of these games"):
            env.set_row_state(0, text)
            pytest.fail(f"{name}: accepted")
    for name, spoilt in wrong_vector_states(earlier).items():
        with pytest.raises(EightBitError, match="state"):
            env.set_state(spoilt)
            pytest.fail(f"{name}: accepted")
    assert digest(env, 30) == digest(twin, 30)


def test_spoiled_bytes_of_a_state_are_refused_or_played():
    console = _console.Console(build_game("pitfall2", EnvOptions(picture="palette", screen_size=0)))
    good, generator = console.state(), random.Random(0)
    refused = 0
    for _ in range(150):
        spoilt = bytearray(good)
        for _ in range(generator.randint(1, 4)):
            spoilt[generator.randrange(len(good) // 50)] ^= 1 << generator.randrange(8)
        try:
            console.set_state(bytes(spoilt))
        except _console.StateError:
            refused += 1
            continue
        for _ in range(3):
            console.act(generator.randrange(18), generator.random() < 0.5)
    assert 0 < refused < 150
    console.set_state(good)
    assert console.state() == good


# ---- Actions ----


@pytest.mark.parametrize(
    "actions",
    [
        np.array([0]),
        np.array([0, 1, 2]),
        np.array([[0, 1]]),
        np.array([0.0, 1.0]),
        np.array([True, False]),
        np.array([0, 18]),
        np.array([-1, 0]),
        np.array([0, 2**63], np.uint64),
        np.array(["0", "1"]),
        0,
        None,
    ],
    ids=str,
)
def test_wrong_actions_are_refused_and_harm_nobody(actions: Any):
    env, twin = (vector("seaquest", 2) for _ in range(2))
    for one in (env, twin):
        one.reset(seed=1)
    for verb in (env.step, env.send):
        with pytest.raises(EightBitError, match="actions"):
            verb(actions)
    assert digest(env, 5) == digest(twin, 5)


def test_a_single_console_refuses_actions_that_it_has_not():
    console = _console.Console(build_game("pong", EnvOptions(picture="palette", screen_size=0)))
    before = console.state()
    for action in (-1, 18, 2**31 - 1):
        with pytest.raises(ValueError, match="actions are 0 to 17"):
            console.act(action)
    for action in (2**40, 1.5, None, "1"):
        with pytest.raises(TypeError):
            console.act(action)
    assert console.state() == before


# ---- Seeds, threads, processes ----


@pytest.mark.parametrize("rng", ["counter", "ale"])
def test_seeds_alone_tell_trajectories_apart(rng: str):
    def of(threads: int, seed: int) -> str:
        env = vector("breakout", 4, rng=rng, num_threads=threads, sticky=0.25, max_frames=120)
        env.reset(seed=seed)
        return digest(env, 40)

    assert of(1, 7) == of(3, 7) == of(4, 7)
    assert of(1, 7) != of(1, 8)
    rows = vector("breakout", 4, rng=rng, sticky=0.25)
    rows.reset(seed=7)
    for _ in range(30):
        observations = rows.step(np.array([2, 2, 2, 2]))[0]
    assert len({row.tobytes() for row in observations}) > 1


@pytest.mark.parametrize("rng", ["counter", "ale"])
def test_a_seed_begins_all_anew_whatever_was_played_before(rng: str):
    env = vector(["pong", "tennis"], 4, rng=rng, full_action_set=True, sticky=0.25)
    env.reset(seed=7)
    first = digest(env, 20)
    env.reset(seed=8)
    assert digest(env, 20) != first
    env.reset(seed=7)
    assert digest(env, 20) == first


def test_games_of_counted_numbers_know_nothing_of_the_games_before():
    """Each begins as on a console that was just switched on, where ALE's RAM lives on."""
    fresh = vector("berzerk", 40, noop_max=0, fire=False)
    fresh.reset(seed=0)
    starts = {fresh.pieces(row)["ram"].tobytes() for row in range(40)}
    env = vector("berzerk", 2, noop_max=0, fire=False, mode=DISABLED)
    env.reset(seed=50)
    seen = set()
    for _ in range(15):
        digest(env, 20)
        env.reset()
        seen |= {env.pieces(row)["ram"].tobytes() for row in range(2)}
    assert len(seen) > 1 and seen <= starts


def test_two_vectors_in_two_threads_do_not_disturb_each_other():
    def play(seed: int) -> str:
        env = vector("seaquest", 2, num_threads=2)
        env.reset(seed=seed)
        return digest(env, 60)

    alone = [play(1), play(2)]
    together: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: together.update({seed: play(seed)}))
        for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[1], together[2]] == alone


def test_threads_that_share_an_environment_are_told_so_and_harm_nothing():
    env, alone = (vector("pong", 4, num_threads=3) for _ in range(2))
    for one in (env, alone):
        one.reset(seed=1)
    told: list[str] = []

    def use(number: int) -> None:
        for _ in range(150):
            try:
                if number == 2:
                    env.row_state(0)
                elif number == 3:
                    env.set_row_state(1, env.row_state(0))
                else:
                    env.step(np.zeros(4, np.int64))
            except EightBitError as error:
                told.append(str(error))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any("another thread is using these environments" in text for text in told)
    for one in (env, alone):
        one.reset(seed=7)
    assert digest(env, 20) == digest(alone, 20)


def test_the_extension_refuses_what_is_no_game():
    with pytest.raises(ValueError, match="a game is missing"):
        _console.Console(None)  # type: ignore[arg-type]
    game = build_game("pong", EnvOptions())
    options = {
        "frame_stack": 4,
        "threads": 1,
        "autoreset": 0,
        "ale_random": False,
        "records": False,
    }
    with pytest.raises(ValueError, match="a game is missing"):
        _console.Engine([None], [0], shows_objects=False, **options)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="objects are not drawn"):
        _console.Engine([game], [0], shows_objects=True, **options)


def in_a_fork(work: Callable[[], str]) -> str:
    """Returns what `work` returns in a forked child; fails where that takes ten seconds."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with warnings.catch_warnings():
        # Python 3.12 and later warn of forks in a process with threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = context.Process(target=lambda: sender.send(work()))
        child.start()
    try:
        assert receiver.poll(10), "the child hangs, or ended without an answer"
        return receiver.recv()
    finally:
        child.kill()
        child.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked on this system")
@pytest.mark.parametrize("closes", [False, True])
def test_a_forked_child_goes_on_by_itself(closes: bool):
    env = vector("breakout", 4, num_threads=3)
    env.reset(seed=2)
    digest(env, 5)

    def work() -> str:
        if closes:
            env.close()
            return "closed"
        found = digest(env, 20)
        other = vector("pong", 2, num_threads=2)
        other.reset(seed=1)
        digest(other, 3)
        other.close()
        env.close()
        return found

    there = in_a_fork(work)
    here = digest(env, 20)
    assert there == ("closed" if closes else here)


def test_a_spawned_child_plays_as_ale_does():
    job = fidelity.Job("pong", "vectors", 0, 10)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(fidelity.run_job, job).result() == fidelity.run_job(job)


# ---- Planes of objects ----

BLANK_ROWS = 20


def planes_rom() -> bytes:
    """A program that shows both players, a missile and a playfield, below some blanked rows."""
    code = bytearray.fromhex("78 D8 A2 FF 9A")
    top = 0xF000 + len(code)

    def store(register: int, value: int) -> None:
        code.extend((0xA9, value, 0x85, register))

    def wait_lines(lines: int) -> None:
        code.extend((0xA2, lines))
        code.extend((0x85, 0x02, 0xCA, 0xD0, 0xFB))  # WSYNC, DEX, BNE

    store(0x00, 2)  # VSYNC
    wait_lines(3)
    store(0x01, 2)  # VBLANK
    store(0x00, 0)
    for register, value in ((0x06, 0x44), (0x07, 0x88), (0x08, 0xC8), (0x09, 0x0E)):
        store(register, value)  # colours of players, playfield and background
    for register, value in ((0x0D, 0x10), (0x1B, 0xFF), (0x1C, 0xFF), (0x1D, 0x02)):
        store(register, value)  # leftmost playfield, players, missile 0
    code.extend((0x85, 0x02, *[0xEA] * 18, 0x85, 0x10, 0xEA, 0x85, 0x11, 0xEA, 0xEA, 0x85, 0x12))
    wait_lines(34 + BLANK_ROWS - 1)
    store(0x01, 0)
    wait_lines(200)
    code.extend((0x4C, top & 255, top >> 8))
    code.extend(bytes(0x1000 - len(code)))
    code[0xFFC:] = bytes((0x00, 0xF0)) * 2
    return bytes(code)


def test_planes_of_objects_tell_what_was_drawn_and_nothing_while_the_beam_is_blanked(
    tmp_path: Path,
):
    rom = tmp_path / "seaquest.bin"
    rom.write_bytes(planes_rom())
    options = EnvOptions(picture="objects", screen_size=0, roms=str(rom))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is another version")
        console = _console.Console(build_game("seaquest", options))
    for _ in range(3):
        console.act(0)
    pieces = console.pieces()
    objects, screen = pieces["objects"], pieces["screen"]
    lit = np.flatnonzero(objects.any(axis=1))
    assert abs(int(lit[0]) - BLANK_ROWS) <= 2
    blank, shown = slice(0, int(lit[0]) - 1), int(lit[0]) + 5
    assert not objects[blank].any() and not screen[blank].any()
    row, colours = objects[shown], screen[shown]
    widths = {bit: int((row >> bit & 1).sum()) for bit in range(6)}
    assert widths == {0: 8, 1: 8, 2: 1, 3: 0, 4: 0, 5: 8}
    assert set(colours[row == 1]) == {0x44} and set(colours[row == 2]) == {0x88}
    assert set(colours[row == 32]) == {0xC8} and set(colours[row == 0]) == {0x0E}


@pytest.mark.parametrize("game", ["pong", "breakout", "freeway", "boxing", "seaquest"])
def test_what_differs_from_the_background_is_an_object(game: str):
    options = EnvOptions(picture="objects", screen_size=0)
    console = _console.Console(build_game(game, options))
    actions = mixed_actions(6)
    for _ in range(200):
        console.act(next(actions))
    pieces = console.pieces()
    objects, screen = pieces["objects"], pieces["screen"]
    assert objects.shape == screen.shape and objects.any() and objects.max() < 64
    # Pixels 0 to 7 may be blanked.
    for row in range(len(screen)):
        background = set(screen[row, 8:][objects[row, 8:] == 0])
        assert len(background) <= 1, f"row {row}: {background} without an object"
