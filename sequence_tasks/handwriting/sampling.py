"""Writing: points drawn one after the other until the window has passed the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.strokes import Writing
from .data import Scale
from .mixture import draw, mixture_of
from .model import WriterState, WritingNetwork, before, joined, letters_of
from .paths import paced
from .pieces import cut
from .text import encode, stack_texts

_TOGETHER = 64
"""lines that are written together"""
_SLOWEST = 3.0
"""times the usual number of points of a text, after which a line is given up"""
_LONGEST_PRIME = 400
"""points of a prime; longer ones are cut between words"""
_BREATH = 60
"""points that every line may take besides"""
_CLEANED = 16
"""steps after which rows that are done leave the batch"""


@dataclass(frozen=True)
class Request:
    """A line to write.

    Attributes:
        text: all of its characters are known to the network.
        prime: a paced writing whose style is taken over, or None.
    """

    text: str
    prime: Writing | None = None


@dataclass(frozen=True)
class Written:
    """A line that the network wrote.

    Attributes:
        writing: points at core height 1, the baseline at y = 0, the first one at x = 0.
        attention: float32 (N, len(text) + 1), the weight of each character, the end mark included,
            at each point; (N, 0) of a prediction network.
        finished: whether the window passed the text's end; else the limit of points was met.
    """

    writing: Writing
    attention: np.ndarray
    finished: bool


def prime_from(writing: Writing, facts: Mapping[str, Any]) -> Writing:
    """A writing in the form in which a network of these facts can be primed with it.

    Of a long line the longest run of words is taken that networks are used to, where it is plain
    between which strokes its spaces lie.
    """
    whole = paced([writing], float(facts["density"]))[0]
    pieces = cut(whole, _LONGEST_PRIME)
    return max(pieces, key=lambda one: len(one.points)) if pieces else whole


def most_points(text: str, facts: Mapping[str, Any]) -> int:
    """Points after which a line is given up."""
    return int(_SLOWEST * len(text) / float(facts["pace"])) + _BREATH


def write(
    model: WritingNetwork,
    facts: Mapping[str, Any],
    requests: Sequence[Request],
    bias: float = 1.0,
    seed: int = 0,
) -> list[Written]:
    """Writes lines. Each follows from its request, its place and the seed, not from the others.

    Args:
        model: in evaluation mode.
        facts: of the data that it learnt from.
        requests: what is to be written; of a prediction network only texts' lengths matter.
        bias: towards likely points; 0 is the density as learnt, 1 or 2 look neat.
        seed: of all random numbers.
    """
    results: list[Written | None] = [None] * len(requests)
    # Lines of like length are written together.
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].text))
    with _kernels_for_single_steps():
        for first in range(0, len(order), _TOGETHER):
            some = order[first : first + _TOGETHER]
            page = _Page(model, facts, [requests[i] for i in some], bias, [(seed, i) for i in some])
            for index, written in zip(some, page.fill(), strict=True):
                results[index] = written
    return [one for one in results if one is not None]


@contextmanager
def _kernels_for_single_steps() -> Iterator[None]:
    """Leaves oneDNN out, which packs an LSTM's weights anew for every step: 2 to 3 times slower."""
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # it has a setter
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = enabled


