"""Pages as SVG, still or moving, as pixels and as films."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...errors import EightBitError, UsageError
from .layout import Page

_FINE = 6
"""straight pieces between two points, where pixels are drawn"""
_OVERSAMPLED = 3
"""drawn so many times larger, then averaged"""
_FRACTION = 4
"""bits of a coordinate below one pixel, as OpenCV takes them"""
_RATE = 25
"""frames a second of a film"""
_REST = 1.0
"""seconds that the whole page is shown at a film's end"""
LARGEST_SIDE = 16_000


@dataclass(frozen=True)
class Ink:
    """How strokes look.

    Attributes:
        colour: "#rrggbb".
        width: pixels.
        paper: "#rrggbb"; "none" for none, which pixels show as white.
    """

    colour: str = "#1f2a5a"
    width: float = 2.2
    paper: str = "#ffffff"


def check_colour(colour: str, *, may_be_none: bool = False) -> None:
    """Raises UsageError unless it is "#rrggbb", or "none" where that is allowed."""
    if may_be_none and colour == "none":
        return
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        other = " or none" if may_be_none else ""
        raise UsageError(f"{colour!r} is no colour; write it as #rrggbb{other}, like #1f2a5a.")


def handles(stroke: np.ndarray) -> np.ndarray:
    """Control points of the cubic curves of Catmull and Rom through (n, 2) points: (n - 1, 4, 2).

    Each curve begins and ends at a point; its direction there is that between the neighbours.
    """
    longer = np.concatenate([stroke[:1], stroke, stroke[-1:]])
    slopes = (longer[2:] - longer[:-2]) / 6
    begins, ends = stroke[:-1], stroke[1:]
    return np.stack([begins, begins + slopes[:-1], ends - slopes[1:], ends], axis=1)


def smooth(stroke: np.ndarray) -> np.ndarray:
    """Points on the curve through a stroke: ((n - 1) * 6 + 1, 2); one point stays one."""
    if len(stroke) == 1:
        return stroke
    t = np.arange(1, _FINE + 1)[:, None, None] / _FINE
    a, b, c, d = np.moveaxis(handles(stroke), 1, 0)
    curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    return np.concatenate([stroke[:1], np.moveaxis(curve, 0, 1).reshape(-1, 2)])


def path_data(stroke: np.ndarray) -> str:
    """A stroke as the `d` of an SVG path; a single point is a dot."""
    x, y = stroke[0]
    if len(stroke) == 1:
        return f"M{x:.2f} {y:.2f}h0.01"
    curves = handles(stroke)[:, 1:].reshape(-1, 6)
    return f"M{x:.2f} {y:.2f}" + "".join(
        "C" + " ".join(f"{value:.2f}" for value in row) for row in curves
    )


def svg(page: Page, ink: Ink, points_a_second: float = 0.0) -> str:
    """The page as SVG; with a speed, strokes appear as they are written, by SMIL.

    Args:
        points_a_second: 0 for a still picture.
    """
    width, height = f"{page.width:.1f}", f"{page.height:.1f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
    ]
    if ink.paper != "none":
        parts.append(f'<rect width="100%" height="100%" fill="{ink.paper}"/>')
    parts.append(
        f'<g fill="none" stroke="{ink.colour}" stroke-width="{ink.width:.2f}" '
        'stroke-linecap="round" stroke-linejoin="round">'
    )
    if points_a_second:
        for stroke, begin, end in _timed(page, points_a_second):
            parts.append(
                f'<path d="{path_data(stroke)}" pathLength="1" stroke-dasharray="1 2" opacity="0">'
                f'<set attributeName="opacity" to="1" begin="{begin:.2f}s" fill="freeze"/>'
                f'<animate attributeName="stroke-dashoffset" from="1" to="0" begin="{begin:.2f}s" '
                f'dur="{end - begin:.2f}s" fill="freeze"/></path>'
            )
    else:
        parts += [f'<path d="{path_data(stroke)}"/>' for stroke in page.strokes]
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _timed(page: Page, points_a_second: float) -> Iterator[tuple[np.ndarray, float, float]]:
    """Strokes with the seconds at which each begins and ends."""
    clock = 0.0
    for stroke in page.strokes:
        end = clock + max(len(stroke) - 1, 1) / points_a_second
        yield stroke, clock, end
        clock = end + 1 / points_a_second


