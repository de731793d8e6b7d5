"""Films, coloured without flicker: colours follow the motion and change slowly.

Every frame's colour is predicted small. The colours of the frame before come along the optical
flow and are averaged with the new ones, pixel by pixel, as far as lightness says that the flow is
right; a cut begins anew. Averages of unlike colours are greyer than what they were made of, so the
frame's mean chroma is brought back to that of its predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ...datasets.films import FilmReader, FilmWriter
from ...errors import UsageError
from .paint_upsample import paint
from .photos import MULTIPLE, Predict, predicted_colour, small_lightness

AGREEMENT = 6.0
"""Steps of lightness between a pixel and where the flow says it was, at which trust is 1/e."""
CUT = 0.5
"""Mean trust below which a frame begins a new scene."""


@dataclass(frozen=True)
class FilmPainting:
    """How a film is coloured.

    Attributes:
        side: longer side, in pixels, at which colour and motion are found.
        saturation: factor on a* and b*.
        memory: frames that a colour is averaged over; 0 colours every frame for itself.
    """

    side: int = 160
    saturation: float = 1.0
    memory: int = 12

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        if self.side < 2 * MULTIPLE:
            raise UsageError(f"side is {self.side}; it must be at least {2 * MULTIPLE}.")
        if self.saturation < 0 or self.memory < 0:
            raise UsageError("saturation and memory must not be below 0.")


@dataclass(frozen=True)
class _Past:
    """What is carried from frame to frame, at the small size.

    Attributes:
        guide: lightness float32 (h, w).
        ab: averaged colour float32 (h, w, 2).
        chroma: averaged chroma of the predictions float32 (h, w).
        frames: over how many frames each pixel is averaged, float32 (h, w).
    """

    guide: np.ndarray
    ab: np.ndarray
    chroma: np.ndarray
    frames: np.ndarray


class FilmPainter:
    """Colours frames that follow one another.

    Attributes:
        cuts: scenes that have begun after the first.
    """

    def __init__(self, predict: Predict, painting: FilmPainting):
        self.predict = predict
        self.painting = painting
        self.cuts = 0
        self._past: _Past | None = None
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Colours the next frame, RGB uint8 (H, W, 3); its own colours are not used."""
        guide = small_lightness(rgb, self.painting.side)
        ab = self._steady(guide, predicted_colour(guide, self.predict))
        return paint(rgb, guide, ab * np.float32(self.painting.saturation))

    def _steady(self, guide: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The new prediction, averaged with what came along the flow."""
        if not self.painting.memory:
            return new
        chroma = np.hypot(new[..., 0], new[..., 1])
        past, trust = self._moved(guide)
        if past is not None:
            kept = past.frames * trust
            share = 1 / (kept + 1)
            ab = past.ab + share[..., None] * (new - past.ab)
            chroma = past.chroma + share * (chroma - past.chroma)
            frames = np.minimum(kept + 1, np.float32(self.painting.memory))
        else:
            ab, frames = new, np.ones_like(guide)
        self._past = _Past(guide, ab, chroma, frames)
        mean = np.hypot(ab[..., 0], ab[..., 1]).mean()
        return ab * (chroma.mean() / max(mean, np.float32(1e-6)))

    def _moved(self, guide: np.ndarray) -> tuple[_Past | None, np.ndarray]:
        """The past brought to this frame's places, and the trust in it; None where a scene begins.

        The trust is float32 (h, w) in [0, 1].
        """
        past = self._past
        if past is None or past.guide.shape != guide.shape:
            return None, np.zeros_like(guide)
        was, now = _bytes(past.guide), _bytes(guide)
        flow = self._flow.calc(now, was, None)  # type: ignore[call-overload]  # makes its own
        rows, columns = np.indices(guide.shape, np.float32)
        x, y = columns + flow[..., 0], rows + flow[..., 1]
        stacked = np.dstack([past.guide, past.ab, past.chroma])
        moved = cv2.remap(stacked, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        frames = cv2.remap(past.frames, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # A pixel or two of error in the flow must not count where lightness is rough.
        trust = np.exp(-((cv2.blur(moved[..., 0] - guide, (3, 3)) / np.float32(AGREEMENT)) ** 2))
        inside = (x > -1) & (x < guide.shape[1]) & (y > -1) & (y < guide.shape[0])
        trust *= inside
        if trust.mean() < CUT:
            self.cuts += 1
            return None, np.zeros_like(guide)
        return _Past(moved[..., 0], moved[..., 1:3], moved[..., 3], frames), trust


def _bytes(guide: np.ndarray) -> np.ndarray:
    return (guide * np.float32(2.55)).astype(np.uint8)


def colour_film(
    reader: FilmReader,
    writer: FilmWriter,
    predict: Predict,
    painting: FilmPainting,
    progress: Callable[[float], None] | None = None,
) -> int:
    """Colours a film; times and sound stay what they are.

    Args:
        reader: the film.
        writer: made like the reader; the caller closes it, best in a `with` statement.
        predict: the colour predictor.
        painting: how.
        progress: is told the seconds of film that are done.

    Returns:
        Frames written.

    Raises:
        DataError: the film is damaged; the frames before are written.
        EightBitError: no space is left.
    """
    painter = FilmPainter(predict, painting)
    count = 0
    for time, rgb in reader.frames():
        writer.write(painter(rgb), time)
        count += 1
        if progress is not None:
            progress(time)
    return count
