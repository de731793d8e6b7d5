"""The games: their names in any spelling, and the few facts that other rooms need."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UnknownNameError, UsageError
from .options import EnvOptions

CATCH = "catch"
"""Our own small pixel game; it stands beside the 104 games of the console."""

# Loading one of these ends the process: ALE has no settings for two-player games.
_REFUSED = ("combat", "joust", "maze_craze", "warlords")

_FRAME_RATE = {"NTSC": 60, "PAL": 50}


@dataclass(frozen=True)
class GameFacts:
    """Facts about one game."""

    name: str
    """Canonical name in snake_case, as ALE names its ROMs."""
    id: str
    """The name in Gymnasium ids: `eightbit/<id>-v5`."""
    frame_rate: int
    """Frames per second on the console: 60 (NTSC) or 50 (PAL)."""
    height: int
    """Rows of the raw screen, 210 to 250; it is always 160 pixels wide."""
    actions: tuple[str, ...]
    """The minimal set of actions, in the order of the action space."""
    size: int = 0
    """Bytes of the ROM; 0 where there is none."""
    md5: str = ""
    """MD5 of the ROM in hexadecimal."""
    cartridge: str = ""
    """How the ROM is banked: 2K, 4K, F8, F8SC, F6, F6SC, E0, FE or DPC."""
    y_start: int = 34
    """Scanline that the first row of the raw screen shows."""
    controller: str = "joystick"
    """`joystick` or `paddles`; after `swapped` the player has the right port or second paddle."""
    right_paddles: bool = False
    """Whether the right port holds paddles, too, which nobody turns."""
    paddle_max: int = 790_196
    """Largest resistance of a paddle, in ALE's units; the smallest is 27,450."""
    paddle_start: int = 408_823
    """Resistance of the paddles after a reset, in the same units."""
    hmove_blanks: bool = True
    """Whether moving an object blanks the left 8 pixels of its scanline."""
    start: tuple[tuple[str, int], ...] = ()
    """What ends a reset: names of actions, or RESET for the switch, and frames each is held."""
    modes: tuple[int, ...] = (0,)
    """ALE's numbers of the game modes; the first is the default."""
    difficulties: tuple[int, ...] = (0,)
    """What ALE offers for the difficulty switches; a game starts with 0, offered or not."""
    illegal: str = ""
    """An action whose name holds this word does nothing; '' where all are legal."""
    frame_numbers: tuple[int, ...] = (0,)
    """ALE's frame counter after a reset in each of `modes`, acts being 1 frame long: choosing a
    mode counts a frame a press. In the later modes of adventure it is random, and 0 here."""

    @property
    def has_fire(self) -> bool:
        """Whether FIRE is one of the minimal actions."""
        return "FIRE" in self.actions


@dataclass(frozen=True)
class GameName:
    """A game as a user wrote it."""

    name: str
    """Canonical name in snake_case."""
    note: str
    """One line on semantics that the spelling implies but the options do not have, or ''."""


@lru_cache(maxsize=1)
def _facts() -> dict[str, GameFacts]:
    path = Path(__file__).with_name("games.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    return {name: _read_facts(name, row) for name, row in table.items()}


def _read_facts(name: str, row: dict[str, Any]) -> GameFacts:
    row = dict(row)
    modes = tuple(row.pop("modes"))
    return GameFacts(
        name=name,
        frame_rate=_FRAME_RATE[row.pop("format")],
        actions=tuple(row.pop("actions").split()),
        start=tuple((action, frames) for action, frames in row.pop("start", [])),
        modes=modes,
        difficulties=tuple(row.pop("difficulties")),
        frame_numbers=tuple(row.pop("frame_numbers", [0] * len(modes))),
        **row,
    )


def list_games() -> list[str]:
    """Returns the 104 games that ALE can play, in snake_case and in order."""
    return sorted(_facts())


def game_facts(name: str) -> GameFacts:
    """Returns the facts of a game, in any spelling; raises UnknownNameError on an unknown one."""
    name = parse_game(name).name
    if name == CATCH:
        return GameFacts(CATCH, "Catch", 60, 84, ("NOOP", "LEFT", "RIGHT"))
    return _facts()[name]


def parse_game(text: str, options: EnvOptions | None = None) -> GameName:
    """Understands a game's name in any spelling: `pong`, `Pong`, `ALE/Pong-v5`, `ms-pacman`.

    A spelling means the game only. Where it is the id of an environment whose semantics differ
    from `options` (default: those of mnih2015), the note says which hold.

    Raises:
        UnknownNameError: no such game; the message lists the nearest names.
        UsageError: a game that ALE holds but cannot play.
    """
    match = _SPELLING.match(text.strip())
    namespace, stem, kind, version = match.groups() if match else (None, text, None, None)
    name = _by_key().get(_key(stem))
    if name is None or namespace not in (None, "ALE", "eightbit"):
        raise UnknownNameError("game", text, [*_facts(), CATCH], "eightbit list games")
    if name in _REFUSED:
        raise UsageError(
            f"{name} cannot be played: ALE has no single-player settings for it; "
            "'eightbit list games' shows the 104 that can."
        )
    note = _note(text, namespace, kind, version, options or EnvOptions())
    return GameName(name, "" if name == CATCH else note)


_SPELLING = re.compile(
    r"^(?:(?P<space>\w+)/)?(?P<stem>.+?)(?P<kind>NoFrameskip|Deterministic|-ram)?"
    r"(?:-v(?P<version>\d+))?$"
)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@lru_cache(maxsize=1)
def _by_key() -> dict[str, str]:
    names = {_key(name): name for name in [*_facts(), CATCH, *_REFUSED]}
    names.update({_key(facts.id): name for name, facts in _facts().items()})
    return names


def _note(
    text: str, namespace: str | None, kind: str | None, version: str | None, options: EnvOptions
) -> str:
    """Says in which points the options differ from what the id `text` stands for elsewhere."""
    if version is None or namespace == "eightbit":
        return ""
    sticky = 0.25 if version == "0" or (namespace == "ALE" and version == "5") else 0.0
    differing = []
    if sticky != options.sticky:
        differing.append(f"sticky actions {options.sticky:g} (that id: {sticky:g})")
    if options.max_frames != 108_000:
        differing.append(f"at most {options.max_frames:,} frames (that id: 108,000)")
    if version in ("0", "4") and kind != "NoFrameskip":
        skip = "4" if kind == "Deterministic" else "2 to 4 at random"
        if skip != str(options.frame_skip):
            differing.append(f"frame skip {options.frame_skip} (that id: {skip})")
    if kind == "-ram":
        differing.append("pixels (that id: the console's memory)")
    if not differing:
        return ""
    return f"{text} names the game only; here hold {', '.join(differing)}."
