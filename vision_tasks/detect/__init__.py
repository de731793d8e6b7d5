"""Finds objects: boxes, classes, scores. Three methods behind one task; see `DetectOptions`."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import begin, build_model, export, loss
from .options import DetectOptions
from .run import DetectRunOptions, run
from .scores import METRICS, measure, samples

_LEARNING = Learning(
    batch_size=16,
    learning_rate=3e-3,
    weight_decay=0.05,
    epochs=150,
    clip_norm=10.0,
    average=0.998,
)
_PLAIN = DetectOptions(
    size=256, backbone_options='{"width": 24}', mosaic=0.0, zoom=1.3
)  # of the older methods, which see the whole picture at once

PRESETS = {
    "fast": Preset(DetectOptions(), _LEARNING, "bccd"),
    "long": Preset(DetectOptions(), replace(_LEARNING, epochs=400), "bccd"),
    "multibox": Preset(
        replace(_PLAIN, method="multibox"), replace(_LEARNING, learning_rate=1e-3), "bccd"
    ),
    "masks": Preset(
        replace(_PLAIN, method="masks"), replace(_LEARNING, learning_rate=2e-3), "bccd"
    ),
}

TASK = Task(
    name="detect",
    description="Where which objects are on a picture, as boxes with classes and scores.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=DetectRunOptions(),
    run=run,
    begin=begin,
    export=export,
)
