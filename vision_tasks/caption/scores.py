"""Scores of sentences beside their controls, the nearest picture's sentence, and retrieval."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ...errors import DataError
from ...tasks import Control, Metric, Outcome, Sample, TaskData, weights_checksum
from ...tasks import Split as SplitName
from .._telling.drawing import captioned, in_rows
from .._telling.meteor import meteor_each
from .._telling.ngram_scores import caption_scores
from .data import Split
from .drawing import attention_sheet
from .model import CaptionNetwork, as_network
from .ranking import ranks, recall_table
from .search import Beam
from .use import attention_of, encoded, parts, similarities, tell

METRICS = (
    Metric("cider", True, "CIDEr-D of Vedantam 2015, equal to its definition in the tests"),
    Metric("bleu_4", True, "corpus BLEU of Papineni 2002, closest length, unsmoothed"),
    Metric("exact", True, "share of sentences that are one of the references, word by word"),
    Metric("true", True, "share of sentences that hold of the picture, by the scenes' own parser"),
    Metric("rouge_l", True, "ROUGE-L of Lin 2004, F with beta 1.2, mean over pictures"),
    Metric("bleu_1", True, "as bleu_4, of single words"),
    Metric("meteor", True, "NLTK's METEOR, where a WordNet folder is given"),
)
MOST_SCORED = 1_000  # pictures of a training split that are scored
NEAREST_AMONG = 2_000  # training pictures that the nearest one is looked for among
RETRIEVED = 1_000  # pictures that retrieval is scored on
EXAMPLES = 8
THUMBNAIL = 16  # pixels, side of the pictures that are compared by their colours


@dataclass(frozen=True)
class _Predicted:
    """Sentences of a split by a model.

    Attributes:
        model, checksum: who made them, and with which weights.
        texts: by picture.
        rate: pictures a second.
    """

    model: weakref.ref
    checksum: int
    texts: list[str]
    rate: float


def measure(model: nn.Module, data: TaskData, split: SplitName, control: Control) -> Outcome:
    """Scores a model or a control; see `Task.measure`. Units are pictures.

    The trivial control always says the commonest training sentence; the shuffled one what the
    model says of another picture. "true" is scored where the pictures are scenes of ours alone.

    Raises:
        DataError: there is no such split.
    """
    if split not in data.splits:
        raise DataError(f"the data have no {split} split; there are {', '.join(data.splits)}.")
    network = as_network(model)
    part: Split = data.splits[split]
    count = min(len(part), MOST_SCORED) if split == "train" else len(part)
    told = [part.members[i].sentences for i in range(count)]
    if control == "trivial":
        return Outcome(_values([str(data.facts["usual"])] * count, told, part), count)
    made = predict(network, part, count)
    if control == "shuffled":
        return Outcome(_values([made.texts[i - 1] for i in range(count)], told, part), count)
    details = {
        "beam": network.options.beam,
        "pictures_per_second": round(made.rate, 1),
        "examples": _shown(made.texts, told, part),
    }
    if part.net is None:
        details["left_out"] = "meteor: no WordNet folder is given (--wordnet)"
    if split == "test":
        details["nearest_picture"] = _nearest(network, data, part, told)
        if network.ranking is not None:
            details["retrieval"] = _retrieval(network, part, told)
    return Outcome(_values(made.texts, told, part), count, details)


Told = Sequence[tuple[str, ...]]


def _values(
    texts: Sequence[str], told: Told, part: Split
) -> dict[str, Callable[[np.ndarray], float]]:
    """The metrics of sentences as functions of pictures' indices."""
    ngrams = caption_scores(texts, told)
    exact = np.array([text in references for text, references in zip(texts, told, strict=True)])
    values: dict[str, Callable[[np.ndarray], float]] = {
        "cider": ngrams.cider_d,
        "bleu_4": lambda units: float(ngrams.bleu(units)[3]),
        "exact": lambda units: float(exact[units].mean()),
        "rouge_l": ngrams.rouge_l,
        "bleu_1": lambda units: float(ngrams.bleu(units)[0]),
    }
    if part.net is not None:
        meteor = meteor_each(texts, told, part.net)
        values["meteor"] = lambda units: float(meteor[units].mean())
    if part.true is not None:
        true = np.array([part.true(i, text) for i, text in enumerate(texts)])
        values["true"] = lambda units: float(true[units].mean())
    return values


