"""Beam search against brute force, and a step at a time against whole sentences."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from eightbit.datasets.tokens import Words
from eightbit.sequence_tasks.translate.data import BEGIN, END, SPECIALS, padded
from eightbit.sequence_tasks.translate.model import build_model
from eightbit.sequence_tasks.translate.options import TranslateOptions
from eightbit.sequence_tasks.translate.search import Beam, beam_search, best_of, penalty
from eightbit.sequence_tasks.translate.use import Network, as_network

TINY = TranslateOptions(
    tokens="words", embedding=6, encoder_hidden=5, hidden=7, decoder_layers=1, dropout=0.0
)
NETWORKS = {
    "attention": TINY,
    "attention, two layers": replace(TINY, decoder_layers=2, encoder_layers=2),
    "attention, gru": replace(TINY, cell="gru", attention="additive", decoder_layers=2),
    "attention, dot": replace(TINY, attention="dot", encoder_hidden=4, hidden=8),
    "sutskever": replace(TINY, method="sutskever", decoder_layers=2),
    "cho": replace(TINY, method="cho"),
}
WORDS = 3  # that can be written, besides <unk> and the end


def made(options: TranslateOptions, seed: int = 0, words: int = WORDS) -> Network:
    tokens = Words([f"w{i}" for i in range(words)], SPECIALS)
    facts = {"source_tokens": None, "target_tokens": tokens.to_facts(), "languages": ["a", "b"]}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(options, facts)
        for parameter in model.parameters():  # peaked enough for hypotheses to differ
            torch.nn.init.normal_(parameter, std=0.7)
    return as_network(model.eval().requires_grad_(False))


def probabilities(networks: list[Network], source: Tensor, targets: list[list[int]]) -> np.ndarray:
    """Log probability of each target from `BEGIN` to `END`, by whole sentences."""
    ids = padded([np.array(target) for target in targets])
    sources = source.expand(len(targets), -1)
    by_token = torch.stack([-one.surprise(sources, ids).double() for one in networks])
    return (by_token.logsumexp(0) - math.log(len(networks))).sum(1).numpy()


def every_target(longest: int) -> list[list[int]]:
    """All targets of at most `longest` tokens, the end included."""
    letters = [3, *range(4, 4 + WORDS)]
    return [
        [BEGIN, *middle, END]
        for count in range(longest)
        for middle in itertools.product(letters, repeat=count)
    ]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_wide_beam_finds_what_brute_force_finds(name: str, exponent: float) -> None:
    network = made(NETWORKS[name])
    targets = every_target(4)
    sources = [[4, 5, END], [6, END], [5, 5, 4, 6, END]]
    beam = Beam(400, 6, exponent, more=4, ratio=0.0)
    found = beam_search(
        [network.stepper(torch.float32)], [padded([np.array(s) for s in sources])], beam
    )
    for source, best in zip(sources, found, strict=True):
        ids = padded([np.array(source)])
        known = probabilities([network], ids, targets)
        scores = [k / penalty(len(t) - 1, exponent) for k, t in zip(known, targets, strict=True)]
        order = np.argsort(scores)[::-1][:6]
        assert [one.ids for one in best] == [targets[i][1:-1] for i in order]
        assert [one.score for one in best] == pytest.approx([scores[i] for i in order], rel=1e-4)
        assert best[0].log_probability == pytest.approx(known[order[0]], rel=1e-4)


def test_several_networks_vote_by_their_mean_probability() -> None:
    networks = [made(TINY, 1), made(NETWORKS["cho"], 2), made(NETWORKS["sutskever"], 3)]
    source = padded([np.array([4, 6, 5, END])])
    steppers = [one.stepper(torch.float32) for one in networks]
    beam = Beam(400, 3, 1.0, more=4, ratio=0.0)
    best = beam_search(steppers, [source] * 3, beam)[0]
    targets = every_target(4)
    known = probabilities(networks, source, targets)
    scores = [k / penalty(len(t) - 1, 1.0) for k, t in zip(known, targets, strict=True)]
    order = np.argsort(scores)[::-1][:3]
    assert [one.ids for one in best] == [targets[i][1:-1] for i in order]
    assert best[0].score == pytest.approx(scores[order[0]], rel=1e-4)


def test_a_beam_of_one_takes_the_likeliest_token_each_time() -> None:
    network = made(TINY, 5)
    source = padded([np.array([4, 6, END])])
    best = beam_search([network.stepper(torch.float32)], [source], Beam(1))[0][0]
    said = [BEGIN]
    while len(said) < 30:
        costs = [
            float(network.surprise(source, padded([np.array([*said, token])]))[0, -1])
            for token in range(2, 4 + WORDS)
        ]
        said.append(2 + int(np.argmin(costs)))
        if said[-1] == END:
            break
    assert best.ids == [token for token in said[1:] if token != END][: len(best.ids)]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sentence_does_not_depend_on_those_beside_it(name: str) -> None:
    network = made(NETWORKS[name], 4, words=90)
    rng = np.random.default_rng(0)
    sources = [np.append(rng.integers(4, 94, n), END) for n in (2, 9, 5, 1, 12, 7)]
    stepper = network.stepper(torch.float32)
    beam = Beam(4, 2)
    together = beam_search([stepper], [padded(sources)], beam)
    for source, found in zip(sources, together, strict=True):
        alone = beam_search([stepper], [padded([source])], beam)[0]
        assert [one.ids for one in alone] == [one.ids for one in found]
        assert alone[0].score == pytest.approx(found[0].score, rel=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_give_the_likelihood_of_whole_sentences(name: str) -> None:
    network = made(NETWORKS[name], 6, words=70)
    rng = np.random.default_rng(1)
    sources = padded([np.append(rng.integers(4, 74, n), END) for n in (3, 8)])
    target = np.array([BEGIN, *rng.integers(4, 74, 6), END])
    wanted = network.surprise(sources, padded([target, target]))
    stepper = network.stepper(torch.float32)
    memory, state = stepper.start(sources)
    for place in range(len(target) - 1):
        said = torch.full((2, 1), int(target[place]))
        logits, state = stepper.advance(said, memory, state)
        lost = -logits.log_softmax(-1)[:, 0, int(target[place + 1])]
        torch.testing.assert_close(lost, wanted[:, place], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_finds_nearly_the_same_likelihoods(name: str) -> None:
    network = made(replace(NETWORKS[name], hidden=8, encoder_hidden=4), 7, words=40)
    source = padded([np.array([5, 9, 20, END])])
    full, low = (
        beam_search([network.stepper(dtype)], [source], Beam(3))[0][0]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert low.score == pytest.approx(full.score, rel=0.1, abs=0.1)


def test_the_best_of_blocks_are_the_best_of_all() -> None:
    scores = torch.randn(3, 4, 640, generator=torch.Generator().manual_seed(0))
    values, places = best_of(scores, 7)
    wanted = scores.topk(7, -1)
    assert torch.equal(values, wanted.values) and torch.equal(places, wanted.indices)
    narrow = scores[..., :128]
    assert torch.equal(best_of(narrow, 7)[1], narrow.topk(7, -1).indices)


def test_a_translation_that_never_ends_is_cut_at_its_limit() -> None:
    network = made(TINY, 8)
    network.bias[END] = -1e4  # type: ignore[index, operator]
    source = padded([np.array([4, 5, END]), np.array([4, 5, 6, 6, 6, END])])
    beam = Beam(2, more=3, ratio=1.0)
    found = beam_search([network.stepper(torch.float32)], [source], beam)
    assert [len(best[0].ids) for best in found] == [5, 8]
