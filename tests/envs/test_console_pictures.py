"""Pictures of every size equal ALE's to the last bit, whichever way OpenCV resizes them."""

from __future__ import annotations

import pytest
from gymnasium.vector import AutoresetMode

pytest.importorskip("eightbit.envs.console._console", reason="the console is not compiled here")

from eightbit.benchmarks.fidelity import Setting, play_vectors

# Games whose screens have 210, 220, 230 and 250 rows. Where both scales are whole numbers (10 for
# all of these, 20 for pooyan) OpenCV sums integers instead of weighted floats.
SIZES = {"pong": (8, 10, 80), "pooyan": (10, 20), "journey_escape": (10, 46), "air_raid": (10, 125)}


@pytest.mark.parametrize(
    ("game", "size"), [(game, size) for game, sizes in SIZES.items() for size in sizes]
)
@pytest.mark.parametrize("picture", ["grey", "rgb"])
def test_a_resized_picture_equals_ales(game: str, size: int, picture: str):
    options = {"screen_size": size, "picture": picture}
    setting = Setting(AutoresetMode.NEXT_STEP, options, raw=picture == "rgb")
    assert play_vectors(game, setting, 25).difference == ""
