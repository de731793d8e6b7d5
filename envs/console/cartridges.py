"""Games as the console takes them: ROM, palettes and the facts of the table."""

from __future__ import annotations

import hashlib
import json
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError
from ..games import GameFacts, game_facts
from ..options import EnvOptions, Picture
from . import require_built

if TYPE_CHECKING:
    from . import _console

ACTION_NAMES = (
    "NOOP",
    "FIRE",
    "UP",
    "RIGHT",
    "LEFT",
    "DOWN",
    "UPRIGHT",
    "UPLEFT",
    "DOWNRIGHT",
    "DOWNLEFT",
    "UPFIRE",
    "RIGHTFIRE",
    "LEFTFIRE",
    "DOWNFIRE",
    "UPRIGHTFIRE",
    "UPLEFTFIRE",
    "DOWNRIGHTFIRE",
    "DOWNLEFTFIRE",
)
"""The 18 actions in ALE's order."""

# As the headers number them.
_CARTRIDGES = ("2K", "4K", "F8", "F6", "F8SC", "F6SC", "E0", "FE", "DPC")
_CONTROLLERS = ("joystick", "swapped joystick", "paddles", "swapped paddles")
_RESET_SWITCH = -1
_LAST_LINE = {60: 290, 50: 342}  # frames a second to the line after which a frame ends


def read_rom(facts: GameFacts, roms: str = "") -> bytes:
    """Returns the ROM of a game.

    Args:
        facts: the game's.
        roms: a folder with `<game>.bin`, or such a file; '' takes the ROM of the ale-py package.

    Raises:
        UsageError: there is no such file, or it is no ROM of this game's cartridge.
    """
    if roms:
        path = Path(roms)
        path = path / f"{facts.name}.bin" if path.is_dir() else path
    else:
        path = _packaged_rom(facts.name)
    try:
        rom = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot read the ROM of {facts.name}, {path}: {reason}.") from None
    if len(rom) != facts.size:
        raise UsageError(
            f"{path} has {len(rom):,} bytes; the cartridge of {facts.name} ({facts.cartridge}) "
            f"holds {facts.size:,}. Give an undamaged ROM."
        )
    if hashlib.md5(rom, usedforsecurity=False).hexdigest() != facts.md5:
        warnings.warn(
            f"{path} is another version than the one whose rules are known as {facts.name}; "
            "its score, lives and end may be read wrongly.",
            stacklevel=2,
        )
    return rom


def _packaged_rom(name: str) -> Path:
    from ale_py import roms as packaged

    path = packaged.get_rom_path(name)
    if path is None:
        raise UsageError(f"ale-py has no ROM of {name}: write 'pip install -U ale-py'.")
    return Path(path)


