"""What is on a picture: one of the classes that the training pictures lie in."""

from __future__ import annotations

from dataclasses import replace

from ...tasks import Learning, Preset, Task
from .data import build_data
from .model import begin, build_model, loss, parameter_groups
from .options import ClassifyOptions, ClassifyRunOptions
from .run import export, run, samples
from .scores import METRICS, measure

__all__ = ["TASK", "ClassifyOptions", "ClassifyRunOptions"]

# Rates of a step of 1,024 pictures with the mean of the loss.
_SPEEDY = Learning(
    batch_size=1024,
    optimizer="sgd",
    learning_rate=1.5,
    momentum=0.85,
    weight_decay=0.00133,
    schedule="linear",
    warmup=0.23,
    final=0.07,
    epochs=9.9,
    average=0.95,
)
_PLAIN = ClassifyOptions(
    label_smoothing=0.1, head_scale=1.0, head_bias=True, flip="random", shift=4
)

PRESETS = {
    "fast": Preset(ClassifyOptions(), _SPEEDY, "cifar10"),
    "alexnet": Preset(
        replace(
            _PLAIN,
            backbone="alexnet",
            # Response norm learns too slowly for a quarter of an hour: 43 % after an epoch to 59 %.
            backbone_options='{"width": 0.5, "hidden": 1024, "dropout": 0.3, "norm": "batch"}',
            label_smoothing=0.0,
            shift=2,
            pca_colour=0.1,
            views="ten",
        ),
        Learning(
            batch_size=128,
            optimizer="sgd",
            learning_rate=0.05,
            momentum=0.9,
            weight_decay=5e-4,
            epochs=20,
        ),
        "cifar10",
    ),
    "long": Preset(
        ClassifyOptions(backbone_options='{"widths": [128, 384, 384]}', shift=4),
        replace(_SPEEDY, learning_rate=1.3, epochs=15, average=0.98),
        "cifar10",
    ),
    "resnet": Preset(
        replace(_PLAIN, backbone="resnet"),
        Learning(
            batch_size=128,
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=5e-4,
            epochs=30,
        ),
        "cifar10",
    ),
    "vgg": Preset(
        replace(_PLAIN, backbone="vgg", backbone_options='{"depth": 11, "width": 0.5}'),
        Learning(
            batch_size=128,
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=5e-4,
            epochs=30,
        ),
        "cifar10",
    ),
}

TASK = Task(
    name="classify",
    description="What is on a picture, as one of the classes of your folders.",
    presets=PRESETS,
    metrics=METRICS,
    build_data=build_data,
    build_model=build_model,
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=ClassifyRunOptions(),
    run=run,
    parameter_groups=parameter_groups,
    begin=begin,
    export=export,
)
