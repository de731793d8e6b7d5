"""The bridge to Stable-Baselines3, each part tried against Stable-Baselines3 itself."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common import callbacks
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecTransposeImage

from eightbit.agents.dqn import DQN
from eightbit.agents.options import DQNOptions
from eightbit.agents.sb3 import (
    BackboneFeaturesExtractor,
    Sb3Policy,
    adapt_callback,
    load_sb3_policy,
)
from eightbit.envs import SB3VecEnv, VectorEnvFromSB3, make_vec
from eightbit.envs.catch import CatchEnv
from eightbit.errors import EightBitError, UnknownNameError, UsageError, WeightsError

SMALL = DQNOptions(
    backbone="nips2013",
    num_envs=2,
    buffer_size=500,
    learning_starts=60,
    batch_size=8,
    replay_ratio=0.5,
    precision="fp32",
)


def catch_for_sb3(count: int = 1) -> VecEnv:
    return DummyVecEnv([lambda: Monitor(CatchEnv())] * count)


@pytest.fixture
def agent() -> DQN:
    return DQN(make_vec("catch", 2), SMALL, seed=0, device="cpu")


class Recorder(callbacks.BaseCallback):
    """Keeps what a callback can see."""

    def __init__(self, stop_after: int | None = None):
        super().__init__()
        self.stop_after = stop_after
        self.events: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.steps: list[int] = []

    def _on_training_start(self) -> None:
        self.events.append("training_start")

    def _on_rollout_start(self) -> None:
        self.events.append("rollout_start")

    def _on_rollout_end(self) -> None:
        self.events.append("rollout_end")

    def _on_training_end(self) -> None:
        self.events.append("training_end")

    def _on_step(self) -> bool:
        self.steps.append(self.num_timesteps)
        self.seen.append(dict(self.locals))
        return self.stop_after is None or self.n_calls < self.stop_after


class MemoryWriter(KVWriter):
    """A logger's output that keeps the rows."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.rows.append((step, dict(key_values)))

    def close(self) -> None:
        pass


# ---- callbacks


def test_a_callback_sees_every_step_and_how_training_began_and_ended(agent: DQN) -> None:
    recorder = Recorder()
    agent.learn(80, recorder)
    assert recorder.steps == list(range(2, 81, 2))
    assert recorder.events[:2] == ["training_start", "rollout_start"]
    assert recorder.events[-2:] == ["rollout_end", "training_end"]
    assert recorder.events.count("rollout_end") == recorder.events.count("rollout_start")
    assert recorder.training_env.num_envs == 2
    first = recorder.seen[0]
    assert first["total_timesteps"] == 80
    assert first["new_obs"].shape == (2, 4, 84, 84)
    assert first["rewards"].shape == first["dones"].shape == first["actions"].shape == (2,)


def test_infos_follow_stable_baselines3_at_the_end_of_a_game(agent: DQN) -> None:
    recorder = Recorder()
    agent.learn(24, recorder)  # a game of Catch takes 11 steps
    ends = [local for local in recorder.seen if local["dones"].any()]
    assert len(ends) == 1
    for info, reward in zip(ends[0]["infos"], ends[0]["rewards"], strict=True):
        assert info["episode"] == {"r": reward, "l": 11}
        assert info["terminal_observation"].shape == (4, 84, 84)
        assert info["TimeLimit.truncated"] is False
    assert all(local["infos"] == [{}, {}] for local in recorder.seen if not local["dones"].any())


def test_a_callback_that_returns_false_stops_learning(agent: DQN) -> None:
    recorder = Recorder(stop_after=3)
    agent.learn(1000, recorder)
    assert agent.num_timesteps == 6
    assert recorder.events[-1] == "training_end"


def test_stop_training_on_max_episodes_stops_there(agent: DQN) -> None:
    agent.learn(10_000, callbacks.StopTrainingOnMaxEpisodes(max_episodes=2))
    assert agent.episodes_seen == 4  # two in each of two environments, as SB3 counts


