"""A window that shows frames at the game's own rate; needs pygame-ce (the extra `play`)."""

from __future__ import annotations

import importlib.util

import numpy as np

_NO_SCREEN = ("dummy", "offscreen")  # SDL's drivers that draw to nowhere


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
        self._clock = pygame.time.Clock()
        self._rate = rate
        self.closed = False

    def write(self, frame: np.ndarray) -> None:
        """Shows (height, width, 3) uint8 and waits until the next one is due."""
        pygame = self._pygame
        for event in pygame.event.get():
            escape = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
            self.closed |= event.type == pygame.QUIT or escape
        pygame.surfarray.blit_array(self._screen, frame.swapaxes(0, 1))
        pygame.display.flip()
        self._clock.tick(self._rate)

    def close(self) -> None:
        """Closes the window."""
        self._pygame.display.quit()
