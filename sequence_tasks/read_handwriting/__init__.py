"""Reads handwriting from the pen's path: a bidirectional LSTM with CTC (Graves 2009)."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import begin, build_model, loss
from .options import ReadHandwritingOptions
from .run import ReadHandwritingRunOptions, run
from .scores import METRICS, measure, samples

_LEARNING = Learning(
    batch_size=64,
    learning_rate=2e-3,
    weight_decay=0.02,
    epochs=40,
    clip_norm=1.0,
    average=0.998,
)

PRESETS = {
    "fast": Preset(
        ReadHandwritingOptions(
            stride=4,
            channels=32,
            backbone_options='{"hidden": 128, "layers": 2, "bidirectional": true}',
            dropout=0.1,
        ),
        replace(_LEARNING, batch_size=16, epochs=12, learning_rate=4e-3, average=0.99),
        "unipen",
    ),
    "long": Preset(ReadHandwritingOptions(), _LEARNING, "unipen"),
}

TASK = Task(
    name="read-handwriting",
    description="The text of handwriting, read from the path of the pen.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=ReadHandwritingRunOptions(),
    run=run,
    begin=begin,
)
