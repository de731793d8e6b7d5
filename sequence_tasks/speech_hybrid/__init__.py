"""Speech to text by a deep network and a hidden Markov model (Hinton et al. 2012)."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import begin, build_model, loss
from .options import SpeechHybridOptions
from .run import SpeechHybridRunOptions, run
from .scores import METRICS, measure, samples

_LEARNING = Learning(
    batch_size=1024,
    learning_rate=1e-3,
    weight_decay=0.01,
    epochs=45,
    clip_norm=5.0,
    average=0.999,
)
_PAPER = SpeechHybridOptions(
    window=11,
    backbone_options='{"hidden": [1024, 1024, 1024, 1024, 1024], "activation": "sigmoid"}',
    pretrain="rbm",
    augment=0.0,
)

PRESETS = {
    "fast": Preset(
        SpeechHybridOptions(
            backbone_options='{"hidden": [512, 512, 512], "dropout": 0.2}', augment=0.5
        ),
        replace(_LEARNING, batch_size=512, epochs=25, average=0.998),
        "fsdd",
    ),
    "an4": Preset(SpeechHybridOptions(), _LEARNING, "an4"),
    "hinton": Preset(
        _PAPER,
        replace(_LEARNING, optimizer="sgd", learning_rate=0.1, weight_decay=0.0, average=0.0),
        "an4",
    ),
}

TASK = Task(
    name="speech-hybrid",
    description="The text of speech by a deep network and a hidden Markov model.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=SpeechHybridRunOptions(),
    run=run,
    begin=begin,
)
