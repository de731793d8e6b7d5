"""How good detections are: COCO's average precision, its controls, curves and pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from ...datasets.boxes import BoxedPicture
from ...errors import DataError
from ...tasks import Control, Metric, Outcome, Sample, Split, TaskData
from .boxes import Detections, iou_matrix
from .data import boxes_in_input
from .letterbox import fit, to_original
from .model import detect_pictures, select
from .report import beside, precision_recall_figure, stacked

if TYPE_CHECKING:
    from .options import DetectOptions

METRICS = (
    Metric("map", True, "pycocotools COCOeval, AP at IoU .50:.05:.95, 100 detections"),
    Metric("map50", True, "pycocotools COCOeval, AP at IoU .50"),
    Metric("map75", True, "pycocotools COCOeval, AP at IoU .75"),
)
MOST_SCORED = 100
"""detections in a picture that COCO's AP counts"""
SCORE_FLOOR = 0.01
"""candidates below this are not scored"""
SHOWN_SCORE = 0.3
_ROWS_SHOWN = 6
_BATCH = 8
_PRIORS = 2000
"""training boxes that the trivial control looks at, at most"""


@dataclass(frozen=True)
class ClassMatches:
    """Detections of one class in all pictures, by falling score, as COCOeval matched them.

    Attributes:
        scores: (D,).
        pictures: int (D,), in which picture each is.
        matched, ignored: bool (T, D), at each of the T thresholds of IoU.
        objects: int (pictures,), true objects that count.
    """

    scores: np.ndarray
    pictures: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray


def match(
    truth: Sequence[BoxedPicture], found: Sequence[Detections], classes: int
) -> list[ClassMatches]:
    """Lets pycocotools match detections with true boxes, class by class.

    Difficult objects count as COCO's crowds: neither finding nor missing them changes the score.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        evaluation = coco_evaluation(truth, found, classes)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MOST_SCORED]
        evaluation.evaluate()
    cells = evaluation.evalImgs
    count = len(truth)
    return [_class_matches(cells[i * count : (i + 1) * count]) for i in range(classes)]


def coco_evaluation(
    truth: Sequence[BoxedPicture], found: Sequence[Detections], classes: int
) -> COCOeval:
    """A COCOeval of boxes, before `evaluate`; pictures and classes are numbered from 1."""
    true, detected = [], []
    for number, (picture, detections) in enumerate(zip(truth, found, strict=True), start=1):
        for box, label, difficult in zip(
            picture.boxes.tolist(), picture.labels.tolist(), picture.difficult, strict=True
        ):
            true.append(_annotation(number, label, box, iscrowd=int(difficult)))
        for box, label, score in zip(
            detections.boxes.tolist(),
            detections.labels.tolist(),
            detections.scores.tolist(),
            strict=True,
        ):
            detected.append(_annotation(number, label, box, iscrowd=0, score=score))
    sides = (_coco(annotations, len(truth), classes) for annotations in (true, detected))
    return COCOeval(*sides, "bbox")


def _annotation(number: int, label: int, box: list[float], **others: float) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    sides = x2 - x1, y2 - y1
    return {
        "image_id": number,
        "category_id": label + 1,
        "bbox": [x1, y1, *sides],
        "area": sides[0] * sides[1],
        **others,
    }


def _coco(annotations: list[dict[str, Any]], pictures: int, classes: int) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i + 1} for i in range(pictures)],
        "categories": [{"id": i + 1} for i in range(classes)],
        "annotations": [{**one, "id": i + 1} for i, one in enumerate(annotations)],
    }
    coco.createIndex()
    return coco


def _class_matches(cells: Sequence[Mapping[str, Any] | None]) -> ClassMatches:
    """From COCOeval's `evalImgs` of one class: one cell a picture, None where it has neither."""
    thresholds = 10
    scores, pictures, matched, ignored = [np.zeros(0)], [np.zeros(0, int)], [], []
    matched.append(np.zeros((thresholds, 0), bool))
    ignored.append(np.zeros((thresholds, 0), bool))
    objects = np.zeros(len(cells), int)
    for index, cell in enumerate(cells):
        if cell is None:
            continue
        objects[index] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
        scores.append(np.asarray(cell["dtScores"], dtype=float))
        pictures.append(np.full(len(cell["dtScores"]), index))
        matched.append(np.asarray(cell["dtMatches"]) > 0)
        ignored.append(np.asarray(cell["dtIgnore"]) > 0)
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="mergesort")
    return ClassMatches(
        every[order],
        np.concatenate(pictures)[order],
        np.concatenate(matched, axis=1)[:, order],
        np.concatenate(ignored, axis=1)[:, order],
        objects,
    )


