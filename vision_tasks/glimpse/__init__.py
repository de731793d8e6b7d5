"""Reads a picture by glimpses: a network that learns where to look next (Mnih 2014)."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .learning import build_model, loss
from .options import GlimpseOptions, GlimpseRunOptions
from .run import run, samples
from .scores import METRICS, measure

__all__ = ["TASK", "GlimpseOptions", "GlimpseRunOptions"]

_FAST = GlimpseOptions()
_STATIC = replace(_FAST, channels=24, what=256)
_WIDE = replace(
    _STATIC,
    task="translated",
    size=60,
    glimpses=8,
    patch=12,
    scales=3,
    moves="relative",
    ring=0.0,
    deviation=0.25,
)
_LEARNING = Learning(
    batch_size=256,
    learning_rate=2e-3,
    weight_decay=0.01,
    epochs=600,
    clip_norm=1.0,
    average=0.998,
)
_MNIH = Learning(
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=0.0,
    schedule="linear",
    warmup=0.0,
    epochs=300,
    clip_norm=5.0,
)

PRESETS = {
    "fast": Preset(_FAST, replace(_LEARNING, batch_size=64, epochs=20), "mnist_test"),
    "static": Preset(_STATIC, _LEARNING, "mnist_test"),
    "translated": Preset(_WIDE, _LEARNING, "mnist_test"),
    "cluttered": Preset(replace(_WIDE, task="cluttered"), _LEARNING, "mnist_test"),
    "catch": Preset(
        replace(
            _FAST,
            task="catch",
            size=24,
            patch=6,
            scales=3,
            deviation=0.2,
            sensor="dense",  # halving patches would lose where the ball is
            what=32,
            joint=64,
            hidden=64,
            copies=8,
        ),
        replace(_LEARNING, batch_size=32, epochs=2),
        "catch",
    ),
    "mnih": Preset(
        replace(
            _FAST,
            sensor="dense",
            core="relu",
            first="random",
            answers="last",
            reward="right",
            baseline="learned",
            last_deviation=0.15,
            copies=10,
            test_copies=10,
            test_noise=True,
        ),
        _MNIH,
        "mnist_test",
    ),
}

TASK = Task(
    name="glimpse",
    description="What is on a picture, read by glimpses at places that the network chooses.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=GlimpseRunOptions(),
    run=run,
    needs_input=False,
)
