"""A trunk of the registry, words' vectors, and one of the ways in which they meet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import create_backbone
from ...errors import DataError, UsageError
from ...tasks import Batch, Moment, TaskData
from .._telling.pictures import require_cnn, whiten_fresh
from .._telling.words import PAD, Words
from .meetings import Full, ImgBow, LookingTwice, Read, RelationNetwork, Seen, VisLstm
from .options import AnswerOptions

NO_ANSWER = -1  # the right answer of a question that is padding, or whose answer is not learnt


class AnswerNetwork(nn.Module):
    """Answers questions about pictures.

    Args:
        options: of the task.
        words: the questions' vocabulary.
        answers: names of what can be answered.

    Attributes:
        backbone: the trunk.
        meeting: see `meetings`.
        grid: height and width of the trunk's last map.
        cell_size: its channels.
        detector: what teaches the trunk early which answers belong to a picture; None where
            nothing does.
    """

    def __init__(self, options: AnswerOptions, words: Words, answers: Sequence[str]):
        super().__init__()
        self.options, self.words, self.answers = options, words, tuple(answers)
        shape = (3, options.size, options.size)
        self.backbone = create_backbone(options.backbone, shape, **options.backbone_kwargs())
        with torch.no_grad():
            cells = _features(self.backbone.eval(), torch.zeros(1, *shape, dtype=torch.uint8))
        self.backbone.train()
        self.grid, self.cell_size = (cells.shape[2], cells.shape[3]), cells.shape[1]
        self.embed = nn.Embedding(len(words), options.embedding, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=0.5)
        with torch.no_grad():
            self.embed.weight[PAD] = 0
        self.looks_at_cells = options.way in ("attention", "relation")
        vector, count = cast(int, self.backbone.out_features), len(self.answers)
        self.meeting = _meeting(options, vector, cells.shape[1], self.grid, count)
        self.detector: nn.Linear | None = None
        if options.detector_weight:
            self.detector = nn.Linear(cells.shape[1], count)
        if options.blind:
            self.backbone.requires_grad_(False)
        elif self.looks_at_cells:  # the layers that make a vector of the map have nothing to do
            for weight in cast(nn.Module, self.backbone.hidden).parameters():
                weight.requires_grad_(False)

    def look(self, pictures: Tensor) -> Seen:
        """What the trunk sees of pictures uint8 (B, 3, S, S); nothing but zeros if it is blind."""
        count = len(pictures)
        width = 0 if self.looks_at_cells else cast(int, self.backbone.out_features)
        if self.options.blind:
            zeros = self.embed.weight.new_zeros
            return Seen(zeros(count, width), zeros(count, math.prod(self.grid), self.cell_size))
        found = _features(self.backbone, pictures)
        cells = found.flatten(2).transpose(1, 2)
        if self.looks_at_cells:
            return Seen(cells.new_zeros(count, 0), cells)
        return Seen(cast(nn.Module, self.backbone.hidden)(found), cells)

    def scores(self, pictures: Tensor, ids: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the answers, and what was attended to.

        Args:
            pictures: uint8 (B, 3, S, S).
            ids: int64 (N, T), words behind their padding.
            owners: int64 (N,), each question's picture.

        Returns:
            logits float32 (N, M, A) of the M networks that are averaged, and weights (N, S) of the
            map's cells, none (S = 0) where the way is no attention.
        """
        return self._meet(self.look(pictures), ids, owners)

    def _meet(self, seen: Seen, ids: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        logits, weights = self.meeting(seen, Read(ids, self.embed(ids), owners))
        logits = logits.float()
        return (logits if logits.ndim == 3 else logits[:, None]), weights

    def _detector_loss(self, cells: Tensor, answers: Tensor) -> Tensor:
        """Cross entropy of which answers a picture's questions have, told by its strongest cells.

        Cells are (B, S, C), answers int64 (B, Q).
        """
        assert self.detector is not None
        scores = self.detector(cells.amax(1)).float()
        count = scores.shape[1]
        there = scores.new_zeros(len(scores), count + 1)  # the last column is of padding
        there.scatter_(1, answers.masked_fill(answers == NO_ANSWER, count), 1.0)
        there = there[:, :count]
        return F.binary_cross_entropy_with_logits(scores, there)

    def probabilities(self, pictures: Tensor, ids: Tensor, owners: Tensor) -> Tensor:
        """Float32 (N, A), see `scores`."""
        return self.scores(pictures, ids, owners)[0].softmax(-1).mean(1)

    def forward(self, pictures: Tensor, questions: Tensor, answers: Tensor) -> dict[str, Tensor]:
        """Losses of pictures and their questions.

        Args:
            pictures: uint8 (B, 3, S, S).
            questions: int64 (B, Q, T), words behind their padding.
            answers: int64 (B, Q); NO_ANSWER for what does not count.

        Returns:
            "loss", the weighted sum; "nll", the cross entropy, of several networks its sum;
            "detector" where one is learnt; "accuracy" of this batch.
        """
        right = answers.flatten()
        # What is padding is computed too: to pick the rest out, a GPU would have to wait.
        owners = torch.arange(len(right), device=right.device) // answers.shape[1]
        seen = self.look(pictures)
        logits, _ = self._meet(seen, questions.flatten(0, 1), owners)
        many = logits.shape[1]
        lost = F.cross_entropy(
            logits.flatten(0, 1),
            right.repeat_interleave(many),
            ignore_index=NO_ANSWER,
            label_smoothing=self.options.label_smoothing,
        )
        with torch.no_grad():
            hits = (logits.softmax(-1).mean(1).argmax(-1) == right).sum()
            hits = hits / (right != NO_ANSWER).sum()
        found = {"loss": lost * many, "nll": lost.detach() * many, "accuracy": hits}
        if self.detector is not None:
            found["detector"] = self._detector_loss(seen.cells, answers)
            found["loss"] = found["loss"] + self.options.detector_weight * found["detector"]
        return found


def _meeting(
    options: AnswerOptions, vector: int, cells: int, grid: tuple[int, int], answers: int
) -> nn.Module:
    if options.way == "attention":
        return LookingTwice(options, cells, grid, answers)
    if options.way == "relation":
        return RelationNetwork(options, cells, grid, answers)
    if options.way == "img_bow":
        return ImgBow(options, vector, answers)
    if options.way == "full":
        return Full(options, vector, answers)
    return VisLstm(options, vector, answers, twice=options.way == "two_vis_blstm")


def _features(backbone: nn.Module, pictures: Tensor) -> Tensor:
    return cast(Tensor, backbone.forward_features(pictures))  # type: ignore[operator]  # CNNs have it


def as_network(model: nn.Module) -> AnswerNetwork:
    """The model, which must be one of ours."""
    assert isinstance(model, AnswerNetwork)
    return model


def build_model(options: AnswerOptions, facts: Mapping[str, Any]) -> AnswerNetwork:
    """A freshly initialised network for the words and answers of `facts`.

    Raises:
        DataError: the facts are damaged.
        UsageError: the backbone is unknown, no CNN, or does not fit; or the width does not fit.
    """
    require_cnn(options.backbone)
    if options.way == "attention" and options.width % 4:
        raise UsageError(f"width is {options.width}; attention needs a multiple of 4.")
    if not isinstance(facts.get("answers"), list):
        raise DataError("the answers of this model are damaged; copy it anew.")
    return AnswerNetwork(options, Words.from_facts(facts["words"]), facts["answers"])


def begin(model: nn.Module, data: TaskData) -> None:
    """See `whiten_fresh`."""
    whiten_fresh(as_network(model).backbone, data.splits["train"])


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """Cross entropy of the answers; see `Task.loss`."""
    found: Mapping[str, Tensor] = model(batch["pictures"], batch["questions"], batch["answers"])
    return found
