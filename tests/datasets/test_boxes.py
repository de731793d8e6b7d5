"""Boxes as VOC, COCO and YOLO write them, read and written; and what is wrong with boxes."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eightbit.datasets.box_files import FoundBoxes, write_coco, write_voc, write_yolo
from eightbit.datasets.boxes import BoxedPicture, BoxedPictures, read_boxes
from eightbit.errors import DataError

DATA = os.environ.get("EIGHTBIT_DATA")


def picture(path: Path, width: int = 40, height: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 99, np.uint8))


def voc_xml(boxes: list[tuple[str, int, int, int, int]], size: str = "40 30", **tags: str) -> str:
    width, height = size.split()
    things = "".join(
        f"<object><name>{name}</name><difficult>{tags.get('difficult', '0')}</difficult><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in boxes
    )
    named = f"<filename>{tags['filename']}</filename>" if "filename" in tags else ""
    return (
        f"<annotation>{named}<size><width>{width}</width><height>{height}</height></size>{things}"
        "</annotation>"
    )


def voc(root: Path, annotations: dict[str, str], lists: dict[str, list[str]]) -> Path:
    """A VOC folder with a picture for each annotation."""
    for name, xml in annotations.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(xml)
    for split, names in lists.items():
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def one(boxes: list[list[float]]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


def test_voc_with_its_lists(tmp_path: Path) -> None:
    annotations = {
        "1": voc_xml([("dog", 1, 1, 40, 30), ("cat", 11, 6, 20, 10)]),
        "2": voc_xml([("cat", 2, 2, 3, 3)], difficult="1"),
        "3": voc_xml([]),
    }
    lists = {"train": ["1"], "val": ["3"], "trainval": ["1", "3"], "test": ["2"]}
    lists["cat_train"] = ["1  1"]  # a list of one class, as VOC has them
    root = voc(tmp_path / "VOCdevkit" / "VOC2007", annotations, lists)
    found = read_boxes(str(tmp_path), 0)
    assert found.classes == ("cat", "dog")
    (first,) = found.train
    np.testing.assert_array_equal(first.boxes, one([[0, 0, 40, 30], [10, 5, 20, 10]]))
    assert first.boxes.dtype == np.float32 and first.labels.dtype == np.int64
    assert first.labels.tolist() == [1, 0] and first.difficult.tolist() == [False, False]
    assert (first.width, first.height) == (40, 30) and first.read().shape == (30, 40, 3)
    assert found.test[0].difficult.tolist() == [True]
    assert found.validation is not None and found.validation[0].boxes.shape == (0, 4)
    assert found.facts["counts"] == {"train": 1, "validation": 1, "test": 1}
    assert found.facts["boxes"]["train"] == {"cat": 1, "dog": 1}
    shutil.make_archive(str(tmp_path / "packed"), "zip", root.parent.parent, "VOCdevkit")
    packed = read_boxes(str(tmp_path / "packed.zip"), 0)
    assert packed.train[0].name == "VOCdevkit/VOC2007/JPEGImages/1.jpg" == first.name


def test_voc_where_only_trainval_and_test_are_listed(tmp_path: Path) -> None:
    xml = voc_xml([("cat", 1, 1, 9, 9)])
    voc(tmp_path / "VOC2007", {"1": xml, "2": xml}, {"trainval": ["1"], "test": ["2"]})
    found = read_boxes(str(tmp_path), 0)
    assert len(found.train) == len(found.test) == 1 and found.validation is None


def test_voc_without_lists_is_divided_by_folders_or_by_chance(tmp_path: Path) -> None:
    xml = voc_xml([("cat", 1, 1, 9, 9)])
    voc(tmp_path / "chance", {str(i): xml for i in range(10)}, {})
    found = read_boxes(str(tmp_path / "chance"), 0)
    assert (len(found.train), len(found.test)) == (8, 2) and "seed 0" in found.facts["split"]
    for split in ("train", "valid", "test"):  # pictures and boxes side by side
        picture(tmp_path / "beside" / split / "a.jpg")
        (tmp_path / "beside" / split / "a.xml").write_text(xml)
    found = read_boxes(str(tmp_path / "beside"), 0)
    assert found.train[0].name == "train/a.jpg" and found.test[0].name == "test/a.jpg"


def test_a_rare_class_stays_in_training(tmp_path: Path) -> None:
    annotations = {str(i): voc_xml([("cat", 1, 1, 9, 9)]) for i in range(9)}
    annotations["rare"] = voc_xml([("lynx", 1, 1, 9, 9)])
    voc(tmp_path, annotations, {})
    for seed in range(6):
        found = read_boxes(str(tmp_path), seed)
        assert found.facts["boxes"]["train"]["lynx"] == 1 and found.test


def coco(split_boxes: dict[str, list[list[float]]], **more: object) -> dict[str, object]:
    """COCO's table: a picture for each key, sparse ids of classes."""
    images = [
        {"id": 10 * i, "file_name": f"{name}.jpg", "width": 40, "height": 30}
        for i, name in enumerate(split_boxes, 1)
    ]
    boxes = [(10 * i, box) for i, of in enumerate(split_boxes.values(), 1) for box in of]
    annotations = [
        {"id": n, "image_id": image, "category_id": 18, "bbox": box, "iscrowd": n % 2}
        for n, (image, box) in enumerate(boxes)
    ]
    categories = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]
    table = {"images": images, "annotations": annotations, "categories": categories}
    return {**table, **more}


