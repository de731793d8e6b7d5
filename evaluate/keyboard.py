"""The keys that play: which one turns the stick, and what else a player can ask for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

HORIZONTAL = {"left": "LEFT", "a": "LEFT", "right": "RIGHT", "d": "RIGHT"}
VERTICAL = {"up": "UP", "w": "UP", "down": "DOWN", "s": "DOWN"}
FIRE = {"space": "FIRE"}


class Command(Enum):
    """What a key asks for once, however long it is held."""

    QUIT = "quit"
    PAUSE = "pause"
    RESET = "reset"
    MUTE = "mute"
    HELP = "help"
    LOUDER = "louder"
    QUIETER = "quieter"
    SCREENSHOT = "screenshot"
    TAKE_OVER = "take over"


# + stands where = is on many keyboards; the names in brackets are keys of the number pad.
COMMANDS = {
    "escape": Command.QUIT,
    "p": Command.PAUSE,
    "r": Command.RESET,
    "m": Command.MUTE,
    "f1": Command.HELP,
    "f12": Command.SCREENSHOT,
    "t": Command.TAKE_OVER,
    **dict.fromkeys(("+", "=", "[+]"), Command.LOUDER),
    **dict.fromkeys(("-", "[-]"), Command.QUIETER),
}

HELP = (
    ("arrows or W A S D", "stick, paddle"),
    ("space", "FIRE"),
    ("P", "pause"),
    ("R", "new game"),
    ("M, + and -", "mute, volume"),
    ("F12", "save a picture"),
    ("F1", "these keys"),
    ("Escape", "end"),
)
"""The keys and what they do."""

AGENT_HELP = (
    ("T", "take over, hand back"),
    ("stick keys", "yours while held"),
)
"""What an agent at the controls adds to them."""


@dataclass(frozen=True)
class Controls:
    """What the player wants of one frame.

    Attributes:
        action: ALE's name of what stick and button say, such as `UPLEFTFIRE`; `NOOP` for nothing.
        commands: what was asked for since the last frame, in order.
    """

    action: str = "NOOP"
    commands: tuple[Command, ...] = ()


class Keyboard:
    """Turns keys that go down and up, by pygame's names for them, into controls.

    Of two opposite directions the later one counts. A key that went down and up between two
    frames is held for one.
    """

    def __init__(self) -> None:
        self._held: dict[str, None] = {}  # in the order in which they went down
        self._released: set[str] = set()
        self._commands: list[Command] = []

    def press(self, key: str) -> None:
        """A key went down; keys that mean nothing are ignored."""
        if key in COMMANDS:
            self._commands.append(COMMANDS[key])
        else:
            self._held.pop(key, None)
            self._held[key] = None
            self._released.discard(key)

    def release(self, key: str) -> None:
        """A key went up."""
        self._released.add(key)

    def release_all(self) -> None:
        """The window lost the keyboard, and with it the news of keys that go up."""
        self._released.update(self._held)

    def read(self) -> Controls:
        """Returns what the player wants of the next frame."""
        directions = {"vertical": "", "horizontal": "", "fire": ""}
        for key in self._held:
            for axis, names in zip(directions, (VERTICAL, HORIZONTAL, FIRE), strict=True):
                directions[axis] = names.get(key, directions[axis])
        controls = Controls("".join(directions.values()) or "NOOP", tuple(self._commands))
        for key in self._released:
            self._held.pop(key, None)
        self._released.clear()
        self._commands.clear()
        return controls
