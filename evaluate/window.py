"""Windows and a loudspeaker at the game's own rate; they need pygame-ce (the extra `play`)."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UsageError
from .keyboard import Keyboard

_NO_SCREEN = ("dummy", "offscreen")  # SDL's drivers that draw to nowhere
_ROOM = 0.8  # of the display's sides, that a window takes unless told otherwise
_LATE = 0.25  # seconds; who is later than this goes on from where it is
_ASKED_FOR = 512  # samples that the system takes at a time
_PIECE = 3 * _ASKED_FOR  # samples that pygame gets at a time: 35 ms at 44,100 a second


def require_window() -> None:
    """Raises UsageError, which says how to mend it, where no window can be opened."""
    if importlib.util.find_spec("pygame") is None:
        raise UsageError("a window needs pygame-ce: write \"pip install 'eightbit[play]'\".")
    if not window_is_possible():
        raise UsageError(
            "no window can be opened here: there is no display; go to a machine with a screen, or "
            "come by 'ssh -X'."
        )


def window_is_possible() -> bool:
    """Whether pygame is installed and finds a display; nothing is shown."""
    if importlib.util.find_spec("pygame") is None:
        return False
    import pygame

    try:
        pygame.display.init()
        return pygame.display.get_driver() not in _NO_SCREEN
    except pygame.error:
        return False
    finally:
        pygame.display.quit()


class Pacer:
    """Waits for the time of each frame: that of frame n is n / rate after the first.

    So rounding and late frames add up to nothing: what was late is caught up with, except where
    it was so late (the machine slept, the window was moved) that the game would race.

    Args:
        rate: frames per second.
        now: a clock, in seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        rate: float,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._rate, self._now, self._sleep = rate, now, sleep
        self._start = now()
        self._frame = 0

    def wait(self) -> None:
        """Returns when the next frame is due."""
        self._frame += 1
        early = self._start + self._frame / self._rate - self._now()
        if early > 0:
            self._sleep(early)
        elif -early > _LATE:
            self._start, self._frame = self._now(), 0


class Window:
    """Shows RGB frames one after the other; Escape or the close button ends it.

    Args:
        size: (width, height) of the frames.
        rate: frames per second.
        title: of the window.
    """

    def __init__(self, size: tuple[int, int], rate: int, title: str):
        import pygame

        self._pygame = pygame
        pygame.display.init()
        self._screen = pygame.display.set_mode(size, pygame.SCALED | pygame.RESIZABLE)
        pygame.display.set_caption(title)
        self._pacer = Pacer(rate)
        self.closed = False

    def write(self, frame: np.ndarray) -> None:
        """Shows (height, width, 3) uint8 and waits until the next one is due."""
        pygame = self._pygame
        for event in pygame.event.get():
            escape = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
            self.closed |= event.type == pygame.QUIT or escape
        pygame.surfarray.blit_array(self._screen, frame.swapaxes(0, 1))
        pygame.display.flip()
        self._pacer.wait()

    def close(self) -> None:
        """Closes the window."""
        self._pygame.display.quit()


