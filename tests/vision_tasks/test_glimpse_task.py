"""Training, scoring, playing and `eightbit run glimpse`."""

from __future__ import annotations

import csv
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eightbit.datasets.films import FilmReader
from eightbit.datasets.pictures import read_picture, write_picture
from eightbit.errors import TaskError, UsageError
from eightbit.tasks import Moment, RunJob, TaskData, Trained
from eightbit.vision_tasks.glimpse import TASK, GlimpseOptions, GlimpseRunOptions
from eightbit.vision_tasks.glimpse.play import play
from eightbit.vision_tasks.glimpse.run import fitted_ink, shown_to
from eightbit.vision_tasks.glimpse.scores import read

DATA = os.environ.get("EIGHTBIT_DATA")
SMALL = GlimpseOptions(glimpses=4, what=32, joint=48, hidden=48, copies=2)
CATCH = TASK.presets["catch"].options
FACTS = {"classes": list("0123456789")}


def _mnist(options: GlimpseOptions) -> TaskData:
    if DATA is None or not Path(DATA, "mnist_test").is_dir():
        pytest.skip("EIGHTBIT_DATA holds no mnist_test")
    return TASK.build_data(options, "mnist_test", 0)


def _train(options: GlimpseOptions, data: TaskData, seconds: float, rate: float, size: int):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TASK.build_model(options, data.facts)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    step, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        moment = Moment(step, 0.0, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        TASK.loss(model, data.batch(step, size), moment)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    return model.eval()


def _error(model, data: TaskData, control) -> float:
    with torch.no_grad():
        found = TASK.measure(model, data, "test", control)
    return found.values["error"](np.arange(found.units))


def test_some_seconds_of_digits_beat_the_controls():
    data = _mnist(SMALL)
    model = _train(SMALL, data, 8.0, 3e-3, 64)
    error = _error(model, data, "none")
    assert error < 0.4, error
    assert _error(model, data, "trivial") > 0.8 and _error(model, data, "shuffled") > 0.8
    with torch.no_grad():
        outcome = TASK.measure(model, data, "test", "none")
    by_glimpse = outcome.details["error_by_glimpse"]
    assert len(by_glimpse) == 4 and by_glimpse[-1] == pytest.approx(error)
    assert by_glimpse[-1] < by_glimpse[0], "more glimpses see more"
    assert outcome.pictures["paths"].shape[2] == 3
    sample = TASK.samples(model, data, 3)[0]
    assert sample.text is not None and sample.text.count("\n") == 2
    with pytest.raises(TaskError, match="no nowhere split"):
        TASK.measure(model, data, "nowhere", "none")  # type: ignore[arg-type]


@pytest.mark.long
def test_a_minute_on_a_canvas_teaches_places_that_follow_the_digit():
    options = replace(
        TASK.presets["translated"].options,
        **{"what": 64, "joint": 96, "hidden": 128, "channels": 8, "glimpses": 4, "copies": 6},
    )
    data = _mnist(options)
    model = _train(options, data, 60.0, 2e-3, 48)
    assert _error(model, data, "none") < _error(model, data, "trivial") - 0.2
    part = data.splits["test"]
    ink = part.pictures[:, 0].double()
    steps = torch.linspace(-1, 1, options.size, dtype=torch.float64)
    sums = torch.stack([(ink.sum(2) * steps).sum(1), (ink.sum(1) * steps).sum(1)], 1)
    middle = sums / ink.sum((1, 2))[:, None]
    second = read(model, part.pictures).places[:, 1]
    for axis in (0, 1):
        follows = np.corrcoef(second[:, axis], middle[:, axis])[0, 1]
        assert follows > 0.3, "the second glimpse's place follows the ink"


def test_some_seconds_of_catch_beat_the_controls():
    data = TASK.build_data(CATCH, "catch", 0)
    model = _train(CATCH, data, 10.0, 2e-3, 32)
    missed = _error(model, data, "none")
    assert missed < _error(model, data, "trivial") - 0.1, missed
    assert missed < _error(model, data, "shuffled") - 0.1
    assert TASK.samples(model, data, 2)[0].picture is not None


def test_a_perfect_player_would_catch_every_ball():
    """The rewards are the game's: a stand-in network that is told where the ball is."""

    class Oracle(torch.nn.Module):
        options = CATCH

        def __init__(self) -> None:
            super().__init__()
            self.retina = self

        def prepare(self, screens: Tensor) -> list[Tensor]:
            return [screens[:, 0].float()]

        def begin(self, rows: int) -> tuple[Tensor, ...]:
            return (torch.zeros(rows, 1),)

        def vector_of(self, state: tuple[Tensor, ...]) -> Tensor:
            return state[0]

        def guess(self, vector: Tensor) -> Tensor:
            return vector[:, :1] * 0

        def place_of(self, state, last, noise: Tensor, index: int) -> tuple[Tensor, Tensor]:
            return noise * 0, noise * 0

        def look(self, maps: list[Tensor], places: Tensor, state) -> tuple[Tensor, ...]:
            cells = maps[0][:, ::2, ::2]
            ball = (cells == 255).any(1).float().argmax(1)
            paddle = (cells[:, -1] == 160).float().argmax(1)
            left, right = ball < paddle, ball > paddle + 1
            return (torch.stack([~(left | right), left, right], 1).float(),)

        def answer(self, vector: Tensor) -> Tensor:
            return vector

    noise = torch.zeros(30, 2, CATCH.looks, 2)
    played = play(Oracle(), torch.arange(30), noise, None)  # type: ignore[arg-type]
    assert (played.rewards == 1).all() and played.logits.shape == (30, 2, 11, 3)
    blind = play(Oracle(), torch.arange(30), noise, None, exchanged=True)  # type: ignore[arg-type]
    assert (blind.rewards < 0).any()


def test_moves_are_drawn_with_their_probabilities():
    torch.manual_seed(0)
    model = TASK.build_model(CATCH, {})
    seeds, generator = torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0)
    noise, chances = torch.zeros(1, 3000, 11, 2), torch.rand(1, 3000, 11, generator=generator)
    with torch.no_grad():
        played = play(model, seeds, noise, chances)
    shares = played.logits[0, 0, 0].softmax(-1)
    counts = torch.bincount(played.actions[0, :, 0], minlength=3) / 3000
    assert torch.allclose(counts, shares, atol=0.04)


