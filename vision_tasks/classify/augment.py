"""Changes of training pictures, made on whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .operations import random_operations
from .options import ClassifyOptions

GREY_SHARES = (0.299, 0.587, 0.114)  # of red, green and blue in lightness (ITU-R BT.601)
COLOUR_PICTURES = 2_000  # that the principal colours are computed from


@dataclass(frozen=True)
class PrincipalColours:
    """Principal directions of the colours of pixels, in [0, 1].

    Attributes:
        directions: (3, 3), one a column.
        deviations: (3,), the square roots of their variances.
    """

    directions: Tensor
    deviations: Tensor


def principal_colours(pictures: Tensor) -> PrincipalColours:
    """Principal component analysis of the pixels of uint8 (N, 3, H, W), of some of them."""
    chosen = pictures[:: max(1, len(pictures) // COLOUR_PICTURES)]
    pixels = chosen.permute(0, 2, 3, 1).reshape(-1, 3).double() / 255
    variances, directions = torch.linalg.eigh(torch.cov(pixels.T))
    return PrincipalColours(directions.float(), variances.clamp_min(0).sqrt().float())


@dataclass(frozen=True)
class Example:
    """Which pictures a batch is made of.

    Attributes:
        indices: of the pictures, int64 (B,).
        labels: int64 (B,).
        flipped: which of them are mirrored from left to right, bool (B,).
    """

    indices: np.ndarray
    labels: Tensor
    flipped: np.ndarray


def augment(
    pictures: Tensor,
    chosen: Example,
    options: ClassifyOptions,
    classes: int,
    colours: PrincipalColours | None,
    generator: np.random.Generator,
) -> dict[str, Tensor]:
    """A training batch.

    Args:
        pictures: all of the training set, uint8 (N, 3, S, S).
        chosen: which of them.
        options: what is done to them.
        classes: how many there are.
        colours: for `pca_colour`.
        generator: of all that is random.

    Returns:
        "pictures" uint8 (B, 3, crop, crop); "targets" and "smoothed" float32 (B, classes).
    """
    if options.zoom < 1:
        x = zoomed(pictures, chosen.indices, chosen.flipped, options, generator)
    else:
        x = shifted(pictures, chosen.indices, chosen.flipped, options, generator)
    if options.random_operations:
        x = random_operations(x, options.random_operations, options.magnitude, generator)
    if options.light:
        x = changed_light(x, options.light, generator)
    if colours is not None:
        x = changed_colours(x, colours, options.pca_colour, generator)
    if options.cutout:
        x = cut_out(x, options.cutout, generator)
    targets = F.one_hot(chosen.labels, classes).float()
    if options.mixup:
        x, targets = mixed(x, targets, options.mixup, generator)
    if options.cutmix:
        x, targets = pasted(x, targets, options.cutmix, generator)
    smoothed = (1 - options.label_smoothing) * targets + options.label_smoothing / classes
    return {"pictures": x, "targets": targets, "smoothed": smoothed}


def shifted(
    pictures: Tensor,
    indices: np.ndarray,
    flipped: np.ndarray,
    options: ClassifyOptions,
    generator: np.random.Generator,
) -> Tensor:
    """Windows of `crop` pixels at random places, at most `shift` pixels over a mirrored rim."""
    height, width = pictures.shape[2:]
    crop, count = options.seen, len(indices)
    rows = _window(height, crop, options.shift, count, generator)
    columns = _window(width, crop, options.shift, count, generator)
    columns[flipped] = columns[flipped, ::-1]
    places = rows[:, :, None] * width + columns[:, None, :]
    planes = (indices[:, None] * 3 + np.arange(3)) * (height * width)
    flat = pictures.numpy().reshape(-1)
    return torch.from_numpy(flat.take(planes[:, :, None, None] + places[:, None]))


def _window(
    side: int, crop: int, shift: int, count: int, generator: np.random.Generator
) -> np.ndarray:
    """(count, crop) rows or columns of windows; those outside are mirrored at the rim."""
    start = generator.integers(-shift, side - crop + shift + 1, count)
    return mirrored(start[:, None] + np.arange(crop), side)


def mirrored(places: np.ndarray, side: int) -> np.ndarray:
    """Places in [0, side), mirrored at the first and last one without repeating it."""
    if side == 1:
        return np.zeros_like(places)
    around = np.abs(places) % (2 * side - 2)
    return np.minimum(around, 2 * side - 2 - around)


def zoomed(
    pictures: Tensor,
    indices: np.ndarray,
    flipped: np.ndarray,
    options: ClassifyOptions,
    generator: np.random.Generator,
) -> Tensor:
    """Rectangles of `zoom` to 1 of the area and 3:4 to 4:3, brought to `crop` pixels."""
    count = len(indices)
    area = generator.uniform(options.zoom, 1, count)
    ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), count))
    tall, wide = (np.minimum(np.sqrt(area * r), 1) for r in (ratio, 1 / ratio))
    down, right = (generator.uniform(-1, 1, count) * (1 - side) for side in (tall, wide))
    maps = np.zeros((count, 2, 3), dtype=np.float32)
    maps[:, 0, 0] = np.where(flipped, -wide, wide)
    maps[:, 1, 1] = tall
    maps[:, 0, 2], maps[:, 1, 2] = right, down
    x = pictures[torch.from_numpy(indices)].float()
    grid = F.affine_grid(torch.from_numpy(maps), [count, 3, options.seen, options.seen], False)
    return as_bytes(F.grid_sample(x, grid, padding_mode="reflection", align_corners=False))


def changed_colours(
    x: Tensor, colours: PrincipalColours, deviation: float, generator: np.random.Generator
) -> Tensor:
    """Adds one colour to each picture: principal directions, times deviations, times noise."""
    noise = torch.from_numpy(generator.normal(0, deviation, (len(x), 3)).astype(np.float32))
    colour = (noise * colours.deviations) @ colours.directions.T
    return as_bytes(x.float() + 255 * colour[:, :, None, None])


def changed_light(x: Tensor, largest: float, generator: np.random.Generator) -> Tensor:
    """Brightness, contrast and colour, each by a factor in [1 - largest, 1 + largest].

    Each picture has its own factors; the order of the three is drawn for each batch.
    """
    pixels = x.float()
    for change in generator.permutation(3):
        factor = generator.uniform(1 - largest, 1 + largest, (len(x), 1, 1, 1))
        pixels = blended(pixels, int(change), torch.from_numpy(factor.astype(np.float32)))
    return as_bytes(pixels)


def blended(pixels: Tensor, change: int, factor: Tensor) -> Tensor:
    """Brightness (0), contrast (1) or colour (2) times a factor; float (B, 3, H, W) in 0..255."""
    if change == 0:
        return (pixels * factor).clamp_(0, 255)
    shares = torch.tensor(GREY_SHARES)[:, None, None]
    grey = (pixels * shares).sum(1, keepdim=True)
    if change == 1:
        grey = grey.mean(dim=(2, 3), keepdim=True)
    return (grey + (pixels - grey) * factor).clamp_(0, 255)


def cut_out(x: Tensor, side: int, generator: np.random.Generator) -> Tensor:
    """Paints a square grey; its centre is anywhere, so that it may stick out."""
    height, width = x.shape[2:]
    inside = _rectangles(len(x), (height, width), np.full((len(x), 2), side), generator)
    return x.masked_fill(inside[:, None], 128)


def mixed(
    x: Tensor, targets: Tensor, alpha: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Each picture and target with its neighbour's, in a share drawn from Beta(alpha, alpha)."""
    share = torch.from_numpy(generator.beta(alpha, alpha, len(x)).astype(np.float32))
    of_x = share[:, None, None, None]
    pixels = of_x * x.float() + (1 - of_x) * x.roll(1, 0).float()
    return as_bytes(pixels), share[:, None] * targets + (1 - share[:, None]) * targets.roll(1, 0)


