"""Scores of answers beside their controls: by kind, by WUPS, and what is known without pictures."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...datasets.questions import Question
from ...errors import DataError
from ...tasks import Control, Metric, Outcome, Sample, TaskData, weights_checksum
from ...tasks import Split as SplitName
from .._telling.drawing import cell_places, in_rows, spread
from .._telling.wordnet import WordNet, wups
from .data import BlindAnswers, Split, padded
from .drawing import answer_sheet, attention_tile
from .model import AnswerNetwork, as_network

METRICS = (
    Metric("accuracy", True, "share of answers that are the right word"),
    Metric("relational", True, "accuracy on Sort-of-CLEVR's questions of relations"),
    Metric("non_relational", True, "accuracy on Sort-of-CLEVR's other questions"),
    Metric("wups_0.9", True, "WUPS of Malinowski and Fritz 2014, where a WordNet folder is given"),
    Metric("wups_0.0", True, "the same without a threshold"),
)
MOST_SCORED = 1_000  # pictures of a training split that are scored
BATCH = 64  # pictures that go through the network together
EXAMPLES = 8


@dataclass(frozen=True)
class _Predicted:
    """Answers to a split's questions by a model.

    Attributes:
        model, checksum: who made them, and with which weights.
        texts: by question.
        rate: questions a second.
    """

    model: weakref.ref
    checksum: int
    texts: list[str]
    rate: float


def measure(model: nn.Module, data: TaskData, split: SplitName, control: Control) -> Outcome:
    """Scores a model or a control; see `Task.measure`. Units are pictures with questions.

    The trivial control sees no picture: it gives the commonest training answer to the same
    question, or to its kind. The shuffled one answers the questions about another picture.

    Raises:
        DataError: there is no such split, or it has no questions; or the WordNet folder is
            damaged.
    """
    if split not in data.splits:
        raise DataError(f"the data have no {split} split; there are {', '.join(data.splits)}.")
    network = as_network(model)
    part: Split = data.splits[split]
    questions = _scored(part, split)
    if not questions:
        raise DataError(f"the {split} split has no questions; choose another one.")
    train: Split = data.splits["train"]
    if control == "trivial":
        texts = list(map(BlindAnswers(train.asked.questions), questions))
        return _outcome(network, part, questions, texts)
    if control == "shuffled":
        made = predict(network, part, questions, shuffled=True)
        return _outcome(network, part, questions, made.texts)
    made = predict(network, part, questions)
    found = _outcome(network, part, questions, made.texts)
    blind = BlindAnswers(train.asked.questions)
    hits = {
        "model": _hits(questions, made.texts),
        "blind": _hits(questions, list(map(blind, questions))),
        "guess": _hits(questions, list(map(blind.guess, questions))),
    }
    details: dict[str, Any] = {
        "way": network.options.way,
        "saw_pictures": not network.options.blind,
        "by_kind": by_kind(questions, hits),
        "questions": len(questions),
        "questions_per_second": round(made.rate, 1),
        "examples": _shown(questions, made.texts),
    }
    if not network.options.wordnet:
        details["left_out"] = "wups: no WordNet folder is given (--wordnet)"
    return Outcome(found.values, found.units, details)


def _scored(part: Split, split: SplitName) -> Sequence[Question]:
    if split != "train":
        return part.asked.questions
    return [one for one in part.asked.questions if one.picture < MOST_SCORED]


def _hits(questions: Sequence[Question], texts: Sequence[str]) -> np.ndarray:
    pairs = zip(questions, texts, strict=True)
    return np.array([one.answer == text for one, text in pairs], np.float64)


def by_kind(
    questions: Sequence[Question], hits: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Accuracy of each of several answerers on each kind of question, and on all."""
    kinds = np.array([one.kind for one in questions])
    table = {}
    for kind in ("all", *sorted(set(kinds.tolist()))):
        here = kinds == kind if kind != "all" else np.ones(len(kinds), bool)
        row: dict[str, float] = {"questions": int(here.sum())}
        row.update({name: round(float(one[here].mean()), 4) for name, one in hits.items()})
        table[kind] = row
    return table


def _outcome(
    network: AnswerNetwork, part: Split, questions: Sequence[Question], texts: Sequence[str]
) -> Outcome:
    """The metrics as functions of pictures: sums over their questions, divided at the end."""
    _, owners = np.unique([one.picture for one in questions], return_inverse=True)
    kinds = np.array([one.kind for one in questions])
    hits = _hits(questions, texts)
    every = np.ones(len(questions), bool)
    values = {"accuracy": _mean_of(owners, hits, every)}
    for name, members in part.sorts.items():
        values[name] = _mean_of(owners, hits, np.isin(kinds, list(members)))
    if network.options.wordnet:
        net = _wordnet(part, network.options.wordnet)
        truths = [one.answer for one in questions]
        for name, threshold in (("wups_0.9", 0.9), ("wups_0.0", 0.0)):
            found = np.array(wups(net, list(texts), truths, threshold))
            values[name] = _mean_of(owners, found, every)
    return Outcome(values, int(owners.max()) + 1)


