"""How well the points of writers who were never seen are foreseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ...datasets.strokes import Writing
from ...errors import DataError
from ...tasks import Control, Metric, Outcome, Sample, Split, TaskData
from .._lengths import counts
from .blind import BlindMixture
from .data import numbers_and_codes
from .mixture import mean_of, mixture_of, nats
from .model import WritingNetwork, before
from .report import attention_figure, rows_picture
from .sampling import Request, write
from .text import stack_texts

METRICS = (
    Metric("nats_per_point", False, "the density integrated numerically in the tests", "nats"),
    Metric("nats_per_line", False, "nats_per_point times a line's points (Graves 2013)", "nats"),
    Metric("sse_per_point", False, "NumPy, in squared units of the data's standard deviation"),
    Metric("pen_accuracy", True, "NumPy"),
)
_TOGETHER = 32
_WRITTEN = 32
"""texts that are written to see whether the stop rule ends them"""
_SHOWN = 6
_TRAINING_LINES = 1500
"""training lines that the blind mixture is fitted to"""

_Table = np.ndarray
"""float64 (lines, 4): nats, points, squared errors, pens foreseen"""


def measure(model: nn.Module, data: TaskData, split: Split, control: Control) -> Outcome:
    """Densities of a split's lines; see `Task.measure`.

    The controls: one mixture of Gaussians, fitted to training offsets, that looks at nothing; and
    each line foreseen with another line's text (of a prediction network: another line's past).
    """
    lines = lines_of(data, split)
    numbers, codes = numbers_and_codes(lines, data.facts)
    network = cast(WritingNetwork, model)
    if control == "trivial":
        some = numbers_and_codes(data.splits["train"][:_TRAINING_LINES], data.facts)[0]
        table = _blind_table(BlindMixture(np.concatenate(some), _mixtures(network)), numbers)
    else:
        turned = len(lines) // 2 if control == "shuffled" else 0
        table = _table(network, numbers, codes, turned)
    values = {
        "nats_per_point": _ratio(table, 0, 1),
        "nats_per_line": _mean_of_lines(table),
        "sse_per_point": _ratio(table, 2, 1),
        "pen_accuracy": _ratio(table, 3, 1),
    }
    if control != "none" or split != "test":
        return Outcome(values, len(lines))
    details, pictures = _written(network, data, lines)
    return Outcome(values, len(lines), details, pictures)


def lines_of(data: TaskData, split: Split) -> Sequence[Writing]:
    """The paced lines of a split; DataError where there are none."""
    if split not in data.splits:
        raise DataError(
            f"these data have no {split} split; they have {', '.join(sorted(data.splits))}."
        )
    return cast("Sequence[Writing]", data.splits[split])


def _mixtures(model: WritingNetwork) -> int:
    return (model.head.out_features - 1) // 6


def _ratio(table: _Table, above: int, below: int) -> Callable[[np.ndarray], float]:
    return lambda rows: float(table[rows, above].sum() / table[rows, below].sum())


def _mean_of_lines(table: _Table) -> Callable[[np.ndarray], float]:
    return lambda rows: float(table[rows, 0].mean())


def _blind_table(blind: BlindMixture, numbers: Sequence[np.ndarray]) -> _Table:
    rows = []
    for points in numbers:
        errors = ((points[:, :2] - blind.mean) ** 2).sum()
        pens = ((points[:, 2] > 0.5) == (blind.lifted > 0.5)).sum()
        rows.append((blind.nats(points).sum(), len(points), errors, pens))
    return np.array(rows, np.float64)


@torch.no_grad()
def _table(
    model: WritingNetwork,
    numbers: Sequence[np.ndarray],
    codes: Sequence[np.ndarray],
    turned: int,
) -> _Table:
    """Figures of every line; `turned` lines further on is whose text, or past, is given."""
    device = next(model.parameters()).device
    count = len(numbers)
    table = np.zeros((count, 4), np.float64)
    order = np.argsort([len(points) for points in numbers], kind="stable")
    for first in range(0, count, _TOGETHER):
        rows = order[first : first + _TOGETHER]
        others = (rows + turned) % count
        wanted = _stacked([numbers[i] for i in rows]).to(device)
        read = wanted
        if turned and not model.reads_text:
            pairs = zip(rows, others, strict=True)
            read = _stacked([_as_long(numbers[o], len(numbers[i])) for i, o in pairs])
            read = _padded(read, wanted.shape[1]).to(device)
        text = torch.from_numpy(stack_texts([codes[i] for i in others])).to(device)
        lengths = torch.tensor([len(numbers[i]) for i in rows], device=device)
        mixture = mixture_of(model(before(read), text, lengths))
        counted = counts(lengths, wanted.shape[1])
        errors = (mean_of(mixture) - wanted[..., :2]).square().sum(-1)
        pens = ((mixture.pen > 0) == (wanted[..., 2] > 0.5)).float()
        figures = [nats(mixture, wanted), torch.ones_like(errors), errors, pens]
        sums = [(figure.double() * counted).sum(1) for figure in figures]
        table[rows] = torch.stack(sums, 1).cpu().numpy()
    return table


def _as_long(points: np.ndarray, length: int) -> np.ndarray:
    """The points repeated or cut to a length."""
    return np.resize(points, (length, 3)).astype(np.float32)


def _stacked(numbers: Sequence[np.ndarray]) -> torch.Tensor:
    stacked = np.zeros((len(numbers), max(map(len, numbers)), 3), np.float32)
    for row, points in zip(stacked, numbers, strict=True):
        row[: len(points)] = points
    return torch.from_numpy(stacked)


def _padded(points: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(points, (0, 0, 0, length - points.shape[1]))


def _written(
    model: WritingNetwork, data: TaskData, lines: Sequence[Writing]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Whether written lines come to an end, and how they look beside real ones."""
    step = max(1, len(lines) // _WRITTEN)
    real = list(lines[::step])[:_WRITTEN]
    written = write(model, data.facts, [Request(one.text) for one in real], bias=1.0)
    details: dict[str, Any] = {}
    shown: list[Writing] = []
    for one, ours in list(zip(real, written, strict=True))[:_SHOWN]:
        shown += [one, ours.writing]
    pictures = {"written": rows_picture(shown)}
    if model.reads_text:
        details["finished"] = float(np.mean([one.finished for one in written]))
        details["finished_of"] = len(written)
        pictures["window"] = attention_figure(written[0])
    return details, pictures


def samples(model: nn.Module, data: TaskData, count: int) -> list[Sample]:
    """Real lines, their texts written, and the next text written in their writer's style."""
    split: Split = "test" if "test" in data.splits else "validation"
    lines = lines_of(data, split)
    step = max(1, len(lines) // count)
    real = list(lines[::step])[:count]
    network = cast(WritingNetwork, model)
    free = [Request(one.text) for one in real]
    primed = [
        Request(other.text, one) for one, other in zip(real, [*real[1:], real[0]], strict=True)
    ]
    written = write(network, data.facts, free + primed, bias=1.0)
    results = []
    for number, one in enumerate(real):
        rows = [one, written[number].writing, written[len(real) + number].writing]
        text = f"real, written, primed with the real one:\n{one.text}\n{rows[2].text}"
        results.append(Sample(f"line_{number + 1:02}", rows_picture(rows), text))
    return results
