"""Actors and replay shards on a real Ray cluster: the ratio holds, and losses do not end a run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import torch

from eightbit.agents.dqn import DQN
from eightbit.agents.options import DQNOptions
from eightbit.agents.presets import PAPER_PRESETS
from eightbit.envs import EnvStepper, make_vec
from eightbit.envs.options import Protocol
from eightbit.errors import TrainingError, UsageError
from eightbit.train import cluster
from eightbit.train.distributed import DistributedDQN, Distribution, refuse_undistributable
from eightbit.train.runs import RunFolder, read_config

TINY = {
    "backbone": "nips2013",
    "backbone_options": '{"hidden": 16}',
    "num_envs": 4,
    "buffer_size": 4_000,
    "learning_starts": 600,
    "batch_size": 8,
    "replay_ratio": 1.0,
    "target_update": 1_000,
    "epsilon_ladder": True,
    "precision": "fp32",
}
OPTIONS = DQNOptions(**TINY)


@pytest.fixture(scope="module")
def ray():
    """A cluster of this machine's own, which the runs of this process use."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'eightbit[ray]'")
    leave = cluster.connect("local", 4)
    yield ray
    leave()


@contextmanager
def learning(options=OPTIONS, actors=2, shards=1, game="catch"):
    """A distributed agent and what it says."""
    stepper = EnvStepper(make_vec(game, 1))
    where = Distribution("local", actors, shards, game, Protocol.MNIH2015)
    said: list[str] = []
    agent = DistributedDQN(stepper, options, where, device="cpu", say=said.append)
    try:
        yield agent, said
    finally:
        agent.close()
        stepper.close()


def until(agent, steps, reached, seconds=180):
    """Goes on with the generator until `reached()`."""
    ends = time.monotonic() + seconds
    for step in steps:
        if reached():
            return step
        assert time.monotonic() < ends, f"not reached by step {step.num_timesteps}"
    raise AssertionError("the run ended")


def progress(agent, steps, updates, timesteps=300):
    """Goes on until so many updates and agent steps more were made."""
    before = agent.num_updates, agent.num_timesteps
    until(
        agent,
        steps,
        lambda: (
            agent.num_updates >= before[0] + updates
            and agent.num_timesteps >= before[1] + timesteps
        ),
    )


def replayed_per_step(agent, since):
    updates, steps = since
    return (agent.num_updates - updates) * 8 / (agent.num_timesteps - steps)


def test_a_run_outlives_an_actor_and_a_shard_and_keeps_its_replay_ratio(ray):
    with learning(shards=2) as (agent, said):
        steps = agent.steps(10**9)
        progress(agent, steps, 20)
        fleet = agent.processes
        since = agent.num_updates, agent.num_timesteps
        progress(agent, steps, 150, 1_200)
        # The actors may be two blocks each ahead: 4 x 128 steps.
        span = agent.num_timesteps - since[1]
        assert abs(replayed_per_step(agent, since) - 1) <= 600 / span

        killed = fleet.actors[0].pid
        os.kill(killed, signal.SIGKILL)
        until(agent, steps, lambda: said)
        assert said == [
            f"actor 0 (process {killed}) was lost; another one is started in its place."
        ]
        progress(agent, steps, 20)
        until(agent, steps, lambda: fleet.actors[0].pid not in (0, killed))
        assert fleet.actors[0].life == 1 and fleet.actors[1].life == 0

        kept = fleet.shards[1].transitions
        ray.kill(fleet.shards[0].handle)
        until(agent, steps, lambda: len(said) == 2)
        assert re.fullmatch(
            r"replay shard 0 was lost with [\d,]+ transitions; an empty one is started in its "
            r"place\.",
            said[1],
        )
        assert fleet.shards[0].transitions == 0
        progress(agent, steps, 20)
        until(agent, steps, lambda: 0 in fleet.ready())
        assert fleet.shards[1].transitions >= kept and fleet.shards[1].life == 0
        progress(agent, steps, 20)
        assert len(said) == 2
        steps.close()


@pytest.mark.long
def test_the_only_shard_is_refilled_before_learning_goes_on(ray):
    with learning() as (agent, said):
        steps = agent.steps(10**9)
        progress(agent, steps, 40)
        ray.kill(agent.processes.shards[0].handle)
        until(agent, steps, lambda: said)
        updates, timesteps = [agent.num_updates], agent.num_timesteps

        def refilled():
            if agent.processes.ready():
                return True
            updates.append(agent.num_updates)
            return False

        step = until(agent, steps, refilled)
        assert updates[-1] <= updates[0] + 4  # batches that were on their way
        assert step.num_timesteps >= timesteps + 600
        progress(agent, steps, 40)