def precision_at_recalls(matches: ClassMatches, pictures: np.ndarray) -> np.ndarray:
    """Interpolated precision at recall 0, 0.01 ... 1: (T, 101); NaN without objects.

    As COCOeval.accumulate does it, over the pictures that `pictures` names, with repetitions.
    """
    times = np.bincount(pictures, minlength=len(matches.objects))
    objects = int((matches.objects * times).sum())
    thresholds = len(matches.matched)
    if objects == 0:
        return np.full((thresholds, 101), np.nan)
    rows = np.repeat(np.arange(len(matches.scores)), times[matches.pictures])
    counted = ~matches.ignored[:, rows]
    right = np.cumsum(matches.matched[:, rows] & counted, axis=1, dtype=float)
    wrong = np.cumsum(~matches.matched[:, rows] & counted, axis=1, dtype=float)
    precision = right / (right + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    levels = np.linspace(0, 1, 101)
    result = np.zeros((thresholds, 101))
    for row in range(thresholds):
        at = np.searchsorted(right[row] / objects, levels, side="left")
        reached = at < len(rows)
        result[row, reached] = envelope[row, at[reached]]
    return result


def mean_precision(
    matches: Sequence[ClassMatches], pictures: np.ndarray, thresholds: slice
) -> float:
    """Average precision over recalls, thresholds of IoU and the classes that have objects."""
    tables = [precision_at_recalls(one, pictures)[thresholds] for one in matches]
    present = [table.mean() for table in tables if not np.isnan(table).any()]
    return float(np.mean(present)) if present else float("nan")


def measure(model: nn.Module, data: TaskData, split: Split, control: Control) -> Outcome:
    """AP on a split; see `Task.measure`. The controls: boxes where training had most of them, the
    same for every picture; and each picture's detections exchanged with another's."""
    truth = _pictures_of(data, split)
    classes = data.facts["classes"]
    shapes = [(one.height, one.width) for one in truth]
    if control == "trivial":
        size = int(data.facts["height"]), int(data.facts["width"])
        found = most_common(data.splits["train"], size, shapes)
    else:
        found = detect_split(model, truth)
    if control == "shuffled":
        found = exchanged(found, shapes)
    matches = match(truth, found, len(classes))
    ranges = {"map": slice(None), "map50": slice(0, 1), "map75": slice(5, 6)}
    values = {name: _metric(matches, thresholds) for name, thresholds in ranges.items()}
    if control != "none":
        return Outcome(values, len(truth))
    details = _details(matches, classes)
    pictures = {
        "precision_recall": precision_recall_figure(details["precision_recall"]),
        "detections": stacked(
            [
                beside(one, few[few.scores >= SHOWN_SCORE], classes)
                for one, few in zip(truth[:_ROWS_SHOWN], found[:_ROWS_SHOWN], strict=True)
            ]
        ),
    }
    return Outcome(values, len(truth), details, pictures)


def _metric(matches: Sequence[ClassMatches], thresholds: slice) -> Callable[[np.ndarray], float]:
    return lambda pictures: mean_precision(matches, pictures, thresholds)


def _details(matches: Sequence[ClassMatches], classes: Sequence[str]) -> dict[str, Any]:
    table, curves = {}, {}
    for name, one in zip(classes, matches, strict=True):
        precision = precision_at_recalls(one, np.arange(len(one.objects)))
        known = not np.isnan(precision).any()
        table[name] = {
            "ap": float(precision.mean()) if known else None,
            "ap50": float(precision[0].mean()) if known else None,
            "ap75": float(precision[5].mean()) if known else None,
            "objects": int(one.objects.sum()),
            **_best_threshold(one),
        }
        curves[name] = np.round(precision[0], 4).tolist() if known else None
    return {
        "classes": table,
        "precision_recall": {
            "recall": np.round(np.linspace(0, 1, 101), 2).tolist(),
            "precision": curves,
            "iou": 0.5,
        },
    }


def _best_threshold(matches: ClassMatches) -> dict[str, float | None]:
    """The score above which precision and recall at IoU 0.5 have the largest harmonic mean."""
    counted = ~matches.ignored[0]
    right = np.cumsum(matches.matched[0] & counted)
    said = np.cumsum(counted)
    objects = int(matches.objects.sum())
    if not objects or not len(right):
        return {"best_score": None, "precision": None, "recall": None}
    best = int(np.argmax(2 * right / (said + objects)))
    return {
        "best_score": float(matches.scores[best]),
        "precision": float(right[best] / max(said[best], 1)),
        "recall": float(right[best] / objects),
    }


def _pictures_of(data: TaskData, split: Split) -> Sequence[BoxedPicture]:
    if split not in data.splits:
        raise DataError(
            f"these data have no {split} split; they have {', '.join(sorted(data.splits))}."
        )
    return cast("Sequence[BoxedPicture]", data.splits[split])


def detect_split(model: nn.Module, pictures: Sequence[BoxedPicture]) -> list[Detections]:
    """Detections down to a very low score, in each picture's own pixels."""
    options = cast("DetectOptions", model.options)
    found: list[Detections] = []
    for first in range(0, len(pictures), _BATCH):
        batch = [one.read() for one in pictures[first : first + _BATCH]]
        found += detect_pictures(model, batch, SCORE_FLOOR, options.iou_threshold, MOST_SCORED)
    return found


def exchanged(found: Sequence[Detections], shapes: Sequence[tuple[int, int]]) -> list[Detections]:
    """What was found in the picture half the split further on, stretched to this one's shape."""
    count = len(found)
    result = []
    for index, (height, width) in enumerate(shapes):
        other = (index + max(1, count // 2)) % count
        factor = torch.tensor([width / shapes[other][1], height / shapes[other][0]] * 2)
        one = found[other]
        result.append(Detections(one.boxes * factor, one.scores, one.labels))
    return result


def most_common(
    training: Sequence[BoxedPicture], size: tuple[int, int], shapes: Sequence[tuple[int, int]]
) -> list[Detections]:
    """The training boxes that most others of their class overlap, the same for every picture."""
    shares, named = boxes_in_input(training, size)
    every = np.random.default_rng(0).permutation(len(shares))[:_PRIORS]
    boxes = torch.from_numpy(shares[every]) * torch.tensor([size[1], size[0]] * 2)
    labels = torch.from_numpy(named[every])
    near = (iou_matrix(boxes, boxes) >= 0.5) & (labels[:, None] == labels[None])
    common = Detections(boxes, near.float().mean(1), labels)
    kept = select(common, 0.0, 0.5, MOST_SCORED)
    return [to_original(kept, fit(*shape, size), *shape) for shape in shapes]


def samples(model: nn.Module, data: TaskData, count: int) -> list[Sample]:
    """True boxes beside detections on pictures of the test or validation split."""
    split: Split = "test" if "test" in data.splits else "validation"
    chosen = _pictures_of(data, split)[:count]
    found = detect_split(model, chosen)
    return [
        Sample(one.name, beside(one, few[few.scores >= SHOWN_SCORE], data.facts["classes"]))
        for one, few in zip(chosen, found, strict=True)
    ]