def test_coco_with_its_own_folders(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    tables = {
        "train": {"a": [[1.5, 2, 3, 4], [0, 0, 40, 30]], "b": []},
        "val": {"a": [[5, 5, 2, 2]]},
    }
    for split, boxes in tables.items():
        path = tmp_path / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(coco(boxes)))
        for name in boxes:
            picture(tmp_path / f"{split}2017" / f"{name}.jpg")
    (tmp_path / "annotations" / "captions_train2017.json").write_text('{"images": []}')
    found = read_boxes(str(tmp_path), 0)
    assert found.classes == ("car", "dog")
    assert [p.name for p in found.train] == ["train2017/a.jpg", "train2017/b.jpg"]
    np.testing.assert_array_equal(found.train[0].boxes, one([[1.5, 2, 4.5, 6], [0, 0, 40, 30]]))
    assert found.train[0].labels.tolist() == [1, 1]
    assert found.train[0].difficult.tolist() == [False, True]
    assert [p.name for p in found.test] == ["val2017/a.jpg"]
    assert found.facts["split"] == "its validation part is the test part"


def yolo(root: Path, description: str | None, labels: dict[str, str]) -> Path:
    """A YOLO folder: pictures in images/, boxes in labels/."""
    for name, text in labels.items():
        picture(root / "images" / f"{name}.jpg")
        path = root / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if description is not None:
        (root / "data.yaml").write_text(description)
    return root


@pytest.mark.parametrize(
    "description",
    [
        "path: /home/somebody/set\ntrain: images/train\nval: images/val\nnames: [cat, dog]",
        "train: ../train/images/train\nval: [images/val]\nnames: {1: dog, 0: cat}",
        "path: set\ntrain: list.txt\nval: images/val\nnames: [cat, dog]",
    ],
)
def test_yolo_with_its_description(description: str, tmp_path: Path) -> None:
    labels = {"train/a": "1 0.5 0.5 0.5 1\n0 0.25 0.5 0.1 0.2 0.9\n", "train/b": "", "val/c": ""}
    labels["val/c"] = "0 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4\n"  # an outline
    yolo(tmp_path, description, labels)
    (tmp_path / "list.txt").write_text("./images/train/a.jpg\n/home/x/images/train/b.jpg\n")
    found = read_boxes(str(tmp_path), 0)
    assert found.classes == ("cat", "dog") and len(found.train) == 2
    expected = one([[10, 0, 30, 30], [8, 12, 12, 18]])
    np.testing.assert_allclose(found.train[0].boxes, expected, atol=1e-4)
    assert found.train[0].labels.tolist() == [1, 0] and len(found.train[1].boxes) == 0
    np.testing.assert_allclose(found.test[0].boxes, one([[4, 3, 12, 12]]), atol=1e-4)


def test_yolo_with_classes_and_folders(tmp_path: Path) -> None:
    labels = {"train/a": "0 0.5 0.5 0.5 0.5", "test/b": "0 0.5 0.5 0.5 0.5"}
    yolo(tmp_path, None, labels)
    with pytest.raises(DataError, match="names no classes; add a data.yaml or a classes.txt"):
        read_boxes(str(tmp_path), 0)
    (tmp_path / "classes.txt").write_text("cell\n")
    found = read_boxes(str(tmp_path), 0)
    assert found.classes == ("cell",) and found.test[0].name == "images/test/b.jpg"


# --------------------------------------------------------------------------------- what is wrong


def test_boxes_outside_are_clipped_and_empty_ones_dropped(tmp_path: Path) -> None:
    boxes = [("a", -9, 5, 21, 400), ("a", 50, 1, 60, 9), ("a", 9, 9, 5, 12), ("a", 1, 1, 9, 9)]
    annotations = {"1": voc_xml(boxes), "2": voc_xml([("a", 1, 1, 41, 9)])}
    voc(tmp_path, annotations, {"train": ["1"], "test": ["2"]})
    found = read_boxes(str(tmp_path), 0)
    np.testing.assert_array_equal(found.train[0].boxes, one([[0, 4, 21, 30], [0, 0, 9, 9]]))
    assert (found.facts["boxes_clipped"], found.facts["boxes_dropped"]) == (2, 2)


