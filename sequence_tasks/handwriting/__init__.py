"""Writes a text in handwriting, as pen movements; see `HandwritingOptions`."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import build_model, loss
from .options import HandwritingOptions
from .run import HandwritingRunOptions, run, write_lines
from .scores import METRICS, measure, samples

__all__ = ["PRESETS", "TASK", "write_lines"]

_LEARNING = Learning(
    batch_size=32,
    learning_rate=2e-3,
    weight_decay=0.05,
    epochs=20,
    clip_norm=1.0,
    average=0.998,
)
_PAPER = Learning(
    batch_size=32,
    optimizer="rmsprop",
    learning_rate=1e-4,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
    epochs=60,
)
_PLAIN = HandwritingOptions(dropout=0.0, joined=0.0, stretch=0.0)

PRESETS = {
    "fast": Preset(HandwritingOptions(hidden=256), _LEARNING, "unipen"),
    "long": Preset(HandwritingOptions(), replace(_LEARNING, batch_size=256, epochs=120), "unipen"),
    "synthesis": Preset(_PLAIN, _PAPER, "unipen"),
    "prediction": Preset(replace(_PLAIN, method="prediction"), _PAPER, "unipen"),
}

TASK = Task(
    name="handwriting",
    description="A given text, written by hand: pen movements, pages, films.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=HandwritingRunOptions(),
    run=run,
    needs_input=False,
)
