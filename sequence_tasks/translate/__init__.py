"""Translates sentences: attention by default, and the networks of 2014."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import build_model, loss
from .options import TranslateOptions
from .run import TranslateRunOptions, run
from .scores import METRICS, measure, samples

__all__ = ["TASK", "TranslateOptions", "TranslateRunOptions"]

_LEARNING = Learning(
    batch_size=128,
    learning_rate=1.5e-3,
    weight_decay=0.01,
    epochs=25,
    clip_norm=1.0,
    average=0.999,
)
_WORDS = TranslateOptions(
    tokens="words",
    vocabulary=10_000,
    embedding=384,
    hidden=512,
    dropout=0.2,
    word_dropout=0.0,
)

PRESETS = {
    "attention": Preset(TranslateOptions(), _LEARNING, "multi30k"),
    "sutskever": Preset(
        replace(_WORDS, method="sutskever"),
        Learning(
            batch_size=128,
            optimizer="sgd",
            learning_rate=0.7,
            momentum=0.0,
            weight_decay=0.0,
            schedule="halving",
            warmup=0.0,
            epochs=20,
            clip_norm=5.0,
        ),
        "multi30k",
    ),
    "cho": Preset(
        replace(_WORDS, method="cho", hidden=768),
        replace(_LEARNING, weight_decay=0.0, epochs=20),
        "multi30k",
    ),
}

TASK = Task(
    name="translate",
    description="Sentences in another language, learnt from two files whose lines agree.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=TranslateRunOptions(),
    run=run,
    needs_input=False,
)
