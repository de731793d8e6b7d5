"""`eightbit run colorize`: pictures, folders and films in, coloured ones out; ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ...datasets.films import SUFFIXES as FILM_SUFFIXES
from ...datasets.films import WRITTEN, FilmReader, FilmWriter
from ...datasets.pictures import list_pictures, read_picture, write_picture
from ...errors import EightBitError, UsageError
from ...tasks import Exported, RunJob, Trained
from .films import FilmPainting, colour_film
from .hints import Hint, parse_hint
from .model import distribution, predict
from .options import ColorizeOptions, ColorizeRunOptions
from .photos import Painting, colour_photo, colour_variants

FOLDER = Path("coloured")  # where results go if no other place is named
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")  # that can be written


@dataclass(frozen=True)
class Item:
    """One picture or film to colour.

    Attributes:
        path: of the file.
        target: to write to; further samples get a number behind the stem.
        error: what went wrong when the input was looked for.
    """

    path: Path
    target: Path
    error: EightBitError | None = None

    @property
    def is_film(self) -> bool:
        """By the name's ending; a GIF is a film."""
        return self.path.suffix.lower() in FILM_SUFFIXES


def run(trained: Trained, job: RunJob) -> None:
    """Colours all inputs; goes on after bad ones.

    Raises:
        UsageError: no inputs, several of them for one file, or hints that cannot be read.
        TaskError: some of them failed; the others are done.
    """
    if not job.inputs:
        raise UsageError("name pictures, folders of pictures, or films.")
    options: ColorizeRunOptions = job.options
    hints = tuple(parse_hint(text) for text in options.hints.replace(";", " ").split())
    items = list(_items(job))
    if hints and any(item.is_film for item in items):
        raise UsageError("hints are for pictures; colour the films without --hints.")
    job.each(items, partial(_work, trained, job, hints))


def _items(job: RunJob) -> Iterator[Item]:
    """Every file that the inputs name, with its place in the output."""
    to_file = job.output is not None and job.output.suffix.lower() in (*_PICTURES, *WRITTEN)
    if to_file and (len(job.inputs) > 1 or Path(job.inputs[0]).is_dir()):
        raise UsageError(f"{job.output} is one file; name a folder for several results.")
    folder = job.output or FOLDER
    for given in map(Path, job.inputs):
        if to_file:
            assert job.output is not None
            yield Item(given, job.output)
        elif given.is_dir():
            yield from _in_folder(given, folder)
        else:
            yield Item(given, folder / _written_name(Path(given.name)))


def _in_folder(given: Path, folder: Path) -> Iterator[Item]:
    """Pictures and films below a folder keep their place below the output folder."""
    films = [p for p in sorted(given.rglob("*")) if p.suffix.lower() in FILM_SUFFIXES]
    try:
        pictures = list_pictures(given)
    except EightBitError as error:
        if not films:
            yield Item(given, folder, error)
        pictures = []
    for path in sorted({*pictures, *films}):
        yield Item(path, folder / _written_name(path.relative_to(given)))


def _written_name(name: Path) -> Path:
    """A name whose ending can be written: films become .mp4, pictures .png where needed."""
    known = (*_PICTURES, *WRITTEN)
    if name.suffix.lower() in known:
        return name
    return name.with_suffix(".mp4" if name.suffix.lower() in FILM_SUFFIXES else ".png")


def _work(trained: Trained, job: RunJob, hints: tuple[Hint, ...], item: Item) -> None:
    if item.error is not None:
        raise item.error
    options: ColorizeRunOptions = job.options
    if item.is_film:
        painting = FilmPainting(options.film_side, options.saturation, options.memory)
        reader = FilmReader(item.path)
        with FilmWriter(item.target, like=reader) as writer:
            count = colour_film(reader, writer, _predictor(trained, options), painting)
        job.say(f"{item.target}: {count} frames")
        return
    rgb = read_picture(item.path)
    still = Painting(options.side, options.saturation, hints)
    if options.samples == 1:
        write_picture(item.target, colour_photo(rgb, _predictor(trained, options), still))
        job.say(str(item.target))
        return
    drawn = colour_variants(
        rgb,
        lambda lightness: distribution(trained.model, lightness.to(trained.device)),
        still,
        options.samples,
        options.temperature or trained.options.temperature,
        options.seed,
    )
    for number, picture in enumerate(drawn, start=1):
        target = item.target.with_stem(f"{item.target.stem}_{number}")
        write_picture(target, picture)
        job.say(str(target))


class _Predictor:
    """L* (B, 1, H, W) in [0, 100], anywhere -> a*, b* on the model's device."""

    def __init__(self, trained: Trained, temperature: float | None):
        self.trained, self.temperature = trained, temperature

    def __call__(self, lightness: Tensor) -> Tensor:
        return predict(self.trained.model, lightness.to(self.trained.device), self.temperature)


def _predictor(trained: Trained, options: ColorizeRunOptions) -> _Predictor:
    return _Predictor(trained, options.temperature or None)


class Colours(nn.Module):
    """A model whose output is colour."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, lightness: Tensor) -> Tensor:
        """L* (B, 1, S, S) in [0, 100] -> a*, b* (B, 2, S, S)."""
        return predict(self.model, lightness)


def export(trained: Trained) -> Exported:
    """Lightness (B, 1, S, S) in [0, 100], of the training size -> a*, b* (B, 2, S, S)."""
    options: ColorizeOptions = trained.options
    example = torch.full((1, 1, options.size, options.size), 50.0, device=trained.device)
    return Exported(Colours(trained.model), (example,), ("lightness",), ("ab",))
