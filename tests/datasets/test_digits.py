"""Digits on canvases: drawn as the rules say, each from its seed and number alone."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from eightbit.datasets.digits import (
    SIDE,
    Canvas,
    DigitSplit,
    Distortion,
    draw,
    grey,
    read_digits,
    uniform,
)
from eightbit.errors import UsageError

COUNT = 40


@pytest.fixture
def digits() -> DigitSplit:
    rng = np.random.default_rng(0)
    ink = np.zeros((COUNT, SIDE, SIDE), np.uint8)
    ink[:, 4:24, 4:24] = rng.integers(1, 256, (COUNT, 20, 20))
    names = tuple(str(i) for i in range(COUNT))
    return DigitSplit(torch.from_numpy(ink), torch.arange(COUNT) % 10, names)


def test_random_numbers_follow_from_seed_and_number_alone():
    many = uniform(3, np.arange(5000), 7)
    assert np.array_equal(many[[17, 4999]], uniform(3, np.array([17, 4999]), 7))
    assert np.array_equal(many[:, :3], uniform(3, np.arange(5000), 3))
    assert not np.array_equal(many, uniform(4, np.arange(5000), 7))
    assert many.min() >= 0 and many.max() < 1
    counts = np.histogram(many, bins=20)[0]
    expected = many.size / 20  # chi-square with 19 degrees: 43.8 is exceeded once in a thousand
    assert ((counts - expected) ** 2 / expected).sum() < 43.8
    correlations = np.corrcoef(many.T) - np.eye(7)
    assert np.abs(correlations).max() < 0.06
    assert abs(np.corrcoef(many[:-1, 0], many[1:, 0])[0, 1]) < 0.05


def test_a_drawing_does_not_depend_on_the_others(digits):
    canvas, distortion = Canvas(60, 4), Distortion(10, 0.1, 0.1, 1, 1)
    chosen, numbers = np.arange(COUNT) % COUNT, np.arange(COUNT) * 7
    whole = draw(digits, chosen, numbers, 1, canvas, distortion)
    assert whole.shape == (COUNT, 1, 60, 60) and whole.dtype == torch.uint8
    alone = draw(digits, chosen[5:6], numbers[5:6], 1, canvas, distortion)
    assert torch.equal(whole[5:6], alone)
    assert not torch.equal(whole, draw(digits, chosen, numbers + 1, 1, canvas, distortion))
    assert not torch.equal(whole, draw(digits, chosen, numbers, 2, canvas, distortion))


def test_static_digits_are_those_of_the_data(digits):
    chosen = np.array([3, 1, 3])
    found = draw(digits, chosen, np.arange(3), 0, Canvas())
    assert torch.equal(found[:, 0], digits.pictures[torch.from_numpy(chosen)])


def test_a_translated_digit_lies_whole_and_anywhere(digits):
    pages = draw(digits, np.full(2000, 2), np.arange(2000), 0, Canvas(60))[:, 0].numpy()
    ink = digits.pictures[2].numpy()[4:24, 4:24]
    corners = []
    for page in pages:
        rows, columns = np.flatnonzero(page.any(1)), np.flatnonzero(page.any(0))
        corners.append((rows[0], columns[0]))
        assert np.array_equal(page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], ink)
    found = np.array(corners) - 4
    assert found.min() == 0 and found.max() == 60 - SIDE
    counts = np.array([np.bincount(found[:, axis], minlength=33) for axis in (0, 1)])
    expected = 2000 / 33
    assert (((counts - expected) ** 2 / expected).sum(1) < 62.5).all()  # 32 degrees, 0.001


def test_clutter_is_cut_from_digits_and_hides_no_ink(digits):
    plain = draw(digits, np.arange(COUNT), np.arange(COUNT), 0, Canvas(60))
    strewn = draw(digits, np.arange(COUNT), np.arange(COUNT), 0, Canvas(60, clutter=4, piece=8))
    assert (strewn >= plain).all()
    added = ((strewn > plain).sum((1, 2, 3)) / 64).numpy()
    assert 1 < added.mean() < 4 and added.max() <= 4
    blank = DigitSplit(digits.pictures.clone(), digits.labels, digits.names)
    blank.pictures[1:] = 0  # only pieces of the first digit show
    first = np.zeros(4000, np.int64), np.arange(4000), 0
    changed = draw(blank, *first, Canvas(60, clutter=1)) > draw(blank, *first, Canvas(60))
    share = changed.flatten(1).any(1).double().mean().item()
    assert 0.3 / COUNT < share < 1.4 / COUNT  # some hide behind the digit or are cut beside it


def test_a_turn_is_that_of_opencv(digits):
    """The distortion's affine part beside cv2.warpAffine of the same angle."""
    smooth = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    smooth[0, 8:20, 6:14] = 200
    one = DigitSplit(smooth, torch.zeros(1, dtype=torch.int64), ("a",))
    drawn = draw(one, np.zeros(50, np.int64), np.arange(50), 0, Canvas(), Distortion(turn=40))
    angles = 40 * (2 * uniform(0, np.arange(50), 1)[:, 0] - 1)
    centre = ((SIDE - 1) / 2, (SIDE - 1) / 2)
    for page, angle in zip(drawn[:, 0].numpy(), angles, strict=True):
        matrix = cv2.getRotationMatrix2D(centre, angle, 1.0)
        wanted = cv2.warpAffine(smooth[0].numpy(), matrix, (SIDE, SIDE))
        assert np.abs(page.astype(int) - wanted.astype(int)).mean() < 1.0


def test_no_distortion_changes_nothing_and_shift_moves(digits):
    chosen = numbers = np.arange(COUNT)
    plain = draw(digits, chosen, numbers, 0, Canvas())
    assert torch.equal(plain, draw(digits, chosen, numbers, 0, Canvas(), Distortion()))
    dot = DigitSplit(torch.zeros(1, SIDE, SIDE, dtype=torch.uint8), digits.labels[:1], ("a",))
    dot.pictures[0, 12:16, 12:16] = 255
    moved = draw(dot, np.zeros(300, np.int64), np.arange(300), 0, Canvas(), Distortion(shift=3))
    mass = moved[:, 0].double()
    rows = (mass.sum(2) * torch.arange(SIDE)).sum(1) / mass.sum((1, 2)) - 13.5
    assert rows.min() < -2.7 and rows.max() > 2.7 and rows.abs().max() < 3.1
    assert abs(rows.mean()) < 0.4


def test_grey_is_luma():
    rgb = torch.tensor([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 0]], dtype=torch.uint8)
    found = grey(rgb.T[None, :, :, None])
    assert found.shape == (1, 4, 1) and found.flatten().tolist() == [255, 77, 149, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Canvas(20), "does not hold a digit"),
        (lambda: Canvas(60, -1), "cannot be drawn"),
        (lambda: Canvas(60, 2, 40), "cannot be drawn"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_mnist_test_is_cut_as_stated():
    root = os.environ.get("EIGHTBIT_DATA")
    if root is None or not Path(root, "mnist_test").is_dir():
        pytest.skip("EIGHTBIT_DATA holds no mnist_test")
    found = read_digits("mnist_test", 0)
    assert found.classes == tuple("0123456789")
    assert {name: len(part.labels) for name, part in found.splits.items()} == {
        "train": 8000,
        "test": 2000,
    }
    assert "first 8000" in found.facts["split"]
    assert found.splits["train"].labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert found.splits["train"].pictures.max() == 255
