"""`play`: a person plays a game in a window, alone or with the agent of a run at the controls."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..envs.games import CATCH, parse_game
from ..errors import EightBitError, UsageError
from .cabinet import SILENCE, Cabinet
from .drawing import Colour, draw_text, text_width
from .keyboard import AGENT_HELP, HELP, Command, Controls, Keyboard
from .video import VideoWriter, enlarge, make_even
from .window import GameWindow, Loudspeaker, Pacer, require_window

if TYPE_CHECKING:
    from .pilot import Pilot

PIXEL = (2, 1)
"""Width and height of a console's pixel in the smallest picture, 320 x 210: on a television it was
12:7, and only whole numbers keep it sharp at every size."""

_SOUND_RATE = 44_100  # samples per second
_GYM_PREFIX = "gym:"
_LOUDEST = 10
_AGAIN = 2  # seconds after which an agent begins a new game
_LARGEST_VIDEO = 2  # times the smallest picture: larger ones are more work than play leaves time
_AGENT, _YOU_HOLDING, _YOU = "agent plays", "you play", "you play until T"
_DIMMED = 0.3
_TEXT: Colour = (236, 238, 244)
_ACCENT: Colour = (250, 190, 60)


@dataclass(frozen=True)
class PlaySettings:
    """What is played and how it is shown."""

    game: str = field(default="", metadata={"positional": True, "metavar": "GAME", "unset": ""})
    """a game in any spelling; that of the run by default"""
    run: str | None = field(default=None, metadata={"metavar": "RUN"})
    """let the agent of this run folder play: T takes over and hands back, and any key of the
    stick takes over while it is held"""
    mode: int | None = None
    """the game's mode in ALE's numbers; its first, or that of the run, by default"""
    difficulty: int | None = None
    """the console's difficulty switches, 0 to 3; 0, or that of the run, by default"""
    seed: int = 0
    """of the random numbers of the game and the agent"""
    scale: int | None = None
    """size of the window, 1 for 320 x 210; as large as the display has room for by default"""
    sound: bool = True
    """play the sound, and record it"""
    record: str | None = field(default=None, metadata={"metavar": "FILE.mp4"})
    """also write what is seen and heard of the game into this video"""
    checkpoint: str = "last"
    """which weights of the run: last, best, or a number of agent steps"""
    device: str = "auto"
    """where the network computes"""

    def __post_init__(self) -> None:
        if self.scale is not None and not 1 <= self.scale <= 16:
            raise UsageError(f"scale is {self.scale}; give 1 to 16.")
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"seed is {self.seed}; it must lie between 0 and 2,147,483,647.")
        if self.record is not None and Path(self.record).suffix.lower() != ".mp4":
            raise UsageError(f"{self.record} must end in .mp4.")


@dataclass(frozen=True)
class Status:
    """How things stand.

    Attributes:
        score: raw rewards of this game.
        lives: that are left; None in a game without lives.
        over: the game has ended.
        paused: by the player.
        helping: the keys are shown, and the game waits.
        muted: the loudspeaker is off.
        volume: of the loudspeaker, 0 to 10.
        agent: an agent plays too.
        mine: the player is at the controls until further notice.
        holding: the player is at the controls as long as a key is held.
    """

    score: float = 0.0
    lives: int | None = None
    over: bool = False
    paused: bool = False
    helping: bool = False
    muted: bool = False
    volume: int = 8
    agent: bool = False
    mine: bool = True
    holding: bool = False

    @property
    def loudness(self) -> float:
        """Of the loudspeaker, 0 to 1: the square of the volume, as ears want it."""
        return 0.0 if self.muted else (self.volume / _LOUDEST) ** 2

    def title(self, game: str) -> str:
        """One line for the title of the window."""
        parts = [game.replace("_", " "), f"score {self.score:,.10g}"]
        parts += [] if self.lives is None else [f"lives {self.lives}"]
        if self.agent:
            parts.append(_YOU if self.mine else _YOU_HOLDING if self.holding else _AGENT)
        parts += ["game over: R begins anew"] * self.over + ["paused"] * self.paused
        parts.append("muted" if self.muted else f"volume {self.volume}")
        return "   ".join([*parts, "F1: keys"])


