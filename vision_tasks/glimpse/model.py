"""The recurrent network that looks at one place after the other (Mnih 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...backbones import create_backbone
from .options import GlimpseOptions
from .play import Played, play
from .retina import Prepared, Retina, Sensor

ACTIONS = 3
"""Of catch: stay, left, right."""
State = tuple[Tensor, ...]


class Looked(NamedTuple):
    """What came of looking at B pictures, M copies of each, T times.

    Attributes:
        logits: (B, M, T, classes), the answer after each glimpse.
        places: (B, M, T, 2), (row, column) in [-1, 1] where it looked.
        drawn: the same before they were brought into the picture.
        means: (B, M, T, 2), around which they were drawn; of what was not learnt, zeros.
        guesses: (B, M, T), the baseline before each glimpse.
    """

    logits: Tensor
    places: Tensor
    drawn: Tensor
    means: Tensor
    guesses: Tensor


class GlimpseNetwork(nn.Module):
    """Retina, glimpse network, core, and what is read from the core: answers, places, a baseline.

    Places and baseline learn from the core's state, and give it no gradient: the core learns from
    the answers alone. It is called for pictures; `begin`, `look` and `place_of` are the parts that
    a player of a game calls in turn.

    Args:
        options: of the task.
        answers: how many classes, or actions.

    Attributes:
        backbone: the core, a trunk of the registry.
        path: (T - 1, 2), what is added to each later place before tanh; it begins as a circle, so
            that glimpses differ before they have learnt to. None where `ring` is 0.
    """

    def __init__(self, options: GlimpseOptions, answers: int):
        super().__init__()
        self.options = options
        self.retina = Retina(options.patch, options.scales)
        channels = options.channels if options.sensor == "convolution" else 0
        self.sensor = Sensor(options.patch, options.scales, channels, options.what)
        self.standing = nn.Linear(2, options.what)
        self.joint = nn.Linear(2 * options.what, options.joint)
        if options.core == "relu":  # h' = relu(W [g, h] + b)
            features = options.joint + options.hidden
            self.backbone = create_backbone("mlp", (features,), hidden=(options.hidden,))
        else:
            self.backbone = create_backbone(options.core, (options.joint,), hidden=options.hidden)
        self.answer = nn.Linear(options.hidden, answers)
        self.locator = nn.Linear(options.hidden, 2) if options.where == "learned" else None
        self.path = None
        if options.where == "learned" and options.ring:
            self.path = nn.Parameter(ring(options.looks - 1, options.ring))
        self.guess = nn.Linear(options.hidden, 1)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Weights that keep signals at their size, and a core that remembers before it learns.

        He 2015 for what is rectified; the rectified core begins with the identity (Le 2015), the
        LSTM with open forget gates.
        """
        for layer in (self.standing, self.joint):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        hidden = self.options.hidden
        for name, weight in self.backbone.named_parameters():
            if self.options.core == "relu" and weight.ndim == 2:
                nn.init.normal_(weight[:, :-hidden], std=self.options.joint**-0.5)
                weight[:, -hidden:] = torch.eye(hidden)
            elif self.options.core == "lstm" and "bias_ih" in name:
                weight[hidden : 2 * hidden] = 1.0

    def begin(self, rows: int) -> State:
        """The core's state before the first glimpse, of so many rows."""
        if self.options.core == "relu":
            return (self.guess.weight.new_zeros(rows, self.options.hidden),)
        weight = self.guess.weight
        parts = 2 if self.options.core == "lstm" else 1
        return (weight.new_zeros(1, rows, self.options.hidden),) * parts

    def vector_of(self, state: State) -> Tensor:
        """(rows, hidden), what answers and places are read from."""
        return state[0] if state[0].ndim == 2 else state[0][-1]

    def look(self, seen: Prepared, places: Tensor, state: State) -> State:
        """The core after a glimpse.

        Args:
            seen: `Retina.prepare` of B pictures.
            places: (B, M, 2).
            state: of B * M rows, the copies of a picture beside each other.
        """
        what = self.sensor(self.retina(seen, places))
        where = torch.relu(self.standing(places))
        glimpse = torch.relu(self.joint(torch.cat([what, where], -1))).flatten(0, 1)
        if self.options.core == "relu":
            return (self.backbone(torch.cat([glimpse, state[0].to(glimpse.dtype)], -1)),)
        state = tuple(part.to(self.guess.weight.dtype) for part in state)
        after: State = self.backbone(glimpse[:, None], state)[1]
        return after

    def place_of(
        self, state: State, last: Tensor | None, noise: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        """Draws the next place.

        Args:
            state: before it.
            last: (B, M, 2), the place before; None before the first glimpse.
            noise: float (B, M, 2), standard normal.
            index: of the glimpse, from 0.

        Returns:
            What was drawn and its mean, (B, M, 2); a place is that, brought into [-1, 1].
        """
        options = self.options
        first = options.first if options.where == "learned" else options.where
        how = options.where if last is not None else first
        if how == "centre":
            return torch.zeros_like(noise), torch.zeros_like(noise)
        if how == "random":  # the normal distribution's function makes it even
            return torch.erf(noise * 0.5**0.5), torch.zeros_like(noise)
        assert self.locator is not None and last is not None
        towards = self.locator(self.vector_of(state).detach()).float()
        if self.path is not None:
            towards = towards + self.path[index - 1]
        mean = torch.tanh(towards).view_as(noise)
        if options.moves == "relative":
            mean = last + mean
        return (mean + options.deviation * noise).detach(), mean

    def forward(
        self, given: Tensor, noise: Tensor, chances: Tensor | None = None
    ) -> Looked | Played:
        """Looks at pictures, or plays games.

        Args:
            given: pictures (B, 1, S, S), uint8 in 0..255 or float in [0, 1]; of catch the games'
                seeds, int64 (B,).
            noise: float (B, M, T, 2), standard normal: copies and glimpses are its axes.
            chances: of catch, float (B, M, T) in [0, 1) that draw the moves; None for the
                likeliest.
        """
        if self.options.task == "catch":
            return play(self, given, noise, chances)
        return self._read(given, noise)

    def _read(self, pictures: Tensor, noise: Tensor) -> Looked:
        count, copies, looks = noise.shape[:3]
        seen = self.retina.prepare(pictures)
        state = self.begin(count * copies)
        place: Tensor | None = None
        found: list[tuple[Tensor, ...]] = []
        for index in range(looks):
            guess = self.guess(self.vector_of(state).detach()).view(count, copies)
            drawn, mean = self.place_of(state, place, noise[:, :, index], index)
            place = drawn.clamp(-1, 1)
            state = self.look(seen, place, state)
            found.append((self.vector_of(state).view(count, copies, -1), place, drawn, mean, guess))
        vectors, *rest = (torch.stack(parts, 2) for parts in zip(*found, strict=True))
        return Looked(self.answer(vectors), *rest)


def ring(count: int, radius: float) -> Tensor:
    """So many places evenly on a circle around the middle, before tanh: float (count, 2)."""
    angles = torch.arange(count) * (2 * torch.pi / max(count, 1))
    return torch.atanh(radius * torch.stack([angles.sin(), angles.cos()], 1))


def glimpse_network(options: GlimpseOptions, facts: Mapping[str, Any]) -> GlimpseNetwork:
    """A freshly initialised network for the classes, or the game, of `facts`."""
    answers = ACTIONS if options.task == "catch" else len(facts["classes"])
    return GlimpseNetwork(options, answers)
