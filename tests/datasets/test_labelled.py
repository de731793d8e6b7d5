"""Labelled pictures: class folders, CIFAR-10's and MNIST's own files, and wrong data."""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eightbit.datasets.jpeg import decode_quickly
from eightbit.datasets.labelled import LabelledPictures, fitted, read_labelled
from eightbit.datasets.pictures import decode_picture
from eightbit.datasets.splits import held_out_by_class
from eightbit.errors import DataError, MemoryBudgetError, UsageError

DATA = os.environ.get("EIGHTBIT_DATA")
needs_data = pytest.mark.skipif(
    not DATA or not (Path(DATA) / "cifar10").is_dir(), reason="needs cifar10 in EIGHTBIT_DATA"
)


def png(value: int, height: int = 8, width: int = 8) -> bytes:
    """A picture whose red is `value`, green and blue its row and column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    bgr = np.stack([columns, rows, np.full_like(rows, value)], axis=2)
    return cv2.imencode(".png", bgr)[1].tobytes()


def folder_of(root: Path, counts: dict[str, int]) -> Path:
    """`count` pictures in each folder; their red counts up from 0 over all of them."""
    value = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i:02d}.png").write_bytes(png(value))
            value += 1
    return root


def reds(found: LabelledPictures) -> dict[str, list[tuple[str, int]]]:
    """(class, red) of each picture by split."""
    parts = {"train": found.train, "test": found.test, "validation": found.validation}
    return {
        split: [
            (found.classes[label], int(picture[0, 0, 0]))
            for picture, label in zip(part.pictures, part.labels, strict=True)
        ]
        for split, part in parts.items()
        if part is not None
    }


def test_class_folders_with_train_and_test(tmp_path: Path) -> None:
    folder_of(tmp_path, {"train/cat": 2, "train/dog": 1, "test/dog": 1, "test/cat": 1})
    found = read_labelled(str(tmp_path), 8, 0)
    assert found.classes == ("cat", "dog")
    assert reds(found) == {
        "train": [("cat", 0), ("cat", 1), ("dog", 2)],
        "test": [("cat", 4), ("dog", 3)],
    }
    assert found.train.pictures.shape == (3, 3, 8, 8)
    np.testing.assert_array_equal(found.train.pictures[0, 1, :, 3], np.arange(8))  # rows
    np.testing.assert_array_equal(found.train.pictures[0, 2, 3], np.arange(8))  # columns
    assert found.train.names == ("train/cat/00.png", "train/cat/01.png", "train/dog/00.png")
    assert found.facts["counts"] == {"train": 3, "test": 2}
    assert found.facts["split"] == "as the data set divides it"


@pytest.mark.parametrize("wrapped", ["", "pets/", "deep/pets/"])
def test_a_zip_of_class_folders_is_divided_by_class(wrapped: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "pets", {f"{wrapped}cat": 10, f"{wrapped}dog": 5})
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    found = read_labelled(str(tmp_path / "packed.zip"), 8, 0)
    parts = reds(found)
    whole = [("cat", i) for i in range(10)] + [("dog", i) for i in range(10, 15)]
    assert sorted(parts["train"] + parts["test"]) == whole
    assert [name for name, _ in parts["test"]] == ["cat", "cat", "dog"]
    assert "20%" in found.facts["split"] and "seed 0" in found.facts["split"]
    assert reds(read_labelled(str(folder), 8, 0)) == parts
    assert any(reds(read_labelled(str(folder), 8, seed)) != parts for seed in range(1, 5))


def test_val_is_the_test_part_only_where_there_is_no_test(tmp_path: Path) -> None:
    folder_of(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1})
    found = read_labelled(str(tmp_path), 8, 0)
    assert reds(found)["test"] == [("a", 2)] and found.validation is None
    assert found.facts["split"] == "its validation part is the test part"
    folder_of(tmp_path / "test", {"b": 1})
    found = read_labelled(str(tmp_path), 8, 0)
    assert reds(found)["validation"] == [("a", 2)] and reds(found)["test"] == [("b", 0)]


def test_two_zips_are_two_parts(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder_of(tmp_path / "made" / split, {"a": 2, "b": 1})
        (tmp_path / "data").mkdir(exist_ok=True)
        shutil.make_archive(str(tmp_path / "data" / split), "zip", tmp_path / "made" / split)
    (tmp_path / "data" / "SOURCE.txt").write_text("Drawn by hand.")
    found = read_labelled(str(tmp_path / "data"), 8, 0)
    assert found.facts["counts"] == {"train": 3, "test": 3}
    assert found.facts["source"] == "Drawn by hand."


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    folder_of(tmp_path, {"train": 3, "car": 3})
    assert read_labelled(str(tmp_path), 8, 0).classes == ("car", "train")


def test_pictures_of_any_shape_are_fitted_and_progress_is_told(tmp_path: Path) -> None:
    for name, shape in (("a/1", (30, 20)), ("a/2", (20, 61)), ("b/1", (5, 9)), ("b/2", (10, 10))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(png(9, *shape))
    told: list[tuple[int, int]] = []
    found = read_labelled(str(tmp_path), 10, 0, lambda done, total: told.append((done, total)))
    assert found.train.pictures.shape == (2, 3, 10, 10)
    assert (found.train.pictures[:, 0] == 9).all()
    assert told[-1] == (4, 4)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24))
def test_fitting_keeps_the_middle(height: int, width: int, size: int) -> None:
    rgb = np.zeros((height, width, 3), np.uint8)
    assert fitted(rgb, size).shape == (size, size, 3)
    if min(height, width) == size:
        rgb = np.arange(height * width * 3).reshape(height, width, 3).astype(np.uint8)
        top, left = (height - size) // 2, (width - size) // 2
        expected = rgb[top : top + size, left : left + size]
        np.testing.assert_array_equal(fitted(rgb, size), expected)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.05, 0.9), st.integers(0, 9)
)
def test_a_share_of_each_class_is_held_out(labels: list[int], share: float, seed: int) -> None:
    array = np.array(labels)
    held = held_out_by_class(array, share, seed)
    np.testing.assert_array_equal(held, held_out_by_class(array, share, seed))
    for label in set(labels):
        count, out = labels.count(label), int(held[array == label].sum())
        assert out < count, "training keeps one"
        assert out == min(count - 1, max(1, round(share * count)))


# ------------------------------------------------------------------------------ original layouts


def cifar_binary(root: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """CIFAR-10's binary version with three records a file; its records by file."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")
    made = {}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        records = rng.integers(0, 256, (3, 3073), dtype=np.uint8)
        records[:, 0] = (0, 1, 2)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
        made[name] = records
    return made


