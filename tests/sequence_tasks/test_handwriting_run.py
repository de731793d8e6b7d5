"""Writing with an untrained network: what is written where, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eightbit.datasets.pictures import read_picture
from eightbit.datasets.stroke_files import read_stroke_file, write_stroke_file
from eightbit.datasets.strokes import Writing, from_strokes
from eightbit.errors import DataError, EightBitError, TaskError, UsageError
from eightbit.sequence_tasks.handwriting import TASK, write_lines
from eightbit.sequence_tasks.handwriting.options import HandwritingOptions
from eightbit.sequence_tasks.handwriting.run import HandwritingRunOptions
from eightbit.sequence_tasks.handwriting.sampling import Request, most_points, write
from eightbit.tasks import RunJob, Trained

FACTS = {"alphabet": " abcdeo", "scale": 0.4, "pace": 0.5, "density": 2.8, "styles": []}


def _trained(method: str = "synthesis", **facts: Any) -> Trained:
    options = HandwritingOptions(method=method, hidden=16, mixtures=3, window=2, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = TASK.build_model(options, FACTS).eval()
    return Trained(TASK, model, options, {**FACTS, **facts}, torch.device("cpu"), Path("run"))


def _prime(text: str = "abc") -> Writing:
    t = np.linspace(0, 2 * np.pi, 30)
    loops = [np.column_stack([3 * i + np.sin(t), -1 - np.cos(t)]) * 20 for i in range(len(text))]
    return Writing(from_strokes(loops), text, "anna")


def _run(trained: Trained, inputs: tuple[str, ...], output: Path | None, **options: Any):
    said: list[str] = []
    TASK.run(trained, RunJob(inputs, output, HandwritingRunOptions(**options), said.append))
    return said


@pytest.mark.parametrize("ending", [".svg", ".png", ".mp4", ".json", ".jsonl"])
def test_every_kind_of_file_is_written(ending: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / f"page{ending}"
    said = _run(_trained(), ("abc ode bad",), target, columns=5, speed=20.0, window=True)
    assert target.stat().st_size > 100 and said[-1] == f"wrote {target}"
    windows = sorted(p.name for p in target.parent.glob("*.png") if "window" in p.name)
    assert windows == [f"page.window_{n}.png" for n in (1, 2, 3)]
    if ending == ".png":
        assert (read_picture(target) < 128).any()
    if ending in (".json", ".jsonl"):
        lines = read_stroke_file(target)
        assert [line.text for line in lines] == ["abc", "ode", "bad"]
    if ending == ".svg":
        assert "<animate" not in target.read_text("utf-8")
        _run(_trained(), ("abc",), target, animate=True)
        assert "<animate" in target.read_text("utf-8")


def test_texts_come_from_files_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("abc\node\n", "utf-8")
    out = tmp_path / "out.json"
    _run(_trained(), (str(tmp_path / "text.txt"),), out)
    assert [line.text for line in read_stroke_file(out)] == ["abc", "ode"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"bad code")))
    _run(_trained(), ("-",), out)
    assert [line.text for line in read_stroke_file(out)] == ["bad code"]


def test_several_inputs_become_pages_and_failures_come_last(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"1 of 3 failed: .*never learnt to write 'z'"):
        _run(_trained(), ("abc", "zoo", "ode"), tmp_path / "pages")
    assert sorted(p.name for p in (tmp_path / "pages").iterdir()) == ["page_1.svg", "page_3.svg"]
    with pytest.raises(UsageError, match="is one file and there are 2 inputs; name a folder"):
        _run(_trained(), ("a", "b"), tmp_path / "a.svg")


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    trained = _trained()
    out = tmp_path / "a.svg"
    (tmp_path / "empty.txt").write_text("", "utf-8")
    (tmp_path / "latin.txt").write_bytes("abé".encode("latin-1"))
    for given, kind, message in (
        ((), UsageError, "what shall be written"),
        (("",), UsageError, "text is empty"),
        (
            ("ab\u0416\u00e9z",),
            UsageError,
            "never learnt to write 'z', 'é', 'Ж'; it knows 'abcdeo'",
        ),
        ((str(tmp_path / "empty.txt"),), DataError, "is empty"),
        ((str(tmp_path / "latin.txt"),), DataError, "is not UTF-8"),
        (("missing.txt",), DataError, "missing.txt does not exist"),
    ):
        with pytest.raises(kind, match=message):
            _run(trained, given, out)
    with pytest.raises(UsageError, match=r"a.gif must end in one of .svg, .png"):
        _run(trained, ("abc",), tmp_path / "a.gif")
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(EightBitError, match="cannot be written"):
        _run(trained, ("abc",), tmp_path / "file" / "a.svg")
    assert not out.exists()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"text": "abc", "strokes": [[[0, float("nan")], [1, 2]]]}, "not a number"),
        ({"text": "abc", "strokes": [[[0, 0]]]}, "single point"),
        ({"text": "", "strokes": [[[0, 0], [1, 2]]]}, "text is empty"),
        ({"text": "axy", "strokes": [[[0, 0], [1, 2]]]}, "never learnt to write 'x', 'y'"),
    ],
)
def test_primes_that_cannot_be_used(sample: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prime.json"
    path.write_text(json.dumps(sample), "utf-8")
    with pytest.raises(EightBitError, match=message) as error:
        _run(_trained(), ("abc",), tmp_path / "a.svg", prime=str(path))
    assert "prime.json" in str(error.value)


def test_a_prime_changes_the_hand_and_is_cut_off(tmp_path: Path) -> None:
    write_stroke_file(tmp_path / "prime.json", [_prime()])
    trained, out = _trained(), tmp_path / "a.json"
    _run(trained, ("ode",), out)
    plain = read_stroke_file(out)[0].points
    _run(trained, ("ode",), out, prime=str(tmp_path / "prime.json"))
    primed = read_stroke_file(out)[0]
    assert primed.text == "ode" and primed.writer == "anna"
    assert primed.points.shape != plain.shape or not np.allclose(primed.points, plain)
    same = write_lines(trained, ["ode"], prime=_prime())[0]
    np.testing.assert_allclose(same.points - same.points[0], primed.points, atol=1e-3)
    each = write_lines(trained, ["ode", "bad"], prime=[_prime(), _prime("eo")])
    np.testing.assert_allclose(each[0].points, same.points, atol=1e-4)
    with pytest.raises(UsageError, match="1 primes do not suit 2 texts"):
        write_lines(trained, ["a", "b"], prime=[_prime()])
    with pytest.raises(UsageError, match="holds no styles"):
        write_lines(trained, ["a"], style=1)


def test_a_line_does_not_depend_on_its_neighbours() -> None:
    trained = _trained()
    together = write_lines(trained, ["abc", "ode bad", "cab"], seed=4)
    alone = write_lines(trained, ["abc", "a", "cab"], seed=4)
    np.testing.assert_allclose(together[0].points, alone[0].points, atol=1e-4)
    np.testing.assert_allclose(together[2].points, alone[2].points, atol=1e-4)
    again = write_lines(trained, ["abc", "ode bad", "cab"], seed=4)
    other = write_lines(trained, ["abc", "ode bad", "cab"], seed=5)
    assert np.array_equal(again[1].points, together[1].points)
    assert not np.array_equal(other[1].points[:2], together[1].points[:2])


def test_written_lines_are_writings_with_their_window() -> None:
    trained = _trained()
    for one in write(trained.model, trained.facts, [Request("abc"), Request("ode", None)]):
        points = one.writing.points
        assert points.dtype == np.float32 and np.isfinite(points).all()
        assert points[-1, 2] == 1 and points[0, 0] == 0
        assert len(points) <= most_points("abc", FACTS)
        assert one.attention.shape == (len(points), 4) and (one.attention >= 0).all()
    assert torch.backends.mkldnn.enabled, "other networks keep their kernels"


def test_a_line_that_comes_to_no_end_is_named(tmp_path: Path) -> None:
    trained = _trained()
    with torch.no_grad():
        trained.model.window.window.bias[4:] = -20.0  # the window stands still
    said = _run(trained, ("abc ode",), tmp_path / "a.svg", columns=3)
    assert "2 of 2 lines came to no end and were cut off: 'abc'; 'ode'" in said[0]


def test_a_prediction_network_scribbles(tmp_path: Path) -> None:
    trained = _trained("prediction")
    said = _run(trained, (), tmp_path / "a.svg")
    assert said == [f"wrote {tmp_path / 'a.svg'}"]
    with pytest.raises(UsageError, match="scribbles and reads no text"):
        _run(trained, ("abc",), tmp_path / "a.svg")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bias": -1.0}, "bias is -1.0; it must lie between 0 and 5"),
        ({"size": 0.0}, "size is 0.0"),
        ({"columns": 0}, "columns is 0"),
        ({"style": -1}, "style is -1"),
        ({"style": 1, "prime": "a.json"}, "give a --style or a --prime, not both"),
        ({"seed": -1}, "seed is -1"),
        ({"colour": "blue"}, "'blue' is no colour"),
        ({"paper": "white"}, "'white' is no colour"),
        ({"speed": 0.0}, "speed is 0.0"),
    ],
)
def test_run_options_that_make_no_sense(wrong: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HandwritingRunOptions(**wrong)
