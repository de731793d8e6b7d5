"""Photos keep their lightness, colours follow edges, hints stay on their thing, variants differ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eightbit.errors import UsageError
from eightbit.vision_tasks.colorize.hints import Hint, parse_hint, spread_hints
from eightbit.vision_tasks.colorize.lab import lab_to_rgb_array, rgb_to_lab_array
from eightbit.vision_tasks.colorize.paint_light import lightness, with_colour
from eightbit.vision_tasks.colorize.paint_upsample import guided_lines, paint
from eightbit.vision_tasks.colorize.photos import (
    Painting,
    colour_photo,
    colour_variants,
    small_lightness,
)


def constant(a: float, b: float) -> Callable[[Tensor], Tensor]:
    """A predictor of one colour for everything."""

    def predict(bright: Tensor) -> Tensor:
        colour = torch.tensor([a, b])[None, :, None, None]
        return colour.expand(bright.shape[0], 2, *bright.shape[-2:])

    return predict


def two_halves(height: int, width: int, edge: int) -> np.ndarray:
    """Dark left of column `edge`, bright right of it."""
    rgb = np.full((height, width, 3), 70, np.uint8)
    rgb[:, edge:] = 170
    return rgb


@given(colour=st.tuples(*[st.integers(0, 255)] * 3))
@settings(max_examples=100, deadline=None)
def test_lightness_and_colour_give_the_picture_back(colour: tuple[int, int, int]) -> None:
    rgb = np.full((2, 3, 3), colour, np.uint8)
    lab = rgb_to_lab_array(rgb)
    np.testing.assert_allclose(lightness(rgb), lab[..., 0], atol=0.001)
    assert np.abs(with_colour(lightness(rgb), lab[..., 1:]).astype(int) - rgb).max() <= 1


@given(
    level=st.integers(0, 255),
    a=st.floats(-128, 128, width=32),
    b=st.floats(-128, 128, width=32),
)
@settings(max_examples=200, deadline=None)
def test_colours_beyond_the_gamut_lose_chroma_and_never_lightness(
    level: int, a: float, b: float
) -> None:
    grey = np.full((1, 1, 3), level, np.uint8)
    painted = with_colour(lightness(grey), np.array([[[a, b]]], np.float32))
    found = rgb_to_lab_array(painted)[0, 0]
    # Half a level of rounding in each channel is at most so much lightness.
    assert abs(found[0] - lightness(grey)[0, 0]) < 0.6
    inside = lab_to_rgb_array(np.array([[[lightness(grey)[0, 0], a, b]]], np.float32))
    if inside.min() > 0.01 and inside.max() < 0.99:
        assert np.abs(found[1:] - (a, b)).max() < 4
    else:
        assert np.hypot(*found[1:]) < np.hypot(a, b) + 4


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 700), (333, 217), (900, 40)])
def test_a_photo_of_any_size_keeps_its_lightness(
    height: int, width: int, rng: np.random.Generator
) -> None:
    rgb = rng.integers(30, 226, (height, width, 3), dtype=np.uint8)
    sizes = []

    def predict(bright: Tensor) -> Tensor:
        sizes.append(bright.shape)
        return constant(10.0, -15.0)(bright)

    painted = colour_photo(rgb, predict, Painting(side=128))
    assert painted.shape == rgb.shape
    assert painted.dtype == np.uint8
    assert np.abs(lightness(painted) - lightness(rgb)).max() < 0.5
    lab = rgb_to_lab_array(painted).reshape(-1, 3)
    assert np.abs(np.median(lab[:, 1:], axis=0) - (10, -15)).max() < 1
    (size,) = sizes
    assert size[0] == size[1] == 1
    assert size[2] % 8 == size[3] % 8 == 0
    assert max(size[2:]) <= 128


def test_a_grey_prediction_leaves_a_grey_picture_as_it_is(rng: np.random.Generator) -> None:
    grey = np.repeat(rng.integers(0, 256, (50, 70, 1), dtype=np.uint8), 3, axis=2)
    np.testing.assert_array_equal(colour_photo(grey, constant(0, 0), Painting()), grey)
    np.testing.assert_array_equal(colour_photo(grey, constant(30, 9), Painting(saturation=0)), grey)


def test_saturation_is_a_factor_on_chroma() -> None:
    grey = np.full((40, 40, 3), 120, np.uint8)
    chroma = []
    for factor in (0.5, 1.0, 2.0):
        painted = colour_photo(grey, constant(12, 8), Painting(saturation=factor))
        chroma.append(np.hypot(*rgb_to_lab_array(painted)[0, 0, 1:]))
    assert np.allclose(chroma, np.hypot(12, 8) * np.array([0.5, 1, 2]), atol=0.8)


def test_colour_follows_an_edge_between_the_small_pixels() -> None:
    """The edge lies within a small pixel, where plain enlarging would bleed over many columns."""
    rgb = two_halves(256, 512, 253)
    guide = small_lightness(rgb, 64)
    dark, bright = np.float32(lightness(rgb)[0, 0]), np.float32(lightness(rgb)[0, -1])
    share = (guide - dark) / (bright - dark)
    left, right = np.array([20.0, -10.0]), np.array([-15.0, 25.0])
    ab = ((1 - share)[..., None] * left + share[..., None] * right).astype(np.float32)
    found = rgb_to_lab_array(paint(rgb, guide, ab))[..., 1:]
    truth = np.where(np.arange(512)[None, :, None] < 253, left, right)
    near = np.abs(found - truth)[:, 245:261].mean()
    from cv2 import INTER_LINEAR, resize

    plain = np.abs(resize(ab, (512, 256), interpolation=INTER_LINEAR) - truth)[:, 245:261].mean()
    assert near < 0.25 * plain
    assert np.abs(found - truth)[:, :200].max() < 1.5


def test_an_even_surface_keeps_the_prediction_exactly(rng: np.random.Generator) -> None:
    ab = rng.normal(0, 10, (16, 24, 2)).astype(np.float32)
    lines = guided_lines(rng.uniform(20, 80, (16, 24)).astype(np.float32), ab)
    even = guided_lines(np.full((16, 24), 50, np.float32), ab)
    np.testing.assert_allclose(even[..., :2] * 50 + even[..., 2:], ab, atol=1e-4)
    assert lines.shape == (16, 24, 4)


def test_strips_join_without_a_seam(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    rgb = rng.integers(0, 256, (90, 70, 3), dtype=np.uint8)
    ab = rng.normal(0, 20, (16, 8, 2)).astype(np.float32)
    guide = rng.uniform(0, 100, (16, 8)).astype(np.float32)
    whole = paint(rgb, guide, ab)
    monkeypatch.setattr("eightbit.vision_tasks.colorize.paint_upsample._STRIP", 500)
    np.testing.assert_array_equal(paint(rgb, guide, ab), whole)


# ------------------------------------------------------------------------------------- hints


def test_a_hint_is_read() -> None:
    hint = parse_hint(" 12,7,#ff0000 ")
    assert (hint.x, hint.y) == (12, 7)
    assert hint.ab == pytest.approx((80.1, 67.2), abs=0.1)


@pytest.mark.parametrize("text", ["", "12,7", "12,7,red", "1.5,2,#ffffff", "1,2,#fff"])
def test_a_hint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not like 120,80,#a03020"):
        parse_hint(text)


def test_a_hint_outside_the_picture_is_refused() -> None:
    painting = Painting(hints=(Hint(40, 3, (1.0, 1.0)),))
    with pytest.raises(UsageError, match="40,3 lies outside the picture of 40 x 20"):
        colour_photo(np.zeros((20, 40, 3), np.uint8), constant(0, 0), painting)


def test_a_hint_colours_its_thing_and_stops_at_the_edge() -> None:
    rgb = two_halves(160, 240, 120)
    painted = colour_photo(
        rgb, constant(0, 0), Painting(side=120, hints=(parse_hint("60,80,#b04040"),))
    )
    ab = rgb_to_lab_array(painted)[..., 1:]
    wanted = np.array(parse_hint("60,80,#b04040").ab)
    assert np.abs(ab[80, 60] - wanted).max() < 1.5
    assert np.hypot(*ab[80, 20]) > 0.5 * np.hypot(*wanted)
    assert np.hypot(*ab[80, 110]) > 0.5 * np.hypot(*wanted)
    assert np.hypot(*ab[80, 130]) < 0.05 * np.hypot(*wanted)


def test_two_hints_share_a_surface_and_each_rules_its_own_place() -> None:
    guide = np.full((40, 64), 50, np.float32)
    hints = [Hint(5, 20, (40.0, 0.0)), Hint(58, 20, (0.0, -40.0))]
    ab = spread_hints(hints, guide, np.zeros((40, 64, 2), np.float32), (40, 64))
    assert np.abs(ab[20, 5] - (40, 0)).max() < 3
    assert np.abs(ab[20, 58] - (0, -40)).max() < 3
    assert ab[20, 31, 0] == pytest.approx(-ab[20, 32, 1], abs=1)


def test_ways_are_those_of_dijkstra(rng: np.random.Generator) -> None:
    import heapq

    from eightbit.vision_tasks.colorize import hints as module

    guide = np.asarray(rng.integers(0, 3, (9, 11)) * 30, np.float32)
    found = module._ways(guide, [(2, 3)])[0]
    import cv2

    calm = cv2.bilateralFilter(guide, d=7, sigmaColor=8, sigmaSpace=2)
    far = np.full(guide.shape, np.inf)
    far[2, 3] = 0
    queue = [(0.0, 2, 3)]
    while queue:
        way, row, column = heapq.heappop(queue)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                to = (row + down, column + right)
                if not (0 <= to[0] < 9 and 0 <= to[1] < 11) or (down, right) == (0, 0):
                    continue
                climb = abs(float(calm[to]) - float(calm[row, column])) * module.BARRIER
                reached = way + climb + np.hypot(down, right) / 11
                if reached < far[to] - 1e-9:
                    far[to] = reached
                    heapq.heappush(queue, (reached, *to))
    np.testing.assert_allclose(found, far, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------- variants

COLOURS = torch.tensor([[40.0, 0.0], [0.0, 40.0], [-40.0, 0.0], [0.0, -40.0]])


def doubtful(bright: Tensor) -> tuple[Tensor, Tensor]:
    """Sure of the first colour in the left half, in doubt between all in the right half."""
    height, width = bright.shape[-2] // 2, bright.shape[-1] // 2
    shares = torch.full((1, 4, height, width), 0.25)
    shares[..., : width // 2] = torch.tensor([0.9997, 1e-4, 1e-4, 1e-4])[:, None, None]
    return shares, COLOURS


def test_variants_differ_where_the_predictor_doubts_and_are_smooth() -> None:
    grey = np.full((64, 96, 3), 119, np.uint8)
    variants = list(colour_variants(grey, doubtful, Painting(), 5, temperature=0.4, seed=3))
    labs = np.stack([rgb_to_lab_array(variant)[..., 1:] for variant in variants])
    sure, doubt = labs[:, :, :40], labs[:, :, 56:]
    assert np.abs(sure - (40, 0)).max() < 4
    assert np.abs(doubt[0]).max() < 1.5  # the first is the prediction: the mean of all four
    between = np.linalg.norm(doubt[1:, None] - doubt[None, 1:], axis=-1).mean(axis=(2, 3))
    assert between[np.triu_indices(4, 1)].min() > 5
    steps = np.abs(np.diff(doubt[1:], axis=2))
    assert steps.max() < 6  # no speckles


def test_variants_follow_the_seed() -> None:
    grey = np.full((32, 32, 3), 119, np.uint8)
    first, again, other = (
        list(colour_variants(grey, doubtful, Painting(), 3, temperature=0.4, seed=seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.array(first[1:]).astype(int) - np.array(other[1:])).mean() > 1
    with pytest.raises(UsageError, match="ask for at least 1"):
        next(colour_variants(grey, doubtful, Painting(), 0, temperature=0.4, seed=1))


@pytest.mark.parametrize("wrong", [{"side": 4}, {"saturation": -1.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Painting(**wrong)  # type: ignore[arg-type]
