"""`eightbit run detect` on pictures, folders, films and a camera; numbers of followed objects."""

from __future__ import annotations

import csv
import importlib
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
import torch

from eightbit.datasets import films
from eightbit.datasets.films import FilmReader
from eightbit.datasets.pictures import read_picture, write_picture
from eightbit.errors import DataError, TaskError, UnknownNameError, UsageError
from eightbit.tasks import RunJob, Trained
from eightbit.vision_tasks.detect.boxes import Detections
from eightbit.vision_tasks.detect.run import DetectRunOptions
from eightbit.vision_tasks.detect.tracks import Tracker

CLASSES = ["red", "blue"]

running = importlib.import_module("eightbit.vision_tasks.detect.run")  # `detect.run` is a function


def bright_things(
    model: Any, pictures: Sequence[np.ndarray], conf: float, iou: float, most: int
) -> list[Detections]:
    """Stands for the network: a box around all that is red, and one around all that is blue."""
    results = []
    for picture in pictures:
        boxes, labels = [], []
        for label, channel in ((0, 0), (1, 2)):
            rows, columns = np.nonzero(picture[..., channel] > 150)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                labels.append(label)
        results.append(
            Detections(
                torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                torch.tensor([0.9 - 0.1 * label for label in labels]),
                torch.tensor(labels, dtype=torch.int64),
            )
        )
    return results


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    monkeypatch.setattr(running, "detect_pictures", bright_things)
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Identity()
    facts = {"classes": CLASSES}
    return Trained(cast(Any, None), model, None, facts, torch.device("cpu"), tmp_path / "run")


def job(inputs: list[str], output: str | None, said: list[str], **options: Any) -> RunJob:
    folder = None if output is None else Path(output)
    return RunJob(inputs, folder, DetectRunOptions(**options), said.append)


def picture(x: int, *, blue: bool = True) -> np.ndarray:
    """A red square at (x, 20), a blue one at (70, 40); 12 pixels wide."""
    made = np.zeros((80, 100, 3), np.uint8)
    made[20:32, x : x + 12, 0] = 255
    if blue:
        made[40:52, 70:82, 2] = 255
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_picture(tmp_path / "in" / "a.png", picture(10))
    write_picture(tmp_path / "in" / "deep" / "a.png", picture(30, blue=False))
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    return tmp_path / "in"


def table_rows() -> list[dict[str, str]]:
    with Path("out/detections.csv").open() as file:
        return list(csv.DictReader(file))


