"""BLEU, chrF and perplexity of translations, beside controls."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...datasets.tokens import Tokens
from ...errors import DataError, TaskError, UsageError
from ...tasks import Control, Metric, Outcome, Sample, TaskData, weights_checksum
from ...tasks import Split as SplitName
from .chrf import chrf_counts, chrf_of
from .data import END, Split, Vocabulary, encoded, padded
from .heat import attention_picture
from .search import Beam
from .use import BATCH, Network, Translator, as_network

METRICS = (
    Metric("bleu", True, "sacrebleu, 13a, cased, detokenised"),
    Metric("chrf", True, "chrF2, equal to sacrebleu's"),
    Metric("perplexity", False, "exp of the mean cross entropy over target tokens"),
)
BEAM = Beam(size=5)
"""how a test split is translated"""
GREEDY = Beam(size=1)
"""how a validation split is translated, so that training is not held up"""
_MOST_OF_TRAIN = 1000
_EXAMPLES = 8


@dataclass(frozen=True)
class _Predicted:
    """Translations of a split by a model.

    Attributes:
        model, checksum: who made them, and with which weights.
        texts: by sentence.
        rate: sentences a second.
    """

    model: weakref.ref
    checksum: int
    texts: list[str]
    rate: float


def measure(model: nn.Module, data: TaskData, split: SplitName, control: Control) -> Outcome:
    """Scores a model or a control; see `Task.measure`. Units are sentences.

    The trivial control always writes the commonest sentence of the training targets; its
    perplexity is that of the tokens' frequencies. The shuffled control takes each sentence's
    translation and likelihood from the source of another one.

    Raises:
        DataError: there is no such split.
        TaskError: the model translates other languages.
    """
    if split not in data.splits:
        raise DataError(f"the data have no {split} split.")
    part: Split = data.splits[split]
    if split == "train" and len(part.texts) > _MOST_OF_TRAIN:
        part = part.first(_MOST_OF_TRAIN)
    beam = GREEDY if split == "validation" else BEAM
    network = as_network(model)
    part = _for_network(network, part, Vocabulary.of(data.facts))
    count = len(part.texts)
    details: dict[str, Any] = {}
    other = np.roll(np.arange(count), 1)
    if control == "trivial":
        texts = [str(data.facts["usual"])] * count
        lost = _lost_to_frequencies(part, data.facts["unigrams"])
    else:
        made = predict(network, part, beam)
        swap = control == "shuffled"
        texts = [made.texts[i] for i in other] if swap else made.texts
        lost = losses(network, part, other if swap else np.arange(count))
        if control == "none":
            details = {"beam": beam.size, "sentences_per_second": round(made.rate, 1)}
    tokens = np.array([len(ids) - 1 for ids in part.target])
    references = list(part.texts.target)
    bleu, told = bleu_over(texts, references)
    if control == "none":
        details |= told | {"examples": _shown(part, texts)}
    letters = np.array([chrf_counts(h, r) for h, r in zip(texts, references, strict=True)])
    values: dict[str, Callable[[np.ndarray], float]] = {
        "bleu": bleu,
        "chrf": lambda units: chrf_of(letters[units].sum(0)),
        "perplexity": lambda units: float(np.exp(lost[units].sum() / tokens[units].sum())),
    }
    return Outcome(values, count, details)


def _for_network(network: Network, part: Split, vocabulary: Vocabulary) -> Split:
    """The split in the network's own tokens: another run may have other ones."""
    own = network.vocabulary
    if own.languages != vocabulary.languages:
        raise TaskError(
            f"this network translates {' to '.join(own.languages)}, and the data are "
            f"{' to '.join(vocabulary.languages)}; score runs of one direction beside each other."
        )
    return part if own.equals(vocabulary) else encoded(part.texts, own)