def test_cifars_own_archive(tmp_path: Path, rng: np.random.Generator) -> None:
    made = cifar_binary(tmp_path, rng)
    (tmp_path / "cache").mkdir()
    base = str(tmp_path / "cache" / "cifar-10-binary")
    shutil.make_archive(base, "gztar", tmp_path, "cifar-10-batches-bin")
    found = read_labelled(str(tmp_path / "cache"), 32, 0)
    assert found.classes == ("airplane", "automobile", "bird")
    expected = np.concatenate([made["data_batch_1"], made["data_batch_2"]])
    np.testing.assert_array_equal(found.train.pictures.numpy().reshape(6, -1), expected[:, 1:])
    np.testing.assert_array_equal(found.train.labels, expected[:, 0])
    assert found.test is not None and found.test.names[2] == "test_batch/00002"
    np.testing.assert_array_equal(
        found.test.pictures.numpy().reshape(3, -1), made["test_batch"][:, 1:]
    )


def test_a_truncated_or_missing_cifar_file_is_named(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    cifar_binary(tmp_path, rng)
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="test_batch.bin in .* is truncated"):
        read_labelled(str(tmp_path), 32, 0)
    path.unlink()
    with pytest.raises(DataError, match="no test_batch file"):
        read_labelled(str(tmp_path), 32, 0)


