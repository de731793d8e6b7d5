"""Lines read from fixed log-probabilities: best path, beam, model of language, confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eightbit.datasets.strokes import Writing
from eightbit.sequence_tasks._ctc.spelling import trigram_table
from eightbit.sequence_tasks.read_handwriting.options import ReadHandwritingOptions
from eightbit.sequence_tasks.read_handwriting.reading import Reading, read_lines

ALPHABET = [" ", "a", "b"]


class Fixed(nn.Module):
    """Says of every line the same, of as many frames as the line has points."""

    def __init__(self, probabilities: list[list[float]], texts: list[str]):
        super().__init__()
        self.log_probs = nn.Parameter(torch.tensor(probabilities).log())
        self.register_buffer("language", torch.from_numpy(trigram_table(texts, ALPHABET)))

    def forward(self, points: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_probs.expand(len(points), -1, -1), lengths


def read(model: nn.Module, frames: list[int], **options: object) -> list[Reading]:
    lines = [Writing(np.zeros((count, 3), np.float32), "", "") for count in frames]
    return read_lines(model, lines, ALPHABET, ReadHandwritingOptions(**options))  # type: ignore[arg-type]  # some options


# "a" is likelier than nothing in two frames together, and in neither alone.
TWICE = [[0.6, 0.0, 0.4, 0.0]] * 2
# "aa" is a little likelier than "ab".
EVEN = [[0.04, 0.0, 0.9, 0.06], [0.9, 0.0, 0.06, 0.04], [0.04, 0.0, 0.55, 0.41]]


def test_the_beam_finds_what_the_best_path_misses() -> None:
    model = Fixed(TWICE, ["b"])
    assert read(model, [2], decode="greedy")[0].text == ""
    (found,) = read(model, [2], decode="beam", language=0.0)
    assert found == Reading("a", pytest.approx(0.64))
    assert read(model, [2], decode="greedy")[0].confidence == pytest.approx(0.36)


def test_the_model_of_language_decides_between_like_shapes() -> None:
    model = Fixed(EVEN, ["ab", "ab ab", "abb"])
    assert read(model, [3], decode="greedy")[0].text == "aa"
    assert read(model, [3], decode="beam", language=0.0)[0].text == "aa"
    assert read(model, [3], decode="beam", language=0.5)[0].text == "ab"
    nothing = Fixed(EVEN, [])
    nothing.language.zero_()  # type: ignore[operator]  # a buffer
    assert read(nothing, [3], decode="beam", language=0.5)[0].text == "aa"


def test_each_line_is_read_from_its_own_frames_in_its_own_place() -> None:
    model = Fixed(EVEN, ["ab"])
    found = read(model, [1, 3, 2, 1], decode="beam", language=0.0)
    assert [one.text for one in found] == ["a", "aa", "a", "a"]
    assert found[0] == found[3]
    assert found[0].confidence == pytest.approx(0.9)
    # The probability of "aa", its geometric mean over the two.
    aa = 0.9 * 0.9 * 0.55
    assert found[1].confidence == pytest.approx(math.sqrt(aa))


def test_spaces_around_a_line_are_no_text() -> None:
    model = Fixed([[0.1, 0.9, 0.0, 0.0], [0.1, 0.0, 0.0, 0.9], [0.1, 0.9, 0.0, 0.0]], ["b"])
    for decode in ("greedy", "beam"):
        assert read(model, [3], decode=decode, language=0.0)[0].text == "b"
