"""`watch`: a trained agent plays whole games, into a video or a window."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import gymnasium
import numpy as np

from ..agents.device import choose_device
from ..envs.games import game_facts
from ..envs.options import EnvOptions
from ..envs.sound import SoundChip
from ..errors import UsageError
from .evaluation import GYM_PREFIX, Playing, action_names, default_epsilon, start_playing
from .panel import Moment, Overlay, pixel_factors
from .player import Player, load_player
from .saliency import Saliency, saliency_map
from .video import VideoWriter, enlarge, make_even, write_gif
from .window import Window, window_is_possible

if TYPE_CHECKING:
    from .telling import Onlooker

_DEFAULT_RATE = 30  # of environments that do not tell theirs
_PAL_RATE = 50
_GIF_RATE = 20  # frames per second; a GIF counts hundredths of a second
_GIF_SECONDS = 15  # of play, unless --max-frames says less: a GIF is for a page, not for a game


@dataclass(frozen=True)
class WatchSettings:
    """What is watched and how it is shown."""

    episodes: int = 1
    """games to play"""
    overlay: bool = True
    """show score, Q-values and chosen action beside the screen"""
    saliency: Saliency | None = None
    """colour what the network looks at: perturbation (slow, faithful) or gradient (fast)"""
    max_frames: int | None = None
    """stop after this many emulated frames in all; none by default"""
    epsilon: float | None = None
    """share of random actions, 0 to 1; the protocol's by default"""
    seed: int = 0
    """of the games and the random actions"""
    checkpoint: str = "last"
    """which weights: last, best, or a number of agent steps"""
    device: str = "auto"
    """where the network computes"""
    window: bool | None = None
    """show a window; by default where there is a display and no output file is named"""
    seen: str | None = field(default=None, metadata={"metavar": "RUN"})
    """draw the boxes that this run of detect sees in the game"""
    told: str | None = field(default=None, metadata={"metavar": "RUN"})
    """write below the game what this run of caption says of it"""

    def __post_init__(self) -> None:
        if self.episodes < 1 or (self.max_frames is not None and self.max_frames < 1):
            raise UsageError("watch needs at least one game and one frame.")
        if self.epsilon is not None and not 0.0 <= self.epsilon <= 1.0:
            raise UsageError(f"epsilon {self.epsilon} is not a share: write a number from 0 to 1.")


