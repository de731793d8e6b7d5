"""Options of the task and of `eightbit run glimpse`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from ...datasets.digits import SIDE, Canvas, Distortion
from ...errors import UsageError

Where = Literal["learned", "random", "centre"]
CATCH_STEPS = 11
"""Frames in which a player of catch sees the ball before the last one moves the paddle."""


@dataclass(frozen=True)
class GlimpseOptions:
    """Recurrent visual attention: what is shown, how it is looked at, how that is learnt."""

    task: Literal["static", "translated", "cluttered", "catch"] = "static"
    """digits as they are, anywhere on a canvas, anywhere among clutter; or the game of catch"""
    size: int = 28
    """side in pixels of the canvas; of catch the screen's, a multiple of 12"""
    clutter: int = 4
    """pieces of other digits that are strewn over a cluttered canvas"""
    piece: int = 8
    """side in pixels of such a piece"""
    glimpses: int = 6
    """looks at a picture; catch has one for each frame"""
    patch: int = 8
    """side in pixels of a patch of the retina"""
    scales: int = 1
    """patches of the retina, each twice as wide as the one before and brought to the same size"""
    where: Where = "learned"
    """places of the glimpses: learnt, at random (a control), or always in the middle"""
    first: Literal["random", "centre"] = "centre"
    """place of the first glimpse"""
    moves: Literal["absolute", "relative"] = "absolute"
    """whether a place is told by itself, or as a step from the one before"""
    ring: float = 0.4
    """radius of the circle on which the later glimpses stand before they learn; 0 for none"""
    deviation: float = 0.15
    """standard deviation of a place around its mean; the picture's sides lie at -1 and 1"""
    last_deviation: float = 0.05
    """what it falls to, evenly, while the network learns; above it, it stays as it is"""
    sensor: Literal["convolution", "dense"] = "convolution"
    """what sees a retina's patches: two convolutions of 3x3, each halved after, and a layer on
    top; or that layer alone (Mnih 2014)"""
    channels: int = 16
    """of the first of these convolutions; the second has twice as many"""
    what: int = 128
    """length of the vector that is made of a retina's patches, and of the one of their place"""
    joint: int = 256
    """length of the vector of a glimpse"""
    core: Literal["lstm", "gru", "relu"] = "lstm"
    """what joins the glimpses: LSTM, GRU, or a recurrent layer of rectified units (Mnih 2014)"""
    hidden: int = 256
    """length of the core's state"""
    answers: Literal["each", "last"] = "each"
    """whether an answer is given, and learnt, after each glimpse or after the last one only"""
    reward: Literal["likelihood", "right", "log"] = "likelihood"
    """of an answer: the truth's probability; or 1 where it is right; or that one's logarithm"""
    baseline: Literal["learned", "copies"] = "copies"
    """what a return is compared with: a learnt guess; or also the other copies' returns"""
    reinforce: float = 1.0
    """factor on the loss of the places"""
    entropy: float = 0.05
    """factor on the entropy of a game's moves, which is raised so that they stay open"""
    copies: int = 4
    """Monte-Carlo copies of a picture in training: each looks elsewhere"""
    test_copies: int = 1
    """Monte-Carlo copies whose answers are averaged when a picture is read"""
    test_noise: bool = False
    """whether places are drawn when a picture is read, or their means are taken"""
    reader: Literal["glimpse", "dense", "convolution"] = "glimpse"
    """the network; or one that sees the whole picture with as many multiply-adds (a control)"""
    layers: str = "[[1, 10, 5]]"
    """JSON list of the convolution reader's layers: relative channels, kernel's side, stride"""
    multiply_adds: int = 0
    """of a reader of the whole picture; 0 for as many as the glimpses take"""
    turn: float = 12.0
    """degrees by which a training digit is turned at most"""
    stretch: float = 0.12
    """share by which each axis of a training digit grows or shrinks at most"""
    slant: float = 0.15
    """largest shear of a training digit, columns a row"""
    bend: float = 1.0
    """pixels by which knots of a grid over a training digit are moved at most"""
    shift: float = 1.5
    """pixels by which a training digit is moved at most, on each axis"""
    validation: float = 0.05
    """share of the training digits of each class that is held out to watch training"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        for name in ("glimpses", "patch", "scales", "channels", "what", "joint", "hidden"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("copies", "test_copies"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; at least 1 copy looks.")
        for name in (
            "reinforce",
            "entropy",
            "multiply_adds",
            "turn",
            "stretch",
            "slant",
            "bend",
            "shift",
        ):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must not be below 0.")
        for name in ("deviation", "last_deviation"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if not 0 <= self.ring < 1:
            raise UsageError(f"ring is {self.ring}; it must lie in [0, 1).")
        if not 0 <= self.validation < 1:
            raise UsageError(f"validation is {self.validation}; it must lie in [0, 1).")
        if self.sensor == "convolution" and self.patch < 4:
            raise UsageError(
                f"a patch of {self.patch} pixels cannot be halved twice; give --patch 4 or more, "
                "or --sensor dense."
            )
        self._check_task()
        self.kernels()

    def _check_task(self) -> None:
        if self.task == "catch":
            if self.size < 12 or self.size % 12:
                raise UsageError(f"catch needs a size that is a multiple of 12, not {self.size}.")
            if self.reader != "glimpse":
                raise UsageError("catch is played by glimpses; leave --reader out.")
            return
        if self.task == "static" and self.size != SIDE:
            raise UsageError(f"static digits have a size of {SIDE}, not {self.size}.")
        self.canvas()

    @property
    def looks(self) -> int:
        """Glimpses of an example."""
        return CATCH_STEPS if self.task == "catch" else self.glimpses

    def deviation_at(self, progress: float) -> float:
        """Of the places that are drawn when so much of training, in [0, 1), is over."""
        last = min(self.last_deviation, self.deviation)
        return self.deviation + (last - self.deviation) * progress

    def canvas(self) -> Canvas:
        """What digits are drawn on."""
        return Canvas(self.size, self.clutter if self.task == "cluttered" else 0, self.piece)

    def distortion(self) -> Distortion:
        """How training digits are changed."""
        return Distortion(self.turn, self.stretch, self.slant, self.bend, self.shift)

    def kernels(self) -> list[tuple[int, int, int]]:
        """`layers` parsed: (relative channels, side, stride); raises UsageError."""
        try:
            found = [tuple(one) for one in json.loads(self.layers)]
        except (json.JSONDecodeError, TypeError):
            found = []
        whole = all(len(one) == 3 and all(type(x) is int and x > 0 for x in one) for one in found)
        if not found or not whole:
            raise UsageError(
                f"layers is {self.layers!r}; it is a JSON list like [[1, 10, 5]], of relative "
                "channels, side of the kernel and stride."
            )
        return [(one[0], one[1], one[2]) for one in found]


@dataclass(frozen=True)
class GlimpseRunOptions:
    """How `eightbit run glimpse RUN PICTURE|FOLDER ...` reads, or plays catch."""

    topk: int = 3
    """classes named for each picture"""
    paths: str = ""
    """folder that the paths of the glimpses are written to: a GIF and a sheet for each picture"""
    film: Literal["gif", "mp4"] = "gif"
    """how a path is animated"""
    invert: Literal["auto", "yes", "no"] = "auto"
    """whether dark ink on light paper is inverted; auto: where most of the picture is light"""
    fit: bool = True
    """of a static reader: bring the ink to the size and place that MNIST's digits have"""
    format: Literal["auto", "json", "csv"] = "auto"
    """of the file written to -o; auto goes by its ending"""
    games: int = 4
    """of catch, games that are played"""
    seed: int = 0
    """of the places that are drawn, and of the games"""

    def __post_init__(self) -> None:
        """Refuses what makes no sense; raises UsageError."""
        if self.topk < 1:
            raise UsageError(f"topk is {self.topk}; at least 1 class is named.")
        if self.games < 1:
            raise UsageError(f"games is {self.games}; at least 1 is played.")
