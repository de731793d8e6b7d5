"""Windows and sound: frames come in time, sound comes without gaps, pixels stay whole."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from eightbit.errors import UsageError
from eightbit.evaluate import window
from eightbit.evaluate.window import GameWindow, Loudspeaker, Pacer, require_window

needs_pygame = pytest.mark.skipif(
    importlib.util.find_spec("pygame") is None, reason="pygame-ce is not installed"
)
PCM = 735  # samples of a frame at 60 a second


class Clock:
    """A clock of whom sleep is a little too long."""

    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time

    def sleep(self, seconds):
        assert seconds > 0
        self.time += seconds + 0.0007


def test_frames_come_in_time_whatever_sleep_and_work_take():
    clock = Clock()
    pacer = Pacer(60, clock.now, clock.sleep)
    for frame in range(1, 3611):
        clock.time += 0.03 if frame % 50 == 0 else 0.004  # now and then one comes too late
        pacer.wait()
        assert clock.time - (100 + frame / 60) < 0.02
    assert clock.time == pytest.approx(100 + 3610 / 60, abs=0.001)


def test_after_a_long_standstill_the_game_does_not_race():
    clock = Clock()
    pacer = Pacer(50, clock.now, clock.sleep)
    clock.time += 7.0
    pacer.wait()
    for _ in range(10):
        pacer.wait()
    assert clock.time == pytest.approx(107.2, abs=0.001)


class Card:
    """A mixer's channel on a sound card: one sound is played, the next one waits."""

    def __init__(self):
        self.now, self.next, self.heard, self.silent, self.paused = [], None, [], 0, False
        self.volume = 1.0

    def get_busy(self):
        return bool(self.now)

    def get_queue(self):
        return self.next

    def play(self, sound):
        self.now, self.volume = list(sound), 1.0

    def queue(self, sound):
        assert self.next is None
        self.next = list(sound)

    def set_volume(self, volume):
        self.volume = volume

    def pause(self):
        self.paused = True

    def unpause(self):
        self.paused = False

    def run(self, samples: int) -> None:
        if self.paused:
            return
        taken, self.now = self.now[:samples], self.now[samples:]
        self.heard += taken
        if self.now:
            return
        if self.next is not None:
            self.now, self.next = self.next, None
            self.run(samples - len(taken))
        elif self.heard:
            self.silent += samples - len(taken)


@pytest.mark.parametrize("error", [-0.001, 0.0, 0.001])
def test_sound_has_neither_gaps_nor_delay_though_the_card_has_a_clock_of_its_own(error):
    card = Card()
    speaker = Loudspeaker(card, lambda pcm: pcm.tolist())
    frames = 60 * 40
    given = np.arange(PCM * frames, dtype=np.int64) % 30_000
    elapsed, run = 0.0, 0
    for frame in range(frames):
        speaker.play(given[frame * PCM : (frame + 1) * PCM].astype(np.int16), 0.5)
        if card.now:
            elapsed += PCM * (1 + error)
            due = int(elapsed) - 400 * (frame % 7 == 0)  # nor are the frames that punctual
            card.run(due - run)
            run = due
    assert card.volume == 0.5 and card.silent == 0
    steps = np.diff(card.heard) % 30_000
    assert set(steps) <= {0, 1, 2} and np.mean(steps != 1) < 0.002
    assert len(given) - len(card.heard) < 0.1 * 44_100 + abs(error) * len(given)


def test_sound_waits_where_the_game_waits():
    card = Card()
    speaker = Loudspeaker(card, lambda pcm: pcm.tolist())
    for _ in range(5):
        speaker.play(np.ones(PCM, np.int16), 1.0)
    speaker.play(np.zeros(0, np.int16), 1.0)
    assert card.paused
    speaker.play(np.ones(PCM, np.int16), 1.0)
    assert not card.paused


@needs_pygame
def test_a_window_shows_whole_multiples_in_its_middle_whatever_its_size(monkeypatch):
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    one = GameWindow((320, 210), 2)
    try:
        assert one.scale == 2
        pygame.display.set_mode((1000, 700), pygame.RESIZABLE)
        assert one.scale == 3
        picture = np.random.default_rng(0).integers(0, 256, (630, 960, 3)).astype(np.uint8)
        one.show(picture, "title")
        seen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert np.array_equal(seen[35:665, 20:980], picture) and not seen[:35].any()
        assert pygame.display.get_caption()[0] == "title"
        pygame.display.set_mode((100, 100), pygame.RESIZABLE)
        assert one.scale == 1
        one.show(picture[:210, :320], "title")  # what has no room is cut off
    finally:
        one.close()


@needs_pygame
def test_a_window_is_as_large_as_the_display_has_room_for(monkeypatch):
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [(1920, 1080)])
    one = GameWindow((320, 250), None)
    assert pygame.display.get_surface().get_size() == (960, 750)
    one.close()


def test_a_missing_pygame_and_a_missing_display_are_said(monkeypatch):
    monkeypatch.setattr(window, "window_is_possible", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="there is no display"):
        require_window()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"write \"pip install 'eightbit\[play\]'\"[.]"):
        require_window()
