"""The single environment: Gymnasium's checker, wrappers, and Gymnasium's own preprocessing."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import ale_py
import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import (
    AtariPreprocessing,
    FrameStackObservation,
    RecordEpisodeStatistics,
    RecordVideo,
    RenderCollection,
)

import eightbit  # noqa: F401  # registers the games
from eightbit.envs import game_facts, list_games
from eightbit.envs.single import AtariEnv
from eightbit.errors import UsageError

gymnasium.register_envs(ale_py)
ALL_IDS = [f"eightbit/{game_facts(name).id}-v5" for name in list_games()]
FEW = ["eightbit/Pong-v5", "eightbit/Catch-v0"]
REST = [pytest.param(i, marks=pytest.mark.long) for i in ALL_IDS if i not in FEW]


def test_import_registers_every_game_and_loads_neither_torch_nor_ale():
    import subprocess

    code = (
        "import sys, eightbit, gymnasium\n"
        "ids = [i for i in gymnasium.registry if i.startswith('eightbit/')]\n"
        "assert len(ids) == 105, len(ids)\n"
        "bad = {'torch', 'ale_py', 'cv2', 'stable_baselines3'} & set(sys.modules)\n"
        "assert not bad, bad\n"
        "gymnasium.make('eightbit/Pong-v5').reset(seed=0)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


@pytest.mark.parametrize("env_id", [*FEW, *REST])
def test_it_passes_gymnasiums_checker(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(env_id, render_mode="rgb_array")
        check_env(env.unwrapped)
        env.reset(seed=1)
        if env_id != "eightbit/Catch-v0":
            facts = game_facts(env.unwrapped.game)
            assert env.render().shape == (facts.height, 160, 3)
            assert env.unwrapped.action_space.n == len(facts.actions)


@pytest.mark.parametrize(
    "game",
    [
        pytest.param(
            game, marks=[] if game in ("pong", "robotank", "air_raid") else pytest.mark.long
        )
        for game in list_games()
    ],
)
def test_observations_equal_gymnasiums_preprocessing_frame_by_frame(game):
    raw = gymnasium.make(
        f"ALE/{game_facts(game).id}-v5", frameskip=1, repeat_action_probability=0.0
    )
    theirs = FrameStackObservation(
        AtariPreprocessing(raw, noop_max=0, frame_skip=4, terminal_on_life_loss=False),
        4,
        padding_type="zero",
    )
    ours = AtariEnv(game, noop_max=0, fire=False)
    assert np.array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    rng = np.random.default_rng(0)
    for step in range(120):
        action = int(rng.integers(ours.action_space.n))
        mine, other = ours.step(action), theirs.step(action)
        assert mine[1:4] == other[1:4]
        if mine[2]:
            break
        assert np.array_equal(mine[0], other[0]), f"step {step}"
    assert step > 15
    ours.close()


def test_it_gives_every_emulated_frame_when_asked():
    env = AtariEnv("breakout", record_frames=True, render_mode="rgb_array")
    _, info = env.reset(seed=4)
    assert len(env.last_frames()) == info["frame_number"]
    for _ in range(5):
        env.step(1)
        frames = env.last_frames()
        assert len(frames) == 4
        assert all(f.shape == (210, 160, 3) and f.dtype == np.uint8 for f in frames)
        assert np.array_equal(frames[-1], env.render())
    with pytest.raises(UsageError, match="record_frames=True"):
        AtariEnv("breakout").last_frames()


def test_it_works_under_gymnasiums_wrappers():
    env = gymnasium.make("eightbit/Breakout-v5", render_mode="rgb_array", max_frames=400)
    env = RecordEpisodeStatistics(RenderCollection(env))
    env.reset(seed=0)
    score, ended = 0.0, False
    while not ended:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        score, ended = score + reward, terminated or truncated
    assert info["episode"]["r"] == score
    assert len(env.render()) == info["episode"]["l"] + 1


class Clip:
    """Stands in for moviepy's `ImageSequenceClip` where moviepy is missing: keeps the frames."""

    made: ClassVar[list[Clip]] = []

    def __init__(self, frames: list[np.ndarray], fps: float):
        self.frames, self.fps = frames, fps
        self.made.append(self)

    def write_videofile(self, path: str, **kwargs: object) -> None:
        Path(path).write_bytes(b"video")


def test_record_video_gets_every_step_at_the_games_rate(tmp_path, monkeypatch):
    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    clips = ModuleType("moviepy.video.io.ImageSequenceClip")
    clips.ImageSequenceClip = Clip
    monkeypatch.setitem(sys.modules, clips.__name__, clips)
    Clip.made.clear()
    env = gymnasium.make("eightbit/AirRaid-v5", render_mode="rgb_array", max_frames=40)
    env = RecordVideo(env, str(tmp_path / "videos"))
    env.reset(seed=0)
    while not env.step(0)[3]:
        pass
    env.close()
    (clip,) = Clip.made
    assert len(clip.frames) == 11 and clip.frames[0].shape == (250, 160, 3)
    assert clip.fps == 12  # 50 frames per second, four to a step
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["rl-video-episode-0.mp4"]


def test_the_frame_rate_is_the_consoles():
    assert AtariEnv("pong").metadata["render_fps"] == 15
    assert AtariEnv("air_raid").frame_rate == 50
    assert AtariEnv("pong", frame_skip=1).metadata["render_fps"] == 60


def test_a_wrong_call_says_what_to_do():
    env = AtariEnv("pong", max_frames=8)
    with pytest.raises(UsageError, match=r"call reset\(\) first"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(UsageError, match="must be 0 to 5"):
        env.step(6)
    env.step(0)
    assert env.step(0)[3]
    with pytest.raises(UsageError, match=r"call reset\(\) first"):
        env.step(0)
    with pytest.raises(UsageError, match="give 0 to 2,147,483,647"):
        env.reset(seed=2**31)
    with pytest.raises(UsageError, match="'rgb_array'"):
        AtariEnv("pong", render_mode="human")
    with pytest.raises(UsageError, match="did you mean sticky"):
        AtariEnv("pong", stickyy=0.1)
