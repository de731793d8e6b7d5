"""Going on from a run folder equals never having stopped, and a configuration repeats its run."""

from __future__ import annotations

import csv

import numpy as np
import torch

from eightbit.train.runs import RunFolder, read_config


def last_state(folder):
    """Everything that the last checkpoint holds, and the replay memory."""
    checkpoint = RunFolder.open(folder).checkpoints.steps()[-1]
    state = checkpoint.load_state()
    state["run"].pop("minutes")
    return {**state, "replay": checkpoint.load_replay()}


def differences(one, other, place=""):
    """The places where two nested states differ."""
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{place}: keys"]
        return [p for key in one for p in differences(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f"{place}: length"]
        pairs = enumerate(zip(one, other, strict=True))
        return [p for i, (a, b) in pairs for p in differences(a, b, f"{place}/{i}")]
    if isinstance(one, torch.Tensor):
        same = torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and np.array_equal(one, other)
    else:
        same = one == other
    return [] if same else [place]


def rows(path, *without):
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(file)]


TIMED = ("minutes", "fps", "loss", "q_mean")  # of the clock, or means since the last report


def test_resuming_equals_never_having_stopped_bit_for_bit(train, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("catch", "--frames", 480, "--out", whole).code == 0
    assert train("catch", "--frames", 240, "--save-replay", "--out", parts).code == 0
    for frames in (300, 480):
        answer = train("--resume", parts, "--frames", frames)
        assert (answer.code, answer.err) == (0, "")
        assert "new episodes" not in answer.out and "not kept" not in answer.out
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    one, other = last_state(whole), last_state(parts)
    assert differences(one, other) == []
    assert one["agent"]["num_updates"] > 40 and one["agent"]["optimizer"]["0"]["exp_avg"].any()
    assert one["replay"]["time"] * 4 == 480
    games = [rows(folder / "episodes.csv", "minutes") for folder in (whole, parts)]
    assert games[0] == games[1] and len(games[0]) == 4 * (480 // 4 // 11)
    ends = [rows(folder / "progress.csv", *TIMED)[-1] for folder in (whole, parts)]
    assert ends[0] == ends[1] and ends[0]["agent_steps"] == "480"


def test_without_its_replay_memory_a_run_refills_it_and_says_so(train, tmp_path):
    run = tmp_path / "run"
    assert train("catch", "--frames", 240, "--no-save-replay", "--out", run).code == 0
    assert not list(run.rglob("replay.safetensors"))
    before = last_state(run)["agent"]["num_updates"]
    answer = train("--resume", run, "--frames", 300)
    assert "not kept: it is filled with 60 transitions before learning goes on" in answer.out
    assert "new episodes begin" in answer.out
    assert last_state(run)["agent"]["num_updates"] == before > 0
    assert train("--resume", run, "--frames", 480, "--save-replay").code == 0
    assert last_state(run)["agent"]["num_updates"] > before
    assert last_state(run)["replay"] is not None


def test_atari_goes_on_bit_for_bit_too(train, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("pong", "--frames", 1_600, "--out", whole).code == 0
    assert train("pong", "--frames", 800, "--save-replay", "--out", parts).code == 0
    answer = train("--resume", parts, "--frames", 1_600)
    assert (answer.code, answer.err) == (0, "")
    assert "new episodes" not in answer.out and "not kept" not in answer.out
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    one, other = last_state(whole), last_state(parts)
    assert differences(one, other) == []
    assert one["agent"]["num_timesteps"] == 400 and one["agent"]["num_updates"] > 10


def test_a_configuration_repeats_its_run_identically(train, tmp_path):
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    options = ("--frames", 240, "--seed", 5, "--precision", "auto")
    assert train("catch", *options, "--out", first).code == 0
    settled = read_config(first / "config.toml")["options"]["precision"]
    assert settled in ("fp32", "bf16")
    config = ("--config", first / "config.toml")
    assert train(*config, "--out", again).code == 0
    assert train(*config, "--out", other, "--seed", 6).code == 0
    models = [(folder / "model.safetensors").read_bytes() for folder in (first, again, other)]
    assert models[0] == models[1] != models[2]
    tables = [read_config(folder / "config.toml") for folder in (first, again)]
    assert tables[0] == tables[1]


def test_minutes_end_a_run_and_count_over_all_resumes(train, tmp_path):
    run = tmp_path / "run"
    answer = train("catch", "--minutes", 0.005, "--out", run)
    assert answer.code == 0 and "trained" in answer.out
    steps = RunFolder.open(run).checkpoints.steps()[-1].step
    refused = train("--resume", run)
    assert refused.code == 2
    assert refused.err == "eightbit: the run has had its 0.005 minutes; give more --minutes.\n"
    assert train("--resume", run, "--minutes", 0.01).code == 0
    assert RunFolder.open(run).checkpoints.steps()[-1].step > steps
    assert 0.01 <= float(rows(run / "progress.csv")[-1]["minutes"]) < 0.1
