"""What trained tasks see in a game: boxes of `detect` and sentences of `caption`, drawn live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ..datasets.captions import as_learnt
from ..datasets.download import say_on_stderr
from ..errors import TaskError
from ..tasks import Trained
from ..train.task_models import trained_for
from ..vision_tasks.caption.model import as_network
from ..vision_tasks.caption.search import Beam
from ..vision_tasks.caption.use import tell
from ..vision_tasks.detect.boxes import Detections
from ..vision_tasks.detect.drawing import class_colours
from ..vision_tasks.detect.model import detect_pictures
from .drawing import Colour, draw_text, fill, text_width

_LEAST_SCORE = 0.3
_LETTERS = 18  # pixels
_NAMES = 13  # pixels
_NAMED = 3  # of a class; of a crowd only the surest is named
_BAR: Colour = (18, 20, 28)
_INK: Colour = (236, 238, 244)


class Onlooker:
    """Networks that look at a game and say what they see.

    It warns of a network that never saw the game.

    Args:
        game: canonical name of what they look at.
        seen: run folder of `detect`, or its model file; None for no boxes.
        told: run folder of `caption`, or its model file; None for no sentence.
        device: where the networks compute.

    Raises:
        RunFolderError, TaskError: a run is missing, holds no model, or is of another task.
    """

    def __init__(
        self, game: str, seen: str | Path | None, told: str | Path | None, device: torch.device
    ):
        self._seen = _opened("seen", "detect", seen, device) if seen is not None else None
        self._told = _opened("told", "caption", told, device) if told is not None else None
        for trained in (self._seen, self._told):
            if trained is not None:
                _warn_of_strange(trained, game)
        self._found: Detections | None = None
        self._sentence = ""

    def look(self, frame: np.ndarray) -> None:
        """Takes in a frame of the game, RGB uint8 (H, W, 3)."""
        if self._seen is not None:
            (self._found,) = detect_pictures(self._seen.model, [frame], _LEAST_SCORE)
        if self._told is not None:
            self._sentence = sentence_of(self._told, frame)

    def draw(self, canvas: np.ndarray, frame_size: tuple[int, int]) -> None:
        """Draws what was seen last, in place.

        Args:
            canvas: RGB uint8, the enlarged frame and nothing else.
            frame_size: (height, width) of the frame that `look` got.
        """
        height, width = canvas.shape[:2]
        if self._found is not None and self._seen is not None:
            scale = torch.tensor([width / frame_size[1], height / frame_size[0]]).repeat(2)
            larger = Detections(self._found.boxes * scale, self._found.scores, self._found.labels)
            draw_named(canvas, larger, self._seen.facts["classes"])
        if self._sentence:
            # Long sentences get smaller letters instead of a second line.
            size = min(_LETTERS, _LETTERS * (width - 20) // text_width(self._sentence, _LETTERS))
            fill(canvas, (0, height - 2 * _LETTERS, width, height), _BAR)
            draw_text(canvas, self._sentence, (10, height - _LETTERS // 2 - 4), size, _INK)


def draw_named(canvas: np.ndarray, found: Detections, classes: Sequence[str]) -> None:
    """Draws boxes in place, in the colour of their class, with its name above them.

    Where there are more than three of a class only the surest is named, so that names do not cover
    the game.

    Args:
        canvas: RGB uint8 (H, W, 3).
        found: in its pixels, by falling score.
        classes: names.
    """
    colours, labels = class_colours(len(classes)), found.labels.tolist()
    boxes: list[list[int]] = found.boxes.round().int().tolist()
    counts = Counter(labels)
    for place, ((x0, y0, _, _), label) in enumerate(zip(boxes, labels, strict=True)):
        if counts[label] <= _NAMED or label not in labels[:place]:
            _name(canvas, classes[label], (x0 - 2, y0 - 2))
    # After all names, so that none hides a box.
    for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True):
        cv2.rectangle(canvas, (x0 - 1, y0 - 1), (x1, y1), colours[label], 2)


def _name(canvas: np.ndarray, text: str, corner: tuple[int, int]) -> None:
    """A name on a dark field whose lower left corner is at `corner`, as far as that is inside."""
    width = text_width(text, _NAMES) + 6
    left = max(0, min(corner[0], canvas.shape[1] - width))
    bottom = max(_NAMES + 4, corner[1])
    fill(canvas, (left, bottom - _NAMES - 4, left + width, bottom), _BAR)
    draw_text(canvas, text, (left + 3, bottom - 4), _NAMES, _INK)


def _opened(option: str, name: str, path: str | Path, device: torch.device) -> Trained:
    try:
        return trained_for(name, path, device)
    except TaskError:
        raise TaskError(
            f"--{option} needs a run of {name} and {path} is none; make one with 'eightbit train "
            f"{name} --data atari-scenes'."
        ) from None


def _warn_of_strange(trained: Trained, game: str) -> None:
    games = trained.facts.get("games", {}).get("train", [])
    if game in games:
        return
    source = f"frames of {', '.join(games)}" if games else "other pictures than frames of games"
    what = {"detect": "its boxes", "caption": "its sentences"}[trained.task.name]
    say_on_stderr(
        f"warning: {trained.path} learnt from {source} and never saw {game}; {what} are guesses."
    )


def sentence_of(told: Trained, frame: np.ndarray) -> str:
    """What a caption network says of a frame, RGB uint8 (H, W, 3)."""
    network = as_network(told.model)
    small = as_learnt(frame, network.options.size, told.facts)
    pictures = torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))[None]
    best = tell(network, pictures, Beam(longest=network.options.longest))[0][0]
    return network.words.decode(best.ids)
