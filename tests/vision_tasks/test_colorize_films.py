"""Coloured films do not flicker, colours follow what moves, and a cut begins anew."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from eightbit.datasets.films import FilmReader, FilmWriter
from eightbit.errors import DataError, UsageError
from eightbit.vision_tasks.colorize.films import FilmPainter, FilmPainting, colour_film
from eightbit.vision_tasks.colorize.lab import rgb_to_lab_array
from eightbit.vision_tasks.colorize.paint_light import lightness
from eightbit.vision_tasks.colorize.photos import Painting, colour_photo

HEIGHT, WIDTH = 96, 128
STEP = 2  # pixels that a pan goes on from frame to frame


def scene(rng: np.random.Generator, width: int = 400) -> np.ndarray:
    """A grey landscape with structure at several sizes, uint8 (HEIGHT, width, 3)."""
    total = np.zeros((HEIGHT, width), np.float32)
    for cell, height in ((48, 50.0), (16, 25.0), (6, 12.0)):
        grid = rng.normal(size=(HEIGHT // cell + 2, width // cell + 2)).astype(np.float32)
        total += height * cv2.resize(grid, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(total + 128, 20, 235).astype(np.uint8)[..., None], 3, axis=2)


def pan(photo: np.ndarray, frames: int) -> list[np.ndarray]:
    """Frame n shows the columns from STEP * n on."""
    return [np.ascontiguousarray(photo[:, STEP * n : STEP * n + WIDTH]) for n in range(frames)]


def nervous(rng: np.random.Generator, strength: float) -> Callable[[Tensor], Tensor]:
    """Colour by lightness, with large blotches that change from frame to frame."""

    def predict(bright: Tensor) -> Tensor:
        height, width = bright.shape[-2:]
        grid = rng.normal(0, strength, (5, 6, 2)).astype(np.float32)
        blotches = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        base = torch.cat([bright - 40, 60 - bright], dim=1) * 0.8
        return base + torch.from_numpy(blotches).permute(2, 0, 1)[None]

    return predict


def colours(painter: FilmPainter, frames: list[np.ndarray]) -> np.ndarray:
    return np.stack([rgb_to_lab_array(painter(frame))[..., 1:] for frame in frames])


def change_along_pan(ab: np.ndarray) -> float:
    return float(np.linalg.norm(ab[1:, :, :-STEP] - ab[:-1, :, STEP:], axis=-1).mean())


def mean_chroma(ab: np.ndarray) -> float:
    return float(np.hypot(ab[..., 0], ab[..., 1]).mean())


@pytest.mark.parametrize("strength", [4.0, 12.0])
def test_flicker_falls_and_chroma_stays(rng: np.random.Generator, strength: float) -> None:
    frames = pan(scene(rng), 20)
    single, steady = (
        colours(FilmPainter(nervous(np.random.default_rng(5), strength), painting), frames)
        for painting in (FilmPainting(memory=0), FilmPainting())
    )
    assert change_along_pan(steady) < 0.4 * change_along_pan(single)
    assert mean_chroma(steady) == pytest.approx(mean_chroma(single), rel=0.05)
    assert np.linalg.norm(steady - single, axis=-1).mean() > 1  # it is another film


def test_lightness_stays_frame_by_frame(rng: np.random.Generator) -> None:
    painter = FilmPainter(nervous(rng, 8.0), FilmPainting())
    for frame in pan(scene(rng), 5):
        assert np.abs(lightness(painter(frame)) - lightness(frame)).max() < 0.5


def test_without_memory_each_frame_is_a_photo(rng: np.random.Generator) -> None:
    frames = pan(scene(rng), 3)
    predict = nervous(rng, 0.0)
    painter = FilmPainter(predict, FilmPainting(side=64, memory=0, saturation=1.3))
    for frame in frames:
        photo = colour_photo(frame, predict, Painting(side=64, saturation=1.3))
        np.testing.assert_array_equal(painter(frame), photo)


def test_the_first_frame_is_the_prediction_itself(rng: np.random.Generator) -> None:
    (frame,) = pan(scene(rng), 1)
    predict = nervous(rng, 0.0)
    steady = FilmPainter(predict, FilmPainting())(frame)
    single = FilmPainter(predict, FilmPainting(memory=0))(frame)
    assert np.abs(steady.astype(int) - single).max() <= 1


def test_a_cut_begins_anew(rng: np.random.Generator) -> None:
    first, second = pan(scene(rng), 6), pan(scene(rng)[::-1], 2)
    red = torch.tensor([10.0, 8.0])[None, :, None, None]
    state = {"colour": red}

    def predict(bright: Tensor) -> Tensor:
        return state["colour"].expand(1, 2, *bright.shape[-2:])

    painter = FilmPainter(predict, FilmPainting())
    colours(painter, first)
    assert painter.cuts == 0
    state["colour"] = -red
    after = colours(painter, second)[0]
    assert painter.cuts == 1
    assert np.abs(np.median(after.reshape(-1, 2), axis=0) - (-10, -8)).max() < 1.5
    assert (after[..., 0] < 0).mean() > 0.999  # no ghost of the scene before


def test_colour_goes_with_a_thing_that_moves_and_leaves_no_trail() -> None:
    frames = []
    for number in range(12):
        frame = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
        frame[::7] = 75  # something to hold on to
        left = 8 + 5 * number
        frame[30:60, left : left + 24] = 190
        frames.append(frame)

    def predict(bright: Tensor) -> Tensor:
        thing = (bright > 55).float()
        return torch.cat([40 * thing - 10, 30 * thing - 20], dim=1)

    ab = colours(FilmPainter(predict, FilmPainting(side=WIDTH)), frames)[-1]
    left = 8 + 5 * 11
    assert np.abs(ab[34:56, left + 4 : left + 20] - (30, 10)).max() < 3
    passed = ab[34:56, 8 : left - 4]
    assert np.abs(passed.mean(axis=(0, 1)) - (-10, -20)).max() < 2
    assert (passed[..., 0] < 5).mean() > 0.97


def test_frames_of_another_size_begin_anew(rng: np.random.Generator) -> None:
    painter = FilmPainter(nervous(rng, 1.0), FilmPainting())
    whole = pan(scene(rng), 1)[0]
    assert painter(whole).shape == whole.shape
    half = np.ascontiguousarray(whole[:40])
    assert painter(half).shape == half.shape


@pytest.mark.parametrize("wrong", [{"side": 8}, {"saturation": -1.0}, {"memory": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        FilmPainting(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- files


def write_film(path: Path, frames: list[np.ndarray], times: list[Fraction]) -> None:
    """A film with a tone."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 12_800)
        track = container.add_stream("aac", rate=8_000, layout="mono")
        tone = (np.sin(np.arange(8_000) / 3) * 9_000).astype(np.int16)
        piece = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
        piece.sample_rate, piece.pts = 8_000, 0
        container.mux(track.encode(piece))
        container.mux(track.encode(None))
        for frame, time in zip(frames, times, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = round(time * 12_800), Fraction(1, 12_800)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def test_a_film_keeps_its_times_sound_and_lightness(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    times = [Fraction(n, 25) + Fraction(n % 3, 100) for n in range(12)]
    frames = pan(scene(rng), 12)
    write_film(tmp_path / "film.mp4", frames, times)
    reader = FilmReader(tmp_path / "film.mp4")
    told: list[float] = []
    with FilmWriter(tmp_path / "new.mp4", reader) as writer:
        count = colour_film(reader, writer, nervous(rng, 4.0), FilmPainting(), told.append)
    assert count == 12
    assert told == pytest.approx(list(map(float, times)))
    written = FilmReader(tmp_path / "new.mp4")
    assert written.has_sound
    read = list(written.frames())
    assert [time for time, _ in read] == pytest.approx(list(map(float, times)))
    before = np.stack([lightness(frame) for _, frame in reader.frames()])
    after = np.stack([lightness(frame) for _, frame in read])
    assert np.abs(after - before).mean() < 1.5  # H.264 loses a little
    assert mean_chroma(np.stack([rgb_to_lab_array(frame)[..., 1:] for _, frame in read])) > 10


def test_a_broken_film_keeps_the_coloured_beginning(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, pan(scene(rng), 60), [Fraction(n, 25) for n in range(60)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    reader = FilmReader(path)
    target = tmp_path / "new.mp4"
    with (
        pytest.raises(DataError, match="is damaged from second"),
        FilmWriter(target, reader) as writer,
    ):
        colour_film(reader, writer, nervous(rng, 4.0), FilmPainting())
    assert 2 < len(list(FilmReader(target).frames())) < 60


# --------------------------------------------------------------------------- the benchmark's clips


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> ModuleType:
    folder = repository / "benchmarks"
    spec = importlib.util.spec_from_file_location("film_flicker", folder / "film_flicker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    try:
        sys.modules["film_flicker"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
        del sys.modules["film_flicker"]
    return module


@pytest.mark.parametrize("kind", ["pan", "zoom"])
def test_the_flow_of_a_clip_is_exact(
    benchmark: ModuleType, rng: np.random.Generator, kind: str
) -> None:
    photo = cv2.resize(
        rng.integers(0, 256, (21, 31, 3), dtype=np.uint8), (481, 321), interpolation=cv2.INTER_CUBIC
    )
    made = {"pan": benchmark.pan, "zoom": benchmark.zoom}[kind]
    clip = made("it", photo, 6, *((2.3,) if kind == "pan" else (1.015,)))
    assert len(clip.frames) == len(clip.origins) + 1 == 6
    for before, now, (x, y) in zip(clip.frames, clip.frames[1:], clip.origins, strict=False):
        moved = cv2.remap(before, x, y, cv2.INTER_CUBIC)
        inside = (x >= 2) & (x <= 317) & (y >= 2) & (y <= 237)
        assert inside.mean() > 0.9
        assert np.abs(moved.astype(int) - now)[inside].mean() < 0.8
        assert np.abs(before.astype(int) - now)[inside].mean() > 1.5


def test_a_film_of_true_colours_hardly_flickers(
    benchmark: ModuleType, rng: np.random.Generator
) -> None:
    photo = cv2.resize(
        rng.integers(0, 256, (21, 31, 3), dtype=np.uint8), (481, 321), interpolation=cv2.INTER_CUBIC
    )
    clip = benchmark.pan("it", photo, 5, 2.3)
    change, chroma = benchmark.flicker(clip, lambda frame: rgb_to_lab_array(frame)[..., 1:])
    assert change < 0.05 * chroma
    shaken, _ = benchmark.flicker(
        clip, lambda frame: rgb_to_lab_array(np.roll(frame, int(rng.integers(3)), axis=2))[..., 1:]
    )
    assert shaken > 5 * change


def test_the_benchmark_looks_at_what_is_painted(
    benchmark: ModuleType, rng: np.random.Generator
) -> None:
    (frame,) = pan(scene(rng), 1)
    predict = nervous(rng, 0.0)
    found = [
        benchmark.painted(FilmPainter(predict, FilmPainting()), rounded=rounded)(frame)
        for rounded in (False, True)
    ]
    assert found[0].shape == found[1].shape == (HEIGHT, WIDTH, 2)
    shown = np.abs(found[0] - found[1]) < 0.6  # the rest lies beyond the gamut
    assert shown.mean() > 0.6
