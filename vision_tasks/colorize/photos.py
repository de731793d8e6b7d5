"""Photographs of any size, coloured: colour small, lightness untouched, hints, variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets.pictures import resize
from ...errors import UsageError
from .hints import Hint, spread_hints
from .paint_light import lightness
from .paint_upsample import paint

Predict = Callable[[Tensor], Tensor]
"""Lightness float32 (B, 1, h, w) in [0, 100] -> a*, b* float32 (B, 2, h, w)."""
Distribution = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Lightness (B, 1, h, w) -> probabilities (B, Q, h', w') of the colours float32 (Q, 2)."""

MULTIPLE = 8
"""Sides at which colour is predicted are multiples of it."""
SPREAD = 0.06
"""Standard deviation of the tilts that tell variants apart, per unit of a* and b*."""
_LATTICE = (2, 3, 3)  # of independent tilts over lightness, rows and columns


@dataclass(frozen=True)
class Painting:
    """How a picture is coloured.

    Attributes:
        side: longer side, in pixels, at which colour is predicted; smaller pictures stay as small.
        saturation: factor on a* and b*; 1 for the prediction, 0 for grey.
        hints: colours wanted at points.
    """

    side: int = 256
    saturation: float = 1.0
    hints: tuple[Hint, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        if self.side < MULTIPLE:
            raise UsageError(f"side is {self.side}; it must be at least {MULTIPLE}.")
        if self.saturation < 0:
            raise UsageError(f"saturation is {self.saturation}; it must not be below 0.")


def small_lightness(rgb: np.ndarray, side: int) -> np.ndarray:
    """Lightness at the size at which colour is predicted.

    Args:
        rgb: uint8 (H, W, 3).
        side: the longer side at most, in pixels.

    Returns:
        float32 (h, w) in [0, 100]; h and w are multiples of MULTIPLE.
    """
    scale = min(1.0, side / max(rgb.shape[:2]))
    height, width = (
        max(1, round(length * scale / MULTIPLE)) * MULTIPLE for length in rgb.shape[:2]
    )
    return lightness(resize(rgb, height, width))


def predicted_colour(guide: np.ndarray, predict: Predict) -> np.ndarray:
    """Asks a predictor for the colour of lightness (h, w): float32 (h, w, 2)."""
    with torch.inference_mode():
        ab = predict(torch.from_numpy(guide)[None, None])
    return ab[0].permute(1, 2, 0).float().cpu().contiguous().numpy()


def colour_photo(rgb: np.ndarray, predict: Predict, painting: Painting) -> np.ndarray:
    """Colours a picture.

    Args:
        rgb: uint8 (H, W, 3); of its own colours nothing but the lightness is used.
        predict: the colour predictor.
        painting: how.

    Returns:
        RGB uint8 (H, W, 3) of the same lightness.

    Raises:
        UsageError: a hint outside the picture.
    """
    guide = small_lightness(rgb, painting.side)
    return _painted(rgb, guide, predicted_colour(guide, predict), painting)


def _painted(rgb: np.ndarray, guide: np.ndarray, ab: np.ndarray, painting: Painting) -> np.ndarray:
    ab = ab * np.float32(painting.saturation)
    if painting.hints:
        ab = spread_hints(painting.hints, guide, ab, (rgb.shape[0], rgb.shape[1]))
    return paint(rgb, guide, ab)


def colour_variants(
    rgb: np.ndarray,
    distribution: Distribution,
    painting: Painting,
    count: int,
    temperature: float,
    seed: int,
) -> Iterator[np.ndarray]:
    """Colours a picture in several plausible ways; the first is the prediction itself.

    Each further one tilts the distribution of every pixel, that is weighs each colour by the
    exponential of its product with a vector. The vector changes slowly over the picture and over
    lightness, so that a surface stays of one colour. A tilt moves colours as far as the predictor
    is in doubt: what it is sure of stays.

    Args:
        rgb: uint8 (H, W, 3).
        distribution: of colours.
        painting: how.
        count: of variants.
        temperature: of the annealed mean that turns distributions into colours.
        seed: of the tilts.

    Yields:
        RGB uint8 (H, W, 3).

    Raises:
        UsageError: a hint outside the picture, or no variant wanted.
    """
    if count < 1:
        raise UsageError(f"{count} samples of a picture are wanted; ask for at least 1.")
    guide = small_lightness(rgb, painting.side)
    with torch.inference_mode():
        shares, colours = distribution(torch.from_numpy(guide)[None, None])
        logs = shares.float().clamp_min(1e-8).log()
    generator = torch.Generator().manual_seed(seed)
    for index in range(count):
        lattice = torch.randn((1, 2, *_LATTICE), generator=generator) * (SPREAD if index else 0)
        with torch.inference_mode():
            tilt = _tilts(lattice, guide, logs.shape[-2:]).to(logs.device)
            products = torch.einsum("qc,chw->qhw", colours, tilt)
            tilted = torch.softmax((logs[0] + products) / temperature, dim=0)
            ab = torch.einsum("qhw,qc->chw", tilted, colours)
            ab = F.interpolate(ab[None], size=guide.shape, mode="bilinear", align_corners=False)
        yield _painted(rgb, guide, ab[0].permute(1, 2, 0).cpu().contiguous().numpy(), painting)


def _tilts(lattice: Tensor, guide: np.ndarray, size: torch.Size) -> Tensor:
    """Interpolates a lattice over lightness, rows and columns at each pixel: (2, h', w')."""
    small = F.adaptive_avg_pool2d(torch.from_numpy(guide)[None, None], (size[0], size[1]))[0, 0]
    rows, columns = (torch.linspace(-1, 1, length) for length in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack((x, y, small / 50 - 1), dim=-1)[None, None]
    found = F.grid_sample(lattice, places, align_corners=True, padding_mode="border")
    return found[0, :, 0]
