"""Lightness of a picture, and colour put onto it without changing it, for pictures of any size."""

from __future__ import annotations

from functools import cache

import numpy as np

from .lab import RGB_TO_XYZ

_LEVELS = 65_535  # steps of the table from light to sRGB
_KNEE = 6 / 29
_SLOPE = 3 * _KNEE**2
_OFFSET = 4 / 29


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE lightness of sRGB.

    Args:
        rgb: uint8 (H, W, 3).

    Returns:
        float32 (H, W) in [0, 100].
    """
    red = rgb[..., 0]
    if np.array_equal(red, rgb[..., 1]) and np.array_equal(red, rgb[..., 2]):
        return _lightness_of(_light_of_levels())[red]
    table = _light_of_levels()
    shares = _matrix()[1]
    luminance = sum(table[rgb[..., channel]] * shares[channel] for channel in range(3))
    return _lightness_of(np.asarray(luminance))


def with_colour(lightness: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """Puts colour onto lightness.

    A colour that sRGB cannot show at its lightness moves towards the grey of that lightness until
    it can, along a straight line in light, on which luminance stays what it is.

    Args:
        lightness: float32 (H, W) in [0, 100].
        ab: float32 (H, W, 2), CIE a* and b*.

    Returns:
        sRGB uint8 (H, W, 3), of the given lightness up to the rounding to whole levels.
    """
    root = (lightness + np.float32(16)) * np.float32(1 / 116)
    luminance = _ratio(root)
    x = _ratio(root + ab[..., 0] * np.float32(1 / 500))
    z = _ratio(root - ab[..., 1] * np.float32(1 / 200))
    inverse = np.linalg.inv(_matrix().astype(np.float64)).astype(np.float32)
    # Each channel's distance from grey; the rows of the inverse sum to 1.
    x -= luminance
    z -= luminance
    offsets = [row[0] * x + row[2] * z for row in inverse]
    share = np.ones_like(luminance)
    for offset in offsets:
        # How far this channel can go before it is darker than black or brighter than full.
        room = np.where(offset > 0, 1 - luminance, luminance)
        np.minimum(share, room / np.maximum(np.abs(offset), np.float32(1e-9)), out=share)
    encode = _level_of_light()
    rgb = np.empty((*lightness.shape, 3), np.uint8)
    for channel, offset in enumerate(offsets):
        light = luminance + share * offset
        steps = np.clip(light * np.float32(_LEVELS) + np.float32(0.5), 0, _LEVELS)
        rgb[..., channel] = encode[steps.astype(np.uint16)]
    return rgb


@cache
def _matrix() -> np.ndarray:
    """RGB light -> X, Y, Z as shares of the white's, float32 (3, 3); rows sum to 1."""
    matrix = np.asarray(RGB_TO_XYZ, np.float64)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


@cache
def _light_of_levels() -> np.ndarray:
    """Intensity of light in [0, 1] of each sRGB level, float32 (256,)."""
    level = np.arange(256) / 255
    light = np.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
    return light.astype(np.float32)


@cache
def _level_of_light() -> np.ndarray:
    """sRGB level of each of `_LEVELS` + 1 evenly spaced intensities, uint8."""
    light = np.arange(_LEVELS + 1) / _LEVELS
    level = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, light * 12.92)
    return np.round(level * 255).astype(np.uint8)


def _lightness_of(luminance: np.ndarray) -> np.ndarray:
    roots = np.where(luminance > _KNEE**3, np.cbrt(luminance), luminance / _SLOPE + _OFFSET)
    return (116 * roots - 16).astype(np.float32)


def _ratio(root: np.ndarray) -> np.ndarray:
    line = (root - np.float32(_OFFSET)) * np.float32(_SLOPE)
    return np.asarray(np.where(root > np.float32(_KNEE), root * root * root, line))
