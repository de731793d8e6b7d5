"""Pictures with sentences from the layouts that are about, and generated ones."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from eightbit.datasets.caption_layouts import plain
from eightbit.datasets.captions import SCORED_SEED, Captions, Made, read_captions
from eightbit.datasets.scenes import draw_scene, scene
from eightbit.errors import DataError, UnknownNameError, UsageError

FLICKR = Path(os.environ.get("EIGHTBIT_DATA", "/nowhere")) / "flickr8k_900"
needs_flickr = pytest.mark.skipif(
    not FLICKR.is_dir(), reason="set EIGHTBIT_DATA to a folder that holds flickr8k_900"
)


def _pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((20, 30, 3), 5 * i, np.uint8))


def _told(found: Captions) -> Mapping[str, dict[str, tuple[str, ...]]]:
    return {
        split: {one.name: one.sentences for one in part} for split, part in found.splits.items()
    }


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("A child , in a pink dress .", "a child in a pink dress"),
        ('Two "tri-colored" dogs; the man\'s--ball!', "two tri-colored dogs the man's--ball"),
        ("  a\tdog\n", "a dog"),
        ("' - .", ""),
        ("Caf\u00e9 No.5", "caf\u00e9 no 5"),
    ],
)
def test_sentences_become_plain_words(raw: str, words: str) -> None:
    assert plain(raw) == words and plain(words) == words


def test_scenes_are_drawn_when_they_are_asked_for() -> None:
    found, again = read_captions("scenes", 3, 64), read_captions("scenes", 4, 64)
    assert [len(found.splits[name]) for name in ("train", "validation", "test")] == [
        100_000,
        500,
        1_000,
    ]
    for name, seed in (("train", 3), ("validation", SCORED_SEED), ("test", SCORED_SEED)):
        one, made = found.splits[name][17], scene(name, seed, 17)
        assert one.sentences == (made.sentence,)
        np.testing.assert_array_equal(one.picture, draw_scene(made, 64))
    assert found.splits["train"][0].sentences != again.splits["train"][0].sentences
    assert found.splits["test"][5].sentences == again.splits["test"][5].sentences
    assert found.fresh is not None
    assert found.fresh(17).name == found.splits["train"][17].name
    assert found.fresh(10**7).sentences == (scene("train", 3, 10**7).sentence,)
    json.dumps(found.facts)
    with pytest.raises(UsageError, match="at least 32 pixels, not 16"):
        read_captions("scenes", 0, 16)


def test_a_sequence_that_is_made_has_ends_and_slices() -> None:
    squares = Made(lambda i: i * i, 5)
    assert list(squares) == [0, 1, 4, 9, 16] and squares[-1] == 16 and 9 in squares
    assert list(squares[1:4:2]) == [1, 9] and squares.index(4) == 2
    with pytest.raises(IndexError):
        squares[5]


def test_a_table_and_pictures_in_a_zip_are_read_and_parts_drawn(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(40)]
    _pictures(tmp_path / "raw", names)
    data = tmp_path / "data"
    data.mkdir()
    with zipfile.ZipFile(data / "images.zip", "w") as packed:
        for name in names:
            packed.write(tmp_path / "raw" / name, name)
    lines = [f'{name},"Picture {i} , said {k} ."' for i, name in enumerate(names) for k in (1, 2)]
    (data / "captions.csv").write_text("\n".join(["image,caption", *lines]))
    found = read_captions(str(data), 0, 16)
    assert found.facts["counts"] == {"train": 32, "validation": 4, "test": 4}
    assert found.facts["sentences"]["test"] == 8 and found.fresh is None
    told = {name: said for part in _told(found).values() for name, said in part.items()}
    assert told == {name: (f"picture {i} said 1", f"picture {i} said 2")
                    for i, name in enumerate(names)}  # fmt: skip
    for part in found.splits.values():
        for one in part:
            assert one.picture.shape == (16, 16, 3)
            assert abs(one.picture.mean() - 5 * names.index(one.name)) <= 1
    assert _told(read_captions(str(data), 0, 16)) == _told(found)
    assert _told(read_captions(str(data), 1, 16)) != _told(found)


def test_a_table_may_name_splits(tmp_path: Path) -> None:
    _pictures(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    rows = ["a.png,one,train", "b.png,two,val", "c.png,three,test", "d.png,four,train"]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption,split", *rows]))
    found = read_captions(str(tmp_path), 0, 8)
    assert _told(found) == {
        "train": {"a.png": ("one",), "d.png": ("four",)},
        "validation": {"b.png": ("two",)},
        "test": {"c.png": ("three",)},
    }
    assert found.facts["split"] == "as the data set divides it"


def test_flickr8k_as_distributed(tmp_path: Path) -> None:
    names = [f"{i}_x.jpg" for i in range(6)]
    _pictures(tmp_path / "Flicker8k_Dataset", names)
    text = tmp_path / "Flickr8k_text"
    text.mkdir()
    lines = [f"{name}#{k}\tNumber {i} ." for i, name in enumerate(names) for k in range(2)]
    (text / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    (text / "Flickr8k.lemma.token.txt").write_text("never\tread")
    for part, chosen in (("train", names[:3]), ("dev", names[3:4]), ("test", names[4:5])):
        (text / f"Flickr_8k.{part}Images.txt").write_text("\n".join(chosen) + "\n")
    found = read_captions(str(tmp_path), 0, 8)
    assert {split: list(part) for split, part in _told(found).items()} == {
        "train": names[:3],
        "validation": names[3:4],
        "test": names[4:5],
    }
    assert found.splits["test"][0].sentences == ("number 4", "number 4")


def test_karpathys_file(tmp_path: Path) -> None:
    _pictures(tmp_path / "val2014", ["a.jpg", "b.jpg"])
    _pictures(tmp_path / "train2014", ["c.jpg", "d.jpg"])
    parts = (("a", "val", "val2014"), ("b", "test", "val2014"))
    parts += (("c", "restval", "train2014"), ("d", "train", "train2014"))
    images = [
        {"filepath": folder, "filename": f"{n}.jpg", "split": split,
         "sentences": [{"raw": f"The {n}.", "tokens": ["the", n]}]}
        for n, split, folder in parts
    ]  # fmt: skip
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    assert _told(read_captions(str(tmp_path), 0, 8)) == {
        "train": {"train2014/c.jpg": ("the c",), "train2014/d.jpg": ("the d",)},
        "validation": {"val2014/a.jpg": ("the a",)},
        "test": {"val2014/b.jpg": ("the b",)},
    }


def test_cocos_validation_part_is_the_test_part(tmp_path: Path) -> None:
    for part, names in (("train", [f"{i}.jpg" for i in range(10)]), ("val", ["v.jpg"])):
        _pictures(tmp_path / f"{part}2014", names)
        images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
        annotations = [{"image_id": i, "caption": f"It is {i}"} for i in range(len(names))]
        content = json.dumps({"images": images, "annotations": annotations})
        (tmp_path / f"captions_{part}2014.json").write_text(content)
    found = read_captions(str(tmp_path), 0, 8)
    assert {split: len(part) for split, part in found.splits.items()} == {
        "train": 9,
        "validation": 1,
        "test": 1,
    }
    assert found.splits["test"][0].name == "v.jpg"
    assert "its validation part is the test part" in found.facts["split"]


def test_missing_and_damaged_pictures_are_counted_and_named(tmp_path: Path) -> None:
    _pictures(tmp_path, [f"{i}.png" for i in range(6)])
    lines = [f"{i}.png,number {i}" for i in range(8)]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *lines]))
    with pytest.raises(DataError, match=r"lacks 2 of the 8 pictures .* first [67]\.png; add them"):
        read_captions(str(tmp_path), 0, 8)
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *lines[:6]]))
    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 6 pictures cannot be read; .*3\.png"):
        read_captions(str(tmp_path), 0, 8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.csv", "picture,text\na.png,b", "needs the columns image and caption"),
        ("captions.csv", "image,caption\n,b", "line 2 of captions.csv .* no image or no caption"),
        ("captions.csv", "image,caption,split\na.png,b,all", "names a split 'all'; write train"),
        ("captions.csv", "image,caption\n", "holds no sentences"),
        ("captions.csv", "image,caption\na.png,b", "has 1 pictures with sentences"),
        ("dataset.json", "{", "dataset.json in .* is no JSON"),
        ("dataset.json", '{"images": [{}]}', "not laid out as files of its name are"),
        ("captions_val.json", '{"images": []}', "not laid out as files of its name are"),
        ("Flickr8k.token.txt", "a.png a dog", "line 1 of Flickr8k.token.txt .* is not"),
        ("notes.txt", "hello", "holds no sentences; give it a captions.csv"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, name: str, content: str, message: str) -> None:
    _pictures(tmp_path, ["a.png"])
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_captions(str(tmp_path), 0, 8)


def test_unknown_names_and_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="scenes"):
        read_captions("scene", 0, 64)
    with pytest.raises(DataError, match="does not exist"):
        read_captions(str(tmp_path / "no"), 0, 64)
    with pytest.raises(UsageError, match="cannot be 0 pixels wide"):
        read_captions("flickr8k-900", 0, 0)


@needs_flickr
def test_flickr8k_900_is_divided_by_its_list() -> None:
    found = read_captions("flickr8k-900", 0, 24)
    assert found.facts["counts"] == {"train": 720, "validation": 80, "test": 100}
    assert found.facts["sentences"] == {"train": 3600, "validation": 400, "test": 500}
    names = [one.name for part in found.splits.values() for one in part]
    assert len(set(names)) == 900 and names[0] == "1000268201_693b08cb0e.jpg"
    first = found.splits["train"][0]
    assert first.sentences[1] == "a girl going into a wooden building"
    assert first.picture.shape == (24, 24, 3) and first.picture.std() > 20
