"""Protocols are the table of the docs; names in any spelling mean one game."""

from __future__ import annotations

import dataclasses
import sys
import warnings

import gymnasium
import pytest
from ale_py import ALEInterface, roms

from eightbit.envs import (
    PROTOCOLS,
    EnvOptions,
    Protocol,
    env_options,
    game_facts,
    list_games,
    make_vec,
    parse_game,
)
from eightbit.envs.single import AtariEnv
from eightbit.errors import UnknownNameError, UsageError


@pytest.mark.parametrize(
    ("protocol", "sticky", "noops", "life_loss", "all_actions", "cap", "training_score"),
    [
        ("mnih2015", 0.0, 30, True, False, 18_000, False),
        ("machado2018", 0.25, 0, False, True, 18_000, True),
        ("dopamine", 0.25, 0, False, False, 108_000, True),
        ("zoo", 0.0, 30, True, False, 108_000, False),
        ("atari100k", 0.0, 30, True, False, 108_000, False),
    ],
)
def test_a_protocol_fixes_the_semantics(
    protocol, sticky, noops, life_loss, all_actions, cap, training_score
):
    training = env_options(protocol, training=True)
    assert (training.sticky, training.noop_max) == (sticky, noops)
    assert (training.life_loss, training.full_action_set) == (life_loss, all_actions)
    assert training.max_frames == cap
    assert PROTOCOLS[Protocol(protocol)].score_from_training == training_score
    evaluation = env_options(protocol, training=False)
    assert evaluation == dataclasses.replace(training, life_loss=False)


def test_every_protocol_is_described_and_mnih2015_is_the_default():
    assert set(PROTOCOLS) == set(Protocol)
    assert EnvOptions() == env_options(Protocol.MNIH2015, training=True)
    assert PROTOCOLS[Protocol.MNIH2015].eval_episodes == 30
    assert PROTOCOLS[Protocol.MNIH2015].eval_epsilon == 0.05
    assert PROTOCOLS[Protocol.DOPAMINE].eval_epsilon == 0.001
    # rl-zoo3 plays Atari with the exploration that its DQN ends training with.
    assert PROTOCOLS[Protocol.ZOO].eval_epsilon == 0.01
    assert PROTOCOLS[Protocol.ATARI100K].train_frames == 400_000
    assert PROTOCOLS[Protocol.ATARI100K].eval_episodes == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sticky": 1.5}, "from 0 to 1"),
        ({"noop_max": -1}, "0 or more"),
        ({"max_frames": 0}, "give 1 or more"),
        ({"frame_skip": 0}, "give 1 or more"),
        ({"screen_size": 4}, "8 to 160 pixels"),
        ({"preprocessing": "gym"}, "'ale' or 'sb3'"),
        ({"frameskip": 4}, "did you mean frame_skip"),
        ({"seed": 1}, r"give it to reset\(seed=...\)"),
        ({"protocol": "nature"}, "known are mnih2015"),
        ({"num_envs": 0}, "give 1 or more"),
        ({"device": "tpu"}, "on device 'cpu' or 'cuda', not on 'tpu'"),
        ({"device": "cuda", "backend": "ale"}, "ALE runs on the CPU"),
        ({"device": "cuda", "preprocessing": "sb3"}, "runs on device 'cpu' only"),
        ({"backend": "stella"}, "known are console and ale"),
        ({"backend": "ale", "mode": 1}, "mode needs the console"),
        ({"backend": "ale", "screen_size": 0}, "screen_size=0 needs the console"),
        ({"mode": 9}, "pong has no mode 9; its modes are 0, 1"),
        ({"difficulty": 4}, "pong has no difficulty 4; its difficulties are 0, 1, 2, 3"),
        ({"picture": "colour"}, "give one of 'grey', 'rgb', 'palette', 'objects'"),
        ({"picture": "objects"}, "never resized; give screen_size=0"),
        ({"rng": "numpy"}, "give one of 'counter', 'ale'"),
        ({"roms": "/nowhere"}, "cannot read the ROM of pong, /nowhere"),
    ],
)
def test_a_bad_option_says_what_to_write(changes, message):
    arguments = {"num_envs": 2, **changes}
    with pytest.raises(UsageError, match=message):
        make_vec("pong", **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda"}, "leave the options of Atari out"),
        ({"sticky": 0.25}, "leave the options of Atari out"),
        ({"num_envs": 0}, "give 1 or more"),
        ({"game": "gym:CartPol-v1"}, "did you mean CartPole"),
        ({"game": "gym:Pendulum-v1"}, "choose one with discrete actions"),
        ({"game": "gym:LunarLander-v3"}, "cannot be made: .*; mend that and try again"),
    ],
)
def test_other_environments_are_refused_in_one_sentence(changes, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)  # as where it is not installed
    arguments = {"game": "gym:CartPole-v1", "num_envs": 2, **changes}
    with pytest.raises(UsageError, match=message) as found:
        make_vec(**arguments)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("env_id", ["eightbit/Pong-v5", "eightbit/Catch-v0"])
