"""Flicker and speed of coloured films, against colouring every frame for itself.

Flicker is how far the colour (CIE a*, b*) of what is seen changes from a frame to the next: each
pixel is compared with where it was, found by the flow. Colours are taken before they are rounded
to 8 bits, and after, where rounding adds a change of its own to both ways of colouring. Pans and
zooms over photographs of BSDS500's test part have an exact flow; an Atari game's is estimated.
Give a run of colorize:

    python benchmarks/film_flicker.py --model runs/colorize
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from measure import Report, Row, arguments, compare, settings_of
from torch import Tensor

from eightbit.datasets.collections import read_collection
from eightbit.datasets.films import FilmReader, FilmWriter
from eightbit.datasets.pictures import resize
from eightbit.envs.single import AtariEnv
from eightbit.train.task_models import trained_for
from eightbit.vision_tasks.colorize.films import FilmPainter, FilmPainting, colour_film
from eightbit.vision_tasks.colorize.lab import rgb_to_lab_array
from eightbit.vision_tasks.colorize.model import predict
from eightbit.vision_tasks.colorize.paint_upsample import full_colour

SIZE = (240, 320)
"""Height and width of the clips that flicker is measured on."""
FILM = (480, 640)
"""Height and width of the film that is timed."""
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Clip:
    """Frames and where their pixels come from.

    Attributes:
        name: unique.
        frames: RGB uint8 (H, W, 3).
        origins: for each frame but the first, the columns and rows, float32 (H, W) each, where
            its pixels were in the frame before; places outside it are not compared.
    """

    name: str
    frames: list[np.ndarray]
    origins: list[tuple[np.ndarray, np.ndarray]]


def camera_clip(name: str, photo: np.ndarray, views: list[tuple[float, float, float]]) -> Clip:
    """A camera over a photograph, with the exact flow.

    Args:
        name: of the clip.
        photo: RGB uint8 (H, W, 3).
        views: of each frame, the column and row of its middle in the photograph and the pixels of
            the photograph for each of its own.
    """
    height, width = SIZE
    rows, columns = np.indices(SIZE, np.float32)
    right, down = columns - (width - 1) / 2, rows - (height - 1) / 2
    frames, origins = [], []
    for number, (x, y, scale) in enumerate(views):
        at = (np.float32(x) + right * np.float32(scale), np.float32(y) + down * np.float32(scale))
        frames.append(cv2.remap(photo, *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))
        if number:
            before_x, before_y, before_scale = views[number - 1]
            origins.append(
                (
                    (at[0] - np.float32(before_x)) / np.float32(before_scale) + (width - 1) / 2,
                    (at[1] - np.float32(before_y)) / np.float32(before_scale) + (height - 1) / 2,
                )
            )
    return Clip(name, frames, origins)


def pan(name: str, photo: np.ndarray, frames: int, speed: float) -> Clip:
    """A slanted pan by `speed` pixels a frame, which turns back at the photograph's edge."""
    spare = np.array([photo.shape[1] - SIZE[1], photo.shape[0] - SIZE[0]], np.float64)
    corner = np.array([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])
    way = np.arange(frames)[:, None] * speed * np.array([1.0, 0.4])
    middles = corner + spare - np.abs(way % (2 * spare) - spare)
    return camera_clip(f"pan over {name}", photo, [(x, y, 1.0) for x, y in middles])


def zoom(name: str, photo: np.ndarray, frames: int, factor: float) -> Clip:
    """A zoom into the middle of the photograph, by `factor` a frame."""
    middle = ((photo.shape[1] - 1) / 2, (photo.shape[0] - 1) / 2)
    return camera_clip(f"zoom on {name}", photo, [(*middle, factor**-n) for n in range(frames)])


def game_clip(game: str, frames: int) -> Clip:
    """Frames of an Atari game under random actions, with an estimated flow."""
    env = AtariEnv(game, render_mode="rgb_array")
    env.reset(seed=0)
    actions = np.random.default_rng(0)
    shown = []
    while len(shown) < frames:
        *_, ended, cut, _ = env.step(int(actions.integers(env.action_space.n)))
        if ended or cut:
            env.reset()
        shown.append(resize(np.asarray(env.render()), *SIZE))
    env.close()
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rows, columns = np.indices(SIZE, np.float32)
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in shown]
    origins = []
    for before, now in zip(greys, greys[1:], strict=False):
        moved = flow.calc(now, before, None)
        origins.append((columns + moved[..., 0], rows + moved[..., 1]))
    return Clip(f"game of {game}", shown, origins)


