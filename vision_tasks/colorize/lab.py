"""CIE L*a*b* of sRGB pictures under D65, both ways, in torch and in NumPy.

The standard is IEC 61966-2-1 with the 2 degree observer. L* lies in [0, 100]; a* and b* of sRGB
colours lie in about [-86, 98] and [-108, 95].
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE = (0.95047, 1.0, 1.08883)  # X, Y, Z of D65
_KNEE = 6 / 29  # where the cube root gives way to a line
_SLOPE = 3 * _KNEE**2
_OFFSET = 4 / 29


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB (..., 3, H, W), uint8 or float in [0, 1] -> L*a*b* float32 of the same shape."""
    light = _light_of_bytes(rgb.device)[rgb.long()] if rgb.dtype == torch.uint8 else _light(rgb)
    ratios = _mixed(_matrix(), light)
    # The line meets the cube root at the knee, so the larger argument decides which one holds.
    roots = torch.where(
        ratios > _KNEE**3, ratios.clamp_min(_KNEE**3).pow(1 / 3), ratios / _SLOPE + _OFFSET
    )
    x, y, z = roots.unbind(-3)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=-3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """L*a*b* (..., 3, H, W) -> sRGB float32 in [0, 1]; colours outside the gamut are clipped."""
    lightness, a, b = lab.float().unbind(-3)
    y = (lightness + 16) / 116
    roots = torch.stack((y + a / 500, y, y - b / 200), dim=-3)
    ratios = torch.where(roots > _KNEE, roots**3, (roots - _OFFSET) * _SLOPE)
    light = _mixed(np.linalg.inv(_matrix()), ratios).clamp(0, 1)
    bent = 1.055 * light.clamp_min(0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(light > 0.0031308, bent, light * 12.92).clamp(0, 1)


def lab_to_bytes(lab: Tensor) -> Tensor:
    """L*a*b* (..., 3, H, W) -> sRGB uint8, rounded."""
    return (lab_to_rgb(lab) * 255).round().to(torch.uint8)


def rgb_to_lab_array(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) with the channels last, uint8 or float in [0, 1] -> L*a*b* float32."""
    planes = torch.from_numpy(np.moveaxis(rgb, -1, 0).copy()).reshape(3, 1, -1)
    return np.moveaxis(rgb_to_lab(planes).reshape(3, *rgb.shape[:-1]).numpy(), 0, -1)


def lab_to_rgb_array(lab: np.ndarray) -> np.ndarray:
    """L*a*b* (..., 3) with the channels last -> sRGB float32 in [0, 1], clipped to the gamut."""
    planes = torch.from_numpy(np.moveaxis(lab, -1, 0).astype(np.float32)).reshape(3, 1, -1)
    return np.moveaxis(lab_to_rgb(planes).reshape(3, *lab.shape[:-1]).numpy(), 0, -1)


def lightness_of(grey: np.ndarray) -> np.ndarray:
    """Grey levels of sRGB, uint8 -> L* float32 of the same shape, in [0, 100]."""
    level = np.arange(256, dtype=np.uint8)
    scale = rgb_to_lab_array(np.stack([level] * 3, axis=-1))[:, 0]
    return np.asarray(scale[grey], dtype=np.float32)


def _light(rgb: Tensor) -> Tensor:
    """Intensity of light, in [0, 1], of sRGB values in [0, 1]."""
    rgb = rgb.float()
    return torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp_min(0).pow(2.4), rgb / 12.92)


@cache
def _light_of_bytes(device: torch.device) -> Tensor:
    return _light(torch.arange(256, dtype=torch.float64) / 255).to(device)


@cache
def _matrix() -> np.ndarray:
    """RGB light -> X, Y, Z as shares of the white's, float64 (3, 3)."""
    return np.asarray(RGB_TO_XYZ) / np.asarray(WHITE)[:, None]


def _mixed(matrix: np.ndarray, planes: Tensor) -> Tensor:
    """A matrix (3, 3) times the planes of (..., 3, H, W).

    It is written out because a product of matrices would be rounded to bf16 under autocast.
    """
    first, second, third = planes.unbind(-3)
    rows = [first * row[0] + second * row[1] + third * row[2] for row in matrix.tolist()]
    return torch.stack(rows, dim=-3)
