"""The three networks against torch's own layers, and what their training sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eightbit.backbones.layers import locked_dropout
from eightbit.datasets.tokens import Words
from eightbit.errors import UsageError
from eightbit.sequence_tasks.translate.attentive import AttentionNetwork
from eightbit.sequence_tasks.translate.cells import Cell
from eightbit.sequence_tasks.translate.data import END, PAD, SPECIALS, padded
from eightbit.sequence_tasks.translate.model import build_model
from eightbit.sequence_tasks.translate.options import TranslateOptions
from eightbit.sequence_tasks.translate.plain import PlainNetwork, padding_first, pairs_best
from eightbit.sequence_tasks.translate.training import TokenLoss, seen

TINY = TranslateOptions(tokens="words", embedding=6, encoder_hidden=5, hidden=8, dropout=0.0)
SOURCE = padded([np.array([4, 5, 6, END]), np.array([7, END]), np.array([5, 8, END])])
TARGET = padded([np.array([1, 4, END]), np.array([1, 9, 8, 7, END]), np.array([1, END])])


def made(options: TranslateOptions) -> nn.Module:
    facts = {
        "source_tokens": Words(list("abcdef"), SPECIALS).to_facts(),
        "target_tokens": Words(list("uvwxyz"), SPECIALS).to_facts(),
        "languages": ["a", "b"],
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(options, facts).eval()


def test_sutskever_is_two_deep_lstms_over_the_reversed_source() -> None:
    model = made(replace(TINY, method="sutskever", decoder_layers=3))
    assert isinstance(model, PlainNetwork)
    deep = [nn.LSTM(6, 8, 3, batch_first=True) for _ in range(2)]
    for twin, trunk in zip(deep, (model.backbone, model.decoder), strict=True):
        held = {
            name[:-1] + str(i): p
            for i, layer in enumerate(trunk.stack)
            for name, p in layer.named_parameters()
        }
        twin.load_state_dict(held)
    lost = model.surprise(SOURCE, TARGET)
    for row in range(3):
        source = SOURCE[row][SOURCE[row] != PAD].flip(0)
        target = TARGET[row][TARGET[row] != PAD]
        _, state = deep[0](model.embed_source(source)[None])
        outputs, _ = deep[1](model.embed(target[:-1])[None], state)
        wanted = F.cross_entropy(model.output(outputs[0]), target[1:], reduction="none")
        torch.testing.assert_close(lost[row, : len(wanted)], wanted)
        assert (lost[row, len(wanted) :] == 0).all()
    weights = torch.cat([p.flatten() for p in model.parameters()])
    assert weights.abs().max() <= 0.08


def test_cho_reads_the_summary_at_each_step_and_takes_the_larger_of_pairs() -> None:
    model = made(replace(TINY, method="cho"))
    assert isinstance(model, PlainNetwork)
    encoder, decoder = model.backbone.stack[0], model.decoder.stack[0]
    lost = model.surprise(SOURCE, TARGET)
    for row in range(3):
        source = SOURCE[row][SOURCE[row] != PAD]
        target = TARGET[row][TARGET[row] != PAD]
        c = torch.tanh(model.summary(encoder(model.embed_source(source)[None])[1][0]))
        hidden = torch.tanh(model.bridge(c))[None]
        for place in range(len(target) - 1):
            y = model.embed(target[place])[None]
            _, hidden = decoder(torch.cat([y, c], 1)[None], hidden)
            s = model.maxout(torch.cat([hidden[0], y, c], 1))[0]
            t = torch.stack([s[0::2], s[1::2]]).max(0).values
            wanted = -model.output(t).log_softmax(0)[target[place + 1]]
            torch.testing.assert_close(lost[row, place], wanted)


def test_attention_is_the_equations_step_by_step() -> None:
    model = made(TINY)
    assert isinstance(model, AttentionNetwork) and model.upper is not None
    twin = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    twin.load_state_dict(model.backbone.stack[0].state_dict())
    lost, aligned = model.surprise(SOURCE, TARGET), model.alignment(SOURCE, TARGET)
    for row in range(3):
        source = SOURCE[row][SOURCE[row] != PAD]
        target = TARGET[row][TARGET[row] != PAD]
        memory, (last, _) = twin(model.embed_source(source)[None])
        first = torch.tanh(model.bridge(torch.cat([last[0], last[1]], 1)))[0]
        parts = [one[None, None] for one in first.chunk(4)]
        below, above = (parts[0], parts[1]), (parts[2], parts[3])
        for place in range(len(target) - 1):
            x = model.embed(target[place])[None, None]
            lower, below = model.lower.stack[0](x, below)
            scores = memory[0] @ model.attention.map.weight.T @ lower[0, 0]
            weights = scores.softmax(0)
            read = weights @ memory[0]
            both = torch.cat([lower[0, 0], read])
            upper, above = model.upper.stack[0](both[None, None], above)
            final = torch.tanh(model.before(torch.cat([upper[0, 0] + lower[0, 0], read])))
            logits = model.embed.weight @ final + model.bias
            wanted = -logits.log_softmax(0)[target[place + 1]]
            torch.testing.assert_close(lost[row, place], wanted)
            torch.testing.assert_close(aligned[row, place, : len(source)], weights)
            assert (aligned[row, place, len(source) :] == 0).all()


@pytest.mark.parametrize("method", ["attention", "sutskever", "cho"])
def test_losses_are_means_over_the_tokens_that_are_there(method: str) -> None:
    options = replace(TINY, method=method, word_dropout=0.0, label_smoothing=0.2)
    model = made(options)
    found = model(SOURCE, TARGET)
    lost = model.surprise(SOURCE, TARGET)
    count = int((TARGET[:, 1:] != PAD).sum())
    torch.testing.assert_close(found["nll"], lost.sum() / count)
    plain = made(replace(options, label_smoothing=0.0))
    per = 3 if method == "sutskever" else count  # sentences or tokens
    torch.testing.assert_close(plain(SOURCE, TARGET)["loss"], lost.sum() / per)
    assert found["loss"] != plain(SOURCE, TARGET)["loss"]


@pytest.mark.parametrize("method", ["attention", "sutskever", "cho"])
def test_training_runs_in_bfloat16(method: str) -> None:
    model = made(replace(TINY, method=method, dropout=0.3)).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = model(SOURCE, TARGET)
    found["loss"].backward()
    assert torch.isfinite(found["loss"])
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_cell_is_one_step_of_torchs_layer(kind: type[nn.Module]) -> None:
    layer = kind(4, 5, batch_first=True)
    x = torch.randn(3, 6, 4)
    outputs, _ = layer(x)
    cell = Cell(layer, torch.float32)
    state = tuple(torch.zeros(3, 5) for _ in range(2 if kind is nn.LSTM else 1))
    for place in range(6):
        found, state = cell(x[:, place], state)
        torch.testing.assert_close(found, outputs[:, place])


def test_smoothed_loss_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(*s, generator=generator) for s in ((9, 4), (11, 4), (11,)))
    labels = torch.randint(11, (9,), generator=generator)
    found = TokenLoss(0.1)(x, w, b, labels)
    logits = x @ w.T + b
    torch.testing.assert_close(found["loss"], F.cross_entropy(logits, labels, label_smoothing=0.1))
    torch.testing.assert_close(found["nll"], F.cross_entropy(logits, labels))


def test_dropout_has_one_mask_for_all_steps_and_leaves_evaluation_alone() -> None:
    x = torch.ones(4, 6, 50)
    assert locked_dropout(x, 0.5, False) is x and seen(x, 0.5, False) is x
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropped, hidden = locked_dropout(x, 0.5, True), seen(x, 0.5, True)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(hidden, hidden[..., :1].expand_as(hidden)) and 0 < hidden.mean() < 1


def test_small_helpers() -> None:
    ids = torch.tensor([[4, 5, 0, 0], [6, 7, 8, 2]])
    assert padding_first(ids).tolist() == [[0, 0, 4, 5], [6, 7, 8, 2]]
    assert pairs_best(torch.tensor([[1.0, 3.0, 5.0, -2.0]])).tolist() == [[3.0, 5.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": 1.0}, r"dropout is 1.0; it must lie in \[0, 1\)"),
        ({"hidden": 0}, "hidden is 0; it must be 1 or more"),
        ({"decoder_layers": 3}, "decoder_layers is 3; with attention it is 1 or 2"),
        ({"piece_dropout": 0.1, "tokens": "words"}, "piece_dropout is for bpe only"),
        ({"source": "de"}, "source and target are both 'de'"),
        ({"vocabulary": 3}, "vocabulary is 3; it must be 8 or more"),
        ({"longest": 1}, "longest is 1; it must be 2 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TranslateOptions(**change)
