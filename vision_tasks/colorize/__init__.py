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
_PHOTOS = replace(_SMALL, size=96, stride=4)
_FEW = replace(_LEARNING, batch_size=32, learning_rate=2e-3)

PRESETS = {
    # The paper's 0.5 gave 1.2 times the true chroma here, 0.9 gave 0.7 times.
    "zhang": Preset(replace(_SMALL, uniform=0.8), _LEARNING, "cifar10"),
    "larsson": Preset(replace(_SMALL, method="larsson", temperature=1.0), _LEARNING, "cifar10"),
    "bsds500": Preset(
        replace(_PHOTOS, test_size=160, scale_jitter=1.5), replace(_FEW, epochs=120), "bsds500"
    ),
    "lfw": Preset(_PHOTOS, _FEW, "lfw_faces"),
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
