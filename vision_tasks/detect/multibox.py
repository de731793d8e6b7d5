"""MultiBox: a fixed number of class-agnostic boxes from one view of the whole picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CropClassifier(nn.Module):
    """The second network: (N, 3, S, S) float in [0, 1] -> logits (N, classes + 1).

    The last logit is that of the background.
    """

    def __init__(self, classes: int, width: int):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for after in (width, 2 * width, 4 * width):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            before = after
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes + 1)

    def forward(self, crops: Tensor) -> Tensor:
        return self.head(self.features(crops).mean((2, 3)))


class MultiBox(nn.Module):
    def __init__(self, backbone, in_shape, boxes, classes, *, neck=32, hidden=0, crop=32):
        super().__init__()
        self.backbone = backbone
        self.in_shape = in_shape
        self.boxes = boxes
        self.crop = crop
        info = [s for s in backbone.feature_info if s.reduction <= 16]
        self.level = len(info) - 1
        channels = info[-1].channels + (backbone.feature_info[-1].channels if len(info) < len(backbone.feature_info) else 0)
        h, w = -(-in_shape[1] // 16), -(-in_shape[2] // 16)
        self.neck = nn.Sequential(
            nn.Conv2d(channels, 128, 3, 16 // info[-1].reduction, padding=1, bias=False),
            nn.BatchNorm2d(128), nn.ReLU(inplace=True),
            nn.Conv2d(128, neck, 1, bias=False),
            nn.BatchNorm2d(neck), nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        size = neck * h * w
        if hidden:
            self.head = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, boxes * 5))
        else:
            self.head = nn.Linear(size, boxes * 5)
        self.classifier = CropClassifier(classes, 32)
        self.register_buffer("priors", torch.zeros(boxes, 4))
        self.register_buffer("scale", torch.ones(4))

    def forward(self, pictures, windows):
        out = self.head(self.neck(self.maps(pictures))).float()
        out = out.unflatten(1, (self.boxes, 5))
        loc = self.priors + self.scale * out[..., :4]
        return loc, out[..., 4] - 3.0, None if windows is None else self.classify(pictures, windows)

    def maps(self, x):
        for i, stage in enumerate(self.backbone.features):
            x = stage(x)
            if i == self.level:
                fine = x
        if x is fine:
            return x
        return torch.cat([fine, F.interpolate(x, size=fine.shape[-2:])], 1)

    def classify(self, pictures, windows):
        return self.classifier(cut(pictures, windows, self.crop)).float().unflatten(0, windows.shape[:2])


def cut(pictures, windows, size):
    """windows (B,N,4) pixels -> crops (B*N,3,S,S)"""
    b, n = windows.shape[:2]
    h, w = pictures.shape[2:]
    centre = (windows[..., :2] + windows[..., 2:]) / 2
    half = (windows[..., 2:] - windows[..., :2]) / 2 * 1.3
    steps = (torch.arange(size) + 0.5) / size * 2 - 1
    x = centre[..., 0, None] + half[..., 0, None] * steps  # B N S
    y = centre[..., 1, None] + half[..., 1, None] * steps
    grid = torch.stack([
        (x * 2 / w - 1)[:, :, None, :].expand(b, n, size, size),
        (y * 2 / h - 1)[:, :, :, None].expand(b, n, size, size)], -1)
    crops = F.grid_sample(pictures.float() / 255, grid.reshape(b, n * size, size, 2), padding_mode="border", align_corners=False)
    return crops.unflatten(2, (n, size)).permute(0, 2, 1, 3, 4).flatten(0, 1)