@lru_cache(maxsize=2)
def _colours(frame_rate: int) -> np.ndarray:
    path = Path(__file__).with_name("palettes.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    colours = "".join(table["pal" if frame_rate == 50 else "ntsc"]).replace(" ", "")
    return np.frombuffer(bytes.fromhex(colours), np.uint8).reshape(128, 3)


def _luminance(rgb: np.ndarray) -> np.ndarray:
    weighted = rgb.astype(np.float64) @ np.array([0.2989, 0.5870, 0.1140])
    return np.floor(weighted + 0.5).astype(np.uint8)


@lru_cache(maxsize=2)
def rgb_palette(frame_rate: int) -> np.ndarray:
    """Returns (256, 3) uint8: the colour of each byte of a screen; 50 frames a second are PAL.

    Odd bytes are those of a PAL television that has lost its colour; they are grey.
    """
    rgb = _colours(frame_rate)
    palette = np.repeat(rgb, 2, axis=0)
    palette[1::2] = _luminance(rgb)[:, None]
    palette.flags.writeable = False
    return palette


@lru_cache(maxsize=2)
def grey_palette(frame_rate: int) -> np.ndarray:
    """Returns (256,) uint8: the luminance of each byte of a screen, equal to ALE's.

    For odd bytes (see `rgb_palette`) ALE gives the blue of the next colour, and so does this.
    """
    rgb = _colours(frame_rate)
    grey = np.repeat(_luminance(rgb), 2)
    grey[1:-1:2] = rgb[1:, 2]
    grey[-1] = 0
    grey.flags.writeable = False
    return grey


def action_numbers(facts: GameFacts, options: EnvOptions) -> list[int]:
    """Returns ALE's number of each action of the action space."""
    if options.full_action_set:
        return [k for k, name in enumerate(ACTION_NAMES) if not _is_illegal(name, facts)]
    return [ACTION_NAMES.index(name) for name in facts.actions]


def _is_illegal(name: str, facts: GameFacts) -> bool:
    return bool(facts.illegal) and facts.illegal in name


def build_game(
    name: str,
    options: EnvOptions,
    *,
    draw_all: bool = False,
    objects: bool = False,
    true_colours: bool = False,
) -> _console.Game:
    """Returns a game that engines of the extension can run.

    Args:
        name: canonical name.
        options: the semantics.
        draw_all: every frame is drawn, also those that no observation shows.
        objects: the planes of objects are drawn, too.
        true_colours: screens hold colour numbers also where observations are grey.

    Raises:
        UsageError: the extension is missing, or the ROM, mode or difficulty is not to be had.
    """
    require_built()
    from . import _console

    facts = game_facts(name)
    actions = action_numbers(facts, options)
    picture = options.picture
    shades, palettes = drawn_colours(facts, picture, true_colours)
    pooled = picture in (Picture.GREY, Picture.RGB)
    table: dict[str, Any] = {
        "shades": shades,
        "palettes": palettes,
        "first_line": facts.y_start,
        "height": facts.height,
        "last_line": _LAST_LINE[facts.frame_rate],
        "cartridge": _CARTRIDGES.index(facts.cartridge),
        "colour_loss": int(facts.frame_rate == 50),
        "hmove_blanks": int(facts.hmove_blanks),
        "actions": actions,
        "fire": actions.index(1) if options.fire and 1 in actions else -1,
        "paddle_start": facts.paddle_start,
        "paddle_max": facts.paddle_max,
        "mode": _chosen_mode(facts, options),
        "difficulty": _chosen_difficulty(facts, options),
        "frame_skip": options.frame_skip,
        "noop_max": options.noop_max,
        "max_frames": options.max_frames,
        "sticky": options.sticky,
        "controller": _CONTROLLERS.index(facts.controller),
        "paddles_right": int(facts.right_paddles),
        "fire_illegal": int(facts.illegal == "FIRE"),
        "max_pool": int(options.max_pool and pooled),
        "draw_objects": int(objects or picture == Picture.OBJECTS),
        "draw_all": int(draw_all),
        "opening": [
            (_RESET_SWITCH if action == "RESET" else ACTION_NAMES.index(action), frames)
            for action, frames in facts.start
        ],
        "size": options.screen_size,
    }
    return _console.Game(name, read_rom(facts, options.roms), table)


def drawn_colours(facts: GameFacts, picture: Picture, true_colours: bool) -> tuple[bytes, bytes]:
    """What a colour is drawn as, 256 bytes, and the palettes that make observations of it."""
    identity = bytes(range(256))
    if picture == Picture.RGB:
        return identity, rgb_palette(facts.frame_rate).T.tobytes()
    grey = grey_palette(facts.frame_rate).tobytes()
    if picture != Picture.GREY:
        return identity, b""
    # Grey is drawn at once where nobody wants the colours, too.
    return (identity, grey) if true_colours else (grey, b"")


def _chosen_mode(facts: GameFacts, options: EnvOptions) -> int:
    if options.mode is None:
        return facts.modes[0]
    if options.mode not in facts.modes:
        known = ", ".join(map(str, facts.modes))
        raise UsageError(f"{facts.name} has no mode {options.mode}; its modes are {known}.")
    return options.mode


def _chosen_difficulty(facts: GameFacts, options: EnvOptions) -> int:
    # All start with 0, also backgammon, which does not list it.
    if options.difficulty not in (0, *facts.difficulties):
        known = ", ".join(map(str, facts.difficulties))
        raise UsageError(
            f"{facts.name} has no difficulty {options.difficulty}; its difficulties are {known}."
        )
    return options.difficulty
