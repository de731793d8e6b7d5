"""Views of a picture at test time, and predictions averaged over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .augment import as_bytes, mirrored
from .options import ViewName

RIM = 2  # pixels that corner views stick out by where the picture is no larger than the network's
SCALES = (1.0, 1.125, 1.25)  # Howard's: the picture is enlarged before it is cut
BATCH = 500


@dataclass(frozen=True)
class View:
    """One way to look at pictures.

    Attributes:
        scale: that they are enlarged by.
        down, right: place of the window: -1 is the upper or left end, 1 the lower or right one.
        rim: pixels over the picture's edge, mirrored, where those ends lie.
        flip: whether it is mirrored from left to right.
        weight: in the average; those of all views sum to 1.
    """

    scale: float
    down: float
    right: float
    rim: int
    flip: bool
    weight: float


def list_views(name: ViewName, size: int, crop: int) -> list[View]:
    """The views of that name on pictures of `size` pixels for a network that sees `crop`.

    - "one": the middle.
    - "flip": the middle and its mirror image.
    - "six": "flip" for one half, and for the other the same moved by a pixel along either
      direction of the diagonal from upper left to lower right (Jordan 2024).
    - "ten": four corners and the middle, and their mirror images (Krizhevsky 2012); pictures no
      larger than `crop` get a mirrored rim of two pixels for it.
    - "howard": "ten" at three scales (Howard 2013, who also takes three squares of an oblong
      picture; pictures are squares here).
    """
    if name == "one":
        return [View(1.0, 0, 0, 0, False, 1.0)]
    middle = [(0.0, 0.0)]
    corners = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)]
    rim = RIM if size == crop else 0
    if name == "flip":
        return _both_ways(1.0, middle, 0, 0.5)
    if name == "six":
        diagonal = [(-1.0, -1.0), (1.0, 1.0)]
        # Windows of a larger picture need no rim: one pixel is a share of what is around them.
        if size > crop:
            step = min(1.0, 2 / (size - crop))
            diagonal = [(-step, -step), (step, step)]
        return [
            *_both_ways(1.0, middle, 0, 0.25),
            *_both_ways(1.0, diagonal, 0 if size > crop else 1, 0.125),
        ]
    if name == "ten":
        return _both_ways(1.0, middle + corners, rim, 0.1)
    return [
        view
        for scale in SCALES
        for view in _both_ways(scale, middle + corners, rim if scale == 1 else 0, 1 / 30)
    ]


def _both_ways(
    scale: float, places: list[tuple[float, float]], rim: int, weight: float
) -> list[View]:
    return [
        View(scale, down, right, rim, flip, weight)
        for down, right in places
        for flip in (False, True)
    ]


def look(pictures: Tensor, view: View, crop: int) -> Tensor:
    """The window that a view shows of uint8 (B, 3, S, S): uint8 (B, 3, crop, crop)."""
    side = pictures.shape[2]
    if view.scale != 1:
        side = round(side * view.scale)
        pictures = as_bytes(
            F.interpolate(pictures.float(), (side, side), mode="bicubic", align_corners=False)
        )
    room = (side - crop) / 2
    places = []
    for where in (view.down, view.right):
        start = int(np.floor(room + where * (room + view.rim)))
        places.append(torch.from_numpy(mirrored(start + np.arange(crop), side)))
    columns = places[1].flip(0) if view.flip else places[1]
    return pictures[:, :, places[0]][:, :, :, columns]


@torch.no_grad()
def predict(model: nn.Module, pictures: Tensor, views: ViewName, crop: int) -> np.ndarray:
    """Probabilities of classes, averaged over views.

    Logits are averaged for "six", as its author does, and probabilities otherwise.

    Args:
        model: gives logits; in evaluation mode.
        pictures: uint8 (N, 3, S, S), on the CPU.
        views: which.
        crop: side of the square that the network sees, in pixels.

    Returns:
        float64 (N, classes).
    """
    device = next(model.parameters()).device
    chosen = list_views(views, pictures.shape[2], crop)
    found = []
    for part in _parts(pictures, max(1, BATCH * 32**2 // crop**2)):
        total: Tensor | float = 0.0
        for view in chosen:
            scores = model(look(part, view, crop).to(device)).double()
            total = total + view.weight * (scores if views == "six" else scores.softmax(1))
        assert isinstance(total, Tensor)
        found.append((total.softmax(1) if views == "six" else total).cpu().numpy())
    return np.concatenate(found)


def _parts(pictures: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]
