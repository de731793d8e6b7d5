"""Where a question meets a picture: the ways from both to scores of the answers.

Shapes: a batch has B pictures and N questions; `owners` int64 (N,) tells each question's picture.
Each module here returns logits (N, A), or (N, M, A) where M networks are averaged, and weights
(N, S) over the map's cells, which are none (S = 0) where nothing is attended to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import create_backbone
from .options import AnswerOptions

HEADS = 4  # places that a question looks at side by side


@dataclass(frozen=True)
class Seen:
    """What the trunk sees of B pictures.

    Attributes:
        vector: (B, F).
        cells: (B, S, C), of the last map row by row.
    """

    vector: Tensor
    cells: Tensor


@dataclass(frozen=True)
class Read:
    """N questions.

    Attributes:
        ids: int64 (N, T), words behind the padding, which is 0.
        words: (N, T, E), their vectors.
        owners: int64 (N,).
    """

    ids: Tensor
    words: Tensor
    owners: Tensor


def last_states(lstm: nn.Module, words: Tensor, starts: Tensor) -> Tensor:
    """An LSTM's outputs after the last step, and before the first one for the way back.

    Args:
        lstm: of the registry.
        words: (N, T, E), sequences that end with the last step.
        starts: int64 (N,), where each begins.

    Returns:
        (N, H), or (N, 2 H) of both directions.
    """
    steps = torch.arange(words.shape[1], device=words.device)
    rows = torch.arange(len(words), device=words.device)
    if lstm.directions == 1:
        # The words come first and their padding last, which needs no resets.
        moved = words[rows[:, None], (steps + starts[:, None]) % len(steps)]
        outputs, _ = lstm(moved)
        ended: Tensor = outputs[rows, len(steps) - 1 - starts]
        return ended
    outputs, _ = lstm(words, None, steps[None] == starts[:, None])
    last: Tensor = outputs[:, -1]
    half = outputs.shape[-1] // 2
    first = outputs[rows, starts, half:]
    return torch.cat([last[:, :half], first], 1)


def starts_of(ids: Tensor) -> Tensor:
    """Where words (N, T) begin behind their padding; the last step of empty ones: int64 (N,)."""
    return (ids == 0).sum(1).clamp_max(ids.shape[1] - 1)


def bag_of(ids: Tensor, words: Tensor) -> Tensor:
    """The sum of the words' vectors: (N, E) of ids (N, T) and vectors (N, T, E)."""
    return (words * (ids != 0)[..., None]).sum(1)


class QuestionReader(nn.Module):
    """The last state of an LSTM over a question beside the sum of its words: (N, hidden).

    The sum tells from the first step on which words there are; what their order adds is learnt
    by the LSTM.
    """

    def __init__(self, options: AnswerOptions):
        super().__init__()
        self.lstm = create_backbone("lstm", (options.embedding,), hidden=options.hidden)
        self.bag = nn.Linear(options.embedding, options.hidden, bias=False)

    def forward(self, read: Read) -> Tensor:
        if read.ids.is_cuda:  # to find equal questions would take longer than to read them
            return self._states(read.ids, read.words)
        ids, places = torch.unique(read.ids, dim=0, return_inverse=True)
        firsts = places.new_full((len(ids),), len(places)).scatter_reduce_(
            0, places, torch.arange(len(places), device=places.device), "amin"
        )
        return self._states(ids, read.words[firsts])[places]

    def _states(self, ids: Tensor, words: Tensor) -> Tensor:
        return last_states(self.lstm, words, starts_of(ids)) + self.bag(bag_of(ids, words))


def coordinates(grid: tuple[int, int]) -> Tensor:
    """Places (S, 2) of a map's cells, across and down in [-1, 1]."""
    down, across = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in grid)
    return torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], -1).flatten(0, 1)


class _Answering(nn.Module):
    """The layers before the softmax."""

    def __init__(self, size: int, options: AnswerOptions, answers: int):
        super().__init__()
        self.dropout = options.dropout
        self.hidden = nn.Linear(size, options.width)
        self.out = nn.Linear(options.width, answers)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(torch.relu(self.hidden(x)), self.dropout, self.training)
        scores: Tensor = self.out(x)
        return scores


