"""Beam search equals trying every sentence, and draws follow the network's probabilities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from eightbit.vision_tasks._telling.words import END, PAD, START, UNK
from eightbit.vision_tasks.caption.search import Beam, beam_search, draw_sentences

FIRST = max(PAD, START, END, UNK) + 1
VOCABULARY = FIRST + 2


class Table:
    """Probabilities of the next word by picture, step and last word, drawn once."""

    def __init__(self, pictures: int, steps: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        shape = (pictures, steps, VOCABULARY, VOCABULARY)
        self.scores = (2 * torch.randn(shape, generator=generator)).log_softmax(-1)

    def begin(self, pictures):
        which = pictures[:, 0, 0, 0].long()
        return (which,), (torch.zeros(len(pictures), 1, dtype=torch.int64),)

    def write(self, words, memory, state):
        step = state[0].clamp(max=self.scores.shape[1] - 1)
        return self.scores[memory[0][:, None], step, words], (state[0] + 1,)


def pictures_of(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)


def every_sentence(table: Table, picture: int, longest: int) -> list[tuple[float, list[int], int]]:
    """All sentences that end within `longest` words, and those that are cut off there."""
    allowed = [word for word in range(VOCABULARY) if word not in (PAD, START, END, UNK)]
    found = []
    for length in range(longest + 1):
        for words in itertools.product(allowed, repeat=length):
            total, last = 0.0, START
            ended = [*words, END] if length < longest else [*words]
            for step, word in enumerate(ended):
                total += float(table.scores[picture, step, last, word])
                last = word
            found.append((total, list(words), len(ended)))
    return found


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_a_wide_beam_finds_what_trying_every_sentence_finds(penalty):
    longest, best = 4, 6
    table = Table(3, longest, seed=1)
    beam = Beam(size=400, n_best=best, length_penalty=penalty, longest=longest)
    found = beam_search(table, pictures_of(3), beam)
    for picture, sentences in enumerate(found):
        known = every_sentence(table, picture, longest)
        known.sort(key=lambda one: -one[0] / one[2] ** penalty)
        assert [one.ids for one in sentences] == [ids for _, ids, _ in known[:best]]
        np.testing.assert_allclose(
            [one.log_probability for one in sentences],
            [total for total, _, _ in known[:best]],
            atol=1e-5,
        )


def test_a_beam_of_one_takes_the_likeliest_word_each_time():
    table = Table(4, 6, seed=2)
    for picture, (one,) in enumerate(beam_search(table, pictures_of(4), Beam(1, longest=6))):
        last, ids = START, []
        for step in range(6):
            scores = table.scores[picture, step, last].clone()
            scores[[PAD, START, UNK]] = -torch.inf
            last = int(scores.argmax())
            if last == END:
                break
            ids.append(last)
        assert one.ids == ids


def test_pictures_do_not_disturb_each_other():
    table = Table(5, 6, seed=3)
    together = beam_search(table, pictures_of(5), Beam(3, 3, longest=6))
    for picture in range(5):
        (alone,) = beam_search(table, pictures_of(5)[picture : picture + 1], Beam(3, 3, longest=6))
        assert alone == together[picture]


def test_a_wider_beam_is_never_worse_where_it_holds_everything():
    table = Table(6, 5, seed=4)
    narrow = beam_search(table, pictures_of(6), Beam(1, longest=5))
    wide = beam_search(table, pictures_of(6), Beam(500, longest=5))
    for one, other in zip(narrow, wide, strict=True):
        assert other[0].log_probability >= one[0].log_probability - 1e-6


def test_draws_follow_the_probabilities_and_their_seed():
    table = Table(1, 2, seed=5)

    def drawn(temperature: float, seed: int):
        generator = torch.Generator().manual_seed(seed)
        return draw_sentences(table, pictures_of(1), temperature, 4000, 1, generator)[0]

    for temperature in (1.0, 0.5):
        sentences = drawn(temperature, 0)
        scores = table.scores[0, 0, START].clone() / temperature
        scores[[PAD, START, UNK]] = -torch.inf
        shares = scores.softmax(0)
        for word in range(FIRST, VOCABULARY):
            share = np.mean([one.ids == [word] for one in sentences])
            assert share == pytest.approx(float(shares[word]), abs=0.03)
    assert drawn(1.0, 7) == drawn(1.0, 7) != drawn(1.0, 8)
    cold = drawn(1e-3, 0)
    (best,) = beam_search(table, pictures_of(1), Beam(1, longest=1))[0]
    assert all(one.ids == best.ids for one in cold)
