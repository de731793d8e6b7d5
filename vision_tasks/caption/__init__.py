"""Sentences about pictures: attention by default, and the networks of 2014 and 2015."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import begin, build_model, loss
from .options import CaptionOptions, CaptionRunOptions
from .run import run
from .scores import METRICS, measure, samples

__all__ = ["TASK", "CaptionOptions", "CaptionRunOptions"]

_LEARNING = Learning(
    batch_size=64,
    learning_rate=3e-3,
    weight_decay=0.01,
    epochs=10,
    clip_norm=1.0,
    average=0.999,
)
_SMALL = CaptionOptions(
    backbone_options='{"channels": [16, 32], "hidden": 64, "layer_norm": true}',
    size=32,
    memory=64,
    embedding=64,
    hidden=96,
    dropout=0.0,
    read_colours=False,
)
_SCENES = CaptionOptions(read_colours=False)
_FEW = replace(_LEARNING, epochs=60, learning_rate=1e-3, weight_decay=0.05)
_FLICKR = CaptionOptions(
    backbone="speedy",
    backbone_options="{}",
    hidden=256,
    dropout=0.5,
    word_dropout=0.2,
    label_smoothing=0.1,
    detector_weight=0.3,
    fewest=3,
    longest=24,
    flip=True,
    shift=4,
)

PRESETS = {
    "fast": Preset(_SMALL, replace(_LEARNING, learning_rate=4e-3, epochs=3), "scenes"),
    "scenes": Preset(_SCENES, replace(_LEARNING, batch_size=128), "scenes"),
    "search": Preset(
        replace(_SCENES, ranking="embedding"), replace(_LEARNING, batch_size=128), "scenes"
    ),
    "flickr": Preset(_FLICKR, _FEW, "flickr8k-900"),
    "karpathy": Preset(
        replace(_FLICKR, way="first", ranking="alignment", margin=1.0, ranking_weight=0.02),
        _FEW,
        "flickr8k-900",
    ),
    "lrcn": Preset(replace(_FLICKR, way="each"), _FEW, "flickr8k-900"),
    "kiros": Preset(replace(_FLICKR, ranking="embedding"), _FEW, "flickr8k-900"),
}

TASK = Task(
    name="caption",
    description="What a picture shows, as a sentence; and pictures by sentences.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=CaptionRunOptions(),
    run=run,
    begin=begin,
)