def test_checkpoints_of_sb3s_callback_are_agents_of_ours(agent: DQN, tmp_path: Path) -> None:
    agent.learn(40, callbacks.CheckpointCallback(save_freq=10, save_path=str(tmp_path)))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["rl_model_20_steps.safetensors", "rl_model_40_steps.safetensors"]
    loaded = DQN.load(tmp_path / files[-1], device="cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 84, 84), dtype=np.uint8)
    np.testing.assert_array_equal(loaded.q_values(pictures), agent.q_values(pictures))


def test_eval_callback_evaluates_and_keeps_the_best(agent: DQN, tmp_path: Path) -> None:
    callback = callbacks.EvalCallback(
        catch_for_sb3(),
        n_eval_episodes=2,
        eval_freq=20,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    agent.learn(80, [callback, Recorder()])
    with np.load(tmp_path / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [40, 80]
        assert evaluations["results"].shape == (2, 2)
    assert DQN.load(tmp_path / "best_model.safetensors", device="cpu").num_actions == 3


def test_a_logger_of_sb3_gets_its_tags(agent: DQN) -> None:
    writer = MemoryWriter()
    recorder = Recorder()
    step = adapt_callback(recorder, agent, 200, logger=Logger(None, [writer]))
    agent.learn(200, step)
    steps = [row[0] for row in writer.rows]
    assert steps == sorted(steps)
    assert len(steps) == agent.episodes_seen // 4
    last = writer.rows[-1][1]
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/exploration_rate"} <= set(last)
    assert {"time/fps", "train/loss"} <= set(last)
    assert last["rollout/ep_len_mean"] == 11
    assert -1 <= last["rollout/ep_rew_mean"] <= 1


def test_callbacks_cannot_step_the_training_environments(agent: DQN) -> None:
    recorder = Recorder(stop_after=1)
    agent.learn(10, recorder)
    with pytest.raises(EightBitError, match="give it one of its own"):
        recorder.training_env.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(EightBitError, match="give it one of its own"):
        recorder.training_env.reset()


def test_what_is_no_callback_is_refused(agent: DQN) -> None:
    with pytest.raises(UsageError, match="a function of a LoopStep or a BaseCallback"):
        agent.learn(10, 7)


# ---- evaluate_policy


def test_sb3s_evaluate_policy_plays_our_agent(agent: DQN) -> None:
    scores = []
    for env in (catch_for_sb3(2), SB3VecEnv(make_vec("catch", 2))):
        env.seed(5)
        rewards, lengths = evaluate_policy(
            agent, env, n_eval_episodes=4, return_episode_rewards=True
        )
        assert lengths == [11] * 4
        assert set(rewards) <= {-1.0, 1.0}
        scores.append(rewards)
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: VectorEnvFromSB3(catch_for_sb3(2)),
        lambda: SyncVectorEnv([CatchEnv] * 2, autoreset_mode=AutoresetMode.DISABLED),
    ],
)
def test_our_agent_learns_alike_on_environments_of_others(make: Any, agent: DQN) -> None:
    other = DQN(make(), SMALL, seed=0, device="cpu")
    for learner in (agent, other):
        learner.learn(80)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 84, 84), dtype=np.uint8)
    assert other.num_updates == agent.num_updates > 0
    np.testing.assert_array_equal(other.q_values(pictures), agent.q_values(pictures))


# ---- backbones in SB3


def test_sb3s_dqn_trains_our_impala() -> None:
    model = stable_baselines3.DQN(
        "CnnPolicy",
        catch_for_sb3(2),
        buffer_size=400,
        learning_starts=100,
        batch_size=8,
        train_freq=8,
        target_update_interval=100,
        policy_kwargs={
            "features_extractor_class": BackboneFeaturesExtractor,
            "features_extractor_kwargs": {"backbone": "impala", "layer_norm": True},
        },
        device="cpu",
        seed=0,
    )
    trunk = model.q_net.features_extractor.backbone
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    model.learn(300)
    assert model._n_updates > 10
    changed = [name for name, value in trunk.state_dict().items() if (value != before[name]).any()]
    assert set(changed) == set(before)
    assert all(torch.isfinite(value).all() for value in trunk.state_dict().values())
    target = model.q_net_target.features_extractor.backbone.state_dict()
    assert set(target) == set(before)


