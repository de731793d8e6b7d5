"""The retina: patches of several scales around places, for many pictures and places at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prepared(NamedTuple):
    """What all glimpses of B pictures share.

    Attributes:
        maps: float (B, k, P, P), each scale's averages at every pixel; P is S and two rims.
        begins: int64 (B, 1), where a picture's numbers begin in `maps`.
        pattern: int64 (k * w * w,), where the numbers of a glimpse lie, counted from its place.
    """

    maps: Tensor
    begins: Tensor
    pattern: Tensor


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
        self.rim = (patch * 2 ** (scales - 1) + 1) // 2  # of the widest patch that reaches out

    @property
    def out_features(self) -> int:
        """k * w * w, numbers in a glimpse."""
        return self.scales * self.patch**2

    def prepare(self, pictures: Tensor) -> Prepared:
        """What all glimpses of pictures (B, 1, S, S) share, uint8 in 0..255 or float in [0, 1]."""
        x = pictures.float() / (255 if pictures.dtype == torch.uint8 else 1)
        maps = [F.pad(x, (self.rim,) * 4)]
        for scale in range(1, self.scales):
            # Twice as wide: the mean of four means that lie half a block apart.
            half = 2 ** (scale - 1)
            last = F.pad(maps[-1], (0, half, 0, half))
            rows = last[..., :-half, :] + last[..., half:, :]
            maps.append((rows[..., :-half] + rows[..., half:]) / 4)
        found = torch.cat(maps, 1)
        begins = torch.arange(len(x), device=x.device)[:, None] * found[0].numel()
        return Prepared(found, begins, self._pattern(found.shape[-1], x.device))

    def forward(self, seen: Prepared, places: Tensor) -> Tensor:
        """Looks at pictures.

        Args:
            seen: of `prepare`, for B pictures.
            places: (B, M, 2), M places on each.

        Returns:
            (B, M, k * w * w), the narrowest patch first.
        """
        width = seen.maps.shape[-1]
        half = (width - 2 * self.rim - 1) / 2
        centre = ((places.float().clamp(-1, 1) + 1) * half).round().long()
        index = seen.begins + centre[..., 0] * width + centre[..., 1]
        return seen.maps.flatten()[index[..., None] + seen.pattern]

    def _pattern(self, width: int, device: torch.device) -> Tensor:
        step = torch.arange(self.patch, device=device)
        found = []
        for scale in range(self.scales):
            block = 2**scale
            line = step * block - self.patch * block // 2 + self.rim
            found.append(scale * width**2 + (line[:, None] * width + line).flatten())
        return torch.cat(found)


class Sensor(nn.Module):
    """Makes a vector of a retina's patches: two convolutions and a layer, or the layer alone.

    Args:
        patch: w, pixels of a patch's side; with convolutions at least 4.
        scales: k, how many patches; the convolutions take them as channels.
        channels: of the first convolution, the second has twice as many; 0 for none of them.
        what: length of the vector.
    """

    def __init__(self, patch: int, scales: int, channels: int, what: int):
        super().__init__()
        self.shape = scales, patch, patch
        self.below = nn.Sequential()
        features = scales * patch**2
        if channels:
            self.below = nn.Sequential(
                nn.Conv2d(scales, channels, 3, padding=1),
                nn.MaxPool2d(2),
                nn.ReLU(),
                nn.Conv2d(channels, 2 * channels, 3, padding=1),
                nn.MaxPool2d(2),
                nn.ReLU(),
            )
            features = 2 * channels * (patch // 4) ** 2
        self.top = nn.Linear(features, what)
        for layer in (self.top, *self.below):
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # He 2015
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, patches: Tensor) -> Tensor:
        """(..., k * w * w) -> (..., what), not below 0."""
        seen = self.below(patches.view(-1, *self.shape)) if len(self.below) else patches
        found: Tensor = torch.relu(self.top(seen.flatten(1) if len(self.below) else seen))
        return found.view(*patches.shape[:-1], -1)