@pytest.mark.long
def test_catch_is_learnt_through_actors_and_shards(ray):
    changes = {
        **TINY,
        **{"num_envs": 16, "buffer_size": 20_000, "learning_starts": 1_000, "batch_size": 32},
        **{"replay_ratio": 8.0, "learning_rate": 1e-3, "prioritized": True},
    }
    with learning(DQNOptions(**changes), shards=2) as (agent, said):
        for _ in agent.steps(25_000):
            pass
        env = EnvStepper(make_vec("catch", 64))
        observations, returns = env.reset(5), []
        while len(returns) < 64:
            record = env.step(agent.q_values(observations).argmax(axis=1))
            returns += [episode.episode_return for episode in record.episodes]
            observations = record.observations
        assert np.mean(returns) >= 0.6  # random play has -0.8
        assert not said


@pytest.mark.long
@pytest.mark.parametrize("kind", ["r2d2", "noisy", "vectors"])
def test_every_kind_of_memory_is_learnt_from(ray, kind):
    changes, game = dict(TINY), "catch"
    if kind == "r2d2":
        changes |= {"memory": "lstm", "memory_options": '{"hidden": 8}', "prioritized": True}
        changes |= {"sequence_length": 12, "burn_in": 2, "sequence_stride": 6}
    elif kind == "noisy":
        changes |= {"noisy": True, "method": "c51", "epsilon_ladder": False, "double": True}
    else:
        changes |= {"backbone": "mlp", "backbone_options": '{"hidden": [16]}'}
        game = "gym:CartPole-v1"
    with learning(DQNOptions(**changes), game=game) as (agent, said):
        weights = {k: v.clone() for k, v in agent._agent.network.state_dict().items()}
        progress(agent, agent.steps(10**9), 10)
        assert not said
        moved = agent._agent.network.state_dict()
        assert any(not torch.equal(moved[name], weights[name]) for name in weights)


@pytest.mark.long
def test_an_actor_that_cannot_play_ends_the_run_with_its_reason(ray):
    with (
        pytest.raises(UsageError, match="NoSuchEnv"),
        learning(game="catch") as (agent, _),
    ):
        object.__setattr__(agent.where, "game", "gym:NoSuchEnv-v0")
        next(agent.steps(1_000))
        list(agent.steps(1_000))


@pytest.mark.long
def test_an_actor_that_dies_again_and_again_ends_the_run(ray, monkeypatch):
    from eightbit.train import fleet

    class Doomed:
        def __init__(self, settings):
            pass

        def play(self, *_):
            os._exit(1)

    monkeypatch.setattr(fleet, "Actor", Doomed)
    with (
        learning(actors=1) as (agent, said),
        pytest.raises(TrainingError, match="actor 0 was lost 5 times in a row"),
    ):
        list(agent.steps(1_000))
    assert len(said) == 4


@pytest.mark.long
def test_a_machine_that_is_lost_takes_its_actor_along_and_another_goes_on():
    """In a process of its own: this one may belong to another cluster."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'eightbit[ray]'")
    done = subprocess.run(
        [sys.executable, "-c", LOSES_A_MACHINE], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "was lost; another one is started in its place." in done.stdout
    assert done.stdout.endswith("went on\n")


LOSES_A_MACHINE = """
import time
from ray.cluster_utils import Cluster
from eightbit.agents.options import DQNOptions
from eightbit.envs.options import Protocol
from eightbit.train.distributed import DistributedDQN, Distribution
from eightbit.envs import EnvStepper, make_vec

machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
second = machines.add_node(num_cpus=2)
machines.wait_for_nodes()
options = DQNOptions(**TINY)
where = Distribution(machines.address, 3, 1, "catch", Protocol.MNIH2015)
stepper = EnvStepper(make_vec("catch", 1))
agent = DistributedDQN(stepper, options, where, device="cpu")
def go(until):
    ends = time.monotonic() + 90
    for _ in agent.steps(10**9):
        if until():
            return
        assert time.monotonic() < ends
