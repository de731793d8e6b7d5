"""The picture of a watched game: the enlarged screen and, beside it, what the agent thinks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .drawing import Colour, draw_line, draw_text, fill, text_width
from .video import PIXEL, enlarge

WIDTH = 320
MIN_HEIGHT = 480
_MARGIN = 20
_TRACE_HEIGHT = 64
_BACKGROUND: Colour = (18, 20, 28)
_SCREEN_EDGE: Colour = (0, 0, 0)
_TEXT: Colour = (236, 238, 244)
_QUIET: Colour = (156, 164, 184)
_RULE: Colour = (44, 48, 62)
_BAR: Colour = (74, 98, 148)
_CHOSEN: Colour = (250, 190, 60)
_RANDOM: Colour = (235, 90, 80)
_CHOSEN_ROW: Colour = (38, 42, 56)
_HEAT: Colour = (255, 40, 60)
_RANGE_MEMORY = 0.98  # share of the shown range of Q-values that a step keeps


@dataclass(frozen=True)
class Moment:
    """What the panel shows at one agent step.

    Attributes:
        score: raw return so far.
        action: index of the executed action.
        q_values: (A,) float, None where the player has none.
        random: the action was drawn at random, not chosen.
        episode: number of the game, from 1.
        frame: emulated frames of this game so far.
    """

    score: float
    action: int
    q_values: np.ndarray | None
    random: bool
    episode: int
    frame: int


def pixel_factors(height: int, width: int, *, atari: bool) -> tuple[int, int]:
    """How often a pixel is repeated in width and height, so that the picture fills a video.

    Atari pixels become 5 x 3 (see `PIXEL`); those of other games stay square.
    """
    if atari:
        return PIXEL
    factor = max(1, round(640 / max(height, width)))
    return factor, factor


def saliency_heat(saliency: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Brings a map (h, w) >= 0 to `size` (width, height) as opacity (H, W, 1) in [0, 0.8].

    The map is scaled by its own largest value; a map without any weight stays clear.
    """
    top = float(saliency.max())
    if top <= 0.0:
        return np.zeros((size[1], size[0], 1), np.float32)
    scaled = cv2.resize((saliency / top).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    return 0.8 * np.clip(scaled, 0.0, 1.0)[..., None]


class Overlay:
    """Composes video frames: the enlarged screen on the left, the panel on the right.

    Args:
        title: the game, as people write it.
        subtitle: one quiet line under it (who plays, by which rules).
        actions: a name for each action.
        screen: (height, width) of the frames that come in.
        rate: frames per second, for the clock.
        atari: the pixels are those of the console.
        steps_shown: agent steps of the trace of the best Q-value.
    """

    def __init__(
        self,
        title: str,
        subtitle: str,
        actions: Sequence[str],
        screen: tuple[int, int],
        rate: int,
        *,
        atari: bool = True,
        steps_shown: int = 150,
    ):
        self.title, self.subtitle, self.actions, self.rate = title, subtitle, list(actions), rate
        self._factors = pixel_factors(*screen, atari=atari)
        self._shown = (screen[1] * self._factors[0], screen[0] * self._factors[1])  # width, height
        height = max(self._shown[1], MIN_HEIGHT)
        self.size = (self._shown[0] + self._shown[0] % 2 + WIDTH, height + height % 2)
        self._canvas = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        self._left = self.size[0] - WIDTH
        self._range: tuple[float, float] | None = None
        self._trace: deque[float] = deque(maxlen=steps_shown)
        self._heat: np.ndarray | None = None

    def think(self, moment: Moment, saliency: np.ndarray | None = None) -> None:
        """Takes in a new agent step: Q-values for the bars and the trace, and the saliency."""
        self._heat = None if saliency is None else saliency_heat(saliency, self._shown)
        if moment.q_values is None:
            return
        low, high = float(np.min(moment.q_values)), float(np.max(moment.q_values))
        self._trace.append(high)
        if self._range is not None:
            # The range follows slowly, so that bars of neighbouring frames can be compared.
            low = min(low, _RANGE_MEMORY * self._range[0] + (1 - _RANGE_MEMORY) * low)
            high = max(high, _RANGE_MEMORY * self._range[1] + (1 - _RANGE_MEMORY) * high)
        self._range = (low, high)

    def compose(self, frame: np.ndarray, moment: Moment) -> np.ndarray:
        """Draws one video frame.

        Args:
            frame: (height, width, 3) uint8, the screen.
            moment: what the panel shows.

        Returns:
            (self.size[1], self.size[0], 3) uint8; the next call draws into the same array.
        """
        self._draw_screen(frame)
        panel = self._canvas[:, self._left :]
        panel[:] = _BACKGROUND
        self._draw_header(panel, moment)
        trace_top = panel.shape[0] - _MARGIN - _TRACE_HEIGHT
        shows_values = moment.q_values is not None
        bottom = trace_top - 44 if shows_values else panel.shape[0] - _MARGIN
        self._draw_actions(panel, moment, 190, bottom)
        if shows_values:
            self._draw_trace(panel, trace_top)
        return self._canvas

    def _draw_screen(self, frame: np.ndarray) -> None:
        width, height = self._shown
        area = self._canvas[:, : self._left]
        if (height, width) != area.shape[:2]:
            area[:] = _SCREEN_EDGE
        top = (area.shape[0] - height) // 2
        part = area[top : top + height, :width]
        part[:] = enlarge(frame, self._factors)
        if self._heat is not None:
            colour = np.asarray(_HEAT, np.float32)
            part[:] = (part + (colour - part) * self._heat).astype(np.uint8)

    def _draw_header(self, panel: np.ndarray, moment: Moment) -> None:
        right = WIDTH - _MARGIN
        draw_text(panel, self.title, (_MARGIN, 44), 26, _TEXT, bold=True)
        draw_text(panel, self.subtitle, (_MARGIN, 68), 13, _QUIET)
        fill(panel, (_MARGIN, 84, right, 85), _RULE)
        draw_text(panel, "SCORE", (_MARGIN, 110), 12, _QUIET)
        draw_text(panel, f"{moment.score:,.10g}", (_MARGIN, 150), 40, _TEXT, bold=True)
        draw_text(panel, f"GAME {moment.episode}", (right, 110), 12, _QUIET, right=True)
        seconds = moment.frame / self.rate
        clock = f"{int(seconds // 60)}:{seconds % 60:04.1f}"
        draw_text(panel, clock, (right, 150), 16, _TEXT, right=True)
        fill(panel, (_MARGIN, 168, right, 169), _RULE)

    def _draw_actions(self, panel: np.ndarray, moment: Moment, top: int, bottom: int) -> None:
        right = WIDTH - _MARGIN
        heading = "ACTION" if moment.q_values is None else "Q-VALUE OF EACH ACTION"
        draw_text(panel, heading, (_MARGIN, top + 8), 12, _QUIET)
        if moment.random:
            draw_text(panel, "random", (right, top + 8), 12, _RANDOM, right=True)
        first = top + 20
        row = min(30, (bottom - first) // len(self.actions))
        size = max(7, min(14, row - 5))
        names = max(text_width(name, size) for name in self.actions) + 12
        for index, name in enumerate(self.actions):
            y = first + index * row
            chosen = index == moment.action
            accent = _RANDOM if moment.random else _CHOSEN
            if chosen:
                fill(panel, (_MARGIN - 8, y, right + 8, y + row - 2), _CHOSEN_ROW)
                fill(panel, (_MARGIN - 8, y, _MARGIN - 5, y + row - 2), accent)
            baseline = y + row // 2 + size // 3
            colour = _TEXT if chosen else _QUIET
            draw_text(panel, name, (_MARGIN, baseline), size, colour, bold=chosen)
            if moment.q_values is None:
                continue
            value = float(moment.q_values[index])
            figure = f"{value:.3g}" if abs(value) >= 100 else f"{value:.2f}"
            draw_text(panel, figure, (right, baseline), size, colour, right=True)
            start, end = _MARGIN + names, right - text_width("-00.00", size) - 6
            length = round((end - start) * self._share(value))
            bar = (start, y + row // 4, start + max(length, 2), y + row - row // 4 - 2)
            fill(panel, bar, accent if chosen else _BAR)

    def _share(self, value: float) -> float:
        low, high = self._range or (value, value)
        return 0.0 if high <= low else float(np.clip((value - low) / (high - low), 0.0, 1.0))

    def _draw_trace(self, panel: np.ndarray, top: int) -> None:
        """The best Q-value of the last steps: it rises when the agent sees points coming."""
        draw_text(panel, "BEST Q-VALUE, LATELY", (_MARGIN, top - 10), 12, _QUIET)
        right, bottom = WIDTH - _MARGIN, top + _TRACE_HEIGHT
        fill(panel, (_MARGIN, bottom, right, bottom + 1), _RULE)
        values = np.asarray(self._trace)
        if len(values) < 2:
            return
        span = max(float(np.ptp(values)), 1e-6)
        xs = np.linspace(_MARGIN, right, self._trace.maxlen or len(values))[-len(values) :]
        ys = bottom - 4 - (values - values.min()) / span * (_TRACE_HEIGHT - 8)
        draw_line(panel, np.stack([xs, ys], axis=1), _CHOSEN)
