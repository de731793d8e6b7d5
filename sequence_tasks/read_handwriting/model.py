"""The network: features of the pen's path, convolutions, a bidirectional LSTM, CTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import create_backbone
from ...errors import UsageError
from ...tasks import Batch, Moment, TaskData
from .._ctc.paths import text_nll
from .._ctc.spelling import trigram_table
from .._lengths import counts, halved
from .options import ReadHandwritingOptions

FEATURES = 11
_WINDOW = 64
"""points before and after that a point's height is compared with"""


def path_features(points: Tensor, lengths: Tensor) -> Tensor:
    """What the network sees of each point.

    Args:
        points: float (B, T, 3): x, y (down) and lift after the point, core height 1.
        lengths: int (B,) points that count.

    Returns:
        float32 (B, T, 11), 0 at points that do not count: direction as cos and sin, length of the
        way, whether it was in the air, its x and y if so, lift, turn as cos and sin, height
        above the points around it, and how far left of the rightmost point before it lies.
    """
    points = points.float()
    mask = counts(lengths, points.shape[1])
    x, y, lift = points[..., 0], points[..., 1], points[..., 2]
    dx, dy = (F.pad(torch.diff(part, dim=1), (1, 0)) * mask for part in (x, y))
    air = F.pad(lift[:, :-1], (1, 0))
    way = torch.hypot(dx, dy)
    cos, sin = dx / way.clamp(min=1e-6), dy / way.clamp(min=1e-6)
    next_cos, next_sin = (F.pad(part[:, 1:], (0, 1)) for part in (cos, sin))
    behind = x - x.masked_fill(~mask, -torch.inf).cummax(dim=1).values
    features = torch.stack(
        [
            cos * (1 - air),
            sin * (1 - air),
            (way * (1 - air) * 3).clamp(max=3),
            air,
            torch.asinh(dx * air),
            torch.asinh(dy * air),
            lift,
            cos * next_cos + sin * next_sin,
            cos * next_sin - sin * next_cos,
            (y - _mean_around(y, mask)).clamp(-4, 4),
            behind.clamp(-8, 0) / 4,
        ],
        dim=-1,
    )
    return features.masked_fill(~mask[..., None], 0)


def _mean_around(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T) values that count in a window around each."""
    kept = torch.stack([values * mask, mask.to(values)], dim=1)
    width = 2 * _WINDOW + 1
    means = F.avg_pool1d(kept, width, stride=1, padding=_WINDOW, count_include_pad=True)
    return means[:, 0] / means[:, 1].clamp(min=1e-6)


class Reader(nn.Module):
    """Labels' log-probabilities along a pen's path.

    Args:
        options: of the task.
        characters: how many the alphabet has.
    """

    language: Tensor

    def __init__(self, options: ReadHandwritingOptions, characters: int):
        super().__init__()
        self.options = options
        width = options.channels
        sizes = (FEATURES, width, width * 2, width * 2)
        strides = (1, 2, options.stride // 2)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, 5, stride=stride, padding=2)
            for before, after, stride in zip(sizes[:-1], sizes[1:], strides, strict=True)
        )
        self.norm = nn.LayerNorm(sizes[-1])
        self.dropout = nn.Dropout(options.dropout)
        self.backbone = create_backbone(options.backbone, (sizes[-1],), **options.backbone_kwargs())
        self.head = nn.Linear(cast(int, self.backbone.out_features), characters + 1)
        # Log-probabilities of a character after two others; row 0 is the beginning of a line.
        size = (characters + 1, characters + 1, characters + 1)
        self.register_buffer("language", torch.zeros(size, dtype=torch.float16))

    def forward(self, points: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Reads paths.

        Args:
            points: float (B, T, 3). What follows a path in its row is read as a pause, whatever
                its values; a row does not depend on the others.
            lengths: int64 (B,) points that count.

        Returns:
            log-probabilities float32 (B, T / stride, characters + 1), and int64 (B,) how many
            frames of each row count.
        """
        x = path_features(points, lengths).transpose(1, 2)
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
            lengths = halved(lengths) if cast(nn.Conv1d, convolution).stride[0] > 1 else lengths
            x = x * counts(lengths, x.shape[2])[:, None]
        x = self.dropout(self.norm(x.transpose(1, 2)))
        x, _ = self.backbone(x)
        return self.head(self.dropout(x)).float().log_softmax(dim=-1), lengths


def build_model(options: ReadHandwritingOptions, facts: Mapping[str, Any]) -> nn.Module:
    """A fresh network for the alphabet of `facts`; see `Task.build_model`."""
    model = Reader(options, len(facts["alphabet"]))
    kind = type(model.backbone).__name__
    if not hasattr(model.backbone, "initial_state"):
        raise UsageError(f"{options.backbone} is no recurrent backbone ({kind}); take lstm or gru.")
    return model


def begin(model: nn.Module, data: TaskData) -> None:
    """Counts the training texts for the model of language; see `Task.begin`."""
    texts = [one.text for one in data.splits["train"]]
    table = trigram_table(texts, data.facts["alphabet"])
    model.language.copy_(torch.from_numpy(table))  # type: ignore[operator]  # a buffer


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """CTC (Graves 2006): minus the log-probability of the texts, per character."""
    log_probs, frames = model(batch["points"], batch["lengths"])
    nll = text_nll(log_probs, frames, batch["labels"], batch["label_lengths"])
    return {"loss": nll.sum() / batch["label_lengths"].sum()}


def padded(paths: Sequence[np.ndarray], multiple: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Paths (n, 3) as one array float32 (B, T, 3), T a multiple, and their lengths int64 (B,)."""
    lengths = np.array([len(path) for path in paths], np.int64)
    steps = -(-int(lengths.max()) // multiple) * multiple
    points = np.zeros((len(paths), steps, 3), np.float32)
    for row, path in enumerate(paths):
        points[row, : len(path)] = path
    return points, lengths