GOOD = voc_xml([("cat", 1, 1, 9, 9)])


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<annotation><object>", "Annotations/2.xml in .* is no XML"),
        (voc_xml([("lynx", 1, 1, 9, 9)]), "training never saw: lynx"),
        (GOOD.replace("<name>cat</name>", ""), "an object without a name"),
        (GOOD.replace("<xmax>9</xmax>", ""), "a box that is not numbers"),
        (GOOD.replace("<xmax>9<", "<xmax>nine<"), "a box that is not numbers"),
        (GOOD.replace("<xmax>9<", "<xmax>nan<"), "a box that is not finite"),
    ],
)
def test_wrong_annotations_are_named(xml: str, said: str, tmp_path: Path) -> None:
    voc(tmp_path, {"1": GOOD, "2": xml}, {"train": ["1"], "test": ["2"]})
    with pytest.raises(DataError, match=said):
        read_boxes(str(tmp_path), 0)


def test_missing_files_are_named(tmp_path: Path) -> None:
    lists = {"train": ["1", "7"], "test": ["2"]}
    voc(tmp_path, {"1": GOOD, "2": GOOD}, lists)
    with pytest.raises(DataError, match="names Annotations/7.xml in its lists but lacks it"):
        read_boxes(str(tmp_path), 0)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("1")
    (tmp_path / "JPEGImages" / "2.jpg").unlink()
    with pytest.raises(DataError, match="2.xml in .* has no picture called 2"):
        read_boxes(str(tmp_path), 0)
    picture(tmp_path / "JPEGImages" / "other.jpg")  # the annotation tells another name
    (tmp_path / "Annotations" / "2.xml").write_text(
        GOOD.replace("<size>", "<filename>other.jpg</filename><size>")
    )
    assert read_boxes(str(tmp_path), 0).test[0].name == "JPEGImages/other.jpg"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 2 of labels/train/a.txt in .* has the class 2; there are 2"),
        ("cat 0.5 0.5 0.1 0.1", "has the class cat"),
        ("0 0.5 0.5 0.1", "is not a class and a box"),
        ("0 0.5 0.5 0.1 x", "a box that is not numbers"),
    ],
)
def test_wrong_lines_of_yolo_are_named(line: str, said: str, tmp_path: Path) -> None:
    text = "names: [cat, dog]\ntrain: images/train\nval: images/val"
    yolo(tmp_path, text, {"train/a": f"0 0.5 0.5 0.5 0.5\n{line}\n", "val/b": ""})
    with pytest.raises(DataError, match=said):
        read_boxes(str(tmp_path), 0)
    (tmp_path / "labels" / "train" / "a.txt").write_text("")
    with pytest.raises(DataError, match="no boxes to learn from"):
        read_boxes(str(tmp_path), 0)
    (tmp_path / "data.yaml").write_text(text + "\ntest: images/nowhere")
    with pytest.raises(DataError, match="names images/nowhere, where no pictures are"):
        read_boxes(str(tmp_path), 0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"categories": []}, "a box of an unknown class 18"),
        ({"images": []}, "a box of an unknown picture 10"),
        ({"images": [{"id": 10, "file_name": "z.jpg"}]}, "names the picture z.jpg, which is not"),
        ({"images": [{"id": 10}]}, "is not as COCO writes it: KeyError"),
    ],
)
def test_wrong_tables_of_coco_are_named(more: dict[str, object], said: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    path = tmp_path / "instances_train.json"
    path.write_text(json.dumps(coco({"a": [[1, 1, 5, 5]]}, **more)))
    with pytest.raises(DataError, match=said):
        read_boxes(str(tmp_path), 0)
    path.write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        read_boxes(str(tmp_path), 0)


def test_pictures_without_boxes_and_turned_ones_are_said(tmp_path: Path) -> None:
    picture(tmp_path / "plain" / "a.jpg")
    with pytest.raises(DataError, match="holds no boxes as VOC"):
        read_boxes(str(tmp_path / "plain"), 0)
    root = voc(tmp_path / "turned", {"1": GOOD, "2": GOOD}, {"train": ["1"], "test": ["2"]})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(root / "JPEGImages" / "1.jpg", exif=exif)
    found = read_boxes(str(root), 0)
    with pytest.raises(DataError, match="is 30 x 40 pixels and its boxes are for 40 x 30"):
        found.train[0].read()
    (root / "Annotations" / "1.xml").write_text(voc_xml([("cat", 1, 1, 9, 9)], "0 0"))
    assert (found := read_boxes(str(root), 0)).train[0].height == 40
    assert found.train[0].read().shape == (40, 30, 3)


# --------------------------------------------------------------------------------------- writing


@st.composite
def found_boxes(draw: st.DrawFn) -> FoundBoxes:
    """Boxes of whole pixels in a picture of 40 x 30."""
    corner = st.tuples(st.integers(0, 20), st.integers(0, 15))
    extent = st.tuples(st.integers(1, 20), st.integers(1, 15))
    drawn = draw(st.lists(st.tuples(corner, extent), min_size=1, max_size=5))
    boxes = [(x, y, x + width, y + height) for (x, y), (width, height) in drawn]
    labels = [draw(st.integers(0, 1)) for _ in boxes]
    scores = np.array([draw(st.floats(0, 1)) for _ in boxes]) if draw(st.booleans()) else None
    return FoundBoxes("", 40, 30, np.array(boxes, np.float64), np.array(labels), scores)


def read_back(root: Path) -> tuple[BoxedPictures, dict[str, BoxedPicture]]:
    found = read_boxes(str(root), 0)
    return found, {Path(p.name).stem: p for p in [*found.train, *found.test]}


@settings(max_examples=12, deadline=None)
@given(first=found_boxes(), second=found_boxes())
@pytest.mark.parametrize("form", ["voc", "coco", "yolo"])
def test_what_is_written_is_read_again(form: str, first: FoundBoxes, second: FoundBoxes) -> None:
    named = [
        FoundBoxes(f"{stem}.jpg", 40, 30, f.boxes, f.labels, f.scores)
        for stem, f in (("a", first), ("b", second), ("c", first), ("d", second))
    ]
    classes = ("cat", "dog <2>")
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for each in named:
            picture(root / "images" / each.name)
        if form == "voc":
            write_voc(root, named, classes)
        elif form == "coco":
            write_coco(root / "boxes.json", named, classes)
        else:
            write_yolo(root, named, classes)
        found, again = read_back(root)
    for each in named:
        stem = Path(each.name).stem
        np.testing.assert_allclose(again[stem].boxes, each.boxes, atol=1e-3)
        names = [found.classes[label] for label in again[stem].labels]
        assert names == [classes[label] for label in each.labels]


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    boxes = np.array([[1.25, 2, 10.5, 20], [0, 0, 40, 30]])
    found = [FoundBoxes("x/a.jpg", 40, 30, boxes, np.array([1, 0]), np.array([0.9, 0.25]))]
    write_coco(tmp_path / "out" / "boxes.json", found, ("cat", "dog"))
    read = coco_module.COCO(str(tmp_path / "out" / "boxes.json"))
    assert [c["name"] for c in read.loadCats(read.getCatIds())] == ["cat", "dog"]
    (image,) = read.loadImgs(read.getImgIds())
    assert image["file_name"] == "x/a.jpg"
    first, second = read.loadAnns(read.getAnnIds())
    assert first["bbox"] == [1.25, 2, 9.25, 18] and first["area"] == 166.5
    assert (first["category_id"], first["score"], second["category_id"]) == (2, 0.9, 1)


def test_written_names_stay_below_the_folder_and_apart(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "b/a.jpg", "../out.jpg", "/etc/host.jpg", "a.png"]
    none = np.zeros((0, 4))
    found = [FoundBoxes(name, 4, 4, none, np.zeros(0, int)) for name in names]
    write_yolo(tmp_path / "out", found, ("cat",))
    labels = sorted(
        p.relative_to(tmp_path / "out" / "labels")
        for p in tmp_path.rglob("*.txt")
        if p.parent != tmp_path / "out"
    )
    assert [p.as_posix() for p in labels] == [
        "a.txt",
        "a_png.txt",
        "a_png_2.txt",
        "b/a.txt",
        "host.txt",
        "out.txt",
    ]


def test_no_space_left_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match="boxes.json cannot be written: no space is left"):
        write_coco(tmp_path / "boxes.json", [], ())


# ------------------------------------------------------------------------------------- real data


@pytest.mark.skipif(
    not DATA or not (Path(DATA) / "bccd").is_dir(), reason="needs bccd in EIGHTBIT_DATA"
)
def test_bccd_against_its_text() -> None:
    found = read_boxes("bccd", 0)
    assert found.classes == ("Platelets", "RBC", "WBC")
    assert found.facts["counts"] == {"train": 205, "validation": 87, "test": 72}
    everything = [*found.train, *(found.validation or []), *found.test]
    with zipfile.ZipFile(Path(str(DATA)) / "bccd" / "bccd.zip") as packed:
        for each in everything[::20]:
            stem = Path(each.name).stem
            text = packed.read(f"BCCD/Annotations/{stem}.xml").decode()
            sides = [
                [int(n) for n in re.findall(f"<{side}>(\\d+)</{side}>", text)]
                for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            expected = np.array(sides, np.float32).T - (1, 1, 0, 0)
            np.testing.assert_array_equal(each.boxes, expected)
            assert each.read().shape == (each.height, each.width, 3)
    assert found.facts["boxes_dropped"] == 0 and found.facts["boxes_clipped"] == 0
