"""Features, augmentation and batches of the recognizer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from eightbit.datasets.stroke_files import write_stroke_file
from eightbit.datasets.strokes import Writing, from_strokes
from eightbit.errors import DataError, UsageError
from eightbit.sequence_tasks.read_handwriting.augment import augmented
from eightbit.sequence_tasks.read_handwriting.data import build_data, ready
from eightbit.sequence_tasks.read_handwriting.model import (
    FEATURES,
    build_model,
    padded,
    path_features,
)
from eightbit.sequence_tasks.read_handwriting.options import ReadHandwritingOptions
from eightbit.sequence_tasks.read_handwriting.reading import read_lines
from eightbit.sequence_tasks.read_handwriting.scores import drawn

TINY = ReadHandwritingOptions(
    channels=8, backbone_options='{"hidden": 8, "bidirectional": true}', fewest=1
)


def scribble(rng: np.random.Generator, strokes: int = 4) -> np.ndarray:
    return from_strokes([rng.normal(0, 9, (8, 2)).cumsum(0) for _ in range(strokes)])


def own_data(folder: Path, count: int = 24) -> Path:
    rng = np.random.default_rng(0)
    writings = [Writing(scribble(rng), f"ab {k % 3}", f"w{k % 8}") for k in range(count)]
    write_stroke_file(folder / "own.jsonl", writings)
    return folder / "own.jsonl"


def slow_features(points: np.ndarray) -> np.ndarray:
    """Point by point, from the docstring."""
    count = len(points)
    rows = np.zeros((count, FEATURES))
    move = [np.zeros(2)] + [points[i, :2] - points[i - 1, :2] for i in range(1, count)]
    unit = [m / max(math.hypot(*m), 1e-6) for m in move] + [np.zeros(2)]
    for i in range(count):
        air = i > 0 and points[i - 1, 2] > 0.5
        around = points[max(0, i - 64) : i + 65, 1].mean()
        (a, b), (c, d) = unit[i], unit[i + 1]
        rows[i] = [
            0 if air else a,
            0 if air else b,
            0 if air else min(3.0, 3 * math.hypot(*move[i])),
            air,
            math.asinh(move[i][0]) if air else 0,
            math.asinh(move[i][1]) if air else 0,
            points[i, 2],
            a * c + b * d,
            a * d - b * c,
            np.clip(points[i, 1] - around, -4, 4),
            max(-8.0, points[i, 0] - points[: i + 1, 0].max()) / 4,
        ]
    return rows


def test_features_equal_a_loop_over_points() -> None:
    rng = np.random.default_rng(1)
    paths = ready([Writing(scribble(rng, k)) for k in (1, 3, 9)], TINY)
    points, lengths = padded([one.points for one in paths])
    found = path_features(torch.from_numpy(points), torch.from_numpy(lengths)).numpy()
    for row, one in zip(found, paths, strict=True):
        assert np.allclose(row[: len(one.points)], slow_features(one.points), atol=2e-4)
        assert (row[len(one.points) :] == 0).all()


def test_a_row_does_not_depend_on_the_others_nor_on_what_lies_beyond_it() -> None:
    rng = np.random.default_rng(2)
    paths = [one.points for one in ready([Writing(scribble(rng, k)) for k in (2, 5)], TINY)]
    points, lengths = (torch.from_numpy(part) for part in padded(paths))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(TINY, {"alphabet": ["a", "b", " "]}).eval()
    with torch.no_grad():
        both, frames = model(points, lengths)
        points[0, int(lengths[0]) :] = 7
        alone, _ = model(points[:1], lengths[:1])
    assert both.shape == (2, points.shape[1] // 2, 4) and frames.tolist() == [
        -(-int(n) // 2) for n in lengths
    ]
    assert torch.allclose(both[0], alone[0], atol=1e-5)
    assert torch.allclose(both.exp().sum(-1), torch.ones(both.shape[:2]), atol=1e-5)


def test_augmentation_keeps_strokes_and_is_repeatable() -> None:
    rng = np.random.default_rng(3)
    paths = [one.points for one in ready([Writing(scribble(rng, k)) for k in (2, 6)], TINY)]
    points, lengths = padded(paths)
    made, new = augmented(points.copy(), lengths, 1.0, np.random.default_rng(5))
    again, same = augmented(points.copy(), lengths, 1.0, np.random.default_rng(5))
    assert np.array_equal(made, again) and np.array_equal(new, same)
    assert made.dtype == np.float32 and np.isfinite(made).all()
    assert (new <= lengths).all() and (new < lengths).any()
    for row, path in enumerate(paths):
        assert made[row, :, 2].sum() == path[:, 2].sum(), "no stroke is lost"
        assert made[row, new[row] - 1, 2] == 1 and (made[row, new[row] :] == 0).all()
    kept, _ = augmented(points.copy(), lengths, 0.0, np.random.default_rng(5))
    assert np.array_equal(kept, points)


def test_words_of_a_writer_stand_side_by_side_once_an_epoch(tmp_path: Path) -> None:
    from eightbit.sequence_tasks.read_handwriting.data import Batches

    rng = np.random.default_rng(4)
    words = ready([Writing(scribble(rng), "ab", f"w{k % 3}") for k in range(30)], TINY)
    lines = ready([Writing(scribble(rng), "b a", "w9") for _ in range(5)], TINY)
    batches = Batches(lines, words, [" ", "a", "b"], TINY, seed=1)
    size = 4
    first = -(-35 // size)
    per_epoch = -(-batches.examples // size)
    seen = [batches(step, size) for step in range(first)]
    assert [int(b["lengths"].max()) for b in seen[:3]] < [
        int(b["lengths"].max()) for b in seen[-3:]
    ]
    texts: list[tuple[int, ...]] = []
    for step in range(first, first + per_epoch):
        batch = batches(step, size)
        assert batch["points"].shape[1] % 32 == 0 and batch["points"].dtype == torch.float32
        for row, count in zip(batch["labels"].tolist(), batch["label_lengths"], strict=True):
            texts.append(tuple(row[: int(count)]))
            assert not any(row[int(count) :])
    extra = per_epoch * size - batches.examples
    assert sum(text.count(3) for text in texts) >= 35
    assert len(texts) == batches.examples + extra
    assert any(1 in text and text.count(2) > 1 for text in texts), "words are put in rows"


def test_own_strokes_are_enough_to_train_on(tmp_path: Path) -> None:
    data = build_data(TINY, str(own_data(tmp_path)), 0)
    assert data.facts["alphabet"] == [" ", "0", "1", "2", "a", "b"]
    assert data.examples == data.facts["lines"]["train"]
    batch = data.batch(3, 4)
    assert batch["labels"].max() <= 6
    rare = ReadHandwritingOptions(channels=8, backbone_options=TINY.backbone_options, fewest=500)
    with pytest.raises(DataError, match="no character is in the training texts 500 times"):
        build_data(rare, str(own_data(tmp_path)), 0)


def test_a_reading_does_not_depend_on_the_other_lines(tmp_path: Path) -> None:
    data = build_data(TINY, str(own_data(tmp_path)), 0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build_model(TINY, data.facts).eval()
    lines = data.splits["train"]
    together = read_lines(model, lines, data.facts["alphabet"], TINY)
    alone = [read_lines(model, [one], data.facts["alphabet"], TINY)[0] for one in lines]
    assert [one.text for one in together] == [one.text for one in alone]
    assert all(0 <= one.confidence <= 1 for one in together)
    assert read_lines(model, [], data.facts["alphabet"], TINY) == []


def test_a_line_is_drawn_as_dark_on_white() -> None:
    picture = drawn(Writing(scribble(np.random.default_rng(6))))
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.shape[0] <= 65
    assert picture.max() == 255 and picture.min() < 80
    assert drawn(Writing(from_strokes([[[3, 3]]]))).min() < 80, "a dot is seen"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"step": 0.0}, "step is 0.0"),
        ({"channels": 12}, "multiple of 8"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must lie in \[0, 1\)"),
        ({"beam": 0}, "beam is 0"),
        ({"language": 4.0}, "language is 4.0"),
        ({"backbone_options": "[]"}, "backbone_options"),
    ],
)
def test_options_that_make_no_sense_are_refused(change: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ReadHandwritingOptions(**change)


def test_a_trunk_that_reads_no_sequences_is_refused() -> None:
    options = ReadHandwritingOptions(backbone="mlp", backbone_options="{}")
    with pytest.raises(UsageError, match="mlp is no recurrent backbone"):
        build_model(options, {"alphabet": ["a"]})
