"""Writes text: language models of characters, words or pieces of words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import build_model, loss
from .options import TextOptions
from .run import TextRunOptions, run
from .samples import samples
from .scores import METRICS, measure


def _trunk(**options: Any) -> str:
    return json.dumps(options)


_LEARNING = Learning(
    batch_size=64,
    learning_rate=3e-3,
    weight_decay=0.1,
    clip_norm=1.0,
    epochs=80,
    average=0.999,
)
_HOUR = TextOptions(
    backbone_options=_trunk(hidden=512, layers=2, dropout=0.5, weight_dropout=0.3),
    input_dropout=0.1,
    output_dropout=0.5,
)
_LARGE = replace(  # for texts of many million characters, which cannot be learnt by heart
    _HOUR,
    backbone_options=_trunk(hidden=768, layers=2, dropout=0.1),
    input_dropout=0.0,
    output_dropout=0.1,
)

PRESETS = {
    "hour": Preset(_HOUR, _LEARNING, "tinyshakespeare"),
    "fast": Preset(
        TextOptions(backbone_options=_trunk(hidden=512), context=128, output_dropout=0.1),
        replace(_LEARNING, learning_rate=8e-3, epochs=8, average=0.99),
        "tinyshakespeare",
    ),
    # Karpathy 2015: two layers, plain dropout's share, RMSprop, contexts of 50.
    "char-rnn": Preset(
        TextOptions(
            backbone_options=_trunk(hidden=512, layers=2, dropout=0.5),
            embedding=128,
            context=50,
            output_dropout=0.5,
        ),
        Learning(
            batch_size=50,
            optimizer="rmsprop",
            learning_rate=2e-3,
            momentum=0.0,
            weight_decay=0.0,
            schedule="linear",
            clip_norm=5.0,
            epochs=50,
        ),
        "tinyshakespeare",
    ),
    # Graves 2013: deep LSTM with skips, contexts of 100, RMSprop of equations 38 to 45.
    "graves": Preset(
        replace(
            _HOUR,
            backbone="skip_lstm",
            backbone_options=_trunk(hidden=400, layers=3),
            context=100,
            input_dropout=0.0,
            output_dropout=0.0,
        ),
        Learning(
            batch_size=50,
            optimizer="rmsprop",
            learning_rate=1e-4,
            momentum=0.9,
            weight_decay=0.0,
            schedule="constant",
            clip_norm=1.0,
            epochs=20,
        ),
        "tinyshakespeare",
    ),
    # Sutskever 2011, with AdamW in place of Hessian-free optimisation.
    "mrnn": Preset(
        TextOptions(
            backbone="mrnn", backbone_options=_trunk(hidden=1000), context=250, output_dropout=0.3
        ),
        replace(_LEARNING, learning_rate=1e-3, epochs=40),
        "tinyshakespeare",
    ),
    "mlstm": Preset(
        replace(_HOUR, backbone="mlstm", backbone_options=_trunk(hidden=640, weight_dropout=0.3)),
        replace(_LEARNING, learning_rate=2e-3, epochs=40),
        "tinyshakespeare",
    ),
    "words": Preset(
        replace(
            _HOUR,
            tokens="words",
            vocabulary=10_000,
            embedding=256,
            tied=True,
            context=64,
            token_dropout=0.1,
        ),
        replace(_LEARNING, epochs=40),
        "tinyshakespeare",
    ),
    "bpe": Preset(
        replace(
            _HOUR,
            tokens="bpe",
            vocabulary=1_000,
            embedding=256,
            tied=True,
            context=128,
            token_dropout=0.1,
        ),
        replace(_LEARNING, epochs=40),
        "tinyshakespeare",
    ),
    "shakespeare": Preset(
        replace(_HOUR, backbone_options=_trunk(hidden=768, layers=2, dropout=0.3)),
        replace(_LEARNING, epochs=10),
        "shakespeare",
    ),
    "linux": Preset(_LARGE, replace(_LEARNING, epochs=8), "linux"),
    "war-and-peace": Preset(
        replace(_HOUR, backbone_options=_trunk(hidden=768, layers=2, dropout=0.3)),
        replace(_LEARNING, epochs=15),
        "warpeace",
    ),
    "names": Preset(
        TextOptions(
            backbone_options=_trunk(hidden=256, dropout=0.2), context=64, output_dropout=0.3
        ),
        replace(_LEARNING, epochs=30, learning_rate=2e-3),
        "names",
    ),
    "wikipedia": Preset(_LARGE, replace(_LEARNING, epochs=1), "enwik8"),
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
