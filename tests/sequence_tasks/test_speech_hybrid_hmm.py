"""Graphs of word sequences, and the passes over them against enumerating every way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from eightbit.sequence_tasks.speech_hybrid.graphs import (
    SILENCE,
    STATES_PER_PHONE,
    Topology,
    UtteranceGraph,
    batch_graphs,
    utterance_graph,
)
from eightbit.sequence_tasks.speech_hybrid.hmm import Transitions, forward_backward, viterbi

Word = tuple[tuple[str, ...], ...]
PHONES = Topology.of(["A", "B"])
ONE: Word = (("A",),)
EITHER: Word = (("B",), ("A", "B"))


def sequences(
    topology: Topology, words: list[Word], between: bool, at_ends: bool
) -> list[tuple[int, ...]]:
    """Every sequence of states without repetitions: choose pronunciations, then pauses."""
    found = []
    for chosen in itertools.product(*words):
        choices = []
        for border in range(len(words) + 1):
            outer = border in (0, len(words))
            if outer and (at_ends or not words):
                choices.append([True])
            else:
                choices.append([False, True] if outer or between else [False])
        for pauses in itertools.product(*choices):
            if not words:
                pauses = pauses[:1]
            phones: list[str] = []
            for border, pause in enumerate(pauses):
                phones += [SILENCE] * pause
                phones += chosen[border] if border < len(words) else []
            found.append(tuple(topology.chain(phones)))
    return found


def ways(sequence: tuple[int, ...], times: int) -> list[list[int]]:
    """All ways to spend so many frames in a sequence of states, at least one in each."""
    found = []
    for cuts in itertools.combinations(range(1, times), len(sequence) - 1):
        bounds = [0, *cuts, times]
        lasting = np.diff(bounds)
        found.append([s for s, n in zip(sequence, lasting, strict=True) for _ in range(n)])
    return found


def enumerated(
    all_sequences: list[tuple[int, ...]], emissions: np.ndarray, staying: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, list[list[int]], list[float]]:
    """log-likelihood, occupancies (T, K), stays (K,), every way and its log-probability."""
    times, states = emissions.shape
    paths, scores, visits = [], [], []
    for sequence in all_sequences:
        if len(sequence) > times:
            continue
        for path in ways(sequence, times):
            score = sum(emissions[t, k] for t, k in enumerate(path))
            score += sum(math.log(1 - staying[k]) for k in sequence)
            # Each visit of n frames stays n - 1 times; no state follows itself in these words.
            score += sum(math.log(staying[a]) for a, b in itertools.pairwise(path) if a == b)
            paths.append(path)
            scores.append(score)
            visits.append(sequence)
    total = np.logaddexp.reduce(scores)
    occupancies, stays = np.zeros((times, states)), np.zeros(states)
    for path, score in zip(paths, scores, strict=True):
        share = math.exp(score - total)
        for t, k in enumerate(path):
            occupancies[t, k] += share
        for a, b in itertools.pairwise(path):
            stays[a] += share * (a == b)
    return float(total), occupancies, stays, paths, scores


def problem(lengths: list[int], seed: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths), PHONES.states)
    emissions = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    staying = 0.2 + 0.6 * torch.rand(PHONES.states, generator=generator, dtype=torch.float64)
    return emissions, staying


CASES: list[tuple[list[Word], int]] = [
    ([ONE], 6),
    ([EITHER], 10),
    ([ONE, EITHER], 11),
    ([EITHER, ONE], 12),
    ([ONE, EITHER, ONE], 13),
    ([], 5),
    ([EITHER], 3),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("between", "at_ends"), [(True, False), (False, False), (True, True)])
def test_the_passes_equal_enumeration(between: bool, at_ends: bool, dtype: torch.dtype) -> None:
    cases = [
        (words, times + (6 if at_ends else 0)) for words, times in CASES if words or not at_ends
    ]
    lengths = [times for _, times in cases]
    graphs = [utterance_graph(PHONES, words, between, at_ends) for words, _ in cases]
    emissions, staying = problem(lengths, seed=3, spread=2.0)
    tensors = (batch_graphs(graphs), torch.tensor(lengths), Transitions.of(staying))
    found = forward_backward(emissions.to(dtype), *tensors)
    paths, scores = viterbi(emissions.to(dtype), *tensors)
    exact = 1e-9 if dtype == torch.float64 else 2e-4
    stays = np.zeros(PHONES.states)
    for row, (words, times) in enumerate(cases):
        every = sequences(PHONES, words, between, at_ends)
        total, occupancies, again, all_paths, all_scores = enumerated(
            every, emissions[row, :times].numpy(), staying.numpy()
        )
        stays += again
        assert graphs[row].least_frames == min(map(len, every))
        assert float(found.log_likelihood[row]) == pytest.approx(total, abs=exact * 10)
        np.testing.assert_allclose(found.occupancies[row, :times], occupancies, atol=exact)
        assert not found.occupancies[row, times:].any()
        best = int(np.argmax(all_scores))
        assert float(scores[row]) == pytest.approx(all_scores[best], abs=exact * 10)
        assert paths[row, :times].tolist() == all_paths[best]
        assert (paths[row, times:] == -1).all()
    np.testing.assert_allclose(found.stays, stays, atol=exact * 10)


def test_a_single_way_with_overwhelming_odds_against_it_is_found() -> None:
    """Three frames in three states that are each 5,000 nats worse than another one."""
    emissions = torch.zeros(1, 3, PHONES.states)
    emissions[..., PHONES.chain(["A"])] = -5000.0
    inputs = (
        batch_graphs([utterance_graph(PHONES, [ONE])]),
        torch.tensor([3]),
        Transitions.of(torch.full((PHONES.states,), 0.5)),
    )
    emissions[0, 0, 0] = emissions[0, 2, 1] = 0.0  # tempting, but out of turn
    found = forward_backward(emissions, *inputs)
    said = PHONES.chain(["A"])
    silent = PHONES.chain([SILENCE])
    emissions[..., silent] = -9000.0
    quiet = forward_backward(emissions, *inputs)
    assert float(quiet.log_likelihood) == pytest.approx(-10000 + 3 * math.log(0.5))
    assert torch.equal(quiet.occupancies[0, [0, 1, 2], said], torch.ones(3))
    assert torch.isfinite(found.log_likelihood).all()
    assert viterbi(emissions, *inputs)[0].tolist() == [said]


def test_long_utterances_keep_their_precision() -> None:
    generator = torch.Generator().manual_seed(1)
    emissions = 30 * torch.randn(2, 3000, PHONES.states, generator=generator) - 500
    graphs = batch_graphs([utterance_graph(PHONES, [EITHER, ONE] * 40)] * 2)
    inputs = (graphs, torch.tensor([3000, 2500]), Transitions.of(torch.full((9,), 0.7)))
    single, double = (
        forward_backward(emissions.to(t), *inputs) for t in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.log_likelihood, double.log_likelihood, rtol=1e-6, atol=0.1)
    assert float((single.occupancies - double.occupancies).abs().max()) < 0.02
    torch.testing.assert_close(
        double.occupancies.sum(2)[1, :2500], torch.ones(2500, dtype=torch.float64)
    )


def test_an_utterance_shorter_than_its_words_has_no_way_and_harms_no_other() -> None:
    graphs = [utterance_graph(PHONES, [ONE, ONE]), utterance_graph(PHONES, [ONE])]
    emissions, staying = problem([5, 5], seed=0, spread=1.0)
    lengths, transitions = torch.tensor([5, 5]), Transitions.of(staying)
    both = forward_backward(emissions, batch_graphs(graphs), lengths, transitions)
    alone = forward_backward(emissions[1:], batch_graphs(graphs[1:]), lengths[1:], transitions)
    assert both.log_likelihood[0] == -math.inf and not both.occupancies[0].any()
    torch.testing.assert_close(both.occupancies[1], alone.occupancies[0])
    torch.testing.assert_close(both.stays, alone.stays)
    paths, scores = viterbi(emissions, batch_graphs(graphs), lengths, transitions)
    assert (paths[0] == -1).all() and scores[0] == -math.inf
    assert (paths[1] >= 0).all() and torch.isfinite(scores[1])


def test_what_follows_an_utterances_end_does_not_matter() -> None:
    graphs = batch_graphs([utterance_graph(PHONES, [ONE]), utterance_graph(PHONES, [EITHER])])
    emissions, staying = problem([9, 6], seed=5, spread=1.0)
    other = emissions.clone()
    other[1, 6:] = 1e4
    inputs = (graphs, torch.tensor([9, 6]), Transitions.of(staying))
    for one, two in zip(
        (*forward_backward(emissions, *inputs), *viterbi(emissions, *inputs)),
        (*forward_backward(other, *inputs), *viterbi(other, *inputs)),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


def test_states_are_numbered_by_sorted_phone() -> None:
    topology = Topology.of(["Z", "AA", "T"])
    assert topology.phones == ("AA", "SIL", "T", "Z")
    assert topology.states == 12 == len(topology.state_names)
    assert topology.state_names[:4] == ("AA.0", "AA.1", "AA.2", "SIL.0")
    assert topology.chain(["T", "AA"]) == [6, 7, 8, 0, 1, 2]
    assert Topology.of([*topology.phones]) == topology


def test_a_graph_holds_every_pronunciation_and_pause_once() -> None:
    graph: UtteranceGraph = utterance_graph(PHONES, [ONE, EITHER, ONE])
    phones = 4 + 1 + 3 + 1  # pauses; ONE; EITHER; ONE
    assert len(graph.states) == phones * STATES_PER_PHONE
    assert len(utterance_graph(PHONES, [ONE, ONE], silence_between=False).states) == 12
