"""Random programs: nothing crashes the console, and it runs them as ALE does."""

from __future__ import annotations

import random
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

pytest.importorskip("eightbit.envs.console._console", reason="the console is not compiled here")

from eightbit.benchmarks.fidelity import Pair
from eightbit.envs import game_facts

SECONDS = 20
SANITIZERS = ("-fsanitize=address,undefined",)
FRAMES = 12  # of each program

# Opcodes by what follows them.
ON_MEMORY = "07 27 47 67 C7 E7 06 26 46 66 C6 E6 05 25 45 65 E5 C5 E4 C4 24 A7 B7 04 14 A5 A6 A4"
THROUGH_POINTERS = "55 75 F5 B1 B3 A1 A3 71 F1 87 84 86 85"
IMMEDIATE = "09 29 49 69 E9 C9 E0 C0 0B 2B 4B 6B CB EB 8B AB 80 89"
ALONE = "EA E8 C8 CA 88 AA A8 8A 98 18 38 B8 0A 2A 4A 6A BA 1A F8 D8"
INDEXED = "BD B9 BF BB 1C 7D"
# Of the video chip, but those that end frames or halt the processor.
REGISTERS = [*range(0x04, 0x15), *range(0x1B, 0x2D)]
OFTEN = [0x04, 0x05, 0x10, 0x11, 0x2A, 0x1B, 0x1C, 0x0A]
VALUES = [0x00, 0x02, 0xFF, 0x70, 0x60, 0x80, 0x05, 0x07, 0x35]


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of console_fuzz.cpp, built as `make fuzz` builds it where sources changed."""
    repository = Path(__file__).resolve().parents[2]
    if shutil.which("make") is None or shutil.which("g++") is None:
        pytest.skip("make and g++ are needed to build the fuzzer")
    source = tmp_path_factory.mktemp("sanitizers") / "empty.cpp"
    source.write_text("int main() {}\n")
    trial = ["g++", *SANITIZERS, str(source), "-o", str(source.with_suffix(""))]
    if subprocess.run(trial, capture_output=True).returncode != 0:
        pytest.skip("the compiler's sanitizers (libasan, libubsan) are not installed")
    build = ["make", "--silent", "CXX=g++", "build/console_fuzz"]
    done = subprocess.run(build, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return repository / "build" / "console_fuzz"


def test_no_program_state_or_player_crashes_the_console(fuzzer: Path):
    command = [str(fuzzer), str(SECONDS), "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20 * SECONDS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "nothing found" in done.stdout


class Assembler:
    """Writes a program of 4K that makes frames and does much to the chips in between."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.code = bytearray()

    def put(self, *values: int) -> None:
        self.code.extend(value & 0xFF for value in values)

    def byte(self) -> int:
        return self.random.randrange(256)

    def one_of(self, opcodes: str) -> int:
        return int(self.random.choice(opcodes.split()), 16)

    def address(self) -> int:
        """A place in RAM that the loop does not need."""
        return self.random.randrange(0xC0, 0xEF)

    def write(self) -> bytes:
        self.put(0x78, 0xD8, 0xA2, 0xFF, 0x9A)
        self.put(0xA9, 0, 0xA2, 0x80, 0x95, 0, 0xE8, 0xD0, 0xFB)  # RAM of zeros
        self.put(0xA2, 4, 0xA9, 0, 0x95, 0, 0xE8, 0xE0, 0x2D, 0xD0, 0xF9)  # and registers
        top = 0xF000 + len(self.code)
        self.put(0xA9, 2, 0x85, 0, 0x85, 2, 0x85, 2, 0x85, 2, 0xA9, 0, 0x85, 0, 0x85, 1)  # VSYNC
        self.put(0xA9, self.random.randint(1, 6), 0x85, 0xF0)  # turns of the loop
        loop = 0xF000 + len(self.code)
        size = self.random.choice((0x300, 0x700, 0xF00))
        while len(self.code) < size:
            chance = self.random.random()
            if chance < 0.57:
                self.touch_video()
            elif chance < 0.72:
                self.touch_ports()
            else:
                self.compute()
        self.put(0xA2, 0xFF, 0x9A, 0xC6, 0xF0, 0xF0, 3)
        self.put(0x4C, loop, loop >> 8, 0x4C, top, top >> 8)
        self.code.extend(b"\xea" * (0x1000 - len(self.code)))
        self.code[0xFFC:] = bytes((0x00, 0xF0)) * 2
        return bytes(self.code)

    def touch_video(self) -> None:
        chance = self.random.random()
        if chance < 0.78:
            value = self.byte() if self.random.random() < 0.4 else self.random.choice(VALUES)
            places = REGISTERS if self.random.random() < 0.7 else OFTEN
            self.put(0xA9, value, 0x85, self.random.choice(places))
        elif chance < 0.84:  # the star effect, or nearly
            self.put(0xA9, self.random.choice((0x70, 0x60)), 0x85, 0x22, 0x85, 0x02, 0x85, 0x2A)
            self.put(*[0xEA] * self.random.randrange(8, 11), 0xA9, 0x60, 0x85, 0x22)
        elif chance < 0.93:  # an object is placed somewhere in the line
            self.put(0x85, 0x02, *[0xEA] * self.random.randrange(30))
            self.put(0x85, self.random.choice((0x2A, 0x2A, 0x10, 0x12, 0x14)))
        elif chance < 0.97:
            self.put(0xA9, self.random.choice((0, 0, 0, 2)), 0x85, 0x01)
        else:
            self.put(0x46, self.random.choice((0x10, 0x12, 0x2A, 0x0D, 0x1B)))

    def touch_ports(self) -> None:
        kind = self.random.randrange(5)
        if kind == 0:
            self.put(0xA9, self.byte(), 0x8D, 0x94 + self.random.randrange(4), 0x02)  # timer
        elif kind == 1:
            self.put(0xAD, 0x84 + self.random.randrange(2), 0x02, 0x85, self.address())
        elif kind == 2:
            self.put(0xA5, self.random.randrange(16), 0x85, self.address())  # collisions
        elif kind == 3:
            self.put(0xAD, self.random.randrange(16), 0x00, 0x85, self.address())
        else:  # the stack reaches the video chip
            self.put(0xA2, self.random.choice((0x00, 0x03, 0x06)), 0x9A, 0x68, 0x68)
            self.put(0xA2, 0x1E, 0x9A, 0x08, 0x08, 0xA2, 0xFF, 0x9A)

    def compute(self) -> None:
        kind = self.random.randrange(7)
        if kind == 0:
            self.put(self.one_of(ON_MEMORY), self.address())
        elif kind == 1:
            self.put(self.one_of(THROUGH_POINTERS), self.address())
        elif kind == 2:
            self.put(self.one_of(IMMEDIATE), self.byte())
        elif kind == 3:
            self.put(self.one_of(INDEXED), self.byte(), 0xF0 + self.random.randrange(16))
        elif kind == 4:
            self.put(0xA2, self.random.randrange(8))
            self.put(self.random.choice((0x9C, 0x9D)), 0xC0 + self.random.randrange(30), 0x00)
        elif kind == 5:
            self.put(0x08, 0x68, 0x85, self.address())
        else:
            self.put(self.one_of(ALONE))


@pytest.mark.parametrize(
    "seeds", [range(15), pytest.param(range(15, 115), marks=pytest.mark.long)], ids=str
)
def test_random_programs_run_as_in_ale(seeds: range, tmp_path: Path):
    rom = tmp_path / "seaquest.bin"  # ALE looks at the name, and the cartridge has 4K, too
    unequal, compared = [], 0
    for seed in seeds:
        rom.write_bytes(Assembler(seed).write())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is another version")
            pair = Pair("seaquest", rom=str(rom))
        if pair.ale.getScreenDims()[0] != game_facts("seaquest").height:
            continue  # ALE takes long frames for those of PAL, and shows more rows
        found, frame = pair.difference(), 0
        while not found and frame < FRAMES and not pair.ale.game_over():
            found = pair.act(frame % 18) or pair.difference()
            frame += 1
        compared += 1
        if found:
            unequal.append(f"program {seed}, frame {frame}: {found}")
    assert not unequal, "\n".join(unequal)
    assert compared > len(seeds) / 3
