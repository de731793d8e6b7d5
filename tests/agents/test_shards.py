"""A replay shard filled by blocks equals a memory that saw every step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from eightbit.agents.options import DQNOptions
from eightbit.agents.parts import build_network
from eightbit.agents.replay import Batch, FrameReplay
from eightbit.agents.shards import ReplayShard, unpack
from eightbit.envs.options import Protocol
from eightbit.train.actors import Actor, ActorSettings

OPTIONS = DQNOptions(
    backbone="nips2013",
    backbone_options='{"hidden": 16}',
    n_step=3,
    num_envs=4,
    buffer_size=2_000,
    learning_starts=100,
    batch_size=16,
    epsilon_ladder=True,
    precision="fp32",
)


class Recorder:
    """A stepper that keeps what it returned."""

    def __init__(self, stepper):
        self._stepper = stepper
        self.begun, self.records = [], []

    def __getattr__(self, name):
        return getattr(self._stepper, name)

    def reset(self, seed):
        self.begun.append((len(self.records), self._stepper.reset(seed)))
        return self.begun[-1][1]

    def step(self, actions):
        self.records.append(self._stepper.step(actions))
        return self.records[-1]


def make_actor(options=OPTIONS, index=0, of=2, game="catch"):
    rows = tuple(range(index, options.num_envs, of))
    settings = ActorSettings(index, rows, game, Protocol.MNIH2015, options, (7, index))
    actor = Actor(settings)
    actor._stepper = Recorder(actor._prepare())
    return actor


def make_shard(actor, options=OPTIONS, environments=None):
    stepper = actor._stepper
    environments = environments or {0: stepper.num_envs}
    space = stepper.observation_space
    return ReplayShard(options, environments, space, stepper.num_actions, stepper.frame_stack, 0)


def weights(actor, options=OPTIONS):
    stepper = actor._stepper
    network = build_network(stepper.observation_space.shape, stepper.num_actions, options)
    return {name: value.numpy() for name, value in network.state_dict().items()}


def directly(recorder, capacity=2_000):
    """The memory that is given whole observations step by step."""
    space = recorder.observation_space
    replay = FrameReplay(capacity, recorder.num_envs, space.shape, space.dtype, frame_stack=4)
    begun = dict(recorder.begun)
    for t, record in enumerate(recorder.records):
        if t in begun:
            replay.reset(begun[t])
        told = {k: v for k, v in vars(record).items() if k != "episodes"}
        replay.add(**{**told, "rewards": np.clip(record.rewards, -1, 1)})
    return replay


def same(one: Batch, other: Batch) -> bool:
    names = ("observations", "actions", "returns", "next_observations", "discounts")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("game", ["catch", "pong"])
def test_blocks_give_the_transitions_of_the_steps_they_were_made_of(game):
    actor = make_actor(game=game)
    shard = make_shard(actor)
    for number in range(4):
        # New games in the middle, as after a shard was lost.
        block, played = actor.play(0, weights(actor), 10, 0.1, begin=number == 2)
        assert shard.add(0, block).fits
        assert block.frames.shape[:2] == (10, 2) and block.frames.ndim == 4
        assert len(played.record.rewards) == 20
    replay = directly(actor._stepper)
    times, envs = (a.ravel() for a in np.mgrid[0:37, 0:2])
    found = shard._memories[0].gather(times, envs, n_step=3, gamma=0.99)
    assert same(found, replay.gather(times, envs, n_step=3, gamma=0.99))
    assert (found.discounts == 0).any() or game == "pong"


def test_a_missing_block_makes_the_games_begin_anew_and_no_return_crosses_the_gap():
    actor = make_actor()
    shard = make_shard(actor)
    blocks = [actor.play(0, weights(actor), 10, 0.1, begin=n == 3)[0] for n in range(4)]
    assert shard.add(0, blocks[0]).transitions == 20
    assert shard.add(0, blocks[2]) == (False, 20)
    assert not shard.add(0, blocks[1]).fits, "a late block stands in for none that was dropped"
    assert shard.add(0, blocks[3]) == (True, 40)
    replay = shard._memories[0]
    found = replay.gather(np.array([9, 9]), np.array([0, 1]), n_step=3, gamma=0.5)
    open_then = ~blocks[0].terminated[-1]
    assert np.allclose(found.returns, blocks[0].rewards[-1])
    assert np.allclose(found.discounts, 0.5 * open_then)


def test_a_shard_begins_with_no_block_but_a_first_one():
    actor = make_actor()
    blocks = [actor.play(0, weights(actor), 8, 0.1, begin=False)[0] for _ in range(2)]
    assert make_shard(actor).add(0, blocks[1]) == (False, 0)
    assert blocks[0].first is not None and make_shard(actor).add(0, blocks[0]).fits


def test_actors_share_the_environments_the_ladder_and_the_memory():
    actors = [make_actor(index=k, of=2) for k in range(2)]
    ladder = 0.4 ** (1 + 7 * np.arange(4) / 3)
    assert np.allclose(actors[0]._ladder, ladder[[0, 2]])
    assert np.allclose(actors[1]._ladder, ladder[[1, 3]])
    shard = make_shard(actors[0], environments={0: 2, 1: 2})
    assert [len(m.frames) for m in shard._memories.values()] == [504, 504]
    for _ in range(2):
        for k, actor in enumerate(actors):
            shard.add(k, actor.play(0, weights(actor), 12, 0.1, begin=False)[0])
    drawn = [shard.sample(1.0) for _ in range(40)]
    assert {one.actor for one in drawn} == {0, 1}
    episodes = [e for a in actors for e in a.play(0, weights(a), 30, 0.1, False)[1].record.episodes]
    assert {one.env_index for one in episodes} == {0, 1, 2, 3}


def test_priorities_and_weights_go_to_the_actors_memory_that_a_batch_came_from():
    options = dataclasses.replace(OPTIONS, prioritized=True)
    actors = [make_actor(options, index=k) for k in range(2)]
    shard = make_shard(actors[0], options, {0: 2, 1: 2})
    for k, actor in enumerate(actors):
        shard.add(k, actor.play(0, weights(actor), 20, 0.1, begin=False)[0])
    before = {k: memory._priorities._priorities.copy() for k, memory in shard._memories.items()}
    drawn = shard.sample(0.5)
    batch = unpack(drawn)
    assert batch.observations.shape == (16, 4, 84, 84) and batch.observations.dtype == torch.uint8
    assert isinstance(batch.indices, np.ndarray) and batch.weights.max() == 1
    shard.set_priorities(drawn.actor, batch.indices, np.full(16, 5.0, np.float32))
    for k, memory in shard._memories.items():
        changed = (memory._priorities._priorities != before[k]).any()
        assert changed == (k == drawn.actor)


def test_recurrent_states_travel_with_their_steps():
    options = dataclasses.replace(
        OPTIONS,
        memory="lstm",
        memory_options='{"hidden": 8}',
        sequence_length=12,
        burn_in=2,
        sequence_stride=6,
        prioritized=True,
    )
    actor = make_actor(options)
    shard = make_shard(actor, options)
    given, states = weights(actor, options), []
    for _ in range(3):
        block, _ = actor.play(0, given, 10, 0.1, begin=False)
        states.append(block.states)
        assert shard.add(0, block).fits
    batch = unpack(shard.sample(0.6))
    assert batch.observations.shape == (16, 12, 4, 84, 84)
    numbers, envs = np.divmod(batch.indices, 2)
    for part, kept in enumerate(batch.state):
        noted = np.concatenate([block[part] for block in states])
        for row, (number, env) in enumerate(zip(numbers, envs, strict=True)):
            assert np.allclose(kept[:, row], noted[6 * number, :, env])
    assert any(part.any() for part in batch.state)


def test_new_weights_are_taken_when_their_version_is_new():
    actor = make_actor()
    given = weights(actor)
    actor.play(1, given, 8, 0.0, begin=False)
    name = next(iter(given))
    zeros = {key: np.zeros_like(value) for key, value in given.items()}
    assert actor.play(1, zeros, 8, 0.0, begin=False)[1].version == 1
    assert actor._acting.network.state_dict()[name].any()
    assert actor.play(2, zeros, 8, 0.0, begin=False)[1].version == 2
    assert not actor._acting.network.state_dict()[name].any()