@dataclass(frozen=True)
class Shown:
    """One frame as a window shows it.

    Attributes:
        picture: (height, 160, 3) uint8.
        pcm: its sound, (samples,) int16 at 44,100 a second; empty while the game waits.
        status: how things stand.
        played: a frame of the game, not the last one again.
        wanted: the player wants to keep this picture.
    """

    picture: np.ndarray
    pcm: np.ndarray
    status: Status
    played: bool
    wanted: bool


def play_frames(
    cabinet: Cabinet, read: Callable[[], Controls], pilot: Pilot | None = None, seed: int = 0
) -> Iterator[Shown]:
    """Plays until the player has enough: a frame each time round, or the last one again.

    Args:
        cabinet: the game.
        read: what the player wants of the next frame.
        pilot: an agent at the controls, None to play alone.
        seed: of the first game; the random numbers go on in the next ones.
    """
    status = Status(agent=pilot is not None, mine=pilot is None)
    next_seed: int | None = seed
    begin, waited = True, 0
    while True:
        controls = read()
        if Command.QUIT in controls.commands:
            return
        for command in controls.commands:
            status = _obey(status, command)
        status = replace(status, holding=controls.action != "NOOP")
        if cabinet.over and not status.mine and waited >= _AGAIN * cabinet.rate:
            begin = True
        pcm, played, waited = SILENCE, False, waited + 1
        if begin or Command.RESET in controls.commands:
            cabinet.begin(next_seed)
            if pilot is not None:
                pilot.begin(cabinet)
            next_seed, begin = None, False
        elif not (cabinet.over or status.paused or status.helping):
            agent = pilot is not None and not (status.mine or status.holding)
            pcm = cabinet.play(pilot.action if agent and pilot is not None else controls.action)
            if pilot is not None:
                pilot.see(cabinet)
            played, waited = True, 0
        status = replace(status, score=cabinet.score, lives=cabinet.lives, over=cabinet.over)
        wanted = Command.SCREENSHOT in controls.commands
        yield Shown(cabinet.picture, pcm, status, played, wanted)


def _obey(status: Status, command: Command) -> Status:
    """What a command changes in how things stand."""
    if command == Command.PAUSE:
        return replace(status, paused=not status.paused)
    if command == Command.HELP:
        return replace(status, helping=not status.helping)
    if command == Command.MUTE:
        return replace(status, muted=not status.muted)
    if command == Command.TAKE_OVER and status.agent:
        return replace(status, mine=not status.mine)
    if command == Command.LOUDER:
        return replace(status, muted=False, volume=min(status.volume + 1, _LOUDEST))
    if command == Command.QUIETER:
        return replace(status, muted=False, volume=max(status.volume - 1, 0))
    return status


# ------------------------------------------------------------------------------- pictures


def scaled(picture: np.ndarray, scale: int) -> np.ndarray:
    """The picture (height, 160, 3) uint8 as large as `scale` says, with pixels twice as wide as
    high: (height * scale, 320 * scale, 3) uint8."""
    return enlarge(picture, (PIXEL[0] * scale, PIXEL[1] * scale))


def compose(shown: Shown, scale: int) -> np.ndarray:
    """What the window shows: the picture, under words where the game waits.

    Returns:
        (height * scale, 320 * scale, 3) uint8.
    """
    canvas, status = scaled(shown.picture, scale), shown.status
    if status.helping:
        rows = (*HELP, *(AGENT_HELP if status.agent else ()))
        return _write(canvas, ["KEYS", *(f"{key:<17}  {meaning}" for key, meaning in rows)])
    if status.paused:
        return _write(canvas, ["PAUSED", "P goes on"])
    if status.over:
        return _write(canvas, ["GAME OVER", "R begins a new one"])
    return canvas


def _write(canvas: np.ndarray, lines: list[str]) -> np.ndarray:
    """Dims (H, W, 3) uint8 and writes lines, left-aligned, into its middle."""
    canvas = (canvas * _DIMMED).astype(np.uint8)
    height, width = canvas.shape[:2]
    size = height // 22
    left = (width - max(text_width(line, size) for line in lines)) // 2
    top = height // 2 - round((len(lines) / 2 - 0.8) * 1.6 * size)
    for index, line in enumerate(lines):
        baseline = top + round(1.6 * size * index)
        colour = _ACCENT if index == 0 else _TEXT
        draw_text(canvas, line, (left, baseline), size, colour, bold=index == 0)
    return canvas


