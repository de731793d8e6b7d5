"""Speech to text end to end: a bidirectional LSTM with CTC (Graves and Jaitly 2014)."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .._speech.scores import METRICS
from .data import build_data
from .model import build_model, loss
from .options import SpeechCtcOptions
from .run import SpeechCtcRunOptions, run
from .scores import measure, samples

_LEARNING = Learning(
    batch_size=16,
    learning_rate=2e-3,
    weight_decay=0.02,
    epochs=75,
    clip_norm=1.0,
    average=0.999,
)

PRESETS = {
    "fast": Preset(
        SpeechCtcOptions(
            channels=16,
            stride=2,
            backbone_options='{"hidden": 96, "bidirectional": true}',
            row=5,
        ),
        replace(_LEARNING, batch_size=32, epochs=20, average=0.99),
        "fsdd",
    ),
    "hour": Preset(
        SpeechCtcOptions(
            backbone_options=(
                '{"hidden": 320, "layers": 3, "bidirectional": true, "dropout": 0.3}'
            ),
            stride=2,
            dropout=0.3,
        ),
        replace(_LEARNING, weight_decay=0.05),
        "an4",
    ),
    "graves": Preset(
        SpeechCtcOptions(
            features="spectrogram",
            channels=0,
            backbone_options='{"hidden": 500, "layers": 5, "bidirectional": true}',
            dropout=0.0,
            augment=0.0,
            word_error_share=0.1,
        ),
        replace(
            _LEARNING,
            optimizer="sgd",
            learning_rate=1e-2,
            weight_decay=0.0,
            schedule="constant",
            average=0.0,
            epochs=60,
        ),
        "an4",
    ),
}

TASK = Task(
    name="speech-ctc",
    description="The text of speech, end to end: a bidirectional LSTM with CTC.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=SpeechCtcRunOptions(),
    run=run,
)
