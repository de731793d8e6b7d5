"""Batches of training pictures: pure, complete, fast, and changed as the papers say."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eightbit.datasets.pictures import write_picture
from eightbit.errors import UsageError
from eightbit.vision_tasks.classify.augment import (
    Example,
    augment,
    changed_colours,
    cut_out,
    mirrored,
    mixed,
    pasted,
    principal_colours,
    shifted,
    zoomed,
)
from eightbit.vision_tasks.classify.data import Batches, Split, build_data
from eightbit.vision_tasks.classify.operations import OPERATIONS, random_operations
from eightbit.vision_tasks.classify.options import ClassifyOptions

PLAIN = ClassifyOptions(shift=0, flip="none", label_smoothing=0.0, views="one")
EVERYTHING = replace(
    PLAIN,
    flip="random",
    zoom=0.5,
    pca_colour=0.1,
    light=0.3,
    cutout=8,
    mixup=0.2,
    random_operations=2,
    label_smoothing=0.1,
)


def _pictures(count: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def _split(count: int, side: int = 32) -> Split:
    labels = torch.arange(count) % 3
    return Split(_pictures(count, side), labels, tuple(map(str, range(count))), "one", side)


def _chosen(count: int, flipped: np.ndarray | None = None) -> Example:
    flags = np.zeros(count, dtype=bool) if flipped is None else flipped
    return Example(np.arange(count), torch.arange(count) % 3, flags)


@pytest.mark.parametrize("options", [ClassifyOptions(), EVERYTHING])
def test_a_batch_follows_from_seed_and_step_alone(options):
    split = _split(50)
    first, again = (Batches(split, options, 3, seed=4) for _ in range(2))
    want = [first.batch(step, 16) for step in range(8)]
    for step in (7, 0, 3):
        got = again.batch(step, 16)
        for key in ("pictures", "targets", "smoothed"):
            assert torch.equal(got[key], want[step][key])
    other = Batches(split, options, 3, seed=5).batch(0, 16)
    assert not torch.equal(other["pictures"], want[0]["pictures"])


@given(count=st.integers(1, 40), size=st.integers(1, 33))
@settings(max_examples=25, deadline=None)
def test_every_epoch_shows_every_picture_once(count, size):
    split = _split(count, side=4)
    batches = Batches(split, replace(PLAIN, size=4), 3, seed=0)
    seen = torch.cat([batches.batch(step, size)["pictures"] for step in range(3 * count)])
    for epoch in range(min(3, len(seen) // count)):
        shown = seen[epoch * count : (epoch + 1) * count].flatten(1)
        assert sorted(map(bytes, shown.numpy())) == sorted(
            map(bytes, split.pictures.flatten(1).numpy())
        )


def test_alternating_flips_show_both_sides_in_any_two_epochs():
    split = _split(30)
    batches = Batches(split, replace(PLAIN, flip="alternating"), 3, seed=0)
    plain = {bytes(p): i for i, p in enumerate(split.pictures.flatten(1).numpy())}
    turned = {bytes(p): i for i, p in enumerate(split.pictures.flip(3).flatten(1).numpy())}
    sides = []
    for epoch in range(4):
        shown = [bytes(p) for p in batches.batch(epoch, 30)["pictures"].flatten(1).numpy()]
        assert all((p in plain) != (p in turned) for p in shown)
        sides.append({plain[p] for p in shown if p in plain})
    assert sides[0] == sides[2] != set(range(30))
    assert sides[1] == sides[3] == set(range(30)) - sides[0]


@given(side=st.integers(1, 9), rim=st.integers(0, 8))
def test_mirroring_is_that_of_numpy(side, rim):
    want = np.pad(np.arange(side), rim, mode="reflect" if side > 1 else "edge")
    np.testing.assert_array_equal(mirrored(np.arange(-rim, side + rim), side), want)


def test_a_shifted_picture_is_a_window_of_the_padded_one(rng):
    options = replace(PLAIN, size=12, crop=10, shift=3)
    pictures = _pictures(40, 12)
    flipped = rng.integers(0, 2, 40).astype(bool)
    got = shifted(pictures, np.arange(40), flipped, options, rng).numpy()
    places = set()
    for picture, turned, window in zip(pictures.numpy(), flipped, got, strict=True):
        padded = np.pad(picture, ((0, 0), (3, 3), (3, 3)), mode="reflect")
        found = [
            (i, j)
            for i in range(9)
            for j in range(9)
            if np.array_equal(
                padded[:, i : i + 10, j : j + 10], window[:, :, ::-1] if turned else window
            )
        ]
        assert len(found) == 1
        places.add(found[0])
    assert {i for i, _ in places} == {j for _, j in places} == set(range(9))


class Middle:
    """Draws the middle of every range."""

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        return np.full(size, (low + high) / 2)


def test_a_zoom_of_nothing_is_the_picture_itself(rng):
    pictures = _pictures(6)
    flipped = np.array([True, False] * 3)
    # At an area of 1 only the ratio changes; it is 1 for all when no randomness is left.
    still = type(
        "Still", (), {"uniform": lambda _, low, high, size: np.full(size, (low + high) / 2)}
    )
    got = zoomed(pictures, np.arange(6), flipped, replace(PLAIN, zoom=1.0), still())
    want = torch.where(torch.from_numpy(flipped)[:, None, None, None], pictures.flip(3), pictures)
    assert torch.equal(got, want)


def test_a_zoom_shows_no_less_than_it_says(rng):
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(200, 3, 32, 32).contiguous()
    options = replace(PLAIN, zoom=0.5)
    got = zoomed(ramp, np.arange(200), np.zeros(200, bool), options, rng).float()
    shown = (got[:, 0, 0, -1] - got[:, 0, 0, 0]) / (8 * 31)
    assert 0.5 * 0.75**0.5 < shown.min() < 0.8
    assert shown.max() <= 1


def test_principal_colours_are_those_of_numpy_and_noise_follows_them(rng):
    pictures = (_pictures(300, 8).float() * torch.tensor([1, 0.5, 0.2])[:, None, None]).byte()
    colours = principal_colours(pictures)
    pixels = pictures.permute(0, 2, 3, 1).reshape(-1, 3).numpy() / 255
    want = np.linalg.svd(pixels - pixels.mean(0), compute_uv=False)[::-1] / np.sqrt(len(pixels) - 1)
    np.testing.assert_allclose(colours.deviations, want, rtol=1e-4)
    grey = torch.full((20_000, 3, 1, 1), 128, dtype=torch.uint8)
    moved = changed_colours(grey, colours, 0.1, rng).flatten(1).numpy() / 255
    np.testing.assert_allclose(
        np.cov(moved.T),
        0.01 * np.cov(pixels.T),
        atol=0.04 * 0.01 * pixels.var() + (1 / 255) ** 2 / 12 * 2,
    )


@pytest.mark.parametrize("change", [mixed, pasted])
def test_mixed_targets_stay_probabilities_and_follow_the_pixels(change, rng):
    white, black = (torch.full((1, 3, 16, 16), value, dtype=torch.uint8) for value in (255, 0))
    x = torch.cat([white, black] * 50)
    targets = torch.eye(2).repeat(50, 1)
    pixels, found = change(x, targets, 1.0, rng)
    torch.testing.assert_close(found.sum(1), torch.ones(100))
    # The share of white is the share of the first class.
    torch.testing.assert_close(
        pixels.float().mean(dim=(1, 2, 3)) / 255, found[:, 0], atol=2e-3, rtol=0
    )
    assert 0.05 < found[:, 0].std() < 0.5


def test_a_cut_square_is_a_square(rng):
    x = torch.full((4_000, 3, 16, 16), 200, dtype=torch.uint8)
    holes = cut_out(x, 6, rng) == 128
    assert torch.equal(holes[:, 0], holes[:, 2])
    area = holes[:, 0].sum(dim=(1, 2))
    assert area.max() == 36
    assert area.min() == 9  # a corner: the centre is always inside
    heights = holes[:, 0].any(2).sum(1)
    assert torch.equal(area, heights * holes[:, 0].any(1).sum(1))


def test_operations_of_no_strength_change_nothing():
    x = _pictures(4).float()
    for operation in OPERATIONS:
        torch.testing.assert_close(operation(x, torch.zeros(4)), x, atol=0.01, rtol=0)


def test_operations_change_each_picture_differently(rng):
    x = _pictures(1).repeat(60, 1, 1, 1)
    got = random_operations(x, 2, 0.5, rng)
    assert got.dtype == torch.uint8
    assert len({bytes(p) for p in got.flatten(1).numpy()}) > 50


def test_light_changes_are_within_their_range(rng):
    grey = torch.full((400, 3, 2, 2), 100, dtype=torch.uint8)
    options = replace(PLAIN, size=2, light=0.2)
    got = augment(grey, _chosen(400), options, 3, None, rng)["pictures"].float()
    assert 80 <= got.min() < 84
    assert 116 < got.max() <= 120
    assert torch.equal(got.amin(dim=(1, 2, 3)), got.amax(dim=(1, 2, 3)))  # grey stays grey


def test_smoothed_targets(rng):
    options = replace(PLAIN, label_smoothing=0.3)
    batch = augment(_pictures(3), _chosen(3), options, 3, None, rng)
    torch.testing.assert_close(batch["targets"], torch.eye(3))
    torch.testing.assert_close(batch["smoothed"], torch.eye(3) * 0.7 + 0.1)


def test_batches_are_made_faster_than_they_are_learnt():
    batches = Batches(_split(5_000), ClassifyOptions(), 10, seed=0)
    batches.batch(0, 1024)
    began = time.process_time()
    for step in range(1, 6):
        batches.batch(step, 1024)
    assert 5 * 1024 / (time.process_time() - began) > 5_000


# --------------------------------------------------------------------------------- build_data


@pytest.fixture
def folders(tmp_path, rng):
    """A folder per class with 20 pictures each for training and 5 for the test."""
    for split, count in (("train", 20), ("test", 5)):
        for name, shade in (("dark", 40), ("light", 200), ("middle", 120)):
            for index in range(count):
                noise = rng.integers(-30, 30, (12, 14, 3))
                rgb = np.clip(shade + noise, 0, 255).astype(np.uint8)
                write_picture(tmp_path / split / name / f"{index}.png", rgb)
    return tmp_path


def test_a_share_of_each_class_is_held_out_and_the_test_is_left_alone(folders):
    data = build_data(replace(PLAIN, size=12, validation=0.2), str(folders), seed=0)
    assert data.examples == 48
    parts = {name: len(split.labels) for name, split in data.splits.items()}
    assert parts == {"train": 48, "validation": 12, "test": 15}
    names = {name: set(split.names) for name, split in data.splits.items()}
    assert not names["train"] & names["validation"]
    assert torch.bincount(data.splits["validation"].labels).tolist() == [4, 4, 4]
    assert data.facts["classes"] == ["dark", "light", "middle"]
    assert data.facts["training_counts"] == [16, 16, 16]
    batch = data.batch(0, 7)
    assert batch["pictures"].shape == (7, 3, 12, 12)
    assert batch["targets"].shape == (7, 3)
    # The pictures and labels belong together.
    shade = data.splits["train"].pictures.float().mean(dim=(1, 2, 3))
    labels = data.splits["train"].labels
    assert shade[labels == 0].max() < shade[labels == 2].min() < shade[labels == 1].min()


def test_no_share_leaves_no_validation(folders):
    data = build_data(replace(PLAIN, size=12, validation=0.0), str(folders), seed=0)
    assert set(data.splits) == {"train", "test"}
    assert data.examples == 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 40}, "crop of 40 pixels does not fit pictures of 32"),
        ({"shift": 32}, "shift is 32"),
        ({"zoom": 0.0}, "zoom is 0.0"),
        ({"mixup": 0.2, "cutmix": 1.0}, "mixup and cutmix exclude"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"head_scale": 0.0}, "head_scale is 0.0"),
        ({"magnitude": 2.0}, "magnitude is 2.0"),
        ({"pca_colour": -0.1}, "pca_colour is -0.1"),
        ({"backbone_options": "[1]"}, "must be a JSON object"),
        ({"backbone_options": "{"}, "backbone_options is not JSON"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_a_sentence(changes, message):
    with pytest.raises(UsageError, match=message):
        ClassifyOptions(**changes)
