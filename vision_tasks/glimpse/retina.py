"""The retina: patches of several scales around places, for many pictures and places at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Retina(nn.Module):
    """Square patches around a place, each scale twice as wide, brought to one size by averaging.

    A place is (row, column) in [-1, 1], from the first pixel's middle to the last one's, and is
    rounded to a whole pixel. What lies beyond the picture is black.

    Args:
        patch: w, pixels of a patch's side.
        scales: k, how many patches.
    """

    def __init__(self, patch: int, scales: int):
        super().__init__()
        self.patch, self.scales = patch, scales
        self.rim = patch * 2 ** (scales - 1)

    @property
    def out_features(self) -> int:
        """k * w * w, numbers in a glimpse."""
        return self.scales * self.patch**2

    def prepare(self, pictures: Tensor) -> list[Tensor]:
        """What all glimpses of some pictures share: each scale's averages at every pixel.

        Args:
            pictures: (B, 1, S, S), uint8 in 0..255 or float in [0, 1].

        Returns:
            For each scale float (B, P, P), where P is S and a rim on both sides.
        """
        x = pictures.float() / (255 if pictures.dtype == torch.uint8 else 1)
        wide = F.pad(x, (self.rim,) * 4)
        maps = [wide]
        for scale in range(1, self.scales):
            # Twice as wide: the mean of four means that lie half a block apart.
            half = 2 ** (scale - 1)
            last = F.pad(maps[-1], (0, half, 0, half))
            rows = last[..., :-half, :] + last[..., half:, :]
            maps.append((rows[..., :-half] + rows[..., half:]) / 4)
        return [one[:, 0] for one in maps]

    def forward(self, maps: Sequence[Tensor], places: Tensor) -> Tensor:
        """Looks at pictures.

        Args:
            maps: of `prepare`, for B pictures.
            places: (B, M, 2), M places on each.

        Returns:
            (B, M, k * w * w), the narrowest patch first.
        """
        count, width = maps[0].shape[:2]
        side = width - 2 * self.rim
        centre = ((places.float().clamp(-1, 1) + 1) / 2 * (side - 1)).round().long() + self.rim
        step = torch.arange(self.patch, device=places.device)
        first = torch.arange(count, device=places.device)[:, None] * width**2
        found = []
        for scale, averages in enumerate(maps):
            block = 2**scale
            corner = centre - self.patch * block // 2
            index = first + corner[..., 0] * width + corner[..., 1]
            pattern = (step[:, None] * width + step) * block
            found.append(averages.flatten()[index[..., None] + pattern.flatten()])
        return torch.cat(found, -1)