def _wordnet(part: Split, folder: str) -> WordNet:
    """The folder's, read once for a split."""
    if folder not in part.memory:
        part.memory[folder] = WordNet(folder)
    net: WordNet = part.memory[folder]
    return net


def _mean_of(
    owners: np.ndarray, scores: np.ndarray, counted: np.ndarray
) -> Callable[[np.ndarray], float]:
    """The mean score of the questions of chosen pictures, of those that count."""
    units = int(owners.max()) + 1
    sums = np.bincount(owners, scores * counted, units)
    counts = np.bincount(owners, counted, units)
    return lambda chosen: float(sums[chosen].sum() / max(counts[chosen].sum(), 1))


def predict(
    network: AnswerNetwork, part: Split, questions: Sequence[Question], shuffled: bool = False
) -> _Predicted:
    """The likeliest answers; those of the same weights are computed once.

    Shuffled, each picture's questions are asked about the split's next picture with questions.
    """
    checksum = weights_checksum(network)
    held = part.memory.get(("predicted", shuffled))
    if held is not None and held.model() is network and held.checksum == checksum:
        known: _Predicted = held
        return known
    began = time.monotonic()
    found = probabilities(network, part, questions, shuffled).argmax(1)
    texts = [network.answers[i] for i in found.tolist()]
    rate = len(questions) / max(time.monotonic() - began, 1e-9)
    made = _Predicted(weakref.ref(network), checksum, texts, rate)
    part.memory["predicted", shuffled] = made
    return made


@torch.no_grad()
def probabilities(
    network: AnswerNetwork, part: Split, questions: Sequence[Question], shuffled: bool = False
) -> np.ndarray:
    """float32 (questions, answers)."""
    pictures = sorted({one.picture for one in questions})
    seen = pictures[1:] + pictures[:1] if shuffled else pictures
    place = {picture: i for i, picture in enumerate(pictures)}
    blocks: dict[int, list[int]] = {}
    for number, one in enumerate(questions):
        blocks.setdefault(place[one.picture] // BATCH, []).append(number)
    device = network.embed.weight.device
    out = np.empty((len(questions), len(network.answers)), np.float32)
    for block, numbers in blocks.items():
        here = np.array(seen[block * BATCH : (block + 1) * BATCH])
        ids = padded([network.words.encode(questions[i].text) for i in numbers]).to(device)
        owners = [place[questions[i].picture] - block * BATCH for i in numbers]
        found = network.probabilities(
            part.pictures(here).to(device), ids, torch.tensor(owners, device=device)
        )
        out[numbers] = found.float().cpu().numpy()
    return out


def _shown(questions: Sequence[Question], texts: Sequence[str]) -> list[dict[str, Any]]:
    step = max(1, len(questions) // EXAMPLES)
    return [
        {"question": one.text, "answer": text, "right": one.answer, "picture": one.picture}
        for one, text in list(zip(questions, texts, strict=True))[::step]
    ][:EXAMPLES]


def samples(model: nn.Module, data: TaskData, count: int) -> list[Sample]:
    """A sheet of pictures with a question each and its answers, and of attention where there is."""
    network = as_network(model)
    part: Split = data.splits.get("test", data.splits.get("validation", data.splits["train"]))
    by_picture: dict[int, list[Question]] = {}
    for one in part.asked.questions:
        by_picture.setdefault(one.picture, []).append(one)
    chosen = list(by_picture.values())[: max(count, 1)]
    # Each picture shows another of its questions, so that the sheet has several kinds.
    questions = [some[(i * 7) % len(some)] for i, some in enumerate(chosen)]
    table = probabilities(network, part, questions)
    tiles, looks = [], []
    for one, row in zip(questions, table, strict=True):
        picture = part.asked.pictures[one.picture]
        best = [(network.answers[i], float(row[i])) for i in np.argsort(-row)[:3].tolist()]
        tiles.append(answer_sheet(picture, one.text, best, one.answer))
        if network.options.way == "attention":
            looks.append(
                attention_tile(
                    picture, f"{one.text} {best[0][0]}", attended(network, picture, one.text)
                )
            )
    found = [Sample("answers", picture=in_rows(tiles, 4))]
    return found + ([Sample("attention", picture=in_rows(looks))] if looks else [])


@torch.no_grad()
def attended(network: AnswerNetwork, picture: np.ndarray, text: str) -> np.ndarray:
    """What an answer is read from, of a network that attends: float32 (S, S), by pixel.

    A pixel's value lies between the weights of the cells about it, which add up to 1.
    """
    device = network.embed.weight.device
    ids = padded([network.words.encode(text)]).to(device)
    rgb = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].to(device)
    _, weights = network.scores(rgb, ids, torch.zeros(1, dtype=torch.int64, device=device))
    heat = weights[0].float().cpu().numpy().reshape(network.grid)
    return spread(heat, network.options.size, *cell_places(network.backbone))
