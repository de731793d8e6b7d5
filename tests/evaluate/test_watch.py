"""Watching: every emulated frame at the game's own rate, beside what the agent thinks."""

import av
import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from eightbit.envs.options import EnvOptions, Protocol, env_options
from eightbit.errors import UsageError
from eightbit.evaluate import watch
from eightbit.evaluate.panel import Moment, Overlay
from eightbit.evaluate.player import Player
from eightbit.evaluate.saliency import Saliency
from eightbit.evaluate.watch import Stage, WatchSettings, perform, watch_run
from eightbit.train.runs import RunFolder


class Fixed:
    """An agent whose Q-values prefer one action."""

    def __init__(self, num_actions, action=0):
        self.values = np.linspace(0.0, 0.4, num_actions, dtype=np.float32)
        self.values[action] = 1.0
        self.seen = []

    def q_values(self, observations):
        self.seen.append(observations.copy())
        return np.tile(self.values, (len(observations), 1))


def evaluation(**changes):
    return env_options(Protocol.MNIH2015, training=False, **changes)


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Puts an agent into a run folder, without weights."""

    def make(game, agent, options=None):
        run = RunFolder(tmp_path, {"run": {"game": game}})
        player = Player(
            agent, game, Protocol.MNIH2015, options or evaluation(), run, "dqn fast", 200, 800
        )
        monkeypatch.setattr(watch, "load_player", lambda *args, **kwargs: player)
        monkeypatch.setattr(watch, "window_is_possible", lambda: False)
        return tmp_path

    return make


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, codec = stream.average_rate, stream.codec_context.name
        return rate, codec, [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


@pytest.mark.parametrize(("game", "rate", "height"), [("pong", 60, 630), ("air_raid", 50, 750)])
def test_a_video_has_the_size_and_rate_of_the_game(play, game, rate, height):
    run = play(game, Fixed(6))
    path = watch_run(run, settings=WatchSettings(max_frames=30, epsilon=0.0))
    assert path == run / "videos" / f"{game}-200.mp4"
    found_rate, codec, frames = decode(path)
    assert (found_rate, codec, len(frames)) == (rate, "h264", 30)
    assert frames[0].shape == (height, 800 + 320, 3)
    second = watch_run(run, settings=WatchSettings(max_frames=2, epsilon=0.0))
    assert second.name == f"{game}-200-2.mp4"


def test_every_emulated_frame_of_a_game_is_shown():
    options = evaluation(max_frames=400)
    stage = Stage("pong", options)
    agent = Fixed(6)
    shown = list(
        frame.copy() for frame in perform(agent, stage, WatchSettings(), epsilon=0.0, overlay=None)
    )
    first = stage.reset(0)
    assert np.array_equal(agent.seen[0][0], first)
    assert len(agent.seen) == 100
    assert len(shown) == len(stage.frames()) + 400
    stage.step(0)
    raw = stage.frames()
    offset = len(shown) - 400
    for index, frame in enumerate(raw):
        assert np.array_equal(shown[offset + index][::3, ::5], frame)


def test_the_score_appears_on_the_last_frame_of_the_step_that_earned_it():
    stage = Stage("pong", evaluation(max_frames=480))
    overlay = Overlay("PONG", "test", stage.actions, stage.screen, stage.rate)
    seen = []
    real = overlay.compose
    overlay.compose = lambda frame, moment: seen.append(moment) or real(frame, moment)
    pictures = [
        frame[88:160, 800:1000].copy()
        for frame in perform(Fixed(6), stage, WatchSettings(), epsilon=0.0, overlay=overlay)
    ]
    scores = [moment.score for moment in seen]
    changes = [i for i in range(1, len(scores)) if scores[i] != scores[i - 1]]
    assert scores[0] == 0 and scores[-1] < -1
    start = len(seen) - 480
    assert all((i - start) % 4 == 3 for i in changes)
    same = [i for i in range(1, len(scores)) if not np.array_equal(pictures[i], pictures[i - 1])]
    assert same == changes


def overlay_panel(moment, actions=("NOOP", "FIRE", "UP"), saliency=None):
    overlay = Overlay("PONG", "test", actions, (210, 160), 60)
    overlay.think(moment, saliency)
    return overlay.compose(np.zeros((210, 160, 3), np.uint8), moment).copy()


def test_the_bars_follow_the_q_values_and_the_chosen_action_is_marked():
    low = overlay_panel(Moment(0.0, 1, np.array([0.0, 1.0, 0.5]), False, 1, 1))
    chosen = (np.abs(low.astype(int) - (250, 190, 60)).sum(axis=2) < 12)[:500, 860:1040]
    bars = (np.abs(low.astype(int) - (74, 98, 148)).sum(axis=2) < 12)[:500, 860:1040]
    full, half = chosen.sum(axis=1).max(), bars.sum(axis=1).max()
    assert half == pytest.approx(full / 2, abs=2) and full > 60
    assert np.nonzero(chosen.any(axis=1))[0].min() < np.nonzero(bars.sum(axis=1) > 10)[0].min()
    random = overlay_panel(Moment(0.0, 1, np.array([0.0, 1.0, 0.5]), True, 1, 1))
    assert not np.array_equal(low, random)


def test_the_saliency_colours_the_screen_where_it_is_high():
    saliency = np.zeros((14, 14), np.float32)
    saliency[:, 10:] = 1.0
    picture = overlay_panel(Moment(0.0, 0, np.zeros(3), False, 1, 1), saliency=saliency)
    assert picture[300, 700, 0] > 150 and picture[300, 100].max() == 0


def test_eighteen_actions_fit_into_the_panel_of_the_lowest_screen():
    from eightbit.evaluate.evaluation import FULL_ACTIONS

    picture = overlay_panel(
        Moment(-1_234_567.0, 17, np.full(18, -88.88), False, 1, 99_999), FULL_ACTIONS
    )
    assert picture.shape == (630, 1120, 3)


@pytest.mark.parametrize("game", ["catch", "gym:CartPole-v1"])
def test_games_of_other_makers_are_watched_too(play, game):
    if game.startswith("gym:"):
        pytest.importorskip("pygame", reason="CartPole draws itself with pygame")
    actions = 3 if game == "catch" else 2
    run = play(game, Fixed(actions))
    path = watch_run(run, settings=WatchSettings(episodes=2, epsilon=0.0))
    _, codec, frames = decode(path)
    assert codec == "h264" and len(frames) >= 2 * 9


def test_a_missing_pygame_is_said_in_one_sentence(play, monkeypatch):
    def draw(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(CartPoleEnv, "render", draw)
    with pytest.raises(UsageError, match=r"pip install eightbit\[play\]"):
        watch_run(play("gym:CartPole-v1", Fixed(2)))


def test_an_output_path_is_used_and_a_wrong_one_refused(play, tmp_path):
    run = play("pong", Fixed(6))
    settings = WatchSettings(max_frames=2, overlay=False)
    assert watch_run(run, tmp_path / "x" / "mine.mp4", settings) == tmp_path / "x" / "mine.mp4"
    assert decode(tmp_path / "x" / "mine.mp4")[2][0].shape == (630, 800, 3)
    with pytest.raises(UsageError, match="must end in .mp4"):
        watch_run(run, tmp_path / "mine.avi")


def test_a_gif_shows_the_beginning_at_half_size(play, tmp_path):
    path = watch_run(play("pong", Fixed(6)), tmp_path / "a.gif", WatchSettings(max_frames=60))
    assert path == tmp_path / "a.gif"
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 20
    assert frames[0].shape == (315, 560, 3)


def test_a_window_that_is_not_possible_is_refused_only_when_asked_for(play):
    run = play("pong", Fixed(6))
    with pytest.raises(UsageError, match=r"pip install eightbit\[play\]"):
        watch_run(run, settings=WatchSettings(window=True))
    assert watch_run(run, settings=WatchSettings(max_frames=2)).is_file()


def test_a_window_that_is_closed_ends_the_game(play, monkeypatch):
    opened = []

    class Recorder:
        def __init__(self, size, rate, title):
            self.size, self.rate, self.frames, self.closed, self.ended = size, rate, 0, False, False
            opened.append(self)

        def write(self, frame):
            assert frame.shape == (self.size[1], self.size[0], 3)
            self.frames += 1
            self.closed = self.frames == 7

        def close(self):
            self.ended = True

    run = play("pong", Fixed(6))
    monkeypatch.setattr(watch, "window_is_possible", lambda: True)
    monkeypatch.setattr(watch, "Window", Recorder)
    assert watch_run(run) is None
    assert (opened[0].frames, opened[0].rate, opened[0].ended) == (7, 60, True)
    assert not (run / "videos").exists()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="at least one game"):
        WatchSettings(episodes=0)
    with pytest.raises(UsageError, match="from 0 to 1"):
        WatchSettings(epsilon=2.0)


def test_saliency_is_computed_only_when_asked_for(play, monkeypatch):
    calls = []

    def fake(kind, agent, observation):
        calls.append((kind, observation.shape))
        return np.ones((14, 14), np.float32)

    monkeypatch.setattr(watch, "saliency_map", fake)
    run = play("pong", Fixed(6), EnvOptions(life_loss=False, noop_max=0))
    watch_run(run, settings=WatchSettings(max_frames=9))
    assert calls == []
    watch_run(run, settings=WatchSettings(max_frames=9, saliency=Saliency.PERTURBATION))
    assert calls and calls[0] == (Saliency.PERTURBATION, (4, 84, 84))
