"""Graphs of word sequences: which states an utterance may pass through, and in what order.

A phone has three states, passed from left to right, each with a loop on itself (Rabiner 1989,
section IV). An utterance's graph joins the phones of its words: every pronunciation of a word
stands beside the others, silence may stand before, between and after the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SILENCE = "SIL"
STATES_PER_PHONE = 3
NEVER = -1e30
"""Logarithm of an impossible event: finite, so that differences of two such are no NaN."""


@dataclass(frozen=True)
class Topology:
    """The phones and their states: phone p (in order, silence among them) has 3p, 3p+1, 3p+2.

    Attributes:
        phones: names, sorted.
    """

    phones: tuple[str, ...]

    @classmethod
    def of(cls, phones: Iterable[str]) -> Topology:
        """The topology of these phones and of silence."""
        return cls(tuple(sorted({*phones, SILENCE})))

    @property
    def states(self) -> int:
        """Number of states."""
        return STATES_PER_PHONE * len(self.phones)

    @property
    def state_names(self) -> tuple[str, ...]:
        """For every state its phone and its place in it: "AA.0", "AA.1", "AA.2", "AE.0" ..."""
        places = range(STATES_PER_PHONE)
        return tuple(f"{phone}.{place}" for phone in self.phones for place in places)

    @cached_property
    def _firsts(self) -> dict[str, int]:
        return {phone: STATES_PER_PHONE * index for index, phone in enumerate(self.phones)}

    def chain(self, phones: Iterable[str]) -> list[int]:
        """The states of phones that follow each other."""
        return [self._firsts[phone] + j for phone in phones for j in range(STATES_PER_PHONE)]


class Flow(NamedTuple):
    """How one enters the positions of a graph, going forward or, time reversed, backward.

    A position is entered from one *source*: the position beside it in its phones, or a *join*,
    in which several positions meet at a border of words. Sources are numbered: 0 .. S-1 the
    positions, S .. S+N-1 the joins.

    Attributes:
        source: (S,) integers.
        joins: N lists of the positions that meet there.
        starts: positions in which one may begin.
    """

    source: np.ndarray
    joins: list[list[int]]
    starts: list[int]


@dataclass(frozen=True)
class UtteranceGraph:
    """All ways to say a sequence of words.

    Attributes:
        states: (S,) integers, the state of each position.
        forward: from the first frame on.
        backward: from the last frame on: its starts are the positions in which one may end.
        least_frames: of the shortest way.
    """

    states: np.ndarray
    forward: Flow
    backward: Flow
    least_frames: int


def utterance_graph(
    topology: Topology,
    words: Sequence[Sequence[Sequence[str]]],
    silence_between: bool = True,
    silence_at_ends: bool = False,
) -> UtteranceGraph:
    """The graph of a sequence of words; every way through it has the same weight.

    Args:
        words: for each word its pronunciations, each of them phones.
        silence_between: whether silence may stand between words.
        silence_at_ends: whether it must stand at both ends; otherwise it may. Without any word
            there is silence only, in either case.
    """
    chains = [[topology.chain(phones) for phones in word] for word in words]
    borders = len(words) + 1
    silent = topology.chain([SILENCE])
    states: list[int] = []

    def placed(chain: list[int]) -> tuple[int, int]:
        states.extend(chain)
        return len(states) - len(chain), len(states) - 1

    pauses: list[tuple[int, int] | None] = []
    said: list[list[tuple[int, int]]] = []
    for border in range(borders):
        outer = border in (0, borders - 1)
        pauses.append(placed(silent) if outer or silence_between else None)
        if border < len(words):
            said.append([placed(chain) for chain in chains[border]])
    before = [[], *([last for _, last in word] for word in said)]
    after = [*([first for first, _ in word] for word in said), []]
    must = [silence_at_ends and border in (0, borders - 1) for border in range(borders)]
    mirrored = [None if pause is None else pause[::-1] for pause in pauses]
    shortest = sum(min(map(len, word)) for word in chains)
    quiet = len(silent) * (sum(must) if words else 1)
    return UtteranceGraph(
        np.array(states),
        _flow(len(states), -1, before, pauses, after, must),
        _flow(len(states), 1, after[::-1], mirrored[::-1], before[::-1], must[::-1]),
        shortest + quiet,
    )


def _flow(
    size: int,
    step: int,
    before: list[list[int]],
    pauses: list[tuple[int, int] | None],
    after: list[list[int]],
    must: list[bool],
) -> Flow:
    """For each border: the ends before it, the pause's entry and end, the entries after it."""
    source = np.arange(size) + step
    joins: list[list[int]] = []
    starts = [] if must[0] else list(after[0])
    for ends, pause, entries, silent in zip(before, pauses, after, must, strict=True):
        if pause is not None:
            source[pause[0]] = size + len(joins)
            joins.append(ends)
        source[entries] = size + len(joins)
        joins.append(([] if silent else ends) + ([] if pause is None else [pause[1]]))
    first = pauses[0]
    if first is not None:
        starts.append(first[0])
    return Flow(source, joins, starts)


class GraphBatch(NamedTuple):
    """Graphs of B utterances, padded. In all but `states` the first axis is the direction.

    Attributes:
        states: (B, S) integers; 0 where there is no position.
        source: (2, B, S) integers below W = S + N + 1; the last one is never reached.
        joins: (2, B, P, N) integers below W.
        starts: (2, B, S): 0 or NEVER.
    """

    states: Tensor
    source: Tensor
    joins: Tensor
    starts: Tensor


def batch_graphs(graphs: Sequence[UtteranceGraph]) -> GraphBatch:
    """Pads graphs to one size."""
    flows = [[graph.forward for graph in graphs], [graph.backward for graph in graphs]]
    size = max(len(graph.states) for graph in graphs)
    joins = max(len(flow.joins) for flow in flows[0])
    meeting = max(len(join) for side in flows for flow in side for join in flow.joins)
    nowhere = size + joins
    states = np.zeros((len(graphs), size), np.int64)
    source = np.full((2, len(graphs), size), nowhere)
    table = np.full((2, len(graphs), meeting, joins), nowhere)
    starts = np.full((2, len(graphs), size), NEVER, np.float32)
    for row, graph in enumerate(graphs):
        own = len(graph.states)
        states[row, :own] = graph.states
        for side in range(2):
            flow = flows[side][row]
            source[side, row, :own] = np.where(
                flow.source < own, flow.source, flow.source - own + size
            )
            for index, join in enumerate(flow.joins):
                table[side, row, : len(join), index] = join
            starts[side, row, flow.starts] = 0
    return GraphBatch(*map(torch.from_numpy, (states, source, table, starts)))
