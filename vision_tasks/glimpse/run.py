"""`eightbit run glimpse`: pictures in, classes and paths of glimpses out; and games of catch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.digits import grey
from ...datasets.labelled import fitted
from ...datasets.output import form_of, write_whole
from ...datasets.pictures import list_pictures, read_picture, write_picture
from ...errors import EightBitError, UsageError
from ...tasks import RunJob, Sample, TaskData, Trained
from .data import Games
from .drawing import look_frame, mark_end, path_sheet, strip, write_film
from .learning import options_of
from .model import GlimpseNetwork
from .options import GlimpseOptions, GlimpseRunOptions
from .play import Played, play
from .scores import Answers, quiet_noise, read

SAMPLED = 8  # pictures whose paths a sample shows, at most
INK = 0.25  # share of the brightest pixel above which something counts as ink
LIGHT = 128  # mean of the picture's rim above which paper is light


@dataclass(frozen=True)
class Reading:
    """What a picture was taken for.

    Attributes:
        name: of the picture.
        classes: names, the most probable first.
        probabilities: theirs.
        places: (row, column) of each glimpse in [-1, 1]; none of a reader of the whole picture.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    places: tuple[tuple[float, float], ...]

    def line(self) -> str:
        """One line for a terminal."""
        pairs = zip(self.classes, self.probabilities, strict=True)
        return f"{self.name}: " + ", ".join(f"{name} {share:.1%}" for name, share in pairs)


def run(trained: Trained, job: RunJob) -> None:
    """Reads all inputs, prints and writes what was found; a run of catch plays instead.

    Raises:
        UsageError: no inputs, inputs for a game, a file format that is unknown, or paths of a
            reader that has none.
        TaskError: some of the pictures failed; the others are done.
    """
    options: GlimpseRunOptions = job.options
    own: GlimpseOptions = trained.options
    if own.task == "catch":
        _run_games(trained, job)
        return
    if not job.inputs:
        raise UsageError("name pictures or folders to read.")
    if options.paths and own.reader != "glimpse":
        raise UsageError(f"a {own.reader} reader sees all at once; leave --paths out.")
    form = form_of(job.output, options.format, {".json": "json", ".csv": "csv"})
    found: list[Reading] = []
    try:
        job.each(_items(job.inputs), partial(_work, trained, job, found))
    finally:
        if job.output is not None and found:
            write_whole(job.output, _as_csv(found) if form == "csv" else _as_json(found))
            job.say(f"{len(found)} readings in {job.output}")


def _items(inputs: Sequence[str]) -> Iterator[Path | EightBitError]:
    for given in inputs:
        try:
            yield from list_pictures(Path(given))
        except EightBitError as error:
            yield error


def _work(trained: Trained, job: RunJob, found: list[Reading], item: Path | EightBitError) -> None:
    if isinstance(item, EightBitError):
        raise item
    options: GlimpseRunOptions = job.options
    picture = shown_to(trained.options, read_picture(item), options.invert)
    if options.fit and trained.options.task == "static":
        picture = fitted_ink(picture)
    answers = read(trained.model, picture, options.seed)
    reading = _reading(str(item), answers, trained.facts["classes"], options.topk)
    found.append(reading)
    job.say(reading.line())
    if options.paths:
        assert answers.places is not None
        frames = path_frames(trained.model, picture[0, 0], answers.places[0])
        stem = Path(options.paths) / f"{len(found):06d}_{item.stem}"
        write_picture(stem.with_suffix(".png"), strip(frames))
        write_film(stem.with_suffix(f".{options.film}"), frames)


def shown_to(options: GlimpseOptions, rgb: np.ndarray, invert: str) -> Tensor:
    """A picture of any size as the network reads it.

    Args:
        options: of the task.
        rgb: uint8 (H, W, 3); its middle square is brought to the canvas's size.
        invert: "yes", "no", or "auto": where the mean of the picture's rim is light.

    Returns:
        uint8 (1, 1, S, S), ink bright on black.
    """
    square = np.ascontiguousarray(fitted(rgb, options.size).transpose(2, 0, 1))
    ink = grey(torch.from_numpy(square))
    rim = torch.cat([ink[0], ink[-1], ink[:, 0], ink[:, -1]]).float().mean()
    if invert == "yes" or (invert == "auto" and rim >= LIGHT):
        ink = 255 - ink
    return ink[None, None]


