"""`eightbit run caption` with a run that learnt from frames of games."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from eightbit.datasets.captions import squeezed
from eightbit.datasets.labelled import fitted
from eightbit.datasets.pictures import write_picture
from eightbit.tasks import RunJob, Trained, load_task
from eightbit.vision_tasks._telling.words import Words

run_module = import_module("eightbit.vision_tasks.caption.run")  # the package has a function run


@pytest.mark.parametrize(("fit", "expected"), [({"fit": "squeeze"}, squeezed), ({}, fitted)])
def test_a_picture_is_made_square_as_in_training(fit, expected, tmp_path, monkeypatch):
    picture = np.random.default_rng(0).integers(0, 255, (210, 160, 3), np.uint8)
    write_picture(tmp_path / "frame.png", picture)
    task = load_task("caption")
    options = replace(task.presets["fast"].options, size=32)
    words = Words.learn(["the ball is left of the green paddle"] * 5, 1)
    facts = {"words": words.to_facts(), "usual": "the ball", "size": 32, **fit}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, facts).eval()
    trained = Trained(task, model, options, facts, torch.device("cpu"), tmp_path)
    seen = []
    as_input = run_module.as_input
    monkeypatch.setattr(run_module, "as_input", lambda rgb: seen.append(rgb) or as_input(rgb))
    said = []
    task.run(trained, RunJob([str(tmp_path)], None, task.run_options, said.append))
    assert len(said) == 1 and len(seen) == 1
    assert np.array_equal(seen[0], expected(picture, 32))
