"""The ways in which a question meets a picture."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from eightbit.backbones import create_backbone
from eightbit.errors import UsageError
from eightbit.tasks import Moment
from eightbit.vision_tasks._telling.drawing import cell_places, spread
from eightbit.vision_tasks._telling.words import Words
from eightbit.vision_tasks.answer import TASK, AnswerOptions
from eightbit.vision_tasks.answer.data import padded
from eightbit.vision_tasks.answer.meetings import Read, Seen, coordinates
from eightbit.vision_tasks.answer.model import NO_ANSWER, build_model

WAYS = ("attention", "relation", "full", "vis_lstm", "two_vis_blstm", "img_bow")
WORDS = Words.learn(["what colour is the shape", "is it red"])
FACTS = {"words": WORDS.to_facts(), "answers": ["yes", "no", "red"]}
QUESTIONS = ["what colour is the shape", "is it red", "is the shape red", "red"]


def network(way: str = "attention", **options):
    made = AnswerOptions(
        **{
            "backbone_options": '{"channels": [4, 6]}',
            "size": 14,
            "way": way,
            "embedding": 5,
            "hidden": 6,
            "width": 8,
            **options,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(made, FACTS)


@pytest.fixture
def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 14, 14), dtype=torch.uint8, generator=generator)


OWNERS = torch.tensor([0, 0, 2, 1])


def ids_of(*texts: str) -> torch.Tensor:
    return padded([WORDS.encode(text) for text in texts])


@pytest.mark.parametrize("way", WAYS)
def test_a_question_is_answered_the_same_alone_and_in_a_batch(way, pictures):
    model = network(way).eval()
    with torch.no_grad():
        together = model.probabilities(pictures, ids_of(*QUESTIONS), OWNERS)
        assert torch.allclose(together.sum(1), torch.ones(4))
        for i, text in enumerate(QUESTIONS):
            one = pictures[OWNERS[i]][None]
            alone = model.probabilities(one, ids_of(text), torch.zeros(1, dtype=torch.int64))
            assert torch.allclose(alone[0], together[i], atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_the_picture_counts_and_to_blind_networks_it_does_not(way, pictures):
    for blind in (False, True):
        model = network(way, blind=blind).eval()
        with torch.no_grad():
            first = model.probabilities(pictures, ids_of(*QUESTIONS), OWNERS)
            other = model.probabilities(pictures.flip(0), ids_of(*QUESTIONS), OWNERS)
        assert torch.allclose(first, other, atol=1e-7) == blind


@pytest.mark.parametrize("way", WAYS)
def test_all_weights_learn_and_padding_does_not_count(way, pictures):
    model = network(way).train()
    ids = ids_of(*QUESTIONS)
    empty = torch.zeros_like(ids[0])
    questions = torch.stack([ids[:2], torch.stack([ids[3], empty]), torch.stack([ids[2], empty])])
    answers = torch.tensor([[0, 1], [2, NO_ANSWER], [1, NO_ANSWER]])
    batch = {"pictures": pictures, "questions": questions, "answers": answers}
    found = TASK.loss(model, batch, Moment(0, 0.0, torch.Generator()))
    found["loss"].backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    right, owners = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 0, 1, 2])
    with torch.no_grad():
        logits, _ = model.scores(pictures, ids[[0, 1, 3, 2]], owners)
    each = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), right[:, None].expand(-1, logits.shape[1]), reduction="none"
    )
    assert torch.allclose(each.sum(1).mean(), found["nll"], atol=1e-5)


def test_the_relation_network_is_f_of_the_sum_over_pairs():
    """Against g on concatenated pairs and the question, one pair at a time."""
    model = network("relation", layers=3).eval()
    meeting = model.meeting
    cells = torch.randn(2, model.grid[0] * model.grid[1], 6)
    ids, owners = ids_of("is it red", "red"), torch.tensor([1, 0])
    seen = Seen(cells.new_zeros(2, 0), cells)
    read = Read(ids, model.embed(ids), owners)
    with torch.no_grad():
        logits, _ = meeting(seen, read)
        question = meeting.reader(read)
        weight = torch.cat([meeting.one.weight, meeting.other.weight, meeting.asked.weight], 1)
        placed = torch.cat([cells, coordinates(model.grid).expand(2, -1, -1)], -1)
        for n in range(2):
            rows = placed[owners[n]]
            total = torch.zeros(8)
            for one, other in product(rows, rows):
                x = torch.relu(weight @ torch.cat([one, other, question[n]]) + meeting.one.bias)
                for layer in meeting.layers:
                    x = torch.relu(layer(x))
                total += x
            wanted = meeting.answer(total / len(rows) ** 2)
            assert torch.allclose(logits[n], wanted, atol=1e-5)


def test_full_is_the_mean_of_its_three(pictures):
    model = network("full").eval()
    ids = ids_of(*QUESTIONS)
    with torch.no_grad():
        seen, read = model.look(pictures), Read(ids, model.embed(ids), OWNERS)
        three = [part(seen, read)[0].softmax(-1) for part in model.meeting.parts]
        assert torch.allclose(sum(three) / 3, model.probabilities(pictures, ids, OWNERS), atol=1e-6)


def test_vis_lstm_reads_the_picture_as_the_first_word(pictures):
    model = network("vis_lstm").eval()
    ids = ids_of("what colour is the shape", "red")
    with torch.no_grad():
        seen = model.look(pictures)
        logits, _ = model.meeting(seen, Read(ids, model.embed(ids), torch.tensor([1, 2])))
        picture = model.meeting.pictures[0](seen.vector[2])
        sequence = torch.stack([picture, model.embed.weight[WORDS.ids["red"]]])[None]
        state, _ = model.meeting.lstm(sequence)
        assert torch.allclose(logits[1], model.meeting.out(state[0, -1]), atol=1e-6)


def test_attention_is_a_distribution_over_the_cells(pictures):
    model = network().eval()
    with torch.no_grad():
        _, weights = model.scores(pictures, ids_of(*QUESTIONS), OWNERS)
    assert weights.shape == (4, model.grid[0] * model.grid[1])
    assert torch.allclose(weights.sum(1), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("strided", {"channels": [4, 6, 6]}),
        ("impala", {"channels": [4, 6], "hidden": 0}),
        ("nature", {}),
    ],
)
def test_cells_are_drawn_where_the_trunk_looks(backbone, options):
    """The pixels that a cell depends on lie about the place that `cell_places` tells."""
    trunk = create_backbone(backbone, (3, 96, 96), **options).eval()
    x = torch.rand(1, 3, 96, 96, requires_grad=True)
    cells = trunk.forward_features(x)
    first, step = cell_places(trunk)
    middle = cells.shape[2] // 2
    cells[0, :, middle, middle].sum().backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
    seen = (rows.min() + rows.max()).item() / 2
    assert first + middle * step == pytest.approx(seen, abs=step / 4)


def test_heat_peaks_at_its_cell():
    heat = np.zeros((4, 4))
    heat[1, 2] = 1
    found = spread(heat, 64, 0, 16)
    assert np.unravel_index(found.argmax(), found.shape) == (16, 32)
    assert found[16, 40] == pytest.approx(0.5) and found[0, 0] == 0
    assert spread(heat, 4, 0, 1) == pytest.approx(heat)


def test_what_makes_no_sense_is_refused():
    for options in ({"width": 6}, {"dropout": 1.0}, {"shift": 14}, {"asked": 0}):
        with pytest.raises(UsageError):
            network(**options)
    with pytest.raises(UsageError, match="takes no pictures"):
        network(backbone="lstm")
