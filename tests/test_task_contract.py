"""What every registered task keeps, by being registered."""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import pytest
import torch

from eightbit import sequence_tasks, vision_tasks  # noqa: F401  # each registers its tasks
from eightbit.arguments import options_of
from eightbit.backbones import BACKBONES, config_of
from eightbit.datasets import DATASETS
from eightbit.datasets.download import local_folder
from eightbit.evaluate.task_scores import ScoreSettings, score_run
from eightbit.tasks import Moment, Preset, TaskData, load_task, task_names
from eightbit.train.session import decode_options
from eightbit.train.task_session import TaskPlan, TaskRequest, start_task_run

NAMES = task_names()
BATCH = 8


def _data_there(name: str) -> bool:
    return local_folder(name) is not None or DATASETS[name].generated


def first_preset(name: str) -> Preset:
    return next(iter(load_task(name).presets.values()))


@cache
def data_of(name: str) -> TaskData:
    preset = first_preset(name)
    if not _data_there(preset.data):
        pytest.skip(f"EIGHTBIT_DATA holds no {preset.data}")
    return load_task(name).build_data(preset.options, preset.data, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_describes_itself(name):
    task = load_task(name)
    assert task.name == name and task.description and task.presets and task.metrics
    kinds = {type(preset.options) for preset in task.presets.values()}
    assert len(kinds) == 1, "all presets of a task share one type of options"
    (kind,) = kinds
    for preset in task.presets.values():
        table = json.loads(json.dumps(dataclasses.asdict(preset.options)))
        told = {key: "none" if value is None else value for key, value in table.items()}
        assert decode_options(kind, told) == preset.options
    for options in (first_preset(name).options, task.run_options):
        assert all(option.help for option in options_of(options)), "each option has its help"


@pytest.mark.parametrize("name", NAMES)
def test_batches_follow_from_seed_and_step(name):
    data = data_of(name)
    json.dumps(data.facts)
    first, again, next_one = data.batch(5, BATCH), data.batch(5, BATCH), data.batch(6, BATCH)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], next_one[key]) for key in first)
    assert all(len(tensor) == BATCH for tensor in first.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_model_learns_in_every_part_and_its_trunk_is_of_the_registry(name):
    task, preset, data = load_task(name), first_preset(name), data_of(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(preset.options, data.facts).train()
    assert config_of(model.backbone).name in BACKBONES
    losses = task.loss(model, data.batch(0, BATCH), Moment(0, 0.0, torch.Generator()))
    assert torch.isfinite(losses["loss"]) and losses["loss"].ndim == 0
    losses["loss"].backward()
    still = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not still, f"no gradient reaches {still}"


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_hold_every_weight_once(name):
    task, preset, data = load_task(name), first_preset(name), data_of(name)
    model = task.build_model(preset.options, data.facts)
    groups = task.parameter_groups(model, preset.learning)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_model(name):
    task, preset, data = load_task(name), first_preset(name), data_of(name)
    found = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found.append(task.build_model(preset.options, data.facts).state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert any(not torch.equal(found[0][key], found[2][key]) for key in found[0])


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_minute_of_the_first_preset_beats_both_controls(name, tmp_path):
    task, preset = load_task(name), first_preset(name)
    splits = data_of(name).splits  # skips where the data are missing
    split = "validation" if "validation" in splits else "test"
    request = TaskRequest(task=name, preset="", data=preset.data, minutes=1.0)
    plan = TaskPlan(request, preset.options, preset.learning)
    folder, _ = start_task_run(plan, out=tmp_path / "run")
    path = score_run(str(folder.path), ScoreSettings(split=split), command="")
    metric = task.metrics[0]
    found = json.loads(path.read_text(encoding="utf-8"))["metrics"][metric.name]
    for control in ("trivial", "shuffled"):
        gain = found["value"] - found["controls"][control]["value"]
        assert (gain if metric.higher_is_better else -gain) > 0, control