def test_gymnasium_makes_one_or_many_with_the_same_words(env_id):
    words = {"protocol": "dopamine", "training": False, "frame_stack": 2}
    one, many = gymnasium.make(env_id, **words), gymnasium.make_vec(env_id, num_envs=1, **words)
    assert one.unwrapped.options == many.unwrapped.options
    assert many.unwrapped.options.sticky == 0.25 and many.unwrapped.options.frame_stack == 2
    with pytest.raises(UsageError, match="known are mnih2015"):
        gymnasium.make(env_id, protocol="nature")


@pytest.mark.parametrize(
    "text", ["pong", "Pong", "PONG", "ALE/Pong-v5", "PongNoFrameskip-v4", "eightbit/Pong-v5"]
)
def test_any_spelling_means_the_game(text):
    assert parse_game(text).name == "pong"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MsPacman", "ms_pacman"),
        ("ms-pacman", "ms_pacman"),
        ("Ms. Pacman", "ms_pacman"),
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("TicTacToe3D", "tic_tac_toe_3d"),
        ("PongDeterministic-v4", "pong"),
        ("Pong-ram-v4", "pong"),
        ("eightbit/Catch-v0", "catch"),
    ],
)
def test_ids_and_loose_spellings_are_understood(text, name):
    assert parse_game(text).name == name


def test_every_canonical_name_and_id_leads_back_to_itself():
    assert len(list_games()) == 104
    for name in list_games():
        facts = game_facts(name)
        assert facts.name == parse_game(facts.id).name == parse_game(f"ALE/{facts.id}-v5").name
        assert facts.frame_rate in (50, 60)


def test_facts_agree_with_ale():
    for name in list_games()[::13]:
        ale = ALEInterface()
        ale.loadROM(roms.get_rom_path(name))
        facts = game_facts(name)
        assert tuple(action.name for action in ale.getMinimalActionSet()) == facts.actions
        assert ale.getScreenDims() == (facts.height, 160)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ALE/Pong-v5", ["sticky actions 0 (that id: 0.25)", "18,000 frames (that id: 108,000)"]),
        ("PongNoFrameskip-v4", ["18,000 frames"]),
        ("PongNoFrameskip-v0", ["that id: 0.25"]),
        ("Pong-v4", ["frame skip 4 (that id: 2 to 4 at random)"]),
        ("Pong-ram-v5", ["pixels"]),
    ],
)
def test_a_spelling_with_other_semantics_is_answered_in_one_line(text, parts):
    note = parse_game(text).note
    assert "\n" not in note and note.startswith(text)
    for part in parts:
        assert part in note
    with pytest.warns(UserWarning, match="names the game only"):
        make_vec(text, 1).close()


def test_a_spelling_whose_semantics_hold_needs_no_note():
    assert parse_game("pong").note == ""
    assert parse_game("eightbit/Pong-v5").note == ""
    assert parse_game("PongNoFrameskip-v4", env_options("zoo", training=True)).note == ""
    assert parse_game("ALE/Pong-v5", env_options("dopamine", training=True)).note == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_vec("Pong", 1).close()


@pytest.mark.parametrize("game", ["combat", "Joust", "maze_craze", "ALE/Warlords-v5"])
@pytest.mark.parametrize("make", [lambda game: make_vec(game, 1), AtariEnv])
def test_a_game_that_would_end_the_process_is_refused(game, make):
    with pytest.raises(UsageError, match="no single-player settings") as found:
        make(game)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("typo", "nearest"), [("pongg", "pong"), ("brekout", "breakout"), ("space_invader", "space_")]
)
def test_a_typo_is_answered_with_the_nearest_names(typo, nearest):
    with pytest.raises(UnknownNameError, match=f"did you mean .*{nearest}"):
        make_vec(typo, 1)
    with pytest.raises(UnknownNameError):
        parse_game("nosuch/Pong-v5")
