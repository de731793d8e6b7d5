"""Training batches: boxes follow their pixels, order and chance follow from seed and step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.datasets.boxes import BoxedPicture
from eightbit.vision_tasks.detect import data
from eightbit.vision_tasks.detect.augment import Changes, Example, augmented, recoloured
from eightbit.vision_tasks.detect.data import (
    Batches,
    boxes_in_input,
    input_size,
    load_example,
    transposed,
)
from eightbit.vision_tasks.detect.letterbox import GREY
from eightbit.vision_tasks.detect.options import DetectOptions

STILL = Changes(mirror=False, upside_down=False, zoom=1.0, mosaic=0.0, colour=0.0)
TURNED = Changes(mirror=True, upside_down=True, zoom=1.5, mosaic=0.5, colour=0.0)


def _squares(seed: int, height: int = 120, width: int = 160) -> Example:
    """A black picture with a white and a red rectangle that do not touch."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for index, colour in enumerate(((255, 255, 255), (255, 0, 0))):
        x, y = int(rng.integers(0, width // 2 - 40)) + index * width // 2, int(rng.integers(0, 60))
        w, h = rng.integers(20, 40, 2).tolist()
        picture[y : y + h, x : x + w] = colour
        boxes.append((x, y, x + w, y + h))
    return Example(picture, np.array(boxes, np.float32), np.array([0, 1]))


def _boxed(example: Example, name: str = "one", difficult: bool = False) -> BoxedPicture:
    height, width = example.picture.shape[:2]
    return BoxedPicture(
        name,
        lambda: example.picture,
        width,
        height,
        example.boxes,
        example.labels,
        np.full(len(example.labels), difficult),
    )


def _extent(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_boxes_stay_around_their_rectangles(seed: int, standing: bool) -> None:
    example = _squares(seed)
    size = (80, 60) if standing else (60, 80)
    example = transposed(example) if standing else example
    got = augmented([example], size, TURNED, np.random.default_rng(seed))
    assert got.picture.shape == (*size, 3) and got.picture.dtype == np.uint8
    red = (got.picture[..., 0].astype(int) - got.picture[..., 1]) > 127
    white = got.picture.min(-1) > 160
    for box, label in zip(got.boxes, got.labels, strict=True):
        assert box.min() >= 0 and box[2] <= size[1] and box[3] <= size[0]
        assert np.abs(np.array(_extent((white, red)[label])) - box).max() <= 1.01


def test_unchanged_pictures_are_only_scaled() -> None:
    example = _squares(1)
    got = augmented([example], (60, 80), STILL, np.random.default_rng(0))
    assert np.allclose(got.boxes, example.boxes / 2)
    same = augmented([example], (120, 160), STILL, np.random.default_rng(0))
    assert np.array_equal(same.picture, example.picture)
    wide = augmented([example], (120, 320), STILL, np.random.default_rng(0))
    columns = (wide.picture == GREY).all(-1).all(0).sum()  # two may be mixed with the picture
    assert 158 <= columns <= 160


def test_a_mosaic_shows_parts_of_four_pictures() -> None:
    examples = []
    for value in (10, 60, 110, 160):
        picture = np.full((60, 80, 3), value, np.uint8)
        examples.append(
            Example(picture, np.array([[0.0, 0, 80, 60]], np.float32), np.array([value]))
        )
    got = augmented(examples, (60, 80), STILL, np.random.default_rng(0))
    assert np.unique(got.picture).tolist() == [10, 60, 110, 160]
    for box, label in zip(got.boxes, got.labels, strict=True):
        assert _extent((got.picture == label).all(-1)) == box.tolist()


def test_objects_of_which_little_remains_are_left_out() -> None:
    boxes = np.array([[0, 0, 40, 40], [70, 50, 80, 60]], np.float32)
    example = Example(np.zeros((60, 80, 3), np.uint8), boxes, np.array([0, 1]))
    shown = []
    for seed in range(60):
        changes = Changes(False, False, 3.0, 0.0, 0.0)
        got = augmented([example], (60, 80), changes, np.random.default_rng(seed))
        sides = got.boxes[:, 2:] - got.boxes[:, :2]
        assert (sides >= 2).all()
        shown.append(len(got.labels))
    assert set(shown) >= {1, 2}


def test_colours_change_a_little_and_boxes_do_not() -> None:
    picture = np.random.default_rng(0).integers(60, 180, (20, 20, 3), dtype=np.uint8)
    assert recoloured(picture, 0.0, np.random.default_rng(0)) is picture
    changed = recoloured(picture, 0.2, np.random.default_rng(0)).astype(int)
    difference = np.abs(changed - picture).mean()
    assert 1 < difference < 70
    grey = np.full((4, 4, 3), 128, np.uint8)  # without colour, hue and saturation do nothing
    assert np.ptp(recoloured(grey, 0.3, np.random.default_rng(1)).astype(int), axis=-1).max() <= 2


def _batches(count: int = 5, seed: int = 0, **options: Any) -> Batches:
    pictures = [_boxed(_squares(i), str(i)) for i in range(count)]
    return Batches(pictures, (60, 80), DetectOptions(size=80, **options), seed)


def test_a_batch_is_a_pure_function_of_seed_and_step() -> None:
    one, again, other = _batches()(3, 4), _batches()(3, 4), _batches(seed=1)(3, 4)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["boxes"][:, 0], other["boxes"][:, 0])
    assert one["pictures"].dtype == torch.uint8 and one["labels"].dtype == torch.int64
    assert one["pictures"].shape in ((4, 3, 60, 80), (4, 3, 80, 60))
    assert one["boxes"].shape == (*one["labels"].shape, 4)
    assert (one["boxes"][one["labels"] < 0] == 0).all()


def test_every_picture_comes_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = _batches(count=7, mosaic=0.0)
    seen: list[int] = []
    index: Callable[[Batches, int], int] = Batches._index
    monkeypatch.setattr(Batches, "_index", lambda self, p: seen.append(n := index(self, p)) or n)
    for step in range(7):
        batches(step, 3)
    epochs = [seen[i : i + 7] for i in range(0, 21, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_only_the_one_stage_network_gets_standing_pictures() -> None:
    shapes = {tuple(_batches()(step, 1)["pictures"].shape[2:]) for step in range(12)}
    assert shapes == {(60, 80), (80, 60)}
    for options in ({"method": "multibox"}, {"turns": "mirror"}):
        lying = {tuple(_batches(**options)(step, 1)["pictures"].shape[2:]) for step in range(12)}
        assert lying == {(60, 80)}


def test_pictures_too_many_for_the_memory_are_read_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = _batches()(2, 3)
    monkeypatch.setattr(data, "_MEMORY_SHARE", 0.0)
    batches = _batches()
    assert batches.store.examples is None
    read = batches(2, 3)
    assert all(torch.equal(kept[name], read[name]) for name in kept)


def test_loading_shrinks_pictures_and_boxes_and_drops_difficult_objects() -> None:
    example = _squares(2)
    half = load_example(_boxed(example), longest=80)
    assert half.picture.shape == (60, 80, 3)
    assert np.allclose(half.boxes, example.boxes / 2)
    assert np.array_equal(load_example(_boxed(example), longest=500).picture, example.picture)
    assert len(load_example(_boxed(example, difficult=True), longest=500).labels) == 0


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(480, 640)], (240, 320)),
        ([(640, 480)], (320, 240)),
        ([(100, 100)], (320, 320)),
        ([(300, 400)] * 3 + [(400, 100)], (240, 320)),
        ([(10, 1000)], (32, 320)),
    ],
)
def test_the_input_has_the_usual_shape_of_the_pictures(
    shapes: list[tuple[int, int]], size: tuple[int, int]
) -> None:
    assert input_size(shapes, 320) == size


def test_boxes_as_shares_of_the_input_regard_the_letterbox() -> None:
    example = Example(
        np.zeros((100, 50, 3), np.uint8), np.array([[0.0, 0, 50, 100]], np.float32), np.array([2])
    )
    shares, labels = boxes_in_input([_boxed(example)], (48, 64))
    assert shares[0].tolist() == pytest.approx([20 / 64, 0, 44 / 64, 1])
    assert labels.tolist() == [2] and labels.dtype == np.int64
    assert boxes_in_input([], (48, 64))[0].shape == (0, 4)
