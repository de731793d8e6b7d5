"""A trunk of the registry and a decoder of two LSTM layers that sees in one of three ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.attention import ProductAttention
from ...backbones.layers import locked_dropout
from ...datasets.question_rules import COLOURS
from ...tasks import Batch, Moment, TaskData
from .._telling.pictures import require_cnn, whiten_fresh
from .._telling.words import PAD, UNK, Words
from .options import CaptionOptions
from .ranking import Alignment, Embedding, Ranking, ranking_loss
from .search import Tensors

RARE = -5.0  # logit of a word in a cell before anything is learnt


class Detector(nn.Module):
    """Which words belong to a picture, found in the cells of its map (Fang 2015).

    A word is there unless every cell says that it is not: their probabilities are joined by a
    noisy or. It learns from whole sentences alone, and writes nothing.

    Args:
        cell_size: length of a cell's vector.
        words: length of the vocabulary.
    """

    def __init__(self, cell_size: int, words: int):
        super().__init__()
        self.score = nn.Linear(cell_size, words)
        nn.init.constant_(self.score.bias, RARE)

    def absent(self, cells: Tensor) -> Tensor:
        """Log probability, float32 (B, V), that a word is in none of the cells (B, S, C)."""
        found: Tensor = self.score(cells)
        return -F.softplus(found.float()).sum(1)

    def forward(self, cells: Tensor, sentences: Tensor) -> Tensor:
        """Cross entropy in nats a word that is there, of cells (B, S, C) and words (B, T)."""
        absent = self.absent(cells)
        there = torch.zeros_like(absent).scatter_(1, sentences, 1.0)
        there[:, : UNK + 1] = 0
        present = torch.log(-torch.expm1(absent.clamp(max=-1e-6)))
        lost = -(there * present + (1 - there) * absent)
        return lost[:, UNK + 1 :].sum() / there.sum().clamp_min(1)


class CaptionNetwork(nn.Module):
    """Says what a picture shows.

    The lower LSTM reads the words said so far; its outputs and what the decoder sees go into the
    upper one, and both with what is seen into the layer before the softmax, whose weights are
    those of the words' vectors. What is seen is

    - attention: what the lower outputs read of the map's cells, which carry their places; the
      lower layer begins with a state made of the picture's vector (Xu 2015);
    - each: the picture's vector at each step, which the upper layer reads as in LRCN (Donahue
      2015) and the last layer as in m-RNN (Mao 2014);
    - first: nothing; the picture's vector is the lower layer's input before the first word
      (Karpathy and Fei-Fei 2015, Vinyals 2015).

    No layer waits for what is read a step before, so each runs over a whole sentence at once.

    Args:
        options: of the task.
        words: the vocabulary.

    Attributes:
        backbone: the trunk.
        read_as: int64 (V,), as which word the decoder reads each one that was said: itself; or all
            colours as one, so that what has a colour is not guessed from it.
        detector: what teaches the trunk which words there are; None where nothing does.
        ranking: what retrieval learns; None where it learns nothing.
    """

    def __init__(self, options: CaptionOptions, words: Words):
        super().__init__()
        self.options, self.words = options, words
        shape = (3, options.size, options.size)
        self.backbone = create_backbone(options.backbone, shape, **options.backbone_kwargs())
        vector = cast(int, self.backbone.out_features)
        with torch.no_grad():
            cells = _features(self.backbone.eval(), torch.zeros(1, *shape, dtype=torch.uint8))
        self.backbone.train()
        self.grid = (cells.shape[2], cells.shape[3])
        size, hidden = options.embedding, options.hidden
        self.embed = nn.Embedding(len(words), size, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=size**-0.5)
        seen = 0 if options.way == "first" else options.memory
        if options.way == "attention":
            self.cells = nn.Linear(cells.shape[1], options.memory)
            self.places = nn.Parameter(
                torch.randn(self.grid[0] * self.grid[1], options.memory) * 0.5
            )
            self.norm = nn.LayerNorm(options.memory)
            self.attention = ProductAttention(hidden, options.memory)
        width = {"attention": 2 * hidden, "first": size, "each": options.memory}[options.way]
        self.picture = nn.Linear(vector, width)
        self.lower = create_backbone("lstm", (size,), hidden=hidden)
        self.upper = create_backbone("lstm", (hidden + seen,), hidden=hidden)
        self.before = nn.Linear(hidden + seen, size)
        self.bias = nn.Parameter(torch.zeros(len(words)))
        read_as = torch.arange(len(words))
        if not options.read_colours:
            colours = [i for name, i in words.ids.items() if name in COLOURS]
            read_as[colours[1:]] = read_as[colours[:1]]
        self.read_as: Tensor
        self.register_buffer("read_as", read_as, persistent=False)
        self.detector: Detector | None = None
        if options.detector_weight:
            self.detector = Detector(cells.shape[1], len(words))
        self.ranking: Ranking | None = None
        if options.ranking == "embedding":
            self.ranking = Embedding(vector, size, options.ranking_size)
        elif options.ranking == "alignment":
            self.ranking = Alignment(vector, cells.shape[1], size, options.ranking_size)

    def forward(self, pictures: Tensor, sentences: Tensor, owners: Tensor) -> dict[str, Tensor]:
        """Losses of pictures and their sentences.

        Args:
            pictures: uint8 (B, 3, size, size).
            sentences: int64 (B, T), from start to end, padded.
            owners: int64 (B,), which picture of the data each is.

        Returns:
            "loss", the weighted sum; "nll", nats a word; "detector" and "ranking" where they are
            learnt.
        """
        vector, cells = self.look(pictures)
        logits, _ = self.decode(vector, cells, sentences[:, :-1])
        labels = sentences[:, 1:].flatten()
        smoothing = self.options.label_smoothing
        flat = logits.flatten(0, 1).float()
        loss = F.cross_entropy(flat, labels, ignore_index=PAD, label_smoothing=smoothing)
        with torch.no_grad():
            nll = F.cross_entropy(flat, labels, ignore_index=PAD) if smoothing else loss.detach()
        found = {"loss": loss, "nll": nll}
        if self.detector is not None:
            found["detector"] = self.detector(cells, sentences[:, 1:])
            found["loss"] = found["loss"] + self.options.detector_weight * found["detector"]
        if self.ranking is not None:
            similarity = self._similarity(vector, cells, sentences[:, 1:])
            found["ranking"] = ranking_loss(similarity, owners, self.options.margin)
            found["loss"] = found["loss"] + self.options.ranking_weight * found["ranking"]
        return found

    def vectors(self, words: Tensor) -> Tensor:
        """Vectors (B, T, E) of words int64 (B, T), with values of about 1 as layers expect."""
        found: Tensor = self.embed(words) * self.options.embedding**0.5
        return found

    def look(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The picture's vector (B, F) and the map's cells (B, S, C)."""
        found = _features(self.backbone, pictures)
        vector = cast(nn.Module, self.backbone.hidden)(found)
        return vector, found.flatten(2).transpose(1, 2)

    def decode(self, vector: Tensor, cells: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and attention of whole sentences.

        Args:
            vector, cells: of `look`.
            words: int64 (B, T), what was said before each step, from the start on.

        Returns:
            logits (B, T, V), and weights (B, T, S) over the cells, which are none (S = 0) unless
            the network attends.
        """
        share, training = self.options.dropout, self.training
        memory, state = self.prepare(vector, cells)
        x = self.vectors(self.read_as[words])
        if training and self.options.word_dropout:
            kept = torch.rand(words.shape, device=words.device) >= self.options.word_dropout
            kept[:, 0] = True
            x = x * kept[..., None]
        x = locked_dropout(x, share, training)
        lower, _ = self.lower(x, state[:2])
        lower = locked_dropout(lower, share, training)
        seen, weights = self._see(lower, memory)
        upper, _ = self.upper(torch.cat([lower, seen], -1), state[2:])
        upper = locked_dropout(upper, share, training)
        return self._logits(lower, upper, seen), weights

    def prepare(self, vector: Tensor, cells: Tensor) -> tuple[Tensors, Tensors]:
        """Of `look`'s, the memory that is seen, and the state of both LSTMs, each (1, B, H)."""
        way = self.options.way
        made = self.picture(vector)
        state = tuple(
            part.to(self.bias.dtype)
            for layer in (self.lower, self.upper)
            for part in layer.initial_state(len(vector))  # type: ignore[operator]  # of the trunk
        )
        if way == "first":
            _, begun = self.lower(made[:, None], state[:2])
            _, more = self.upper(self.lower_output(begun), state[2:])
            return (), (*begun, *more)
        if way == "each":
            return (torch.relu(made),), state
        hidden, kept = torch.tanh(made.to(self.bias.dtype)).chunk(2, 1)
        values = self.norm(self.cells(cells) + self.places)
        keys = self.attention.keys(values)
        return (keys, values), (hidden[None].contiguous(), kept[None].contiguous(), *state[2:])

    @staticmethod
    def lower_output(state: Tensors) -> Tensor:
        """The output (B, 1, H) of an LSTM's only step so far."""
        return state[0].transpose(0, 1)

    def _see(self, lower: Tensor, memory: Tensors) -> tuple[Tensor, Tensor]:
        """What steps (B, T, H) see (B, T, M), and the weights of cells (B, T, S)."""
        nothing = lower.new_zeros(*lower.shape[:2], 0)
        if not memory:
            return nothing, nothing
        if len(memory) == 1:
            return memory[0][:, None].expand(-1, lower.shape[1], -1).to(lower.dtype), nothing
        keys, values = memory
        mask = torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device)
        seen, weights = self.attention(lower.to(keys.dtype), keys, values, mask)
        return seen.to(lower.dtype), weights

    def _logits(self, lower: Tensor, upper: Tensor, seen: Tensor) -> Tensor:
        vectors = torch.tanh(self.before(torch.cat([upper + lower, seen], -1)))
        vectors = locked_dropout(vectors, self.options.dropout, self.training)
        return F.linear(vectors, self.embed.weight, self.bias)

    def _similarity(self, vector: Tensor, cells: Tensor, words: Tensor) -> Tensor:
        assert self.ranking is not None
        mask = words != PAD
        told = self.ranking.sentences(self.vectors(words), mask)
        return self.ranking.similarity(self.ranking.pictures(vector, cells), told, mask)

    # ------------------------------------------------------------------- a word at a time

    def begin(self, pictures: Tensor) -> tuple[Tensors, Tensors]:
        """See `search.Writer.begin`."""
        memory, state = self.prepare(*self.look(pictures))
        return memory, tuple(part.transpose(0, 1) for part in state)

    def write(self, words: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """See `search.Writer.write`."""
        batch, beams = words.shape
        rows = tuple(part.flatten(0, 1)[None].contiguous() for part in state)
        x = self.vectors(self.read_as[words]).flatten(0, 1)[:, None]
        lower, first = self.lower(x, rows[:2])
        # The sentences of one picture read its memory together, as steps do in training.
        seen, _ = self._see(lower.view(batch, beams, -1), memory)
        seen = seen.reshape(batch * beams, 1, -1)
        upper, second = self.upper(torch.cat([lower, seen], -1), rows[2:])
        logits = self._logits(lower, upper, seen).float().view(batch, beams, -1)
        after = tuple(part[0].unflatten(0, (batch, beams)) for part in (*first, *second))
        return logits.log_softmax(-1), after


def _features(backbone: nn.Module, pictures: Tensor) -> Tensor:
    return cast(Tensor, backbone.forward_features(pictures))  # type: ignore[operator]  # CNNs have it


def as_network(model: nn.Module) -> CaptionNetwork:
    """The model, which must be one of ours."""
    assert isinstance(model, CaptionNetwork)
    return model


def build_model(options: CaptionOptions, facts: Mapping[str, Any]) -> CaptionNetwork:
    """A freshly initialised network for the words of `facts`.

    Raises:
        UsageError: the backbone is unknown, no CNN, or does not fit the pictures' size.
    """
    require_cnn(options.backbone)
    return CaptionNetwork(options, Words.from_facts(facts["words"]))


def begin(model: nn.Module, data: TaskData) -> None:
    """See `whiten_fresh`."""
    whiten_fresh(as_network(model).backbone, data.splits["train"])


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """Cross entropy of the words, and the ranking's loss where one is learnt; see `Task.loss`."""
    found: Mapping[str, Tensor] = model(batch["pictures"], batch["sentences"], batch["owners"])
    return found
