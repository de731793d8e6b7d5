"""Lab against scikit-image, an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import lab2rgb, rgb2lab

from eightbit.vision_tasks.colorize.lab import (
    lab_to_bytes,
    lab_to_rgb_array,
    rgb_to_lab,
    rgb_to_lab_array,
)


def all_kinds_of_colours() -> np.ndarray:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 52, 3)


def test_lab_equals_that_of_scikit_image() -> None:
    rgb = all_kinds_of_colours()
    assert np.abs(rgb_to_lab_array(rgb) - rgb2lab(rgb)).max() < 1e-3
    as_floats = (rgb / 255).astype(np.float32)
    assert np.abs(rgb_to_lab_array(as_floats) - rgb2lab(as_floats)).max() < 1e-3


def test_rgb_equals_that_of_scikit_image_for_colours_of_the_gamut() -> None:
    lab = rgb2lab(all_kinds_of_colours())
    assert np.abs(lab_to_rgb_array(lab) - lab2rgb(lab)).max() < 1e-3


def test_colours_outside_the_gamut_are_clipped() -> None:
    rgb = lab_to_rgb_array(np.array([[[50.0, 200.0, -200.0], [99.0, -90.0, 90.0]]]))
    assert rgb.min() >= 0 and rgb.max() <= 1


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_every_colour_comes_back_from_lab_unchanged(colour: tuple[int, int, int]) -> None:
    rgb = torch.tensor(colour, dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert torch.equal(lab_to_bytes(rgb_to_lab(rgb)), rgb)


def test_autocast_does_not_round_colours() -> None:
    rgb = torch.arange(3 * 64 * 4, dtype=torch.int32).reshape(1, 3, 16, 16) % 256
    wanted = rgb_to_lab(rgb.to(torch.uint8))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rgb_to_lab(rgb.to(torch.uint8)), wanted)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (2, 2, 3, 4, 5)])
def test_the_leading_axes_are_free(shape: tuple[int, ...]) -> None:
    rgb = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    flat = rgb.reshape(-1, *shape[-3:])
    assert torch.equal(rgb_to_lab(rgb).reshape(flat.shape), rgb_to_lab(flat))
