"""How well written lines can be read, and whether they keep the hand of their prime.

1. Texts that no training line contains, put together from runs of words of held-out lines, are
   written and read by the recognizer, which learnt from real writing alone. Beside it stands what
   it makes of real lines of held-out writers. Intervals are 95 % bootstraps, over lines for what
   was written, over writers for what is real.
2. For the held-out writers with the most lines, a classifier (logistic regression on directions,
   hinges and pen lifts) learns from half of their real lines. It judges the other half, lines that
   were primed with a line of that other half, and lines without a prime. Real lines are brought to
   the points that the generator works with. Intervals are Clopper and Pearson's.
3. Seconds for a line, one by one and many at once.
4. A picture of thirty of the lines.

Give a run of each task:

    python benchmarks/handwriting_scores.py --writer runs/handwriting --reader runs/read-handwriting
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measure import Report, Row, arguments, settings_of
from scipy.stats import beta

from eightbit.datasets.pictures import write_picture
from eightbit.datasets.strokes import (
    Writing,
    WritingData,
    person,
    prepared,
    read_writings,
    to_strokes,
)
from eightbit.sequence_tasks._scores import edits
from eightbit.sequence_tasks.handwriting import write_lines
from eightbit.sequence_tasks.handwriting.paths import paced
from eightbit.sequence_tasks.read_handwriting.run import read_writings_of
from eightbit.sequence_tasks.read_handwriting.scores import drawn
from eightbit.tasks import Trained
from eightbit.train.task_models import trained_for

RESAMPLES = 2000
LENGTHS = 18, 42
"""least and most characters of a new text"""
DIRECTIONS = 16
"""classes of direction in the classifier's features"""
Values = np.ndarray


@dataclass(frozen=True)
class Scores:
    """Edits and lengths of lines, and who wrote each.

    Attributes:
        edits, lengths: float (N,), in characters.
        groups: int (N,), what the bootstrap draws together.
    """

    edits: np.ndarray
    lengths: np.ndarray
    groups: np.ndarray

    @property
    def cer(self) -> float:
        return float(self.edits.sum() / self.lengths.sum())

    def resampled(self, rng: np.random.Generator) -> np.ndarray:
        """The error rate of `RESAMPLES` draws of groups."""
        count = int(self.groups.max()) + 1
        edits = np.bincount(self.groups, self.edits, count)
        lengths = np.bincount(self.groups, self.lengths, count)
        chosen = rng.integers(count, size=(RESAMPLES, count))
        return edits[chosen].sum(1) / lengths[chosen].sum(1)


def new_texts(data: WritingData, allowed: set[str], count: int, seed: int) -> list[str]:
    """Texts that no training line contains: runs of words of two held-out lines, joined."""
    rng = np.random.default_rng([seed, 1])
    held = [one.text.split() for split in ("validation", "test") for one in data.lines[split]]
    held = [words for words in held if len(words) >= 3 and set("".join(words)) <= allowed]
    known = "\n".join(one.text for one in data.lines["train"])
    found: dict[str, None] = {}
    while len(found) < count:
        words: list[str] = []
        for index in rng.choice(len(held), 2, replace=False):
            size = int(rng.integers(2, 5))
            start = int(rng.integers(max(1, len(held[index]) - size + 1)))
            words += held[index][start : start + size]
        text = " ".join(words)
        letters = sum(character.isalpha() for character in text)
        if LENGTHS[0] <= len(text) <= LENGTHS[1] and letters > len(text) / 2 and text not in known:
            found[text] = None
    return list(found)


def read_scores(reader: Trained, writings: Sequence[Writing], groups: Sequence[Any]) -> Scores:
    """What the recognizer makes of writings, whose texts are known."""
    said = [" ".join(line.text for line in found) for found in read_writings_of(reader, writings)]
    counts = [sum(edits(one.text, read)) for read, one in zip(said, writings, strict=True)]
    places = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return Scores(
        np.array(counts, float),
        np.array([len(one.text) for one in writings], float),
        np.array([places[group] for group in groups]),
    )