def test_an_extractor_takes_vectors_too() -> None:
    model = stable_baselines3.PPO(
        "MlpPolicy",
        gymnasium.make("CartPole-v1"),
        n_steps=16,
        batch_size=16,
        n_epochs=1,
        policy_kwargs={
            "features_extractor_class": BackboneFeaturesExtractor,
            "features_extractor_kwargs": {"backbone": "mlp"},
        },
        device="cpu",
    )
    model.learn(32)
    assert model.num_timesteps == 32


def test_extractors_that_cannot_work_are_refused() -> None:
    pictures = CatchEnv().observation_space
    with pytest.raises(UsageError, match="keep no state"):
        BackboneFeaturesExtractor(gymnasium.spaces.Box(-1, 1, (4,)), "lstm")
    with pytest.raises(UnknownNameError, match="impala"):
        BackboneFeaturesExtractor(pictures, "imapla")
    with pytest.raises(UsageError, match="Box observations"):
        BackboneFeaturesExtractor(gymnasium.spaces.Discrete(3), "mlp")


# ---- policies that SB3 saved


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[stable_baselines3.DQN, Path]:
    """A DQN of SB3 with its usual network, and its archive."""
    model = stable_baselines3.DQN(
        "CnnPolicy", catch_for_sb3(), buffer_size=10, seed=3, device="cpu", gamma=0.97
    )
    model.exploration_rate = 0.25
    path = tmp_path_factory.mktemp("sb3") / "dqn.zip"
    model.save(path)
    return model, path


