"""Static and dynamic evaluation, controls, units."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from eightbit.datasets.tokens import learn_tokens
from eightbit.errors import DataError
from eightbit.sequence_tasks.text import scores as module
from eightbit.sequence_tasks.text.data import Part, build_data
from eightbit.sequence_tasks.text.dynamic import Adaptation, dynamic_losses, gradient_squares
from eightbit.sequence_tasks.text.model import build_model
from eightbit.sequence_tasks.text.options import TextOptions
from eightbit.sequence_tasks.text.scores import (
    measure,
    nats_by_context,
    static_losses,
    unigram_losses,
)

VOCABULARY = 7
OPTIONS = TextOptions(embedding=5, context=16, backbone_options='{"hidden": 8}', train_on="train")


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(OPTIONS, {"vocabulary": VOCABULARY}).eval()


def _ids(count, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, count).astype(np.int32)


def _one_by_one(model: nn.Module, ids: np.ndarray) -> np.ndarray:
    """The definition: token by token, the state carried."""
    state, found = None, []
    for now, after in zip(ids[:-1], ids[1:], strict=True):
        with torch.no_grad():
            scores, state = model(torch.tensor([[int(now)]]), state)
        found.append(-scores[0, 0].double().log_softmax(-1)[int(after)].item())
    return np.array(found)


@pytest.mark.parametrize("count", [2, 300, 1300])
def test_static_evaluation_equals_one_token_after_the_other(model, count):
    ids = _ids(count)
    np.testing.assert_allclose(static_losses(model, ids), _one_by_one(model, ids), atol=1e-5)


@pytest.mark.parametrize("streams", [2, 3, 5])
def test_streams_side_by_side_equal_a_single_one(model, monkeypatch, streams):
    monkeypatch.setattr(module, "WARM_UP", 200)
    ids = _ids(1500)
    got = static_losses(model, ids, streams=streams)
    np.testing.assert_allclose(got, static_losses(model, ids, streams=1), atol=1e-5)


def test_too_short_a_warm_up_would_be_seen(model, monkeypatch):
    monkeypatch.setattr(module, "WARM_UP", 1)
    ids = _ids(1500)
    difference = np.abs(static_losses(model, ids, streams=3) - static_losses(model, ids, streams=1))
    assert difference.max() > 1e-3


def test_shifted_evaluation_scores_later_tokens_by_earlier_predictions(model):
    ids = _ids(50)
    with torch.no_grad():
        scores = model(torch.from_numpy(ids[None, :-1].astype(np.int64)))[0][0].log_softmax(-1)
    want = [-scores[t, int(ids[1:][(t + 10) % 49])].item() for t in range(49)]
    np.testing.assert_allclose(static_losses(model, ids, shift=10), want, atol=1e-5)


def test_the_trivial_control_knows_frequencies_alone():
    tokens = learn_tokens(["abc"], "characters", 0)
    part = Part(np.array([0, 1, 2, 1]), 4, tokens)
    got = unigram_losses(np.array([0, 0, 1, 1, 1]), part)
    np.testing.assert_allclose(got, -np.log([4 / 8, 1 / 8, 4 / 8]))


def test_figures_follow_from_the_losses_of_the_chosen_units():
    tokens = learn_tokens(["ab"], "characters", 0)
    part = Part(np.zeros(2501, np.int32), 2501, tokens)
    losses = np.repeat([1.0, 2.0, 4.0], [1000, 1000, 500])
    units = module._Units(part, losses)
    assert units.count == 3 and units.characters.tolist() == [1000, 1000, 500]
    values = units.metrics()
    every = np.arange(3)
    assert values["nats"](every) == pytest.approx(2.0)
    assert values["bits_per_character"](every) == pytest.approx(2 / math.log(2))
    assert values["perplexity"](np.array([1, 1])) == pytest.approx(math.exp(2.0))


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_nats_of_words_and_pieces_count_characters(kind):
    text = "the old king said no\n" * 300
    tokens = learn_tokens([text], kind, 300)
    part = Part(tokens.encode(text), len(text), tokens)
    units = module._Units(part, np.ones(len(part.ids) - 1))
    every = np.arange(units.count)
    first = len(tokens.decode(part.ids[:1]))
    assert units.characters.sum() == pytest.approx(len(text) - first)
    assert units.metrics()["nats"](every) == pytest.approx(
        (len(part.ids) - 1) / (len(text) - first)
    )
    assert units.metrics()["perplexity"](every) == pytest.approx(math.e)
    assert units.characters[:-1] == pytest.approx(1000, rel=0.1)


def test_nats_by_context_are_those_of_pieces_that_begin_anew(model):
    tokens = learn_tokens(["abcdefg"], "characters", 0)
    found = nats_by_context(model, Part(_ids(257), 257, tokens))
    losses = _one_by_one(model, _ids(257))
    assert list(found) == ["1-1", "2-4", "5-16", "17-64", "65-256"]
    assert found["1-1"] == pytest.approx(losses[0], abs=1e-5)
    assert found["5-16"] == pytest.approx(losses[4:16].mean(), abs=1e-5)


def test_without_steps_dynamic_evaluation_is_static(model):
    ids = _ids(200)
    still = Adaptation(rate=0.0, decay=0.0, segment=32)
    np.testing.assert_allclose(
        dynamic_losses(model, ids, still), static_losses(model, ids), atol=1e-5
    )


def test_dynamic_evaluation_follows_the_rule_of_the_paper(model):
    ids, adaptation = _ids(9), Adaptation(rate=0.01, decay=0.1, segment=4)
    squares = gradient_squares(model, _ids(400, 1), 4, 20)
    got = dynamic_losses(model, ids, adaptation, squares)
    twin = build_model(OPTIONS, {"vocabulary": VOCABULARY}).eval()
    twin.load_state_dict(model.state_dict())
    whole = torch.from_numpy(ids.astype(np.int64))
    scores, state = twin(whole[None, :4])
    torch.nn.functional.cross_entropy(scores[0], whole[1:5]).backward()
    roots = [square.sqrt() for square in squares]
    mean = torch.cat([root.flatten() for root in roots]).mean()
    with torch.no_grad():
        for weight, root in zip(twin.parameters(), roots, strict=True):
            # The way back is zero in the first step.
            weight -= 0.01 * weight.grad / (root + 0.1 * mean)
    scores, _ = twin(whole[None, 4:8], tuple(part.detach() for part in state))
    want = torch.nn.functional.cross_entropy(scores[0], whole[5:9], reduction="none")
    np.testing.assert_allclose(got[4:], want.detach().numpy(), atol=1e-5)


def test_a_model_that_reads_dynamically_learns_a_repeated_text_and_stays_itself(model):
    ids = np.tile(_ids(40), 30)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    got = dynamic_losses(model, ids, Adaptation(rate=0.01, decay=0.0, segment=20))
    assert got[-200:].mean() < 0.7 * static_losses(model, ids)[-200:].mean()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_controls_details_and_a_missing_split(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the cat sat on the mat, and so on.\n" * 400)
    data = build_data(OPTIONS, str(path), 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(OPTIONS, data.facts).eval()
    for control in ("none", "trivial", "shuffled"):
        outcome = measure(model, data, "test", control)
        assert outcome.units == 2
        assert math.isfinite(outcome.values["nats"](np.arange(2)))
        assert ("nats_after_context" in outcome.details) == (control == "none")
    del data.splits["validation"]
    with pytest.raises(DataError, match="no validation split"):
        measure(model, data, "validation", "none")
