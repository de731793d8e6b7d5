"""A task for the tests: whether a small picture is reddish or greenish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from eightbit.backbones import create_backbone
from eightbit.tasks import Exported, Learning, Metric, Outcome, Preset, Sample, Task, TaskData

SIZE = 16


@dataclass(frozen=True)
class ToyOptions:
    """Options of the toy."""

    dropout: float = 0.2
    """share of features that are left out"""
    examples: int = 256
    """of training"""


class Toy(nn.Module):
    def __init__(self, options: ToyOptions):
        super().__init__()
        self.backbone = create_backbone("resnet", (3, SIZE, SIZE), depth=8)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(self.backbone.out_features, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.backbone(pictures)))


def _examples(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    pictures = rng.integers(0, 200, (count, 3, SIZE, SIZE))
    for picture, label in zip(pictures, labels, strict=True):
        picture[label] += 40
    return torch.from_numpy(pictures.astype(np.uint8)), torch.from_numpy(labels)


def build_data(options: ToyOptions, data: str, seed: int) -> TaskData:
    pictures, labels = _examples(options.examples, seed)

    def batch(step: int, size: int) -> dict[str, torch.Tensor]:
        chosen = np.random.default_rng([seed, step]).integers(0, len(labels), size)
        return {"pictures": pictures[chosen], "labels": labels[chosen]}

    splits = {"validation": _examples(64, seed + 1), "test": _examples(128, seed + 2)}
    facts = {"source": data, "split": "drawn anew for each split", "classes": ["red", "green"]}
    return TaskData(facts, options.examples, batch, splits)


def loss(model, batch, moment):
    logits = model(batch["pictures"]).float()
    value = F.cross_entropy(logits, batch["labels"])
    return {"loss": value, "double": 2 * value}


def broken_loss(model, batch, moment):
    return {"loss": loss(model, batch, moment)["loss"] * float("nan")}


def measure(model, data, split, control):
    pictures, labels = data.splits[split]
    if control == "shuffled":
        pictures = pictures.roll(1, 0)
    found = torch.zeros_like(labels) if control == "trivial" else model(pictures).argmax(1)
    right = (found == labels).numpy().astype(float)
    wrong = 1 - right
    return Outcome(
        {"accuracy": lambda units: right[units].mean(), "error": lambda units: wrong[units].mean()},
        len(labels),
        {"seen": len(labels)},
        {"picture": np.zeros((4, 4, 3), np.uint8)},
    )


def samples(model, data, count):
    pictures, _ = data.splits["validation"]
    rgb = pictures[0].permute(1, 2, 0).numpy()
    return [Sample("all", rgb, "a text", np.zeros(100, np.float32), 8000)][:count]


@dataclass(frozen=True)
class ToyRunOptions:
    """Options of a use."""

    loud: bool = False
    """say it louder"""


def run(trained, job):
    job.each(job.inputs, lambda name: job.say(name.upper() if job.options.loud else name))


def export(trained):
    pictures = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    return Exported(trained.model, (pictures,), ("pictures",), ("logits",))


TASK = Task(
    name="toy-task",
    description="tells red from green",
    presets={
        "small": Preset(ToyOptions(), Learning(batch_size=32, epochs=4), "drawn"),
        "averaged": Preset(ToyOptions(), Learning(batch_size=32, epochs=4, average=0.9), "drawn"),
    },
    metrics=(
        Metric("accuracy", True, "torchmetrics"),
        Metric("error", False, "torchmetrics"),
    ),
    build_data=build_data,
    build_model=lambda options, facts: Toy(options),
    loss=loss,
    measure=measure,
    samples=samples,
    run_options=ToyRunOptions(),
    run=run,
    export=export,
)
