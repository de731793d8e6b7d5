"""Handwriting as pen movements: reading it, bringing it to one size, dividing it by writer.

A writing is an array of points, float32 (N, 3): x to the right, y down, and 1 in the third column
where the pen is lifted after the point, else 0; the last point is always followed by a lift.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import DataError
from . import pen_paths
from .download import resolve, source_facts

Strokes = Sequence[np.ndarray]
"""One array (n, 2) of x and y for each time the pen is down."""

SPLITS = ("train", "validation", "test")
_PORTION = 100_000
"""points that are worked on at once, which keeps memory small"""


@dataclass(frozen=True)
class Writing:
    """A line or a word as somebody wrote it.

    Attributes:
        points: float32 (N, 3) of x, y (down) and pen lifts; N is at least 1.
        text: what it says; empty where nobody knows.
        writer: who wrote it; empty where nobody knows.
        quality: the data set's own word on it, like "GOOD", "OK", "BAD" or "?".
    """

    points: np.ndarray
    text: str = ""
    writer: str = ""
    quality: str = "?"


@dataclass(frozen=True)
class WritingData:
    """Writings divided so that no writer is in two parts.

    Attributes:
        lines: by split ("train", "validation", "test"), lines of text.
        words: by split, single words; empty where the data set has none.
        facts: JSON values: source, licence, split, counts of writers, lines and words.
    """

    lines: Mapping[str, list[Writing]]
    words: Mapping[str, list[Writing]]
    facts: Mapping[str, Any]


def read_writings(data: str, seed: int) -> WritingData:
    """Reads lines and words and divides their writers, about 78 % : 7 % : 15 % of the lines.

    A writer of whom there are words alone is in the training part. Lines in which the pen begins a
    second one are left out, which is judged by the pen's path alone.

    Args:
        data: `unipen`, a folder, or a file of JSON strokes (see `stroke_files`).
        seed: of the division; it is a pure function of it.

    Raises:
        DataError: missing or damaged files, too few samples.
        UnknownNameError: `data` is neither a path nor a known name.
    """
    from .stroke_files import read_packed, read_stroke_path  # it builds on this module

    path = resolve(data)
    if (path / "lines.npz").is_file():
        lines, words = read_packed(path, "lines"), read_packed(path, "words")
    else:
        lines, words = read_stroke_path(path), []
    kept_lines = [one for one in lines if not begins_second_line(one.points)]
    left_out = len(lines) - len(kept_lines)
    people = [person(one.writer) for one in kept_lines]
    named = len(set(people)) >= len(SPLITS)
    if not named:  # too few writers to divide; every line is a group of its own
        people = [str(index) for index in range(len(kept_lines))]
    if len(set(people)) < len(SPLITS):
        raise DataError(f"{data} holds {len(kept_lines)} lines of text; at least 3 are needed.")
    places = split_by_writer(people, [one.writer for one in kept_lines], seed)
    divided_lines: dict[str, list[Writing]] = {split: [] for split in SPLITS}
    divided_words: dict[str, list[Writing]] = {split: [] for split in SPLITS}
    for key, one in zip(people, kept_lines, strict=True):
        divided_lines[places[key]].append(one)
    for one in words:
        divided_words[places.get(person(one.writer), "train")].append(one)
    facts = {
        **source_facts(data, path),
        "split": (
            f"by writer, none in two parts (seed {seed})"
            if named
            else f"line by line, for there are fewer than 3 writers (seed {seed})"
        ),
        "left_out": f"{left_out} lines in which the pen begins a second one",
        "lines": {split: len(found) for split, found in divided_lines.items()},
        "words": {split: len(found) for split, found in divided_words.items()},
        "writers": {
            split: len({person(w.writer) for w in divided_lines[split] + divided_words[split]})
            for split in SPLITS
        },
    }
    return WritingData(divided_lines, divided_words, facts)


def person(writer: str) -> str:
    """Who is behind a writer's name.

    UNIPEN names a writer "source/name"; the same name in another source, with a session's number
    at its end or a disk's number before it, is the same person.
    """
    return re.sub(r"^d\d_|_\d$", "", writer.rpartition("/")[2]).lower()


def split_by_writer(people: Sequence[str], writers: Sequence[str], seed: int) -> dict[str, str]:
    """Gives every person to a split, balanced by number of samples within every source.

    Args:
        people: of every sample, the person.
        writers: of every sample, the writer's name as "source/name", or without a source.
        seed: of the order in which persons are considered.

    Returns:
        the split of every person. At least one person is in each.
    """
    samples = Counter(people)
    sources: dict[str, set[str]] = {}
    seen: set[str] = set()
    for who, writer in zip(people, writers, strict=True):
        if who not in seen:
            seen.add(who)
            sources.setdefault(writer.partition("/")[0] if "/" in writer else "", set()).add(who)
    rng = np.random.default_rng([seed, 77])
    place = dict.fromkeys(sorted(seen), "train")
    room = {"test": 0.0, "validation": 0.0}
    shares = {"test": 0.15, "validation": 0.07}
    for source in sorted(sources):
        names = sorted(sources[source])
        total = sum(samples[name] for name in names)
        for split, share in shares.items():
            room[split] += share * total
        for index in rng.permutation(len(names)):
            name = names[index]
            for split in shares:
                if place[name] == "train" and samples[name] <= room[split]:
                    place[name] = split
                    room[split] -= samples[name]
    for split in shares:  # with very few persons none may have fitted
        if split not in place.values():
            free = [name for name in place if place[name] == "train"]
            place[min(free, key=lambda name: (samples[name], name))] = split
    return place


# ------------------------------------------------------------------------------- geometry


def to_strokes(points: np.ndarray) -> list[np.ndarray]:
    """Cuts points (N, 3) at the lifts into arrays (n, 2)."""
    ends = np.flatnonzero(points[:, 2] > 0.5)[:-1] + 1
    return np.split(points[:, :2], ends)


def from_strokes(strokes: Strokes) -> np.ndarray:
    """Joins strokes (n, 2) into points, float32 (N, 3)."""
    xy = np.concatenate([np.asarray(stroke, np.float32).reshape(-1, 2) for stroke in strokes])
    points = np.column_stack([xy, np.zeros(len(xy), np.float32)])
    points[np.cumsum([len(stroke) for stroke in strokes]) - 1, 2] = 1
    return points


def to_offsets(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) as float32 (N, 3): dx and dy from the point before, lift after the point.

    The first offset is (0, 0).
    """
    offsets = points.astype(np.float32, copy=True)
    offsets[1:, :2] = np.diff(points[:, :2], axis=0)
    offsets[0, :2] = 0
    return offsets