def picture(page: Page, ink: Ink) -> np.ndarray:
    """The page as RGB uint8 (height, width, 3)."""
    canvas = _Canvas(page, ink)
    for stroke in page.strokes:
        canvas.draw(smooth(stroke))
    return canvas.pixels()


class _Canvas:
    """Paper in pixels, drawn larger than it is shown; sides are even."""

    def __init__(self, page: Page, ink: Ink):
        width, height = (int(np.ceil(side / 2)) * 2 for side in (page.width, page.height))
        if max(width, height) > LARGEST_SIDE:
            raise UsageError(
                f"a page of {width} x {height} pixels is too large; the longer side may have "
                f"{LARGEST_SIDE:,}: lower --size, or write SVG."
            )
        paper = "#ffffff" if ink.paper == "none" else ink.paper
        self.size = width, height
        self.colour = _rgb(ink.colour)
        self.thickness = max(1, round(ink.width * _OVERSAMPLED))
        shape = height * _OVERSAMPLED, width * _OVERSAMPLED, 3
        self.large = np.empty(shape, np.uint8)
        self.large[:] = _rgb(paper)

    def draw(self, curve: np.ndarray) -> None:
        """Draws along points (n, 2); one point is a dot."""
        scale = _OVERSAMPLED * 2**_FRACTION
        whole = np.rint(curve * scale).astype(np.int32)
        if len(whole) == 1:
            whole = np.repeat(whole, 2, axis=0)
        lines = [whole.reshape(-1, 1, 2)]
        cv2.polylines(self.large, lines, False, self.colour, self.thickness, cv2.LINE_AA, _FRACTION)

    def pixels(self) -> np.ndarray:
        """What is drawn so far, at its own size."""
        return np.asarray(cv2.resize(self.large, self.size, interpolation=cv2.INTER_AREA))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def frames(page: Page, ink: Ink, points_a_second: float) -> Iterator[np.ndarray]:
    """The page as it is being written, frame by frame, and at rest at the end."""
    canvas = _Canvas(page, ink)
    shown = 0.0
    for stroke, begin, end in _timed(page, points_a_second):
        curve, drawn = smooth(stroke), 0
        while shown < end:
            if shown >= begin:
                share = (shown - begin) / (end - begin)
                reached = int(share * (len(curve) - 1))
                if reached > drawn:
                    canvas.draw(curve[drawn : reached + 1])
                    drawn = reached
            yield canvas.pixels()
            shown += 1 / _RATE
        canvas.draw(curve[drawn:])
    last = canvas.pixels()
    for _ in range(round(_REST * _RATE)):
        yield last


def write_film(path: Path, page: Page, ink: Ink, points_a_second: float) -> None:
    """Writes the page as it is being written, as MP4 (H.264); the file appears when complete.

    Raises:
        EightBitError: the file cannot be written.
    """
    import av

    partial = path.with_name(f".{path.stem}.partial.mp4")
    try:
        with av.open(str(partial), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=_RATE)
            stream.pix_fmt = "yuv420p"
            stream.options = {"preset": "superfast", "crf": "18"}
            for number, rgb in enumerate(frames(page, ink, points_a_second)):
                if number == 0:
                    stream.height, stream.width = rgb.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            container.mux(stream.encode())
        os.replace(partial, path)
    except (OSError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EightBitError(f"{path} cannot be written ({reason}).") from error
    finally:
        partial.unlink(missing_ok=True)
