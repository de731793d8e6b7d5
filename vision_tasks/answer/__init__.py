"""Questions about pictures: attention by default, relation networks, and the networks of 2015."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import begin, build_model, loss
from .options import AnswerOptions, AnswerRunOptions
from .run import run
from .scores import METRICS, measure, samples

__all__ = ["TASK", "AnswerOptions", "AnswerRunOptions"]

_LEARNING = Learning(
    batch_size=16,
    learning_rate=2e-3,
    weight_decay=0.05,
    epochs=20,
    clip_norm=1.0,
    average=0.998,
)
_FAST = AnswerOptions(hidden=64, width=64, layers=1, detector_weight=1.0)
_RELATIONS = AnswerOptions(size=75, hidden=64, width=64, vary=True, detector_weight=0.1)
_SANTORO = AnswerOptions(
    backbone_options='{"channels": [32, 64, 128, 256]}',
    size=75,
    way="relation",
    hidden=128,
    width=256,
    layers=4,
)
_FINE = AnswerOptions(
    backbone="impala",
    backbone_options='{"channels": [16, 24, 32], "hidden": 0, "layer_norm": true}',
    detector_weight=1.0,
)
_COCO_QA = AnswerOptions(
    backbone="speedy",
    backbone_options="{}",
    detector_weight=1.0,
    way="full",
    embedding=128,
    hidden=128,
    dropout=0.5,
    fewest=3,
    flip=True,
    shift=4,
)
_FEW = replace(_LEARNING, batch_size=16, epochs=40, learning_rate=1e-3)

PRESETS = {
    "fast": Preset(_FAST, _LEARNING, "easy-vqa"),
    "relations": Preset(
        _RELATIONS,
        replace(_LEARNING, batch_size=32, learning_rate=1e-3, epochs=90),
        "sort-of-clevr",
    ),
    "santoro": Preset(
        _SANTORO, replace(_LEARNING, learning_rate=2.5e-4, epochs=60), "sort-of-clevr"
    ),
    "scenes": Preset(_FINE, _LEARNING, "scenes"),
    "atari": Preset(replace(_FINE, size=112, shift=3), _LEARNING, "atari-scenes"),
    "coco-qa": Preset(_COCO_QA, _FEW, "flickr8k-900"),
}

TASK = Task(
    name="answer",
    description="Questions about pictures, answered in one word.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=AnswerRunOptions(),
    run=run,
    begin=begin,
)