def to_points(offsets: np.ndarray) -> np.ndarray:
    """The inverse of `to_offsets`: positions, where the first offset is taken from (0, 0)."""
    points = offsets.astype(np.float64)
    points[:, :2] = np.cumsum(points[:, :2], axis=0)
    return points.astype(np.float32)


def without_repeats(points: np.ndarray) -> np.ndarray:
    """Leaves out points that lie where the point before of the same stroke does."""
    return pen_paths.without_repeats(points, _size(points))[0]


def core_height(points: np.ndarray) -> float:
    """The height of small letters, in the points' units; see `pen_paths.core_heights`."""
    return float(pen_paths.core_heights(points, _size(points))[0])


def normalised(points: np.ndarray) -> np.ndarray:
    """Brings a writing to core height 1, its first point to (0, 0), and a wide one level.

    Returns:
        float32 (N, 3).
    """
    return pen_paths.normalised(points, _size(points))


def resampled(points: np.ndarray, step: float, least: int = 1) -> np.ndarray:
    """Points at equal distances along every stroke, which keeps its first and last point.

    Args:
        points: (N, 3).
        step: distance in the points' units; a stroke's own is the next smaller one that divides
            its length. After `normalised` it is a share of the core height.
        least: points that every stroke has at least; those of a dot lie in one place.

    Returns:
        float32 (M, 3).
    """
    return pen_paths.resampled(points, _size(points), step, least)[0]


def prepared(writing: Writing, step: float, least: int = 1) -> Writing:
    """A writing at core height 1, level, resampled at `step` core heights; see `resampled`."""
    return prepared_all([writing], step, least)[0]


def prepared_all(writings: Sequence[Writing], step: float, least: int = 1) -> list[Writing]:
    """`prepared` of many writings, in a fraction of the time."""
    found: list[Writing] = []
    for some in _portions(writings):
        points = np.concatenate([one.points for one in some])
        sizes = np.array([len(one.points) for one in some])
        points, sizes = pen_paths.without_repeats(points, sizes)
        points, sizes = pen_paths.resampled(pen_paths.normalised(points, sizes), sizes, step, least)
        cut = np.split(points, np.cumsum(sizes)[:-1])
        found += [replace(one, points=part) for one, part in zip(some, cut, strict=True)]
    return found


def _portions(writings: Sequence[Writing]) -> Iterator[list[Writing]]:
    """Runs of writings of about `_PORTION` points."""
    some: list[Writing] = []
    count = 0
    for one in writings:
        some.append(one)
        count += len(one.points)
        if count > _PORTION:
            yield some
            some, count = [], 0
    if some:
        yield some


def _size(points: np.ndarray) -> np.ndarray:
    return np.array([len(points)])


def begins_second_line(points: np.ndarray) -> bool:
    """Whether the pen, once lifted, goes back to the left and on below what it wrote."""
    return len(_line_starts(points)) > 1


def lines_of(points: np.ndarray) -> list[np.ndarray]:
    """Cuts a writing (N, 3) where a new line begins, judged by the pen's path alone."""
    return np.split(points, _line_starts(points)[1:])


def _line_starts(points: np.ndarray) -> list[int]:
    """The points that begin a line, the first one included."""
    ends = np.flatnonzero(points[:, 2] > 0.5)
    if len(ends) < 2:
        return [0]
    height = core_height(points)
    starts = np.concatenate([[0], ends[:-1] + 1])
    centre = np.add.reduceat(points[:, :2].astype(np.float64), starts, axis=0)
    centre /= np.diff(np.concatenate([starts, [len(points)]]))[:, None]
    back = (centre[:-1, 0] - centre[1:, 0]) / height
    found, first = [0], 0
    for index in (np.flatnonzero(back > 0) + 1).tolist():
        below = (centre[index, 1] - centre[first:index, 1].max()) / height
        if below > 3 or (below > 1.5 and back[index - 1] > 2.5):
            found.append(int(starts[index]))
            first = index
    return found
