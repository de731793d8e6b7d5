"""The processes of a distributed run: actors and replay shards on Ray, restarted when lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import ray
from gymnasium.spaces import Box
from ray.exceptions import RayError, RayTaskError

from ..agents.options import DQNOptions
from ..agents.shards import Drawn, ReplayShard, Taken
from ..errors import EightBitError, TrainingError
from .actors import Actor, ActorSettings, Played

IN_FLIGHT = 2  # blocks of an actor: while one is stored, the next one is played
PREFETCH = 4  # batches that are drawn before they are needed
LOSSES_IN_A_ROW = 5  # of one process without a result, after which it is not started again


class Replay(NamedTuple):
    """What a replay shard is made for.

    Attributes:
        options: of the agent.
        space: of one observation.
        num_actions: A.
        frame_stack: frames in an observation.
    """

    options: DQNOptions
    space: Box
    num_actions: int
    frame_stack: int


class Batch(NamedTuple):
    """A batch that has come, and the shard and life of it that its priorities go back to."""

    shard: int
    life: int
    drawn: Drawn


@dataclass
class _Process:
    """An actor or a shard.

    Attributes:
        handle: Ray's, of its present life.
        life: how often it was started again.
        losses: in a row, without a result between.
        asked: blocks asked of an actor in this life.
        in_flight: blocks of an actor that have not come.
        begin: whether its next block begins new games.
        begun: number of the last block that did.
        transitions: that can be drawn from a shard.
        pid: of an actor's process; 0 while unknown.
    """

    handle: Any
    life: int = 0
    losses: int = 0
    asked: int = 0
    in_flight: int = 0
    begin: bool = False
    begun: int = 0
    transitions: int = 0
    pid: int = 0


class _Asked(NamedTuple):
    """What an answer that is under way will be to."""

    kind: Literal["block", "add", "batch"]
    who: int
    life: int
    block: Any = None
    actor: int = 0
    number: int = 0


class Fleet:
    """Asks for blocks and batches, moves blocks from actors to shards, and replaces what is lost.

    A block goes from its actor to its shard past the learner, which sees only what `Played` tells.

    Args:
        actors: one settings each; actor k fills shard k modulo their number.
        shards: number of replay shards, at most one an actor.
        replay: what they hold.
        say: takes a line for the user.
    """

    def __init__(
        self,
        actors: Sequence[ActorSettings],
        shards: int,
        replay: Replay,
        say: Callable[[str], None],
    ):
        self.settings, self.replay, self._say = list(actors), replay, say
        self.batches: deque[Batch] = deque()
        self._pending: dict[Any, _Asked] = {}
        self._rng = np.random.default_rng(actors[0].seed)
        self.actors = [_Process(self._start_actor(k, 0)) for k in range(len(actors))]
        self.shards = [_Process(self._start_shard(s, shards, 0)) for s in range(shards)]

    # ---- what the learner asks

    def environments(self, actor: int) -> int:
        """Of an actor."""
        return len(self.settings[actor].rows)

    def block_steps(self, actor: int, steps: int) -> int:
        """Steps of each of an actor's environments in a block of about so many agent steps."""
        return min(max(steps // self.environments(actor), 8), 64)

    def ready(self) -> list[int]:
        """The shards that hold their part of `learning_starts`."""
        return [s for s, one in enumerate(self.shards) if one.transitions >= self._starts(s)]

    def ask_for_blocks(
        self, steps: int, version: int, weights: Any, epsilon: float, allowed: int
    ) -> None:
        """Asks the actors that have the fewest blocks under way for further ones.

        Args:
            steps: agent steps of a block of one actor, over its environments.
            version: of the weights.
            weights: Ray's reference to them.
            epsilon: share of random actions, where there is no ladder.
            allowed: agent steps that may be asked for.
        """
        while True:
            k = min(range(len(self.actors)), key=lambda k: self.actors[k].in_flight)
            actor, times = self.actors[k], self.block_steps(k, steps)
            allowed -= times * self.environments(k)
            if actor.in_flight >= IN_FLIGHT or allowed < 0:
                return
            begins = actor.begin or not actor.asked
            block, played = actor.handle.play.options(num_returns=2).remote(
                version, weights, times, epsilon, begins
            )
            if begins:
                actor.begun = actor.asked
            self._pending[played] = _Asked("block", k, actor.life, block, k, actor.asked)
            actor.begin = False
            actor.asked += 1
            actor.in_flight += 1

    def steps_in_flight(self, steps: int) -> int:
        """Agent steps of the blocks that have not come."""
        return sum(
            actor.in_flight * self.block_steps(k, steps) * self.environments(k)
            for k, actor in enumerate(self.actors)
        )

    def ask_for_batches(self, importance: float) -> None:
        """Has batches drawn ahead, from ready shards by their number of transitions."""
        ready = self.ready()
        if not ready:
            return
        under_way = sum(asked.kind == "batch" for asked in self._pending.values())
        sizes = np.array([self.shards[s].transitions for s in ready], np.float64)
        for _ in range(PREFETCH - under_way - len(self.batches)):
            s = int(self._rng.choice(ready, p=sizes / sizes.sum()))
            shard = self.shards[s]
            ref = shard.handle.sample.remote(importance)
            self._pending[ref] = _Asked("batch", s, shard.life)

    def set_priorities(self, batch: Batch, errors: np.ndarray) -> None:
        """Sends the errors of a batch to where it was drawn, if that lives still."""
        indices, shard = batch.drawn.values["indices"], self.shards[batch.shard]
        if indices is not None and shard.life == batch.life:
            shard.handle.set_priorities.remote(batch.drawn.actor, indices, errors)

    def wait(self, seconds: float, *, for_batches: bool) -> list[Played]:
        """Waits until something comes, at most so long; batches are put into `batches`.

        Args:
            seconds: 0 takes what is there.
            for_batches: whether a batch ends the waiting.

        Returns:
            What the actors tell of the blocks that have come.

        Raises:
            EightBitError: an actor or shard refuses, or is lost again and again.
        """
        refs = [r for r, asked in self._pending.items() if for_batches or asked.kind != "batch"]
        if not refs:
            return []
        done, _ = ray.wait(refs, num_returns=1, timeout=seconds)
        if done:
            everything = list(self._pending)
            done, _ = ray.wait(everything, num_returns=len(everything), timeout=0)
        return [told for ref in done if (told := self._take(ref)) is not None]

    def close(self) -> None:
        """Ends all processes."""
        self._pending.clear()
        self.batches.clear()
        for process in (*self.actors, *self.shards):
            ray.kill(process.handle)

    # ---- answers

    def _take(self, ref: Any) -> Played | None:
        asked = self._pending.pop(ref)
        process = (self.actors if asked.kind == "block" else self.shards)[asked.who]
        if process.life != asked.life:  # of a process that was lost
            return None
        if asked.kind == "block":
            process.in_flight -= 1
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            if isinstance(error.cause, RayError):  # the block was lost on its way
                self._begin_anew(asked)
                return None
            raise _refusal(error) from None
        except RayError as error:
            self._replace(asked, error)
            return None
        process.losses = 0
        return self._sort(asked, process, answer)

    def _sort(self, asked: _Asked, process: _Process, answer: Any) -> Played | None:
        if asked.kind == "batch":
            self.batches.append(Batch(asked.who, asked.life, answer))
            return None
        if asked.kind == "add":
            taken: Taken = answer
            process.transitions = taken.transitions
            if not taken.fits:
                self._begin_anew(asked)
            return None
        played: Played = answer
        process.pid = played.process
        s = self._shard_of(asked.who)
        added = self.shards[s].handle.add.remote(asked.who, asked.block)
        self._pending[added] = _Asked("add", s, self.shards[s].life, None, asked.who, asked.number)
        return played

    def _begin_anew(self, asked: _Asked) -> None:
        """A block does not follow the ones that its shard has: the games must begin anew."""
        actor = self.actors[asked.actor]
        # Blocks older than the last beginning were dropped rightly; a life counts from 0.
        if asked.number >= actor.begun:
            actor.begin = True

    # ---- lives

    def _replace(self, asked: _Asked, error: RayError) -> None:
        """Starts a process again; raises TrainingError when that has failed too often."""
        is_actor = asked.kind == "block"
        processes = self.actors if is_actor else self.shards
        old = processes[asked.who]
        name = f"{'actor' if is_actor else 'replay shard'} {asked.who}"
        if old.losses + 1 >= LOSSES_IN_A_ROW:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise TrainingError(
                f"{name} was lost {LOSSES_IN_A_ROW} times in a row ({lines[-1].strip()})"
            )
        ray.kill(old.handle)  # it may live on out of our reach
        life = old.life + 1
        if is_actor:
            handle = self._start_actor(asked.who, life)
            process = f" (process {old.pid})" if old.pid else ""
            self._say(f"{name}{process} was lost; another one is started in its place.")
        else:
            handle = self._start_shard(asked.who, len(self.shards), life)
            self._say(
                f"{name} was lost with {old.transitions:,} transitions; an empty one is started "
                "in its place."
            )
        processes[asked.who] = _Process(handle, life, old.losses + 1)

    def _start_actor(self, k: int, life: int) -> Any:
        settings = self.settings[k]
        settings = replace(settings, seed=(*settings.seed, life))
        return _remote(Actor, 1).remote(settings)

    def _start_shard(self, s: int, shards: int, life: int) -> Any:
        environments = {
            k: self.environments(k) for k in range(len(self.settings)) if k % shards == s
        }
        seed = int(np.random.default_rng((*self.settings[0].seed, s, life)).integers(2**31))
        # Its work is short; a core of its own would stand idle.
        return _remote(ReplayShard, 0).remote(
            self.replay.options, environments, *self.replay[1:], seed
        )

    def _shard_of(self, actor: int) -> int:
        return actor % len(self.shards)

    def _starts(self, s: int) -> float:
        options = self.replay.options
        rows = sum(self.environments(k) for k in range(len(self.actors)) if self._shard_of(k) == s)
        return max(options.learning_starts * rows / options.num_envs, 1)


def _remote(kind: type, cores: int) -> Any:
    made: Any = ray.remote(kind)
    return made.options(num_cpus=cores, scheduling_strategy="SPREAD", max_restarts=0)


def _refusal(error: RayTaskError) -> EightBitError:
    """What went wrong in another process, as if it had been here."""
    cause = error.cause
    if isinstance(cause, EightBitError):
        return cause
    return TrainingError(f"a process on Ray failed ({type(cause).__name__}: {cause})")
