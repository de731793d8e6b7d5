"""The console's table of games says what ALE says: rewards, lives, ends, modes, ROMs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ale_py import ALEInterface, LoggerMode, roms

from eightbit.envs import game_facts, list_games

FRAMES = 400
NO_CARTRIDGE_RAM = bytes(128)


@pytest.fixture(scope="module")
def console() -> ModuleType:
    return pytest.importorskip(
        "eightbit.envs.console._console", reason="the console is not compiled here"
    )


@pytest.fixture(scope="module", params=list_games())
def game(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def ale(game: str) -> Iterator[ALEInterface]:
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", 1)
    ale.loadROM(roms.get_rom_path(game))
    yield ale


def test_modes_difficulties_and_rom_are_those_of_ale(game: str, ale: ALEInterface):
    facts = game_facts(game)
    assert facts.modes == tuple(int(mode) for mode in ale.getAvailableModes())
    assert facts.difficulties == tuple(int(level) for level in ale.getAvailableDifficulties())
    assert facts.frame_numbers[0] == ale.getEpisodeFrameNumber()
    assert len(facts.frame_numbers) == len(facts.modes)
    rom = Path(roms.get_rom_path(game)).read_bytes()
    assert (facts.size, facts.md5) == (len(rom), hashlib.md5(rom).hexdigest())


def test_reward_lives_and_end_are_those_of_ale(game: str, ale: ALEInterface, console: ModuleType):
    if game == "klax":
        pytest.skip("klax keeps its score in the cartridge's RAM, which ALE does not show")
    generator = np.random.default_rng(0)
    rules = console.Rules(game)
    actions = ale.getLegalActionSet()
    begin(ale, rules)
    action = actions[0]
    for frame in range(FRAMES):
        if frame % 4 == 0:
            action = actions[generator.integers(len(actions))]
        if frame >= FRAMES // 4:
            spoil_memory(ale, generator)
        reward = ale.act(action)
        ours = rules.apply(ale.getRAM().tobytes(), NO_CARTRIDGE_RAM)
        assert ours == (reward, ale.lives(), ale.game_over()), f"frame {frame}"
        if ale.game_over():
            begin(ale, rules)


def begin(ale: ALEInterface, rules) -> None:
    ale.reset_game()
    rules.begin()
    rules.apply(ale.getRAM().tobytes(), NO_CARTRIDGE_RAM)


def spoil_memory(ale: ALEInterface, generator: np.random.Generator) -> None:
    """Writes a byte of RAM, as rules that need a long game would else see few rewards and ends."""
    values = (0, 0x80, 0xFF, generator.integers(16), generator.integers(256))
    ale.setRAM(int(generator.integers(128)), int(values[generator.integers(len(values))]))


def test_the_console_knows_the_games_of_the_table(console: ModuleType):
    assert sorted(console.game_names()) == list_games()
