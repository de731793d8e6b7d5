"""A text as examples and parts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from eightbit.datasets.tokens import tokens_from_facts
from eightbit.errors import DataError, UsageError
from eightbit.sequence_tasks.text.data import Batches, build_data
from eightbit.sequence_tasks.text.options import TextOptions

TEXT = "".join(f"line {i} of the play\n" for i in range(600))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "play.txt"
    path.write_text(TEXT)
    return str(path)


def test_the_parts_put_together_are_the_text(path):
    data = build_data(TextOptions(context=32, train_on="train"), path, 0)
    tokens = tokens_from_facts(json.loads(json.dumps(data.facts))["tokens"])
    parts = [tokens.decode(data.splits[n].ids) for n in ("train", "validation", "test")]
    assert "".join(parts) == TEXT
    assert len(parts[0]) + len(parts[1]) == int(0.9 * len(TEXT))
    assert len(parts[1]) == pytest.approx(0.045 * len(TEXT), abs=2)
    both = build_data(TextOptions(context=32), path, 0)
    assert tokens.decode(both.splits["train"].ids) == parts[0] + parts[1]
    assert "validation" not in both.splits
    assert tokens.decode([data.facts["start"]]) == "\n"


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_words_and_pieces_are_learnt_from_the_training_part_alone(tmp_path, kind):
    path = tmp_path / "a.txt"
    text = TEXT + "zebra " * 200
    path.write_text(text)
    options = TextOptions(tokens=kind, vocabulary=1000 if kind == "words" else 400, context=16)
    data = build_data(options, str(path), 0)
    tokens = tokens_from_facts(data.facts["tokens"])
    assert not any("zebra" in name for name in tokens.names)
    train = data.splits["train"]
    assert tokens.decode(train.ids) == text[: train.characters]
    assert data.facts["vocabulary"] == tokens.size <= options.vocabulary


def test_an_epoch_reads_each_piece_of_the_text_once():
    ids = np.arange(1000, dtype=np.int32)
    batches = Batches(ids, 32, 3)
    for epoch in range(3):
        first = epoch * batches.count
        rows = torch.cat([batches(first + i, 1)["ids"] for i in range(batches.count)])
        read = rows[:, :-1].flatten().sort().values
        assert torch.equal(read, torch.arange(len(read)) + read[0])
        assert torch.equal(rows[:, 1:], rows[:, :-1] + 1)
        assert len(read) > 1000 - 64


def test_a_batch_follows_from_seed_and_step_and_rows_from_their_position():
    ids = np.random.default_rng(0).integers(0, 9, 500).astype(np.int32)
    one, other = Batches(ids, 16, 0), Batches(ids, 16, 1)
    assert torch.equal(one(3, 8)["ids"], Batches(ids, 16, 0)(3, 8)["ids"])
    assert not torch.equal(one(3, 8)["ids"], other(3, 8)["ids"])
    assert torch.equal(one(3, 8)["ids"], torch.cat([one(6, 4)["ids"], one(7, 4)["ids"]]))
    assert one(0, 8)["ids"].dtype == torch.int64 and one(0, 8)["ids"].shape == (8, 17)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("short", {}, "too short: its train part has 4 tokens and 257 are needed"),
        ("ab" * 6, {"context": 2, "train_on": "train"}, "its validation part has 0 tokens"),
        ("", {}, "is empty"),
    ],
)
def test_a_text_that_is_too_short_is_refused(tmp_path, text, options, message):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        build_data(TextOptions(**options), str(path), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context is 0; it must be 1 or more"),
        ({"embedding": 0}, "embedding is 0"),
        ({"vocabulary": -1}, "vocabulary is -1"),
        ({"output_dropout": 1.0}, r"output_dropout is 1.0; it must lie in \[0, 1\)"),
        ({"backbone_options": "[1]"}, "backbone_options must be a JSON object"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        TextOptions(**options)
