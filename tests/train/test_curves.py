"""Learning curves are read from the log as they are, and drawn where there is something to draw."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from eightbit.errors import RunFolderError
from eightbit.train.curves import compare_curves, draw_run, read_curve
from eightbit.train.logs import PROGRESS_COLUMNS

HEADER = ",".join(PROGRESS_COLUMNS)


def write_log(folder, returns):
    lines = ["# a comment", HEADER]
    for index, value in enumerate(returns):
        # minutes, agent_steps, frames, episodes, mean_return, ..., eval_return
        games = 50 * index
        lines.append(f"{index},{100 * index},{400 * index},{games},{value},10,0.1,0.2,1,5,50,")
    (folder / "progress.csv").write_text("\n".join(lines) + "\n")
    return folder / "progress.csv"


def test_a_log_is_read_with_its_gaps(tmp_path):
    curve = read_curve(write_log(tmp_path, ["", -3, 2.5, 1]))
    minutes, returns = curve.points("minutes", "mean_return")
    np.testing.assert_array_equal(minutes, [1, 2, 3])
    np.testing.assert_array_equal(returns, [-3, 2.5, 1])
    assert curve.first_reaching(0) == 2
    assert curve.first_reaching(-5, "agent_steps") == 200, "50 games are no full window"
    assert curve.first_reaching(3) is None
    assert curve.return_at(2.9) == 2.5
    with pytest.raises(ValueError, match="no game had ended"):
        curve.return_at(0.5)
    assert not curve.points("minutes", "eval_return")[0].size


def test_the_picture_of_a_run_shows_its_return(tmp_path):
    write_log(tmp_path, [-20, -10, 5])
    path = draw_run(tmp_path, "a run")
    picture = cv2.imread(str(path))
    assert picture.shape == (660, 1100, 3)
    flat = draw_run(write_log(tmp_path, [-20, -20, -20]).parent, "a run")
    assert (cv2.imread(str(flat)) != picture).any()
    assert [file.name for file in tmp_path.glob("*.png")] == ["curves.png"]


def test_nothing_is_drawn_before_the_first_game_ends(tmp_path):
    write_log(tmp_path, ["", ""])
    assert draw_run(tmp_path, "a run") is None
    assert not list(tmp_path.glob("*.png"))


def test_several_runs_share_a_picture(tmp_path):
    curve = read_curve(write_log(tmp_path, [-20, -10, 5]))
    path = tmp_path / "both.png"
    compare_curves(
        {"one": curve, "other": curve}, path, title="t", axes_names=("minutes", "frames")
    )
    assert cv2.imread(str(path)).shape == (440, 1210, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("minutes,frames\n1,2\n", "lacks the columns agent_steps, episodes, mean_return"),
        (f"{HEADER}\n1,2,x,,,,,,,,,\n", "not all numbers"),
        (f"{HEADER}\n1,2\n", "not all numbers"),
    ],
)
def test_a_log_that_cannot_be_drawn_is_named(tmp_path, content, message):
    path = tmp_path / "progress.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunFolderError, match=message):
        read_curve(path)
