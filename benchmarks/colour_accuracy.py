"""Does a classifier that knows colours recognise recoloured pictures better than grey ones?

    python benchmarks/colour_accuracy.py runs/colorize-RUN runs/classify-RUN

Both runs are of cifar10; the pictures are those of its test split. For each temperature of the
colouring: accuracy (one view), the share of the gap between grey and true colour that is closed,
mean chroma beside the truth's, PSNR of ab beside grey's.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from eightbit.datasets.labelled import read_labelled
from eightbit.evaluate.task_scores import estimate
from eightbit.tasks import Trained
from eightbit.train.runs import describe_machine
from eightbit.train.task_models import trained_for
from eightbit.vision_tasks.classify.views import predict as classify
from eightbit.vision_tasks.colorize.lab import lab_to_bytes, rgb_to_lab
from eightbit.vision_tasks.colorize.model import recoloured

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "colour-accuracy.json"


def right(classifier: Trained, pictures: Tensor, labels: np.ndarray) -> np.ndarray:
    """float (N,): 1 where the most probable class is the right one."""
    with torch.autocast("cpu", torch.bfloat16):
        found = classify(classifier.model, pictures, "one", pictures.shape[-1])
    return (found.argmax(1) == labels).astype(float)


def colour_figures(pictures: Tensor, truth: Tensor) -> dict[str, float]:
    """Mean chroma as a share of the truth's, and PSNR of ab in dB, the mean over pictures."""
    chroma, true_chroma, psnr = 0.0, 0.0, 0.0
    for part, true in zip(pictures.split(500), truth.split(500), strict=True):
        ab, true_ab = rgb_to_lab(part)[:, 1:], rgb_to_lab(true)[:, 1:]
        chroma += float(ab.norm(dim=1).mean(dim=(1, 2)).sum())
        true_chroma += float(true_ab.norm(dim=1).mean(dim=(1, 2)).sum())
        error = (ab - true_ab).square().mean(dim=(1, 2, 3)).clamp_min(1e-6)
        psnr += float((10 * torch.log10(255**2 / error)).sum())
    return {"chroma_ratio": chroma / true_chroma, "psnr_ab": psnr / len(truth)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("colorize", nargs="+", help="run folders of colorize")
    parser.add_argument("classify", help="run folder of classify")
    parser.add_argument("--temperatures", default="0.38", help="with commas")
    parser.add_argument("--pictures", type=int, default=10_000, help="of the test split")
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    told = parser.parse_args()
    classifier = trained_for("classify", told.classify)
    test = read_labelled("cifar10", 32, 0).test
    assert test is not None
    step = len(test.labels) // told.pictures
    truth, labels = test.pictures[::step], test.labels[::step].numpy()
    shown = {"true colour": truth, "grey": of_lightness(rgb_to_lab(truth)[:, :1])}
    hits = {name: right(classifier, pictures, labels) for name, pictures in shown.items()}
    rows: list[dict[str, Any]] = [
        {"pictures": name, "accuracy": float(hit.mean())} for name, hit in hits.items()
    ]
    rows[1] |= colour_figures(shown["grey"], truth)
    for path in told.colorize:
        run = trained_for("colorize", path)
        for temperature in map(float, told.temperatures.split(",")):
            if run.options.method != "zhang" and temperature != run.options.temperature:
                continue
            made = recoloured(run.model, truth, temperature)
            hit = right(classifier, made, labels)

            def closed(i: np.ndarray, hit: np.ndarray = hit) -> float:
                grey_hit, true_hit = hits["grey"][i].mean(), hits["true colour"][i].mean()
                return float((hit[i].mean() - grey_hit) / (true_hit - grey_hit))

            share = estimate(closed, len(labels), np.random.default_rng(0))
            rows.append(
                {
                    "pictures": f"{Path(path).name}, temperature {temperature:g}",
                    "accuracy": float(hit.mean()),
                    "gap_closed": share.value,
                    "interval": list(share.interval),
                    **colour_figures(made, truth),
                }
            )
    command = shlex.join(["python", "benchmarks/colour_accuracy.py", *sys.argv[1:]])
    record = {"command": command, "units": len(labels), "rows": rows, **describe_machine()}
    told.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    table = Table(title=f"{len(labels)} test pictures of cifar10, coded as JPEG")
    columns = ("pictures", "accuracy", "gap_closed", "interval", "chroma_ratio", "psnr_ab")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_text(row.get(column)) for column in columns))
    Console().print(table)


def of_lightness(lightness: Tensor) -> Tensor:
    """L* (N, 1, H, W) -> grey pictures of that lightness, uint8 (N, 3, H, W)."""
    zeros = torch.zeros_like(lightness)
    return lab_to_bytes(torch.cat((lightness, zeros, zeros), dim=1))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]:.3f} to {value[1]:.3f}"
    return "" if value is None else value if isinstance(value, str) else f"{value:.3f}"


if __name__ == "__main__":
    main()
