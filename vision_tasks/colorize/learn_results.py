"""What a model, or a control, makes of a split: figures and sheets of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones.speedy import first_layer, is_whitening, whiten
from ...errors import TaskError
from ...tasks import Control, Metric, Outcome, Sample, TaskData
from ...tasks import Split as SplitName
from .bins import bin_counts, rebalancing, smoothed
from .data import Split
from .lab import lab_to_bytes, rgb_to_lab
from .model import predict
from .options import ColorizeOptions
from .scores import PictureScores, balancing, figures, joined, score_pictures

PRIOR_PICTURES = 10_000  # of the training data that the prior of colours is taken from
WHITENED_PICTURES = 5_000
PIXELS = 2**19  # that are scored at a time
SHEET = 24  # pictures on the sheet of an evaluation
TILE = 96  # pixels, the least height of a picture on a sheet

METRICS = (
    Metric("auc_balanced", True, "Zhang 2016, class-balanced AuC, exact integral", "%"),
    Metric("auc_raw", True, "Zhang 2016, AuC, exact integral", "%"),
    Metric("psnr_ab", True, "mean over pictures, peak 255, a* and b* in CIE units", "dB"),
    Metric("psnr_gain", True, "psnr_ab less that of grey", "dB"),
    Metric("psnr_rgb", True, "scikit-image peak_signal_noise_ratio, mean over pictures", "dB"),
    Metric("chroma_ratio", True, "mean chroma of 8-bit sRGB by that of the truth"),
)


def begin(model: nn.Module, data: TaskData) -> None:
    """Sets the weights of the bins from the training colours, and whitens a fresh speedy trunk."""
    options = cast(ColorizeOptions, model.options)
    train: Split = data.splits["train"]
    counts = torch.zeros_like(cast(Tensor, model.bin_weights), dtype=torch.float64)
    lightness: list[Tensor] = []
    for lab in _training_lab(train, options.size):
        counts += bin_counts(F.avg_pool2d(lab[:, 1:], options.stride, ceil_mode=True))
        lightness.append((lab[:, :1] * 2.55).round().to(torch.uint8))
    weights = rebalancing(smoothed(counts), options.uniform)
    cast(Tensor, model.bin_weights).copy_(weights)
    trunk = cast(nn.Module, model.backbone)
    layer = first_layer(trunk)
    fresh = layer is not None and layer.bias is not None and not layer.bias.any()
    if fresh and is_whitening(trunk):
        whiten(trunk, torch.cat(lightness)[:WHITENED_PICTURES])


def _training_lab(train: Split, size: int) -> Iterator[Tensor]:
    """L*a*b* of the middle squares of some training pictures, in parts."""
    for group in train.groups:
        share = min(1.0, PRIOR_PICTURES / len(train))
        chosen = np.random.default_rng(0).permutation(len(group))[: round(len(group) * share) or 1]
        top, left = ((side - size) // 2 for side in group.shape[2:])
        for part in torch.from_numpy(np.sort(chosen)).split(max(1, PIXELS // size**2)):
            yield rgb_to_lab(group[part][:, :, top : top + size, left : left + size])


def measure(model: nn.Module, data: TaskData, split: SplitName, control: Control) -> Outcome:
    """Scores a model, or a control, on a split; the units are pictures.

    "trivial" leaves every picture grey; "shuffled" colours it after another picture's lightness.
    The details hold the figures of grey, whatever is scored.

    Raises:
        TaskError: the data have no such split.
    """
    if split not in data.splits:
        raise TaskError(f"the data have no {split} split; there are {', '.join(data.splits)}.")
    pictures: Split = data.splits[split]
    counts = sum(bin_counts(lab[:, 1:]) for lab, _ in _parts(pictures, "none"))
    weights = balancing(cast(Tensor, counts))
    ours, grey = [], []
    for lab, lightness in _parts(pictures, control):
        neutral = torch.zeros_like(lab[:, 1:])
        grey.append(score_pictures(lab, neutral, weights))
        if control != "trivial":
            ours.append(score_pictures(lab, _predicted(model, lightness), weights))
    baseline = joined(grey)
    scores = joined(ours) if ours else baseline
    values = dict(figures(scores))
    values["psnr_gain"] = lambda i: float((scores.psnr_ab[i] - baseline.psnr_ab[i]).mean())
    shown = {"colours": _sheet(model, pictures, SHEET)} if control == "none" else {}
    return Outcome(values, len(pictures), {"grey": _all_figures(baseline)}, shown)


def _all_figures(scores: PictureScores) -> dict[str, float]:
    everyone = np.arange(len(scores.area))
    return {name: value(everyone) for name, value in figures(scores).items()}


def _predicted(model: nn.Module, lightness: Tensor) -> Tensor:
    device = next(model.parameters()).device
    return predict(model, lightness.to(device)).cpu()


def _parts(pictures: Split, control: Control) -> Iterator[tuple[Tensor, Tensor]]:
    """True L*a*b* (B, 3, H, W), and the lightness (B, 1, H, W) that a model sees, in parts."""
    last = pictures.groups[-1][-1:]
    for group in pictures.groups:
        seen = group
        if control == "shuffled":
            before = last if len(group) == 1 else group[-1:]
            if before.shape != group[:1].shape:
                resized = F.interpolate(before.float(), size=group.shape[2:], mode="bilinear")
                before = resized.round().to(torch.uint8)
            seen = torch.cat((before, group[:-1]))
        last = group[-1:]
        size = max(1, PIXELS // (group.shape[2] * group.shape[3]))
        for truth, shown in zip(group.split(size), seen.split(size), strict=True):
            lab = rgb_to_lab(truth)
            yield lab, lab[:, :1] if control != "shuffled" else rgb_to_lab(shown)[:, :1]


def samples(model: nn.Module, data: TaskData, count: int) -> list[Sample]:
    """A sheet of pictures of the validation or test split: grey, ours, truth."""
    split: Split = data.splits.get("validation", data.splits.get("test"))
    return [Sample("colours", picture=_sheet(model, split, max(count, 1)))]


def _sheet(model: nn.Module, pictures: Split, count: int) -> np.ndarray:
    """Some pictures, each as grey, as the model colours it and as it is: uint8 (H, W, 3)."""
    places = [(g, i) for g, group in enumerate(pictures.groups) for i in range(len(group))]
    chosen = np.random.default_rng(0).permutation(len(places))[:count]
    strips = []
    for g, i in (places[place] for place in chosen):
        truth = pictures.groups[g][i : i + 1]
        lightness = rgb_to_lab(truth)[:, :1]
        with torch.no_grad():
            ab = _predicted(model, lightness)
        grey = lab_to_bytes(torch.cat((lightness, torch.zeros_like(ab)), dim=1))
        ours = lab_to_bytes(torch.cat((lightness, ab), dim=1))
        strip = torch.cat((grey, ours, truth), dim=3)[0].permute(1, 2, 0).numpy()
        factor = max(1, TILE // truth.shape[2])
        strips.append(
            cv2.resize(strip, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
        )
    return _stacked(strips)


def _stacked(strips: list[np.ndarray]) -> np.ndarray:
    """Strips of three pictures in columns, white between them."""
    columns = max(1, round((len(strips) / 3) ** 0.5))
    height = max(strip.shape[0] for strip in strips) + 6
    width = max(strip.shape[1] for strip in strips) + 12
    rows = -(-len(strips) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, strip in enumerate(strips):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + strip.shape[0], left : left + strip.shape[1]] = strip
    return sheet
