"""Translating texts with trained networks: the part that scores, samples and `run` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...datasets.tokens import encode_texts
from .attentive import AttentionNetwork
from .data import BEGIN, END, UNK, Vocabulary, padded, with_end
from .plain import PlainNetwork
from .search import Beam, Hypothesis, beam_search
from .stepping import Stepper

Network = AttentionNetwork | PlainNetwork
BATCH = 96
"""sentences that are translated together, unless told"""


@dataclass(frozen=True)
class Translation:
    """What a sentence was translated to.

    Attributes:
        text: the translation.
        hypothesis: its tokens and scores.
    """

    text: str
    hypothesis: Hypothesis


@dataclass(frozen=True)
class Translator:
    """Networks that translate together.

    Attributes:
        networks: in evaluation mode, over the same tokens.
        vocabulary: of all of them.
        dtype: in which they compute.
    """

    networks: Sequence[Network]
    vocabulary: Vocabulary
    dtype: torch.dtype

    def translate(
        self,
        texts: Sequence[str],
        beam: Beam,
        *,
        batch: int = BATCH,
        replace_unknown: bool = False,
        told: Callable[[int], None] | None = None,
    ) -> list[list[Translation]]:
        """The best translations of each text, the best first; an empty text gives an empty one.

        Args:
            texts: sentences.
            beam: how to search.
            batch: sentences at a time; those of similar length go together.
            replace_unknown: an unknown word of the translation becomes the word of the source
                that attention reads most (Luong 2015).
            told: is called with the number of sentences done.
        """
        ids = with_end(encode_texts(self.vocabulary.source, texts))
        found: list[list[Translation]] = [[] for _ in texts]
        filled = [i for i, text in enumerate(texts) if text.strip()]
        for i in set(range(len(texts))) - set(filled):
            found[i] = [Translation("", Hypothesis([], 0.0, 0.0))]
        order = sorted(filled, key=lambda i: len(ids[i]))
        steppers: list[Stepper] = [one.stepper(self.dtype) for one in self.networks]
        device = next(self.networks[0].parameters()).device
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            source = padded([ids[i] for i in rows]).to(device)
            best = beam_search(steppers, [source] * len(steppers), beam)
            for i, hypotheses in zip(rows, best, strict=True):
                found[i] = [self._written(one, texts[i], replace_unknown) for one in hypotheses]
            if told is not None:
                told(start + len(rows))
        return found

    def _written(self, found: Hypothesis, text: str, replace_unknown: bool) -> Translation:
        tokens = self.vocabulary.target
        said: dict[int, str] = {}
        if replace_unknown and UNK in found.ids and self.attends:
            pieces = self.vocabulary.source.pieces(text)
            weights = self.alignment(text, found.ids)[:, : len(pieces)]
            for place, token in enumerate(found.ids):
                if token == UNK:
                    said[place] = pieces[int(weights[place].argmax())]
        return Translation(tokens.decode(found.ids, said), found)

    @property
    def attends(self) -> bool:
        """Whether there is an attention to look at."""
        return all(isinstance(one, AttentionNetwork) for one in self.networks)

    @torch.no_grad()
    def alignment(self, text: str, ids: Sequence[int]) -> np.ndarray:
        """Mean attention of the networks, float32 (T + 1, S + 1): rows are the tokens and the end
        of a translation, columns those of its source.
        """
        source = padded(with_end([self.vocabulary.source.encode(text)]))
        target = padded([np.array([BEGIN, *ids, END])])
        device = next(self.networks[0].parameters()).device
        seen = [
            one.alignment(source.to(device), target.to(device))[0].float().cpu()
            for one in self.networks
            if isinstance(one, AttentionNetwork)
        ]
        return torch.stack(seen).mean(0).numpy()


def chosen_dtype(network: Network) -> torch.dtype:
    """bfloat16 where it multiplies this network's largest matrix clearly faster, else float32."""
    weight = max(network.parameters(), key=lambda p: p.numel()).detach()
    x = torch.zeros(320, weight.shape[1], device=weight.device)
    seconds: dict[Any, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        w, given = weight.to(dtype), x.to(dtype)
        best = float("inf")
        for _ in range(4):
            began = time.perf_counter()
            (given @ w.t()).sum().item()
            best = min(best, time.perf_counter() - began)
        seconds[dtype] = best
    low = seconds[torch.bfloat16] < 0.7 * seconds[torch.float32]
    return torch.bfloat16 if low else torch.float32


def as_network(model: nn.Module) -> Network:
    """The model, which must be one of ours."""
    assert isinstance(model, AttentionNetwork | PlainNetwork)
    return model