def pasted(
    x: Tensor, targets: Tensor, alpha: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A rectangle of each picture from its neighbour; targets by the areas that are seen."""
    height, width = x.shape[2:]
    side = np.sqrt(1 - generator.beta(alpha, alpha, (len(x), 1)))
    sides = np.round(side * [height, width]).astype(np.int64)
    inside = _rectangles(len(x), (height, width), sides, generator)
    share = 1 - inside.float().mean(dim=(1, 2))[:, None]
    x = torch.where(inside[:, None], x.roll(1, 0), x)
    return x, share * targets + (1 - share) * targets.roll(1, 0)


def _rectangles(
    count: int, size: tuple[int, int], sides: np.ndarray, generator: np.random.Generator
) -> Tensor:
    """Masks of rectangles with random centres, bool (count, H, W)."""
    masks = []
    for axis in range(2):
        start = generator.integers(0, size[axis], count) - sides[:, axis] // 2
        places = np.arange(size[axis]) - start[:, None]
        masks.append((places >= 0) & (places < sides[:, axis, None]))
    return torch.from_numpy(masks[0][:, :, None] & masks[1][:, None, :])


def as_bytes(pixels: Tensor) -> Tensor:
    """Float in about 0..255 -> uint8, rounded and clipped."""
    return pixels.round().clamp_(0, 255).to(torch.uint8)
