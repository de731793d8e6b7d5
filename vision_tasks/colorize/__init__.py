"""Colours for pictures without: Zhang 2016, Larsson 2016, and plain regression."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .learn_results import METRICS, begin, measure, samples
from .learn_run import export, run
from .model import build_model, loss
from .options import ColorizeOptions, ColorizeRunOptions

__all__ = ["TASK", "ColorizeOptions", "ColorizeRunOptions"]

_LEARNING = Learning(
    batch_size=128, learning_rate=4e-3, weight_decay=0.05, warmup=0.1, epochs=10, average=0.99
)
_SMALL = ColorizeOptions(backbone_options='{"depth": 14}')

PRESETS = {
    "zhang": Preset(_SMALL, _LEARNING, "cifar10"),
    "larsson": Preset(replace(_SMALL, method="larsson", temperature=1.0), _LEARNING, "cifar10"),
    "l2": Preset(replace(_SMALL, method="l2", temperature=1.0), _LEARNING, "cifar10"),
}

TASK = Task(
    name="colorize",
    description="Colours for black and white photographs and films.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=ColorizeRunOptions(),
    run=run,
    begin=begin,
    export=export,
)