def test_scoring_does_not_depend_on_the_global_generator_nor_on_the_batch():
    options = replace(SMALL, first="random", test_copies=3)
    torch.manual_seed(0)
    model = TASK.build_model(options, FACTS).eval()
    pictures = torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8)
    one = read(model, pictures)
    torch.rand(5)
    other = read(model, pictures)
    assert torch.equal(one.probabilities, other.probabilities)
    assert one.probabilities.shape == (7, 4, 10)
    assert torch.allclose(one.probabilities.sum(-1), torch.ones(7, 4), atol=1e-5)
    assert not torch.equal(read(model, pictures, seed=1).places, one.places)


@pytest.mark.parametrize("task", ["static", "catch"])
def test_data_of_another_task_are_refused(task):
    options = CATCH if task == "catch" else SMALL
    with pytest.raises(UsageError, match="does not go with the data"):
        TASK.build_data(options, "mnist_test" if task == "catch" else "catch", 0)


# ------------------------------------------------------------------------------------- use


def _trained(options: GlimpseOptions) -> Trained:
    torch.manual_seed(0)
    model = TASK.build_model(options, FACTS).eval()
    return Trained(TASK, model, options, FACTS, torch.device("cpu"), Path("run"))


def _job(inputs, output=None, **options) -> tuple[RunJob, list[str]]:
    said: list[str] = []
    names = [str(one) for one in inputs]
    return RunJob(names, output, GlimpseRunOptions(**options), said.append), said


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        rgb = rng.integers(0, 256, (40, 30, 3)).astype(np.uint8)
        write_picture(tmp_path / "in" / f"{name}.png", rgb)
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    return tmp_path / "in"