go(lambda: agent.num_updates > 20)
machines.remove_node(second)
before = agent.num_updates, agent.num_timesteps
fleet = agent.processes
go(lambda: sum(p.life for p in (*fleet.actors, *fleet.shards)) > 0)
go(lambda: agent.num_updates > before[0] + 50 and agent.num_timesteps > before[1] + 2000)
agent.close()
machines.shutdown()
print("went on")
""".replace("**TINY", f"**{TINY!r}")


# ---- the command line

WORDS = [
    *("--agent", "dqn", "--device", "cpu", "--ray", "local", "--actors", "2"),
    *("--backbone", "nips2013", "--backbone-options", '{"hidden": 16}', "--precision", "fp32"),
    *("--num-envs", "4", "--buffer-size", "2000", "--learning-starts", "300", "--batch-size", "8"),
    *("--replay-ratio", "1", "--target-update", "500"),
]


@pytest.mark.long
def test_checkpoints_go_on_on_ray_and_on_one_machine(ray, eightbit, tmp_path, monkeypatch):
    monkeypatch.setattr("eightbit.train.session.draw_run", lambda *_: None)
    run = tmp_path / "run"
    first = eightbit("train", "catch", *WORDS, "--frames", 2_000, "--out", run)
    assert (first.code, first.err) == (0, "")
    assert "epsilon_ladder is on" in first.out
    tables = read_config(run / "config.toml")
    assert tables["options"]["epsilon_ladder"] and tables["run"]["save_replay"] == "no"
    again = eightbit("train", "--resume", run, "--frames", 4_000)
    assert (again.code, again.err) == (0, "")
    assert "not kept: it is filled with 300 transitions before learning goes on" in again.out
    alone = eightbit(
        *("train", "--resume", run, "--frames", 5_000),
        *("--ray", "None", "--actors", 1),
    )
    assert (alone.code, alone.err) == (0, "")
    state = RunFolder.open(run).checkpoints.steps()[-1].load_state()["agent"]
    # Three beginnings without updates, and what had not been made when each part ended.
    assert 0 <= (5_000 - 3 * 300) - state["num_updates"] * 8 <= 3 * 600
    agent = DQN.load(run / "model.safetensors")
    assert np.isfinite(agent.q_values(np.zeros((1, 4, 84, 84), np.uint8))).all()


@pytest.mark.long
def test_ctrl_c_saves_and_leaves_no_process_behind(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'eightbit[ray]'")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "eightbit", "train", "catch", *WORDS, "--out", str(run)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    events = run / "episodes.csv"
    ends = time.monotonic() + 90
    while not events.is_file() or events.read_text().count("\n") < 20:
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.2)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 3
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "saved." in out and f"eightbit train --resume {run}" in out
    assert RunFolder.open(run).checkpoints.steps()[-1].step > 200
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not alive


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "actors", "shards", "told"),
    [
        (PAPER_PRESETS["pqn"], 2, 1, "Leave --ray out and raise --num-envs"),
        (PAPER_PRESETS["double"], 2, 1, "write --num-envs 2 or more"),
        (OPTIONS, 2, 3, "lower --replay-shards"),
        (object(), 2, 1, "take --agent dqn"),
    ],
)
def test_what_cannot_be_distributed_is_refused(options, actors, shards, told):
    with pytest.raises(UsageError, match=told):
        refuse_undistributable(options, actors, shards)


def test_a_dead_address_is_told_soon_and_nothing_is_written(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'eightbit[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    words = ["train", "catch", "--ray", f"127.0.0.1:{port}", "--out", str(tmp_path / "run")]
    # In a process of its own: this one may belong to a cluster already.
    command = [sys.executable, "-m", "eightbit", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert time.monotonic() - began < 15
    assert done.returncode == 2
    assert re.fullmatch(
        rf"eightbit: cannot join the Ray cluster at 127\.0\.0\.1:{port} \(.*refused\): start it "
        r"with .*\n",
        done.stderr,
    )
    assert not (tmp_path / "run").exists()


def test_a_process_belongs_to_one_cluster_only(ray):
    with pytest.raises(UsageError, match=r"belongs to the Ray cluster at [\d.:]+ already"):
        cluster.connect("127.0.0.1:1", 1)


@pytest.mark.long
def test_an_address_that_keeps_silent_is_told_soon():
    pytest.importorskip("ray", reason="ray is not installed: pip install 'eightbit[ray]'")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(UsageError, match="no answer within 10 s"):
            cluster._refuse_dead(f"127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 15


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="is no address: write local, auto, or HOST:PORT"):
        cluster._refuse_dead(address)


def test_actors_without_ray_are_refused(eightbit):
    answer = eightbit("train", "catch", "--actors", 3)
    assert answer.code == 2
    assert answer.err == (
        "eightbit: actors is 3, but without --ray one process does all; write --ray local, or "
        "--actors 1.\n"
    )


@pytest.mark.long
def test_too_many_actors_for_the_cluster_are_refused(ray):
    cores = int(ray.cluster_resources()["CPU"])
    with pytest.raises(UsageError, match=f"has {cores} cores and 1000 actors need one each"):
        cluster.connect("local", 1_000)