def fitted_ink(picture: Tensor) -> Tensor:
    """Brings ink to 20 x 20 pixels at most and its centre of mass to the middle, as MNIST did.

    Args:
        picture: uint8 (1, 1, S, S), ink bright on black; without any it is left as it is.

    Returns:
        uint8 (1, 1, S, S).
    """
    page = picture[0, 0].numpy()
    size = len(page)
    ink = page > INK * int(page.max())
    if not ink.any():
        return picture
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    scale = size * 20 / 28 / max(np.ptp(rows) + 1, np.ptp(columns) + 1)
    weights = np.where(ink, page, 0).astype(float)
    middle = [
        float((weights.sum(1 - axis) * np.arange(size)).sum() / weights.sum()) for axis in (1, 0)
    ]  # of x and y
    shift = [(size - 1) / 2 - scale * at for at in middle]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    drawn = cv2.warpAffine(page, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return torch.from_numpy(drawn)[None, None]


def _reading(name: str, answers: Answers, classes: Sequence[str], topk: int) -> Reading:
    shares = answers.probabilities[0, -1].numpy()
    order = np.argsort(-shares, kind="stable")[:topk]
    places = [] if answers.places is None else answers.places[0].tolist()
    return Reading(
        name,
        tuple(classes[i] for i in order),
        tuple(float(shares[i]) for i in order),
        tuple((round(row, 4), round(column, 4)) for row, column in places),
    )


def path_frames(model: nn.Module, picture: Tensor, places: Tensor) -> list[np.ndarray]:
    """A frame for each glimpse: picture, squares and path, and what the retina sees.

    Args:
        model: a `GlimpseNetwork`.
        picture: uint8 (S, S).
        places: (T, 2).

    Returns:
        RGB uint8, all of one shape.
    """
    assert isinstance(model, GlimpseNetwork)
    options, retina = model.options, model.retina
    seen = retina(retina.prepare(picture[None, None]), places[None])[0].numpy()
    path, page = places.numpy(), picture.numpy()
    return [look_frame(page, path[: i + 1], options, seen[i]) for i in range(len(path))]


def _as_json(found: Sequence[Reading]) -> str:
    rows: list[dict[str, Any]] = [
        {
            "picture": one.name,
            "predictions": [
                {"class": name, "probability": share}
                for name, share in zip(one.classes, one.probabilities, strict=True)
            ],
            "glimpses": [list(place) for place in one.places],
        }
        for one in found
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _as_csv(found: Sequence[Reading]) -> str:
    """A row a picture: its name, then classes and probabilities in turn."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    count = len(found[0].classes)
    head = [name for i in range(1, count + 1) for name in (f"class_{i}", f"probability_{i}")]
    writer.writerow(["picture", *head])
    for one in found:
        pairs = zip(one.classes, one.probabilities, strict=True)
        writer.writerow([one.name, *(x for pair in pairs for x in pair)])
    return stream.getvalue()


# ------------------------------------------------------------------------------------- catch


def _run_games(trained: Trained, job: RunJob) -> None:
    """Plays games, says how they ended, and writes a film of them to the output."""
    options: GlimpseRunOptions = job.options
    own: GlimpseOptions = trained.options
    if job.inputs:
        raise UsageError("a run of catch plays games and reads no pictures; leave them out.")
    seeds = torch.arange(options.games) + options.seed
    played = _play(trained.model, seeds, options.seed)
    for index, reward in enumerate(played.rewards[:, 0].tolist()):
        job.say(f"game {int(seeds[index])}: {'caught' if reward > 0 else 'missed'}")
    frames = [frame for index in range(len(seeds)) for frame in _game_frames(own, played, index)]
    if job.output is not None:
        write_film(job.output, frames)
        job.say(f"{len(seeds)} games in {job.output}")
    if options.paths:
        target = Path(options.paths) / f"catch.{options.film}"
        write_film(target, frames)
        job.say(f"{len(seeds)} games in {target}")


def _play(model: nn.Module, seeds: Tensor, seed: int) -> Played:
    assert isinstance(model, GlimpseNetwork)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    noise = quiet_noise(model.options, len(seeds), 1, generator)
    with torch.no_grad():
        return play(model, seeds, noise.to(device), None)


def _game_frames(own: GlimpseOptions, played: Played, index: int) -> list[np.ndarray]:
    """A frame for each look of a game; the last one is framed in green or red, for its end."""
    places = played.drawn[index, 0].clamp(-1, 1).float().cpu().numpy()
    screens = played.screens[index, 0].cpu().numpy()
    frames = [
        look_frame(screen, place[None], own, None)
        for screen, place in zip(screens, places, strict=True)
    ]
    mark_end(frames[-1], bool(played.rewards[index, 0] > 0))
    return frames


# ----------------------------------------------------------------------------------- samples


def samples(model: nn.Module, data: TaskData, count: int) -> list[Sample]:
    """Paths of glimpses over pictures, or over games, of the validation or test split."""
    options = options_of(model)
    part = data.splits.get("validation", data.splits.get("test"))
    count = min(max(count, 1), SAMPLED)
    if isinstance(part, Games):
        played = _play(model, torch.from_numpy(part.seeds[:count]), 0)
        rows = [strip(_game_frames(options, played, index)) for index in range(count)]
        return [Sample("games", picture=np.concatenate(rows))]
    pictures = part.pictures[:count]
    answers = read(model, pictures)
    classes = data.facts["classes"]
    best = answers.probabilities[:, -1].argmax(1).tolist()
    lines = [
        f"{name}: {classes[found]}, is {classes[truth]}"
        for name, found, truth in zip(
            part.names[:count], best, part.labels[:count].tolist(), strict=True
        )
    ]
    if answers.places is None:
        return [Sample("readings", text="\n".join(lines))]
    sheet = path_sheet(pictures[:, 0].numpy(), answers.places.numpy(), options)
    return [Sample("paths", picture=sheet, text="\n".join(lines))]