def flicker(clip: Clip, colour: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Mean change along the flow of the colours (H, W, 2) of frames, and mean chroma."""
    changes, chromas = [], []
    before: np.ndarray | None = None
    for number, frame in enumerate(clip.frames):
        ab = colour(frame)
        chromas.append(np.hypot(ab[..., 0], ab[..., 1]).mean())
        if before is not None:
            x, y = clip.origins[number - 1]
            moved = cv2.remap(before, x, y, cv2.INTER_LINEAR)
            inside = (x >= 0) & (x <= SIZE[1] - 1) & (y >= 0) & (y <= SIZE[0] - 1)
            changes.append(np.linalg.norm(ab - moved, axis=2)[inside].mean())
        before = ab
    return float(np.mean(changes)), float(np.mean(chromas))


def painted(painter: FilmPainter, *, rounded: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Colours (H, W, 2) of a frame as they are put on, or as 8 bits and the gamut leave them."""
    if rounded:
        return lambda frame: rgb_to_lab_array(painter(frame))[..., 1:]
    return lambda frame: full_colour(frame, *painter.small_colour(frame))


def clips(photos: int, frames: int, game: str) -> Iterator[Clip]:
    """A pan and a zoom for each photograph, spread over the test part, and a game."""
    entries = read_collection("bsds500", seed=0).test
    for entry in entries[:: max(1, len(entries) // photos)][:photos]:
        photo = entry.read()
        if photo.shape[0] > photo.shape[1]:
            photo = np.ascontiguousarray(np.rot90(photo))
        yield pan(entry.name, photo, frames, speed=2.3)
        yield zoom(entry.name, photo, frames, factor=1.015)
    yield game_clip(game, frames)


def timed(clip: Clip, model: Predict, painting: FilmPainting) -> float:
    """Frames a second of colouring a file of 640 x 480 pixels, decoding and coding included."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = FILM
            stream.pix_fmt = "yuv420p"
            for frame in clip.frames:
                shown = resize(np.repeat(frame[..., 1:2], 3, axis=2), *FILM)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
            container.mux(stream.encode(None))
        reader = FilmReader(path)
        start = time.perf_counter()
        with FilmWriter(Path(folder) / "new.mp4", reader) as writer:
            count = colour_film(reader, writer, model, painting)
        return count / (time.perf_counter() - start)


def main() -> None:
    chosen = arguments(
        "Flicker, chroma and speed of coloured films.",
        model="runs/colorize",
        photos=20,
        frames=24,
        game="seaquest",
        side=FilmPainting.side,
        memory=FilmPainting.memory,
        threads=2,
        repeats=3,
    )
    torch.set_num_threads(chosen.threads)
    cv2.setNumThreads(chosen.threads)
    trained = trained_for("colorize", chosen.model, torch.device("cpu"))
    model = partial(predict, trained.model)
    steady = FilmPainting(side=chosen.side, memory=chosen.memory)
    single = FilmPainting(side=chosen.side, memory=0)
    report = Report("film_flicker", settings_of(chosen), with_matmul=False)
    figures: dict[str, dict[str, list[float]]] = {}
    for clip in clips(chosen.photos, chosen.frames, chosen.game):
        kind = figures.setdefault(clip.name.split()[0], {})
        for way, painting in (("single", single), ("steady", steady)):
            change, chroma = flicker(clip, painted(FilmPainter(model, painting), rounded=False))
            seen, _ = flicker(clip, painted(FilmPainter(model, painting), rounded=True))
            found = {"flicker": change, "flicker in 8 bits": seen, "chroma": chroma}
            for figure, value in found.items():
                kind.setdefault(f"{way} {figure}", []).append(max(value, 1e-6))
    for name, kind in figures.items():
        rows = {
            figure: Row(f"{name}: {figure}", "eightbit", "of a*, b*", values, chosen.threads)
            for figure, values in kind.items()
        }
        report.rows += rows.values()
        for figure, bar in (("flicker", 2.0), ("flicker in 8 bits", None), ("chroma", None)):
            pair = rows[f"single {figure}"], rows[f"steady {figure}"]
            title = f"{name}: frame by frame over steady {figure}"
            report.ratios.append(compare(title, *pair, bar=bar))
    speeds = [timed(clip, model, steady) for _ in range(chosen.repeats)]
    report.rows.append(Row("film of 640 x 480", "eightbit", "frames/s", speeds, chosen.threads))
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
