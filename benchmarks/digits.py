"""Spoken digits by dynamic time warping, by a GMM-HMM and by a DNN-HMM, of known and new speakers.

    EIGHTBIT_DATA=... python benchmarks/digits.py

One row is the publisher's split of the Free Spoken Digit Dataset, in which every speaker is also
in the training part; in each other row one speaker is heard for the first time. The GMM-HMM and
the DNN-HMM are one run of the task `speech-hybrid`, a row, seed 0. Time warping (Sakoe and Chiba
1978, symmetric steps) compares each test recording with every training recording, on the features
that the GMM sees, and takes the nearest one's word.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import scored_run
from rich.console import Console
from rich.table import Table
from torch import Tensor

from eightbit.datasets.speech import Utterance, read_speech
from eightbit.sequence_tasks.speech_hybrid.inputs import (
    Speakers,
    cepstra_of,
    gmm_features,
    moments,
)
from eightbit.train.runs import describe_machine

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "digits.json"
OFFICIAL = "official split"
_GROUP = 500
"""training recordings of like length that are compared at once"""


def features_of(parts: dict[str, list[Utterance]], rate: int) -> dict[str, list[Tensor]]:
    """What the GMM sees of each recording, normalised by its speaker: float32 (T, 39)."""
    raw = {name: [cepstra_of(one.samples, rate) for one in part] for name, part in parts.items()}
    speakers = Speakers(*moments(raw["train"]))
    normal = {
        name: speakers.heard([one.voice for one in part], raw[name]) for name, part in parts.items()
    }
    return {name: [gmm_features(one) for one in part] for name, part in normal.items()}


def warped_distances(query: Tensor, templates: Tensor, lengths: Tensor) -> Tensor:
    """Least sums of distances along a warping path, divided by the sum of both lengths.

    A step forward in both recordings counts twice. All cells (i, j) with the same i + j are
    computed at once, of all templates.

    Args:
        query: (Q, D).
        templates: (K, T, D), filled up behind their ends.
        lengths: int64 (K,), frames of each.

    Returns:
        (K,).
    """
    count, steps, _ = templates.shape
    frames = len(query)
    local = torch.cdist(templates, query[None]).permute(1, 2, 0)  # (T, Q, K)
    lines = torch.full((steps + frames - 1, steps, count), torch.inf)
    for i in range(steps):
        lines[i : i + frames, i] = local[i]
    never = torch.full((1, count), torch.inf)
    before, last = (torch.full((steps, count), torch.inf) for _ in range(2))
    found = torch.full((count,), torch.inf)
    for s, here in enumerate(lines):
        both = torch.cat([never, before[:-1]]) + 2 * here
        one = torch.minimum(last, torch.cat([never, last[:-1]])) + here
        line = torch.minimum(both, one)
        if s == 0:
            line[0] = 2 * here[0]
        ends = s == lengths - 1 + frames - 1
        found[ends] = line[lengths[ends] - 1, ends]
        before, last = last, line
    return found / (lengths + frames)


def nearest_words(parts: dict[str, list[Utterance]], rate: int) -> list[str]:
    """Of each test recording the word of the training recording nearest to it."""
    features = features_of(parts, rate)
    lengths = np.array([len(one) for one in features["train"]])
    groups = []
    for rows in np.array_split(np.argsort(lengths), -(-len(lengths) // _GROUP)):
        some = [features["train"][row] for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(some, batch_first=True)
        groups.append((rows, padded, torch.from_numpy(lengths[rows])))
    order = np.concatenate([rows for rows, _, _ in groups])
    words = [parts["train"][row].text for row in order]
    return [
        words[int(torch.cat([warped_distances(query, *group[1:]) for group in groups]).argmin())]
        for query in features["test"]
    ]


def row(speaker: str, epochs: float, runs: Path) -> dict[str, Any]:
    """Accuracies of one split; a run that is there is scored as it is."""
    held_out = "" if speaker == OFFICIAL else speaker
    folder = runs / (held_out or "official")
    words = ["speech-hybrid", "--data", "fsdd", "--epochs", f"{epochs:g}"]
    words += ["--held-out", held_out] if held_out else []
    metrics = scored_run(words, folder)
    speech = read_speech("fsdd", 0, held_out)
    parts = {name: list(speech.splits[name]) for name in ("train", "test")}
    guessed = nearest_words(parts, speech.rate)
    right = [word == one.text for word, one in zip(guessed, parts["test"], strict=True)]
    return {
        "test": speaker,
        "recordings": len(right),
        "dtw": float(np.mean(right)),
        "gmm_hmm": 1 - metrics["gmm_wer"]["value"],
        "dnn_hmm": 1 - metrics["wer"]["value"],
        "gain": metrics["gain"]["value"],
        "gain_interval": metrics["gain"]["interval"],
        "command": shlex.join(["eightbit", "train", *words]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=25.0, help="of each network")
    parser.add_argument("--runs", type=Path, default=Path("runs/digits"), help="folder of runs")
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    told = parser.parse_args()
    speakers = sorted({one.speaker for one in read_speech("fsdd", 0).splits["train"]})
    rows = [row(name, told.epochs, told.runs) for name in (OFFICIAL, *speakers)]
    methods = ("dtw", "gmm_hmm", "dnn_hmm")
    mean = {name: float(np.mean([one[name] for one in rows[1:]])) for name in methods}
    record = {
        "command": f"python benchmarks/digits.py --epochs {told.epochs:g}",
        "rows": rows,
        "mean_of_new_speakers": mean,
        **describe_machine(),
    }
    told.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    table = Table(title=f"accuracy on spoken digits, {told.epochs:g} epochs, seed 0")
    for head in ("tested on", "recordings", "DTW", "GMM-HMM", "DNN-HMM"):
        table.add_column(head)
    for one in [*rows, {"test": "mean of new speakers", "recordings": "", **mean}]:
        values = (f"{100 * one[name]:.1f} %" for name in methods)
        table.add_row(one["test"], str(one["recordings"]), *values)
    Console().print(table)


if __name__ == "__main__":
    main()
