"""The network in its three ways: it sees its picture, and a word at a time equals all at once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from eightbit.errors import UsageError
from eightbit.tasks import Moment
from eightbit.vision_tasks._telling.words import END, PAD, START, Words
from eightbit.vision_tasks.caption import CaptionOptions
from eightbit.vision_tasks.caption.model import CaptionNetwork, Detector, build_model, loss
from eightbit.vision_tasks.caption.search import Beam, beam_search
from eightbit.vision_tasks.caption.use import attention_of, padded, similarities

WAYS = ("attention", "first", "each")
SENTENCES = ("a red circle is left of a blue square", "a blue circle", "red square above a circle")
WORDS = Words.learn(SENTENCES)


def network_of(way: str = "attention", **options) -> CaptionNetwork:
    settings = {
        "backbone_options": '{"channels": [4, 8], "hidden": 12}',
        "size": 16,
        "memory": 10,
        "embedding": 9,
        "hidden": 11,
        "ranking_size": 8,
        **options,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = build_model(CaptionOptions(way=way, **settings), {"words": WORDS.to_facts()})
        # So that words are told apart from the start on.
        nn.init.normal_(made.embed.weight, std=1.0)
    return made.eval()


def pictures_of(rng: np.random.Generator, count: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8))


def batch_of(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    return {
        "pictures": pictures_of(rng, 3),
        "sentences": padded([WORDS.encode(one) for one in SENTENCES]),
        "owners": torch.arange(3),
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_word_at_a_time_equals_whole_sentences(way, rng):
    network, batch = network_of(way), batch_of(rng)
    said = batch["sentences"][:, :-1]
    with torch.no_grad():
        logits, weights = network.decode(*network.look(batch["pictures"]), said)
        wanted = logits.log_softmax(-1)
        memory, state = network.begin(batch["pictures"])
        # Two sentences of each picture go side by side.
        state = tuple(part.expand(-1, 2, -1) for part in state)
        for place in range(said.shape[1]):
            words = said[:, place : place + 1].expand(-1, 2)
            found, state = network.write(words, memory, state)
            for beam in range(2):
                torch.testing.assert_close(found[:, beam], wanted[:, place], atol=1e-5, rtol=1e-4)
    assert weights.shape == (3, said.shape[1], 16 if way == "attention" else 0)
    if way == "attention":
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))


@pytest.mark.parametrize("way", WAYS)
def test_every_sentence_depends_on_its_own_picture_alone(way, rng):
    network, batch = network_of(way), batch_of(rng)
    other = batch["pictures"].clone()
    other[1] = 255 - other[1]
    with torch.no_grad():
        said = batch["sentences"][:, :-1]
        one, _ = network.decode(*network.look(batch["pictures"]), said)
        two, _ = network.decode(*network.look(other), said)
    torch.testing.assert_close(one[[0, 2]], two[[0, 2]])
    assert (one[1] - two[1]).abs().max() > 1e-4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ranking", ["none", "embedding", "alignment"])
def test_the_loss_reaches_every_weight_and_padding_none(way, ranking, rng):
    settings = {"ranking": ranking, "ranking_weight": 0.5, "detector_weight": 2.0}
    network, batch = network_of(way, dropout=0.0, word_dropout=0.0, **settings), batch_of(rng)
    losses = loss(network, batch, Moment(0, 0.0, torch.Generator()))
    losses["loss"].backward()
    assert all(p.grad is not None for p in network.parameters())
    longer = torch.cat([batch["sentences"], torch.full((3, 4), PAD)], 1)
    again = loss(network, {**batch, "sentences": longer}, Moment(0, 0.0, torch.Generator()))
    for name, value in losses.items():
        torch.testing.assert_close(again[name], value, msg=name)
    total = losses["nll"] + 2.0 * losses["detector"] + 0.5 * losses.get("ranking", 0.0)
    torch.testing.assert_close(losses["loss"], total)


@pytest.mark.parametrize("read", (True, False))
def test_colours_that_were_said_are_read_or_not(read, rng):
    network, pictures = network_of(read_colours=read), pictures_of(rng, 1)
    red, blue = (padded([WORDS.encode(f"a {one} circle")])[:, :-1] for one in ("red", "blue"))
    square = padded([WORDS.encode("a red square")])[:, :-1]
    with torch.no_grad():
        seen = network.look(pictures)
        of_red, of_blue, of_square = (
            network.decode(*seen, said)[0] for said in (red, blue, square)
        )
        memory, state = network.begin(pictures)
        written = [network.write(said[:, 2:3], memory, state)[0] for said in (red, blue)]
    assert torch.equal(of_red[0, 2], of_blue[0, 2]) != read  # what follows the colour
    assert torch.equal(written[0], written[1]) != read
    assert not torch.equal(of_red[0, 3], of_square[0, 3])  # other words are always read


def test_the_loss_is_the_mean_cross_entropy_of_words(rng):
    network, batch = network_of(detector_weight=0.0, label_smoothing=0.2), batch_of(rng)
    total, count = 0.0, 0
    with torch.no_grad():
        logits, _ = network.decode(*network.look(batch["pictures"]), batch["sentences"][:, :-1])
        for row, words in zip(logits.log_softmax(-1), batch["sentences"][:, 1:], strict=True):
            for scores, word in zip(row, words.tolist(), strict=True):
                if word != PAD:
                    total -= float(scores[word])
                    count += 1
        found = loss(network, batch, Moment(0, 0.0, torch.Generator()))
    assert set(found) == {"loss", "nll"}
    assert float(found["nll"]) == pytest.approx(total / count, rel=1e-5)
    assert float(found["loss"]) != pytest.approx(float(found["nll"]), rel=1e-3)


def test_the_detector_joins_cells_by_a_noisy_or(rng):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = Detector(5, len(WORDS))
    nn.init.normal_(detector.score.bias, std=1.0, generator=torch.Generator().manual_seed(1))
    cells = torch.tensor(rng.normal(size=(2, 7, 5)), dtype=torch.float32)
    words = [WORDS.encode("a red circle"), WORDS.encode("a blue square")]
    total = 0.0
    with torch.no_grad():
        shares = torch.sigmoid(detector.score(cells))
        for picture, told in enumerate(words):
            for word in range(END + 2, len(WORDS)):
                there = 1 - float((1 - shares[picture, :, word]).prod())
                total -= np.log(there) if word in told else np.log(1 - there)
        found = detector(cells, padded(words)[:, 1:])
    assert float(found) == pytest.approx(total / 6, rel=1e-4)


def test_attention_maps_have_a_row_a_word_and_the_end(rng):
    network = network_of()
    maps = attention_of(network, pictures_of(rng, 1)[0], WORDS.encode(SENTENCES[1]))
    assert maps.shape == (4, 16, 16)
    # The trunk halves the picture twice: cells are centred on every fourth pixel from the first.
    np.testing.assert_allclose(maps[:, ::4, ::4].sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("ranking", ["none", "embedding", "alignment"])
def test_similarities_do_not_depend_on_the_company(ranking, rng):
    network = network_of(ranking=ranking)
    pictures = pictures_of(rng, 4)
    sentences = [WORDS.encode(one) for one in SENTENCES]
    with torch.no_grad():
        table = similarities(network, pictures, sentences)
        alone = similarities(network, pictures, sentences[1:2])
    assert table.shape == (4, 3)
    np.testing.assert_allclose(table[:, 1:2], alone, atol=1e-5)
    if ranking == "none":  # a sentence's log probability, less its mean over the pictures
        np.testing.assert_allclose(table.mean(0), 0, atol=1e-5)
        said = padded(sentences)
        with torch.no_grad():
            logits, _ = network.decode(*network.look(pictures[:3]), said[:, :-1])
        chosen = logits.log_softmax(-1).gather(-1, said[:, 1:, None])[..., 0]
        sums = (chosen * (said[:, 1:] != PAD)).sum(1)
        difference = similarities(network, pictures[:2], sentences[:1])
        assert difference[0, 0] - difference[1, 0] == pytest.approx(
            float(sums[0] - _log_probability(network, pictures[1], sentences[0])), abs=1e-4
        )


def _log_probability(
    network: CaptionNetwork, picture: torch.Tensor, ids: list[int], *, ended: bool = True
) -> float:
    said = [START, *ids, END] if ended else [START, *ids]
    with torch.no_grad():
        memory, state = network.begin(picture[None])
        total = 0.0
        for last, word in itertools.pairwise(said):
            scores, state = network.write(torch.tensor([[last]]), memory, state)
            total += float(scores[0, 0, word])
    return total


def test_a_found_sentence_has_the_log_probability_that_it_claims(rng):
    for way in WAYS:
        network, pictures = network_of(way), pictures_of(rng, 2)
        for picture, found in zip(
            pictures, beam_search(network, pictures, Beam(4, 2, longest=5)), strict=True
        ):
            for one in found:
                known = _log_probability(network, picture, one.ids, ended=len(one.ids) < 5)
                assert one.log_probability == pytest.approx(known, abs=1e-3)


def test_bad_options_are_refused():
    with pytest.raises(UsageError, match="takes no pictures"):
        build_model(CaptionOptions(backbone="lstm"), {"words": WORDS.to_facts()})
    with pytest.raises(UsageError, match="dropout is 1.5"):
        CaptionOptions(dropout=1.5)
    with pytest.raises(UsageError, match="shift is 64"):
        CaptionOptions(shift=64)
    with pytest.raises(UsageError, match="JSON"):
        CaptionOptions(backbone_options="[1]")
