"""Pictures with sentences as training batches and as splits to measure on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ...datasets.atari_objects import ATARI_DATA
from ...datasets.captions import SCORED_SEED, CaptionedPicture, Captions, read_captions
from ...datasets.orders import EpochOrder
from ...datasets.scenes import SceneSplit, scene, true_of
from ...errors import DataError
from ...tasks import TaskData
from .._telling.meteor import wordnet_for_meteor
from .._telling.pictures import moved
from .._telling.wordnet import WordNet
from .._telling.words import Words
from .options import CaptionOptions
from .use import padded

SCENES = "scenes"
LISTED = 2_000  # pictures that the vocabulary is made from where they are generated without end

Truth = Callable[[int, str], bool]


@dataclass(frozen=True)
class Split:
    """Pictures to measure on, or to learn from.

    Attributes:
        members: pictures with their sentences, made or decoded when they are asked for.
        true: (index, sentence) -> whether the sentence holds of the picture; None where nobody
            can tell.
        net: where METEOR finds synonyms; None where it is not computed.
        memory: the last predictions on them, see `scores.predict`.
    """

    members: Sequence[CaptionedPicture]
    true: Truth | None = None
    net: WordNet | None = None
    memory: dict[Any, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.members)

    def pictures(self, indices: np.ndarray) -> Tensor:
        """uint8 (N, 3, S, S)."""
        return stacked([self.members[int(i)] for i in indices])


def stacked(members: Sequence[CaptionedPicture]) -> Tensor:
    """Pictures uint8 (N, 3, S, S)."""
    return torch.from_numpy(np.stack([one.picture for one in members])).permute(0, 3, 1, 2)


def build_data(options: CaptionOptions, data: str, seed: int) -> TaskData:
    """Reads pictures with sentences; see `Task.build_data`.

    The facts hold "words" (the vocabulary) and "usual" (the commonest training sentence).

    Raises:
        DataError: the data cannot be read, or their pictures are missing.
    """
    read = read_captions(data, seed, options.size)
    train = read.splits["train"]
    if not len(train):
        raise DataError(f"{data} has no training pictures with sentences.")
    told = [text for one in _listed(read) for text in one.sentences]
    words = Words.learn(told, options.fewest)
    counts = Counter(told)
    facts = {
        **read.facts,
        "words": words.to_facts(),
        "usual": min(counts, key=lambda text: (-counts[text], text)),
        "size": options.size,
    }
    # Read now: a folder that is none is told before training, not after.
    net = wordnet_for_meteor(options.wordnet) if options.wordnet else None
    splits = {
        name: Split(members, _truth_of(data, name, seed), net)
        for name, members in read.splits.items()
    }
    return TaskData(facts, len(train), Batches(read, words, options, seed), splits)


def _listed(read: Captions) -> Sequence[CaptionedPicture]:
    """Training pictures whose sentences are the vocabulary's."""
    train = read.splits["train"]
    return train[:LISTED] if read.fresh is not None else train


def _truth_of(data: str, name: str, seed: int) -> Truth | None:
    if data in ATARI_DATA:
        from ...datasets.atari_scenes import read_atari_scenes, true_in  # loads the console

        return partial(true_in, read_atari_scenes(seed, data)[name])
    if data != SCENES:
        return None
    split = cast(SceneSplit, name)
    return partial(_true_of_scene, split, seed if name == "train" else SCORED_SEED)


def _true_of_scene(split: SceneSplit, seed: int, number: int, sentence: str) -> bool:
    return true_of(sentence, scene(split, seed, number).objects)


class Batches:
    """Training batches as a pure function of the step; see `TaskData.batch`.

    Called with (step, batch size) it returns "pictures" uint8 (B, 3, S, S), "sentences" int64
    (B, T) from start to end and padded, one of each picture's at random, and "owners" int64 (B,),
    the number of each picture.
    """

    def __init__(self, read: Captions, words: Words, options: CaptionOptions, seed: int):
        self.train, self.fresh = read.splits["train"], read.fresh
        self.words, self.options, self.seed = words, options, seed
        self._order = EpochOrder(len(self.train), seed, 3)

    def __call__(self, step: int, size: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng([self.seed, 4, step])
        owners = step * size + np.arange(size)
        if self.fresh is not None:  # no picture twice
            members = [self.fresh(int(i)) for i in owners]
        else:
            owners = self._order(owners)
            members = [self.train[int(i)] for i in owners]
        told = [one.sentences[int(rng.integers(len(one.sentences)))] for one in members]
        ids = [self.words.encode(text)[: self.options.longest] for text in told]
        pictures = np.stack([one.picture for one in members])
        pictures = moved(pictures, self.options.flip, self.options.shift, rng)
        return {
            "pictures": torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))),
            "sentences": padded(ids),
            "owners": torch.from_numpy(owners),
        }
