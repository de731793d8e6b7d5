"""Pen strokes from files that other programs write: InkML and the paths of an SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...datasets.stroke_files import SUFFIXES, read_stroke_file, writing_of
from ...datasets.strokes import Writing
from ...errors import DataError

INK_SUFFIXES = (*SUFFIXES, ".inkml", ".svg")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_PATH = re.compile(r"([A-Za-z])([^A-Za-z]*(?:[eE][-+]?\d[^A-Za-z]*)*)")
_ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "Z": 0}
_CURVE_POINTS = 16


def read_ink(path: Path) -> list[Writing]:
    """The writings of a .json, .jsonl, .inkml or .svg file; an SVG or InkML file is one.

    Raises:
        DataError: it is missing, damaged, of another kind, or holds no strokes.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return read_stroke_file(path, need_text=False)
    if suffix not in INK_SUFFIXES:
        raise DataError(f"{path} is none of {', '.join(INK_SUFFIXES)}; write strokes as JSON.")
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} is not XML: {error}.") from None
    strokes = list(_traces(root) if suffix == ".inkml" else _svg_strokes(root, path))
    if not strokes:
        kind = "trace" if suffix == ".inkml" else "path, polyline or line"
        raise DataError(f"{path} holds no {kind} to read.")
    return [writing_of(strokes, str(path))]


def list_ink(path: Path) -> list[Path]:
    """A file itself, or all files of strokes below a folder, in order of their names."""
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in INK_SUFFIXES)
    if not files:
        raise DataError(f"{path} holds no files of strokes ({', '.join(INK_SUFFIXES)}).")
    return files


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _traces(root: ElementTree.Element) -> Iterator[list[list[float]]]:
    """InkML traces: points with commas between, their first two channels being x and y."""
    for element in root.iter():
        if _name(element) == "trace" and element.text:
            points = [_numbers(point) for point in element.text.split(",") if point.strip()]
            yield [point[:2] for point in points]


def _svg_strokes(root: ElementTree.Element, path: Path) -> Iterator[list[list[float]]]:
    for element in root.iter():
        kind = _name(element)
        if element.get("transform"):
            raise DataError(f"{path} has a transform; remove it (most editors can flatten it).")
        if kind == "path":
            yield from path_strokes(element.get("d") or "", str(path))
        elif kind in ("polyline", "polygon"):
            numbers = _numbers(element.get("points") or "")
            if len(numbers) >= 2:
                yield np.reshape(numbers[: len(numbers) // 2 * 2], (-1, 2)).tolist()
        elif kind == "line":
            ends = [float(element.get(key) or 0) for key in ("x1", "y1", "x2", "y2")]
            yield [ends[:2], ends[2:]]


def _numbers(text: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(text)]


def path_strokes(d: str, where: str) -> Iterator[list[list[float]]]:
    """The strokes of an SVG path; every move begins one, curves become 16 points each.

    Raises:
        DataError: an elliptic arc, or numbers that do not fit their command.
    """
    stroke: list[np.ndarray] = []
    at = handle = np.zeros(2)
    before = ""
    for letter, rest in _PATH.findall(d):
        command, relative = letter.upper(), letter.islower()
        size, numbers = _ARGUMENTS.get(command, -1), _numbers(rest)
        if size < 0 or (size == 0 and numbers) or (size and (not numbers or len(numbers) % size)):
            raise DataError(f"{where}: the path's command {letter}{rest.strip()} cannot be read.")
        for group in np.reshape(numbers, (-1, size)) if size else [np.zeros(0)]:
            if command == "M":
                if stroke:
                    yield [point.tolist() for point in stroke]
                at = group + at * relative
                stroke, command = [at], "L"  # more pairs after a move are lines
            elif command == "Z":
                stroke, at = [*stroke, stroke[0]] if stroke else stroke, stroke[0] if stroke else at
            else:
                points, handle = _segment(command, group, relative, at, handle, before)
                stroke += list(points)
                at = points[-1]
            before = command
    if stroke:
        yield [point.tolist() for point in stroke]


def _segment(
    command: str,
    group: np.ndarray,
    relative: bool,
    at: np.ndarray,
    handle: np.ndarray,
    before: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The points after `at` of one line or curve, and its last control point."""
    if command in "HV":
        end = at.copy()
        axis = "HV".index(command)
        end[axis] = group[0] + at[axis] * relative
        return end[None], end
    controls = group.reshape(-1, 2) + at * relative
    if command in "ST":
        follows = before in ("CS" if command == "S" else "QT")
        controls = np.concatenate([[2 * at - handle if follows else at], controls])
    if len(controls) == 1:
        return controls, controls[0]
    t = np.linspace(0, 1, _CURVE_POINTS + 1)[1:, None]
    points = np.concatenate([at[None], controls])
    level = [np.repeat(point[None], len(t), axis=0) for point in points]
    while len(level) > 1:  # de Casteljau
        level = [a + (b - a) * t for a, b in zip(level[:-1], level[1:], strict=True)]
    return level[0], controls[-2]