class GameWindow:
    """A window to play in: it hears the keyboard, and its size may be changed.

    Args:
        size: (width, height) of the smallest picture, which is shown `scale` times as large.
        scale: whole number, or None for as many times as the display has room for.
    """

    def __init__(self, size: tuple[int, int], scale: int | None):
        import pygame

        self._pygame = pygame
        pygame.display.init()
        self._size = size
        scale = scale or _fitting(size, pygame.display.get_desktop_sizes()[0], _ROOM)
        shape = (size[0] * scale, size[1] * scale)
        self._screen = pygame.display.set_mode(shape, pygame.RESIZABLE)  # keeps its size current
        self._title = ""

    @property
    def scale(self) -> int:
        """How many times as large as the smallest picture fits into the window, at least 1."""
        return _fitting(self._size, self._screen.get_size(), 1.0)

    def listen(self, keyboard: Keyboard) -> None:
        """Tells the keyboard what has happened; the close button is Escape."""
        pygame = self._pygame
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                keyboard.press("escape")
            elif event.type == pygame.KEYDOWN:
                keyboard.press(pygame.key.name(event.key))
            elif event.type == pygame.KEYUP:
                keyboard.release(pygame.key.name(event.key))
            elif event.type == pygame.WINDOWFOCUSLOST:
                keyboard.release_all()

    def show(self, picture: np.ndarray, title: str) -> None:
        """Shows (height, width, 3) uint8 in the middle of the window, black around it."""
        pygame = self._pygame
        if title != self._title:  # slow on some systems
            pygame.display.set_caption(title)
            self._title = title
        height, width = picture.shape[:2]
        image = pygame.image.frombuffer(np.ascontiguousarray(picture), (width, height), "RGB")
        room = self._screen.get_size()
        if room != (width, height):
            self._screen.fill((0, 0, 0))
        self._screen.blit(image, ((room[0] - width) // 2, (room[1] - height) // 2))
        pygame.display.flip()

    def close(self) -> None:
        """Closes the window."""
        self._pygame.display.quit()


def _fitting(size: tuple[int, int], room: tuple[int, int], share: float) -> int:
    return max(1, min(int(there * share) // one for there, one in zip(room, size, strict=True)))


class Loudspeaker:
    """Plays PCM as it comes, without gaps, about a twentieth of a second after the picture.

    The sound card's clock is not that of the frames. So that neither gaps nor delays add up, a
    sample is left out or repeated now and then, which nobody hears.

    Args:
        channel: plays one sound and holds the next, as pygame.mixer.Channel does.
        pack: makes a sound for the channel of samples (n,) int16.
    """

    def __init__(self, channel: Any, pack: Callable[[np.ndarray], Any]):
        self._channel, self._pack = channel, pack
        self._waiting = np.zeros(0, np.int16)
        self._paused = False

    @classmethod
    def open(cls, sample_rate: int) -> Loudspeaker | None:
        """The machine's loudspeaker for mono int16; None where it has none."""
        import pygame

        try:
            pygame.mixer.init(sample_rate, -16, 1, _ASKED_FOR, allowedchanges=0)
        except pygame.error:
            return None
        return cls(pygame.mixer.Channel(0), lambda pcm: pygame.mixer.Sound(buffer=pcm.tobytes()))

    def play(self, pcm: np.ndarray, volume: float) -> None:
        """Adds the sound of a frame; to be called for each frame, also for those without sound.

        Args:
            pcm: (n,) int16; none at all holds the sound where it is.
            volume: 0 to 1, of all that has not been heard yet.
        """
        self._channel.set_volume(volume)
        self._hold(not len(pcm))
        self._waiting = np.concatenate([self._waiting, pcm])
        if self._paused:
            return
        if not self._channel.get_busy():
            if len(self._waiting) >= 2 * _PIECE:
                self._channel.play(self._next())
                self._channel.set_volume(volume)  # playing sets it back to 1
                self._channel.queue(self._next())
        elif self._channel.get_queue() is None:
            if len(self._waiting) >= _PIECE:
                self._channel.queue(self._next())
            else:  # the card is faster than the frames
                self._waiting = np.append(self._waiting, self._waiting[-1:].repeat(2))
        if len(self._waiting) > 2 * _PIECE:  # it is slower, or it has stood still
            standing = len(self._waiting) > 8 * _PIECE
            self._waiting = self._waiting[-_PIECE:] if standing else self._waiting[:-1]

    def close(self) -> None:
        """Ends the sound."""
        import pygame

        pygame.mixer.quit()

    def _hold(self, paused: bool) -> None:
        if paused != self._paused:
            (self._channel.pause if paused else self._channel.unpause)()
            self._paused = paused

    def _next(self) -> Any:
        piece, self._waiting = self._waiting[:_PIECE], self._waiting[_PIECE:]
        return self._pack(piece)
