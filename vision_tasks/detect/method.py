"""What a way to detect objects consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .boxes import Detections

if TYPE_CHECKING:
    from ...tasks import Batch, Moment, TaskData
    from .options import DetectOptions


@dataclass(frozen=True)
class Method:
    """One way to detect objects.

    Attributes:
        build: (options, facts) -> a network with the attributes `backbone`, `method` (its name)
            and `size`, the (height, width) of its input. It takes uint8 (B, 3, height, width) and
            returns its raw outputs by name.
        loss: (network, batch, moment) -> scalars by name, "loss" among them.
        decode: (raw outputs, (height, width)) -> candidates for each picture, in pixels of the
            network's input, neither filtered by score nor by overlap.
        begin: (network, data) before the first step, like priors from the training boxes.
    """

    build: Callable[[DetectOptions, Mapping[str, Any]], nn.Module]
    loss: Callable[[nn.Module, Batch, Moment], Mapping[str, Tensor]]
    decode: Callable[[Mapping[str, Tensor], tuple[int, int]], list[Detections]]
    begin: Callable[[nn.Module, TaskData], None] | None = None
