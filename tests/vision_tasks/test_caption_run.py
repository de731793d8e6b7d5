"""`eightbit run caption`: what it writes, finds and refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eightbit.datasets.pictures import read_picture, write_picture
from eightbit.errors import DataError, TaskError, UsageError
from eightbit.tasks import RunJob, Trained
from eightbit.vision_tasks._telling.words import Words
from eightbit.vision_tasks.caption import TASK, CaptionOptions, CaptionRunOptions
from eightbit.vision_tasks.caption.run import image_id

WORDS = Words.learn(["a red circle", "a blue square", "a green star"])


def trained_of(**options) -> Trained:
    settings = {
        "backbone_options": '{"channels": [4, 8], "hidden": 12}',
        "size": 16,
        "memory": 10,
        "embedding": 9,
        "hidden": 11,
        "ranking_size": 8,
        "longest": 6,
        **options,
    }
    made = CaptionOptions(**settings)
    facts = {"words": WORDS.to_facts()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TASK.build_model(made, facts).eval()
    return Trained(TASK, model, made, facts, torch.device("cpu"), Path("run"))


@pytest.fixture
def folder(tmp_path, rng) -> Path:
    for name in ("COCO_val2014_000000000042.jpg", "b.png", "c.webp"):
        rgb = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        write_picture(tmp_path / "pictures" / name, rgb)
    return tmp_path / "pictures"


def _job(inputs, output=None, **options) -> tuple[RunJob, list[str]]:
    said: list[str] = []
    job = RunJob([str(i) for i in inputs], output, CaptionRunOptions(**options), said.append)
    return job, said


def test_bad_pictures_are_named_and_the_rest_is_told(folder, tmp_path):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    output = tmp_path / "told.json"
    job, said = _job([folder, tmp_path / "missing.png"], output)
    with pytest.raises(TaskError, match=r"2 of 5 failed: .*broken.png .*missing.png does not"):
        TASK.run(trained_of(), job)
    rows = json.loads(output.read_text())
    assert [row["image_id"] for row in rows] == [42, "b", "c"]
    assert all(isinstance(row["caption"], str) and row["log_probability"] < 0 for row in rows)
    assert said[0] == f"{rows[0]['file']}: {rows[0]['caption']}"
    with pytest.raises(DataError, match=r"broken\.png"):
        TASK.run(trained_of(), _job([folder / "broken.png"])[0])


def test_cocos_own_tools_take_the_file(folder, tmp_path):
    coco = pytest.importorskip("pycocotools.coco").COCO()
    coco.dataset = {"images": [{"id": 42}], "annotations": []}
    coco.createIndex()
    output = tmp_path / "told.json"
    TASK.run(trained_of(), _job([folder / "COCO_val2014_000000000042.jpg"], output)[0])
    found = coco.loadRes(str(output))
    assert found.imgToAnns[42][0]["caption"] == json.loads(output.read_text())[0]["caption"]


def test_n_best_are_in_order_and_in_the_table(folder, tmp_path):
    output = tmp_path / "told.csv"
    job, said = _job([folder], output, n_best=3)
    TASK.run(trained_of(), job)
    rows = list(csv.reader(output.read_text().splitlines()))
    assert rows[0] == ["picture", "place", "caption", "log_probability"]
    assert [row[1] for row in rows[1:]] == ["1", "2", "3"] * 3
    for start in (1, 4, 7):
        values = [float(row[3]) for row in rows[start : start + 3]]
        assert values == sorted(values, reverse=True)
        assert len({row[2] for row in rows[start : start + 3]}) == 3
    assert said[0].endswith(f"({float(rows[1][3]):.2f})") and len(said) == 10


def test_draws_follow_their_seed(folder):
    def told(seed: int) -> list[str]:
        job, said = _job([folder], temperature=1.0, n_best=4, seed=seed)
        TASK.run(trained_of(), job)
        return said

    assert told(1) == told(1) != told(2)


def test_pictures_of_attention_and_alignment(folder, tmp_path):
    # A network that has learnt nothing may end at once; one that cannot end says something.
    trained = trained_of(ranking="alignment")
    with torch.no_grad():
        trained.model.bias[:4] = -50
    maps, regions = tmp_path / "maps", tmp_path / "regions"
    job, _ = _job([folder], attention=str(maps), alignment=str(regions))
    TASK.run(trained, job)
    for place in (maps, regions):
        sheets = sorted(place.iterdir())
        assert [one.name.split("_")[0] for one in sheets] == ["000001", "000002", "000003"]
        assert read_picture(sheets[0]).std() > 20


def test_pictures_are_found_by_sentences_and_sentences_by_pictures(folder, tmp_path, capsys):
    for ranking in ("none", "embedding", "alignment"):
        trained = trained_of(ranking=ranking)
        job, said = _job([folder], find="A red circle, shining!", top=2)
        TASK.run(trained, job)
        scores = [float(line.split()[0]) for line in said]
        assert len(said) == 2 and scores == sorted(scores, reverse=True)
        assert (
            "not in the training sentences, so not looked for: shining" in capsys.readouterr().err
        )
        texts = tmp_path / "texts.txt"
        texts.write_text("a red circle\n\na blue square\n", encoding="utf-8")
        job, said = _job([folder], among=str(texts))
        TASK.run(trained, job)
        assert len(said) == 6
        assert all("a red circle" in line or "a blue square" in line for line in said)


def test_what_cannot_be_done_is_one_sentence(folder, tmp_path):
    with pytest.raises(UsageError, match="name pictures or folders"):
        TASK.run(trained_of(), _job([])[0])
    with pytest.raises(UsageError, match="no attention to draw"):
        TASK.run(trained_of(way="first"), _job([folder], attention="maps")[0])
    with pytest.raises(UsageError, match="train one with --ranking alignment"):
        TASK.run(trained_of(), _job([folder], alignment="maps")[0])
    with pytest.raises(UsageError, match="no word of 'xylophone' was in the training"):
        TASK.run(trained_of(), _job([folder], find="xylophone")[0])
    with pytest.raises(DataError, match=r"none\.txt cannot be read"):
        TASK.run(trained_of(), _job([folder], among=str(tmp_path / "none.txt"))[0])
    with pytest.raises(UsageError, match="leave -o out"):
        TASK.run(trained_of(), _job([folder], tmp_path / "a.json", find="a circle")[0])
    with pytest.raises(UsageError, match="ends in none of .json and .csv"):
        TASK.run(trained_of(), _job([folder], tmp_path / "a.txt")[0])
    with pytest.raises(UsageError, match="cannot be above the beam"):
        CaptionRunOptions(n_best=9)
    with pytest.raises(UsageError, match="exclude each other"):
        CaptionRunOptions(find="a", among="b")


def test_numbers_of_coco_pictures():
    assert image_id("folder/COCO_train2017_000000391895.jpg") == 391895
    assert image_id("000000391895.jpg") == 391895
    assert image_id("holiday 2.jpg") == "holiday 2"