def features(writing: Writing) -> np.ndarray:
    """What tells hands apart: directions, hinges of directions, lifts and proportions."""
    points = prepared(writing, 0.12).points
    directions, hinges = np.zeros(2 * DIRECTIONS), np.zeros((DIRECTIONS, DIRECTIONS))
    length, sizes = 0.0, []
    for stroke in to_strokes(points):
        moves = np.diff(stroke, axis=0)
        length += float(np.hypot(*moves.T).sum())
        sizes.append(np.ptp(stroke, axis=0))
        angle = np.arctan2(moves[:, 1], moves[:, 0]) / (2 * np.pi)
        np.add.at(directions, (angle * 2 * DIRECTIONS).astype(int) % (2 * DIRECTIONS), 1)
        place = (angle * DIRECTIONS).astype(int) % DIRECTIONS
        np.add.at(hinges, (place[:-4], place[4:]), 1)
    width, height = np.maximum(np.ptp(points[:, :2], axis=0), 1e-3)
    size = np.array(sizes)
    jumps = np.diff(points[:, :2], axis=0)[points[:-1, 2] > 0.5]
    jumps = jumps if len(jumps) else np.zeros((1, 2))
    level = points[:, 1] - np.median(points[:, 1])
    shape = [
        np.log(length / width),
        np.log(len(sizes) / width),
        np.log(len(writing.text) / width),
        np.log(len(sizes) / max(1, len(writing.text))),
        *np.median(size, axis=0),
        *size.mean(0),
        *np.abs(jumps).mean(0),
        (jumps[:, 0] < 0).mean(),
        height,
        *np.quantile(level, [0.02, 0.1, 0.25, 0.75, 0.9, 0.98]),
    ]
    parts = [directions / directions.sum(), hinges.ravel() / max(1, hinges.sum())]
    return np.concatenate([*(np.sqrt(part) for part in parts), 0.2 * np.array(shape)])


