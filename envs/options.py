"""What an environment's semantics are: named fields with one meaning in every backend.

A protocol of the literature fixes them all; its name is stored with every score.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from ..errors import UsageError


class Protocol(str, Enum):
    """A way of the literature to train and to score; scores of two protocols do not compare."""

    MNIH2015 = "mnih2015"
    MACHADO2018 = "machado2018"
    DOPAMINE = "dopamine"
    ZOO = "zoo"
    ATARI100K = "atari100k"


class Preprocessing(str, Enum):
    """How emulator frames become observations, and how a game begins."""

    ALE = "ale"
    """ALE's vectorizer and Gymnasium's AtariPreprocessing: frames are made grey, then pooled."""
    SB3 = "sb3"
    """Stable-Baselines3's AtariWrapper to the letter: slower, for agents that SB3 trained."""


class Picture(str, Enum):
    """What an observation shows."""

    GREY = "grey"
    """The luminance, (rows, columns)."""
    RGB = "rgb"
    """The colours, (rows, columns, 3)."""
    PALETTE = "palette"
    """The console's own colour numbers, of the newest frame alone; never resized."""
    OBJECTS = "objects"
    """Which objects cover a pixel, of the newest frame alone, never resized: bits 0 and 1 are the
    players, 2 and 3 the missiles, 4 the ball, 5 the playfield."""


class Rng(str, Enum):
    """Where the random numbers of no-ops, sticky actions and resets come from."""

    COUNTER = "counter"
    """Counted numbers, equal on every device; each game begins on a console just switched on."""
    ALE = "ale"
    """ALE's own generators and resets: its trajectories to the last bit. On the CPU only."""


@dataclass(frozen=True)
class ProtocolSpec:
    """What a protocol fixes."""

    sticky: float
    """Probability with which each emulated frame repeats the action before."""
    noop_max: int
    """Most no-op frames at a reset, whose number is random; 0 for none."""
    life_loss: bool
    """Whether in training a lost life ends the episode for learning."""
    full_action_set: bool
    """All 18 actions instead of the game's minimal ones."""
    max_frames: int
    """Time limit of a game, in emulator frames."""
    eval_episodes: int
    """Games of one evaluation."""
    eval_epsilon: float
    """Share of random actions in evaluation, 0 to 1."""
    score_from_training: bool
    """Whether the protocol's score is taken from the training log, not from evaluation games."""
    description: str
    """How the score is made, one line."""
    train_frames: int | None = None
    """Emulator frames of training after which the score is taken; None for any number."""


PROTOCOLS: dict[Protocol, ProtocolSpec] = {
    Protocol.MNIH2015: ProtocolSpec(
        sticky=0.0,
        noop_max=30,
        life_loss=True,
        full_action_set=False,
        max_frames=18_000,
        eval_episodes=30,
        eval_epsilon=0.05,
        score_from_training=False,
        description="mean of 30 evaluation games of at most 5 minutes, epsilon 0.05",
    ),
    Protocol.MACHADO2018: ProtocolSpec(
        sticky=0.25,
        noop_max=0,
        life_loss=False,
        full_action_set=True,
        max_frames=18_000,
        eval_episodes=100,
        eval_epsilon=0.01,
        score_from_training=True,
        description="mean of the last 100 training games, sticky actions, all 18 actions",
    ),
    Protocol.DOPAMINE: ProtocolSpec(
        sticky=0.25,
        noop_max=0,
        life_loss=False,
        full_action_set=False,
        max_frames=108_000,
        eval_episodes=100,
        eval_epsilon=0.001,
        score_from_training=True,
        description="training return per million frames, sticky actions",
    ),
    Protocol.ZOO: ProtocolSpec(
        sticky=0.0,
        noop_max=30,
        life_loss=True,
        full_action_set=False,
        max_frames=108_000,
        eval_episodes=100,
        # rl-zoo3 lets DQN explore in Atari's evaluation as much as at the end of its training.
        eval_epsilon=0.01,
        score_from_training=False,
        description="mean of 100 evaluation games, epsilon 0.01, as rl-zoo3 plays DQN on Atari",
    ),
    Protocol.ATARI100K: ProtocolSpec(
        sticky=0.0,
        noop_max=30,
        life_loss=True,
        full_action_set=False,
        max_frames=108_000,
        eval_episodes=100,
        eval_epsilon=0.001,
        score_from_training=False,
        description="mean of 100 evaluation games after 400,000 frames of training",
        train_frames=400_000,
    ),
}