class Stage:
    """One environment that is looked at: observations for the agent, frames for people.

    Attributes:
        rate: frames per second that the game runs at.
        screen: (height, width) of its frames.
        actions: a name for each action.
        atari: its pixels are those of the console.
        sound_rate: samples per second of its sound, None where it has none.

    Args:
        game: canonical name, or `gym:<id>`.
        options: the semantics; not used for `gym:` games.
    """

    def __init__(self, game: str, options: EnvOptions):
        self.atari = not game.startswith(GYM_PREFIX) and game != "catch"
        self._env = _make_env(game, options, self.atari)
        count = int(self._env.action_space.n)  # type: ignore[attr-defined]  # Discrete
        self.actions = action_names(game, options, count)
        fallback = int(self._env.metadata.get("render_fps") or _DEFAULT_RATE)
        self.rate = game_facts(game).frame_rate if self.atari else fallback
        self._env.reset(seed=0)
        height, width = self._picture().shape[:2]
        self.screen = (height, width)
        sounds = self.atari and self._env.unwrapped.last_sounds() is not None  # type: ignore[attr-defined]  # ours
        self._chip = SoundChip(self.rate, pal=self.rate == _PAL_RATE) if sounds else None
        self.sound_rate = self._chip.sample_rate if self._chip else None

    def reset(self, seed: int | None) -> np.ndarray:
        """Begins a game; returns the first observation (*obs)."""
        observation, _ = self._env.reset(seed=seed)
        return np.asarray(observation)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, int]:
        """Holds an action; returns observation, raw reward, game over, and the executed action."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        executed = int(info.get("executed_action", action))
        return np.asarray(observation), float(reward), bool(terminated or truncated), executed

    def frames(self) -> list[np.ndarray]:
        """Every emulated frame of the last step or reset, (height, width, 3) uint8."""
        if self.atari:
            frames: list[np.ndarray] = self._env.unwrapped.last_frames()  # type: ignore[attr-defined]  # ours
            return frames
        return [self._picture()]

    def sound(self) -> np.ndarray | None:
        """What the frames of the last step or reset sound like, (samples,) int16; None without.

        The chip's tones go on from call to call: it is to be asked once for each step.
        """
        if self._chip is None:
            return None
        return self._chip.render(self._env.unwrapped.last_sounds())  # type: ignore[attr-defined]  # ours

    def close(self) -> None:
        self._env.close()

    def _picture(self) -> np.ndarray:
        try:
            frame = np.asarray(self._env.render())
        except gymnasium.error.DependencyNotInstalled:
            raise UsageError(
                "this environment draws itself with pygame: write 'pip install eightbit[play]'."
            ) from None
        return np.repeat(frame[..., None], 3, axis=2) if frame.ndim == 2 else frame


def _make_env(game: str, options: EnvOptions, atari: bool) -> gymnasium.Env[Any, Any]:
    if atari:
        from ..envs.single import AtariEnv  # loads ALE

        return AtariEnv(game, options, render_mode="rgb_array", record_frames=True)
    if game.startswith(GYM_PREFIX):
        try:
            return gymnasium.make(game[len(GYM_PREFIX) :], render_mode="rgb_array")
        except (gymnasium.error.Error, TypeError) as error:
            raise UsageError(f"{game} cannot be watched: {error}.") from error
    from ..envs.catch import CatchEnv

    return CatchEnv(options, render_mode="rgb_array")


def perform(
    agent: Any,
    stage: Stage,
    settings: WatchSettings,
    *,
    epsilon: float,
    overlay: Overlay | None,
    sound_sink: Callable[[np.ndarray], None] | None = None,
    onlooker: Onlooker | None = None,
) -> Iterator[np.ndarray]:
    """Plays and yields every frame as it is to be shown, one at a time.

    The yielded array is drawn over by the next one. The score changes on the last frame of the
    step that earned it. A step's sound goes to `sound_sink` before its frames. An `onlooker`
    looks at the first frame of each step.
    """
    generator = np.random.default_rng(settings.seed)
    factors = pixel_factors(*stage.screen, atari=stage.atari)
    playing, shown = start_playing(agent), 0
    for episode in range(1, settings.episodes + 1):
        # Without a seed the environment goes on to other games.
        observation = stage.reset(settings.seed if episode == 1 else None)
        playing.begin()
        moment, over = Moment(0.0, 0, None, False, episode, 0), False
        before, score, frame_number = 0.0, 0.0, 0
        while True:
            frames = stage.frames()
            sound = stage.sound() if sound_sink is not None else None
            if sound_sink is not None and sound is not None:
                sound_sink(sound)
            for index, frame in enumerate(frames):
                frame_number += 1
                shown += 1
                points = score if index == len(frames) - 1 else before
                now = replace(moment, score=points, frame=frame_number)
                if overlay is None:
                    picture = make_even(enlarge(frame, factors))
                else:
                    picture = overlay.compose(frame, now)
                if onlooker is not None:
                    if index == 0:
                        onlooker.look(frame)
                    height, width = frame.shape[:2]
                    screen = picture[: height * factors[1], : width * factors[0]]
                    onlooker.draw(screen, (height, width))
                yield picture
                if shown == settings.max_frames:
                    return
            if over:
                break
            moment, saliency = _decide(playing, observation, settings, epsilon, generator)
            observation, reward, over, executed = stage.step(moment.action)
            moment = replace(moment, action=executed, episode=episode)
            before, score = score, score + reward
            if overlay is not None:
                overlay.think(moment, saliency)


def _decide(
    playing: Playing,
    observation: np.ndarray,
    settings: WatchSettings,
    epsilon: float,
    generator: np.random.Generator,
) -> tuple[Moment, np.ndarray | None]:
    """What the agent thinks of an observation (*obs), its epsilon-greedy action, and the map."""
    now = playing.glance()
    values = playing.values(observation[None])[0]
    random = bool(generator.random() < epsilon)
    action = int(generator.integers(len(values))) if random else int(values.argmax())
    saliency = None
    if settings.overlay and settings.saliency is not None:
        saliency = saliency_map(settings.saliency, now, observation)
    return Moment(0.0, action, values, random, 1, 0), saliency


def watch_run(
    run: str | Path,
    output: Path | None = None,
    settings: WatchSettings = WatchSettings(),  # frozen, so sharing it is safe
) -> Path | None:
    """Lets the agent of a run play, into a video or a window.

    Args:
        run: the run folder.
        output: of the video (.mp4), or of a GIF of the first seconds at half size. Without it
            a window opens where there is a display and pygame-ce; elsewhere the video goes to
            RUN/videos/.
        settings: what to watch.

    Returns:
        The path of the video, None after a window.

    Raises:
        RunFolderError: the folder is missing, damaged or without weights.
        UsageError: a window was asked for where none is possible, or `output` is neither .mp4
            nor .gif.
        EightBitError: the video cannot be written.
    """
    if output is not None and output.suffix.lower() not in (".mp4", ".gif"):
        raise UsageError(f"{output} must end in .mp4 (H.264, the whole game) or .gif (a glimpse).")
    windowed = settings.window if settings.window is not None else output is None
    if windowed and not window_is_possible():
        if settings.window:
            raise UsageError(
                "no window can be opened here: it needs a display and 'pip install "
                "eightbit[play]'; leave --window out to get a video."
            )
        windowed = False
    player = load_player(run, checkpoint=settings.checkpoint, device=settings.device)
    stage = Stage(player.game, player.options)
    try:
        play, size = _performance(player, stage, settings)
        if windowed:
            show(play(None), Window(size, stage.rate, f"eightbit: {player.game}"))
            return None
        path = output or _new_video(player)
        if path.suffix.lower() == ".gif":
            return write_gif(path, _glimpse(play(None), stage.rate), _GIF_RATE)
        with VideoWriter(path, size, stage.rate, sound_rate=stage.sound_rate) as video:
            for frame in play(video.write_sound if stage.sound_rate else None):
                video.write(frame)
        return path
    finally:
        stage.close()


def _glimpse(frames: Iterator[np.ndarray], rate: int) -> list[np.ndarray]:
    """The first seconds at half size, in as many frames as a GIF plays."""
    kept = islice(frames, 0, _GIF_SECONDS * rate, max(round(rate / _GIF_RATE), 1))
    half = [cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in kept]
    return [np.asarray(frame) for frame in half]


def show(frames: Iterator[np.ndarray], window: Window) -> None:
    """Shows frames until they end or the user closes the window."""
    try:
        for frame in frames:
            window.write(frame)
            if window.closed:
                break
    finally:
        window.close()


_SoundSink = Callable[[np.ndarray], None] | None


def _performance(
    player: Player, stage: Stage, settings: WatchSettings
) -> tuple[Callable[[_SoundSink], Iterator[np.ndarray]], tuple[int, int]]:
    """What gives the frames, told where their sound goes, and their (width, height)."""
    onlooker = _onlooker(player, stage, settings)
    epsilon = settings.epsilon
    if epsilon is None:
        epsilon = default_epsilon(player.game, player.protocol)
    overlay = None
    if settings.overlay:
        title = player.game.removeprefix(GYM_PREFIX).replace("_", " ").upper()
        subtitle = f"{player.label} \u00b7 {player.protocol.value} \u00b7 epsilon {epsilon:g}"
        overlay = Overlay(
            title, subtitle, stage.actions, stage.screen, stage.rate, atari=stage.atari
        )
        size = overlay.size
    else:
        factors = pixel_factors(*stage.screen, atari=stage.atari)
        width, height = stage.screen[1] * factors[0], stage.screen[0] * factors[1]
        size = (width + width % 2, height + height % 2)

    def play(sound_sink: _SoundSink) -> Iterator[np.ndarray]:
        return perform(
            *(player.agent, stage, settings),
            epsilon=epsilon,
            overlay=overlay,
            sound_sink=sound_sink,
            onlooker=onlooker,
        )

    return play, size


def _onlooker(player: Player, stage: Stage, settings: WatchSettings) -> Onlooker | None:
    if settings.seen is None and settings.told is None:
        return None
    if not stage.atari:
        raise UsageError(
            f"--seen and --told look at games of the console, and {player.game} is none; leave "
            "them out."
        )
    from .telling import Onlooker  # loads the tasks

    device = choose_device(settings.device)
    return Onlooker(player.game, settings.seen, settings.told, device)


def _new_video(player: Player) -> Path:
    """A name that is still free, so that an earlier video stays."""
    folder = player.run.path / "videos"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", player.game)
    steps = "" if player.agent_steps is None else f"-{player.agent_steps}"
    path, number = folder / f"{name}{steps}.mp4", 1
    while path.exists():
        number += 1
        path = folder / f"{name}{steps}-{number}.mp4"
    return path