def classifier(inputs: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Logistic regression with a penalty; (N, F) -> the likeliest class (N,)."""
    mean, spread = inputs.mean(0), inputs.std(0) + 0.02

    def scaled(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((x - mean) / spread).float()

    x, y = scaled(inputs), torch.from_numpy(labels)
    weight = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
    bias = torch.zeros(weight.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        fit = torch.nn.functional.cross_entropy(x @ weight + bias, y)
        loss = fit + 0.003 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return lambda given: (scaled(given) @ weight + bias).argmax(1).numpy()


def interval_of_share(hits: int, count: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval."""
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


def share_row(name: str, judged: np.ndarray, true: np.ndarray) -> Row:
    """The share of lines that are given to the right writer, in per cent."""
    hits = int((judged == true).sum())
    low, high = interval_of_share(hits, len(true))
    extra = {"hits": hits, "lines": len(true), "low": 100 * low, "high": 100 * high}
    return Row(name, "eightbit", "% of lines", [100 * hits / len(true)], 2, extra=extra)


def suited(one: Writing, allowed: set[str]) -> bool:
    """Whether a line can prime the generator and be judged: letters enough, all of them known."""
    return set(one.text) <= allowed and sum(c.isalpha() for c in one.text) >= 8


def identification(
    writer: Trained, data: WritingData, texts: Sequence[str], people: int, seed: int
) -> tuple[list[Row], list[Writing]]:
    """Whether a classifier of hands finds the writer of the prime; see the module."""
    allowed = set(writer.facts["alphabet"])
    held = [one for split in ("validation", "test") for one in data.lines[split]]
    held = [one for one in held if suited(one, allowed) and one.quality != "BAD"]
    chosen = [who for who, _ in Counter(person(one.writer) for one in held).most_common(people)]
    rng = np.random.default_rng([seed, 2])
    learnt: list[tuple[int, Writing]] = []
    checked: list[tuple[int, Writing]] = []
    for index, who in enumerate(chosen):
        lines = [one for one in held if person(one.writer) == who]
        order = rng.permutation(len(lines))
        half = len(lines) // 2
        learnt += [(index, lines[i]) for i in order[:half]]
        checked += [(index, lines[i]) for i in order[half:]]
    density = float(writer.facts["density"])

    def seen(pairs: Sequence[tuple[int, Writing]]) -> tuple[np.ndarray, np.ndarray]:
        whole = paced([one for _, one in pairs], density)
        return np.stack([features(one) for one in whole]), np.array([who for who, _ in pairs])

    judge = classifier(*seen(learnt))
    real, true = seen(checked)
    each = len(texts) // people
    labels = np.repeat(np.arange(people), each)
    primes = []
    for index in range(people):
        own = [one for who, one in checked if who == index]
        primes += [own[i] for i in rng.choice(len(own), each, replace=len(own) < each)]
    primed = write_lines(writer, texts[: len(labels)], bias=1.0, prime=primes, seed=seed)
    plain = write_lines(writer, texts[: len(labels)], bias=1.0, seed=seed + 1)
    rows = [
        share_row("writers found: real lines", judge(real), true),
        share_row("writers found: primed lines", judge(_features(primed)), labels),
        share_row("writers found: lines without a prime", judge(_features(plain)), labels),
    ]
    return rows, primed


def _features(writings: Sequence[Writing]) -> np.ndarray:
    return np.stack([features(one) for one in writings])


def sheet(writings: Sequence[Writing]) -> np.ndarray:
    """Lines below one another with their texts, RGB uint8."""
    rows = []
    for one in writings:
        row = np.full((92, 1240, 3), 255, np.uint8)
        line = drawn(one, 64, 1220)
        row[4 : 4 + len(line), 8 : 8 + line.shape[1]] = line[:66]
        place = (10, 86)
        cv2.putText(row, one.text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (90, 90, 90), 1)
        rows.append(row)
    return np.concatenate(rows)


def reading_rows(
    reader: Trained, data: WritingData, written: Sequence[Writing], seed: int
) -> list[Row]:
    """Character errors on written and on real lines, and their difference, in per cent."""
    real = [one for one in data.lines["test"] if one.quality != "BAD"]
    scores = {
        "real lines": read_scores(reader, real, [person(one.writer) for one in real]),
        "written lines": read_scores(reader, written, range(len(written))),
    }
    rng = np.random.default_rng([seed, 3])
    draws = {name: one.resampled(rng) for name, one in scores.items()}
    values = {name: one.cer for name, one in scores.items()}
    draws["written less real"] = draws["written lines"] - draws["real lines"]
    values["written less real"] = values["written lines"] - values["real lines"]
    counts = {"real lines": len(real), "written lines": len(written), "written less real": 0}
    rows = []
    for name, value in values.items():
        low, high = np.quantile(draws[name], [0.025, 0.975])
        extra = {"lines": counts[name], "low": 100 * float(low), "high": 100 * float(high)}
        title = f"character errors: {name}"
        rows.append(Row(title, "eightbit", "%", [100 * value], 2, extra=extra))
    return rows


def main() -> None:
    chosen = arguments(
        "How well written lines can be read, and whether they keep the hand of their prime.",
        writer="runs/handwriting",
        reader="runs/read-handwriting",
        data="unipen",
        device="cpu",
        texts=200,
        people=10,
        primed=100,
        threads=2,
        seed=0,
    )
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    writer = trained_for("handwriting", chosen.writer, device)
    reader = trained_for("read-handwriting", chosen.reader, device)
    data = read_writings(chosen.data, 0)
    for trained in (writer, reader):
        if trained.facts["split"] != data.facts["split"]:
            raise SystemExit(f"{trained.path} learnt from another split; train it with seed 0.")
    allowed = set(writer.facts["alphabet"]) & set(reader.facts["alphabet"])
    texts = new_texts(data, allowed, chosen.texts, chosen.seed)
    report = Report("handwriting_scores", settings_of(chosen), with_matmul=False)
    start = time.perf_counter()
    written = write_lines(writer, texts, bias=1.0, seed=chosen.seed)
    together = (time.perf_counter() - start) / len(texts)
    written = [replace(one, text=text) for one, text in zip(written, texts, strict=True)]
    report.rows += reading_rows(reader, data, written, chosen.seed)
    found, primed = identification(writer, data, texts[: chosen.primed], chosen.people, chosen.seed)
    report.rows += found
    alone = []
    for index, text in enumerate(texts[:5]):
        start = time.perf_counter()
        write_lines(writer, [text], bias=1.0, seed=index)
        alone.append(time.perf_counter() - start)
    report.rows.append(Row("a line by itself", "eightbit", "s", alone, chosen.threads))
    report.rows.append(Row("a line among many", "eightbit", "s", [together], chosen.threads))
    report.finish(chosen.out)
    write_picture(Path(chosen.out) / "handwriting_samples.png", sheet(written[:20] + primed[:10]))


if __name__ == "__main__":
    main()
