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
from ...datasets.pictures import resize
from ...errors import UsageError
from .paint_upsample import paint
from .photos import MULTIPLE, Predict, predicted_colour, small_lightness

AGREEMENT = 6.0
"""Steps of lightness between a pixel and where the flow says it was, at which trust is 1/e."""
MOTION_SCALE = 2
"""Motion is found at a side this many times as long as colour is."""
CUT = 0.5
"""Mean trust below which a frame begins a new scene."""


@dataclass(frozen=True)
class FilmPainting:
    """How a film is coloured.

    Attributes:
        side: longer side, in pixels, at which colour is predicted.
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
        detail: lightness uint8 at the size at which motion is found.
        ab: averaged colour float32 (h, w, 2).
        chroma: averaged chroma of the predictions float32 (h, w).
        frames: over how many frames each pixel is averaged, float32 (h, w).
    """

    guide: np.ndarray
    detail: np.ndarray
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
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Colours the next frame, RGB uint8 (H, W, 3); its own colours are not used."""
        return paint(rgb, *self.small_colour(rgb))

    def small_colour(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the next frame is painted with: lightness (h, w) and colour (h, w, 2), float32."""
        guide = small_lightness(rgb, self.painting.side)
        ab = predicted_colour(guide, self.predict)
        if self.painting.memory:
            detail = small_lightness(rgb, MOTION_SCALE * self.painting.side)
            ab = self._steady(guide, (detail * np.float32(2.55)).astype(np.uint8), ab)
        return guide, ab * np.float32(self.painting.saturation)

    def _steady(self, guide: np.ndarray, detail: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The new prediction, averaged with what came along the flow."""
        chroma = np.hypot(new[..., 0], new[..., 1])
        past, trust = self._moved(guide, detail)
        if past is not None:
            kept = past.frames * trust
            share = 1 / (kept + 1)
            ab = past.ab + share[..., None] * (new - past.ab)
            chroma = past.chroma + share * (chroma - past.chroma)
            frames = np.minimum(kept + 1, np.float32(self.painting.memory))
        else:
            ab, frames = new, np.ones_like(guide)
        self._past = _Past(guide, detail, ab, chroma, frames)
        mean = np.hypot(ab[..., 0], ab[..., 1]).mean()
        return ab * (chroma.mean() / max(mean, np.float32(1e-6)))

    def _moved(self, guide: np.ndarray, detail: np.ndarray) -> tuple[_Past | None, np.ndarray]:
        """The past brought to this frame's places, and the trust in it; None where a scene begins.

        The trust is float32 (h, w) in [0, 1].
        """
        past = self._past
        none = np.zeros_like(guide)
        if past is None or past.guide.shape != guide.shape or past.detail.shape != detail.shape:
            return None, none
        flow = self._flow.calc(detail, past.detail, None)  # type: ignore[call-overload]  # as told
        height, width = guide.shape
        flow = resize(flow, height, width)
        rows, columns = np.indices(guide.shape, np.float32)
        x = columns + flow[..., 0] * np.float32(width / detail.shape[1])
        y = rows + flow[..., 1] * np.float32(height / detail.shape[0])
        stacked = np.dstack([past.guide, past.chroma, past.frames])
        moved = cv2.remap(stacked, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        ab = cv2.remap(past.ab, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # A pixel or two of error in the flow must not count where lightness is rough.
        off = cv2.blur(moved[..., 0] - guide, (3, 3)) / np.float32(AGREEMENT)
        trust = np.exp(-off * off) * ((x > -1) & (x < width) & (y > -1) & (y < height))
        if trust.mean() < CUT:
            self.cuts += 1
            return None, none
        return _Past(moved[..., 0], detail, ab, moved[..., 1], moved[..., 2]), trust


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