class LookingTwice(nn.Module):
    """Attention with a second look that knows what the first one found.

    The question looks at the cells with several heads; then each cell meets the question and what
    was found, through layers scaled and moved by both, and is attended to and counted anew. A
    relation of any cell to the object in question is so reached without all pairs of cells.

    Args:
        options: of the task.
        cells: length of a cell's vector.
        grid: height and width of the map.
        answers: how many there are.
    """

    def __init__(self, options: AnswerOptions, cells: int, grid: tuple[int, int], answers: int):
        super().__init__()
        width, hidden = options.width, options.hidden
        self.reader = QuestionReader(options)
        self.places: Tensor
        self.register_buffer("places", coordinates(grid), persistent=False)
        self.cell = nn.Linear(cells + 2, width)
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(hidden, width)
        self.bend = nn.Linear(hidden + width, 2 * width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(options.layers))
        self.look = nn.Linear(width, HEADS)
        self.value = nn.Linear(width, width)
        self.count = nn.Linear(width, width)
        self.answer = _Answering(hidden + 4 * width, options, answers)

    def forward(self, seen: Seen, read: Read) -> tuple[Tensor, Tensor]:
        places = self.places.to(seen.cells.dtype).expand(len(seen.cells), -1, -1)
        cells = self.norm(self.cell(torch.cat([seen.cells, places], -1)))
        question = self.reader(read).to(cells.dtype)
        cells = cells[read.owners]  # (N, S, W)
        split = (len(cells), -1, HEADS, cells.shape[-1] // HEADS)
        values = cells.view(split)
        query = self.query(question).view(len(cells), HEADS, -1)
        first = torch.einsum("nhd,nshd->nsh", query, values) * query.shape[-1] ** -0.5
        first = first.float().softmax(1).to(cells.dtype)
        found = torch.einsum("nsh,nshd->nhd", first, values).flatten(1)
        scale, move = self.bend(torch.cat([question, found], 1)).chunk(2, 1)
        x = torch.relu(cells * (1 + scale[:, None]) + move[:, None])
        for layer in self.layers:
            x = torch.relu(layer(x))
        second = self.look(x).float().softmax(1).to(x.dtype)
        chosen = torch.einsum("nsh,nshd->nhd", second, self.value(x).view(split)).flatten(1)
        counted = torch.sigmoid(self.count(x) - 3).sum(1)  # little for a cell that holds nothing
        # The strongest of all cells is felt long before attention has learnt where to look.
        strongest = x.amax(1)
        logits = self.answer(torch.cat([question, found, chosen, counted, strongest], 1))
        return logits, second.float().mean(2)


class RelationNetwork(nn.Module):
    """f of the sum of g over all pairs of cells with the question (Santoro 2017, equation 1).

    The first layer of g is computed from its three parts, which are added for each pair; that is
    the same layer on what they make when put together.

    Args:
        options, cells, grid, answers: see `LookingTwice`.
    """

    def __init__(self, options: AnswerOptions, cells: int, grid: tuple[int, int], answers: int):
        super().__init__()
        width = options.width
        self.reader = QuestionReader(options)
        self.places: Tensor
        self.register_buffer("places", coordinates(grid), persistent=False)
        self.one = nn.Linear(cells + 2, width)
        self.other = nn.Linear(cells + 2, width, bias=False)
        self.asked = nn.Linear(options.hidden, width, bias=False)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(options.layers - 1))
        self.answer = _Answering(width, options, answers)

    def forward(self, seen: Seen, read: Read) -> tuple[Tensor, Tensor]:
        places = self.places.to(seen.cells.dtype).expand(len(seen.cells), -1, -1)
        cells = torch.cat([seen.cells, places], -1)
        pairs = (self.one(cells)[:, :, None] + self.other(cells)[:, None]).flatten(1, 2)
        x = torch.relu(pairs[read.owners] + self.asked(self.reader(read))[:, None])
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.answer(x.mean(1)), x.new_zeros(len(x), 0)


class VisLstm(nn.Module):
    """The picture as the first word of the question (Ren 2015); with `twice` also as the last one,
    the question being read in both directions (2-VIS+BLSTM).

    Args:
        options: of the task.
        vector: length of the picture's vector.
        answers: how many there are.
        twice: see above.
    """

    def __init__(self, options: AnswerOptions, vector: int, answers: int, twice: bool):
        super().__init__()
        size = options.embedding
        self.dropout = options.dropout
        self.pictures = nn.ModuleList(nn.Linear(vector, size) for _ in range(1 + twice))
        self.lstm = create_backbone("lstm", (size,), hidden=options.hidden, bidirectional=twice)
        self.out = nn.Linear(self.lstm.out_features, answers)  # type: ignore[arg-type]

    def forward(self, seen: Seen, read: Read) -> tuple[Tensor, Tensor]:
        first, *last = (layer(seen.vector)[read.owners] for layer in self.pictures)
        starts = (read.ids == 0).sum(1)
        words = torch.cat([torch.zeros_like(read.words[:, :1]), read.words], 1)
        # The picture stands right before the first word, behind the padding.
        here = torch.arange(words.shape[1], device=words.device)[None] == starts[:, None]
        words = torch.where(here[..., None], first[:, None].to(words.dtype), words)
        if last:
            words = torch.cat([words, last[0][:, None].to(words.dtype)], 1)
        words = F.dropout(words, self.dropout, self.training)
        state = F.dropout(last_states(self.lstm, words, starts), self.dropout, self.training)
        return self.out(state), state.new_zeros(len(state), 0)


class ImgBow(nn.Module):
    """Logistic regression on the sum of the words' vectors beside the picture's (Ren 2015).

    Args:
        options, vector, answers: see `VisLstm`.
    """

    def __init__(self, options: AnswerOptions, vector: int, answers: int):
        super().__init__()
        self.dropout = options.dropout
        self.out = nn.Linear(vector + options.embedding, answers)

    def forward(self, seen: Seen, read: Read) -> tuple[Tensor, Tensor]:
        bag = bag_of(read.ids, read.words)
        both = torch.cat([seen.vector[read.owners], bag.to(seen.vector.dtype)], 1)
        logits = self.out(F.dropout(both, self.dropout, self.training))
        return logits, logits.new_zeros(len(logits), 0)


class Full(nn.Module):
    """VIS+LSTM, 2-VIS+BLSTM and IMG+BOW on one trunk; their probabilities are averaged.

    Args:
        options, vector, answers: see `VisLstm`.
    """

    def __init__(self, options: AnswerOptions, vector: int, answers: int):
        super().__init__()
        self.parts = nn.ModuleList(
            (
                VisLstm(options, vector, answers, twice=False),
                VisLstm(options, vector, answers, twice=True),
                ImgBow(options, vector, answers),
            )
        )

    def forward(self, seen: Seen, read: Read) -> tuple[Tensor, Tensor]:
        logits = torch.stack([part(seen, read)[0] for part in self.parts], 1)
        return logits, logits.new_zeros(len(logits), 0)