class _Page:
    """Some lines that are written together."""

    def __init__(
        self,
        model: WritingNetwork,
        facts: Mapping[str, Any],
        requests: Sequence[Request],
        bias: float,
        seeds: Sequence[tuple[int, int]],
    ):
        self.model, self.requests, self.bias = model, requests, bias
        self.scale = Scale(float(facts["scale"]))
        self.device = next(model.parameters()).device
        wholes = [_whole(request) for request in requests]
        codes = [encode(text, facts["alphabet"]) for text in wholes]
        self.ends = torch.tensor([len(code) - 1 for code in codes], device=self.device)
        text = torch.from_numpy(stack_texts(codes, 1)).to(self.device)
        self.letters = letters_of(text, len(facts["alphabet"]) + 1)
        self.limits = [most_points(request.text, facts) for request in requests]
        numbers = [_random_numbers(*seed, max(self.limits)) for seed in seeds]
        self.uniform = torch.from_numpy(np.stack([n[0] for n in numbers], 1)).to(self.device)
        self.normal = torch.from_numpy(np.stack([n[1] for n in numbers], 1)).to(self.device)

    def _begin(self) -> tuple[Tensor, WriterState]:
        """The point before the first and the state, after each row's prime."""
        groups: dict[int, list[int]] = {}
        for row, request in enumerate(self.requests):
            groups.setdefault(id(request.prime), []).append(row)
        points = torch.zeros(len(self.requests), 3, device=self.device)
        states = []
        for rows in groups.values():
            prime = self.requests[rows[0]].prime
            state = self.model.initial_state(len(rows))
            if prime is None:
                points[rows, 2] = 1
            else:
                known = torch.from_numpy(self.scale.to_numbers(prime)).to(self.device)
                read = before(known[None]).expand(len(rows), -1, -1)
                _, _, state = self.model.advance(read, self.letters[rows], state)
                points[rows] = known[-1]
            states.append(state)
        order = torch.tensor([row for rows in groups.values() for row in rows]).argsort()
        return points, joined(states).chosen(order.to(self.device))

    @torch.no_grad()
    def fill(self) -> list[Written]:
        """Writes all lines to their ends."""
        point, state = self._begin()
        count = len(self.requests)
        rows = torch.arange(count, device=self.device)
        letters, limits = self.letters, torch.tensor(self.limits, device=self.device)
        lengths = torch.zeros(count, dtype=torch.long, device=self.device)
        finished = torch.zeros(count, dtype=torch.bool, device=self.device)
        done = finished.clone()
        drawn, weights = [], []
        for step in range(max(self.limits)):
            outputs, phi, state = self.model.advance(point[:, None], letters, state)
            if phi is not None:
                past = (phi[0].argmax(1) == self.ends[rows]) & (point[:, 2] > 0.5) & (step > 0)
                finished[rows] |= past & ~done[rows]
                done[rows] |= past
                weights.append((rows, phi[0]))
            done[rows] |= step >= limits[rows]
            if step % _CLEANED == 0 or len(rows) <= 2:
                kept = torch.nonzero(~done[rows])[:, 0]
                if not len(kept):
                    break
                if len(kept) < len(rows):
                    rows, letters = rows[kept], letters[kept]
                    outputs, state = outputs[kept], state.chosen(kept)
                    if weights:
                        weights[-1] = (rows, weights[-1][1][kept])
            mixture = mixture_of(outputs[:, 0], self.bias)
            point = draw(mixture, self.uniform[step, rows], self.normal[step, rows])
            drawn.append((rows, point))
            lengths[rows] += (~done[rows]).long()
        return self._results(drawn, weights, lengths.tolist(), finished.tolist())

    def _results(
        self,
        drawn: Sequence[tuple[Tensor, Tensor]],
        weights: Sequence[tuple[Tensor, Tensor]],
        lengths: Sequence[int],
        finished: Sequence[bool],
    ) -> list[Written]:
        count, steps = len(self.requests), len(drawn)
        points = np.zeros((count, steps, 3), np.float32)
        attention = np.zeros((count, steps, self.letters.shape[1]), np.float32)
        for step, (rows, values) in enumerate(drawn):
            points[rows.cpu().numpy(), step] = values.cpu().numpy()
        for step, (rows, values) in enumerate(weights[:steps]):
            attention[rows.cpu().numpy(), step] = values.cpu().numpy()
        results = []
        for row, request in enumerate(self.requests):
            length = max(lengths[row], 1)
            first = len(_whole(request)) - len(request.text)
            shown = attention[row, :length, first : int(self.ends[row]) + 1]
            path = self._path(points[row, :length], request.prime)
            writing = Writing(path, request.text, request.prime.writer if request.prime else "")
            shown = shown if weights else shown[:, :0]
            results.append(Written(writing, shown, bool(finished[row])))
        return results

    def _path(self, numbers: np.ndarray, prime: Writing | None) -> np.ndarray:
        path = numbers.astype(np.float64)
        path[:, :2] = np.cumsum(path[:, :2], axis=0) * self.scale.size
        if prime is not None:
            path[:, 1] += prime.points[-1, 1]
        path[:, 0] -= path[0, 0]
        path[-1, 2] = 1
        return path.astype(np.float32)


def _whole(request: Request) -> str:
    """The text that the window moves over: the prime's, a space, the new one."""
    return request.text if request.prime is None else f"{request.prime.text} {request.text}"


def _random_numbers(seed: int, place: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform and normal numbers (steps, 2), float32, of one line."""
    rng = np.random.default_rng([seed, place])
    numbers = rng.random((steps, 2), np.float32)
    return numbers, np.random.default_rng([seed, place, 1]).standard_normal((steps, 2), np.float32)
