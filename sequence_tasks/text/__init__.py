"""Writes text: language models of characters, words or pieces of words."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import build_model, loss
from .options import TextOptions
from .run import TextRunOptions, run
from .samples import samples
from .scores import METRICS, measure

_LEARNING = Learning(
    batch_size=64,
    learning_rate=2e-3,
    weight_decay=0.05,
    clip_norm=1.0,
    epochs=40,
    average=0.999,
)

PRESETS = {
    "long": Preset(TextOptions(), _LEARNING, "tinyshakespeare"),
    "fast": Preset(
        TextOptions(backbone_options='{"hidden": 512}'),
        replace(_LEARNING, epochs=6, average=0.99),
        "tinyshakespeare",
    ),
}

TASK = Task(
    name="text",
    description="Writes text: a language model of characters, words or pieces of words.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=TextRunOptions(),
    run=run,
    needs_input=False,
)
