"""Data, scores and training: on scenes of ours and on photographs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eightbit.datasets.scenes import scene
from eightbit.errors import DataError
from eightbit.tasks import Moment, TaskData, load_task
from eightbit.vision_tasks._telling.words import END, START, Words
from eightbit.vision_tasks.caption import TASK, CaptionOptions
from eightbit.vision_tasks.caption.data import build_data
from eightbit.vision_tasks.caption.scores import nearest

SMALL = CaptionOptions(
    backbone_options='{"channels": [16, 32], "hidden": 32, "layer_norm": true}',
    size=32,
    memory=48,
    embedding=48,
    hidden=64,
    dropout=0.0,
)


@pytest.fixture(scope="module")
def scenes() -> TaskData:
    return build_data(SMALL, "scenes", 0)


def model_of(options: CaptionOptions, data: TaskData, seed: int = 0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TASK.build_model(options, data.facts)


def test_the_task_is_found_by_its_name():
    assert load_task("caption") is TASK
    assert next(iter(TASK.presets)) == "fast"


def test_no_scene_is_learnt_from_twice(scenes):
    words = Words.from_facts(scenes.facts["words"])
    first = scenes.batch(0, 8)
    later = scenes.batch(scenes.examples, 8)  # eight passes later
    assert not set(first["owners"].tolist()) & set(later["owners"].tolist())
    assert not torch.equal(first["pictures"], later["pictures"])
    for number, ids in zip(first["owners"].tolist(), first["sentences"].tolist(), strict=True):
        assert ids[0] == START and END in ids
        assert words.decode(ids) == scene("train", 0, number).sentence


def test_mirroring_and_moving_keep_what_there_is(scenes):
    moved = build_data(replace(SMALL, flip=True, shift=3), "scenes", 0).batch(3, 32)["pictures"]
    plain = scenes.batch(3, 32)["pictures"]
    assert moved.shape == plain.shape and not torch.equal(moved, plain)
    middle = plain[:, :, 12:20, 12:20]
    for one, other in zip(moved, middle, strict=True):
        windows = one.unfold(1, 8, 1).unfold(2, 8, 1)  # (3, 25, 25, 8, 8)
        near = torch.stack([other, other.flip(2)])[:, :, None, None]
        here = (windows[None] == near).all(-1).all(-1).all(1)
        assert here.any()


def test_values_of_perfect_and_of_true_sentences(scenes, monkeypatch):
    """What is scored is what was said: the scenes' own sentences, and others that are true."""
    model = model_of(SMALL, scenes).eval()
    part = scenes.splits["test"]
    part = replace(part, members=part.members[:40], memory={})
    data = replace(scenes, splits={"train": scenes.splits["train"], "test": part})
    perfect = [one.sentences[0] for one in part.members]
    shorter = [text.split(" and ")[0] for text in perfect]
    module = __import__("eightbit.vision_tasks.caption.scores", fromlist=["predict"])
    every = np.arange(40)
    for texts, exact in ((perfect, 1.0), (shorter, np.mean([" and " not in t for t in perfect]))):
        made = type("Made", (), {"texts": texts, "rate": 1.0})()
        monkeypatch.setattr(module, "predict", lambda *_, made=made: made)
        found = TASK.measure(model, data, "test", "none")
        assert found.units == 40
        assert found.values["exact"](every) == exact
        assert found.values["true"](every) == 1
        wrong = TASK.measure(model, data, "test", "shuffled")
        assert wrong.values["true"](every) < 0.2
        assert wrong.values["cider"](every) < 0.5 * found.values["cider"](every)
    assert found.values["bleu_4"](every) < 1
    assert {"pixels", "trunk"} == set(found.details["nearest_picture"])
    with pytest.raises(DataError, match="no dev split"):
        TASK.measure(model, data, "dev", "none")


def test_nearest_is_the_least_distance(rng):
    asked, known = rng.normal(size=(9, 5)), rng.normal(size=(20, 5))
    brute = [np.linalg.norm(known - one, axis=1).argmin() for one in asked]
    assert nearest(asked, known).tolist() == brute


def fit(options: CaptionOptions, data: TaskData, steps: int, rate: float, batch: int = 32):
    model = model_of(options, data).train()
    TASK.begin(model, data)
    learning = replace(TASK.presets["fast"].learning, weight_decay=0.01)
    optimizer = torch.optim.AdamW(TASK.parameter_groups(model, learning), rate)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, 10 * (step + 1) / steps, 2 * (1 - step / steps))
            moment = Moment(step, step / steps, torch.Generator().manual_seed(step))
            with torch.autocast("cpu", torch.bfloat16):
                losses = TASK.loss(model, data.batch(step, batch), moment)
            losses["loss"].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def test_seconds_of_scenes_beat_the_controls_on_pairs_never_seen(scenes):
    model = fit(SMALL, scenes, steps=320, rate=4e-3)
    part = replace(scenes.splits["test"], members=scenes.splits["test"].members[:200], memory={})
    data = replace(scenes, splits={"train": scenes.splits["train"], "test": part})
    every = np.arange(200)
    found = {c: TASK.measure(model, data, "test", c) for c in ("none", "trivial", "shuffled")}
    cider = {c: one.values["cider"](every) for c, one in found.items()}
    assert cider["none"] > 1.2 * cider["shuffled"]
    assert cider["none"] > 1.2 * cider["trivial"]
    sample, *attention = TASK.samples(model, data, 3)
    assert sample.picture.std() > 20 and len(attention) == 3


@pytest.mark.long
def test_a_minute_of_scenes_names_colours_of_pairs_never_seen():
    options = replace(TASK.presets["scenes"].options, size=48)
    scenes = build_data(options, "scenes", 0)
    model = fit(options, scenes, steps=700, rate=3e-3, batch=64)
    part = replace(scenes.splits["test"], members=scenes.splits["test"].members[:200], memory={})
    data = replace(scenes, splits={"train": scenes.splits["train"], "test": part})
    every = np.arange(200)
    found = {c: TASK.measure(model, data, "test", c) for c in ("none", "trivial", "shuffled")}
    cider = {c: one.values["cider"](every) for c, one in found.items()}
    assert cider["none"] > 3 * cider["shuffled"] and cider["none"] > 3 * cider["trivial"]


def test_seconds_of_photographs_say_more_than_the_usual_sentence():
    root = Path(os.environ.get("EIGHTBIT_DATA", ""))
    if not (root / "flickr8k_900").is_dir():
        pytest.skip("set EIGHTBIT_DATA to the folder with flickr8k_900")
    few = replace(SMALL, fewest=5, longest=16, flip=True, dropout=0.1, detector_weight=0.3)
    options = replace(few, ranking="embedding", ranking_size=64, embedding=96, hidden=96)
    data = build_data(options, "flickr8k-900", 0)
    model = fit(options, data, steps=180, rate=3e-3)
    every = np.arange(100)
    found = TASK.measure(model, data, "test", "none")
    usual = TASK.measure(model, data, "test", "trivial").values
    assert found.values["bleu_1"](every) > usual["bleu_1"](every) + 0.03
    assert found.values["rouge_l"](every) > usual["rouge_l"](every)
    assert "true" not in found.values
    retrieval = found.details["retrieval"]
    assert retrieval["pictures"] == 100 and retrieval["sentences"] == 500
    assert retrieval["picture_of_a_sentence"]["median_rank"] < 46