def predict(network: Network, part: Split, beam: Beam) -> _Predicted:
    """Translations of a split; those of the same weights are made once."""
    checksum = weights_checksum(network)
    held = part.memory.get("predicted")
    if held is not None and held.model() is network and held.checksum == checksum:
        known: _Predicted = held
        return known
    kind = next(network.parameters()).device.type
    low = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if low else torch.float32
    began = time.perf_counter()
    with torch.no_grad(), torch.autocast(kind, enabled=False):
        translator = Translator([network], network.vocabulary, dtype)
        found = translator.translate(part.texts.source, beam)
    rate = len(found) / (time.perf_counter() - began)
    texts = [one[0].text for one in found]
    made = _Predicted(weakref.ref(network), checksum, texts, rate)
    part.memory["predicted"] = made
    return made


def losses(network: Network, part: Split, sources: np.ndarray) -> np.ndarray:
    """Nats of each target given the source of index `sources`, summed over its tokens: (N,)."""
    device = next(network.parameters()).device
    lost = np.zeros(len(sources))
    order = sorted(range(len(sources)), key=lambda i: len(part.target[i]))
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            source = padded([part.source[sources[i]] for i in rows]).to(device)
            target = padded([part.target[i] for i in rows]).to(device)
            lost[rows] = network.surprise(source, target).sum(1).double().cpu().numpy()
    return lost


def _lost_to_frequencies(part: Split, unigrams: list[float]) -> np.ndarray:
    known = np.asarray(unigrams)
    return np.array([-known[ids[1:]].sum() for ids in part.target])


def bleu_over(
    texts: list[str], references: list[str]
) -> tuple[Callable[[np.ndarray], float], dict[str, Any]]:
    """Corpus BLEU as a function of sentences' indices, and what sacrebleu tells of all of them."""
    bleu_class = _sacrebleu().BLEU
    counting = bleu_class(effective_order=True)
    rows = []
    for text, reference in zip(texts, references, strict=True):
        one = counting.sentence_score(text, [reference])
        rows.append([*one.counts, *one.totals, one.sys_len, one.ref_len])
    table = np.array(rows, np.int64)

    def value(units: np.ndarray) -> float:
        total = table[units].sum(0).tolist()
        found = bleu_class.compute_bleu(
            total[:4], total[4:8], total[8], total[9], smooth_method="exp"
        )
        return float(found.score)

    whole = bleu_class()
    score = whole.corpus_score(texts, [references])
    return value, {
        "signature": str(whole.get_signature()),
        "bleu_precisions": [round(p, 2) for p in score.precisions],
        "brevity_penalty": round(score.bp, 4),
        "length_ratio": round(score.sys_len / max(score.ref_len, 1), 4),
    }


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise UsageError("BLEU needs sacrebleu: pip install 'eightbit[tasks]'.") from None
    return metrics


def _shown(part: Split, texts: list[str]) -> list[dict[str, str]]:
    step = max(1, len(texts) // _EXAMPLES)
    return [
        {"source": part.texts.source[i], "reference": part.texts.target[i], "text": texts[i]}
        for i in range(0, len(texts), step)
    ][:_EXAMPLES]


def samples(model: nn.Module, data: TaskData, count: int) -> list[Sample]:
    """Translations beside their sources and references, with a picture of the attention."""
    network = as_network(model)
    part: Split = data.splits["test" if "test" in data.splits else "validation"]
    texts = part.texts.source[:count]
    translator = Translator([network], network.vocabulary, torch.float32)
    shown = []
    for i, found in enumerate(translator.translate(texts, BEAM)):
        best = found[0]
        text = f"{texts[i]}\n{best.text}\n{part.texts.target[i]}"
        picture = None
        if translator.attends:
            picture = sentence_picture(translator, texts[i], best.hypothesis.ids)
        shown.append(Sample(f"{i:03d}", picture=picture, text=text))
    return shown


def sentence_picture(translator: Translator, text: str, ids: list[int]) -> np.ndarray:
    """Attention as a picture, RGB uint8 (H, W, 3): sources across, the translation downwards."""
    weights = translator.alignment(text, ids)
    across = [*translator.vocabulary.source.pieces(text), "</s>"]
    return attention_picture(weights, across, _names(translator.vocabulary.target, [*ids, END]))


def _names(tokens: Tokens, ids: list[int]) -> list[str]:
    return [tokens.names[i] for i in ids]