@dataclass(frozen=True)
class EnvOptions:
    """The semantics of an environment. Rewards always leave it raw; clipping is the learner's."""

    sticky: float = 0.0
    """Probability (0 to 1) with which each emulated frame repeats the action before."""
    noop_max: int = 30
    """Most no-op frames at a reset; their number is drawn from 0 (sb3: 1) to this."""
    life_loss: bool = True
    """A lost life ends the episode for learning only; score and length follow the whole game."""
    full_action_set: bool = False
    """All 18 actions instead of the game's minimal ones."""
    max_frames: int = 18_000
    """Time limit of a game after its no-ops (sb3: with them), in emulator frames: the step that
    reaches it is the last; the game is then truncated, not terminated."""
    frame_skip: int = 4
    """Emulator frames for which one agent step holds its action."""
    frame_stack: int = 4
    """Number of screens that make one observation, newest last."""
    max_pool: bool = True
    """A screen is the pixelwise maximum of the last two frames of its step."""
    screen_size: int = 84
    """Side of the square screen, in pixels; 0 for the whole screen, which is 160 wide."""
    fire: bool = True
    """FIRE is pressed at a reset and on the step after a lost life, where the game has FIRE."""
    num_threads: int = 0
    """Threads that step the games; 0 for one a core. Never changes results."""
    preprocessing: Preprocessing = Preprocessing.ALE
    """Whose preprocessing: ale, or sb3 for agents that Stable-Baselines3 trained."""
    mode: int | None = None
    """The game's mode in ALE's numbers; None for its first."""
    difficulty: int = 0
    """The console's difficulty switches: 0 to 3, as far as the game has them."""
    picture: Picture = Picture.GREY
    """What an observation shows: grey, rgb, palette or objects."""
    rng: Rng = Rng.COUNTER
    """Random numbers of the console: counter, or ale for ALE's trajectories."""
    roms: str = ""
    """Folder with <game>.bin files; '' takes the ROMs of ale-py."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.sticky <= 1.0:
            raise UsageError(f"sticky is {self.sticky}; give a probability from 0 to 1.")
        if self.noop_max < 0 or self.num_threads < 0:
            raise UsageError("noop_max and num_threads must be 0 or more.")
        for name in ("max_frames", "frame_skip", "frame_stack"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; give 1 or more.")
        if self.screen_size != 0 and not 8 <= self.screen_size <= 160:
            raise UsageError(
                f"screen_size is {self.screen_size}; give 8 to 160 pixels, or 0 for all of it."
            )
        if self.preprocessing not in (Preprocessing.ALE, Preprocessing.SB3):
            raise UsageError(f"preprocessing is {self.preprocessing!r}; give 'ale' or 'sb3'.")
        # A plain string is as good as the enum, and compares and saves as the enum.
        object.__setattr__(self, "preprocessing", Preprocessing(self.preprocessing))
        object.__setattr__(self, "picture", _member(Picture, self.picture, "picture"))
        object.__setattr__(self, "rng", _member(Rng, self.rng, "rng"))
        if self.picture in (Picture.PALETTE, Picture.OBJECTS) and self.screen_size:
            raise UsageError(
                f"picture {self.picture.value!r} is never resized; give screen_size=0."
            )


_Choice = TypeVar("_Choice", bound=Enum)


def _member(kind: type[_Choice], value: str, name: str) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(member.value) for member in kind)
        raise UsageError(f"{name} is {value!r}; give one of {known}.") from None


def change_options(options: EnvOptions, **changes: Any) -> EnvOptions:
    """Returns `options` with some fields changed.

    Raises:
        UsageError: a field does not exist (the message names the nearest) or has a bad value.
    """
    known = [field.name for field in dataclasses.fields(EnvOptions)]
    for name in changes:
        if name == "seed":
            raise UsageError("a seed is no environment option: give it to reset(seed=...).")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}."
            raise UsageError(f"unknown environment option {name!r}: {hint}")
    return dataclasses.replace(options, **changes)


def env_options(protocol: Protocol | str, *, training: bool, **changes: Any) -> EnvOptions:
    """Returns the options that a protocol fixes, with some fields changed.

    Args:
        protocol: one of `Protocol`, or its name.
        training: False gives evaluation, in which a lost life is never the end of an episode.
        **changes: fields of `EnvOptions` to set otherwise.

    Raises:
        UsageError: the protocol or a field is unknown, or a value is out of range.
    """
    spec = PROTOCOLS[as_protocol(protocol)]
    options = EnvOptions(
        sticky=spec.sticky,
        noop_max=spec.noop_max,
        life_loss=spec.life_loss and training,
        full_action_set=spec.full_action_set,
        max_frames=spec.max_frames,
    )
    return change_options(options, **changes)


def as_protocol(protocol: Protocol | str) -> Protocol:
    """Returns the protocol of that name; raises UsageError when there is none."""
    try:
        return Protocol(protocol)
    except ValueError:
        known = ", ".join(p.value for p in Protocol)
        raise UsageError(f"unknown protocol {protocol!r}: known are {known}.") from None
