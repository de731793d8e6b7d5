"""PPO, A2C and QR-DQN of Stable-Baselines3 under our loop, files and checkpoints."""

from __future__ import annotations

import dataclasses
import json
import sys
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from safetensors import safe_open
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from eightbit.agents import AGENTS, DQN, DQNOptions
from eightbit.agents.sb3 import BackboneFeaturesExtractor
from eightbit.agents.sb3_agents import Sb3Agent
from eightbit.agents.sb3_options import (
    PPO_PRESETS,
    A2COptions,
    PPOOptions,
    QRDQNOptions,
)
from eightbit.backbones import create_backbone, save_weights
from eightbit.cli import main
from eightbit.envs import make_gym_vec, make_vec
from eightbit.envs.sb3_vec import SB3VecEnv
from eightbit.errors import TrainingError, UsageError, WeightsError
from eightbit.train import session
from eightbit.train.runs import RunFolder

TINY = {"backbone": "nips2013", "backbone_options": '{"hidden": 16}'}
SMALL = {
    "sb3-ppo": PPOOptions(**TINY, num_envs=4, n_steps=8, batch_size=16, n_epochs=2),
    "sb3-a2c": A2COptions(**TINY, num_envs=4),
    "sb3-qrdqn": QRDQNOptions(
        **TINY,
        num_envs=4,
        quantiles=5,
        buffer_size=400,
        learning_starts=40,
        batch_size=8,
        target_update=40,
        epsilon_steps=200,
    ),
}
EACH = pytest.mark.parametrize("name", list(SMALL))


def catch(options, seed=0):
    return Sb3Agent(make_vec("catch", options.num_envs), options, seed=seed, device="cpu")


