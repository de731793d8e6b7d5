"""Playing by hand: keys become actions, frames come in time, an agent hands over and goes on."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Iterable, Iterator

import av
import cv2
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from eightbit.cli import main
from eightbit.envs.console import is_built
from eightbit.envs.console.cartridges import ACTION_NAMES, grey_palette, rgb_palette
from eightbit.envs.console.vector import ConsoleVectorEnv
from eightbit.envs.options import EnvOptions, Protocol, env_options
from eightbit.envs.sound import SoundChip
from eightbit.errors import UsageError
from eightbit.evaluate import play
from eightbit.evaluate.cabinet import Cabinet
from eightbit.evaluate.keyboard import Command, Controls, Keyboard
from eightbit.evaluate.pilot import Pilot
from eightbit.evaluate.play import Shown, Status, compose, play_frames, scaled
from eightbit.evaluate.player import Player
from eightbit.evaluate.window import Pacer
from eightbit.train.runs import RunFolder

pytestmark = pytest.mark.skipif(not is_built(), reason="the console was not compiled")
needs_pygame = pytest.mark.skipif(
    importlib.util.find_spec("pygame") is None, reason="pygame-ce is not installed"
)
PCM = 735  # samples of a frame at 60 a second


def script(*parts: tuple[int, str] | Command) -> Iterator[Controls]:
    """Holds actions for some frames; a command is asked for on a frame of its own."""
    for part in parts:
        if isinstance(part, Command):
            yield Controls(commands=(part,))
        else:
            yield from [Controls(part[1])] * part[0]
    yield Controls(commands=(Command.QUIT,))


def played(cabinet: Cabinet, controls: Iterable[Controls], pilot=None, seed=0) -> list[Shown]:
    return list(play_frames(cabinet, iter(controls).__next__, pilot, seed))


# -------------------------------------------------------------------------------- the keys

STICK = {"up": "UP", "down": "DOWN", "right": "RIGHT", "left": "LEFT", "space": "FIRE"}


@pytest.mark.parametrize("letters", [False, True])
def test_keys_together_give_each_of_the_18_actions(letters):
    wasd = {"up": "w", "down": "s", "right": "d", "left": "a", "space": "space"}
    seen = set()
    for vertical in (None, "up", "down"):
        for horizontal in (None, "right", "left"):
            for fire in (None, "space"):
                keyboard = Keyboard()
                keys = [key for key in (fire, horizontal, vertical) if key]
                for key in keys:
                    keyboard.press(wasd[key] if letters else key)
                action = keyboard.read().action
                assert action == "".join(STICK[key] for key in reversed(keys)) or not keys
                seen.add(action)
    assert seen == set(ACTION_NAMES)


def test_of_two_directions_the_later_one_counts_until_it_is_let_go():
    keyboard = Keyboard()
    keyboard.press("left")
    keyboard.press("right")
    assert keyboard.read().action == "RIGHT"
    keyboard.release("right")
    assert [keyboard.read().action for _ in range(2)] == ["RIGHT", "LEFT"]  # a frame later


def test_a_key_that_is_only_tapped_is_held_for_one_frame():
    keyboard = Keyboard()
    keyboard.press("space")
    keyboard.release("space")
    assert [keyboard.read().action for _ in range(2)] == ["FIRE", "NOOP"]
    keyboard.press("up")
    keyboard.release("up")
    keyboard.press("up")  # twice within a frame: the second time it is held
    assert [keyboard.read().action for _ in range(2)] == ["UP", "UP"]


def test_a_window_without_the_keyboard_holds_no_key():
    keyboard = Keyboard()
    keyboard.press("w")
    keyboard.read()
    keyboard.release_all()
    keyboard.read()
    assert keyboard.read() == Controls("NOOP")


def test_commands_are_asked_for_once_and_other_keys_mean_nothing():
    keyboard = Keyboard()
    for key in ("p", "f1", "+", "=", "-", "f12", "q", "left shift"):
        keyboard.press(key)
    wanted = (Command.PAUSE, Command.HELP, *[Command.LOUDER] * 2, Command.QUIETER)
    assert keyboard.read() == Controls("NOOP", (*wanted, Command.SCREENSHOT))
    assert keyboard.read() == Controls("NOOP")


# -------------------------------------------------------------------------- frame by frame


def console(game: str, **changes) -> ConsoleVectorEnv:
    """A console that steps single frames and tells their sound."""
    told = {"frame_skip": 1, "frame_stack": 1, "screen_size": 0, "picture": "palette"}
    told |= {"fire": False, "noop_max": 0, "full_action_set": True, "num_threads": 1}
    options = EnvOptions(**{**told, **changes})
    return ConsoleVectorEnv(game, 1, options, AutoresetMode.DISABLED, record_frames=True)


def test_picture_sound_score_and_lives_are_those_of_the_console():
    shown = played(Cabinet("breakout"), script((3, "FIRE"), (247, "RIGHT")), seed=5)
    assert len(shown) == 250 and not shown[0].played and len(shown[0].pcm) == 0
    env, chip, score = console("breakout"), SoundChip(60), 0.0
    env.reset(seed=5)
    for index, one in enumerate(shown[1:], start=1):
        action = "FIRE" if index < 3 else "RIGHT"
        observations, rewards, _, _, infos = env.step(np.array([ACTION_NAMES.index(action)]))
        score += float(rewards[0])
        assert np.array_equal(one.picture, rgb_palette(60)[observations[0, 0]])
        assert np.array_equal(one.pcm, chip.render(env.recorded(0)[1])) and len(one.pcm) == PCM
        assert (one.status.score, one.status.lives) == (score, int(infos["lives"][0]))
        assert one.played and not one.status.over
    assert any(one.pcm.any() for one in shown) and shown[-1].status.lives == 4
    assert shown[-1].status.title("breakout").startswith("breakout   score 0   lives 4   ")


def test_left_and_right_turn_the_paddle():
    def place(action: str) -> float:
        picture = played(Cabinet("breakout"), script((60, action)))[-1].picture
        row = picture[191, 8:152].astype(int)  # between the walls there is the bat alone
        return float(np.flatnonzero(row.sum(axis=1)).mean())

    assert place("LEFT") < place("NOOP") - 20 < place("RIGHT") - 40


def test_a_game_that_forbids_the_button_does_without_it():
    cabinet = Cabinet("skiing")
    ways = [
        played(cabinet, script((50, action)))[-1].picture for action in ("LEFTFIRE", "LEFT", "FIRE")
    ]
    assert np.array_equal(ways[0], ways[1]) and not np.array_equal(ways[1], ways[2])


def test_pause_and_help_stop_the_game_and_the_sound():
    ask = (Command.PAUSE, (5, "DOWN"), Command.HELP, Command.PAUSE, (3, "DOWN"), Command.HELP)
    stopped = played(Cabinet("pong"), script((30, "UP"), *ask, (40, "UP")))
    through = played(Cabinet("pong"), script((71, "UP")))  # both end on the same frame
    waits = [one for one in stopped if not one.played][1:]
    assert len(waits) == 11 and all(len(one.pcm) == 0 for one in waits)
    frames = [one.picture for one in stopped if one.played]
    # The frame on which the help was closed was played with the stick at rest.
    assert len(frames) == len(through) - 1 and np.array_equal(frames[28], through[29].picture)
    assert np.array_equal(waits[0].picture, frames[28])
    assert [one.status.paused for one in waits] == [True] * 7 + [False] * 4


def test_reset_begins_anew_and_a_seed_repeats_the_game():
    cabinet = Cabinet("pong")
    shown = played(cabinet, script((90, "UP"), Command.RESET, (89, "UP")), seed=3)
    again = played(cabinet, script((90, "UP")), seed=3)
    pictures = [one.picture for one in shown]
    assert np.array_equal(pictures[:90], [one.picture for one in again])
    assert np.array_equal(pictures[90], pictures[0]) and not shown[90].played
    assert shown[90].status.score == 0.0


def test_volume_and_mute_are_the_loudspeakers_matter():
    ask = [Command.LOUDER] * 3 + [Command.MUTE, Command.QUIETER]
    status = [one.status for one in played(Cabinet("pong"), script(*ask, *[Command.QUIETER] * 11))]
    assert [one.volume for one in status[:5]] == [9, 10, 10, 10, 9]
    assert [one.loudness for one in status[2:5]] == [1.0, 0.0, 0.81]
    assert status[-1].loudness == 0.0 and not status[-1].muted


def test_the_picture_stays_when_the_game_is_over_until_a_new_one_is_wanted():
    cabinet = Cabinet("breakout")
    shown = played(cabinet, script((700, "FIRE"), Command.RESET, (1, "FIRE")))
    over = [one for one in shown if one.status.over]
    assert shown[699].status.over and len(over) > 150 and over[0].played
    assert not any(one.played for one in over[1:]) and over[-1].status.lives == 0
    assert "game over" in over[0].status.title("breakout")
    assert not shown[700].status.over and shown[-1].played


# ------------------------------------------------------------------------------- the agent


class Moody:
    """An agent whose choice depends on every pixel that it sees, and that keeps them."""

    def __init__(self, num_actions: int):
        self.num_actions = num_actions
        self.seen: list[np.ndarray] = []

    def q_values(self, observations):
        self.seen.append(observations[0].copy())
        number = int((observations[0].astype(np.int64) % 97).sum())
        return np.eye(self.num_actions, dtype=np.float32)[[number % self.num_actions]]


def player_of(agent, game: str, options: EnvOptions, tmp_path) -> Player:
    folder = RunFolder(tmp_path, {"run": {"game": game}})
    return Player(agent, game, Protocol.MNIH2015, options, folder, "dqn fast", 200, 800)


@pytest.mark.parametrize(
    ("game", "changes"),
    [
        ("breakout", {}),
        ("pong", {"sticky": 0.25, "fire": False}),
        ("pong", {"frame_skip": 3, "max_pool": False, "frame_stack": 2}),
        ("air_raid", {"screen_size": 0, "full_action_set": True}),
    ],
)
def test_an_agent_sees_and_does_what_it_does_in_its_own_environment(game, changes, tmp_path):
    options = env_options(Protocol.MNIH2015, training=False, noop_max=0, **changes)
    env = ConsoleVectorEnv(game, 1, options, AutoresetMode.DISABLED)
    theirs = Moody(int(env.single_action_space.n))
    observation, score = env.reset(seed=11)[0], 0.0
    for _ in range(100):
        action = int(theirs.q_values(observation).argmax())
        observation, rewards, terminated, _, _ = env.step(np.array([action]))
        score += float(rewards[0])
        if terminated[0]:
            break
    ours = Moody(theirs.num_actions)
    pilot = Pilot(player_of(ours, game, options, tmp_path), epsilon=0.0)
    cabinet = Cabinet(game, sticky=options.sticky, sound=False)
    frames = len(theirs.seen) * options.frame_skip
    shown = played(cabinet, script((frames + options.fire, "NOOP")), pilot, seed=11)
    assert np.array_equal(ours.seen, theirs.seen[: len(ours.seen)])
    assert len(ours.seen) >= len(theirs.seen) - 1 > 50
    assert shown[-1].status.score == score or game != "pong"


def test_noops_of_an_agent_are_as_many_as_its_protocol_says(tmp_path):
    options = env_options(Protocol.MNIH2015, training=False, noop_max=5)
    counts = set()
    for seed in range(40):
        agent = Moody(6)
        pilot = Pilot(player_of(agent, "pong", options, tmp_path), seed=seed)
        cabinet, frames = Cabinet("pong", sound=False), 0
        pilot.begin(cabinet)
        while not agent.seen:
            assert pilot.action == ("FIRE" if frames == 0 else "NOOP")
            cabinet.play(pilot.action)
            pilot.see(cabinet)
            frames += 1
        counts.add(frames)
    assert counts == {1, 2, 3, 4, 5}  # FIRE is one of them


class Diary:
    """A cabinet that writes down what is played."""

    def __init__(self, game: str):
        self.cabinet = Cabinet(game, sound=False)
        self.actions: list[str] = []

    def __getattr__(self, name):
        return getattr(self.cabinet, name)

    def play(self, action):
        self.actions.append(action)
        return self.cabinet.play(action)


class Firm:
    """An agent that always wants one action."""

    num_actions = 6

    def __init__(self, action: int):
        self.values = np.eye(self.num_actions, dtype=np.float32)[[action]]
        self.seen: list[np.ndarray] = []

    def q_values(self, observations):
        self.seen.append(observations[0].copy())
        return self.values


def test_a_person_takes_over_while_a_key_is_held_or_until_t_and_the_agent_goes_on(tmp_path):
    options = env_options(Protocol.MNIH2015, training=False, noop_max=0, fire=False)
    agent, cabinet = Firm(2), Diary("pong")  # RIGHT moves the bat up
    pilot = Pilot(player_of(agent, "pong", options, tmp_path), epsilon=0.0)
    parts = [(9, "NOOP"), (6, "LEFT"), (4, "NOOP"), Command.TAKE_OVER, (3, "NOOP"), (2, "LEFT")]
    shown = played(cabinet, script(*parts, Command.TAKE_OVER, (3, "NOOP")), pilot)
    who = ["RIGHT"] * 8 + ["LEFT"] * 6 + ["RIGHT"] * 4 + ["NOOP"] * 4 + ["LEFT"] * 2 + ["RIGHT"] * 4
    assert cabinet.actions == who
    told = [one.status.title("pong").split("   ")[2] for one in shown]
    assert told[1:9] == ["agent plays"] * 8 and told[9:15] == ["you play"] * 6
    assert told[19:25] == ["you play until T"] * 6 and told[25] == "agent plays"
    # It has seen what was played, whoever played it.
    env = console("pong")
    screens = [env.reset(seed=0)[0][0, 0]]
    for name in who:
        screens.append(env.step(np.array([ACTION_NAMES.index(name)]))[0][0, 0])
    grey = grey_palette(60)[np.array(screens)]
    steps = [grey[0], *(np.maximum(grey[k - 1], grey[k]) for k in range(4, len(grey), 4))]
    small = [cv2.resize(step, (84, 84), interpolation=cv2.INTER_AREA) for step in steps]
    assert len(agent.seen) == len(small) == 8
    assert all(np.array_equal(agent.seen[k], small[k - 3 : k + 1]) for k in range(3, 8))


def test_an_agent_begins_a_new_game_two_seconds_after_the_last(tmp_path):
    options = env_options(Protocol.MNIH2015, training=False, noop_max=0)
    agent = Firm(1)
    agent.num_actions, agent.values = 4, np.eye(4, dtype=np.float32)[[1]]
    pilot = Pilot(player_of(agent, "breakout", options, tmp_path), epsilon=0.0)
    shown = played(Cabinet("breakout", sound=False), script((700, "NOOP")), pilot)
    over = [index for index, one in enumerate(shown) if one.status.over]
    assert over == list(range(over[0], over[0] + 121))
    assert shown[over[-1] + 1].status == shown[0].status and shown[over[-1] + 2].played


def test_an_agent_that_sees_other_screens_is_sent_elsewhere(tmp_path):
    options = env_options(Protocol.MNIH2015, training=False, preprocessing="sb3")
    with pytest.raises(UsageError, match="write 'eightbit watch"):
        Pilot(player_of(Moody(6), "pong", options, tmp_path))


# -------------------------------------------------------------------------------- pictures


def shown_as(status: Status) -> Shown:
    picture = np.random.default_rng(0).integers(0, 256, (210, 160, 3)).astype(np.uint8)
    return Shown(picture, np.zeros(0, np.int16), status, True, False)


def test_pixels_are_sharp_and_twice_as_wide_as_high():
    one = shown_as(Status())
    picture = compose(one, 3)
    assert picture.shape == (630, 960, 3)
    blocks = picture.reshape(210, 3, 160, 6, 3)
    assert (blocks == one.picture[:, None, :, None]).all()


def test_words_stand_over_the_dimmed_picture_where_the_game_waits():
    plain = compose(shown_as(Status()), 2)
    states = [{"helping": True}, {"paused": True}, {"over": True}, {"helping": True, "agent": True}]
    pictures = [compose(shown_as(Status(**state)), 2) for state in states]
    for picture in pictures:
        assert picture.mean() < plain.mean() / 2 and picture.shape == plain.shape
        assert (picture[:10] == (plain[:10] * 0.3).astype(np.uint8)).all()
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_a_saved_picture_takes_the_next_free_name(tmp_path):
    picture = scaled(shown_as(Status()).picture, 1)
    paths = [play.save_picture(picture, "pong", tmp_path) for _ in range(2)]
    assert [path.name for path in paths] == ["pong-1.png", "pong-2.png"]
    assert np.array_equal(cv2.imread(str(paths[1]))[..., ::-1], picture)


# -------------------------------------------------------------------------- the real window


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """SDL draws and plays to nowhere, and `play` takes that for a display."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    monkeypatch.setattr(play, "require_window", lambda: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def act_at(monkeypatch, acts: dict[int, tuple[str, ...]]) -> list[float]:
    """Posts keys to pygame before the frames of these numbers; returns the times of all frames."""
    import pygame

    times: list[float] = []

    class Acting:
        def __init__(self, rate):
            self.pacer = Pacer(rate)

        def wait(self):
            self.pacer.wait()
            times.append(time.perf_counter())
            for key in acts.get(len(times), ()):
                if key == "close":
                    pygame.event.post(pygame.event.Event(pygame.QUIT))
                elif key == "interrupt":
                    raise KeyboardInterrupt
                else:
                    kind = pygame.KEYUP if key.startswith("-") else pygame.KEYDOWN
                    code = pygame.key.key_code(key.removeprefix("-"))
                    pygame.event.post(pygame.event.Event(kind, key=code))

    monkeypatch.setattr(play, "Pacer", Acting)
    return times


