"""Colours apart: words of colours are read from pixels alone, all other words from outlines alone.

A decoder that sees both at once learns which things have which colours, and does not say "a red
star" where training never had one. Here neither part sees what the other one says, so that any
colour can stand before any word.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._telling.words import Words

COLOURS = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
    *("grey", "gray", "cyan", "violet", "magenta", "golden", "silver", "beige", "tan"),
)
"""the words that are read from pixels"""
_FAINT = 160.0  # strength of an outline, in levels by Sobel's kernel, that is shown half as white
_POOL = 2  # pixels that are averaged before colours are told, which takes most of the noise


def outlines(pictures: Tensor) -> Tensor:
    """How strongly pictures change at each pixel, whichever colours meet there.

    The gradients of the three colours by Sobel's kernels are joined by their root sum of squares,
    and bent so that strong outlines are about equally white.

    Args:
        pictures: uint8 (B, 3, H, W).

    Returns:
        uint8 (B, 3, H, W), three times the same.
    """
    smooth = torch.tensor([1.0, 2.0, 1.0], device=pictures.device)
    slope = torch.tensor([-1.0, 0.0, 1.0], device=pictures.device)
    kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)])
    with torch.autocast(pictures.device.type, enabled=False):
        planes = F.pad(pictures.float(), (1, 1, 1, 1), "replicate").flatten(0, 1)[:, None]
        slopes = F.conv2d(planes, kernels[:, None]).unflatten(0, (len(pictures), 3))
        strength = slopes.square().sum((1, 2)).sqrt()
    white = strength / (strength + _FAINT) * 255
    return white.to(torch.uint8)[:, None].expand(-1, 3, -1, -1)


class ColourReader(nn.Module):
    """Tells the colour of what is attended to; it sees single pixels, and no form.

    Args:
        words: the vocabulary.
        grid: height and width of the map that is attended to.
        size: length of a pixel's vector.

    Attributes:
        ids: int64 (C,), the words of colours that the vocabulary has.
        plain: int64 (V,), each word's id, those of colours all the first one's: to everything but
            this reader they are the same word.
        choices: float32 (V,), 0 for the words that the other part chooses among, minus infinity
            for the colours but the first one.
    """

    def __init__(self, words: Words, grid: tuple[int, int], size: int):
        super().__init__()
        known = [words.ids[name] for name in COLOURS if name in words.ids]
        plain = torch.arange(len(words))
        choices = torch.zeros(len(words))
        plain[known] = known[0] if known else 0
        choices[known[1:]] = float("-inf")
        self.ids: Tensor
        self.plain: Tensor
        self.choices: Tensor
        self.register_buffer("ids", torch.tensor(known, dtype=torch.int64), persistent=False)
        self.register_buffer("plain", plain, persistent=False)
        self.register_buffer("choices", choices, persistent=False)
        self.grid = grid
        self.pixel = nn.Linear(3, size)
        self.mixed = nn.Linear(size, size)
        self.hidden = nn.Linear(size, size)
        self.out = nn.Linear(size, max(len(known), 1))

    def cells(self, pictures: Tensor) -> Tensor:
        """What pixels of each cell are like in the mean: (B, S, size), of uint8 (B, 3, H, W)."""
        small = F.avg_pool2d(pictures.float() / 127.5 - 1, _POOL)
        x = torch.relu(self.pixel(small.permute(0, 2, 3, 1)))
        x = torch.relu(self.mixed(x)).permute(0, 3, 1, 2)
        return F.adaptive_avg_pool2d(x, self.grid).flatten(2).transpose(1, 2)

    def forward(self, scores: Tensor, weights: Tensor, cells: Tensor) -> Tensor:
        """Log probabilities of all words.

        Args:
            scores: (B, T, V), of the words but the colours, which count as their first one.
            weights: (B, T, S), what is attended to.
            cells: of `cells`.

        Returns:
            float32 (B, T, V).
        """
        said = (scores.float() + self.choices).log_softmax(-1)
        if not len(self.ids):
            return said
        seen = torch.bmm(weights.to(cells.dtype), cells)
        colours = self.out(torch.relu(self.hidden(seen))).float().log_softmax(-1)
        some = said[..., self.ids[:1]]
        return said.index_copy(-1, self.ids, some + colours)
