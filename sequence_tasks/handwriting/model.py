"""The prediction network and the synthesis network of Graves 2013."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones import create_backbone
from .._lengths import counts
from .mixture import mixture_of, nats, outputs_of
from .window import WindowLSTM, WindowState

if TYPE_CHECKING:
    from ...tasks import Batch, Moment
    from .options import HandwritingOptions

OUTPUT_BOUND = 100.0
"""largest gradient of a point's loss by an output (Graves 2013, section 4.1)"""
LAYER_BOUND = 10.0
"""and by what goes into or out of an LSTM layer"""
_POINT = 3
_WITH_DROPOUT = ("skip_lstm", "lstm")


class WriterState(NamedTuple):
    """What a network carries from point to point.

    Attributes:
        window: of the first layer of a synthesis network, else None.
        trunk: of the backbone.
    """

    window: WindowState | None
    trunk: tuple[Tensor, ...]

    def chosen(self, rows: Tensor) -> WriterState:
        """The state of some rows of the batch."""
        window = None if self.window is None else WindowState(*(p[rows] for p in self.window))
        return WriterState(window, tuple(part[:, rows] for part in self.trunk))


def joined(states: list[WriterState]) -> WriterState:
    """States of several batches as one."""
    window = None
    if states[0].window is not None:
        parts = zip(*(cast(WindowState, s.window) for s in states), strict=True)
        window = WindowState(*(torch.cat(part) for part in parts))
    trunks = zip(*(s.trunk for s in states), strict=True)
    return WriterState(window, tuple(torch.cat(part, 1) for part in trunks))


class WritingNetwork(nn.Module):
    """Reads points and says, after each, how likely every next point is.

    Args:
        options: of the task.
        characters: different characters of a text, the end mark included.
        pace: characters a point, in the data.
    """

    def __init__(self, options: HandwritingOptions, characters: int, pace: float):
        super().__init__()
        self.characters = characters
        self.reads_text = options.method == "synthesis"
        layers, inputs, more = options.layers, _POINT, 0
        if self.reads_text:
            self.window = WindowLSTM(
                _POINT, characters, options.hidden, options.window, min(1.0, pace)
            )
            layers, more = layers - 1, options.hidden
            inputs += characters + options.hidden
        kwargs: dict[str, Any] = {"hidden": options.hidden, "layers": layers}
        if options.backbone in _WITH_DROPOUT:
            kwargs["dropout"] = options.dropout
        kwargs |= options.backbone_kwargs()
        self.backbone = create_backbone(options.backbone, (inputs,), **kwargs)
        self.dropout = options.dropout
        self.head = nn.Linear(
            cast(int, self.backbone.out_features) + more, outputs_of(options.mixtures)
        )

    def forward(self, points: Tensor, text: Tensor, lengths: Tensor) -> Tensor:
        """Reads whole sequences.

        Args:
            points: (B, T, 3), what was written before each wanted point.
            text: int64 (B, U), -1 behind the ends; without use to a prediction network.
            lengths: int64 (B,), points that count; bounds of gradients are for a loss that is the
                mean over them.

        Returns:
            (B, T, 6M + 1); see `mixture_of`.
        """
        share = 1.0 / lengths.sum().float()
        if self.reads_text:
            h, w, _ = self.window(points.transpose(0, 1), self._letters(text), LAYER_BOUND * share)
            h = self._dropped(_bounded(h.transpose(0, 1), LAYER_BOUND * share))
            upper, _ = self.backbone(torch.cat([points, w.transpose(0, 1), h], -1))
            found = torch.cat([h, _bounded(upper, LAYER_BOUND * share)], -1)
        else:
            found = _bounded(self.backbone(points)[0], LAYER_BOUND * share)
        with torch.autocast(points.device.type, enabled=False):  # densities need the digits
            outputs = self.head(self._dropped(found).float())
        return _bounded(outputs, OUTPUT_BOUND * share)

    def initial_state(self, batch: int) -> WriterState:
        """The state before the first point."""
        window = self.window.initial_state(batch) if self.reads_text else None
        return WriterState(window, self.backbone.initial_state(batch))  # type: ignore[operator]

    @torch.no_grad()
    def advance(
        self, points: Tensor, letters: Tensor, state: WriterState
    ) -> tuple[Tensor, Tensor | None, WriterState]:
        """Goes on from a state, in the weights' number format.

        Args:
            points: (B, T, 3).
            letters: (B, U, characters), as `letters` makes them.
            state: after the points before.

        Returns:
            outputs (B, T, 6M + 1), the window's weights (T, B, U) or None, the state after.
        """
        with torch.autocast(points.device.type, enabled=False):
            if state.window is None:
                found, trunk = self.backbone(points, state.trunk)
                return self.head(found), None, WriterState(None, trunk)
            h, w, phi, window = self.window.advance(points.transpose(0, 1), letters, state.window)
            h, w = h.transpose(0, 1), w.transpose(0, 1)
            upper, trunk = self.backbone(torch.cat([points, w, h], -1), state.trunk)
            return self.head(torch.cat([h, upper], -1)), phi, WriterState(window, trunk)

    def _letters(self, text: Tensor) -> Tensor:
        return letters_of(text, self.characters)

    def _dropped(self, x: Tensor) -> Tensor:
        """Drops features of (B, T, F), the same ones at every step."""
        if not self.training or not self.dropout:
            return x
        mask = F.dropout(torch.ones_like(x[:, :1]), self.dropout)
        return x * mask


def letters_of(text: Tensor, characters: int) -> Tensor:
    """One-hot rows float32 (B, U, characters) of codes int64 (B, U); zeros for padding."""
    return (text[..., None] == torch.arange(characters, device=text.device)).float()


def _bounded(x: Tensor, bound: Tensor) -> Tensor:
    """`x`, whose gradient will be cut off at +-bound, number by number."""
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient.clamp(-bound, bound))
    return x


def build_model(options: HandwritingOptions, facts: Mapping[str, Any]) -> nn.Module:
    """The network of the method that the options name."""
    return WritingNetwork(options, len(facts["alphabet"]) + 1, float(facts["pace"]))


def before(points: Tensor) -> Tensor:
    """The points (B, T, 3) before each: a lifted pen at rest, then all but the last."""
    start = torch.zeros_like(points[:, :1])
    start[..., 2] = 1
    return torch.cat([start, points[:, :-1]], 1)


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """Nats a point: the mean over all points of a batch."""
    points, lengths = batch["points"], batch["lengths"]
    outputs = model(before(points), batch["text"], lengths)
    counted = counts(lengths, points.shape[1])
    surprise = nats(mixture_of(outputs), points)
    return {"loss": (surprise * counted).sum() / lengths.sum()}
