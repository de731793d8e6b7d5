"""Boxes and sentences in a watched game: when networks look, and what is drawn where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from eightbit import cli_tasks
from eightbit.cli import main
from eightbit.datasets.atari_objects import class_names
from eightbit.envs.options import Protocol, env_options
from eightbit.errors import RunFolderError, TaskError, UsageError
from eightbit.evaluate import telling, watch
from eightbit.evaluate.panel import Overlay
from eightbit.evaluate.player import Player
from eightbit.evaluate.telling import Onlooker, draw_named
from eightbit.evaluate.watch import Stage, WatchSettings, perform, watch_run
from eightbit.tasks import load_task
from eightbit.train.runs import RunFolder
from eightbit.train.task_models import save_model
from eightbit.vision_tasks._telling.words import Words
from eightbit.vision_tasks.detect.boxes import Detections

CPU = torch.device("cpu")
GAMES = {"games": {"train": ["pong", "boxing"]}, "fit": "squeeze"}


class Fixed:
    """An agent that always does the same."""

    def q_values(self, observations):
        return np.tile(np.eye(6, dtype=np.float32)[2], (len(observations), 1))


class Stub:
    """An onlooker that keeps what it was shown and paints everything red."""

    def __init__(self):
        self.looked = []

    def look(self, frame):
        self.looked.append(frame.copy())

    def draw(self, canvas, frame_size):
        assert frame_size == (210, 160)
        canvas[:] = (255, 0, 0)


def saved(path, name, facts):
    """A model file of a task with fresh weights."""
    task = load_task(name)
    preset = next(iter(task.presets.values()))
    options = replace(preset.options, size=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, facts)
    save_model(path, task, model, options, facts)
    return path


@pytest.fixture
def caption(tmp_path):
    words = Words.learn(["the ball is left of the green paddle"] * 5, 1)
    facts = {"words": words.to_facts(), "usual": "the ball", "size": 64, **GAMES}
    return saved(tmp_path / "caption.safetensors", "caption", facts)


@pytest.fixture
def detect(tmp_path):
    facts = {"classes": list(class_names()), "height": 64, "width": 48, **GAMES}
    return saved(tmp_path / "detect.safetensors", "detect", facts)


@pytest.mark.parametrize("panel", [True, False])
def test_networks_look_once_a_step_and_draw_on_the_screen_alone(panel):
    stage = Stage("pong", env_options(Protocol.MNIH2015, training=False))
    overlay = Overlay("PONG", "", stage.actions, stage.screen, stage.rate) if panel else None
    onlooker = Stub()
    shown = [
        frame.copy()
        for frame in perform(
            *(Fixed(), stage, WatchSettings(max_frames=60)),
            epsilon=0.0,
            overlay=overlay,
            onlooker=onlooker,
        )
    ]
    stage.close()
    assert len(shown) == 60 and 10 <= len(onlooker.looked) <= 16
    assert (shown[-1][:630, :800] == (255, 0, 0)).all()
    if panel:
        assert not (shown[-1][:, 800:] == (255, 0, 0)).all(axis=2).any()


def test_boxes_are_drawn_where_the_enlarged_object_is(detect, monkeypatch):
    found = Detections(
        torch.tensor([[40.0, 100.0, 60.0, 120.0]]), torch.tensor([0.9]), torch.tensor([0])
    )
    monkeypatch.setattr(telling, "detect_pictures", lambda *_: [found])
    onlooker = Onlooker("pong", detect, None, CPU)
    canvas = np.zeros((630, 800, 3), np.uint8)
    onlooker.draw(canvas, (210, 160))
    assert not canvas.any(), "nothing was seen yet"
    onlooker.look(np.zeros((210, 160, 3), np.uint8))
    onlooker.draw(canvas, (210, 160))
    lines, columns = np.nonzero(canvas[300:].any(axis=2))  # the name stands above the box
    assert (abs(lines.max() + 300 - 360) <= 2) and abs(columns.min() - 200) <= 2
    assert abs(columns.max() - 300) <= 2


def test_of_a_crowd_one_is_named(monkeypatch):
    boxes = torch.tensor([[40.0 * i, 100.0, 40.0 * i + 20, 120.0] for i in range(1, 7)])
    named = []
    monkeypatch.setattr(telling, "_name", lambda canvas, text, *_: named.append(text))
    labels = torch.tensor([0, 0, 1, 0, 0, 1])
    canvas = np.zeros((200, 320, 3), np.uint8)
    draw_named(canvas, Detections(boxes, torch.linspace(0.9, 0.4, 6), labels), ["alien", "shot"])
    assert named == ["alien", "shot", "shot"]
    assert all(canvas[110, 40 * i - 1].any() for i in range(1, 7)), "each has its box"


def test_names_stay_on_the_screen():
    canvas = np.zeros((60, 90, 3), np.uint8)
    boxes = torch.tensor([[70.0, 2.0, 88.0, 20.0]])
    draw_named(canvas, Detections(boxes, torch.tensor([0.9]), torch.tensor([0])), ["racer"])
    assert canvas[:, :60].any() and canvas[:17].any(axis=2).sum() > 100


def test_a_sentence_stands_below_and_its_words_are_the_networks(caption):
    onlooker = Onlooker("pong", None, caption, CPU)
    frame = np.random.default_rng(0).integers(0, 255, (210, 160, 3), np.uint8)
    onlooker.look(frame)
    canvas = np.full((630, 800, 3), 99, np.uint8)
    onlooker.draw(canvas, (210, 160))
    assert (canvas[:590] == 99).all()
    said = telling.sentence_of(onlooker._told, frame)
    assert set(said.split()) <= {"the", "ball", "is", "left", "of", "green", "paddle"}
    assert bool(said) == bool((canvas[600:] != 99).any())


def test_a_long_sentence_stays_on_the_screen(caption, monkeypatch):
    onlooker = Onlooker("pong", None, caption, CPU)
    monkeypatch.setattr(telling, "sentence_of", lambda *_: "the ball is left of " * 8)
    onlooker.look(np.zeros((210, 160, 3), np.uint8))
    canvas = np.zeros((630, 800, 3), np.uint8)
    onlooker.draw(canvas, (210, 160))
    bright = np.nonzero((canvas > 128).all(axis=2))[1]
    assert len(bright) and bright.max() < 795


def test_what_cannot_look_is_refused_in_one_sentence(detect, caption, tmp_path, monkeypatch):
    with pytest.raises(TaskError, match="--seen needs a run of detect and .*caption.* is none"):
        Onlooker("pong", caption, None, CPU)
    with pytest.raises(RunFolderError, match="is missing"):
        Onlooker("pong", None, tmp_path / "nothing", CPU)
    options = env_options(Protocol.MNIH2015, training=False)
    player = Player(
        *(Fixed(), "gym:CartPole-v1", Protocol.MNIH2015, options),
        *(RunFolder(tmp_path, {"run": {"game": "gym:CartPole-v1"}}), "dqn fast", 200, 800),
    )
    monkeypatch.setattr(watch, "load_player", lambda *args, **kwargs: player)
    monkeypatch.setattr(watch, "window_is_possible", lambda: False)
    with pytest.raises(UsageError, match="games of the console"):
        watch_run(tmp_path, settings=WatchSettings(seen=str(detect)))


def test_a_game_that_a_network_never_saw_is_named(detect, caption, tmp_path, capsys):
    Onlooker("pong", detect, caption, CPU)
    assert capsys.readouterr().err == ""
    Onlooker("alien", detect, caption, CPU)
    boxes, sentences = capsys.readouterr().err.splitlines()
    assert "frames of pong, boxing and never saw alien; its boxes are guesses." in boxes
    assert sentences.endswith("its sentences are guesses.") and str(caption) in sentences
    photographs = {"classes": ["cat"], "height": 64, "width": 48}
    strange = saved(tmp_path / "cats.safetensors", "detect", photographs)
    Onlooker("pong", strange, None, CPU)
    assert "other pictures than frames of games" in capsys.readouterr().err


def test_a_game_is_watched_though_the_onlookers_are_runs_of_tasks(monkeypatch):
    asked = []
    monkeypatch.setattr(cli_tasks, "is_task_run", lambda word: word in ("boxes", "words"))
    monkeypatch.setattr(cli_tasks, "watch", lambda given: pytest.fail("taken for a task's run"))
    monkeypatch.setattr(watch, "watch_run", lambda run, path, settings: asked.append(settings))
    assert main(["watch", "pong", "--seen", "boxes", "--told=words"]) == 0
    assert (asked[0].seen, asked[0].told) == ("boxes", "words")


def test_watching_a_run_of_a_task_is_the_tasks_matter(monkeypatch):
    monkeypatch.setattr(cli_tasks, "is_task_run", lambda word: word == "boxes")
    monkeypatch.setattr(cli_tasks, "watch", lambda given: 7)
    assert main(["watch", "boxes", "--seen", "boxes"]) == 7
    assert main(["watch", "--seen", "boxes", "boxes"]) == 7