def idx(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return head + array.tobytes()


def mnist(root: Path, rng: np.random.Generator, names: dict[str, int]) -> dict[str, np.ndarray]:
    made = {}
    for name, count in names.items():
        made[name] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 3).astype(np.uint8)
        for kind, array in (("images-idx3", made[name]), ("labels-idx1", labels)):
            (root / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return made


def test_mnists_own_files(tmp_path: Path, rng: np.random.Generator) -> None:
    made = mnist(tmp_path, rng, {"train": 6, "t10k": 3})
    found = read_labelled(str(tmp_path), 28, 0)
    assert found.classes == ("0", "1", "2")
    for channel in range(3):
        np.testing.assert_array_equal(found.train.pictures[:, channel], made["train"])
    assert found.test is not None
    np.testing.assert_array_equal(found.test.pictures[:, 0], made["t10k"])
    assert read_labelled(str(tmp_path), 32, 0).train.pictures.shape == (6, 3, 32, 32)


def test_mnists_test_alone_is_cut_in_order(tmp_path: Path, rng: np.random.Generator) -> None:
    made = mnist(tmp_path, rng, {"t10k": 20})
    found = read_labelled(str(tmp_path), 28, 0)
    np.testing.assert_array_equal(found.train.pictures[:, 0], made["t10k"][:16])
    assert found.facts["split"] == "the first 16 are train, the last 4 test"


def test_damaged_idx_files_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    mnist(tmp_path, rng, {"t10k": 20})
    pictures = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = pictures.read_bytes()
    for content, said in (
        (whole[:-20], "is damaged"),
        (gzip.compress(gzip.decompress(whole)[:-1]), "is no whole idx file"),
        (gzip.compress(b""), "is no whole idx file"),
        (gzip.compress(idx(np.zeros((3, 28, 28), np.uint8))), "3 pictures and .* 20 labels"),
    ):
        pictures.write_bytes(content)
        with pytest.raises(DataError, match=said):
            read_labelled(str(tmp_path), 28, 0)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    pictures.write_bytes(whole)
    with pytest.raises(DataError, match="holds no t10k-labels-idx1-ubyte.gz"):
        read_labelled(str(tmp_path), 28, 0)


# --------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"train/a": 1, "train/b": 1, "test/a": 1, "test/zebra": 1}, "training never saw: zebra"),
        ({"a": 2, "b": 0, "c": 1}, "the class folder b in .* holds no pictures"),
        ({"train/a": 1, "train/b": 1, "test/a": 0, "test/b": 1}, "class folder test/a in"),
        ({"a": 3}, "into a folder of its own"),
        ({"a": 1, "b": 1}, "no class has two pictures"),
        ({"": 3}, "in no class folders"),
    ],
)
def test_wrong_folders_get_one_sentence(counts: dict[str, int], said: str, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", {k: v for k, v in counts.items() if k})
    for i in range(counts.get("", 0)):
        root.mkdir(exist_ok=True)
        (root / f"{i}.png").write_bytes(png(0))
    with pytest.raises(DataError, match=said):
        read_labelled(str(root), 8, 0)


def test_pictures_that_cannot_be_read_are_all_counted(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a" / "00.png").write_bytes(b"")
    (tmp_path / "b" / "01.png").write_bytes(png(1)[:40])
    with pytest.raises(DataError, match=r"2 of 8 pictures cannot be read.*a/00.png.*b/01.png"):
        read_labelled(str(tmp_path), 8, 0)


def test_a_folder_without_pictures_and_a_damaged_zip_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(DataError, match="holds no pictures"):
        read_labelled(str(tmp_path), 8, 0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("a/1.png", png(0))
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged"):
        read_labelled(str(tmp_path / "a.zip"), 8, 0)


def test_what_does_not_fit_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, {"a": 2, "b": 2})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=700))
    with pytest.raises(MemoryBudgetError, match="4 pictures of 8 x 8 take"):
        read_labelled(str(tmp_path), 8, 0)
    with pytest.raises(UsageError, match="choose at least 1"):
        read_labelled(str(tmp_path), 0, 0)


# ------------------------------------------------------------------------------------- fast JPEG


@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
@pytest.mark.parametrize("shape", [(32, 32, 3), (17, 45, 3), (32, 32)])
def test_quick_decoding_gives_the_same_pixels(
    shape: tuple[int, ...], flags: tuple[int, ...], rng: np.random.Generator
) -> None:
    content = cv2.imencode(".jpg", rng.integers(0, 256, shape, dtype=np.uint8), flags)[1].tobytes()
    np.testing.assert_array_equal(decode_quickly(content, "a"), decode_picture(content, "a"))
    with pytest.raises(DataError, match="truncated"):
        decode_quickly(content[:-100], "a")


# ------------------------------------------------------------------------------------- real data


@needs_data
def test_cifar10s_pictures() -> None:
    found = read_labelled(str(Path(str(DATA)) / "cifar10" / "test.zip"), 32, 0)
    assert found.classes[0] == "airplane" and found.classes[-1] == "truck"
    assert len(found.train.labels) == 8000 and found.test is not None
    assert found.test.labels.bincount().tolist() == [200] * 10
    with zipfile.ZipFile(Path(str(DATA)) / "cifar10" / "test.zip") as packed:
        for i in (0, 1234, 7999):
            expected = decode_picture(packed.read(found.train.names[i]), "a")
            np.testing.assert_array_equal(found.train.pictures[i].permute(1, 2, 0), expected)


@needs_data
@pytest.mark.long
def test_cifar10_whole() -> None:
    found = read_labelled("cifar10", 32, 0)
    assert found.facts["counts"] == {"train": 50_000, "test": 10_000}
    assert found.train.labels.bincount().tolist() == [5000] * 10
    assert "JPEG" in found.facts["source"]
    mean = found.train.pictures.float().mean((0, 2, 3)) / 255
    # The means of the original binaries, stated widely; JPEG coding hardly moves them.
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=0.002)