def test_pictures_are_read_and_the_bad_ones_named(folder, tmp_path):
    output, paths = tmp_path / "found.json", tmp_path / "paths"
    job, said = _job([folder, tmp_path / "no.png"], output, topk=2, paths=str(paths))
    with pytest.raises(TaskError, match=r"2 of 4 failed: .*broken.png .*no.png does not exist"):
        TASK.run(_trained(SMALL), job)
    rows = json.loads(output.read_text())
    assert [Path(row["picture"]).stem for row in rows] == ["one", "two"]
    assert all(len(row["predictions"]) == 2 and len(row["glimpses"]) == 4 for row in rows)
    assert any("one.png: " in line for line in said)
    sheet = read_picture(paths / "000001_one.png")
    film = FilmReader(paths / "000001_one.gif")
    frames = [frame for _, frame in film.frames()]  # equal ones are merged
    assert 2 <= len(frames) <= 4 and sheet.shape[0] == film.height
    assert sheet.shape[1] == 4 * film.width + 3 * 4


def test_csv_and_films(folder, tmp_path):
    job, _ = _job(
        [folder / "one.png"], tmp_path / "a.csv", paths=str(tmp_path / "p"), film="mp4", topk=99
    )
    TASK.run(_trained(SMALL), job)
    rows = list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))
    assert len(rows) == 2 and len(rows[0]) == 21
    film = FilmReader(tmp_path / "p" / "000001_one.mp4")
    times = [moment for moment, _ in film.frames()]
    assert len(times) == 4 and times[1] - times[0] == pytest.approx(0.4, abs=0.05)


def test_what_cannot_be_run_is_one_sentence(folder, tmp_path):
    with pytest.raises(UsageError, match="name pictures or folders"):
        TASK.run(_trained(SMALL), _job([])[0])
    with pytest.raises(UsageError, match="leave --paths out"):
        dense = replace(SMALL, reader="dense")
        TASK.run(_trained(dense), _job([folder], paths="x")[0])
    with pytest.raises(UsageError, match="choose one with --format"):
        TASK.run(_trained(SMALL), _job([folder / "one.png"], tmp_path / "a.txt")[0])
    with pytest.raises(UsageError, match="reads no pictures"):
        TASK.run(_trained(CATCH), _job([folder])[0])


def test_games_are_played_and_filmed(tmp_path):
    job, said = _job([], tmp_path / "games.gif", games=3)
    TASK.run(_trained(CATCH), job)
    assert sum(line.startswith("game ") for line in said) == 3
    assert len(list(FilmReader(tmp_path / "games.gif").frames())) > 20  # equal frames may merge


def test_light_paper_is_inverted():
    ink = np.full((50, 60, 3), 250, np.uint8)
    ink[20:30, 25:35] = 10
    found = shown_to(SMALL, ink, "auto")
    assert found.shape == (1, 1, 28, 28) and found[0, 0, 0, 0] == 5 and found.max() > 200
    assert torch.equal(shown_to(SMALL, ink, "no"), 255 - found)
    assert torch.equal(shown_to(SMALL, 255 - ink, "auto"), found)


def test_ink_is_brought_to_the_middle_and_to_20_pixels():
    page = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    assert torch.equal(fitted_ink(page), page)
    page[0, 0, 2:12, 20:26] = 200
    found = fitted_ink(page)[0, 0].numpy() > 100
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert (rows[0], rows[-1]) == (4, 23) and (columns[0], columns[-1]) == (8, 19)


def test_digits_of_mnist_stay_where_they_are():
    digits = _mnist(SMALL).splits["test"].pictures[:100].double()
    fitted = torch.cat([fitted_ink(digit[None].byte()) for digit in digits]).double()
    steps = torch.arange(28, dtype=torch.float64)
    for axis in (2, 3):
        one, other = (
            (p.sum(5 - axis)[:, 0] * steps).sum(1) / p.sum((1, 2, 3)) for p in (digits, fitted)
        )
        assert (one - other).abs().max() < 1.5
    assert (fitted.sum((1, 2, 3)) / digits.sum((1, 2, 3)) - 1).abs().median() < 0.15
