"""A text as training examples and parts to measure on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...datasets.download import resolve, source_facts
from ...datasets.texts import Texts, read_texts
from ...datasets.tokens import Tokens, learn_tokens
from ...errors import DataError
from ...tasks import TaskData
from .options import TextOptions

LEARNT_SHARE = 0.9
"""of the text's characters; the rest is the test part"""
VALIDATION_SHARE = 0.05
"""of the learnt characters, the last of them"""
UNIT = 1_000
"""characters of a piece that is scored as one unit, about"""


@dataclass(frozen=True)
class Part:
    """A part of the text.

    Attributes:
        ids: tokens, int32 (N,).
        characters: of the text that they stand for.
        tokens: the vocabulary.
    """

    ids: np.ndarray
    characters: int
    tokens: Tokens


def build_data(options: TextOptions, data: str, seed: int) -> TaskData:
    """Reads a text and cuts it; see `Task.build_data`.

    The first 90 % of the characters are learnt from, the last 10 % are the test part. The facts
    hold "tokens", the vocabulary: of characters, those of the whole text; words and pieces are
    learnt from the training part alone.

    Raises:
        DataError: the text cannot be read or is too short.
    """
    path = resolve(data)
    found = read_texts(path)
    texts = _cut(found.text, options.train_on == "train")
    known = found.text if options.tokens == "characters" else texts["train"]
    tokens = learn_tokens([known], options.tokens, options.vocabulary_size)
    splits = {name: Part(tokens.encode(text), len(text), tokens) for name, text in texts.items()}
    _refuse_short(splits, options.context, data)
    order = "the first 90 % of the characters and the last 10 %"
    if "validation" in splits:
        order += "; validation is the last 5 % of the former"
    facts = {
        **source_facts(data, path),
        **_files(found),
        "split": order,
        "tokens": tokens.to_facts(),
        "characters": {name: part.characters for name, part in splits.items()},
        "vocabulary": tokens.size,
        "start": _start_token(tokens, splits["train"].ids),
    }
    batches = Batches(splits["train"].ids, options.context, seed)
    return TaskData(facts, batches.count, batches, splits)


def _cut(text: str, validates: bool) -> dict[str, str]:
    learnt = int(LEARNT_SHARE * len(text))
    if not validates:
        return {"train": text[:learnt], "test": text[learnt:]}
    end = learnt - int(VALIDATION_SHARE * learnt)
    return {"train": text[:end], "validation": text[end:learnt], "test": text[learnt:]}


def _start_token(tokens: Tokens, learnt: np.ndarray) -> int:
    """What stands before a text that is written from nothing: a line's end where there is one."""
    return tokens.names.index("\n") if "\n" in tokens.names else int(learnt[0])


def _refuse_short(splits: Mapping[str, Part], context: int, data: str) -> None:
    for name, part in splits.items():
        needed = context + 1 if name == "train" else 2
        if len(part.ids) < needed:
            raise DataError(
                f"{data} is too short: its {name} part has {len(part.ids):,} tokens and "
                f"{needed:,} are needed; use more text or a smaller --context."
            )


def _files(found: Texts) -> dict[str, object]:
    facts: dict[str, object] = {"files": len(found.names)}
    if found.passed_over:
        facts["passed_over"] = list(found.passed_over)
    return facts


class Batches:
    """Training examples as a pure function of the step; see `TaskData.batch`.

    In each epoch the text is cut at every `context` tokens, from an offset that differs, and the
    pieces come in random order. Called with (step, batch size) it returns "ids" int64
    (B, context + 1): the tokens that are read and, one further, those to predict.

    Args:
        ids: the tokens, (N,).
        context: tokens of an example.
        seed: of order and offsets.

    Attributes:
        count: examples of an epoch.
    """

    def __init__(self, ids: np.ndarray, context: int, seed: int):
        self.ids, self.context, self.seed = ids, context, seed
        self.count = max((len(ids) - 1) // context - 1, 1)
        self._order = lru_cache(maxsize=2)(self._starts)

    def __call__(self, step: int, size: int) -> Mapping[str, Tensor]:
        starts = [self._start(step * size + row) for row in range(size)]
        rows = np.asarray(starts)[:, None] + np.arange(self.context + 1)
        return {"ids": torch.from_numpy(self.ids[rows].astype(np.int64))}

    def _start(self, position: int) -> int:
        """Where the example begins at a position in the endless sequence of epochs."""
        epoch, place = divmod(position, self.count)
        return int(self._order(epoch)[place])

    def _starts(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, 5, epoch])
        spare = len(self.ids) - 1 - self.count * self.context
        offset = rng.integers(spare + 1)
        return offset + self.context * rng.permutation(self.count)