def rewritten(path: Path, to: Path, **members: bytes | None) -> Path:
    """A copy of the archive in which some members are others, or missing (None)."""
    names = {"policy": "policy.pth", "data": "data"}
    replaced = {names[name]: content for name, content in members.items()}
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            content = replaced.get(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
    return to


class Bomb:
    """Unpickling one makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_saved_policy_computes_what_sb3_computes(saved: tuple[Any, Path]) -> None:
    model, path = saved
    policy = Sb3Policy(path)
    pictures = np.random.default_rng(0).integers(0, 256, (64, 4, 84, 84), dtype=np.uint8)
    with torch.no_grad():
        expected = model.q_net(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(policy.q_values(pictures), expected, atol=1e-5)
    theirs, _ = model.predict(pictures, deterministic=True)
    ours, _ = policy.predict(pictures, deterministic=True)
    np.testing.assert_array_equal(ours, theirs)
    last = np.moveaxis(pictures, 1, -1)
    np.testing.assert_array_equal(policy.q_values(last), policy.q_values(pictures))
    assert policy.predict(pictures[0], deterministic=True)[0] == theirs[0]


def test_a_saved_policy_explores_as_much_as_sb3s_own(saved: tuple[Any, Path]) -> None:
    policy = Sb3Policy(saved[1], seed=1)
    pictures = np.broadcast_to(np.uint8(7), (1, 4, 84, 84))
    greedy = int(policy.predict(pictures, deterministic=True)[0][0])
    actions = np.array([policy.predict(pictures)[0][0] for _ in range(600)])
    # A quarter is random over three actions; a sixth of all differs from the greedy one.
    assert abs((actions != greedy).mean() - 0.25 * 2 / 3) < 0.05


def test_a_saved_policy_passes_evaluate_policy(saved: tuple[Any, Path]) -> None:
    model, path = saved
    options = {"n_eval_episodes": 3, "return_episode_rewards": True}
    rewards, lengths = evaluate_policy(Sb3Policy(path), catch_for_sb3(), **options)
    assert len(rewards) == 3
    assert lengths == [11, 11, 11]


def test_policies_trained_on_pictures_with_channels_last_load(tmp_path: Path) -> None:
    class Last(gymnasium.ObservationWrapper):
        def __init__(self) -> None:
            super().__init__(CatchEnv())
            self.observation_space = gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)

        def observation(self, observation: np.ndarray) -> np.ndarray:
            return np.moveaxis(observation, 0, -1)

    env = VecTransposeImage(DummyVecEnv([lambda: Monitor(Last())]))
    model = stable_baselines3.DQN("CnnPolicy", env, buffer_size=10, device="cpu")
    model.save(tmp_path / "last.zip")
    policy = Sb3Policy(tmp_path / "last.zip")
    assert policy.observation_shape == (4, 84, 84)
    pictures = np.random.default_rng(1).integers(0, 256, (8, 84, 84, 4), dtype=np.uint8)
    theirs, _ = model.predict(np.moveaxis(pictures, -1, 1), deterministic=True)
    np.testing.assert_array_equal(policy.predict(pictures, deterministic=True)[0], theirs)


def test_plain_values_are_read_and_pickled_ones_left(saved: tuple[Any, Path]) -> None:
    weights, info = load_sb3_policy(saved[1])
    assert info.version == stable_baselines3.__version__
    assert info.observation_shape == (4, 84, 84)
    assert info.data["gamma"] == 0.97
    assert not {"policy_class", "observation_space", "lr_schedule"} & set(info.data)
    assert ":serialized:" not in json.dumps(info.data)
    assert weights["q_net.q_net.0.weight"].shape == (3, 512)


def test_pickles_in_the_archive_are_never_executed(saved: tuple[Any, Path], tmp_path: Path) -> None:
    victim = tmp_path / "made-by-the-pickle"
    data = json.loads(zipfile.ZipFile(saved[1]).read("data"))
    bomb = pickle.dumps(Bomb(victim))
    encoded = base64.b64encode(bomb).decode()
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = encoded
    altered = rewritten(saved[1], tmp_path / "bad.zip", data=json.dumps(data).encode())
    assert Sb3Policy(altered).num_actions == 3
    assert not victim.exists()
    # The control: SB3 itself does run it.
    with pytest.raises(Exception):  # noqa: B017  # whatever comes of a space that is no space
        stable_baselines3.DQN.load(altered)
    assert victim.exists()


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_weights_that_would_run_code_are_refused(
    saved: tuple[Any, Path], tmp_path: Path, form: str
) -> None:
    victim = tmp_path / "made-by-the-pickle"
    if form == "pickle":
        content = pickle.dumps(Bomb(victim))
    else:
        torch.save({"weight": Bomb(victim)}, tmp_path / "weights.pth")
        content = (tmp_path / "weights.pth").read_bytes()
    altered = rewritten(saved[1], tmp_path / "bad.zip", policy=content)
    with pytest.raises(WeightsError, match="more than tensors"):
        load_sb3_policy(altered)
    assert not victim.exists()


def test_files_that_are_no_such_archive_are_refused(
    saved: tuple[Any, Path], tmp_path: Path
) -> None:
    original = saved[1]
    with pytest.raises(WeightsError, match="there is no file"):
        load_sb3_policy(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(WeightsError, match="not a whole archive"):
        load_sb3_policy(tmp_path / "text.zip")
    (tmp_path / "half.zip").write_bytes(original.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="not a whole archive"):
        load_sb3_policy(tmp_path / "half.zip")
    with pytest.raises(WeightsError, match="has no 'policy.pth' inside"):
        load_sb3_policy(rewritten(original, tmp_path / "a.zip", policy=None))
    with pytest.raises(WeightsError, match="not a whole archive"):
        load_sb3_policy(rewritten(original, tmp_path / "b.zip", data=b"{"))
    whole = zipfile.ZipFile(original).read("policy.pth")
    with pytest.raises(WeightsError, match="cut short"):
        load_sb3_policy(rewritten(original, tmp_path / "c.zip", policy=whole[: len(whole) // 2]))


def test_policies_of_another_kind_are_refused_as_players(tmp_path: Path) -> None:
    env = gymnasium.make("CartPole-v1")
    stable_baselines3.DQN("MlpPolicy", env, buffer_size=10, device="cpu").save(tmp_path / "m.zip")
    weights, _ = load_sb3_policy(tmp_path / "m.zip")
    assert weights
    with pytest.raises(WeightsError, match="no DQN with CnnPolicy"):
        Sb3Policy(tmp_path / "m.zip")