@needs_pygame
def test_a_game_is_played_in_time_and_recorded_with_its_sound(nowhere, monkeypatch, capsys):
    acts = {1: ("up",), 30: ("f12", "p"), 35: ("p",), 80: ("-up", "escape")}
    times = act_at(monkeypatch, acts)
    assert main(["play", "Pong", "--scale", "1", "--record", "game.mp4"]) == 0
    out, err = capsys.readouterr()
    assert out == "picture: pong-1.png\nwritten to game.mp4\n" and err == ""
    assert 0.95 < times[-1] - times[19] < 1.5  # for 60 frames; others may use the machine, too
    with av.open(str(nowhere / "game.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(74 / 60, abs=0.03)
    assert len(frames) == 74 and frames[0].shape == (210, 320, 3)
    # The first picture and the five of the pause are no frames of the game.
    truth = played(Cabinet("pong"), script((75, "UP")))
    saved = cv2.imread("pong-1.png")[..., ::-1]
    assert np.array_equal(saved, scaled(truth[29].picture, 1))
    assert np.abs(frames[28].astype(int) - saved).mean() < 6


@needs_pygame
def test_the_close_button_ends_the_game(nowhere, monkeypatch, capsys):
    times = act_at(monkeypatch, {3: ("close",)})
    assert main(["play", "air_raid", "--scale", "1", "--no-sound"]) == 0
    assert len(times) == 3 and capsys.readouterr() == ("", "")


@needs_pygame
def test_ctrl_c_ends_quietly_and_keeps_the_recording(nowhere, monkeypatch, capsys):
    act_at(monkeypatch, {12: ("interrupt",)})
    assert main(["play", "pong", "--scale", "1", "--record", "game.mp4"]) == 130
    assert capsys.readouterr().err == "eightbit: interrupted.\n"
    with av.open(str(nowhere / "game.mp4")) as container:
        assert len(list(container.decode(video=0))) == 11


@needs_pygame
def test_without_a_sound_device_the_game_is_silent_and_says_so(nowhere, monkeypatch, capsys):
    monkeypatch.setenv("SDL_AUDIODRIVER", "none such")
    act_at(monkeypatch, {2: ("escape",)})
    assert main(["play", "pong", "--scale", "1"]) == 0
    assert "no sound device" in capsys.readouterr().err


@needs_pygame
def test_the_agent_of_a_run_plays_in_the_window(nowhere, monkeypatch, capsys):
    agent = Moody(6)
    player = player_of(agent, "pong", env_options("mnih2015", training=False, noop_max=0), nowhere)
    monkeypatch.setattr("eightbit.evaluate.player.load_player", lambda *_, **__: player)
    monkeypatch.setattr(play, "_game_of", lambda run: "pong")
    act_at(monkeypatch, {26: ("escape",)})
    assert main(["play", "--run", "RUN", "--scale", "1"]) == 0
    assert len(agent.seen) == 7 and agent.seen[0].shape == (4, 84, 84)


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("play", "which game[?] Write 'eightbit play pong'"),
        ("play pnog", "unknown game 'pnog': did you mean pong?"),
        ("play catch", "catch cannot be played by hand"),
        ("play gym:CartPole-v1", "gym:CartPole-v1 cannot be played by hand"),
        ("play pong --mode 77", "pong has no mode 77; its modes are 0, 1"),
        ("play pong --difficulty 9", "pong has no difficulty 9; its difficulties are 0, 1"),
        ("play pong --scale 0", "scale is 0; give 1 to 16[.]"),
        ("play pong --seed -1", "seed is -1"),
        ("play pong --record a.gif", "a.gif must end in .mp4"),
        ("play pong --mute", "unknown option '--mute'"),
    ],
)
def test_wrong_words_are_answered_in_one_sentence(nowhere, capsys, words, message):
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(f"eightbit: [^\n]*{message}[^\n]*\n", err), err


def test_a_run_of_another_game_is_refused(nowhere, monkeypatch, capsys):
    monkeypatch.setattr(play, "_game_of", lambda run: "pong")
    assert main(["play", "breakout", "--run", "RUN"]) == 2
    assert "RUN is a run of pong, not of breakout; leave the game out." in capsys.readouterr().err
