"""Paths of glimpses as pictures and as animations."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ...datasets.films import FilmReader, FilmWriter
from ...datasets.output import write_whole
from .options import GlimpseOptions

FRAME_MS = 400
"""Milliseconds that a glimpse is shown in an animation."""

ENLARGED = 240
"""Pixels that a picture's longer side has at least in a drawing."""
_COLOURS = ((255, 214, 0), (0, 200, 120), (90, 140, 255))  # of the scales, the narrowest first


def look_frame(
    picture: np.ndarray, places: np.ndarray, options: GlimpseOptions, retina: np.ndarray | None
) -> np.ndarray:
    """A picture with the squares of the last glimpse and the path so far.

    Args:
        picture: uint8 (S, S).
        places: (t, 2), (row, column) in [-1, 1], t at least 1.
        options: of the task.
        retina: what the last glimpse saw, float (k * w * w,) in [0, 1], drawn beside it; or None.

    Returns:
        RGB uint8 (H, W, 3).
    """
    size = len(picture)
    zoom = -(-ENLARGED // size)
    frame = np.repeat(picture.repeat(zoom, 0).repeat(zoom, 1)[..., None], 3, axis=2)
    pixels = ((np.clip(places, -1, 1) + 1) / 2 * (size - 1)).round().astype(int)
    points = [(int((x + 0.5) * zoom), int((y + 0.5) * zoom)) for y, x in pixels]
    y, x = pixels[-1]
    for scale in reversed(range(options.scales)):
        side = options.patch * 2**scale
        top, left = ((int(v) - side // 2) * zoom for v in (y, x))
        corner = left + side * zoom - 1, top + side * zoom - 1
        cv2.rectangle(frame, (left, top), corner, _COLOURS[scale % 3], max(1, zoom // 3))
    for one, other in zip(points, points[1:], strict=False):
        cv2.line(frame, one, other, (255, 80, 80), max(1, zoom // 4), cv2.LINE_AA)
    cv2.circle(frame, points[-1], max(2, zoom // 2), (255, 80, 80), -1, cv2.LINE_AA)
    if retina is None:
        return frame
    return np.concatenate([frame, _eye(retina, options, frame.shape[0])], axis=1)


def _eye(retina: np.ndarray, options: GlimpseOptions, height: int) -> np.ndarray:
    """The patches of a retina below each other, framed in the colours of their squares."""
    side = min(height // options.scales, height // 2) - 6
    column = np.full((height, side + 12, 3), 40, np.uint8)
    patches = (retina.reshape(options.scales, options.patch, options.patch) * 255).round()
    for index, patch in enumerate(patches.astype(np.uint8)):
        shown = cv2.resize(patch, (side, side), interpolation=cv2.INTER_NEAREST)
        top = 3 + index * (side + 6)
        column[top : top + side, 6 : 6 + side] = shown[..., None]
        colour = _COLOURS[index % 3]
        cv2.rectangle(column, (5, top - 1), (6 + side, top + side), colour, 1)
    return column


def mark_end(frame: np.ndarray, good: bool) -> None:
    """Draws a green or a red border on an RGB frame, in place."""
    height, width = frame.shape[:2]
    colour = (0, 220, 90) if good else (230, 40, 40)
    cv2.rectangle(frame, (2, 2), (width - 3, height - 3), colour, 5)


def strip(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames of one height beside each other, with a gap."""
    gap = np.full((frames[0].shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([part for frame in frames for part in (frame, gap)][:-1], axis=1)


def path_sheet(pictures: np.ndarray, places: np.ndarray, options: GlimpseOptions) -> np.ndarray:
    """A row for each picture: the path after each glimpse.

    Args:
        pictures: uint8 (N, S, S).
        places: (N, T, 2).
        options: of the task.

    Returns:
        RGB uint8, each frame shrunk to 120 pixels.
    """
    rows = []
    for picture, path in zip(pictures, places, strict=True):
        frames = [
            look_frame(picture, path[: index + 1], options, None) for index in range(len(path))
        ]
        small = [cv2.resize(f, (120, 120), interpolation=cv2.INTER_AREA) for f in frames]
        rows.append(strip(small))
    gap = np.full((4, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def write_film(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Writes frames as a GIF that goes on for ever, or as a film.

    Args:
        path: ends in .gif or in one of `films.WRITTEN`; its folder is made.
        frames: RGB uint8 (H, W, 3), of one shape.

    Raises:
        UsageError: another ending.
        EightBitError: the file cannot be written.
    """
    if path.suffix.lower() == ".gif":
        write_whole(path, _gif(frames))
        return
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "path.gif"  # its times are the film's
        whole.write_bytes(_gif(frames))
        with FilmWriter(path, FilmReader(whole)) as writer:
            for index, frame in enumerate(frames):
                writer.write(frame, index * FRAME_MS / 1000)


def _gif(frames: Sequence[np.ndarray]) -> bytes:
    first, *rest = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=rest, duration=FRAME_MS, loop=0)
    return stream.getvalue()