def save_picture(picture: np.ndarray, game: str, folder: Path) -> Path:
    """Writes (H, W, 3) uint8 as the first `<game>-<number>.png` that is free; returns its path.

    Raises:
        EightBitError: it cannot be written.
    """
    names = (folder / f"{game}-{number}.png" for number in itertools.count(1))
    path = next(path for path in names if not path.exists())
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
        raise EightBitError(f"{path} cannot be written; play in a folder of your own.")
    return path


# --------------------------------------------------------------------------------- a game


def play_game(settings: PlaySettings) -> Path | None:
    """Opens a window and lets people play until they close it.

    Returns:
        The path of the video where one was recorded.

    Raises:
        UsageError: the game or an option of it is unknown, or no window is possible here.
        RunFolderError: the run is missing, damaged or without weights.
        EightBitError: the video cannot be written.
    """
    game = _named_game(settings)
    require_window()
    with ExitStack() as stack:
        cabinet, pilot = _set_up(game, settings)
        stack.callback(cabinet.close)
        window = GameWindow((PIXEL[0] * 160, PIXEL[1] * cabinet.height), settings.scale)
        stack.callback(window.close)
        speaker = Loudspeaker.open(_SOUND_RATE) if settings.sound else None
        if speaker is not None:
            stack.callback(speaker.close)
        elif settings.sound:
            print("there is no sound device here: the game is silent.", file=sys.stderr)
        video_scale = min(window.scale, _LARGEST_VIDEO)
        video = _video(settings, cabinet, video_scale)
        if video is not None:
            stack.enter_context(video)
        keyboard, pacer = Keyboard(), Pacer(cabinet.rate)

        def read() -> Controls:
            window.listen(keyboard)
            return keyboard.read()

        for shown in play_frames(cabinet, read, pilot, settings.seed):
            window.show(compose(shown, window.scale), shown.status.title(game))
            if speaker is not None:
                speaker.play(shown.pcm, shown.status.loudness)
            if video is not None and shown.played:
                video.write(make_even(scaled(shown.picture, video_scale)))
                if settings.sound:
                    video.write_sound(shown.pcm)
            if shown.wanted:
                path = save_picture(scaled(shown.picture, window.scale), game, Path())
                print(f"picture: {path}")
            pacer.wait()
    return video.path if video is not None and video.frames_written else None


def _named_game(settings: PlaySettings) -> str:
    """Canonical name of the game that the settings mean."""
    of_run = "" if settings.run is None else _game_of(settings.run)
    if not settings.game and not of_run:
        raise UsageError("which game? Write 'eightbit play pong'; 'eightbit list games' shows all.")
    game = settings.game or of_run
    if not game.startswith(_GYM_PREFIX):
        game = parse_game(game).name
    if game == CATCH or game.startswith(_GYM_PREFIX):
        raise UsageError(
            f"{game} cannot be played by hand: choose a game of the console; 'eightbit list games' "
            "shows them."
        )
    if of_run and game != of_run:
        raise UsageError(f"{settings.run} is a run of {of_run}, not of {game}; leave the game out.")
    return game


def _game_of(run: str) -> str:
    from ..train.runs import RunFolder  # loads torch, which a game alone does without

    return RunFolder.open(run).game


def _set_up(game: str, settings: PlaySettings) -> tuple[Cabinet, Pilot | None]:
    """The game and, where a run is named, its agent with the rules of the run's evaluation."""
    if settings.run is None:
        difficulty = settings.difficulty or 0
        return Cabinet(game, settings.mode, difficulty, sound=settings.sound), None
    from .pilot import Pilot
    from .player import load_player

    player = load_player(settings.run, checkpoint=settings.checkpoint, device=settings.device)
    pilot, options = Pilot(player, settings.seed), player.options
    cabinet = Cabinet(
        game,
        options.mode if settings.mode is None else settings.mode,
        options.difficulty if settings.difficulty is None else settings.difficulty,
        sticky=options.sticky,
        roms=options.roms,
        sound=settings.sound,
    )
    return cabinet, pilot


def _video(settings: PlaySettings, cabinet: Cabinet, scale: int) -> VideoWriter | None:
    if settings.record is None:
        return None
    width, height = PIXEL[0] * scale * 160, PIXEL[1] * scale * cabinet.height
    size = (width, height + height % 2)
    sound_rate = _SOUND_RATE if settings.sound else None
    return VideoWriter(Path(settings.record), size, cabinet.rate, sound_rate=sound_rate)