def weights(agent):
    return {name: tensor.clone() for name, tensor in agent.network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# ---- that it is what Stable-Baselines3 does


def cart_pole(num_envs):
    return make_gym_vec("gym:CartPole-v1", num_envs, max_episode_steps=15)


def play_and_learn(algorithm, num_envs, steps, **settings):
    """SB3 in its own loop, with the weights and draws of our agent's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        env = SB3VecEnv(cart_pole(num_envs))
        kwargs = {
            "features_extractor_class": BackboneFeaturesExtractor,
            "features_extractor_kwargs": {"backbone": "mlp", "hidden": [8]},
            "net_arch": [],
            **settings.pop("policy"),
        }
        model = algorithm("MlpPolicy", env, policy_kwargs=kwargs, device="cpu", **settings)
        env.seed(3)
        return model.learn(steps)


MLP = {"backbone": "mlp", "backbone_options": '{"hidden": [8]}', "clip_rewards": False}


def test_ppo_is_that_of_stable_baselines3():
    """All transitions in one batch, so that the order of the shuffle does not matter."""
    steps = 3 * 4 * 32
    options = PPOOptions(
        **MLP,
        share_backbone=False,
        num_envs=4,
        n_steps=32,
        batch_size=128,
        n_epochs=3,
        schedule_steps=steps,
    )
    ours = Sb3Agent(cart_pole(4), options, seed=3, device="cpu").learn(steps)
    theirs = play_and_learn(
        PPO,
        num_envs=4,
        steps=steps,
        n_steps=32,
        batch_size=128,
        n_epochs=3,
        learning_rate=lambda left: 2.5e-4 * left,
        clip_range=lambda left: 0.1 * left,
        ent_coef=0.01,
        policy={"share_features_extractor": False},
    )
    expected = theirs.policy.state_dict()
    assert any(step.any() for step in (expected["action_net.bias"], expected["value_net.bias"]))
    for name, tensor in ours.policy.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
    assert ours.episodes_seen > 20 and ours.num_updates == 9


def test_a2c_is_that_of_stable_baselines3():
    """Games are cut after 15 steps, so the bootstrap at the time limit is in it."""
    options = A2COptions(**MLP, num_envs=4)
    ours = Sb3Agent(cart_pole(4), options, seed=3, device="cpu").learn(400)
    theirs = play_and_learn(
        A2C,
        num_envs=4,
        steps=400,
        ent_coef=0.01,
        vf_coef=0.25,
        policy={"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}},
    )
    expected = theirs.policy.state_dict()
    for name, tensor in ours.policy.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)
    assert ours.num_updates == 20
    start = weights(Sb3Agent(cart_pole(4), options, seed=3, device="cpu"))
    assert not same(start, weights(ours))


class Bandit(gymnasium.Env):
    """One step a game; action 1 pays 1, action 0 nothing, and the picture never changes."""

    observation_space = Box(0.0, 1.0, (2,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(2, np.float32), {}

    def step(self, action):
        return np.ones(2, np.float32), float(action), True, False, {}


def bandits(count):
    return SyncVectorEnv([Bandit] * count, autoreset_mode=AutoresetMode.SAME_STEP)


def test_qrdqn_learns_what_each_action_pays():
    options = dataclasses.replace(
        SMALL["sb3-qrdqn"],
        backbone="mlp",
        backbone_options='{"hidden": [8]}',
        learning_rate=0.01,
        epsilon_final=1.0,
    )
    agent = Sb3Agent(bandits(4), options, device="cpu").learn(1_600)
    values = agent.q_values(np.ones((3, 2), np.float32))
    assert np.allclose(values, [[0.0, 1.0]] * 3, atol=0.1)
    assert agent.num_updates == (1_600 - 40) // 4 + 1
    assert agent.predict(np.ones(2, np.float32), deterministic=True)[0] == 1


def test_qrdqn_moves_its_target_every_so_many_steps():
    options = dataclasses.replace(SMALL["sb3-qrdqn"], target_update=100)
    agent = catch(options)
    moved, before = [], dict(agent.policy.quantile_net_target.state_dict())
    before = {name: tensor.clone() for name, tensor in before.items()}
    for step in agent.steps(320):
        now = agent.policy.quantile_net_target.state_dict()
        if any(not torch.equal(before[name], now[name]) for name in now):
            moved.append(step.num_timesteps)
            before = {name: tensor.clone() for name, tensor in now.items()}
    assert moved == [100, 200, 300]


def test_qrdqn_explores_as_its_options_say():
    agent = catch(SMALL["sb3-qrdqn"])
    seen = {step.num_timesteps: step.epsilon for step in agent.steps(240)}
    assert seen[40] == 1.0  # before learning starts
    assert seen[104] == pytest.approx(1 - 0.99 * 100 / 200)
    assert seen[240] == pytest.approx(0.01)


# ---- the loop


@EACH
def test_steps_yield_real_records_one_at_a_time(name):
    agent = catch(SMALL[name])
    taken = list(agent.steps(200))
    assert [step.num_timesteps for step in taken] == list(range(4, 201, 4))
    assert sum(len(step.record.episodes) for step in taken) == agent.episodes_seen > 8
    assert {e.episode_return for s in taken for e in s.record.episodes} <= {-1.0, 1.0}
    told = [step for step in taken if step.losses is not None]
    assert told and all(np.isfinite(list(step.losses.values())).all() for step in told)
    assert agent.num_updates == taken[-1].num_updates > 0
    if name != "sb3-qrdqn":
        per_rollout = SMALL[name].n_steps
        assert [taken.index(step) % per_rollout for step in told] == [0] * len(told)


def test_a_rollout_is_learnt_from_the_moment_it_is_full():
    options = SMALL["sb3-ppo"]
    agent = catch(options)
    start = weights(agent)
    for step in agent.steps(2 * options.buffer_size):
        learnt = not same(start, weights(agent))
        assert learnt == (step.num_timesteps >= options.buffer_size)
    assert agent.num_updates == 2 * 2 * 2  # rollouts, passes, batches


@EACH
def test_a_seed_repeats_a_run_and_leaves_the_global_generators_alone(name):
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one = catch(SMALL[name]).learn(200)
    torch.rand(3)
    assert same(weights(one), weights(catch(SMALL[name]).learn(200)))
    assert not same(weights(one), weights(catch(SMALL[name], seed=1).learn(200)))
    torch.set_rng_state(before)
    catch(SMALL[name]).learn(120)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002


def test_callbacks_of_stable_baselines3_and_functions_both_work():
    class Stop(BaseCallback):
        def _on_step(self):
            return self.model.num_timesteps < 40

    agent = catch(SMALL["sb3-a2c"])
    assert agent.learn(400, Stop()).num_timesteps == 40
    assert agent.learn(400, lambda step: step.num_timesteps < 60).num_timesteps == 60


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-a2c"])
def test_what_diverges_is_an_error_with_the_step(name):
    options = dataclasses.replace(SMALL[name], learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"at agent step \d+, update \d+; lower the learning"):
        catch(options).learn(400)


def test_ppo_learns_to_balance_a_pole():
    options = dataclasses.replace(PPO_PRESETS["vector"], n_epochs=8)
    agent = Sb3Agent(make_gym_vec("gym:CartPole-v1", 8), options, device="cpu")
    games = [e.episode_return for step in agent.steps(12_000) for e in step.record.episodes]
    assert np.mean(games[:20]) < 40
    assert np.mean(games[-20:]) > 80
    venv = SB3VecEnv(make_gym_vec("gym:CartPole-v1", 4))
    mean, _ = evaluate_policy(agent, venv, n_eval_episodes=8, deterministic=True)
    assert mean > 100


# ---- acting


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-a2c"])
def test_values_of_a_policy_are_its_log_probabilities(name):
    agent = catch(SMALL[name])
    seen = agent.begin()
    with torch.no_grad():
        expected = agent.policy.get_distribution(torch.from_numpy(seen)).distribution.logits
    values = agent.q_values(seen)
    assert np.allclose(values, expected.numpy(), atol=1e-6)
    assert np.allclose(np.exp(values).sum(axis=1), 1)
    draws = np.array([agent.predict(seen[0])[0] for _ in range(2_000)])
    shares = np.bincount(draws, minlength=agent.num_actions) / len(draws)
    assert np.allclose(shares, np.exp(values[0]), atol=0.05)
    assert (agent.predict(seen, deterministic=True)[0] == values.argmax(axis=1)).all()


def test_values_of_qrdqn_are_the_means_of_its_quantiles():
    agent = catch(SMALL["sb3-qrdqn"])
    seen = agent.begin()
    with torch.no_grad():
        expected = agent.policy.quantile_net(torch.from_numpy(seen)).mean(dim=1)
    assert np.allclose(agent.q_values(seen), expected.numpy(), atol=1e-6)


# ---- files and checkpoints


@EACH
def test_a_file_is_safetensors_with_json_and_plays_the_same(name, tmp_path):
    agent = catch(SMALL[name]).learn(120)
    path = tmp_path / "model.safetensors"
    agent.save(path)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"]["agent"] == name
    assert json.loads(header["__metadata__"]["options"]) == dataclasses.asdict(SMALL[name])
    assert content[:2] != b"PK" and b"\x80\x02" not in content[:64] and b"cbuiltins" not in content
    with safe_open(path, framework="pt") as file:
        assert all(not key.startswith("quantile_net") for key in file.keys())  # noqa: SIM118
    loaded = AGENTS[name].load_class().load(path, device="cpu")
    seen = agent.begin()
    assert np.array_equal(loaded.q_values(seen), agent.q_values(seen))
    again = tmp_path / "again.safetensors"
    loaded.save(again)
    assert again.read_bytes() == content
    with pytest.raises(UsageError, match="no environment to learn in"):
        loaded.learn(10)
    goes_on = Sb3Agent.load(path, make_vec("catch", 4), device="cpu").learn(120)
    assert goes_on.num_updates > 0


@EACH
def test_its_trunk_loads_into_a_backbone_of_its_own(name, tmp_path):
    agent = catch(SMALL[name])
    agent.save(tmp_path / "model.safetensors")
    weights = tmp_path / "model.safetensors"
    trunk = create_backbone("nips2013", (4, 84, 84), weights=weights, strict=True, hidden=16)
    seen = torch.rand(2, 4, 84, 84)
    assert torch.equal(trunk(seen), agent.network.backbone(seen))


@EACH
def test_training_begins_with_the_weights_asked_for(name, tmp_path, capsys):
    """Stable-Baselines3 initialises the trunk anew after it was made."""
    trunk = create_backbone("nips2013", (4, 84, 84), hidden=16, seed=5)
    path = save_weights(trunk, tmp_path / "trunk.safetensors")
    extra = {} if name == "sb3-qrdqn" else {"share_backbone": False}
    options = dataclasses.replace(SMALL[name], backbone_weights=str(path), **extra)
    agent = catch(options)
    assert "3 of 3 layers carried over" in capsys.readouterr().out
    seen = torch.rand(2, 4, 84, 84)
    for module in agent.policy.modules():
        if isinstance(module, BackboneFeaturesExtractor):
            assert torch.equal(module(seen), trunk(seen))


def test_files_of_one_kind_are_not_taken_for_another(tmp_path):
    ours, theirs = tmp_path / "dqn.safetensors", tmp_path / "ppo.safetensors"
    options = DQNOptions(**TINY, num_envs=2, buffer_size=100, learning_starts=10, batch_size=8)
    DQN(make_vec("catch", 2), options, device="cpu").save(ours)
    catch(SMALL["sb3-ppo"]).save(theirs)
    with pytest.raises(WeightsError, match="an agent of kind 'sb3-ppo', not dqn"):
        DQN.load(theirs)
    with pytest.raises(WeightsError, match="an agent of kind 'dqn', not sb3-ppo or sb3-a2c or"):
        Sb3Agent.load(ours)


@EACH
def test_going_on_from_a_state_equals_never_having_stopped(name):
    """In the middle of a rollout, and with the games that were being played."""
    whole = catch(SMALL[name]).learn(340)
    first = catch(SMALL[name]).learn(180)
    second = catch(SMALL[name], seed=9)
    second.set_state(first.get_state())
    second.learn(340)
    assert same(weights(whole), weights(second))
    assert (second.num_updates, second.episodes_seen) == (whole.num_updates, whole.episodes_seen)


@EACH
def test_without_its_memory_new_episodes_begin(name):
    first = catch(SMALL[name]).learn(184)
    second = catch(SMALL[name])
    second.set_state(first.get_state(replay=False))
    assert second.num_timesteps == 184
    updates = second.num_updates
    steps = list(second.steps(220))
    assert steps[0].record.observations.shape == (4, 4, 84, 84)
    assert second.learn(400).num_updates > updates


# ---- the command line


@pytest.fixture
def eightbit(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "draw_run", lambda *_: None)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def flags(options):
    """The options as words of the command line, where they differ from the preset zoo."""
    usual = dataclasses.asdict(type(options)())
    told = {k: v for k, v in dataclasses.asdict(options).items() if v != usual[k]}
    return [word for k, v in told.items() for word in (f"--{k.replace('_', '-')}", v)]


@EACH
def test_a_run_trains_resumes_bit_for_bit_evaluates_and_is_watched(name, eightbit, tmp_path):
    words = ["train", "catch", "--agent", name, "--device", "cpu", *flags(SMALL[name])]
    code, out, err = eightbit(*words, "--frames", 180, "--out", "parts")
    assert (code, err) == (0, "") and "trained 180 agent steps" in out
    assert eightbit(*words, "--frames", 340, "--out", "whole")[0] == 0
    code, out, err = eightbit("train", "--resume", "parts", "--frames", 340)
    assert (code, err) == (0, "") and "going on from step 180" in out
    assert "new episodes" not in out
    files = [tmp_path / run / "model.safetensors" for run in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    code, out, err = eightbit("evaluate", "parts", "--episodes", 2)
    assert (code, err) == (0, "") and "catch: mean return" in out
    code, out, err = eightbit("watch", "parts", "-o", "game.mp4", "--max-frames", 30)
    assert (code, err) == (0, "") and (tmp_path / "game.mp4").stat().st_size > 1_000
    kinds = {path.suffix for path in (tmp_path / "parts" / "checkpoints").rglob("*.*")}
    assert kinds == {".safetensors"}
    assert not any(zipfile.is_zipfile(path) for path in (tmp_path / "parts").rglob("*.*"))
    assert RunFolder.open("parts").config["options"]["backbone"] == "nips2013"


def test_without_sb3_contrib_one_sentence_says_what_to_install(eightbit, monkeypatch):
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    code, _, err = eightbit("train", "catch", "--agent", "sb3-qrdqn", "--buffer-size", 60_000)
    assert code == 2
    assert "sb3-qrdqn needs sb3-contrib: write pip install 'eightbit[sb3]'." in err
    assert not Path("runs").exists()