def predict(network: CaptionNetwork, part: Split, count: int) -> _Predicted:
    """Sentences of a split's first pictures; those of the same weights are made once."""
    checksum = weights_checksum(network)
    held = part.memory.get("predicted")
    if held is not None and held.model() is network and held.checksum == checksum:
        known: _Predicted = held
        return known
    beam = Beam(network.options.beam, longest=network.options.longest)
    began = time.monotonic()
    texts: list[str] = []
    for rows in parts(count, 256):
        found = tell(network, part.pictures(rows), beam)
        texts += [network.words.decode(best[0].ids) for best in found]
    rate = count / max(time.monotonic() - began, 1e-9)
    made = _Predicted(weakref.ref(network), checksum, texts, rate)
    part.memory["predicted"] = made
    return made


def _shown(texts: Sequence[str], told: Told, part: Split) -> list[dict[str, Any]]:
    step = max(1, len(texts) // EXAMPLES)
    return [
        {"picture": part.members[i].name, "text": texts[i], "references": list(told[i])}
        for i in range(0, len(texts), step)
    ][:EXAMPLES]


# ------------------------------------------------------------------------- nearest pictures


def _nearest(
    network: CaptionNetwork, data: TaskData, part: Split, told: Told
) -> dict[str, dict[str, float]]:
    """Scores of the first sentence of the nearest training picture, by colours and by the trunk."""
    train: Split = data.splits["train"]
    known = train.pictures(np.arange(min(len(train), NEAREST_AMONG)))
    asked = part.pictures(np.arange(len(told)))
    found = {}
    for name, vectors in (("pixels", _thumbnails), ("trunk", _trunk_vectors(network))):
        old, new = (
            np.concatenate([vectors(some[torch.from_numpy(rows)]) for rows in parts(len(some))])
            for some in (known, asked)
        )
        texts = [train.members[i].sentences[0] for i in nearest(new, old).tolist()]
        every = np.arange(len(told))
        values = _values(texts, told, part)
        found[name] = {key: float(value(every)) for key, value in values.items()}
    return found


def nearest(asked: np.ndarray, known: np.ndarray) -> np.ndarray:
    """For each vector (N, D) the place of the one at the least distance among (M, D): int (N,)."""
    return (0.5 * (known**2).sum(1)[None] - asked @ known.T).argmin(1)


def _thumbnails(pictures: Tensor) -> np.ndarray:
    """float32 (N, 3 * THUMBNAIL²), in [0, 1]."""
    found = [
        cv2.resize(one, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        for one in pictures.permute(0, 2, 3, 1).numpy()
    ]
    return np.stack(found).reshape(len(pictures), -1).astype(np.float32) / 255


def _trunk_vectors(network: CaptionNetwork) -> Callable[[Tensor], np.ndarray]:
    """Vectors of the trunk, of length 1: their nearest is the one of the largest cosine."""

    @torch.no_grad()
    def vectors(pictures: Tensor) -> np.ndarray:
        found, _ = network.look(pictures.to(network.bias.device))
        return nn.functional.normalize(found.float(), dim=1).cpu().numpy()

    return vectors


# -------------------------------------------------------------------------------- retrieval


def _retrieval(network: CaptionNetwork, part: Split, told: Told) -> dict[str, Any]:
    """Recall both ways: the sentences of a picture, and the picture of a sentence."""
    count = min(len(told), RETRIEVED)
    picture_of = np.array([i for i in range(count) for _ in told[i]])
    sentences = [encoded(network, text) for some in told[:count] for text in some]
    table = similarities(network, part.pictures(np.arange(count)), sentences)
    annotation, search = ranks(table, picture_of)
    return {
        "pictures": count,
        "sentences": len(sentences),
        "sentences_of_a_picture": recall_table(annotation),
        "picture_of_a_sentence": recall_table(search),
    }


# ---------------------------------------------------------------------------------- samples


def samples(model: nn.Module, data: TaskData, count: int) -> list[Sample]:
    """A sheet of pictures with what is said of them, and what the words were read from."""
    network = as_network(model)
    part: Split = data.splits.get("test", data.splits.get("validation", data.splits["train"]))
    chosen = np.arange(min(max(count, 1), len(part)))
    pictures = part.pictures(chosen)
    found = tell(network, pictures, Beam(network.options.beam, longest=network.options.longest))
    tiles, shown = [], []
    for i, best in zip(chosen.tolist(), found, strict=True):
        member = part.members[i]
        text = network.words.decode(best[0].ids)
        right = text in member.sentences
        lines = [(text, (0, 110, 0) if right else (170, 0, 0))]
        lines += [] if right else [(member.sentences[0], (90, 90, 90))]
        tiles.append(captioned(member.picture, lines))
        if network.options.way == "attention":
            maps = attention_of(network, pictures[i], best[0].ids)[:-1]
            sheet = attention_sheet(member.picture, text.split(), maps)
            shown.append(Sample(f"attention_{i:03d}", picture=sheet, text=text))
    return [Sample("captions", picture=in_rows(tiles, 4)), *shown]
