"""Numbers that stay with objects from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .boxes import Detections, iou_matrix


@dataclass
class _Track:
    """An object that is followed.

    Attributes:
        number: its own, from 1.
        label: its class.
        box: float32 (4,) where it was seen last.
        velocity: float32 (4,), change of the box in a frame.
        unseen: frames since then.
    """

    number: int
    label: int
    box: Tensor
    velocity: Tensor
    unseen: int = 0

    def expected(self) -> Tensor:
        """Where the object is now if it moved on evenly."""
        return self.box + self.velocity * (self.unseen + 1)


class Tracker:
    """Follows objects by the overlap of their boxes, as SORT does (Bewley et al. 2016).

    Instead of a Kalman filter, boxes move on with a running mean of their velocity; pairs are taken
    greedily by falling overlap, within a class.

    Args:
        iou_threshold: least overlap of a box with where its object is expected.
        patience: frames that an object may be unseen before its number is given up.
        smoothing: weight of the newest change in the velocity, in (0, 1].
    """

    def __init__(self, iou_threshold: float = 0.2, patience: int = 15, smoothing: float = 0.5):
        self.iou_threshold = iou_threshold
        self.patience = patience
        self.smoothing = smoothing
        self._tracks: list[_Track] = []
        self._count = 0

    def update(self, detections: Detections) -> list[int]:
        """Takes the next frame's detections and returns a number for each, 1 and up."""
        numbers = [0] * len(detections)
        boxes, labels = detections.boxes.float(), detections.labels.tolist()
        followed = set()
        for track_index, index in self._pairs(boxes, labels):
            track = self._tracks[track_index]
            change = (boxes[index] - track.box) / (track.unseen + 1)
            track.velocity = track.velocity.lerp(change, self.smoothing)
            track.box, track.unseen = boxes[index], 0
            numbers[index] = track.number
            followed.add(track_index)
        for track_index, track in enumerate(self._tracks):
            if track_index not in followed:
                track.unseen += 1
        self._tracks = [track for track in self._tracks if track.unseen <= self.patience]
        for index, number in enumerate(numbers):
            if number == 0:
                self._count += 1
                numbers[index] = self._count
                still = torch.zeros(4)
                self._tracks.append(_Track(self._count, labels[index], boxes[index], still))
        return numbers

    def _pairs(self, boxes: Tensor, labels: list[int]) -> list[tuple[int, int]]:
        """(track, detection) of the same class, the most overlapping first, each used once."""
        if not self._tracks or not labels:
            return []
        expected = torch.stack([track.expected() for track in self._tracks])
        overlap = iou_matrix(expected, boxes)
        own = torch.tensor([track.label for track in self._tracks])
        overlap[own[:, None] != torch.tensor(labels)[None]] = 0
        pairs: list[tuple[int, int]] = []
        while True:
            best = int(overlap.argmax())
            row, column = divmod(best, overlap.shape[1])
            if overlap[row, column] <= self.iou_threshold:
                return pairs
            pairs.append((row, column))
            overlap[row] = 0
            overlap[:, column] = 0