def write_film(path: Path, frames: int = 20, sound: bool = True) -> None:
    """Red moves right by 2 pixels a frame; at 10 frames a second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 100, 80, "yuv444p"
        video.options = {"crf": "5"}
        audio = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for number in range(frames):
            shown = picture(2 + 2 * number)
            shown[..., 1] = rng.integers(0, 60, shown.shape[:2])  # so that every frame has a size
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            tone = (0.3 * np.sin(np.arange(32_000) / 5)).astype(np.float32)
            for start in range(0, 32_000, 1024):
                part = tone[None, start : start + 1024]
                piece = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                piece.sample_rate, piece.pts = 16_000, start
                piece.time_base = Fraction(1, 16_000)
                container.mux(audio.encode(piece))
            container.mux(audio.encode())


# ---------------------------------------------------------------------------------- pictures


def test_a_folder_goes_on_after_a_broken_picture(trained: Trained, folder: Path) -> None:
    said: list[str] = []
    with pytest.raises(TaskError, match=r"1 of 3 failed: .*broken\.jpg"):
        running.run(trained, job([str(folder)], "out", said, save="both", format="json"))
    assert said[0] == "a.png: 1 red, 1 blue" and said[1] == "deep/a.png: 1 red"
    assert read_picture(Path("out/a.png")).shape == (80, 100, 3)
    assert (read_picture(Path("out/deep/a.png")) != picture(30, blue=False)).any()
    table = json.loads(Path("out/detections.json").read_text())
    assert [entry["file"] for entry in table] == ["a.png", "deep/a.png"]
    assert table[0]["objects"][0] == {"class": "red", "score": 0.9, "box": [10, 20, 22, 32]}
    red = sorted(Path("out/crops/red").iterdir())
    assert len(red) == 2 and (read_picture(red[0])[..., 0] == 255).all()
    assert len(list(Path("out/crops/blue").iterdir())) == 1


def test_one_picture_to_one_file(trained: Trained, folder: Path) -> None:
    said: list[str] = []
    given = str(folder / "a.png")
    running.run(trained, job([given], "drawn.jpg", said))
    assert Path("drawn.jpg").is_file() and said == ["a.png: 1 red, 1 blue", "results in drawn.jpg"]
    for inputs, output, save in (
        ([str(folder)], "x.png", "pictures"),
        ([given, given], "x.png", "pictures"),
        ([given], "x.png", "both"),
        ([given], "x.mp4", "pictures"),
        (["camera:0"], "x.png", "pictures"),
    ):
        with pytest.raises(UsageError, match="x\\."):
            running.run(trained, job(inputs, output, said, save=save))
    with pytest.raises(UsageError, match="is the picture that is read"):
        running.run(trained, job([given], given, said))
    assert (read_picture(folder / "a.png") == picture(10)).all()


def test_without_an_output_results_lie_in_a_folder(trained: Trained, folder: Path) -> None:
    given = str(folder / "a.png")
    running.run(trained, job([given], None, []))
    assert Path("detected/a.png").is_file()
    running.run(trained, job([given], "none", [], save="none"))
    assert not Path("none").exists()


def test_equal_names_are_kept_apart(trained: Trained, folder: Path) -> None:
    inputs = [str(folder / "a.png"), str(folder / "deep" / "a.png")]
    running.run(trained, job(inputs, "out", [], save="pictures"))
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "a_2.png"]


def test_classes_are_chosen(trained: Trained, folder: Path) -> None:
    said: list[str] = []
    running.run(trained, job([str(folder / "a.png")], "out", said, classes=" blue,", format="csv"))
    rows = table_rows()
    assert [row["class"] for row in rows] == ["blue"] and rows[0]["frame"] == rows[0]["track"] == ""
    assert [float(rows[0][side]) for side in ("x1", "y1", "x2", "y2")] == [70, 40, 82, 52]
    with pytest.raises(UnknownNameError, match="did you mean blue"):
        running.run(trained, job([str(folder / "a.png")], "out", said, classes="bleu"))


def test_at_most_so_many(trained: Trained, folder: Path) -> None:
    said: list[str] = []
    running.run(trained, job([str(folder / "a.png")], "out", said, max_det=1))
    assert said[0] == "a.png: 1 red"


def test_voc_coco_and_yolo(trained: Trained, folder: Path) -> None:
    given = [str(folder / "a.png")]
    for layout in ("voc", "coco", "yolo"):
        running.run(trained, job(given, "out", [], save="none", format=layout, counts=True))
    root = ElementTree.parse("out/Annotations/a.xml").getroot()
    assert [thing.findtext("name") for thing in root.iter("object")] == CLASSES
    assert root.findtext("object/bndbox/xmin") == "11"
    coco = json.loads(Path("out/coco.json").read_text())
    assert [one["bbox"] for one in coco["annotations"]] == [[10, 20, 12, 12], [70, 40, 12, 12]]
    line = Path("out/labels/a.txt").read_text().splitlines()[1].split()
    assert [float(number) for number in line] == pytest.approx([1, 0.76, 0.575, 0.12, 0.15, 0.8])
    assert Path("out/counts.csv").read_text() == "file,frame,red,blue\na.png,,1,1\n"


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ([], UsageError, "name pictures"),
        (["missing.png"], DataError, "missing.png does not exist"),
        (["camera:one"], UsageError, "camera:one names no camera"),
        (["empty"], DataError, "empty holds no pictures and no films"),
        (["empty.mp4"], DataError, "empty.mp4 is empty"),
    ],
)
def test_bad_inputs_have_one_sentence(
    trained: Trained, given: list[str], error: type[Exception], sentence: str
) -> None:
    Path("empty").mkdir()
    Path("empty.mp4").touch()
    with pytest.raises(error, match=sentence):
        running.run(trained, job(given, "out", []))
    assert not Path("out").exists()


@pytest.mark.parametrize("options", [{"conf": 1.5}, {"iou": -0.1}, {"max_det": 0}, {"limit": -1}])
def test_options_in_range(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        DetectRunOptions(**options)


# ------------------------------------------------------------------------- films and cameras


def test_a_film_keeps_its_sound_and_numbers_its_objects(trained: Trained) -> None:
    write_film(Path("film.mp4"))
    said: list[str] = []
    running.run(trained, job(["film.mp4"], "out", said, format="json", track=True, counts=True))
    assert said[0] == "film.mp4: 20 frames, 1.0 red, 1.0 blue a frame"
    drawn = FilmReader(Path("out/film.mp4"))
    assert drawn.has_sound and drawn.rate == 10
    frames = list(drawn.frames())
    assert len(frames) == 20
    assert [round(time, 2) for time, _ in frames] == [round(i / 10, 2) for i in range(20)]
    shown = np.abs(frames[5][1].astype(int) - picture(12)).max(axis=2)
    assert (shown > 60).sum() > 50  # lines and names
    table = json.loads(Path("out/detections.json").read_text())
    assert [entry["frame"] for entry in table] == list(range(20))
    assert table[7]["time"] == 0.7
    for name in CLASSES:
        tracks = {o["track"] for e in table for o in e["objects"] if o["class"] == name}
        assert len(tracks) == 1
    assert len(Path("out/counts.csv").read_text().splitlines()) == 21


def test_a_film_that_ends_in_the_middle(trained: Trained) -> None:
    write_film(Path("whole.mkv"), frames=40, sound=False)
    content = Path("whole.mkv").read_bytes()
    Path("cut.mkv").write_bytes(content[: len(content) // 2])
    write_picture(Path("a.png"), picture(10))
    said: list[str] = []
    with pytest.raises(TaskError, match=r"1 of 2 failed: cut\.mkv is damaged"):
        running.run(trained, job(["cut.mkv", "a.png"], "out", said, format="csv"))
    kept = len(list(FilmReader(Path("out/cut.mkv")).frames()))
    assert 5 < kept < 40 and f"cut.mkv: {kept} frames" in said[0] and "a.png" in said[1]
    rows = table_rows()
    assert len([row for row in rows if row["file"] == "cut.mkv"]) == 2 * kept


def test_label_files_are_of_pictures(trained: Trained) -> None:
    write_film(Path("film.mp4"), frames=3, sound=False)
    with pytest.raises(UsageError, match="film.mp4 is no picture, and yolo"):
        running.run(trained, job(["film.mp4"], "out", [], format="yolo"))


def test_a_film_to_one_file(trained: Trained) -> None:
    write_film(Path("film.mp4"), frames=3, sound=False)
    running.run(trained, job(["film.mp4"], "drawn.mkv", []))
    assert len(list(FilmReader(Path("drawn.mkv")).frames())) == 3
    running.run(trained, job(["film.mp4"], "crops", [], save="crops"))
    assert len(list(Path("crops/crops/red").iterdir())) == 3
    assert not Path("crops/film.mp4").exists()


def test_a_camera_until_the_limit(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def camera(number: int) -> Iterator[np.ndarray]:
        assert number == 3
        for step in range(100):
            yield picture(2 * step % 60)

    monkeypatch.setattr(films, "open_camera", camera)
    said: list[str] = []
    running.run(trained, job(["camera:3"], "out", said, limit=4, format="json", track=True))
    assert sorted(path.name for path in Path("out/camera-3").iterdir()) == [
        f"{number:06d}.jpg" for number in range(4)
    ]
    table = json.loads(Path("out/detections.json").read_text())
    assert [entry["frame"] for entry in table] == [0, 1, 2, 3] and "time" not in table[0]


def test_a_camera_is_left_with_an_interrupt(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def camera(number: int) -> Iterator[np.ndarray]:
        yield picture(5)
        raise KeyboardInterrupt

    monkeypatch.setattr(films, "open_camera", camera)
    said: list[str] = []
    running.run(trained, job(["camera:0"], "out", said, format="csv"))
    assert "stopped" in said and len(Path("out/detections.csv").read_text().splitlines()) == 3


# ------------------------------------------------------------------------------------ tracks


def boxes_at(centers: list[tuple[float, float]], labels: list[int] | None = None) -> Detections:
    corners = torch.tensor(centers, dtype=torch.float32).reshape(-1, 2)
    return Detections(
        torch.cat([corners - 10, corners + 10], dim=1),
        torch.ones(len(corners)),
        torch.tensor(labels or [0] * len(corners), dtype=torch.int64),
    )


def test_numbers_stay_when_paths_cross() -> None:
    """Two objects that move against each other on lines 15 pixels apart, in changing order."""
    tracker = Tracker()
    seen = []
    for step in range(40):
        centers = [(10 + 5.0 * step, 50.0), (210 - 5.0 * step, 65.0)]
        turned = step % 2 == 1
        numbers = tracker.update(boxes_at(centers[::-1] if turned else centers))
        seen.append(numbers[::-1] if turned else numbers)
    assert all(numbers == [1, 2] for numbers in seen)


def test_a_gap_is_bridged_and_a_long_one_is_not() -> None:
    tracker = Tracker(patience=5)
    numbers = [tracker.update(boxes_at([(10 + 6.0 * step, 50)]))[0] for step in range(10)]
    for _ in range(5):
        assert tracker.update(boxes_at([])) == []
    assert tracker.update(boxes_at([(10 + 6.0 * 15, 50)])) == [1] and numbers == [1] * 10
    for _ in range(6):
        tracker.update(boxes_at([]))
    assert tracker.update(boxes_at([(10 + 6.0 * 22, 50)])) == [2]


def test_classes_are_not_mixed() -> None:
    tracker = Tracker()
    assert tracker.update(boxes_at([(50, 50)], [0])) == [1]
    assert tracker.update(boxes_at([(50, 50)], [1])) == [2]
    assert tracker.update(boxes_at([(50, 50), (50, 50)], [1, 0])) == [2, 1]


def test_every_number_is_used_once_a_frame(rng: np.random.Generator) -> None:
    tracker = Tracker()
    for _ in range(20):
        count = int(rng.integers(0, 12))
        centers = rng.uniform(0, 60, (count, 2)).tolist()
        numbers = tracker.update(boxes_at([tuple(center) for center in centers]))
        assert len(set(numbers)) == count and min(numbers, default=1) >= 1


def test_the_picture_is_that_of_opencv() -> None:
    """The stand-in for the network sees what the test draws."""
    found = bright_things(None, [picture(10)], 0.1, 0.5, 9)[0]
    assert found.boxes.tolist() == [[10, 20, 22, 32], [70, 40, 82, 52]]
    assert cv2.countNonZero(picture(10)[..., 0]) == 144
